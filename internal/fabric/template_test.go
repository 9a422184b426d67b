// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestTemplate: the file to start from is one, and what it says in comments is
// what holds without them, or at least another file that can be read.
func TestTemplate(t *testing.T) {
	for _, model := range Model("").words() {
		text := Template("pod-a", Model(model), 3, 2, 4)
		if large := Template("pod-a", Model(model), 3, 80, 200); !strings.Contains(large, "{serversPerRack: 128, endpointsPerServer: 256}") {
			t.Errorf("%s: another plan than what holds without it: %s", model, large)
		}
		doc, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", model, err)
		}
		plain, _ := json.Marshal(doc.Fabric.Design())
		fields := 0
		for _, c := range regexp.MustCompile(`(?m)^  # ([a-zA-Z]+: \{.*\}|[a-zA-Z]+: \[.*\])`).FindAllStringSubmatch(text, -1) {
			fields++
			field := c[1]
			base := text
			if strings.HasPrefix(field, "servers:") {
				base = strings.Replace(text, "  servers: {perRack: 2}\n", "", 1)
				field = strings.Replace(field, "{", "{perRack: 2, ", 1)
			}
			doc, err := Parse([]byte(base + "  " + field + "\n"))
			if err != nil {
				t.Errorf("%s: %s: %v", model, field, err)
				continue
			}
			with, _ := json.Marshal(doc.Fabric.Design())
			example := strings.HasPrefix(field, "anycast") || strings.HasPrefix(field, "border") || strings.HasPrefix(field, "machines")
			if same := string(with) == string(plain); same == example {
				t.Errorf("%s: %s changes the design: %v", model, field, !same)
			}
		}
		if fields < 4 {
			t.Errorf("%s: only %d fields", model, fields)
		}
	}
}
