// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// verdict is what must become of the route in an UPDATE.
type verdict uint8

const (
	gone  verdict = iota // treat-as-withdraw: not there, and an older one goes, too
	lives                // the attribute is dropped, the route is taken
)

// badAttr is one way to spoil an UPDATE.
type badAttr struct {
	name    string
	typ     uint8 // of the good attribute that it replaces; 0 adds
	raw     []byte
	ibgp    verdict
	ebgp    verdict
	onlyFor string // "ibgp", "ebgp" or both
}

// badAttrs is the corpus: RFC 7606 section 7, RFC 6793, 7607, 8092 and 9234, one
// entry for each way an attribute can be wrong.
func badAttrs() []badAttr {
	var out []badAttr
	add := func(name string, typ uint8, raw []byte, v verdict) {
		out = append(out, badAttr{name: name, typ: typ, raw: raw, ibgp: v, ebgp: v})
	}
	both := func(name string, typ uint8, raw []byte, ibgp, ebgp verdict) {
		out = append(out, badAttr{name: name, typ: typ, raw: raw, ibgp: ibgp, ebgp: ebgp})
	}
	fill := func(n int) []byte { return slices.Repeat([]byte{1}, n) }

	// Lengths: each attribute with 0, one less, one more, and far too much.
	for _, a := range []struct {
		name       string
		flags, typ uint8
		good       int
		ibgp, ebgp verdict
	}{
		{"ORIGIN", 0x40, attrOrigin, 1, gone, gone},
		{"NEXT_HOP", 0x40, attrNextHop, 4, gone, gone},
		{"MED", 0x80, attrMED, 4, gone, gone},
		{"LOCAL_PREF", 0x40, attrLocalPref, 4, gone, lives},
		{"ATOMIC_AGGREGATE", 0x40, attrAtomic, 0, lives, lives},
		{"AGGREGATOR", 0xc0, attrAggregator, 8, lives, lives},
		{"COMMUNITIES", 0xc0, attrCommunities, 4, gone, gone},
		{"ORIGINATOR_ID", 0x80, attrOriginatorID, 4, gone, lives},
		{"CLUSTER_LIST", 0x80, attrClusterList, 4, gone, lives},
		{"EXTENDED_COMMUNITIES", 0xc0, attrExtComm, 8, gone, gone},
		{"LARGE_COMMUNITY", 0xc0, attrLargeComm, 12, gone, gone},
		{"ONLY_TO_CUSTOMER", 0xc0, attrOTC, 4, gone, gone},
	} {
		for _, n := range []int{0, a.good - 1, a.good + 1, 255, 300} {
			if n < 0 || n == a.good || n%max(a.good, 1) == 0 && n > 0 && a.good > 1 && a.typ != attrNextHop && a.typ != attrMED &&
				a.typ != attrLocalPref && a.typ != attrAggregator && a.typ != attrOriginatorID && a.typ != attrOTC {
				continue
			}
			both(fmt.Sprintf("%s length %d", a.name, n), a.typ, at(a.flags, a.typ, fill(n)...), a.ibgp, a.ebgp)
		}
	}
	// Flags: optional and transitive turned over.
	for _, a := range []struct {
		name       string
		flags, typ uint8
		val        []byte
		ebgp       verdict
	}{
		{"ORIGIN", 0x40, attrOrigin, []byte{0}, gone},
		{"AS_PATH", 0x40, attrASPath, append([]byte{segSequence, 1}, be32(65001)...), gone},
		{"NEXT_HOP", 0x40, attrNextHop, []byte{10, 0, 0, 9}, gone},
		{"MED", 0x80, attrMED, be32(1), gone},
		{"LOCAL_PREF", 0x40, attrLocalPref, be32(1), lives},
		{"ATOMIC_AGGREGATE", 0x40, attrAtomic, nil, gone},
		{"AGGREGATOR", 0xc0, attrAggregator, cat(be32(65001), be32(1)), gone},
		{"COMMUNITIES", 0xc0, attrCommunities, be32(1), gone},
		{"ORIGINATOR_ID", 0x80, attrOriginatorID, be32(1), lives},
		{"CLUSTER_LIST", 0x80, attrClusterList, be32(1), lives},
		{"LARGE_COMMUNITY", 0xc0, attrLargeComm, fill(12), gone},
		{"ONLY_TO_CUSTOMER", 0xc0, attrOTC, be32(65001), gone},
	} {
		both(a.name+" optional bit wrong", a.typ, at(a.flags^0x80, a.typ, a.val...), gone, a.ebgp)
		both(a.name+" transitive bit wrong", a.typ, at(a.flags^0x40, a.typ, a.val...), gone, a.ebgp)
	}
	// Values.
	add("ORIGIN 3", attrOrigin, at(0x40, attrOrigin, 3), gone)
	add("ORIGIN 255", attrOrigin, at(0x40, attrOrigin, 255), gone)
	for _, p := range []struct {
		name string
		val  []byte
	}{
		{"segment type 0", cat([]byte{0, 1}, be32(65001))},
		{"segment type 5", cat([]byte{5, 1}, be32(65001))},
		{"confederation sequence", cat([]byte{3, 1}, be32(65001))},
		{"confederation set", cat([]byte{4, 1}, be32(65001))},
		{"segment of no AS", []byte{segSequence, 0}},
		{"good segment, then one of no AS", cat([]byte{segSequence, 1}, be32(65001), []byte{segSequence, 0})},
		{"segment longer than the attribute", cat([]byte{segSequence, 2}, be32(65001))},
		{"segment shorter than the attribute", cat([]byte{segSequence, 1}, be32(65001), []byte{1})},
		{"one octet", []byte{segSequence}},
		{"count 255 of one AS", cat([]byte{segSequence, 255}, be32(65001))},
		{"AS 0", cat([]byte{segSequence, 2}, be32(65001), be32(0))},
		{"two-octet AS numbers", []byte{segSequence, 1, 0xfd, 0xe9}},
		{"our own AS", cat([]byte{segSequence, 2}, be32(65001), be32(64512))},
		{"our own AS in a set", cat([]byte{segSequence, 1}, be32(65001), []byte{segSet, 1}, be32(64512))},
	} {
		add("AS_PATH "+p.name, attrASPath, at(0x40, attrASPath, p.val...), gone)
	}
	out = append(out,
		badAttr{name: "AS_PATH empty", typ: attrASPath, raw: at(0x40, attrASPath), ebgp: gone, onlyFor: "ebgp"},
		badAttr{name: "AS_PATH of another neighbour", typ: attrASPath, raw: at(0x40, attrASPath, cat([]byte{segSequence, 1}, be32(65002))...), ebgp: gone, onlyFor: "ebgp"})
	for _, nh := range []string{"0.0.0.0", "0.1.2.3", "224.0.0.5", "240.0.0.1", "255.255.255.255", "169.254.1.1"} {
		a := netip.MustParseAddr(nh).As4()
		add("NEXT_HOP "+nh, attrNextHop, at(0x40, attrNextHop, a[:]...), gone)
	}
	add("AGGREGATOR AS 0", 0, at(0xc0, attrAggregator, cat(be32(0), be32(1))...), lives)
	add("AS4_PATH from a four-octet peer", 0, at(0xc0, attrAS4Path, cat([]byte{segSequence, 1}, be32(7))...), lives)
	add("AS4_PATH garbage", 0, at(0xc0, attrAS4Path, 9, 9, 9), lives)
	add("AS4_AGGREGATOR garbage", 0, at(0xc0, attrAS4Aggr, 9), lives)
	// Unknown attributes.
	add("unknown well-known 99", 0, at(0x40, 99, 1, 2), gone)
	add("unknown well-known 0", 0, at(0x40, 0), gone)
	for _, typ := range []uint8{19, 22, 23, 26, 29, 33, 36, 37, 40, 128, 255} {
		add(fmt.Sprintf("unknown optional transitive %d", typ), 0, at(0xc0, typ, fill(int(typ))...), lives)
	}
	add("unknown optional non-transitive", 0, at(0x80, 99, fill(7)...), lives)
	add("unknown with extended length", 0, append([]byte{0xd0, 99, 0, 2}, 1, 2), lives)
	// Missing and doubled.
	add("ORIGIN missing", attrOrigin, nil, gone)
	add("AS_PATH missing", attrASPath, nil, gone)
	add("NEXT_HOP missing", attrNextHop, nil, gone)
	out = append(out, badAttr{name: "LOCAL_PREF missing", typ: attrLocalPref, ibgp: gone, onlyFor: "ibgp"})
	add("MP_REACH_NLRI flags wrong", 0, func() []byte { b := mpReach("fd99::9", "fd01::/64"); b[0] = 0x40; return b }(), gone)
	return out
}

// B01, RFC 7606: every spoiled UPDATE leaves the session up, and its route is
// gone, also one that was there before, or lives where only the attribute is
// dropped. The bad attribute stands first, in the middle and last. A sentinel prefix
// after each shows that the next message is understood.
func TestB01_RFC7606_MalformedAttributes(t *testing.T) {
	t.Parallel()
	for _, ebgp := range []bool{false, true} {
		name, asn := "iBGP", uint32(64512)
		if ebgp {
			name, asn = "eBGP", 65001
		}
		t.Run(name, func(t *testing.T) {
			n, r := rawTarget(t, asn, Options{})
			r.establish(n, asn)
			good := goodAttrs(ebgp)
			const victim = "10.50.0.0/24"
			cases := 0
			for _, bad := range badAttrs() {
				if bad.onlyFor == "ibgp" && ebgp || bad.onlyFor == "ebgp" && !ebgp {
					continue
				}
				want := bad.ibgp
				if ebgp {
					want = bad.ebgp
				}
				rest := slices.DeleteFunc(slices.Clone(good), func(a []byte) bool { return a[1] == bad.typ })
				for _, pos := range []int{0, len(rest) / 2, len(rest)} {
					cases++
					attrs := slices.Insert(slices.Clone(rest), pos, bad.raw)
					sentinel := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 60, byte(cases >> 8), byte(cases)}), 32).String()
					// With MED 1, the older route differs from the new one.
					r.write(upd(nil, cat(cat(good...), at(0x80, attrMED, 0, 0, 0, 1)), nlri(victim)))
					r.write(upd(nil, cat(attrs...), nlri(victim)))
					r.write(upd(nil, cat(good...), nlri(sentinel)))
					n.waitHops(sentinel, "10.0.0.9")
					routes := n.Routes(RouteFilter{View: ViewAccepted, Prefix: netip.MustParsePrefix(victim)})
					switch {
					case want == gone && len(routes) != 0:
						t.Errorf("%s at %d: the route is there: %+v", bad.name, pos, routes[0].Route)
					case want == lives && len(routes) != 1:
						t.Errorf("%s at %d: the route is gone", bad.name, pos)
					case want == lives && routes[0].HasMED:
						t.Errorf("%s at %d: the old route is still there", bad.name, pos)
					}
				}
			}
			if p := n.peer(r.addr); p.Established != 1 || p.State != "Established" {
				t.Errorf("needless reset: %+v", p)
			}
			t.Logf("%d cases", cases)
		})
	}
}

// The same for IPv6: errors that withdraw what MP_REACH_NLRI names.
func TestB01_RFC7606_MultiprotocolWithdraw(t *testing.T) {
	n, r := rawTarget(t, 64512, Options{})
	r.establish(n, 64512)
	base := cat(at(0x40, attrOrigin, 0), at(0x40, attrASPath), at(0x40, attrLocalPref, 0, 0, 0, 100))
	bad := map[string][]byte{
		"ORIGIN 9":                 cat(mpReach("fd99::9", "fd50::/64"), at(0x40, attrOrigin, 9), at(0x40, attrASPath), at(0x40, attrLocalPref, 0, 0, 0, 100)),
		"cut off after MP_REACH":   cat(mpReach("fd99::9", "fd50::/64"), base, []byte{0x40, attrCommunities, 200, 1}),
		"no LOCAL_PREF":            cat(mpReach("fd99::9", "fd50::/64"), at(0x40, attrOrigin, 0), at(0x40, attrASPath)),
		"next hop link-local":      cat(mpReach("fe80::9", "fd50::/64"), base),
		"next hop unspecified":     cat(mpReach("::", "fd50::/64"), base),
		"next hop multicast":       cat(mpReach("ff02::1", "fd50::/64"), base),
		"next hop mapped IPv4":     cat(mpReach("::ffff:10.0.0.9", "fd50::/64"), base),
		"next hop is us":           cat(mpReach(n.cfg.NextHop6.String(), "fd50::/64"), base),
		"next hop of 4 octets":     cat(at(0x80, attrMPReach, cat([]byte{0, 2, 1, 4, 10, 0, 0, 9, 0}, nlri("fd50::/64"))...), base),
		"flags of MP_REACH":        cat(func() []byte { b := mpReach("fd99::9", "fd50::/64"); b[0] = 0xc0; return b }(), base),
		"withdrawn and announced?": cat(at(0x80, attrMPUnreach, cat([]byte{0, 2, 1}, nlri("fd50::/64"))...)),
	}
	i := 0
	for name, attrs := range bad {
		i++
		sentinel := fmt.Sprintf("fd60:%x::/64", i)
		r.write(upd(nil, cat(mpReach("fd99::9", "fd50::/64"), base), nil))
		r.write(upd(nil, attrs, nil))
		r.write(upd(nil, cat(mpReach("fd99::9", sentinel), base), nil))
		n.waitHops(sentinel, "fd99::9")
		if got := n.hops("fd50::/64"); got != "" {
			t.Errorf("%s: the route is there via %s", name, got)
		}
	}
	// IPv4 with an IPv6 next hop that nobody asked for, and whose bits are those of
	// the IPv4 next hop before it.
	for _, nh := range []string{"fd99::9", "::ffff:10.0.0.9"} {
		a := netip.MustParseAddr(nh).As16()
		r.write(upd(nil, cat(at(0x80, attrMPReach, cat([]byte{0, 1, 1, 4, 10, 0, 0, 9, 0}, nlri("10.50.0.0/24", "10.60.0.0/24"))...), base), nil))
		n.waitHops("10.50.0.0/24", "10.0.0.9")
		r.write(upd(nil, cat(at(0x80, attrMPReach, cat([]byte{0, 1, 1, 16}, a[:], []byte{0}, nlri("10.50.0.0/24"))...), base), nil))
		n.waitHops("10.50.0.0/24", "")
		n.waitHops("10.60.0.0/24", "10.0.0.9")
	}
	if p := n.peer(r.addr); p.Established != 1 {
		t.Errorf("needless reset: %+v", p)
	}
}

// RFC 7606 section 5: where routes cannot be located, the session ends, with
// the code that is pinned here.
func TestB01_RFC7606_5_Unlocatable(t *testing.T) {
	good := cat(goodAttrs(false)...)
	for _, c := range []struct {
		name      string
		msg       []byte
		code, sub uint8
	}{
		{"prefix length 33", upd(nil, good, []byte{33, 10, 0, 0, 0, 0}), 3, 10},
		{"prefix cut off", upd(nil, good, []byte{24, 10, 0}), 3, 10},
		{"withdrawn prefix length 200", upd([]byte{200, 1}, nil, nil), 3, 10},
		{"withdrawn length beyond the message", appendHeader(nil, msgUpdate, []byte{0, 99, 0, 0}), 3, 1},
		{"attribute length beyond the message", appendHeader(nil, msgUpdate, []byte{0, 0, 0, 99}), 3, 1},
		{"IPv6 prefix length 129", upd(nil, cat(at(0x80, attrMPReach, cat([]byte{0, 2, 1, 16}, make([]byte, 17), []byte{129})...), good), nil), 3, 9},
		{"next hop length 7", upd(nil, cat(at(0x80, attrMPReach, cat([]byte{0, 2, 1, 7}, make([]byte, 40))...), good), nil), 3, 9},
		{"MP_REACH_NLRI of two octets", upd(nil, cat(at(0x80, attrMPReach, 0, 2), good), nil), 3, 9},
		{"MP_UNREACH_NLRI of two octets", upd(nil, cat(at(0x80, attrMPUnreach, 0, 2)), nil), 3, 9},
		{"MP_REACH_NLRI twice", upd(nil, cat(mpReach("fd99::9", "fd01::/64"), mpReach("fd99::9", "fd02::/64"), good), nil), 3, 1},
		{"attributes cut off before any NLRI", upd(nil, []byte{0x40, attrOrigin, 9, 0}, nil), 3, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, r := rawTarget(t, 64512, Options{})
			r.establish(n, 64512)
			r.write(c.msg)
			if code, sub := r.readNote(); code != c.code || sub != c.sub {
				t.Errorf("NOTIFICATION %d/%d, want %d/%d", code, sub, c.code, c.sub)
			}
			eventually(t, "session is down", func() bool { return n.peer(r.addr).State != "Established" })
		})
	}
}

// B18: next hops and prefixes that nobody may announce.
func TestB18_NextHopAndMartians(t *testing.T) {
	n, r := rawTarget(t, 65001, Options{})
	r.establish(n, 65001)
	base := cat(at(0x40, attrOrigin, 0), at(0x40, attrASPath, cat([]byte{segSequence, 1}, be32(65001))...))
	us := n.cfg.NextHop4.As4()
	r.write(upd(nil, cat(base, at(0x40, attrNextHop, us[:]...)), nlri("10.50.0.0/24")))
	r.write(upd(nil, cat(base, at(0x40, attrNextHop, 10, 0, 0, 9)), nlri("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "10.60.0.0/24")))
	r.write(upd(nil, cat(mpReach("fd99::9", "fe80::/10", "ff00::/8", "::1/128", "::ffff:10.0.0.0/104", "fd60::/64"), base), nil))
	n.waitHops("fd60::/64", "fd99::9")
	n.waitHops("10.60.0.0/24", "10.0.0.9")
	if n.fibSize() != 2 {
		t.Errorf("selected: %v", n.fib)
	}
	if p := n.peer(r.addr); p.Received != 11 || p.Accepted != 2 || p.Established != 1 {
		t.Errorf("%+v", p)
	}
}

// B20: loops are refused, and an identifier that is ours resets with 2/3.
func TestB20_Loops(t *testing.T) {
	n, r := rawTarget(t, 64512, Options{})
	r.establish(n, 64512)
	id := n.cfg.RouterID.As4()
	r.write(upd(nil, cat(cat(goodAttrs(false)...), at(0x80, attrOriginatorID, id[:]...)), nlri("10.50.0.0/24")))
	r.write(upd(nil, cat(at(0x40, attrOrigin, 0), at(0x40, attrASPath, cat([]byte{segSequence, 2}, be32(7), be32(64512))...),
		at(0x40, attrNextHop, 10, 0, 0, 9), at(0x40, attrLocalPref, 0, 0, 0, 1)), nlri("10.51.0.0/24")))
	r.write(upd(nil, cat(goodAttrs(false)...), nlri("10.60.0.0/24")))
	n.waitHops("10.60.0.0/24", "10.0.0.9")
	if n.fibSize() != 1 {
		t.Errorf("selected: %v", n.fib)
	}
	n2, r2 := rawTarget(t, 64512, Options{})
	r2.connect(n2)
	r2.write(rawOpen(64512, n2.cfg.RouterID))
	if code, sub := r2.readNote(); code != 2 || sub != 3 {
		t.Errorf("own identifier: NOTIFICATION %d/%d, want 2/3", code, sub)
	}
}
