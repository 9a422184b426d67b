// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/node/api"
)

// A router that connected from a listen range is remembered: the agent restarts
// while the router is away, hears everything from everybody else, and its routes stay
// in the kernel until it is back.
func TestB15_ListenRangeOverRestart(t *testing.T) {
	t.Parallel()
	needBird(t)
	c := startCluster(t, 2)
	n1 := c.Nodes[0]
	b := startBird(t, c, `
protocol bgp b46 from server { local `+bird4+` as 65009; neighbor 10.0.0.1 as 64512;
	ipv4 { import all; export where source = RTS_STATIC; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address `+bird6+`; }; }
`)
	apply(t, c, `
kind: BGPFilter
metadata: {name: all}
spec: {importV4: [{action: Accept}], importV6: [{action: Accept}]}
---
kind: BGPPeer
metadata: {name: racks, annotations: {muslin/listen-range: 10.0.0.0/24, muslin/listen-as: 65000-65099}}
spec: {node: n1, filters: [all]}
`)
	both := func() {
		t.Helper()
		wantVia(t, n1.Namespace, birdNet4, bird4)
		wantVia(t, n1.Namespace, birdNet6, bird6)
	}
	both()
	n1.Kill()
	b.ask("disable", "b46")
	if err := n1.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error {
		var p api.Peers
		if err := n1.API().Get(t.Context(), "/v1/bgp/peers", nil, &p); err != nil {
			return err
		}
		ready := map[string]bool{}
		for _, s := range p.Peers {
			ready[s.Name] = s.State == "Established" && len(s.EndOfRIB) == 2 || s.Dynamic
		}
		if !ready["n2"] || !ready["racks"] {
			return fmt.Errorf("heard all: %v", ready)
		}
		return nil
	})
	time.Sleep(aftermath) // for what would be removed now
	both()
	b.ask("enable", "b46")
	eventually(t, 30*time.Second, func() error {
		var r api.BGPRoutes
		if err := n1.API().Get(t.Context(), "/v1/bgp/routes", url.Values{"view": {"best"}, "exact": {"1"}, "prefix": {birdNet4}}, &r); err != nil {
			return err
		}
		if len(r.Routes) != 1 || r.Routes[0].Stale {
			return fmt.Errorf("the router has not said its routes again: %+v", r.Routes)
		}
		return nil
	})
	both()
}
