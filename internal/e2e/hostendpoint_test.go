// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// TestHostEndpoints puts host endpoints for all interfaces on two servers, and
// denies everything. Workloads notice nothing. One agent starts anew under that:
// its etcd on the other server, the BGP session in both families and BFD come up
// as failsafe ports. Then a policy opens a port, by a label, and a host endpoint
// finds its interface by an address. `explain` says each time what packets do.
func TestHostEndpoints(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	ctx := t.Context()
	apply(t, c, allowAll[:strings.Index(allowAll, "spec:")]+
		"spec: {selector: app == 'w', types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Allow}]}\n---"+meshBFD)
	a, b := attach(t, c.Nodes[0], "a", "--label", "app=w"), attach(t, c.Nodes[1], "b", "--label", "app=w")
	live(t, c)
	exchanged(t, c)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	if _, err := n1.Serve(8000); err != nil {
		t.Fatal(err)
	}
	reaches := func(want bool) {
		t.Helper()
		for _, to := range []netip.Addr{n1.V4.Addr(), n1.V6.Addr()} {
			eventually(t, 10*time.Second, func() error {
				o := n2.Probe(ctx, lab.Probe{Proto: lab.TCP, Dst: to, Port: 8000, Timeout: 300 * time.Millisecond})
				if got := o.Verdict == lab.Reached; got != want {
					return fmt.Errorf("n2 to %s, port 8000: %v, want reached %v", to, o.Verdict, want)
				}
				return nil
			})
		}
	}
	explains := func(port string, want ...string) {
		t.Helper()
		for _, from := range []netip.Addr{n2.V4.Addr(), n2.V6.Addr()} {
			out, err := n1.Muslin(ctx, "explain", from.String(), "host", "tcp", port)
			if err != nil || !containsAll(out, want) {
				t.Errorf("explain: %v: want %q:\n%s", err, want, out)
			}
		}
	}
	reaches(true)

	hosts := ""
	for _, n := range c.Nodes {
		hosts += fmt.Sprintf("---\nkind: HostEndpoint\nmetadata: {name: host-%s, labels: {role: server}}\nspec: {node: %s, interfaceName: '*'}\n", n.Server.Name, n.Server.Name)
	}
	apply(t, c, strings.TrimPrefix(hosts, "---\n"))
	live(t, c)
	reaches(false)
	explains("8000", "DENIED", "HostEndpoint host-n1", "no policy or profile")
	explains("179", "ALLOWED", "failsafe port")
	n2.Kill()
	if err := n2.Start(); err != nil {
		t.Fatal(err)
	}
	live(t, c)
	for _, n := range c.Nodes {
		if _, err := n.Muslin(ctx, "bgp", "reset", map[*cluster.Node]string{n1: "n2", n2: "n1"}[n]); err != nil {
			t.Logf("reset: %v", err) // the other end has just done the same
		}
	}
	exchanged(t, c)
	watching(t, n1, 1)
	watching(t, n2, 1)
	reaches(false)
	for _, addr := range b.Addrs {
		eventually(t, 10*time.Second, func() error {
			if o := a.Probe(ctx, lab.Probe{Proto: lab.ICMP, Dst: addr, Timeout: 300 * time.Millisecond}); o.Verdict != lab.Reached {
				return fmt.Errorf("a to %s: %v", addr, o.Verdict)
			}
			return nil
		})
	}

	apply(t, c, `kind: GlobalNetworkPolicy
metadata: {name: serve}
spec: {selector: role == 'server', types: [Ingress, Egress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [8000]}}], egress: [{action: Allow}]}
`)
	reaches(true)
	explains("8000", "ALLOWED", "GlobalNetworkPolicy serve, ingress rule 0")
	explains("8001", "DENIED", "no rule matched in tier default, where it is selected by GlobalNetworkPolicy serve")

	apply(t, c, "kind: HostEndpoint\nmetadata: {name: an-address}\nspec: {node: n1, expectedIPs: ["+n1.V6.Addr().String()+"]}\n")
	reaches(false)
	explains("8000", "DENIED", "HostEndpoint an-address")
	if _, err := n1.Muslin(ctx, "delete", "hep", "an-address", "host-n1", "host-n2"); err != nil {
		t.Fatal(err)
	}
	reaches(true)
	if out, err := n1.Muslin(ctx, "acl", "show"); err != nil || strings.Contains(out, "host-input ") || strings.Contains(out, "failsafe") {
		t.Errorf("something is left of host endpoints: %v:\n%s", err, out)
	}
}
