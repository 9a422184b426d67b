// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// nxos writes a configuration for Cisco NX-OS. Sessions with one profile and family have one
// peer template.
func (e *Emitter) nxos(d *fabric.Device) (string, error) {
	peers := e.peers(d)
	profiles := e.profiles(peers)
	if err := lacks(d, "NX-OS", profiles, notWritten); err != nil {
		return "", err
	}
	var t text
	t.WriteString(e.header(d, "!", fmt.Sprintf(notRun, "Cisco NX-OS")))
	t.line("hostname %s", d.Name)
	t.line("feature bgp")
	t.line("feature bfd")
	nxosInterfaces(&t, d, peers)
	ipRoutes(&t, d, "null0")
	e.prefixLists(&t, e.filters(profiles))
	nxosRouteMaps(&t, profiles)
	if stands(d) {
		t.line("route-map %s permit 10", everything)
	}
	nxosRouter(&t, d, profiles)
	for _, family := range e.x.Families {
		nxosFamily(&t, d, family, profiles)
	}
	eachGroup(profiles, e.numbers(), peers, func(p *fabric.Profile, n string) { e.nxosTemplate(&t, d, p, n, e.seesInside(d, p, peers)) })
	for _, p := range peers {
		e.eachTarget(p, func(n, name string) {
			t.line("  neighbor %s", name)
			t.line("    inherit peer %s", group(p.Profile, n))
			t.line("    remote-as %d", p.AS)
			t.line("    description %s", p.Name)
		})
	}
	return t.String(), nil
}

// nxosInterfaces writes the addresses of ports, and how often BFD speaks there.
func nxosInterfaces(t *text, d *fabric.Device, peers []peer) {
	for i := range d.Interfaces {
		f := &d.Interfaces[i]
		if f.Name == "lo" {
			t.line("interface loopback0")
		} else {
			t.line("interface %s", f.Name)
			t.line("  no switchport")
		}
		for _, a := range f.Addresses {
			t.line("  %s address %s", called(a.Addr()).ip, a)
		}
		if len(f.Addresses) == 0 {
			t.line("  ip forward")
			t.line("  ipv6 address use-link-local-only")
		}
		if ms := bfdOn(f, peers); ms > 0 {
			// Behind a switch a dead link has no carrier: FAB-TIM-001. BFD wants no redirects.
			t.line("  no ip redirects")
			t.line("  no ipv6 redirects")
			t.line("  bfd interval %d min_rx %d multiplier 3", ms, ms)
		}
		t.line("  no shutdown")
	}
}

// nxosRouteMaps writes what profiles set, and that all paths are told.
func nxosRouteMaps(t *text, profiles []*fabric.Profile) {
	for _, p := range profiles {
		if p.LocalPref > 0 {
			t.line("route-map from-%s permit 10", p.Name)
			t.line("  set local-preference %d", p.LocalPref)
		}
		if p.AddPath.Sends() {
			t.line("route-map all-paths permit 10")
			t.line("  set path-selection all advertise")
		}
	}
}

// nxosRouter begins with what holds for all sessions.
func nxosRouter(t *text, d *fabric.Device, profiles []*fabric.Profile) {
	if needsKey(profiles) {
		t.line("! password SECRET, in the templates of sessions that are authenticated")
	}
	t.line("router bgp %d", d.AS)
	t.line("  router-id %s", d.RouterID)
	if d.ClusterID.IsValid() {
		t.line("  cluster-id %s", d.ClusterID)
	}
	if d.MultipathRelax {
		t.line("  bestpath as-path multipath-relax")
	}
	t.line("  graceful-restart restart-time %d", restart(profiles))
}

// everything is a route map that lets all pass.
const everything = "everything"

// nxosFamily writes what all sessions have in an address family.
func nxosFamily(t *text, d *fabric.Device, family fabric.Family, profiles []*fabric.Profile) {
	t.line("  address-family %s unicast", familyNames[family].unicast)
	networks(t, d, family, "    ", summaryOnly)
	t.line("    maximum-paths %d", max(1, d.Multipath))
	t.line("    maximum-paths ibgp %d", max(1, d.Multipath))
	if slices.ContainsFunc(profiles, func(p *fabric.Profile) bool { return p.AddPath.Sends() }) {
		t.line("    additional-paths send")
		t.line("    additional-paths selection route-map all-paths")
	}
}

// nxosTemplate writes a peer template.
func (e *Emitter) nxosTemplate(t *text, d *fabric.Device, p *fabric.Profile, n string, seesInside bool) {
	t.line("  template peer %s", group(p, n))
	if p.BFD.On() {
		t.line("    bfd")
	}
	if p.Hold.On() {
		keepalive, hold := holdOf(p)
		t.line("    timers %d %d", keepalive, hold)
	}
	if p.RemovePrivateAS {
		t.line("    remove-private-as")
	}
	for _, family := range e.x.Families {
		if slices.Contains(in(family), n) {
			nxosTemplateFamily(t, d, p, family, seesInside)
		}
	}
}

// nxosTemplateFamily writes what a template has in an address family.
func nxosTemplateFamily(t *text, d *fabric.Device, p *fabric.Profile, family fabric.Family, seesInside bool) {
	t.line("    address-family %s unicast", familyNames[family].unicast)
	set := t.setter("     ")
	set(p.ReflectorClient, "route-reflector-client")
	// Without all, what is reflected keeps its next hop (FAB-NH-006).
	set(p.NextHopSelf == fabric.NextHopSelfEBGP, "next-hop-self")
	set(p.NextHopSelf == fabric.NextHopSelfAll, "next-hop-self all")
	set(p.LocalPref > 0, "route-map from-%s in", p.Name)
	set(p.AllowOwnAS > 0, "allowas-in %d", p.AllowOwnAS)
	set(p.ASOverride, "as-override")
	// This system keeps a route from a peer whose AS is in the path, unless it is told otherwise.
	set(p.ASOverride || p.AllowOwnAS > 0, "disable-peer-as-check")
	set(p.Default == fabric.AlwaysDefault || gives(d, family), "default-originate")
	set(p.Import != "", "prefix-list %s in", p.Import)
	set(p.Export != "", "prefix-list %s out", p.Export)
	set(seesInside, "unsuppress-map %s", everything)
	set(p.AddPath.Sends(), "capability additional-paths send")
	set(p.AddPath.Receives(), "capability additional-paths receive")
	ends := p.MaxPrefixAction == fabric.MaxPrefixRestart
	set(p.MaxPrefix > 0 && ends, "maximum-prefix %d restart 5", p.MaxPrefix)
	// Ending the session would take all of the server's endpoints away: FAB-SEC-004.
	set(p.MaxPrefix > 0 && !ends, "maximum-prefix %d warning-only", p.MaxPrefix)
}
