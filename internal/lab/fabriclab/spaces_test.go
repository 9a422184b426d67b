// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestSpaces: a device that would be one namespace with something else of the lab is refused by name, before anything is made.
func TestSpaces(t *testing.T) {
	for border, want := range map[string]string{
		"b1":         "",
		"outside":    "border outside: in the lab the host outside is called so, too: give it another name",
		"cables":     "border cables: in the lab the bridge of cables is called so, too",
		"management": "border management: in the lab the management network is",
		"r0-s0-e1":   "endpoint r0-s0-e1: in the lab border r0-s0-e1 is called so, too",
		"r0-s0-a0":   "endpoint r0-s0-a0: in the lab border r0-s0-a0 is called so, too",
	} {
		doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {model: as-per-rack, racks: {count: 1}, servers: {perRack: 1}, endpoints: {perServer: 2}, " +
			"anycast: [{ip: 192.168.99.1, servers: [r0/s0]}], border: [{name: " + border + ", as: 64999, default: true}]}"))
		if err != nil {
			t.Fatal(err)
		}
		err = checkSpaces(doc.Fabric.Design())
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: %v", border, err)
		}
	}
}

// TestAskedInVain: to ask about a lab that is not up leaves nothing.
func TestAskedInVain(t *testing.T) {
	const name = "asked-in-vain"
	if _, err := Open(name); err == nil || !strings.Contains(err.Error(), "lab asked-in-vain is not up") {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, name+".lock")); !os.IsNotExist(err) {
		t.Error(err)
	}
}
