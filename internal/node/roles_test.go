// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"slices"
	"testing"
)

// RFC 9234: a role, and its opposite where a session back to the node is made.
func TestPeeringRoles(t *testing.T) {
	const docs = threeNodes + `---
kind: BGPPeer
metadata: {name: up, annotations: {muslin/role: Customer, muslin/role-strict: Enabled}}
spec: {node: b, peerSelector: rack == "one", localASNumber: 65001}
---
kind: BGPPeer
metadata: {name: ix, annotations: {muslin/role: RouteServerClient}}
spec: {node: b, peerIP: 10.0.0.250, asNumber: 64999}
`
	for self, want := range map[string]string{
		"a": "[b provider true c  false]",
		"b": "[a customer true c  false ix route server client false]",
	} {
		cfg, _, problems := peering(input(t, self, docs))
		var got []string
		for _, p := range cfg.Peers {
			got = append(got, fmt.Sprint(p.Name, " ", p.Role, " ", p.RoleStrict))
		}
		slices.Sort(got)
		if text := fmt.Sprint(got); text != want || len(problems) > 0 {
			t.Errorf("%s: %s, want %s; problems %v", self, text, want, problems)
		}
	}
}
