// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/node/api"
)

// The route-origin guard, with a server of the cluster that another program
// speaks for: BIRD, at the address of Node n9. It says what it is told to say.

const rogue4, rogue6 = "10.0.0.9", "fd00::9"

// startRogue makes Node n9 and its BIRD, which announces routes to the servers.
// Each route is a static protocol of its own that can be switched: r0, r1, …
func startRogue(t *testing.T, c *cluster.Cluster, routes ...string) *bird {
	t.Helper()
	apply(t, c, "kind: Node\nmetadata: {name: n9}\nspec: {bgp: {ipv4Address: "+rogue4+"/24, ipv6Address: \""+rogue6+"/64\"}}\n")
	conf := ""
	for i, r := range routes {
		family := "ipv4"
		if strings.Contains(r, ":") {
			family = "ipv6"
		}
		conf += fmt.Sprintf("protocol static r%d { %s; route %s blackhole; }\n", i, family, r)
	}
	const export = `export filter { if source = RTS_STATIC && net != ` + birdNet4 + ` then { bgp_local_pref = 2147482623; accept; } reject; };`
	const export6 = `export filter { if source = RTS_STATIC && net != ` + birdNet6 + ` then { bgp_local_pref = 2147482623; accept; } reject; };`
	for i := range c.Nodes {
		conf += fmt.Sprintf(`protocol bgp n%d from server { local `+rogue4+` as 64512; neighbor 10.0.0.%d as 64512; direct;
	ipv4 { import all; %s next hop self; };
	ipv6 { import all; %s next hop address `+rogue6+`; }; }
`, i+1, i+1, export, export6)
	}
	return startBirdAt(t, c, rogue4, rogue6, conf)
}

// refusals is what a server says of the routes that it does not use.
func refusals(t *testing.T, n *cluster.Node) string {
	t.Helper()
	out, err := n.Muslin(t.Context(), "bgp", "routes", "--rejected")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// refused waits until a server lists a prefix as refused, in these words.
func refused(t *testing.T, n *cluster.Node, prefix string, words ...string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		for line := range strings.Lines(refusals(t, n)) {
			if strings.HasPrefix(line, prefix+" ") && containsAll(line, words) {
				return nil
			}
		}
		return fmt.Errorf("%s: %s is not refused with %q:\n%s", n.Server.Name, prefix, words, refusals(t, n))
	})
}

// scrape reads the metrics of a server.
func scrape(t *testing.T, n *cluster.Node) string {
	t.Helper()
	var d net.Dialer
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", filepath.Join(n.Dir, api.SocketName))
	}}}
	r, err := client.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocksOf are the blocks of a server, by family.
func blocksOf(t *testing.T, n *cluster.Node) map[bool]netip.Prefix {
	t.Helper()
	m := map[bool]netip.Prefix{}
	eventually(t, 15*time.Second, func() error {
		for _, r := range routesOf(t, n) {
			if r.Kind == "blackhole" {
				p := netip.MustParsePrefix(r.Prefix)
				m[p.Addr().Is6()] = p
			}
		}
		if len(m) != 2 {
			return fmt.Errorf("%s has the blocks %v", n.Server.Name, m)
		}
		return nil
	})
	return m
}

// B17: a server that announces what is not bound to it is refused by all others,
// prefix by prefix; nothing of it reaches a kernel, and traffic goes on.
func TestB17_RouteLeak(t *testing.T) {
	t.Parallel()
	needBird(t)
	c := startCluster(t, 2)
	a, b := pair(t, c)
	victim := blocksOf(t, c.Nodes[0])
	half := func(p netip.Prefix) string { return netip.PrefixFrom(p.Addr(), p.Bits()+1).String() }
	leaks := []string{
		"0.0.0.0/0", "::/0", "10.0.0.0/8", "fd00::/8", // default routes, and around the pools
		victim[false].String(), victim[true].String(), half(victim[false]), half(victim[true]), // another's block, and a part
		"10.0.0.1/32", "fd00::1/128", // a server
		"198.51.100.0/24", "2001:db8:51::/48", // nobody's
	}
	for _, addr := range a.Addrs {
		leaks = append(leaks, host(addr).String()) // a live workload
	}
	startRogue(t, c, leaks...)
	for _, n := range c.Nodes {
		for _, p := range leaks {
			refused(t, n, p, "origin")
			for _, r := range routesOf(t, n) {
				if r.Prefix == p && (strings.Contains(fmt.Sprint(r), rogue4) || strings.Contains(fmt.Sprint(r), rogue6)) {
					t.Errorf("%s has a route to %s through the rogue: %+v", n.Server.Name, p, r)
				}
			}
		}
		if got := strings.Count(refusals(t, n), "\n"); got != len(leaks)+1 {
			t.Errorf("%s: %d lines of refusals, want %d:\n%s", n.Server.Name, got, len(leaks)+1, refusals(t, n))
		}
		noProblems(t, n)
	}
	// They are counted by peer and class.
	for i, want := range []string{`origin-local"} 6`, `origin-unbound"} 12`} {
		n := c.Nodes[i]
		eventually(t, 20*time.Second, func() error {
			text := scrape(t, n)
			for _, line := range []string{`origin-server"} 2`, want} {
				if line = `muslin_bgp_peer_rejected_routes{address="` + rogue4 + `:179",peer="n9",reason="` + line; !strings.Contains(text, line+"\n") {
					return fmt.Errorf("%s: no %s in the metrics:\n%s", n.Server.Name, line, text)
				}
			}
			return nil
		})
	}
	refused(t, c.Nodes[1], victim[false].String(), "bound to n1, not to node n9")
	refused(t, c.Nodes[0], victim[true].String(), "it is served by this node")
	refused(t, c.Nodes[0], "10.0.0.1/32", "it is the address of node n1")
	passes(t, a, b, 5*time.Second)
	passes(t, b, a, 5*time.Second)
}

// An announcement may come before its event from etcd, and a binding may end
// while the route stays: each time the route is judged again.
func TestB17_JudgedAgain(t *testing.T) {
	t.Parallel()
	needBird(t)
	c := startCluster(t, 2)
	ds := openDatastore(t, c)
	blocks := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/26"), netip.MustParsePrefix("fd77::/122")}
	hosts := []netip.Prefix{netip.MustParsePrefix("172.30.0.9/32"), netip.MustParsePrefix("fd30::9/128")}
	borrowed := []netip.Prefix{netip.MustParsePrefix("10.77.0.5/32"), netip.MustParsePrefix("fd77::5/128")}
	var all []string
	for _, p := range [][]netip.Prefix{blocks, hosts, borrowed} {
		all = append(all, p[0].String(), p[1].String())
	}
	startRogue(t, c, all...)
	via := func(p netip.Prefix) string {
		if p.Addr().Is6() {
			return rogue6
		}
		return rogue4
	}
	want := func(list []netip.Prefix, used bool) {
		t.Helper()
		for _, n := range c.Nodes {
			for _, p := range list {
				if used {
					wantVia(t, n.Namespace, p.String(), via(p))
				} else {
					refused(t, n, p.String(), "origin")
					wantVia(t, n.Namespace, p.String(), "")
				}
			}
		}
	}
	affinity := func(node string, p netip.Prefix, state string) {
		t.Helper()
		key, err := ipam.AffinityKey(ipam.HostOwner(node), p)
		if err != nil {
			t.Fatal(err)
		}
		if state == "" {
			err = ds.Delete(t.Context(), key, 0)
		} else {
			_, err = ds.Put(t.Context(), key, fmt.Appendf(nil, `{"state":%q}`, state))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	endpoint := func(node string, list []netip.Prefix) {
		t.Helper()
		apply(t, c, fmt.Sprintf("kind: WorkloadEndpoint\nmetadata: {name: %s-muslin-x-eth0, namespace: default}\n"+
			"spec: {node: %s, orchestrator: muslin, workload: x, endpoint: eth0, interfaceName: calix, ipNetworks: [%s, %q]}\n", node, node, list[0], list[1]))
	}
	forget := func(node string) {
		t.Helper()
		if _, err := c.Nodes[0].Muslin(t.Context(), "delete", "wep", node+"-muslin-x-eth0"); err != nil {
			t.Fatal(err)
		}
	}
	for _, list := range [][]netip.Prefix{blocks, hosts, borrowed} {
		want(list, false) // announced first
	}
	for _, p := range blocks {
		affinity("n9", p, "pending")
	}
	want(blocks, false) // not yet its own
	for _, p := range blocks {
		affinity("n9", p, "confirmed")
	}
	want(blocks, true) // and now, with what lies inside
	want(borrowed, true)

	endpoint("n9", hosts)
	want(hosts, true)
	forget("n9")
	want(hosts, false)

	// Another server borrows an address of the block: the address is its own,
	// the block is not. Nobody may go on announcing the address for it.
	endpoint("n2", borrowed)
	for _, p := range borrowed {
		refused(t, c.Nodes[0], p.String(), "bound to n2, not to node n9")
	}
	want(blocks, true)
	forget("n2")
	want(borrowed, true)

	for _, p := range blocks {
		affinity("n9", p, "")
	}
	want(blocks, false)
	want(borrowed, false)

	// A prefix that the Node may announce beside what is bound to it.
	apply(t, c, "kind: Node\nmetadata: {name: n9, annotations: {muslin/may-announce: \"172.30.0.0/24, fd30::/64\"}}\nspec: {bgp: {ipv4Address: "+rogue4+"/24, ipv6Address: \""+rogue6+"/64\"}}\n")
	want(hosts, true)
	if _, err := c.Nodes[0].Muslin(t.Context(), "delete", "node", "n9"); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		for _, p := range hosts {
			wantVia(t, n.Namespace, p.String(), "")
		}
	}
}

// No address of this server is the next hop of what others announce, and not only
// the one that its Node has: one that comes is refused, and taken again when it has gone.
func TestB18_NextHopIsAnyOfOurs(t *testing.T) {
	t.Parallel()
	needBird(t)
	c := startCluster(t, 1)
	n := c.Nodes[0]
	startBird(t, c, `
protocol bgp b46 from server { local `+bird4+` as 65009; neighbor 10.0.0.1 as 64512;
	ipv4 { import all; export where source = RTS_STATIC; next hop address 10.0.0.77; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address fd00::77; }; }
`)
	apply(t, c, "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: "+bird4+", asNumber: 65009}\n")
	nets := map[string]netip.Prefix{birdNet4: netip.MustParsePrefix("10.0.0.77/24"), birdNet6: netip.MustParsePrefix("fd00::77/64")}
	taken := func() {
		t.Helper()
		for p, hop := range nets {
			wantVia(t, n.Namespace, p, hop.Addr().String())
		}
	}
	taken() // it may be somebody's
	for _, hop := range nets {
		if err := n.AddAddr(n.Uplink, hop); err != nil {
			t.Fatal(err)
		}
	}
	for p, hop := range nets {
		refused(t, n, p, "next hop "+hop.Addr().String()+" is this node")
		wantVia(t, n.Namespace, p, "")
	}
	for _, hop := range nets {
		if err := n.DelAddr(n.Uplink, hop); err != nil {
			t.Fatal(err)
		}
	}
	taken()
}
