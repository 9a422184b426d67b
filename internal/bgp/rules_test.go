// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// Rules decide as a speaker does: what it made of random routes on sessions of all kinds, against
// what Rules say of the same routes.
func TestRules_AgainstSpeaker(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(4271, seed))
		cfg := Config{ASN: 64512, RouterID: netip.MustParseAddr("10.0.0.1"),
			NextHop4: netip.MustParseAddr("10.0.0.1"), NextHop6: netip.MustParseAddr("fd00::1")}
		if rng.IntN(2) == 0 {
			cfg.ClusterID = netip.MustParseAddr("1.1.1.1")
		}
		d := newDesk(t, cfg)
		var ids []netip.Addr
		pref := &Edit{SetLocalPref: true, LocalPref: 90}
		for i := range 7 {
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(11 + i)})
			pc := PeerConfig{Addr: netip.AddrPortFrom(addr, 179), ASN: 64512, Client: rng.IntN(2) == 0,
				NextHopMode: NextHopMode(rng.IntN(4)), AllowLocalAS: uint8(rng.IntN(2)), ExportID: "all", ImportID: "all"}
			if i >= 3 {
				pc.ASN, pc.Role = uint32(65001+i%3), Role(rng.IntN(6))
				pc.Rewrite.ASOverride, pc.Rewrite.RemovePrivateAS = rng.IntN(3) == 0, rng.IntN(3) == 0
				pc.Rewrite.Shared4 = netip.MustParsePrefix("10.0.0.0/24")
			}
			if rng.IntN(3) == 0 {
				pc.Import = func(r *Route) Verdict {
					if r.Prefix.Bits() == 24 {
						return Verdict{Refused: RefusedFilter, Detail: "too short"}
					}
					return Verdict{Edit: pref}
				}
			}
			p := d.add(addr.String(), pc, addr)
			p.open.hold = 0
			p.open.role, p.open.roles = pc.Role.Opposite(), min(1, int(pc.Role))
			d.up(p)
			ids = append(ids, addr)
		}
		prefixes := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.1.0.1/32"), netip.MustParsePrefix("fd01::/64")}
		for range 60 {
			p, prefix := d.peers[rng.IntN(len(d.peers))], prefixes[rng.IntN(len(prefixes))]
			a := randomAttrs(rng, familyOf(prefix.Addr()))
			as := []uint32{65001 + rng.Uint32N(4), []uint32{64512, 65010}[rng.IntN(2)]}
			if p.cfg.ASN != 64512 {
				as[0] = p.cfg.ASN
				a.hasLocalPref, a.hasOriginator, a.clusters = false, false, nil
			}
			a.path, a.unknown = []segment{{segSequence, as}}, nil
			d.says(p, a, pathRef{prefix: prefix})
			if rng.IntN(20) == 0 {
				d.originate(Origination{Prefix: prefix})
			}
		}
		c := d.cfg
		c.Peers = nil
		for _, p := range d.peers {
			c.Peers = append(c.Peers, p.cfg)
		}
		rules := NewRules(c, ids)
		for _, to := range d.peers {
			d.heard(to)
		}
		for _, prefix := range prefixes {
			checkRules(t, seed, d, rules, prefix)
		}
	}
}

func checkRules(t *testing.T, seed uint64, d *desk, rules *Rules, prefix netip.Prefix) {
	t.Helper()
	peerOf := func(slot uint16) int {
		return slices.IndexFunc(d.peers, func(p *deskPeer) bool { return d.s.peers[p.cfg.Addr].slot == slot })
	}
	head, _ := d.s.rib.table.Get(prefix)
	var list []Candidate
	var chosen []*path
	for q := head; q != nil; q = q.next {
		if q.peer == 0 {
			list, chosen = append(list, Candidate{Peer: Own, Attributes: Attributes{q.out}}), append(chosen, q)
			continue
		}
		out, v := rules.Import(peerOf(q.peer), prefix, Attributes{q.in})
		if out.Key() != (Attributes{q.out}).Key() || v.Refused != q.why {
			t.Errorf("seed %d: %s from %s: %s, the speaker says %s", seed, prefix, d.peers[peerOf(q.peer)].name, v.Refused, q.why)
		}
		if out.Valid() {
			list, chosen = append(list, Candidate{Peer: peerOf(q.peer), Attributes: out}), append(chosen, q)
		}
	}
	best, equal := rules.Select(list, nil)
	for i, q := range chosen {
		if (i == best) != (q.flags&pathBest != 0) || equal[i] != (q.flags&pathMulti != 0) {
			t.Errorf("seed %d: %s: path %d of %d: best %t equal %t, the speaker has flags %b", seed, prefix, i, len(list), i == best, equal[i], q.flags)
		}
	}
	for k, to := range d.peers {
		if to.c == nil {
			t.Fatalf("seed %d: %s is down", seed, to.name)
		}
		want := ""
		if a := to.told[pathRef{prefix: prefix}]; a != nil {
			want = a.text()
		}
		got := ""
		if best >= 0 && !rules.Loops(k, list[best]) {
			if a, _ := rules.Export(k, prefix, list[best]); a.Valid() {
				got = a.set.text()
			}
		}
		if got != want {
			t.Errorf("seed %d: %s is told of %s\n%q, by the speaker\n%q", seed, to.name, prefix, got, want)
		}
	}
}
