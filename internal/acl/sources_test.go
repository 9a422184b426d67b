// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
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

// TestSourcesOfTwo lets a and b send from one address: what policy has accepted from a,
// and for a, says nothing of what b sends, although it has the same addresses and ports.
func TestSourcesOfTwo(t *testing.T) {
	r := spoofRig(t, func(o *Options) { o.AnySource = true })
	other := map[int]string{4: "192.0.2.50", 6: "2001:db8:5::50"}
	closed := r.v.policy(gnp("closed", allowAll, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "noegressnoegress", Tiers: both(tier("default", false, closed))}))
	for _, name := range []string{"a", "b"} {
		ep := *r.v.endpoints[policy.EndpointID{Namespace: "ns", Name: name}]
		ep.Sources = nets("192.0.2.0/24", "2001:db8:5::/48", "10.65.0.0/16", "fd65::/64", "172.16.0.0/24", "fd16::/64")
		r.v.endpoint(&ep)
	}
	r.apply()
	quiet(t, r.tab, r.v)
	up, err := r.host.MAC("up0")
	must(t, err)
	c, err := r.n.Capture("eth0")
	must(t, err)
	defer c.Close()
	// arrives sends a datagram, and one that arrives after it, and tells whether the
	// first did.
	arrives := func(from string, p lab.Packet) bool {
		t.Helper()
		p.DstMAC, p.SrcMAC, p.Proto = hostMAC, wlMAC(from), lab.ProtoUDP
		must(t, r.wl[from].SendPacket("eth0", p))
		must(t, r.wl["c"].SendPacket("eth0", lab.Packet{DstMAC: hostMAC, Src: addr4["c"], Dst: addr4["n"], Proto: lab.ProtoUDP, SrcPort: sentinelPort, DstPort: sentinelPort}))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		came := false
		for {
			f, err := c.Next(ctx, func(f lab.Frame) bool { return f.Proto == lab.ProtoUDP && !f.Outgoing })
			must(t, err)
			if f.DstPort == sentinelPort {
				return came
			}
			came = came || f.Src == p.Src && f.SrcPort == p.SrcPort && f.DstPort == p.DstPort
		}
	}
	for _, v := range []int{4, 6} {
		for _, src := range []netip.Addr{ip(other[v]), addrOf(v, "a")} { // nobody's, and a's own
			p := lab.Packet{Src: src, Dst: addrOf(v, "n"), SrcPort: 3000, DstPort: 3001}
			if arrives("b", p) {
				t.Errorf("IPv%d: from %s b's egress policy lets a packet pass", v, src)
			}
			for range 2 {
				if !arrives("a", p) {
					t.Fatalf("IPv%d: what a sends from %s does not arrive", v, src)
				}
			}
			if arrives("b", p) {
				t.Errorf("IPv%d: b goes on with the flow that a has from %s", v, src)
			}
			if !arrives("a", p) {
				t.Errorf("IPv%d: the flow that a has from %s ends when b tries", v, src)
			}
		}
		// A review forgets what policy has accepted of flows that are not judged: their
		// number may come again.
		if n := acceptedInZones(t, r); n == 0 {
			t.Errorf("IPv%d: no flow of an interface is accepted", v)
		}
		flows, err := OpenFlows(int(r.nsFile.Fd()))
		must(t, err)
		_, err = flows.Review(func([]Flow) error { return nil }, false)
		must(t, err)
		if n := acceptedInZones(t, r); n == 0 {
			t.Errorf("IPv%d: the zones of others are written to", v)
		}
		_, err = flows.Review(func(list []Flow) error {
			for i := range list {
				if list[i].Fate = Keep; list[i].Src == ip(other[v]) {
					t.Errorf("IPv%d: a flow of an interface is judged: %+v", v, list[i].Packet)
				}
			}
			return nil
		}, true)
		must(t, errors.Join(err, flows.Close()))
		if n := acceptedInZones(t, r); n != 0 {
			t.Errorf("IPv%d: %d flows of interfaces stay accepted", v, n)
		}
		// An answer to what n asks of a is a's to give.
		must(t, r.n.SendPacket("eth0", lab.Packet{DstMAC: up, Src: addrOf(v, "n"), Dst: addrOf(v, "a"), Proto: lab.ProtoUDP, SrcPort: 4000, DstPort: 4001}))
		answer := lab.Packet{Src: addrOf(v, "a"), Dst: addrOf(v, "n"), SrcPort: 4001, DstPort: 4000}
		labtest.Poll(t, 5*time.Second, func() error {
			if !arrives("a", answer) {
				return errors.New("a's answer does not arrive")
			}
			return nil
		})
		if arrives("b", answer) {
			t.Errorf("IPv%d: b gives the answers that are a's", v)
		}
		// Nor does a make a flow of two ways of its own by sending as both ends.
		p := lab.Packet{Src: ip(other[v]), Dst: addrOf(v, "n"), SrcPort: 5000, DstPort: 5001}
		if !arrives("a", p) {
			t.Fatalf("IPv%d: what a sends does not arrive", v)
		}
		must(t, r.wl["a"].SendPacket("eth0", lab.Packet{SrcMAC: wlMAC("a"), DstMAC: hostMAC, Src: p.Dst, Dst: p.Src, Proto: lab.ProtoUDP, SrcPort: 5001, DstPort: 5000}))
		open := r.v.endpoints[policy.EndpointID{Namespace: "ns", Name: "a"}]
		shut := *open
		shut.Effective = r.v.effectives["noegressnoegress"]
		r.v.endpoint(&shut)
		r.apply()
		if arrives("a", p) {
			t.Errorf("IPv%d: a flow that a answers itself outlives the change that denies it", v)
		}
		r.v.endpoint(open)
		r.apply()
	}
}

// acceptedInZones counts connections in zones that policy has accepted.
func acceptedInZones(t *testing.T, r *rig) (n int) {
	f, err := OpenFlows(int(r.nsFile.Fd()))
	must(t, err)
	defer f.Close()
	var m msgs
	m.header("", ctMsgGet, unix.NLM_F_DUMP, unix.AF_UNSPEC, 0)
	m.end()
	must(t, f.read.request(&m, true, func(data []byte) {
		if flow, ok := parseFlow(data); ok && len(flow.zone) > 0 && flow.accepted {
			n++
		}
	}, func() error { return nil }))
	return n
}

// withoutSources is a view in which an endpoint has no such networks.
func withoutSources(v *memView, id policy.EndpointID) *memView {
	ep := *v.endpoints[id]
	ep.Sources = nil
	v.endpoint(&ep)
	return v
}
