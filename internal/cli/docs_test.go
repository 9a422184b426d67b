// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// TestObjectsOfTheDocs holds every object that a page shows against what `muslin apply` takes: who copies
// it must not be told that it is wrong.
func TestObjectsOfTheDocs(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages:", err)
	}
	seen := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range shownObjects(string(text)) {
			objects, err := v3.DecodeDocuments([]byte(block))
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, block)
			}
			for i := range objects {
				seen++
				if err := objects[i].Check(); err != nil {
					t.Errorf("%s: %v\n%s", page, err, block)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d objects are shown: the pages are not read as they are written", seen)
	}
}

// shownObjects are the indented blocks of a page with objects of the datastore in them, without commands around.
func shownObjects(page string) (blocks []string) {
	var block strings.Builder
	end := func() {
		// A Fabric is no object of the datastore.
		if text := block.String(); strings.Contains("\n"+text, "\nkind: ") && !strings.Contains(text, "kind: Fabric") {
			blocks = append(blocks, text)
		}
		block.Reset()
	}
	for line := range strings.Lines(page) {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.TrimSpace(line) == "":
		case !indented || strings.HasPrefix(code, "muslin ") || strings.HasPrefix(code, "bin/muslin ") || code == "YAML\n":
			end()
		default:
			block.WriteString(code)
		}
	}
	end()
	return blocks
}

// TestSyntaxOfTheDocs holds the Syntax sections of docs against the commands:
// each command has an entry there, with all of its flags.
func TestSyntaxOfTheDocs(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages:", err)
	}
	syntax := map[string]string{} // by command line up to its first argument or flag
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(text), "\n## Syntax\n")
		section, _, _ = strings.Cut(section, "\n## ")
		command := ""
		for line := range strings.Lines(section) {
			words := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, "    muslin "):
				command = ""
				for _, w := range words {
					if strings.ContainsAny(w, "[-<") || w != strings.ToLower(w) {
						break
					}
					command = strings.TrimSpace(command + " " + w)
				}
			case !strings.HasPrefix(line, "     "):
				command = ""
			}
			if command != "" {
				// create, replace and the like may share a line: muslin a|b|c.
				head, tail, _ := strings.Cut(command, " ")
				for _, alternative := range strings.Split(tail, "|") {
					syntax[head+" "+alternative] += line
				}
			}
		}
	}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if !c.Runnable() || c.Hidden || c.HasSubCommands() || c.Name() == "help" || c.Parent() != nil && c.Parent().Name() == "completion" {
			return
		}
		entry := syntax[c.CommandPath()]
		if entry == "" {
			t.Errorf("%s is in no Syntax section of docs", c.CommandPath())
			return
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			short := f.Shorthand != "" && regexp.MustCompile(`-`+f.Shorthand+`\b`).MatchString(entry)
			if !f.Hidden && f.Name != "help" && !short && !strings.Contains(entry, "--"+f.Name) {
				t.Errorf("the Syntax of %s does not tell of --%s", c.CommandPath(), f.Name)
			}
		})
	}
	visit(New("", Streams{}))
}
