// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

var models = []fabric.Model{fabric.ASPerRack, fabric.ASPerServer, fabric.DownwardDefault, fabric.Ethernet}

// clean reads a file and reports what is found that validate would fail for.
func clean(t *testing.T, name, text string) {
	t.Helper()
	doc, err := fabric.Parse([]byte(text))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	for _, f := range Design(doc.Fabric.Design()) {
		if f.Severity == Error || f.Severity == Advanced {
			t.Errorf("%s: %s %s", name, f.ID, f.Message)
		}
	}
}

// comments are the fields that a template has as comments: of one line, and of several
// lines each.
var comments = regexp.MustCompile(`(?m)^  # ([a-zA-Z]+:(?: [{\[].*|\n(?:  #   .*\n)+))`)

// TestTemplatesAreClean: what init prints, of any size, and with any of its comments made
// a field, is without errors.
func TestTemplatesAreClean(t *testing.T) {
	for _, model := range models {
		for _, n := range [][3]int{{1, 1, 1}, {3, 2, 4}, {8, 40, 100}, {40, 80, 200}} {
			clean(t, fmt.Sprint(model, n), fabric.Template("a", model, n[0], n[1], n[2]))
		}
		text := fabric.Template("a", model, 3, 2, 4)
		fields := comments.FindAllStringSubmatch(text, -1)
		if len(fields) < 8 {
			t.Errorf("%s: only %d fields", model, len(fields))
		}
		for _, m := range fields {
			field, base := strings.ReplaceAll(m[1], "\n  # ", "\n  "), text
			if strings.HasPrefix(field, "servers:") {
				base = strings.Replace(base, "  servers: {perRack: 2}\n", "", 1)
				field = strings.Replace(field, "{", "{perRack: 2, ", 1)
			}
			clean(t, fmt.Sprintf("%s with %s", model, field), base+"  "+field+"\n")
		}
	}
}

// TestLargeDefaults: the four fields are enough for 300 racks too.
func TestLargeDefaults(t *testing.T) {
	for _, model := range models {
		clean(t, string(model), fmt.Sprintf("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {model: %s, racks: {count: 300}, servers: {perRack: 20}, endpoints: {perServer: 100}}", model))
	}
}
