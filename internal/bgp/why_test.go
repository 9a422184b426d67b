// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Reasons of Why that no story tells: of paths that are refused, of those that lose at the
// very last steps, and of peers that are not told. Each is said of the path or
// peer that it is about, and of no other.
func TestWhy_Reasons(t *testing.T) {
	t.Parallel()
	us, cluster := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("1.1.1.1")
	v4p, v6p := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")
	from := func(hop string) *attrs {
		return &attrs{nextHop: netip.MustParseAddr(hop), localPref: 100, hasLocalPref: true}
	}
	for _, c := range []struct {
		name   string
		set    func(cfg *Config, a, b *PeerConfig, openB *openMessage)
		do     func(d *desk, a *deskPeer)
		prefix netip.Prefix
		want   string // "refused: …", "lost: STEP", "b is not told: …"
	}{
		{"multicast next hop", nil, func(d *desk, a *deskPeer) { d.says(a, from("224.0.0.9"), pathRef{prefix: v4p}) }, v4p,
			"refused: next hop 224.0.0.9 is not a usable address"},
		{"multicast next hop, IPv6", nil, func(d *desk, a *deskPeer) { d.says(a, from("ff02::9"), pathRef{prefix: v6p}) }, v6p,
			"refused: next hop ff02::9 is not a usable address"},
		{"a next hop of the other family", nil, func(d *desk, a *deskPeer) { d.says(a, from("fd00::9"), pathRef{prefix: v4p}) }, v4p,
			"refused: next hop fd00::9 is of the other family"},
		{"somebody else's link-local next hop", nil, func(d *desk, a *deskPeer) { d.says(a, from("fe80::9"), pathRef{prefix: v6p}) }, v6p,
			"refused: next hop fe80::9 is link-local, and not the peer's own"},
		{"two paths of a session, RFC 7911", func(_ *Config, a, _ *PeerConfig, _ *openMessage) { a.AddPathReceive = true },
			func(d *desk, a *deskPeer) {
				d.says(a, from("10.0.0.9"), pathRef{prefix: v4p, id: 7}, pathRef{prefix: v4p, id: 3})
			}, v4p, "lost: path identifier 7 to 3"},
		{"two sessions to one address", func(_ *Config, a, b *PeerConfig, _ *openMessage) {
			b.Addr = netip.AddrPortFrom(a.Addr.Addr(), 1179)
		}, func(d *desk, a *deskPeer) {
			d.says(d.peer("b"), from("10.0.0.9"), pathRef{prefix: v4p})
			d.says(a, from("10.0.0.9"), pathRef{prefix: v4p})
		}, v4p, "lost: peer number 2 to 1"},
		{"a session with one family", func(_ *Config, _, _ *PeerConfig, open *openMessage) { open.families = familySet{v4: true} },
			func(d *desk, _ *deskPeer) { d.originate(Origination{Prefix: v6p}) }, v6p, "b is not told: the session does not carry the family"},
		{"link-local prefixes", nil, func(d *desk, _ *deskPeer) {
			d.originate(Origination{Prefix: netip.MustParsePrefix("169.254.1.0/24")})
		}, netip.MustParsePrefix("169.254.1.0/24"), "b is not told: the prefix is not routable"},
		{"link-local prefixes, IPv6", nil, func(d *desk, _ *deskPeer) {
			d.originate(Origination{Prefix: netip.MustParsePrefix("fe80::/64")})
		}, netip.MustParsePrefix("fe80::/64"), "b is not told: the prefix is not routable"},
		{"no client of the reflector", func(cfg *Config, _, _ *PeerConfig, _ *openMessage) { cfg.ClusterID = cluster },
			func(d *desk, a *deskPeer) { d.says(a, from("10.0.0.9"), pathRef{prefix: v4p}) }, v4p,
			"b is not told: learned over iBGP, and neither its peer nor this one is a client (RFC 4456 section 6)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{ASN: 64512, RouterID: us, NextHop4: us, NextHop6: netip.MustParseAddr("fd00::1")}
			pa := PeerConfig{Addr: netip.MustParseAddrPort("10.0.0.2:179"), ASN: 64512}
			pb := PeerConfig{Addr: netip.MustParseAddrPort("10.0.0.3:179"), ASN: 64512}
			openB := openMessage{families: familySet{true, true}}
			if c.set != nil {
				c.set(&cfg, &pa, &pb, &openB)
			}
			d := newDesk(t, cfg)
			a, b := d.add("a", pa, netip.MustParseAddr("10.0.0.2")), d.add("b", pb, netip.MustParseAddr("10.0.0.2"))
			b.open.families = openB.families
			d.up(a)
			d.up(b)
			c.do(d, a)
			w := d.s.explain(c.prefix)[0]
			var said []string
			for _, p := range w.Paths {
				switch {
				case p.Lost != nil:
					said = append(said, "lost: "+p.Lost.Step+" "+p.Lost.Value+" to "+p.Lost.To)
				case !p.Accepted:
					said = append(said, "refused: "+p.Reason)
				}
			}
			for _, p := range w.Peers {
				if p.NotTold != "" {
					said = append(said, p.Name+" is not told: "+p.NotTold)
				}
			}
			if !slices.Contains(said, c.want) {
				t.Errorf("Why of %s says\n%s\nwant %s", c.prefix, strings.Join(said, "\n"), c.want)
			}
			if strings.HasPrefix(c.want, "refused") && slices.ContainsFunc(w.Paths, func(p WhyPath) bool { return p.Best }) {
				t.Errorf("there is a best path all the same")
			}
		})
	}
}
