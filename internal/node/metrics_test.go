// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/guard"
)

// TestMetricsAreDocumented: the table of metrics has them all.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/seeing.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*metrics.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no files:", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`NewDesc\("(muslin_\w+)"`).FindAllStringSubmatch(string(text), -1)
		if len(names) == 0 {
			t.Errorf("%s has no metrics", file)
		}
		for _, m := range names {
			if !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Errorf("docs/seeing.md does not tell of %s", m[1])
			}
		}
	}
}

// TestRefusalsAreDistinct: each class of the guard is counted by itself.
func TestRefusalsAreDistinct(t *testing.T) {
	seen := map[string]guard.Class{}
	for class := guard.Infrastructure; class <= guard.Unknown; class++ {
		name := refusals[class].String()
		if other, twice := seen[name]; refusals[class] == bgp.Accepted || twice {
			t.Errorf("class %d is counted as %q, as class %d", class, name, other)
		}
		seen[name] = class
	}
}
