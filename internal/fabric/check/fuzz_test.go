// SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/json"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/emit"
)

// FuzzDesign: whatever a person writes as a design, it is refused or judged,
// sized and written out, and nothing panics.
func FuzzDesign(f *testing.F) {
	for _, spec := range []string{perRack, perSrv, downward, planes, perRack + ", spine: {kind: l2}", perSrv + ", servers: {perRack: 2, uplinks: unnumbered}"} {
		text, err := json.Marshal(design(f, spec+", racks: {count: 2}, families: [ipv4]"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		`"segments": [{"name": "s", "kind": "rack"}], "devices": [{"name": "a", "role": "tor", "software": "frr", "as": 65001, "routerId": "10.0.0.9", "sessions": [{"peer": "b", "peerAS": 65002, "profile": "p", "address": ["10.0.0.1"]}]},
			{"name": "b", "role": "server", "software": "muslin", "as": 65002, "routerId": "10.0.0.1"}], "meshes": [{"name": "m", "kind": "ibgp", "segment": "s", "profile": "p", "members": ["a", "b", "b"]}]`,
		// A model, and a server without a port.
		`"model": "ethernet", "segments": [{"name": "s", "kind": "plane"}], "devices": [{"name": "rr", "role": "reflector", "software": "muslin", "as": 64512, "routerId": "10.0.0.9", "interfaces": [{"name": "eth0", "segment": "s"}]},
			{"name": "b", "role": "server", "software": "muslin", "as": 64512, "routerId": "10.0.0.1", "sessions": [{"peer": "rr", "peerAS": 64512, "profile": "p", "segment": "s"}]}]`,
	} {
		text = `{"apiVersion": "fabric/v1", "kind": "FabricDesign", "metadata": {"name": "a"}, "families": ["ipv4"], "profiles": [{"name": "p"}], ` + text + "}"
		if _, err := fabric.Parse([]byte(text)); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 1<<16 {
			return
		}
		doc, err := fabric.Parse(input)
		if err != nil || doc.Design == nil {
			return
		}
		Design(doc.Design)
		e, err := emit.New(doc.Design)
		if err != nil {
			t.Fatal(err)
		}
		for i := range doc.Design.Devices {
			for _, target := range emit.Targets {
				e.Device(&doc.Design.Devices[i], target) //nolint:errcheck // an error is fine
			}
		}
		e.Common() //nolint:errcheck
	})
}
