// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
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
