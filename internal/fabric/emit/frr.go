// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

// frr writes frr.conf. Sessions with one profile and family are a peer group.
func (e *Emitter) frr(d *fabric.Device) (string, error) {
	var t text
	t.WriteString(e.header(d, "!", "parsed with vtysh of FRR 8.4"))
	if d.Traditional {
		t.line("frr defaults traditional")
	} else {
		t.line("frr defaults datacenter")
	}
	t.line("hostname %s", d.Name)
	// Zebra of 8.4 does not put a next hop back into a group of the kernel that
	// lost it with its link: ECMP would not come back after a repair.
	t.line("no zebra nexthop kernel enable")
	// It holds what it is told for 10 ms before it looks at it, which every repair waits for.
	t.line("zebra work-queue 0")
	t.line("!")
	peers := e.peers(d)
	e.frrInterfaces(&t, d, peers)
	ipRoutes(&t, d, "blackhole")
	profiles := e.profiles(peers)
	frrBFD(&t, profiles)
	lists := e.filters(profiles)
	for _, p := range profiles {
		switch {
		case p.OwnOnly:
			lists = append(lists, e.own(d, p))
		case e.hides(d, p, peers):
			lists = append(lists, e.outside(d, p))
		}
	}
	e.prefixLists(&t, lists)
	for _, p := range profiles {
		if p.LocalPref > 0 {
			t.line("route-map from-%s permit 10", p.Name)
			t.line(" set local-preference %d", p.LocalPref)
			t.line("!")
		}
	}
	frrRouter(&t, d)
	e.frrGroups(&t, profiles, peers)
	for _, p := range peers {
		e.frrNeighbor(&t, d, p)
	}
	for _, family := range e.x.Families {
		e.frrFamily(&t, d, family, profiles, peers)
	}
	t.line("!")
	return t.String(), nil
}

// frrInterfaces writes the addresses of ports, and what happens there without carrier.
func (e *Emitter) frrInterfaces(t *text, d *fabric.Device, peers []peer) {
	for _, i := range d.Interfaces {
		t.line("interface %s", i.Name)
		if slices.ContainsFunc(peers, func(p peer) bool { return p.Port.Name == i.Name && e.endsByBFD(p) }) {
			// What the carrier says is for the kernel. Told of it, zebra takes the addresses away, and bgpd of 8.4
			// tells peers whose sessions bear that a next hop ::ffff:IPV4, which nobody takes, until they are new.
			// One that it closes by itself would send the peer its FIN by the default route and another plane,
			// and who sees a FIN keeps the paths of one that restarts (RFC 4724 section 4.2). BFD ends
			// sessions on both sides, with a NOTIFICATION.
			t.line(" no link-detect")
		}
		for _, a := range i.Addresses {
			t.line(" %s address %s", called(a.Addr()).ip, a)
		}
		if len(i.Addresses) == 0 {
			// The peer is found by its router advertisements (RFC 4861).
			t.line(" no ipv6 nd suppress-ra")
			t.line(" ipv6 nd ra-interval 10")
		}
		t.line("!")
	}
}

// frrBFD writes a profile of BFD for each interval.
func frrBFD(t *text, profiles []*fabric.Profile) {
	intervals := map[int64]bool{}
	for _, p := range profiles {
		if ms := time.Duration(p.BFD).Milliseconds(); p.BFD.On() && !intervals[ms] {
			if len(intervals) == 0 {
				t.line("bfd")
			}
			intervals[ms] = true
			t.line(" profile every-%d", ms)
			t.line("  transmit-interval %d", ms)
			t.line("  receive-interval %d", ms)
			t.line("  detect-multiplier 3")
			t.line(" !")
		}
	}
	t.line("!")
}

// frrRouter begins with what holds for all sessions.
func frrRouter(t *text, d *fabric.Device) {
	t.line("router bgp %d", d.AS)
	t.line(" bgp router-id %s", d.RouterID)
	if d.ClusterID.IsValid() {
		t.line(" bgp cluster-id %s", d.ClusterID)
	}
	t.line(" no bgp default ipv4-unicast")
	if d.MultipathRelax {
		t.line(" bgp bestpath as-path multipath-relax")
	}
	// Of equal paths the best is that of the lowest router ID (RFC 4271 section 9.1.2.2),
	// and not the oldest: what others are told does not depend on what was first.
	t.line(" bgp bestpath compare-routerid")
	t.line(" bgp graceful-restart")
	// Else a peer that falls silent is taken for one that restarts (RFC 8538), and
	// packets go to it for the restart time after the hold time is over.
	t.line(" no bgp graceful-restart notification")
}

// endsByBFD tells whether a session is on a plane and has BFD, which then ends it, and not the carrier: there the other end
// has that when this one has lost it.
func (e *Emitter) endsByBFD(p peer) bool {
	s := e.x.Segment(p.Port.Segment)
	return s != nil && s.Kind == fabric.Plane && p.Profile.BFD.On()
}

// outgoing is the name of the prefix list for what a profile's sessions tell, empty for everything.
func outgoing(p *fabric.Profile) string {
	if p.OwnOnly {
		return "own-" + p.Name
	}
	return p.Export
}

// own is the filter of a profile that tells what the device originates only: it lists that, since no route map of
// bgpd tells what is its own from what it learned.
func (e *Emitter) own(d *fabric.Device, p *fabric.Profile) *fabric.Filter {
	f, export := &fabric.Filter{Name: outgoing(p)}, e.x.Filter(p.Export)
	for _, o := range d.Originate {
		for prefix := range o.Each() {
			if export == nil || export.Permits(prefix) {
				f.Rules = append(f.Rules, fabric.FilterRule{Permit: true, Within: prefix})
			}
		}
	}
	return f
}

// frrGroups writes the peer groups.
func (e *Emitter) frrGroups(t *text, profiles []*fabric.Profile, peers []peer) {
	eachGroup(profiles, e.numbers(), peers, func(p *fabric.Profile, n string) {
		g := group(p, n)
		t.line(" neighbor %s peer-group", g)
		if p.Hold.On() {
			keepalive, hold := holdOf(p)
			t.line(" neighbor %s timers %d %d", g, keepalive, hold)
		}
		// A first try that comes before the other end is ready is repeated after 10 s by the profile datacenter.
		t.line(" neighbor %s timers connect 2", g)
		if p.BFD.On() {
			// Behind a switch a dead link has no carrier: FAB-TIM-001.
			t.line(" neighbor %s bfd", g)
			t.line(" neighbor %s bfd profile every-%d", g, time.Duration(p.BFD).Milliseconds())
		}
		if p.Authentication.On() {
			t.line(" ! neighbor %s password SECRET (%s; FRR has md5)", g, p.Authentication)
		}
		if p.Role != "" {
			t.line(" neighbor %s local-role %s", g, p.Role)
		}
	})
}

// frrNeighbor writes the sessions with a neighbour.
func (e *Emitter) frrNeighbor(t *text, d *fabric.Device, p peer) {
	e.eachTarget(p, func(n, name string) {
		if n == unnumbered {
			t.line(" neighbor %s interface", name)
		}
		t.line(" neighbor %s remote-as %d", name, p.AS)
		t.line(" neighbor %s peer-group %s", name, group(p.Profile, n))
		t.line(" neighbor %s description %s", name, p.Name)
		if n == familyNames[fabric.IPv6].number && e.endsByCarrier(d, p) {
			t.line(" neighbor %s ttl-security hops 1", name)
		}
	})
}

// endsByCarrier tells whether an iBGP session of IPv6 is to end with its cable, as eBGP's do. One that bears it is told next
// hops ::ffff:IPV4 by bgpd of 8.4 from then on (FRR issue 18318). FRR takes a peer for one on the cable by its TTL, which it and
// vRouters send as 255.
func (e *Emitter) endsByCarrier(d *fabric.Device, p peer) bool {
	s, o := e.x.Segment(p.Port.Segment), e.x.Device(p.Name)
	return p.AS == d.AS && s != nil && !e.endsByBFD(p) && o != nil && (o.Software == fabric.Muslin || o.Software == fabric.FRR)
}

// frrFamily writes an address family.
func (e *Emitter) frrFamily(t *text, d *fabric.Device, family fabric.Family, profiles []*fabric.Profile, peers []peer) {
	t.line(" !")
	t.line(" address-family %s unicast", familyNames[family].unicast)
	// With summary-only, and an unsuppress-map for the rack, bgpd of 8.4 does not withdraw from the rack what goes while
	// it is suppressed, now and then. Filters keep it back from the others.
	networks(t, d, family, "  ", "")
	paths := max(1, d.Multipath)
	t.line("  maximum-paths %d", paths)
	t.line("  maximum-paths ibgp %d", paths)
	eachGroup(profiles, in(family), peers, func(p *fabric.Profile, n string) {
		frrActivate(t, p, group(p, n), gives(d, family), e.hides(d, p, peers))
	})
	t.line(" exit-address-family")
}

// frrActivate writes what a profile says in an address family.
func frrActivate(t *text, p *fabric.Profile, g string, gives, hides bool) {
	list := outgoing(p)
	if hides && !p.OwnOnly {
		list = outsideOf(p)
	}
	set := t.setter("  neighbor " + g)
	set(true, "activate")
	set(p.ReflectorClient, "route-reflector-client")
	// For what came by eBGP only: with force, traffic inside a rack takes a
	// detour (FAB-NH-006).
	set(p.NextHopSelf == fabric.NextHopSelfEBGP, "next-hop-self")
	set(p.NextHopSelf == fabric.NextHopSelfAll, "next-hop-self force")
	set(p.LocalPref > 0, "route-map from-%s in", p.Name)
	set(p.AllowOwnAS > 0, "allowas-in %d", p.AllowOwnAS)
	set(p.ASOverride, "as-override")
	set(p.RemovePrivateAS, "remove-private-AS")
	set(p.Default == fabric.AlwaysDefault || gives, "default-originate")
	set(p.Import != "", "prefix-list %s in", p.Import)
	set(list != "", "prefix-list %s out", list)
	set(p.AddPath.Sends(), "addpath-tx-all-paths")
	ends := p.MaxPrefixAction == fabric.MaxPrefixRestart
	set(p.MaxPrefix > 0 && ends, "maximum-prefix %d restart 5", p.MaxPrefix)
	// Ending the session would take all of the server's endpoints away: FAB-SEC-004.
	set(p.MaxPrefix > 0 && !ends, "maximum-prefix %d warning-only", p.MaxPrefix)
}
