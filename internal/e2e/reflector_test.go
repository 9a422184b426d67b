// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/node/api"
)

// RFC 4456: two servers that know each other only by a reflector, which
// forwards nothing: their packets go straight from one to the other, and the
// reflector's kernel has no route. Another reflector of the same cluster takes
// its place (B16).
func TestB16_RouteReflectors(t *testing.T) {
	c := startCluster(t, 4)
	rr1, rr2, n3, n4 := c.Nodes[0], c.Nodes[1], c.Nodes[2], c.Nodes[3]
	docs := allowAll
	for i := 1; i <= 2; i++ {
		docs += fmt.Sprintf(`---
kind: Node
metadata: {name: n%d, labels: {reflector: "yes"}, annotations: {muslin/program-routes: Disabled}}
spec: {bgp: {ipv4Address: 10.0.0.%d/24, ipv6Address: "fd00::%d/64", routeReflectorClusterID: 1.1.1.1}}
`, i, i, i)
	}
	apply(t, c, docs+`---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
kind: BGPPeer
metadata: {name: reflectors}
spec: {peerSelector: has(reflector)}
`)
	w3, w4 := attach(t, n3, "w3"), attach(t, n4, "w4")
	m3, m4 := machineOf(w3), machineOf(w4)
	serve(t, m4, 80)
	live(t, c)
	routed(t, n3, w4.V4, w4.V6)
	routed(t, n4, w3.V4, w3.V6)
	judge(t, m3.asks("between clients", m4, lab.TCP, 80, true))
	var blocks []string // of n4
	for _, r := range routesOf(t, n4) {
		if r.Kind == "blackhole" {
			blocks = append(blocks, r.Prefix)
		}
	}
	if len(blocks) != 2 {
		t.Fatalf("blocks %v, want one of each family", blocks)
	}
	straight := func(n *cluster.Node) {
		t.Helper()
		for _, b := range blocks {
			via := "10.0.0.4"
			if strings.Contains(b, ":") {
				via = "fd00::4"
			}
			wantVia(t, n.Namespace, b, via)
		}
	}
	straight(n3)
	for _, rr := range []*cluster.Node{rr1, rr2} {
		for _, b := range blocks {
			wantVia(t, rr.Namespace, b, "")
		}
	}

	// One of two reflectors is killed: nobody notices. It is the second one,
	// because the datastore lives in the first.
	flows := newStreams(7000)
	flows.begin(t, w3, w4, 100, true)
	flows.running(t)
	rr2.Kill()
	eventually(t, 20*time.Second, func() error {
		var answer api.Peers
		if err := n3.API().Get(t.Context(), "/v1/bgp/peers", nil, &answer); err != nil {
			return err
		}
		up := 0
		for _, p := range answer.Peers {
			if p.State == "Established" {
				up++
			}
		}
		if up != 1 {
			return fmt.Errorf("%d sessions, want 1: %+v", up, answer.Peers)
		}
		return nil
	})
	straight(n3)
	flows.lossless(t)

	// The reflector is to forward after all.
	apply(t, c, `
kind: Node
metadata: {name: n1, labels: {reflector: "yes"}}
spec: {bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: "fd00::1/64", routeReflectorClusterID: 1.1.1.1}}
`)
	straight(rr1)
}
