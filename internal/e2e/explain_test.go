// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/node/api"
)

// TestExplainNotes: what keeps packets from an endpoint beside policy is noted.
func TestExplainNotes(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	c := newClusterOn(t, d.url, servers(2))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, pools+allowAll)
	n := c.Nodes[0]
	a, far := attach(t, n, "a"), attach(t, c.Nodes[1], "far")
	for i, e := range []struct{ node, name, iface string }{{"n1", "late", "calilate"}, {"n1", "wrong", "uplink"}, {"n9", "lost", "calilost"}} {
		d.object("WorkloadEndpoint", "default", e.node+"-muslin-"+e.name+"-eth0", "", fmt.Sprintf(
			`"node":%q,"orchestrator":"muslin","workload":%q,"endpoint":"eth0","interfaceName":%q,"ipNetworks":["10.65.200.%d/32","fd65::200:%d/128"]`, e.node, e.name, e.iface, i, i))
	}
	live(t, c)
	note := func(src, dst string, passes bool, want ...string) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			out, err := n.Muslin(t.Context(), "explain", src, dst, "tcp", "80")
			if err != nil {
				return err
			}
			_, notes, _ := strings.Cut(out, "note: ")
			if !containsAll(out, want) || len(want) == 0 && notes != "" || !strings.Contains(out, "ALLOWED") {
				return fmt.Errorf("explain %s %s: want %q, as the way or in notes:\n%s", src, dst, want, out)
			}
			if strings.Contains(out, "NOTHING PASSES") == passes {
				return fmt.Errorf("explain %s %s: passes is to be %v:\n%s", src, dst, passes, out)
			}
			return nil
		})
	}
	note("a", "10.0.0.2", true)
	note("a", "late", false, "default/n1-muslin-late-eth0 has no interface", "calilate")
	note("wrong", "a", false, "default/n1-muslin-wrong-eth0 is in error", "interface prefixes")
	note("10.65.200.0", "a", false, "late", "calilate")
	note("a", "lost", false, "node n9, which does not exist")
	note("a", "far", true, "is on node n2")
	if out, err := n.Muslin(t.Context(), "status"); err != nil || !containsAll(out, []string{"WorkloadEndpoint default/n9-muslin-lost-eth0", `spec.node: node "n9" does not exist`}) {
		t.Errorf("status: %v\n%s", err, out)
	}
	if err := n.LinkDown(a.Interface); err != nil {
		t.Fatal(err)
	}
	note("a", far.V6.String(), false, "default/n1-muslin-a-eth0 is cut off", a.Interface+" is down", "is on node n2")
}

// TestExplainSharedNextHops: of two routes over the same next hops explain names the one that a packet follows, also
// after packets have followed the other: the kernel names that one for both.
func TestExplainSharedNextHops(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	apply(t, c, pools+allowAll)
	n := c.Nodes[0]
	from := attach(t, n, "from")
	both := []netip.Addr{netip.MustParseAddr("fd99::1"), netip.MustParseAddr("fd99::2")}
	for i, a := range both {
		for j, far := range c.Nodes[1:] {
			serve(t, attach(t, far, fmt.Sprintf("any%d%d", i, j), "--ip", a.String(), "--anycast"), 7)
		}
	}
	eventually(t, 10*time.Second, func() error {
		var routes []api.Route
		if err := n.API().Get(t.Context(), "/v1/routes", nil, &routes); err != nil {
			return err
		}
		wide := 0
		for _, r := range routes {
			if len(r.NextHops) == 2 {
				wide++
			}
		}
		if wide != len(both) {
			return fmt.Errorf("%d routes have two next hops", wide)
		}
		return nil
	})
	for _, first := range both {
		for range 8 { // over either next hop
			if o := from.Probe(t.Context(), lab.Probe{Proto: lab.UDP, Dst: first, Port: 7, Timeout: 2 * time.Second}); o.Verdict != lab.Reached {
				t.Fatalf("%s: %v %v", first, o.Verdict, o.Err)
			}
		}
		for _, a := range both {
			out, err := n.Muslin(t.Context(), "explain", "from", a.String(), "udp", "7")
			if err != nil || !strings.Contains(out, a.String()+"/128 via") || !strings.Contains(out, a.String()+"/128 was learned from") {
				t.Errorf("after packets to %s: explain %s: %v\n%s", first, a, err, out)
			}
		}
	}
}
