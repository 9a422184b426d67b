// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var allRoles = []Role{RoleProvider, RoleRouteServer, RoleRouteServerClient, RoleCustomer, RolePeer}

// RFC 9234 section 4.2: every role against every other, one that does not exist,
// none and several, strict and not.
func TestRFC9234_4_2_Mismatch(t *testing.T) {
	fits := map[[2]Role]bool{
		{RoleProvider, RoleCustomer}: true, {RoleCustomer, RoleProvider}: true, {RolePeer, RolePeer}: true,
		{RoleRouteServer, RoleRouteServerClient}: true, {RoleRouteServerClient, RoleRouteServer}: true,
	}
	for _, ours := range allRoles {
		for _, strict := range []bool{false, true} {
			p := &peer{ebgp: true, cfg: PeerConfig{Role: ours, RoleStrict: strict}}
			for v := range 256 {
				theirs := roleFrom(uint8(v))
				n := p.mismatch(openOf(t, theirs))
				if (n == nil) != fits[[2]Role{ours, theirs}] {
					t.Errorf("%s with %s, strict %v: %v", ours, theirs, strict, n)
				}
				if n != nil && (n.code != codeOpen || n.sub != 11) {
					t.Errorf("%s with %s: %v", ours, theirs, n)
				}
			}
			if n := p.mismatch(openOf(t)); (n != nil) != strict {
				t.Errorf("%s without another, strict %v: %v", ours, strict, n)
			}
			if n := p.mismatch(openOf(t, ours.Opposite(), ours.Opposite())); n != nil {
				t.Errorf("%s with the same one twice: %v", ours, n)
			}
			if n := p.mismatch(openOf(t, RoleProvider, RoleCustomer)); n == nil {
				t.Errorf("%s with two different ones is taken", ours)
			}
		}
	}
	for _, p := range []*peer{{ebgp: true}, {cfg: PeerConfig{Role: RolePeer, RoleStrict: true}}} {
		if n := p.mismatch(openOf(t, RoleProvider)); n != nil || p.role() != 0 {
			t.Errorf("without a role, or over iBGP: %v", n)
		}
	}
}

// openOf is a decoded OPEN with these roles.
func openOf(t *testing.T, roles ...Role) *openMessage {
	t.Helper()
	var body []byte
	for _, r := range roles {
		b, err := openParams{asn: 65001, id: netip.MustParseAddr("10.0.0.1"), role: r}.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if body == nil {
			body = b[headerLen:]
			continue
		}
		more := b[headerLen+10:]
		body = append(body, more...)
		body[9] += uint8(len(more))
	}
	if body == nil {
		b, _ := openParams{asn: 65001, id: netip.MustParseAddr("10.0.0.1")}.marshal()
		body = b[headerLen:]
	}
	m, n := decodeOpen(body)
	if n != nil {
		t.Fatal(n)
	}
	return m
}

// RFC 9234 section 5: what comes with and without ONLY_TO_CUSTOMER from each kind
// of neighbour, and to whom it goes on; a slow obvious table decides what is right.
func TestRFC9234_5_OnlyToCustomer(t *testing.T) {
	const ours = 64512
	other := map[Role]uint32{0: 65000} // AS by what we are to it; 0: a neighbour without a role
	d := newDesk(t, nodeConfig(ours, freeAddr(t)))
	all := append([]Role{0}, allRoles...)
	for i, role := range all {
		as := 65000 + uint32(i)
		other[role] = as
		d.add(fmt.Sprint("role ", role), PeerConfig{Addr: addrPort(freeAddr(t)), ASN: as, Role: role}, netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}))
	}
	inside := d.add("inside", PeerConfig{Addr: addrPort(freeAddr(t)), ASN: ours}, netip.MustParseAddr("10.0.2.1"))
	for _, p := range d.peers {
		d.up(p)
		d.heard(p)
	}
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.80.0.0/24"), netip.MustParsePrefix("2001:db8::/48")}
	for i, from := range all {
		sender := d.peers[i]
		for _, otc := range []uint32{0, other[from], 4200000000} {
			for _, prefix := range prefixes {
				a := &attrs{path: []segment{{segSequence, []uint32{other[from], 4200000000}}}, nextHop: netip.MustParseAddr("10.0.1.99"), otc: otc, hasOTC: otc != 0}
				if prefix.Addr().Is6() {
					a.nextHop = netip.MustParseAddr("fd01::99")
				}
				d.says(sender, a, pathRef{prefix: prefix})

				// What must become of it.
				leak := otc != 0 && (from == RoleProvider || from == RoleRouteServer || from == RolePeer && otc != other[from])
				have := otc
				if otc == 0 && (from == RoleCustomer || from == RolePeer || from == RoleRouteServerClient) {
					have = other[from]
				}
				what := fmt.Sprintf("from role %q with %d, %s", from, otc, prefix)
				w := d.s.explain(prefix)[0]
				if leak != (w.Paths[0].Refused == RefusedLeak) || leak && !strings.Contains(w.Paths[0].Reason, "a leak (RFC 9234)") {
					t.Errorf("%s: %v %q", what, w.Paths[0].Refused, w.Paths[0].Reason)
				}
				for _, p := range d.peers {
					d.heard(p)
					if p == sender {
						continue
					}
					to := p.cfg.Role
					want := "nothing"
					switch up := to == RoleCustomer || to == RolePeer || to == RoleRouteServerClient; {
					case leak, up && have != 0:
					case have == 0 && (to == RoleProvider || to == RolePeer || to == RoleRouteServer):
						want = fmt.Sprint(ours)
					default:
						want = fmt.Sprint(have)
					}
					got := "nothing"
					if told := p.told[pathRef{prefix: prefix}]; told != nil {
						got = fmt.Sprint(told.otc)
						if told.hasOTC != (told.otc != 0) {
							got = "0 on the wire"
						}
					}
					if got != want {
						t.Errorf("%s to role %q (inside: %v): %s, want %s", what, to, p == inside, got, want)
					}
					if up := slices.IndexFunc(w.Peers, func(q WhyPeer) bool { return q.Name == p.name }); want == "nothing" && !leak &&
						!strings.Contains(w.Peers[up].NotTold, "ONLY_TO_CUSTOMER") {
						t.Errorf("%s to role %q is not told because %q", what, to, w.Peers[up].NotTold)
					}
				}
				d.says(sender, nil, pathRef{prefix: prefix})
			}
		}
	}
}

// RFC 9234 section 5: what we originate goes to customers, clients and peers as theirs alone.
func TestRFC9234_5_Originated(t *testing.T) {
	d := newDesk(t, nodeConfig(64512, freeAddr(t)))
	for i, role := range append([]Role{0}, allRoles...) {
		p := d.add(fmt.Sprint("role ", role), PeerConfig{Addr: addrPort(freeAddr(t)), ASN: 65000 + uint32(i), Role: role}, netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}))
		d.up(p)
	}
	d.originate(Origination{Prefix: netip.MustParsePrefix("10.81.0.0/24")})
	for _, p := range d.peers {
		d.heard(p)
		told := p.told[pathRef{prefix: netip.MustParsePrefix("10.81.0.0/24")}]
		want := uint32(0)
		if r := p.cfg.Role; r == RoleProvider || r == RoleRouteServer || r == RolePeer {
			want = 64512
		}
		if told == nil || told.otc != want {
			t.Errorf("%s: %+v, want %d", p.name, told, want)
		}
	}
}
