// SPDX-License-Identifier: Apache-2.0

package route

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHops(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fe80::1%eth0")
	h := HopsOf(c, a, b, a, netip.Addr{}, netip.MustParseAddr("::ffff:10.0.0.1"))
	if got := h.Addrs(); !slices.Equal(got, []netip.Addr{a, b, c}) {
		t.Errorf("addrs = %v", got)
	}
	if HopsOf(a, b) != HopsOf(b, a, b) || HopsOf(a) == HopsOf(b) || HopsOf() != (Hops{}) || HopsOf(netip.Addr{}) != (Hops{}) ||
		HopsOf(netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("10.0.0.2")) != HopsOf(a, netip.MustParseAddr("10.0.0.2")) {
		t.Error("equality is not that of sets")
	}
	if s := HopsOf(b, a).String(); s != "10.0.0.1, fd00::1" {
		t.Errorf("String = %q", s)
	}
	if r, same := via("10.0.0.0/8", "10.0.0.1"), via("10.0.0.0/8", "10.0.0.1"); r != same {
		t.Error("equal routes are not equal")
	}
}

func TestKeys(t *testing.T) {
	for _, s := range []string{"0.0.0.0/0", "10.1.2.3/32", "10.0.0.0/8"} {
		if got := makeKey4(pfx(s)).prefix(); got != pfx(s) {
			t.Errorf("%s became %s", s, got)
		}
	}
	for _, s := range []string{"::/0", "fd00::1/128", "2001:db8::/33"} {
		if got := makeKey6(pfx(s)).prefix(); got != pfx(s) {
			t.Errorf("%s became %s", s, got)
		}
	}
}

// What we write is what we read back: template and parser agree.
func TestTemplateParses(t *testing.T) {
	g4, g6 := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		g := g4
		if fam == unix.AF_INET6 {
			g = g6
		}
		for _, c := range []content{
			{kind: Blackhole, metric: 1},
			{kind: Link, metric: 2, hops: []hop{{oif: 3}}},
			{kind: Via, metric: 3, hops: []hop{{oif: 3, gw: g}}},
			{kind: Via, metric: 3, hops: []hop{{oif: 3, gw: g6}}},
			{kind: Via, metric: 4, hops: []hop{{oif: 3, gw: g}, {oif: 4, gw: g, weight: 7}}},
			{kind: Via, metric: 5, object: 1<<30 + 7},
		} {
			var r kernelRoute
			if !r.parse(c.template(fam, Protocol)[nlHeader:]) || r.odd || r.kind != c.kind || r.metric != c.metric ||
				r.proto != Protocol || r.table != unix.RT_TABLE_MAIN || r.object != c.object || !slices.Equal(r.hops, c.hops) {
				t.Errorf("family %d: %+v was read as %+v", fam, c, r)
			}
			if want := appendCode(nil, uint8(c.kind), c.metric, c.hops, c.object); string(want) != string(r.code) {
				t.Errorf("family %d: code %x, want %x", fam, r.code, want)
			}
		}
	}
}

// The same for next-hop objects, whatever kind of groups the kernel has.
func TestObjectsParse(t *testing.T) {
	for _, mode := range []groupMode{resilient, plain} {
		o := newObjects(Protocol, mode)
		for i, w := range []object{
			{hop: hop{oif: 3, gw: netip.MustParseAddr("10.0.0.1")}},
			{hop: hop{oif: 3, gw: netip.MustParseAddr("fe80::1"), flags: unix.RTNH_F_ONLINK}},
			{members: []uint32{1, 1<<30 + 5}},
		} {
			id, proto, is := o.parse(o.message(uint32(i+1), w)[nlHeader:])
			if id != uint32(i+1) || proto != Protocol || !is.equal(w) {
				t.Errorf("%+v was read as %d of %d, %+v", w, id, proto, is)
			}
			other := newObjects(Protocol, 1-mode)
			if _, _, is := other.parse(o.message(1, w)[nlHeader:]); w.members != nil && is.equal(w) {
				t.Errorf("a group of another kind is taken for %+v", w)
			}
		}
	}
}

func FuzzMessages(f *testing.F) {
	c := content{kind: Via, metric: 4, hops: []hop{{oif: 3, gw: netip.MustParseAddr("10.0.0.1")}, {oif: 4, gw: netip.MustParseAddr("10.0.0.2")}}}
	b := slices.Clone(c.template(unix.AF_INET, Protocol))
	putHeader(b, unix.RTM_NEWROUTE, 0, 1)
	f.Add(b)
	putHeader(b, unix.NLMSG_ERROR, 0, 1)
	f.Add(b)
	f.Add(newObjects(Protocol, resilient).message(1<<30, object{members: []uint32{3, 4}}))
	f.Add(newObjects(Protocol, resilient).message(1<<30, object{hop: c.hops[0]}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var r kernelRoute
		for {
			m, rest, ok := nextMessage(b)
			if !ok {
				return
			}
			b = rest
			_ = parseError(m)
			parseLink(m.data)
			newObjects(Protocol, resilient).parse(m.data)
			objectNumber(m.data)
			if r.parse(m.data) {
				_ = r.prefix()
			}
			if (&queue{}).take(append(make([]byte, 0), b...)) {
				_ = m
			}
		}
	})
}
