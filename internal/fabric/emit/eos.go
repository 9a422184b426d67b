// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// eos writes a configuration for Arista EOS. Sessions with one profile and family are a
// peer group.
func (e *Emitter) eos(d *fabric.Device) (string, error) {
	peers := e.peers(d)
	profiles := e.profiles(peers)
	if err := lacks(d, "EOS", profiles, notWritten); err != nil {
		return "", err
	}
	var t text
	t.WriteString(e.header(d, "!", fmt.Sprintf(notRun, "Arista EOS")))
	t.line("hostname %s", d.Name)
	t.line("service routing protocols model multi-agent")
	t.line("ip routing")
	t.line("ipv6 unicast-routing")
	eosInterfaces(&t, d, peers)
	ipRoutes(&t, d, "Null0")
	e.eosPolicies(&t, d, profiles, peers)
	eosRouter(&t, d, profiles)
	eachGroup(profiles, e.numbers(), peers, func(p *fabric.Profile, n string) { eosGroup(&t, p, group(p, n), d) })
	for _, p := range peers {
		e.eosNeighbor(&t, p)
	}
	for _, family := range e.x.Families {
		e.eosFamily(&t, d, family, profiles, peers)
	}
	return t.String(), nil
}

// eosInterfaces writes the addresses of ports, and how often BFD speaks there.
func eosInterfaces(t *text, d *fabric.Device, peers []peer) {
	for i := range d.Interfaces {
		f := &d.Interfaces[i]
		if f.Name == "lo" {
			t.line("interface Loopback0")
		} else {
			t.line("interface %s", f.Name)
			t.line("   no switchport")
		}
		for _, a := range f.Addresses {
			t.line("   %s address %s", called(a.Addr()).ip, a)
		}
		if len(f.Addresses) == 0 {
			t.line("   ipv6 enable")
		}
		if ms := bfdOn(f, peers); ms > 0 {
			// Behind a switch a dead link has no carrier: FAB-TIM-001.
			t.line("   bfd interval %d min-rx %d multiplier 3", ms, ms)
		}
	}
}

// eosPolicies writes prefix lists and route maps.
func (e *Emitter) eosPolicies(t *text, d *fabric.Device, profiles []*fabric.Profile, peers []peer) {
	lists := e.filters(profiles)
	for _, p := range profiles {
		if e.hides(d, p, peers) {
			lists = append(lists, e.outside(d, p))
		}
	}
	for _, f := range lists {
		for _, family := range e.x.Families {
			t.line("%s prefix-list %s", familyNames[family].ip, f.Name)
			listLines(f, family, func(seq int, action, match string) { t.line("   seq %d %s %s", seq, action, match) })
		}
	}
	for _, p := range profiles {
		if p.LocalPref > 0 {
			t.line("route-map from-%s permit 10", p.Name)
			t.line("   set local-preference %d", p.LocalPref)
		}
	}
}

// eosRouter begins with what holds for all sessions.
func eosRouter(t *text, d *fabric.Device, profiles []*fabric.Profile) {
	if needsKey(profiles) {
		t.line("! neighbor GROUP password SECRET, of sessions that are authenticated")
	}
	t.line("router bgp %d", d.AS)
	t.line("   router-id %s", d.RouterID)
	if d.ClusterID.IsValid() {
		t.line("   bgp cluster-id %s", d.ClusterID)
	}
	t.line("   no bgp default ipv4-unicast")
	t.line("   maximum-paths %d ecmp %d", max(1, d.Multipath), max(1, d.Multipath))
	if !d.MultipathRelax {
		t.line("   no bgp bestpath as-path multipath-relax")
	}
	if slices.ContainsFunc(profiles, func(p *fabric.Profile) bool { return p.NextHopSelf == fabric.NextHopSelfEBGP && p.ReflectorClient }) {
		// What is reflected keeps its next hop: else traffic inside a rack takes a detour (FAB-NH-006).
		t.line("   bgp route-reflector preserve-attributes")
	}
	t.line("   graceful-restart restart-time %d", restart(profiles))
	t.line("   graceful-restart")
}

// eosGroup writes a peer group.
func eosGroup(t *text, p *fabric.Profile, g string, d *fabric.Device) {
	set := t.setter("   neighbor " + g)
	set(true, "peer group")
	if p.Hold.On() {
		keepalive, hold := holdOf(p)
		set(true, "timers %d %d", keepalive, hold)
	}
	set(p.BFD.On(), "bfd")
	set(p.ReflectorClient, "route-reflector-client")
	set(p.NextHopSelf != fabric.NextHopSelfNone, "next-hop-self")
	set(p.AllowOwnAS > 0, "allowas-in %d", p.AllowOwnAS)
	set(p.ASOverride, "as-path remote-as replace out")
	set(p.RemovePrivateAS, "remove-private-as")
	set(p.LocalPref > 0, "route-map from-%s in", p.Name)
	set(p.Default == fabric.AlwaysDefault || gives(d, fabric.IPv4) || gives(d, fabric.IPv6), "default-originate always")
	ends := p.MaxPrefixAction == fabric.MaxPrefixRestart
	set(p.MaxPrefix > 0 && ends, "maximum-routes %d", p.MaxPrefix)
	// Ending the session would take all of the server's endpoints away: FAB-SEC-004.
	set(p.MaxPrefix > 0 && !ends, "maximum-routes %d warning-only", p.MaxPrefix)
}

// eosNeighbor writes the sessions with a neighbour.
func (e *Emitter) eosNeighbor(t *text, p peer) {
	e.eachTarget(p, func(n, name string) {
		g := group(p.Profile, n)
		if n == unnumbered {
			t.line("   neighbor interface %s peer-group %s remote-as %d", name, g, p.AS)
			return
		}
		t.line("   neighbor %s peer group %s", name, g)
		t.line("   neighbor %s remote-as %d", name, p.AS)
		t.line("   neighbor %s description %s", name, p.Name)
	})
}

// eosFamily writes an address family.
func (e *Emitter) eosFamily(t *text, d *fabric.Device, family fabric.Family, profiles []*fabric.Profile, peers []peer) {
	t.line("   address-family %s", familyNames[family].unicast)
	eachGroup(profiles, in(family), peers, func(p *fabric.Profile, n string) {
		set := t.setter("      neighbor " + group(p, n))
		set(true, "activate")
		set(p.Import != "", "prefix-list %s in", p.Import)
		hides := e.hides(d, p, peers)
		set(hides, "prefix-list %s out", outsideOf(p))
		set(!hides && p.Export != "", "prefix-list %s out", p.Export)
		set(p.AddPath.Sends(), "additional-paths send any")
		set(p.AddPath.Receives(), "additional-paths receive")
		set(n == unnumbered && family == fabric.IPv4, "next-hop address-family ipv6 originate")
	})
	networks(t, d, family, "      ", "") // what is in it is kept back by filters
}
