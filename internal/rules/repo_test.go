// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/muslin-net/muslin"

// root is the repository, seen from this folder.
const root = "../.."

// file is one Go file.
type file struct {
	name string // from the repository's root, with slashes
	pkg  string // its folder: "internal/bgp"
	test bool
	text []byte
	ast  *ast.File
	fset *token.FileSet
}

// imports lists what the file imports.
func (f *file) imports() []string {
	var out []string
	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			out = append(out, p)
		}
	}
	return out
}

// line says where n is.
func (f *file) line(n ast.Node) string {
	return f.name + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

var loadFiles = sync.OnceValues(func() ([]*file, error) {
	var out []*file
	err := walk(func(name string) error {
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, &file{name: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			text: text, ast: tree, fset: fset})
		return nil
	})
	return out, err
})

// files returns every Go file of the repository.
func files(t *testing.T) []*file {
	t.Helper()
	all, err := loadFiles()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// walk calls f with every file that belongs to the repository.
func walk(f func(name string) error) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		switch base := d.Name(); {
		case d.IsDir() && (base == ".git" || base == "bin" || base == ".cache" || base == "vendor"):
			return filepath.SkipDir
		case d.Type().IsRegular():
			return f(filepath.ToSlash(rel))
		}
		return nil
	})
}

// within tells whether an import path or folder is one of the prefixes or
// below it.
func within(p string, prefixes ...string) bool {
	for _, x := range prefixes {
		if p == x || strings.HasPrefix(p, x+"/") {
			return true
		}
	}
	return false
}

// ours returns the folder of a package of this module.
func ours(imp string) (string, bool) { return strings.CutPrefix(imp, module+"/") }
