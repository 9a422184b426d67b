// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"net/netip"
	"testing"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestNATOutgoing: what leaves the pools has an address of the host, and what stays
// within them its own. The neighbour has no way back to a workload.
func TestNATOutgoing(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.NAT = NAT{Outgoing: nets("10.65.0.0/16", "fd65::/48"),
			Spared: nets("10.65.0.0/16", "10.66.0.0/16", "10.67.0.0/16", "10.68.0.0/16", "10.69.0.0/16", "fd65::/48", "fd66::/48")}
	})
	for _, p := range []string{"0.0.0.0/0", "::/0"} {
		must(t, r.n.DelRoute(netip.MustParsePrefix(p), "eth0"))
	}
	everyone := r.allowAllEffective()
	r.endpoint("a", everyone)
	own := r.v.policy(gnp("own", []policy.Rule{allow(func(r *policy.Rule) { r.Src.Nets = nets("10.65.0.1/32", "fd65::1/128") })}, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "ownownownownowno", Tiers: both(tier("default", false, own))}))
	r.apply()
	for _, proto := range []lab.Proto{lab.TCP, lab.UDP, lab.ICMP} {
		r.expect(true, proto, "a", "n", 80)
		r.expect(true, proto, "a", "b", 80)
	}
	quiet(t, r.tab, r.v)
	nat := r.tab.opts.NAT
	r.retune(func(o *Options) { o.NAT = NAT{} })
	r.expect(false, lab.UDP, "a", "n", 81)
	r.retune(func(o *Options) { o.NAT = nat })
	r.expect(true, lab.UDP, "a", "n", 80)
}
