// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

var floatingIP = map[int]netip.Addr{4: ip("203.0.113.7"), 6: ip("2001:db8:f::7")}

// TestFloatingIP: what is sent to a's floating IP arrives at a, from a neighbour,
// another workload, the host, and a itself, with policy of both ends as if it had been
// sent there; what a sends keeps its own address.
func TestFloatingIP(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Floating = AllFloating })
	everyone := r.allowAllEffective()
	onlyTo := r.v.policy(gnp("only-to-a", nil, []policy.Rule{allow(func(r *policy.Rule) { r.Dst.Nets = nets("10.65.0.1/32", "fd65::1/128") })}))
	in := r.v.policy(gnp("in", []policy.Rule{allow(func(r *policy.Rule) {
		r.Dst.Nets = nets("10.65.0.1/32", "fd65::1/128")
		r.Dst.Ports = []policy.PortRange{port(80)}
		r.HasProto, r.Proto = true, tcp
	})}, allowAll))
	r.endpoint("a", r.v.effective(&policy.Effective{ID: "ininininininininin"[:16], Tiers: both(tier("default", false, in))}))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "onlyonlyonlyonly", Tiers: both(tier("default", false, onlyTo))}))
	r.endpoint("c", everyone)
	id := policy.EndpointID{Namespace: "ns", Name: "a"}
	float := func(on bool) {
		t.Helper()
		ep := *r.v.endpoints[id]
		ep.Floating = nil
		for _, v := range []int{4, 6} {
			if on {
				ep.Floating = append(ep.Floating, policy.Floating{External: floatingIP[v], Internal: addrOf(v, "a")})
			}
		}
		r.v.endpoint(&ep)
		r.apply()
		quiet(t, r.tab, r.v)
	}
	try := func(want bool, from string, port uint16) {
		t.Helper()
		for _, v := range []int{4, 6} {
			timeout := 100 * time.Millisecond
			if want {
				timeout = 5 * time.Second
			}
			got := r.ns(from).Probe(context.Background(), lab.Probe{Proto: lab.TCP, Dst: floatingIP[v], Port: port, Timeout: timeout}).Verdict == lab.Reached
			if got != want {
				t.Errorf("IPv%d: %s to the floating IP, port %d: reached %v, want %v", v, from, port, got, want)
			}
		}
	}
	for _, v := range []int{4, 6} {
		must(t, r.host.AddRoute(host(floatingIP[v]), netip.Addr{}, "calia"))
	}
	float(false)
	try(false, "n", 80)
	float(true)
	for _, from := range []string{"n", "b", "c", "host", "a"} {
		try(true, from, 80)
	}
	for _, from := range []string{"n", "b", "c", "a"} {
		try(false, from, 81)
	}
	// What a sends has its own address.
	for _, v := range []int{4, 6} {
		if !r.from("a", addrOf(v, "a")) {
			t.Errorf("IPv%d: what a sends does not keep its address", v)
		}
	}
	// It is another's own policy that is asked: b may send to a alone.
	r.expect(false, lab.TCP, "b", "c", 80)
	float(false)
	try(false, "c", 80)
	float(true)

	// OpenStack's endpoints have theirs whatever the others have.
	for _, x := range []struct {
		floating  Floating
		openStack bool
		want      bool
	}{{OpenStackFloating, false, false}, {OpenStackFloating, true, true}, {NoFloating, true, false}} {
		ep := *r.v.endpoints[id]
		ep.OpenStack = x.openStack
		r.v.endpoint(&ep)
		r.retune(func(o *Options) { o.Floating = x.floating })
		try(x.want, "c", 80)
	}
	if strings.Contains(r.tab.Text(r.v), "floating") {
		t.Error("there are rules for floating IPs without any")
	}
}

// TestNATOutgoingAddress: what leaves the pools has the address that is set, in its
// family, and in the other the interface's.
func TestNATOutgoingAddress(t *testing.T) {
	for _, address := range []string{"203.0.113.9", "2001:db8:f::9"} {
		r := newRig(t, func(o *Options) {
			o.NAT = NAT{Outgoing: nets("10.65.0.0/16", "fd65::/48"), Spared: nets("10.65.0.0/16", "fd65::/48"), Address: ip(address)}
		})
		r.endpoint("a", r.allowAllEffective())
		r.apply()
		quiet(t, r.tab, r.v)
		for _, v := range []int{4, 6} {
			want := addrOf(v, "host")
			if ip(address).Is4() == (v == 4) {
				want = ip(address)
			}
			must(t, r.host.AddAddr("up0", host(ip(address)))) // idle, but for answers
			c, err := r.n.Capture("eth0")
			must(t, err)
			r.expect(true, lab.UDP, "a", "n", 80, v)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			f, err := c.Next(ctx, func(f lab.Frame) bool { return !f.Outgoing && f.Proto == lab.ProtoUDP && f.DstPort == 80 })
			cancel()
			must(t, err)
			if f.Src != want {
				t.Errorf("%s, IPv%d: left with %s, want %s", address, v, f.Src, want)
			}
			must(t, c.Close())
			must(t, r.host.DelAddr("up0", host(ip(address))))
		}
	}
}
