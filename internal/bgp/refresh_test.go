// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// said is what the twin knows of a path.
type said struct {
	med        uint32
	stale, due bool
}

// RFC 7313 section 4 beside RFC 4724 section 4.2, against the rules in words: what a peer
// said, says again or no more, over breaks of its session and changes of policy. Every other one
// of them hardly ever ends what it begins.
func TestRFC7313_AgainstTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			refreshTwin(t, rand.New(rand.NewPCG(7313, seed)), seed%2 == 1)
		})
	}
}

func refreshTwin(t *testing.T, rng *rand.Rand, endless bool) {
	d := newDesk(t, Config{ASN: 64512, RouterID: netip.MustParseAddr("10.0.0.1"),
		NextHop4: netip.MustParseAddr("10.0.0.1"), NextHop6: netip.MustParseAddr("fd00::1")})
	join := func(name, addr string, addPath bool) *deskPeer {
		a := netip.MustParseAddr(addr)
		p := d.add(name, PeerConfig{Addr: netip.AddrPortFrom(a, 179), ASN: 64512, AddPathReceive: addPath}, a)
		p.open.hold = 0
		both := familySet{true, true}
		p.open.gr, p.open.grTime, p.open.grFamilies, p.open.grForward, p.open.enhanced = true, time.Hour, both, both, true
		d.up(p)
		return p
	}
	p, other := join("p", "10.0.0.2", rng.IntN(2) == 0), join("other", "10.0.0.3", false)
	q := d.s.peers[p.cfg.Addr]
	refs := []pathRef{}
	for _, prefix := range []string{"10.1.0.0/24", "10.1.0.1/32", "10.2.0.0/16", "fd01::/64", "fd01::1/128", "fd02::/32"} {
		for id := range uint32(2) {
			if id == 0 || p.cfg.AddPathReceive {
				refs = append(refs, pathRef{netip.MustParsePrefix(prefix), id})
			}
		}
	}
	attrsOf := func(p *deskPeer, ref pathRef, med uint32) *attrs {
		a := &attrs{nextHop: p.cfg.Addr.Addr(), localPref: 100, hasLocalPref: true, med: med, hasMED: true}
		if ref.prefix.Addr().Is6() {
			a.nextHop = netip.MustParseAddr("fd00::9")
		}
		return a
	}
	twin := map[pathRef]said{}
	drop := func(gone func(pathRef, said) bool) { maps.DeleteFunc(twin, gone) }
	var ended familySet
	policies := 0
	for step := range 6000 {
		ref, f := refs[rng.IntN(len(refs))], family(rng.IntN(2))
		of := func(r pathRef) bool { return familyOf(r.prefix.Addr()) == f }
		what := ""
		k := rng.IntN(60)
		if endless && (k >= 35 && k < 40 || k == 44 || k == 45) && rng.IntN(100) > 0 {
			k = 0
		}
		switch {
		case k >= 50:
			what = "another's"
			ref.id = 0
			if rng.IntN(2) == 0 {
				d.says(other, attrsOf(other, ref, rng.Uint32N(3)), ref)
			} else {
				d.says(other, nil, ref)
			}
		case k == 49:
			what = "policy" // which refuses some, and none of the twin's business
			policies++
			limit := rng.Uint32N(4)
			d.change(p, func(pc *PeerConfig) {
				pc.ImportID = fmt.Sprint(policies)
				pc.Import = func(r *Route) Verdict {
					if r.MED >= limit {
						return Verdict{Refused: RefusedFilter}
					}
					return Verdict{}
				}
			})
		case p.c == nil && k < 25:
			what = "up"
			d.up(p)
			ended = familySet{}
		case p.c == nil && k == 25:
			what = "gone too long"
			d.s.sweepAll(q)
			drop(func(_ pathRef, s said) bool { return s.stale })
		case p.c == nil:
			continue
		case k < 20:
			what = "announces"
			med := rng.Uint32N(4)
			d.says(p, attrsOf(p, ref, med), ref)
			twin[ref] = said{med: med}
		case k < 28:
			what = "withdraws"
			d.says(p, nil, ref)
			delete(twin, ref)
		case k < 35:
			what = "BoRR"
			d.sends(p, refreshMessage(f, refreshBegin))
			for r, s := range twin {
				if of(r) && ended[f] { // not before End-of-RIB
					s.due = true
					twin[r] = s
				}
			}
		case k < 39:
			what = "EoRR"
			d.sends(p, refreshMessage(f, refreshEnd))
			drop(func(r pathRef, s said) bool { return of(r) && s.due })
		case k == 39 && q.refreshBound[f].armed():
			what = "no EoRR in time"
			d.s.endRefresh(q, f)
			drop(func(r pathRef, s said) bool { return of(r) && s.due })
		case k < 44:
			what = "End-of-RIB"
			d.sends(p, endOfRIBMessage(f))
			ended[f] = true
			drop(func(r pathRef, s said) bool { return of(r) && s.stale })
		case k == 44:
			what = "the connection breaks"
			d.down(p)
			drop(func(_ pathRef, s said) bool { return s.stale }) // a second time
			for r, s := range twin {
				twin[r] = said{med: s.med, stale: true}
			}
		case k == 45 && rng.IntN(4) == 0:
			what = "the session ends"
			d.sends(p, (&notification{code: codeCease, sub: ceaseShutdown}).marshal())
			p.c = nil
			clear(twin)
		case k == 46:
			what = "a soft reset"
			d.s.reset(p.cfg.Addr.Addr(), ResetIn, "")
		}
		d.settle()
		d.heard(other)
		have := map[pathRef]said{}
		var due, stale int
		for prefix, head := range d.s.rib.table.All() {
			for x := head; x != nil; x = x.next {
				if x.peer == q.slot {
					have[pathRef{prefix, x.id}] = said{x.in.med, x.flags&pathStale != 0, d.s.rib.sources[q.slot].isDue(x, familyOf(prefix.Addr()))}
				}
			}
		}
		for _, s := range twin {
			if s.due {
				due++
			}
			if s.stale {
				stale++
			}
		}
		if !maps.Equal(have, twin) {
			t.Fatalf("step %d (%s %s %s): has\n%v, want\n%v", step, what, ref.prefix, f, have, twin)
		}
		shown := q.detail().Family
		four, six := shown[v4.String()], shown[v6.String()]
		if four.Due+six.Due != due || four.Stale+six.Stale != stale || due > 0 && !four.Repeating && !six.Repeating {
			t.Fatalf("step %d (%s): shows %+v and %+v, want %d due, %d stale", step, what, four, six, due, stale)
		}
	}
}

// Generations come round: whoever begins a hundred times without an end, and says something
// between, keeps for EoRR what it has not said since the last of them, whenever it was said first.
func TestRFC7313_GenerationsComeRound(t *testing.T) {
	prefix := func(f family, i int) netip.Prefix {
		if f == v4 {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), 32)
		}
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)}), 128)
	}
	for f := range numFamilies {
		r := rib{sources: []*source{{}, {}, {}}}
		say := func(peer uint16, i int) {
			a := r.attrs.intern(&attrs{nextHop: netip.MustParseAddr("10.0.0.9")})
			a.refs++
			r.set(pathRef{prefix: prefix(f, i)}, peer, a, a, Accepted)
		}
		const paths = 50
		for i := range paths {
			say(1, i)
			if i%2 == 0 {
				say(2, i) // so that some are lists
			}
		}
		for round := range 100 {
			r.markDue(1, f)
			if got := r.sources[1].due[f]; got != paths {
				t.Fatalf("%v, round %d: %d paths are due, want all", f, round, got)
			}
			say(1, round%7)
			due := 0
			for p, head := range r.table.All() {
				for x := head; x != nil; x = x.next {
					if is, want := r.sources[x.peer].isDue(x, f), x.peer == 1 && p != prefix(f, round%7); is != want {
						t.Fatalf("%v, round %d: %s from %d is due: %t", f, round, p, x.peer, is)
					} else if is {
						due++
					}
				}
			}
			if got := r.sources[1].due[f]; got != due || r.sources[2].due[f] != 0 {
				t.Fatalf("%v, round %d: %d are counted as due, and %d are", f, round, got, due)
			}
		}
	}
}

// RFC 7313 section 4, the sender: between BoRR and EoRR is the whole table as it was at
// the beginning, whatever changes meanwhile, also when the peer reads slowly; what it has in the
// end is what is advertised.
func TestRFC7313_Sender(t *testing.T) {
	t.Parallel()
	n, r := rawTarget(t, 64512, Options{})
	const size = 60_000 // more than the queue takes
	prefix := func(i int) netip.Prefix {
		if i%2 == 0 {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		}
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}), 128)
	}
	var all []Origination
	for i := range size {
		all = append(all, Origination{Prefix: prefix(i)})
	}
	n.Originate(all, nil)
	r.establish(n, 64512)
	told, between := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
	var begun, over familySet
	step := func() {
		typ, body := r.read()
		switch typ {
		case 0:
			t.Fatal("the connection ended")
		case msgRefresh:
			m := decodeRefresh(body)
			f, _ := familyFrom(m.afi, m.safi)
			switch {
			case m.subtype == refreshBegin && !begun[f]:
				begun[f] = true
			case m.subtype == refreshEnd && begun[f] && !over[f]:
				over[f] = true
			default:
				t.Fatalf("subtype %d after %v, %v", m.subtype, begun, over)
			}
		case msgUpdate:
			var u update
			if note := (&decoder{as4: true}).decode(body, &u); note != nil {
				t.Fatal(note)
			}
			for _, ref := range slices.Concat(u.reach, u.mpReach) {
				told[ref.prefix] = true
				if f := familyOf(ref.prefix.Addr()); begun[f] && !over[f] {
					between[ref.prefix] = true
				}
			}
			for _, ref := range u.withdrawn {
				delete(told, ref.prefix)
			}
		}
	}
	for len(told) < size {
		step()
	}
	r.write(refreshMessage(v4, refreshRequest))
	r.write(refreshMessage(v6, refreshRequest))
	eventually(t, "it answers", func() bool { return n.peer(r.addr).Messages.Sent["route-refresh"] > 0 })
	// It is in the middle of the table, because nobody reads; what changes now comes after.
	n.Originate([]Origination{{Prefix: prefix(size)}, {Prefix: prefix(size + 1)}}, []netip.Prefix{prefix(0), prefix(1)})
	for over != (familySet{true, true}) {
		step()
	}
	if len(between) != size {
		t.Errorf("%d routes between the markers, want %d", len(between), size)
	}
	for !told[prefix(size)] || !told[prefix(size+1)] || told[prefix(0)] || told[prefix(1)] {
		step()
	}
	if len(told) != size {
		t.Errorf("it has %d routes in the end, want %d", len(told), size)
	}
}

// RFC 7313 section 5: from a peer with the capability, a ROUTE-REFRESH of wrong
// length is answered with the error of its own, and with the message.
func TestRFC7313_5_WrongLength(t *testing.T) {
	for _, body := range [][]byte{{}, {0, 1, 1}, {0, 1, 1, 1, 0}, bytes.Repeat([]byte{7}, maxMessage-headerLen)} {
		n, r := rawTarget(t, 64512, Options{})
		r.establish(n, 64512)
		msg := appendHeader(nil, msgRefresh, body)
		r.write(msg)
		typ, note := r.read()
		for typ == msgUpdate {
			typ, note = r.read()
		}
		want := msg[:min(len(msg), maxMessage-headerLen-2)] // what a NOTIFICATION has room for
		if typ != msgNotification || note[0] != 7 || note[1] != 1 || !bytes.Equal(note[2:], want) {
			t.Errorf("length %d: message of type %d, %x", len(msg), typ, note)
		}
	}
}

// RFC 2918 section 3: without the capability the octet between AFI and SAFI is
// reserved, and means nothing.
func TestRFC2918_ReservedOctet(t *testing.T) {
	d := newDesk(t, Config{ASN: 64512, RouterID: netip.MustParseAddr("10.0.0.1"), NextHop4: netip.MustParseAddr("10.0.0.1")})
	a := netip.MustParseAddr("10.0.0.2")
	p := d.add("p", PeerConfig{Addr: netip.AddrPortFrom(a, 179), ASN: 64512}, a)
	d.up(p)
	d.originate(Origination{Prefix: netip.MustParsePrefix("10.1.0.0/24")})
	d.heard(p)
	for _, subtype := range []uint8{refreshRequest, refreshBegin, refreshEnd, 9} {
		d.sends(p, refreshMessage(v4, subtype))
		if got := d.heard(p); len(got) != 1 {
			t.Errorf("subtype %d: %q", subtype, got)
		}
	}
}
