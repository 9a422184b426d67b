// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// The fields of a BGPConfiguration with BIRD as the judge: what it receives from
// a server, with which communities and in which sum, and what the next server has.
func TestBGPConfigurationFields(t *testing.T) {
	t.Parallel()
	needBird(t)
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	b := startBird(t, c, `
protocol bgp b46 from server { local `+bird4+` as 65009; neighbor 10.0.0.1 as 64512;
	ipv4 { import all; export where source = RTS_STATIC; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address `+bird6+`; }; }
`)
	set := func(spec string) {
		t.Helper()
		apply(t, c, "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {"+spec+"}\n")
	}
	a := machineOf(attach(t, n1, "a", open...))
	own := blocksOf(t, n1)
	blocks := []string{own[false].String(), own[true].String()}
	base := `logSeverityScreen: Debug, ipv4NormalRoutePriority: 700, ipv6NormalRoutePriority: 800, ignoredInterfaces: ["cali-no*"],
  serviceExternalIPs: [{cidr: ` + birdNet4 + `}], serviceClusterIPs: [{cidr: "` + birdNet6 + `"}],
  communities: [{name: inner, value: "64512:7"}, {name: wide, value: "64512:1:2"}],
  prefixAdvertisements: [{cidr: ` + blocks[0] + `, communities: [inner, wide]}, {cidr: "` + blocks[1] + `", communities: [inner, "64512:9"]}]`
	set(base)
	apply(t, c, `
kind: BGPPeer
metadata: {name: bird, annotations: {muslin/default-originate: Enabled}}
spec: {node: n1, peerIP: `+bird4+`, asNumber: 65009, sourceAddress: None}
`)
	has := func(prefix string, words ...string) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			out := b.ask("show", "route", prefix, "all")
			for _, w := range append(words, "via ") {
				if !strings.Contains(out, w) {
					return fmt.Errorf("BIRD's %s has no %q: %s", prefix, w, out)
				}
			}
			return nil
		})
	}

	// A block is announced as one, with its communities; the address in it is not.
	has(blocks[0], "(64512,7)", "(64512, 1, 2)")
	has(blocks[1], "(64512,7)", "(64512,9)")
	for _, addr := range a.addr {
		if out := b.ask("show", "route", netip.PrefixFrom(addr, addr.BitLen()).String()); strings.Contains(out, "via ") {
			t.Errorf("BIRD has the address in a block, too: %s", out)
		}
	}
	// The default route, of both families.
	b.wantRoute("0.0.0.0/0", "10.0.0.1")
	b.wantRoute("::/0", "fd00::1")
	// What lies in the services' networks is passed on, from outside to the next server.
	wantVia(t, n2.Namespace, birdNet4, "10.0.0.1")
	wantVia(t, n2.Namespace, birdNet6, "fd00::1")
	// Outside the blocks every address, unless its interface is ignored.
	for i, tap := range []string{"cali-yes", "cali-no1"} {
		apply(t, c, fmt.Sprintf(`
kind: WorkloadEndpoint
metadata: {name: n1-muslin-x%d-eth0, namespace: default}
spec: {node: n1, orchestrator: muslin, workload: x%d, endpoint: eth0, interfaceName: %s, ipNetworks: [198.51.100.%d/32, "2001:db8:7::%d/128"]}
`, i, i, tap, i+1, i+1))
		plug(t, c, n1, fmt.Sprint("x", i), tap, "", fmt.Sprint("198.51.100.", i+1), fmt.Sprint("2001:db8:7::", i+1))
	}
	b.wantRoute("198.51.100.1/32", "10.0.0.1")
	b.wantRoute("2001:db8:7::1/128", "fd00::1")
	b.wantRoute("198.51.100.2/32", "")
	b.wantRoute("2001:db8:7::2/128", "")
	// Priorities are LOCAL_PREF on the wire and the metric of the next server.
	for i, metric := range []int{700, 800} {
		eventually(t, 20*time.Second, func() error {
			for _, r := range routesOf(t, n2) {
				if r.Prefix == blocks[i] && r.Metric == metric && r.State == "installed" {
					return nil
				}
			}
			return fmt.Errorf("n2 has no route to %s with metric %d: %+v", blocks[i], metric, routesOf(t, n2))
		})
	}
	if text, err := os.ReadFile(n1.LogFile()); err != nil || !strings.Contains(string(text), `msg="BGP state"`) {
		t.Errorf("at severity Debug nothing is logged of states: %v", err)
	}

	// programClusterRoutes: they leave the next server's kernel, what lies outside of pools stays.
	set(base + ", programClusterRoutes: Disabled")
	for _, p := range blocks {
		wantVia(t, n2.Namespace, p, "")
	}
	wantVia(t, n2.Namespace, "198.51.100.1/32", "10.0.0.1")
	set(base)
	wantVia(t, n2.Namespace, blocks[0], "10.0.0.1")
	wantVia(t, n2.Namespace, blocks[1], "fd00::1")

	// bindMode: a neighbour reaches another address of the server, or does not.
	other := netip.MustParsePrefix("10.0.0.77/24")
	if err := n1.AddAddr("eth0", other); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"None", "NodeIP", "None"} {
		set(base + ", bindMode: " + mode)
		eventually(t, 20*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			conn, err := b.host.Dial(ctx, "tcp", other.Addr().String()+":179")
			if err == nil {
				conn.Close()
			}
			if (err == nil) != (mode == "None") {
				return fmt.Errorf("bindMode %s: dialling %s: %v", mode, other, err)
			}
			return nil
		})
	}

	// listenPort: the mesh goes there.
	set(base + ", listenPort: 1790")
	eventually(t, 20*time.Second, func() error {
		out, err := n2.Muslin(t.Context(), "bgp", "peer", "n1")
		if err == nil && !(strings.Contains(out, "1790") && strings.Contains(out, "Established")) {
			err = fmt.Errorf("n2: %s", out)
		}
		return err
	})
	wantVia(t, n2.Namespace, blocks[0], "10.0.0.1")
}
