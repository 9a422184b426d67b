// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"testing"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestAllowedSources lets a send from networks besides its own addresses: from all of
// them, though no route leads back, and nobody else does, with its own MAC address
// alone; and its egress policy is asked as ever.
func TestAllowedSources(t *testing.T) {
	r := spoofRig(t, func(o *Options) { o.AnySource = true })
	id := policy.EndpointID{Namespace: "ns", Name: "a"}
	sources := func(list ...string) {
		t.Helper()
		ep := *r.v.endpoints[id]
		ep.Sources = nets(list...)
		r.v.endpoint(&ep)
		r.apply()
		quiet(t, r.tab, r.v)
	}
	check := func(want bool, name string, list ...string) {
		t.Helper()
		for _, src := range list {
			if got := r.from(name, ip(src)); got != want {
				t.Errorf("%s from %s: passed %v, want %v", name, src, got, want)
			}
		}
	}
	inside := []string{"192.0.2.0", "192.0.2.200", "192.0.2.255", "198.51.100.7", "2001:db8:5::", "2001:db8:5:ffff::1", "2001:db8:6::9"}
	outside := []string{"192.0.3.0", "192.0.1.255", "198.51.100.6", "198.51.100.8", "2001:db8:4:ffff::1", "2001:db8:6::8", "10.65.0.2", "fd65::2"}
	check(false, "a", inside...)
	sources("192.0.2.0/24", "192.0.2.128/25", "198.51.100.7/32", "2001:db8:5::/48", "2001:db8:6::9/128")
	check(true, "a", inside...)
	check(true, "a", addr6["a"].String())
	check(false, "a", outside...)
	check(false, "b", inside...)
	check(false, "c", inside...)
	for _, l := range r.spoofed([]lab.Packet{
		{SrcMAC: wlMAC("b"), Src: ip("192.0.2.1"), Dst: addr4["n"]}, {SrcMAC: wlMAC("b"), Src: ip("2001:db8:5::1"), Dst: addr6["b"]},
	}) {
		t.Errorf("with another MAC address: %s", l)
	}
	own := r.v.policy(gnp("own", nil, []policy.Rule{allow(func(r *policy.Rule) { r.Src.Nets = nets("10.65.0.0/16", "198.51.100.0/24") })}))
	r.endpoint("a", r.v.effective(&policy.Effective{ID: "ownownownownowno", Tiers: both(tier("default", false, own))}))
	sources("192.0.2.0/24", "198.51.100.0/24")
	check(false, "a", "192.0.2.1", "2001:db8:5::1")
	check(true, "a", "198.51.100.1")
	sources("0.0.0.0/0", "::/0")
	check(true, "a", "198.51.100.1", "10.65.0.2")
	check(false, "a", "203.0.113.1", "2001:db8::1")
	sources()
	check(false, "a", "198.51.100.1", "10.65.0.2")

	sources("198.51.100.0/24")
	o := r.tab.opts
	o.AnySource = false
	must(t, r.tab.SetOptions(o))
	r.apply()
	quiet(t, r.tab, r.v)
	check(false, "a", "198.51.100.1")
	if got := r.tab.Text(r.v); got != r.tab.Text(withoutSources(r.v, id)) {
		t.Error("a network besides leaves something in tables that do not allow it")
	}
}

// withoutSources is a view in which an endpoint has no such networks.
func withoutSources(v *memView, id policy.EndpointID) *memView {
	ep := *v.endpoints[id]
	ep.Sources = nil
	v.endpoint(&ep)
	return v
}
