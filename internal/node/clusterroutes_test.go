// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"testing"
)

// programClusterRoutes of both configurations, for pools of each kind: a pool's
// routes stay out of the kernel if neither program is to bring them there.
func TestOutOfKernel(t *testing.T) {
	const pools = `
kind: IPPool
metadata: {name: plain4}
spec: {cidr: 10.1.0.0/16}
---
kind: IPPool
metadata: {name: plain6}
spec: {cidr: "fd01::/64", ipipMode: Never, vxlanMode: Never}
---
kind: IPPool
metadata: {name: ipip}
spec: {cidr: 10.2.0.0/16, ipipMode: CrossSubnet}
---
kind: IPPool
metadata: {name: vxlan}
spec: {cidr: 10.3.0.0/16, vxlanMode: Always}
`
	const plain, ipip = "10.1.0.0/16 fd01::/64", "10.2.0.0/16"
	for _, c := range []struct{ bgp, agent, want string }{
		{"", "EnabledIPIPOnly", ""}, // both defaults
		{"EnabledNoEncapOnly", "EnabledIPIPOnly", ""},
		{"Enabled", "Disabled", ""},
		{"Disabled", "Enabled", ""},
		{"EnabledIPIPOnly", "EnabledNoEncapOnly", ""},
		{"Disabled", "EnabledIPIPOnly", plain},
		{"EnabledIPIPOnly", "Disabled", plain},
		{"", "Disabled", ipip},
		{"", "EnabledNoEncapOnly", ipip},
		{"Disabled", "Disabled", "10.1.0.0/16 10.2.0.0/16 fd01::/64"},
	} {
		docs := pools
		if c.bgp != "" {
			docs += "---\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {programClusterRoutes: " + c.bgp + "}\n"
		}
		in := input(t, "a", docs)
		out := outOfKernel(in.pools, in.global, c.agent)
		if got := fmt.Sprint(out); got != "["+c.want+"]" {
			t.Errorf("%q and %q: %s, want %s", c.bgp, c.agent, got, c.want)
		}
		for _, p := range prefixes("10.1.2.0/26", "10.9.0.0/26", "10.0.0.0/8", "fd01::/122") {
			want := len(out) > 0 && out[0].Contains(p.Addr()) && out[0].Bits() <= p.Bits() || len(out) > 1 && out[len(out)-1].Contains(p.Addr())
			if liesIn(out, p) != want {
				t.Errorf("%s lies in %v: want %v", p, out, want)
			}
		}
	}
}
