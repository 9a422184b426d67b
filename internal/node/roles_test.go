// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
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

// Roles are of sessions between ASes: on others they are a Problem, once for each BGPPeer, and not told.
func TestRolesOnIBGP(t *testing.T) {
	const docs = threeNodes + `---
kind: BGPPeer
metadata: {name: inside, annotations: {muslin/role: Customer, muslin/role-strict: Enabled}}
spec: {node: b, peerSelector: all()}
---
kind: BGPPeer
metadata: {name: range, annotations: {muslin/role: Customer, muslin/listen-range: 10.9.0.0/24}}
spec: {node: b, asNumber: 64512}
---
kind: BGPPeer
metadata: {name: outside, annotations: {muslin/role: Customer}}
spec: {node: b, peerIP: 10.0.0.250, asNumber: 64999}
`
	cfg, _, problems := peering(input(t, "b", docs))
	for _, p := range cfg.Peers {
		if want := p.Name == "outside"; (p.Role != 0) != want || p.RoleStrict {
			t.Errorf("%s: role %s, strict %t", p.Name, p.Role, p.RoleStrict)
		}
	}
	var about []string
	for _, p := range problems {
		if p.field == `metadata.annotations["muslin/role"]` && strings.Contains(p.text, "64512") {
			about = append(about, p.object)
		}
	}
	slices.Sort(about)
	if got := fmt.Sprint(about); got != "[BGPPeer inside BGPPeer range]" {
		t.Errorf("%s; problems %v", got, problems)
	}
}

// The default hold time stands in api/v3, which imports nothing, and in bgp: it is the same.
func TestDefaultHoldTimeIsOne(t *testing.T) {
	for _, c := range []struct {
		hold time.Duration
		ok   bool
	}{{bgp.DefaultHoldTime, false}, {bgp.DefaultHoldTime + time.Second, true}} {
		p := &v3.BGPPeer{}
		p.Metadata.Annotations = map[string]string{"muslin/send-hold-time": c.hold.String()}
		if _, errs := p.Settings(); (len(errs) == 0) != c.ok {
			t.Errorf("send-hold time %v beside the default hold time: %v", c.hold, errs)
		}
	}
}

// What is shown of a route: communities of all three kinds, and that it is used beside the best.
func TestShownRoute(t *testing.T) {
	got := bgpRoute(bgp.RouteInfo{Multipath: true, Route: bgp.Route{Communities: []uint32{64512<<16 | 1}, Large: [][3]uint32{{64512, 1, 2}}, Extended: [][8]byte{{0, 2, 0xfc, 0, 0, 0, 0, 7}}}})
	if text := fmt.Sprint(got.Communities, got.Best, got.Equal); text != "[64512:1 64512:1:2 rt:64512:7] false true" {
		t.Error(text)
	}
	if got := bgpRoute(bgp.RouteInfo{Multipath: true, Best: true}); !got.Best || got.Equal {
		t.Errorf("%+v", got)
	}
}
