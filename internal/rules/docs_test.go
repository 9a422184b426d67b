// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inline  = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	odd     = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinksResolve follows every relative link of every page, to the heading
// if it names one.
func TestLinksResolve(t *testing.T) {
	pages := 0
	err := walk(func(name string) error {
		if path.Ext(name) != ".md" {
			return nil
		}
		pages++
		text, err := prose(name)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			u, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: link %s: %v", name, m[1], err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			target := name
			if u.Path != "" {
				target = path.Join(path.Dir(name), u.Path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: link %s leads nowhere: there is no %s", name, m[1], target)
				continue
			}
			if u.Fragment != "" && path.Ext(target) == ".md" {
				other, err := os.ReadFile(filepath.Join(root, target))
				if err != nil {
					return err
				}
				if !anchors(string(other))[u.Fragment] {
					t.Errorf("%s: link %s: %s has no such heading", name, m[1], target)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages == 0 {
		t.Error("no pages found: is this the repository?")
	}
}

// prose is the page without code.
func prose(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return "", err
	}
	return inline.ReplaceAllString(fenced.ReplaceAllString(string(b), ""), ""), nil
}

// anchors are the headings as the common renderers name them.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		s := odd.ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(s, " ", "-")] = true
	}
	return out
}
