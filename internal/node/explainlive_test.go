// SPDX-License-Identifier: Apache-2.0

package node

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"pgregory.net/rapid"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

var livePackets = flag.Int("live.packets", 160, "packets that TestLiveAgreesWithModel sends")

// liveHost is a server with the interfaces of the random worlds, and a way out.
type liveHost struct {
	*lab.Namespace
	d *Daemon
	x *policy.Index
}

func newLiveHost(t *testing.T) *liveHost {
	l := labtest.New(t)
	h := &liveHost{Namespace: labtest.Namespace(t, l, "host"), x: policy.NewIndex(policytest.Nodes[0])}
	far := labtest.Namespace(t, l, "far")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for k, v := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/default/accept_dad": "0",
		"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
	} {
		must(h.SetSysctl(k, v))
	}
	for i, name := range append(slices.Clone(policytest.Interfaces), "up0") {
		must(lab.Veth(lab.End{NS: h.Namespace, Name: name}, lab.End{NS: far, Name: fmt.Sprintf("w%d", i)}))
	}
	for _, p := range []string{"172.16.0.1/24", "fd16::1/64"} {
		must(h.AddAddr("up0", netip.MustParsePrefix(p)))
	}
	must(h.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("172.16.0.2"), "up0"))
	must(h.AddRoute(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd16::2"), "up0"))
	h.d = &Daemon{cfg: Config{Node: policytest.Nodes[0]}, loop: &loop{calls: make(chan func())}}
	go func() {
		for f := range h.d.loop.calls {
			f()
		}
	}()
	t.Cleanup(func() { close(h.d.loop.calls) })
	must(h.Do(func() (err error) {
		h.d.acl, err = acl.Open(acl.Options{Prefixes: []string{"cali"}})
		return err
	}))
	t.Cleanup(func() { h.d.acl.Close() })
	return h
}

// TestLiveAgreesWithModel puts random worlds in force and asks about packets in
// them, of the model and of the kernel: they pass or not alike, and the same
// object decides at each end. A planted difference is found.
func TestLiveAgreesWithModel(t *testing.T) {
	h := newLiveHost(t)
	const perWorld = 20
	if err := flag.Set("rapid.checks", fmt.Sprint(max(1, *livePackets/perWorld))); err != nil {
		t.Fatal(err)
	}
	tally, stored := map[string]int{}, map[policy.Key]bool{}
	routed := map[netip.Prefix]bool{}
	differing, worlds := 0, 0
	// Few packets pass in a world of chance, and in eight of them perhaps none.
	open := &v3.GlobalNetworkPolicy{}
	open.Spec.PolicySpec = v3.PolicySpec{Selector: "all()", Order: new(float64), Types: []string{"Ingress", "Egress"},
		Ingress: []v3.Rule{{Action: "Allow"}}, Egress: []v3.Rule{{Action: "Allow"}}}
	open.Metadata.Name = "default.open"
	rapid.Check(t, func(rt *rapid.T) {
		check := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		w := &world{World: policy.World{Reserved: map[netip.Addr]string{}}}
		for k := range stored {
			h.x.Set(k, nil, nil)
		}
		clear(stored)
		put := func(k policy.Key, r v3.Resource) {
			w.Put(k, r, nil)
			h.x.Set(k, r, nil)
			stored[k] = true
		}
		for range rapid.IntRange(10, 40).Draw(rt, "objects") {
			k := policytest.DrawKey(rt)
			if !stored[policy.Key(k)] { // a bad one leaves the last good one in force
				put(policy.Key(k), policytest.Workload(policytest.DrawObject(rt, k, true)))
			}
		}
		if worlds++; worlds%2 == 1 {
			put(policy.Key{Kind: "GlobalNetworkPolicy", Name: open.Metadata.Name}, open)
		}
		check(h.d.acl.Apply(h.x, h.x.Flush()))
		// The same world again is the same epoch, in which its flows are accepted already.
		check(h.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
		for p := range routed {
			check(h.DelRoute(p, ""))
		}
		clear(routed)
		for e := range h.x.Endpoints() {
			for _, a := range e.Addrs {
				p := netip.PrefixFrom(a, a.BitLen())
				check(h.AddRoute(p, netip.Addr{}, e.Interface))
				routed[p] = true
			}
		}
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "packets"), 1))
		for sent, tries := 0, 0; sent < perWorld && tries < 20*perWorld; tries++ {
			f, ok := drawLive(rnd, w)
			if !ok {
				continue
			}
			sent++
			check(h.Do(func() error {
				k := h.d.walk(rt.Context(), w, acl.Options{}, f, false, false)
				live, err := h.d.live(rt.Context(), w, k)
				if err != nil {
					return fmt.Errorf("%+v: %w", f, err)
				}
				if live.Differs != "" {
					rt.Errorf("%+v, in on %q: %s: %s\nmodel %+v\nlive %+v", f, k.in, live.Verdict, live.Differs, k.path.Steps, live.Steps)
				}
				tally[live.Verdict]++
				// A model that says the contrary is found out.
				for i := range k.path.Steps {
					s := &k.path.Steps[i]
					if s.Verdict == "deny" {
						s.Verdict = "allow"
						differing++
					}
				}
				if live.Verdict == "dropped" && k.agrees(live) == nil {
					rt.Errorf("%+v was dropped, and a model without a denial agrees", f)
				}
				return nil
			}))
		}
	})
	t.Logf("%v, %d contradicted", tally, differing)
	if tally["passed"] == 0 || tally["dropped"] == 0 || tally["lost"] > 0 || differing == 0 {
		t.Errorf("%v: the worlds are too poor, or packets are lost", tally)
	}
}

// drawLive draws a packet of which the end of one workload at least is here. One in
// ten has a source that is not its sender's.
func drawLive(rnd *rand.Rand, w *world) (f policy.Flow, ok bool) {
	one := func(list ...int) int { return list[rnd.IntN(len(list))] }
	v4 := rnd.IntN(2) == 0
	p := policy.Packet{
		Src: policytest.Addr(v4, rnd.IntN(policytest.Addrs)), Dst: policytest.Addr(v4, rnd.IntN(policytest.Addrs)),
		Proto: uint8(one(1, 6, 6, 17, 17, 132)),
	}
	if policy.HasPorts(p.Proto) {
		p.SrcPort, p.DstPort = uint16(1024+rnd.IntN(60000)), uint16(one(53, 80, 81, 443, 65535))
	} else if p.ICMPType = 8; !v4 {
		p.Proto, p.ICMPType = 58, 128
	}
	f = w.FlowOf(p)
	if rnd.IntN(10) == 0 {
		for id, e := range w.Endpoints {
			if e.Spec.Node == policytest.Nodes[0] {
				f.From = id
			}
		}
	}
	local := func(id policy.EndpointID) bool {
		e := w.Endpoints[id]
		return e != nil && e.Spec.Node == policytest.Nodes[0] && e.Spec.InterfaceName != "" && policy.Evaluate(&w.World, policy.Flow{Packet: p, To: id}).Ingress.Reason != policy.Closed
	}
	if p.Src == p.Dst || !local(f.From) && !local(f.To) {
		return f, false
	}
	// One that is closed has no interface to be told by, and no route.
	for _, id := range []policy.EndpointID{f.From, f.To} {
		if e := w.Endpoints[id]; e != nil && e.Spec.Node == policytest.Nodes[0] && !local(id) {
			return f, false
		}
	}
	return f, true
}
