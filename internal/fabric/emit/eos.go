// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"

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
	for i := range d.Interfaces {
		f := &d.Interfaces[i]
		if f.Name == "lo" {
			t.line("interface Loopback0")
		} else {
			t.line("interface %s", f.Name)
			t.line("   no switchport")
		}
		for _, a := range f.Addresses {
			t.line("   %s address %s", frrFamilies[fabric.FamilyOf(a.Addr())].ip, a)
		}
		if len(f.Addresses) == 0 {
			t.line("   ipv6 enable")
		}
		if ms := bfdOn(f, peers); ms > 0 {
			// Behind a switch a dead link has no carrier: FAB-TIM-001.
			t.line("   bfd interval %d min-rx %d multiplier 3", ms, ms)
		}
	}
	ipRoutes(&t, d, "Null0")
	for _, f := range e.filters(profiles) {
		for _, family := range e.x.Families {
			t.line("%s prefix-list %s", frrFamilies[family].ip, f.Name)
			listLines(f, family, func(seq int, action, match string) { t.line("   seq %d %s %s", seq, action, match) })
		}
	}
	for _, p := range profiles {
		if p.LocalPref > 0 {
			t.line("route-map from-%s permit 10", p.Name)
			t.line("   set local-preference %d", p.LocalPref)
		}
	}
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
	for _, p := range profiles {
		if p.NextHopSelf == fabric.NextHopSelfEBGP && p.ReflectorClient {
			// What is reflected keeps its next hop: else traffic inside a rack takes a detour (FAB-NH-006).
			t.line("   bgp route-reflector preserve-attributes")
			break
		}
	}
	t.line("   graceful-restart restart-time %d", restart(profiles))
	t.line("   graceful-restart")
	for _, p := range profiles {
		for _, n := range e.numbers() {
			if uses(p, n, peers) {
				e.eosGroup(&t, p, group(p, n), d)
			}
		}
	}
	for _, p := range peers {
		targets := targets(p)
		for _, n := range e.numbers() {
			name, ok := targets[n]
			switch g := group(p.Profile, n); {
			case !ok:
			case n == unnumbered:
				t.line("   neighbor interface %s peer-group %s remote-as %d", name, g, p.AS)
			default:
				t.line("   neighbor %s peer group %s", name, g)
				t.line("   neighbor %s remote-as %d", name, p.AS)
				t.line("   neighbor %s description %s", name, p.Name)
			}
		}
	}
	for _, family := range e.x.Families {
		e.eosFamily(&t, d, family, profiles, peers)
	}
	return t.String(), nil
}

func (e *Emitter) eosGroup(t *text, p *fabric.Profile, g string, d *fabric.Device) {
	set := func(on bool, format string, v ...any) {
		if on {
			t.line("   neighbor "+g+" "+format, v...)
		}
	}
	t.line("   neighbor %s peer group", g)
	if p.Hold.On() {
		keepalive, hold := holdOf(p)
		t.line("   neighbor %s timers %d %d", g, keepalive, hold)
	}
	set(p.BFD.On(), "bfd")
	set(p.ReflectorClient, "route-reflector-client")
	set(p.NextHopSelf != fabric.NextHopSelfNone, "next-hop-self")
	set(p.AllowOwnAS > 0, "allowas-in %d", p.AllowOwnAS)
	set(p.ASOverride, "as-path remote-as replace out")
	set(p.RemovePrivateAS, "remove-private-as")
	set(p.LocalPref > 0, "route-map from-%s in", p.Name)
	set(p.Default == fabric.AlwaysDefault || gives(d, fabric.IPv4) || gives(d, fabric.IPv6), "default-originate always")
	switch {
	case p.MaxPrefix == 0:
	case p.MaxPrefixAction == fabric.MaxPrefixRestart:
		t.line("   neighbor %s maximum-routes %d", g, p.MaxPrefix)
	default:
		// Ending the session would take all of the server's endpoints away: FAB-SEC-004.
		t.line("   neighbor %s maximum-routes %d warning-only", g, p.MaxPrefix)
	}
}

func (e *Emitter) eosFamily(t *text, d *fabric.Device, family fabric.Family, profiles []*fabric.Profile, peers []peer) {
	w := frrFamilies[family]
	t.line("   address-family %s", w.unicast)
	for _, p := range profiles {
		for _, n := range []string{w.number, unnumbered} {
			if !uses(p, n, peers) {
				continue
			}
			g := group(p, n)
			t.line("      neighbor %s activate", g)
			if p.Import != "" {
				t.line("      neighbor %s prefix-list %s in", g, p.Import)
			}
			if p.Export != "" {
				t.line("      neighbor %s prefix-list %s out", g, p.Export)
			}
			if p.AddPath.Sends() {
				t.line("      neighbor %s additional-paths send any", g)
			}
			if p.AddPath.Receives() {
				t.line("      neighbor %s additional-paths receive", g)
			}
			if n == unnumbered && family == fabric.IPv4 {
				t.line("      neighbor %s next-hop address-family ipv6 originate", g)
			}
		}
	}
	networks(t, d, family, "      ")
}
