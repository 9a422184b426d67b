// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"

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
	for i := range d.Interfaces {
		f := &d.Interfaces[i]
		if f.Name == "lo" {
			t.line("interface loopback0")
		} else {
			t.line("interface %s", f.Name)
			t.line("  no switchport")
		}
		for _, a := range f.Addresses {
			t.line("  %s address %s", frrFamilies[fabric.FamilyOf(a.Addr())].ip, a)
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
	ipRoutes(&t, d, "null0")
	e.prefixLists(&t, e.filters(profiles))
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
	for _, family := range e.x.Families {
		t.line("  address-family %s unicast", frrFamilies[family].unicast)
		networks(&t, d, family, "    ")
		t.line("    maximum-paths %d", max(1, d.Multipath))
		t.line("    maximum-paths ibgp %d", max(1, d.Multipath))
		for _, p := range profiles {
			if p.AddPath.Sends() {
				t.line("    additional-paths send")
				t.line("    additional-paths selection route-map all-paths")
				break
			}
		}
	}
	for _, p := range profiles {
		for _, n := range e.numbers() {
			if uses(p, n, peers) {
				e.nxosTemplate(&t, d, p, n)
			}
		}
	}
	for _, p := range peers {
		targets := targets(p)
		for _, n := range e.numbers() {
			if name, ok := targets[n]; ok {
				t.line("  neighbor %s", name)
				t.line("    inherit peer %s", group(p.Profile, n))
				t.line("    remote-as %d", p.AS)
				t.line("    description %s", p.Name)
			}
		}
	}
	return t.String(), nil
}

func (e *Emitter) nxosTemplate(t *text, d *fabric.Device, p *fabric.Profile, n string) {
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
		w := frrFamilies[family]
		if n != w.number && n != unnumbered {
			continue
		}
		t.line("    address-family %s unicast", w.unicast)
		set := func(on bool, format string, v ...any) {
			if on {
				t.line("      "+format, v...)
			}
		}
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
		set(p.AddPath.Sends(), "capability additional-paths send")
		set(p.AddPath.Receives(), "capability additional-paths receive")
		switch {
		case p.MaxPrefix == 0:
		case p.MaxPrefixAction == fabric.MaxPrefixRestart:
			t.line("      maximum-prefix %d restart 5", p.MaxPrefix)
		default:
			// Ending the session would take all of the server's endpoints away: FAB-SEC-004.
			t.line("      maximum-prefix %d warning-only", p.MaxPrefix)
		}
	}
}
