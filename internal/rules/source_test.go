// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"go/ast"
	"go/format"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestEveryFileHasItsLicence(t *testing.T) {
	const want = "// SPDX-License-Identifier: Apache-2.0\n\n"
	for _, f := range files(t) {
		if !bytes.HasPrefix(f.text, []byte(want)) {
			t.Errorf("%s: the first line is not %q, followed by an empty one", f.name, strings.TrimSpace(want))
		}
	}
	for _, name := range []string{"Makefile", ".ci/run", "hack/test", "hack/gofmt", "hack/fuzz"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Contains(text, []byte("# SPDX-License-Identifier: Apache-2.0\n")) {
			t.Errorf("%s: no SPDX-License-Identifier", name)
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	comment := map[string]string{}
	for _, f := range files(t) {
		if f.test {
			continue
		}
		text := ""
		if f.ast.Doc != nil {
			text = strings.TrimSpace(f.ast.Doc.Text())
		}
		if _, ok := comment[f.pkg]; !ok || text != "" {
			comment[f.pkg] = text
		}
	}
	for pkg, text := range comment {
		if text == "" {
			t.Errorf("%s: no package comment: say what it is for and how its datum walks through it", pkg)
		}
	}
}

func TestGofmt(t *testing.T) {
	for _, f := range files(t) {
		want, err := format.Source(f.text)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		} else if !bytes.Equal(f.text, want) {
			t.Errorf("%s: run gofmt -w on it", f.name)
		}
	}
}

// TestNoPrograms keeps the product from running other programs for what it
// says over netlink or BGP itself: a program's text form is neither atomic nor
// stable, and costs a hundred times as much.
func TestNoPrograms(t *testing.T) {
	banned := []string{"ip", "nft", "bird", "birdc", "birdcl", "iptables", "ipset", "tc", "sysctl", "bridge", "ping", "etcd", "etcdctl"}
	for _, f := range files(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "exec" || !strings.HasPrefix(sel.Sel.Name, "Command") {
				return true
			}
			for _, a := range call.Args {
				lit, ok := a.(*ast.BasicLit)
				if !ok {
					continue
				}
				s, err := strconv.Unquote(lit.Value)
				if err != nil {
					continue
				}
				for _, b := range banned {
					if path.Base(s) == b {
						t.Errorf("%s: runs the program %s: use netlink, or our own code", f.line(call), b)
					}
				}
			}
			return true
		})
	}
}

func TestNoInitFunctions(t *testing.T) {
	for _, f := range files(t) {
		if f.test || f.ast.Name.Name == "main" { // nobody imports those
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init: importing a package has no effects; wire it in cmd", f.line(fn))
			}
		}
	}
}

func TestNothingIsLeftToDo(t *testing.T) {
	// Spelled in two parts, so that this file passes.
	words := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	err := walk(func(name string) error {
		switch path.Ext(name) {
		case ".go", ".md", ".sh", "":
		default:
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if w := words.FindString(line); w != "" && name != "LICENSE" {
				t.Errorf("%s:%d: %s: do it, or say in the docs what is missing", name, i+1, w)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
