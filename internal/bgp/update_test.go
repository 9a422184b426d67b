// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// decodeAll decodes a stream of UPDATEs into what it says in the end.
func decodeAll(t testing.TB, stream []byte, d *decoder) (reach map[pathRef]string, withdrawn map[pathRef]bool) {
	t.Helper()
	reach, withdrawn = map[pathRef]string{}, map[pathRef]bool{}
	br, buf := bufio.NewReader(bytes.NewReader(stream)), make([]byte, maxMessage)
	for {
		typ, body, err := readMessage(br, buf)
		if err != nil {
			if br.Buffered() > 0 {
				t.Fatalf("broken frame: %v", err)
			}
			return reach, withdrawn
		}
		if typ != msgUpdate {
			t.Fatalf("message type %d", typ)
		}
		var u update
		if n := d.decode(body, &u); n != nil || u.problem != "" || u.dropped > 0 {
			t.Fatalf("our own UPDATE is refused: %v %q %d", n, u.problem, u.dropped)
		}
		for _, p := range u.withdrawn {
			withdrawn[p] = true
		}
		for _, p := range u.reach {
			reach[p] = string(u.attrs.appendKey(nil))
		}
		for _, p := range u.mpReach {
			reach[p] = string(u.mpAttrs.appendKey(nil))
		}
	}
}

// randomAttrs is a set for iBGP.
func randomAttrs(rng *rand.Rand, f family) *attrs {
	n := func(k int) int { return rng.IntN(k) }
	a := &attrs{origin: uint8(n(3)), hasLocalPref: true, localPref: rng.Uint32(), hasMED: n(2) == 0}
	if a.hasMED {
		a.med = rng.Uint32()
	}
	for range n(3) {
		s := segment{uint8(1 + n(2)), nil}
		for range 1 + n(4) {
			s.as = append(s.as, 1+rng.Uint32N(1<<uint(8+n(24))))
		}
		a.path = append(a.path, s)
	}
	for range n(3) * 40 {
		a.comms = append(a.comms, rng.Uint32())
	}
	for range n(2) * 30 {
		a.large = append(a.large, [3]uint32{rng.Uint32(), 2, 3})
		a.ext = append(a.ext, [8]byte{1, 2, byte(n(256))})
	}
	if n(3) == 0 {
		a.hasAggregator, a.aggrAS, a.aggrAddr, a.atomic = true, 1+rng.Uint32N(1<<20), [4]byte{1, 2, 3, 4}, true
	}
	if n(3) == 0 {
		a.hasOriginator, a.originator, a.clusters = true, rng.Uint32(), []uint32{1, 2}
	}
	if f == v4 {
		a.nextHop = netip.AddrFrom4([4]byte{10, 0, 0, byte(n(256))})
	} else {
		a.nextHop = netip.AddrFrom16([16]byte{0xfd, 15: byte(n(256))})
	}
	return a
}

func randomPrefix(rng *rand.Rand, f family) netip.Prefix {
	if f == v4 {
		b := [4]byte{byte(1 + rng.IntN(200)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256))}
		return netip.PrefixFrom(netip.AddrFrom4(b), rng.IntN(33)).Masked()
	}
	b := [16]byte{0x20, byte(rng.IntN(256)), byte(rng.IntN(256)), 15: byte(rng.IntN(256))}
	return netip.PrefixFrom(netip.AddrFrom16(b), rng.IntN(129)).Masked()
}

// RFC 4271 section 4.3, 4760, 6793, 7911: what the packer writes is read back equal by our decoder,
// and without complaint by the codec, to peers with and without four-octet AS
// numbers, with and without path identifiers.
func TestRFC4271_4_3_RoundTrip(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(4, 3))
	for round := range 200 {
		as4 := round%3 != 0
		addPath := familySet{round%2 == 0, round%5 == 0}
		p := packer{as4: as4, addPath: addPath}
		want, gone := map[pathRef]string{}, map[pathRef]bool{}
		var sets [numFamilies][]*attrs
		for range 1 + rng.IntN(700) {
			for f := range numFamilies {
				sets[f] = append(sets[f], randomAttrs(rng, f))
			}
		}
		for range rng.IntN(3000) {
			f := family(rng.IntN(2))
			ref := pathRef{prefix: randomPrefix(rng, f)}
			if addPath[f] {
				ref.id = rng.Uint32N(3)
			}
			if _, dup := want[ref]; dup || gone[ref] {
				continue
			}
			if rng.IntN(5) == 0 {
				gone[ref] = true
				p.add(ref, nil)
				continue
			}
			a := sets[f][rng.IntN(len(sets[f]))]
			want[ref] = string(a.appendKey(nil))
			p.add(ref, a)
		}
		var stream []byte
		msgs := 0
		for _, c := range p.finish() {
			stream = append(stream, c.b...)
			msgs += c.msgs
		}
		reach, withdrawn := decodeAll(t, stream, &decoder{as4: as4, addPath: addPath})
		if len(reach) != len(want) || len(withdrawn) != len(gone) {
			t.Fatalf("round %d: %d announced, %d withdrawn; want %d, %d", round, len(reach), len(withdrawn), len(want), len(gone))
		}
		for ref, key := range want {
			if reach[ref] != key {
				t.Fatalf("round %d: %v: %x, want %x", round, ref, reach[ref], key)
			}
		}
		opt := &wire.MarshallingOption{AddPath: map[wire.Family]wire.BGPAddPathMode{}}
		for f := range numFamilies {
			if addPath[f] {
				opt.AddPath[f.wire()] = wire.BGP_ADD_PATH_BOTH
			}
		}
		for rest := stream; len(rest) > 0; msgs-- {
			l := int(rest[16])<<8 + int(rest[17])
			if l > maxMessage {
				t.Fatalf("message of %d octets", l)
			}
			m, err := wire.ParseBGPMessage(rest[:l], opt)
			if err != nil && as4 {
				t.Fatalf("round %d: the codec refuses our UPDATE: %v", round, err)
			}
			if as4 && m.Header.Type != msgUpdate {
				t.Fatal("no UPDATE")
			}
			rest = rest[l:]
		}
		if msgs != 0 {
			t.Fatalf("messages are miscounted by %d", msgs)
		}
	}
}

// RFC 6793 section 4.2.3: an old peer's path is rebuilt from AS4_PATH.
func TestRFC6793_4_2_3_OldPeer(t *testing.T) {
	n, r := rawTarget(t, 65001, Options{})
	r.connect(n)
	open, err := wire.NewBGPOpenMessage(65001, 9, r.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := open.Serialize()
	r.write(b)
	r.write(keepaliveMessage())
	n.waitUp(r.addr)
	two := func(as ...uint16) []byte {
		v := []byte{segSequence, byte(len(as))}
		for _, a := range as {
			v = append(v, byte(a>>8), byte(a))
		}
		return v
	}
	r.write(upd(nil, cat(at(0x40, attrOrigin, 0), at(0x40, attrASPath, two(65001, asTrans, 7)...), at(0x40, attrNextHop, 10, 0, 0, 9),
		at(0xc0, attrAS4Path, cat([]byte{segSequence, 2}, be32(4200000001), be32(7))...)), nlri("10.60.0.0/24")))
	n.waitHops("10.60.0.0/24", "10.0.0.9")
	got := n.Routes(RouteFilter{Prefix: netip.MustParsePrefix("10.60.0.0/24")})
	if want := []uint32{65001, 4200000001, 7}; !slices.Equal(got[0].ASPath, want) {
		t.Errorf("path %v, want %v", got[0].ASPath, want)
	}
	if p := n.peer(r.addr); !slices.Equal(p.Families, []string{"ipv4-unicast"}) || p.GracefulRestart {
		t.Errorf("%+v", p)
	}
	// Without graceful restart, the loss of TCP withdraws.
	_ = r.nc.Close()
	n.waitHops("10.60.0.0/24", "")
}

// RFC 2918: a refresh repeats the table.
func TestRFC2918_RouteRefresh(t *testing.T) {
	n, r := rawTarget(t, 64512, Options{})
	n.originate("10.1.0.0/26", "fd00:1::/122")
	r.establish(n, 64512)
	count := func() (v4s, v6s int) {
		for v4s+v6s < 1 {
			typ, body := r.read()
			if typ == 0 {
				t.Fatal("connection ended")
			}
			var u update
			if (&decoder{as4: true}).decode(body, &u) == nil {
				v4s += len(u.reach)
				v6s += len(u.mpReach)
			}
		}
		return
	}
	a4, a6 := count()
	b4, b6 := count()
	if a4+b4 != 1 || a6+b6 != 1 {
		t.Fatalf("first: %d %d %d %d", a4, a6, b4, b6)
	}
	r.write(appendHeader(nil, msgRefresh, []byte{0, 2, 0, 1}))
	if c4, c6 := count(); c4 != 0 || c6 != 1 {
		t.Errorf("after a refresh of IPv6: %d IPv4, %d IPv6", c4, c6)
	}
	// An unknown family is ignored.
	r.write(appendHeader(nil, msgRefresh, []byte{0, 25, 0, 70}))
	r.write(appendHeader(nil, msgRefresh, []byte{0, 1, 0, 1}))
	if c4, _ := count(); c4 != 1 {
		t.Error("no answer to the refresh of IPv4")
	}
}

// Who replaces a prefix by longer ones is not without a route in between:
// what is withdrawn in a batch leaves after all that is announced.
func TestWithdrawalsGoLast(t *testing.T) {
	var r rib
	a := r.attrs.intern(&attrs{hasLocalPref: true, nextHop: netip.MustParseAddr("10.0.0.1")})
	b := r.attrs.intern(&attrs{hasLocalPref: true, nextHop: netip.MustParseAddr("fd00::1")})
	for run := range 50 {
		pack, d := packer{as4: true}, decoder{as4: true}
		for _, p := range []string{"10.1.0.0/26", "fd00:1::/122"} {
			pack.add(pathRef{prefix: netip.MustParsePrefix(p)}, nil)
		}
		want := 2
		for n := range uint32(maxBuckets * (run % 2)) { // more sets than are filled at a time
			more := r.attrs.intern(&attrs{hasLocalPref: true, localPref: n + 1, nextHop: netip.MustParseAddr("10.0.0.1")})
			pack.add(pathRef{prefix: netip.PrefixFrom(addr4(0x0a020000+n), 32)}, more)
			want++
		}
		pack.add(pathRef{prefix: netip.MustParsePrefix("10.1.0.1/32")}, a)
		pack.add(pathRef{prefix: netip.MustParsePrefix("fd00:1::1/128")}, b)
		var stream []byte
		for _, c := range pack.finish() {
			stream = append(stream, c.b...)
		}
		br, buf := bufio.NewReader(bytes.NewReader(stream)), make([]byte, maxMessage)
		reached, withdrawn := 0, 0
		for {
			_, body, err := readMessage(br, buf)
			if err != nil {
				break
			}
			var u update
			if n := d.decode(body, &u); n != nil {
				t.Fatal(n)
			}
			reached, withdrawn = reached+len(u.reach)+len(u.mpReach), withdrawn+len(u.withdrawn)
			if withdrawn > 0 && reached < want {
				t.Fatal("something is withdrawn before all is announced")
			}
		}
		if reached != want || withdrawn != 2 {
			t.Fatalf("%d announced and %d withdrawn, want %d and 2", reached, withdrawn, want)
		}
	}
}

// What is remembered of one message serves the next one only if that has the
// same next hop in the same place: the one in an MP_REACH_NLRI without routes is
// not that of the NLRI field, which has to have its own (RFC 7606 section 3 d).
func TestB01_NextHopOfTheOtherField(t *testing.T) {
	d := sender{as4: true}.decoder()
	mp := func(routes ...string) []byte {
		return at(flagOptional, attrMPReach, append([]byte{0, 1, 1, 4, 10, 9, 9, 9, 0}, nlri(routes...)...)...)
	}
	base := cat(at(0x40, attrOrigin, 0), at(0x40, attrASPath), at(0x40, attrLocalPref, 0, 0, 0, 100))
	own := at(0x40, attrNextHop, 10, 0, 0, 9)
	for _, c := range []struct {
		name string
		msg  []byte
		want string // next hop; empty: treated as withdrawal
	}{
		{"in MP_REACH_NLRI", upd(nil, cat(mp("10.1.0.0/16"), base), nil), "10.9.9.9"},
		{"none for the NLRI field", upd(nil, cat(mp(), base), nlri("10.2.0.0/16")), ""},
		{"both, in MP_REACH_NLRI", upd(nil, cat(mp("10.1.0.0/16"), base, own), nil), "10.9.9.9"},
		{"both, in the NLRI field", upd(nil, cat(mp(), base, own), nlri("10.2.0.0/16")), "10.0.0.9"},
		{"both, in MP_REACH_NLRI again", upd(nil, cat(mp("10.1.0.0/16"), base, own), nil), "10.9.9.9"},
	} {
		var u update
		if n := d.decode(c.msg[headerLen:], &u); n != nil {
			t.Fatalf("%s: %v", c.name, n)
		}
		got := ""
		switch {
		case u.attrs != nil:
			got = u.attrs.nextHop.String()
		case u.mpAttrs != nil:
			got = u.mpAttrs.nextHop.String()
		}
		if got != c.want || u.treated != (c.want == "") {
			t.Errorf("%s: next hop %q, want %q; %+v", c.name, got, c.want, u)
		}
	}
}
