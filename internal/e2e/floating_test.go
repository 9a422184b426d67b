// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// TestFloatingIP: a workload's floating IPs are announced and lead to it, from another
// server's workload and from its own server, as long as the servers say so; explain
// knows where they lead, and who had none is told. None is an address of the server.
func TestFloatingIP(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	apply(t, c, allowAll)
	web := attach(t, c.Nodes[0], "web", "--ip", "10.65.0.5", "--ip", "fd65::5")
	far, near := attach(t, c.Nodes[1], "far"), attach(t, c.Nodes[0], "near")
	if _, err := web.Serve(80); err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(c.Nodes[0].Name, "-", "--") + "-muslin-web-eth0"
	text, err := c.Nodes[0].Muslin(t.Context(), "get", "wep", name, "-n", "default", "-o", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c, strings.Replace(text, "\nspec:\n", "\nspec:\n  ipNATs:\n  - {internalIP: 10.65.0.5, externalIP: 203.0.113.7}\n  - {internalIP: fd65::5, externalIP: 2001:db8:f::7}\n", 1))
	felix := func(spec string) {
		t.Helper()
		apply(t, c, "kind: FelixConfiguration\nmetadata: {name: default}\nspec: {"+spec+"}\n")
		live(t, c)
	}
	external := []string{"203.0.113.7", "2001:db8:f::7"}
	single := func(text string) netip.Prefix {
		a := netip.MustParseAddr(text)
		return netip.PrefixFrom(a, a.BitLen())
	}
	reaches := func(want bool) {
		t.Helper()
		for from, w := range map[string]*lab.Namespace{"far": far.Namespace, "near": near.Namespace, "its own server": c.Nodes[0].Host.Namespace} {
			for _, to := range external {
				eventually(t, 15*time.Second, func() error {
					o := w.Probe(t.Context(), lab.Probe{Proto: lab.TCP, Dst: netip.MustParseAddr(to), Port: 80, Timeout: 300 * time.Millisecond})
					if got := o.Verdict == lab.Reached; got != want {
						return fmt.Errorf("%s from %s: %v, want reached %v", to, from, o.Verdict, want)
					}
					return nil
				})
			}
		}
	}
	live(t, c)
	reaches(false)
	status, err := c.Nodes[0].Muslin(t.Context(), "status")
	if err != nil || !strings.Contains(status, "spec.ipNATs: floatingIPs of this node is Disabled") {
		t.Errorf("nobody is told that floating IPs are off: %v\n%s", err, status)
	}
	felix("floatingIPs: Enabled")
	reaches(true)
	for i, to := range external {
		for _, n := range c.Nodes {
			out, err := n.Muslin(t.Context(), "explain", "far", to, "tcp", "80")
			in := []string{"10.65.0.5", "fd65::5"}[i]
			if err != nil || !strings.Contains(out, to+" is a floating IP of default/"+name+", and becomes "+in) || !strings.Contains(out, "ALLOWED") {
				t.Errorf("explain %s on %s: %v\n%s", to, n.Name, err, out)
			}
		}
	}
	// What is an address of the server, on whichever interface, leads to the server.
	for _, to := range external {
		if err := c.Nodes[0].Host.AddAddr("lo", single(to)); err != nil {
			t.Fatal(err)
		}
	}
	reaches(false)
	for _, to := range external {
		eventually(t, 10*time.Second, func() error {
			status, err := c.Nodes[0].Muslin(t.Context(), "status")
			if err != nil || !strings.Contains(status, "spec.ipNATs: "+to+" belongs to this server, on lo") {
				return fmt.Errorf("the author of the endpoint is not told: %v\n%s", err, status)
			}
			return nil
		})
	}
	for _, to := range external {
		if err := c.Nodes[0].Host.DelAddr("lo", single(to)); err != nil {
			t.Fatal(err)
		}
	}
	reaches(true)
	felix("floatingIPs: Disabled")
	reaches(false)
}
