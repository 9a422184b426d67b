// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// twinTold is what a peer has to be told of a path, in words: RFC 4271 section
// 9.2 and 5.1, RFC 4456 sections 6 and 8, RFC 1997. ok is false if it is nothing.
func twinTold(d *desk, to *deskPeer, prefix netip.Prefix, q *path) (text string, ok bool) {
	a := q.out.clone()
	var from *deskPeer
	for _, p := range d.peers {
		if q.peer != 0 && d.s.peers[p.cfg.Addr].slot == q.peer {
			from = p
		}
	}
	self := d.cfg.NextHop4
	if prefix.Addr().Is6() {
		self = d.cfg.NextHop6
	}
	inside := to.cfg.ASN == d.cfg.ASN
	fromInside := from != nil && from.cfg.ASN == d.cfg.ASN
	for _, c := range a.comms {
		if c == commNoAdvertise || c == commNoExport && !inside {
			return "", false
		}
	}
	if inside && fromInside {
		if !d.cfg.ClusterID.IsValid() || !from.cfg.Client && !to.cfg.Client {
			return "", false
		}
		if !a.hasOriginator {
			a.originator, a.hasOriginator = id32(from.open.id), true
		}
		a.clusters = append([]uint32{id32(d.cfg.ClusterID)}, a.clusters...)
	} else {
		a.nextHop = self
	}
	if inside {
		if !a.hasLocalPref {
			a.localPref, a.hasLocalPref = 100, true
		}
		return a.text(), true
	}
	if a.hasAS(to.cfg.ASN) {
		return "", false
	}
	a.hasLocalPref, a.hasMED, a.hasOriginator, a.clusters = false, false, false, nil
	a.path = []segment{{segSequence, append([]uint32{d.cfg.ASN}, a.flatPath()...)}}
	return a.text(), true
}

// RFC 4271 section 9.2, RFC 4456 and RFC 7911: what peers of all kinds have
// been told, after random announcements, withdrawals, lost sessions and changes
// of the configuration, against the rules in words.
func TestExport_AgainstTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			exportTwin(t, rand.New(rand.NewPCG(4456, seed)))
		})
	}
}

func exportTwin(t *testing.T, rng *rand.Rand) {
	cluster := netip.MustParseAddr("1.1.1.1")
	cfg := Config{ASN: 64512, RouterID: netip.MustParseAddr("10.0.0.1"), ClusterID: cluster,
		NextHop4: netip.MustParseAddr("10.0.0.1"), NextHop6: netip.MustParseAddr("fd00::1")}
	d := newDesk(t, cfg)
	for i := range 9 {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(11 + i)})
		pc := PeerConfig{Addr: netip.AddrPortFrom(addr, 179), ASN: 64512, Client: i%2 == 0, AddPathReceive: i%3 == 0}
		switch {
		case i >= 7:
			pc.ASN = uint32(65001 + i%2)
		case i < 3:
			pc.AddPathSend = []int{100, 100, 2}[i]
		}
		p := d.add(fmt.Sprint("p", i), pc, addr)
		p.open.enhanced = i%4 != 0
		p.open.hold = 0 // on a slow machine this takes longer than the customary time
		d.up(p)
	}
	prefixes := []netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.1.0.1/32"), netip.MustParsePrefix("fd01::/64"),
	}
	anAttrs := func(p *deskPeer, f family) *attrs {
		a := randomAttrs(rng, f)
		a.path, a.comms, a.ext, a.large = nil, nil, nil, nil
		a.hasAggregator, a.atomic = false, false
		a.localPref = 100 + rng.Uint32N(2)
		as := []uint32{65001 + rng.Uint32N(3), 65010}[:1+rng.IntN(2)]
		if p.cfg.ASN != 64512 {
			as[0] = p.cfg.ASN
			a.hasLocalPref, a.hasOriginator, a.clusters = false, false, nil
		}
		if rng.IntN(3) > 0 || p.cfg.ASN != 64512 {
			a.path = []segment{{segSequence, as}}
		}
		if rng.IntN(6) == 0 {
			a.comms = []uint32{commNoExport - rng.Uint32N(2) + 1}
		}
		return a
	}
	for step := range 4000 {
		p := d.peers[rng.IntN(len(d.peers))]
		prefix := prefixes[rng.IntN(len(prefixes))]
		ref := pathRef{prefix: prefix}
		if p.cfg.AddPathReceive {
			ref.id = rng.Uint32N(3)
		}
		what := ""
		switch k := rng.IntN(40); {
		case k < 20 && p.c != nil:
			what = p.name + " announces"
			d.says(p, anAttrs(p, familyOf(prefix.Addr())), ref)
		case k < 30 && p.c != nil:
			what = p.name + " withdraws"
			d.says(p, nil, ref)
		case k == 30 && p.c != nil:
			what = p.name + " down"
			d.down(p)
		case k <= 33 && p.c == nil:
			what = p.name + " up"
			d.up(p)
		case k == 34:
			what = "client"
			d.change(p, func(pc *PeerConfig) { pc.Client = !pc.Client && pc.ASN == 64512 })
		case k == 35:
			what = "cluster"
			cfg.ClusterID = cluster
			if rng.IntN(2) == 0 {
				cfg.ClusterID = netip.Addr{}
			}
			d.configure(cfg)
		case k == 37 && p.c != nil:
			what = p.name + " asks again" // and removes what it is not told (RFC 7313)
			d.sends(p, refreshMessage(familyOf(prefix.Addr()), refreshRequest))
		case k == 36:
			what = "originate"
			d.originate(Origination{Prefix: prefix, LocalPref: 7})
		default:
			what = "remove"
			d.s.Originate(nil, []netip.Prefix{prefix})
		}
		d.settle()
		for _, to := range d.peers {
			if to.c == nil {
				continue
			}
			d.heard(to)
			for _, prefix := range prefixes {
				checkTold(t, fmt.Sprintf("step %d (%s)", step, what), d, to, prefix)
			}
		}
	}
	for _, p := range d.peers {
		if p.c != nil {
			d.down(p)
		}
	}
	d.s.Originate(nil, prefixes)
	d.settle()
	if n := len(d.s.rib.attrs.sets); n != 0 || d.s.rib.table.Size() != 0 || len(d.s.groups) != 0 {
		t.Errorf("left over: %d attribute sets, %d prefixes, %d groups", n, d.s.rib.table.Size(), len(d.s.groups))
	}
}

// checkTold compares what a peer was told of a prefix with the twin.
func checkTold(t *testing.T, when string, d *desk, to *deskPeer, prefix netip.Prefix) {
	t.Helper()
	head, _ := d.s.rib.table.Get(prefix)
	var want []string
	for q := head; q != nil; q = q.next {
		if q.out == nil || to.cfg.AddPathSend == 0 && q.flags&pathBest == 0 {
			continue
		}
		if text, ok := twinTold(d, to, prefix, q); ok {
			want = append(want, text)
		}
	}
	var got []string
	for ref, a := range to.told {
		if ref.prefix == prefix {
			got = append(got, a.text())
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if limit := to.cfg.AddPathSend; limit > 0 && len(want) > limit {
		if len(got) != limit {
			t.Fatalf("%s: %s is told %d paths to %s, the limit is %d", when, to.name, len(got), prefix, limit)
		}
		for _, g := range got {
			if !slices.Contains(want, g) {
				t.Fatalf("%s: %s is told of %s: %s, which is none of\n%q", when, to.name, prefix, g, want)
			}
		}
		return
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %s is told of %s\n%q, want\n%q", when, to.name, prefix, got, want)
	}
}
