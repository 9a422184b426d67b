// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// gobgpLacks is what GoBGP 3.10 does not have.
func gobgpLacks(p *fabric.Profile) string {
	switch {
	case p.BFD.On():
		return "BFD (bgp.bfd)"
	case p.Default == fabric.AlwaysDefault:
		return "a default route for a peer"
	}
	return notWritten(p)
}

// gobgp writes gobgpd.toml. The daemon announces nothing by its configuration: the commands for that
// are comments. Its policies are global, and mean the peers of a profile by their addresses.
func (e *Emitter) gobgp(d *fabric.Device) (string, error) {
	peers := e.peers(d)
	profiles := e.profiles(peers)
	if err := lacks(d, "GoBGP", profiles, gobgpLacks); err != nil {
		return "", err
	}
	if d.Originates(fabric.OriginRack) {
		return "", fmt.Errorf("%s: GoBGP makes no aggregates: use frr here, or endpoints.announce: server-block", d.Name)
	}
	var t text
	t.WriteString(e.header(d, "#", "parsed with gobgpd 3.10"))
	gobgpOwn(&t, d)
	gobgpGlobal(&t, d)
	for _, p := range peers {
		e.gobgpNeighbor(&t, d, p)
	}
	e.gobgpSets(&t, profiles, peers)
	t.line("[global.apply-policy.config]")
	t.line("  import-policy-list = [\"import\"]")
	t.line("  default-import-policy = \"accept-route\"")
	t.line("  export-policy-list = [\"export\"]")
	t.line("  default-export-policy = \"accept-route\"")
	t.line("[[policy-definitions]]")
	t.line("  name = \"import\"")
	for _, p := range profiles {
		e.gobgpPolicy(&t, p, p.Import, true)
	}
	t.line("[[policy-definitions]]")
	t.line("  name = \"export\"")
	for _, p := range profiles {
		e.gobgpPolicy(&t, p, p.Export, false)
	}
	return t.String(), nil
}

// gobgpOwn writes the commands for what a device announces itself, and for its static routes.
func gobgpOwn(t *text, d *fabric.Device) {
	for _, o := range d.Originate {
		if o.Kind == fabric.OriginEndpoints || o.Kind == fabric.OriginAnycast {
			continue
		}
		for p := range o.Each() {
			t.line("# gobgp global rib add %s -a %s", p, called(p.Addr()).unicast)
		}
	}
	staticLines(d, func(_ fabric.Family, p netip.Prefix, via netip.Addr) { t.line("# ip route add %s via %s", p, via) })
}

// gobgpGlobal begins with what holds for all sessions.
func gobgpGlobal(t *text, d *fabric.Device) {
	t.line("[global.config]")
	t.line("  as = %d", d.AS)
	t.line("  router-id = %q", d.RouterID)
	if d.Multipath > 1 {
		t.line("[global.use-multiple-paths.config]")
		t.line("  enabled = true")
		t.line("[global.use-multiple-paths.ebgp.config]")
		t.line("  maximum-paths = %d", d.Multipath)
		t.line("  allow-multiple-as = %v", d.MultipathRelax)
		t.line("[global.use-multiple-paths.ibgp.config]")
		t.line("  maximum-paths = %d", d.Multipath)
	}
}

// gobgpNeighbor writes the sessions with a neighbour: of each family, or one over link-local addresses.
func (e *Emitter) gobgpNeighbor(t *text, d *fabric.Device, x peer) {
	e.eachTarget(x, func(n, name string) {
		families := e.x.Families
		t.line("[[neighbors]]")
		t.line("  [neighbors.config]")
		if n == unnumbered {
			t.line("    neighbor-interface = %q", name)
		} else {
			t.line("    neighbor-address = %q", name)
			families = slices.DeleteFunc(slices.Clone(families), func(f fabric.Family) bool { return familyNames[f].number != n })
		}
		t.line("    peer-as = %d", x.AS)
		t.line("    description = %q", x.Name)
		gobgpSettings(t, d, x.Profile)
		for _, family := range families {
			gobgpFamily(t, x.Profile, family)
		}
	})
}

// gobgpSettings writes what a profile says of all families.
func gobgpSettings(t *text, d *fabric.Device, p *fabric.Profile) {
	if p.RemovePrivateAS {
		t.line("    remove-private-as = \"all\"")
	}
	if p.Authentication.On() {
		t.line("    # auth-password = \"SECRET\" (%s; GoBGP has md5)", p.Authentication)
	}
	if p.Hold.On() {
		keepalive, hold := holdOf(p)
		t.line("  [neighbors.timers.config]")
		t.line("    hold-time = %d", hold)
		t.line("    keepalive-interval = %d", keepalive)
	}
	if p.GracefulRestart.On() {
		t.line("  [neighbors.graceful-restart.config]")
		t.line("    enabled = true")
		t.line("    restart-time = %d", restart([]*fabric.Profile{p}))
	}
	if p.ReflectorClient {
		t.line("  [neighbors.route-reflector.config]")
		t.line("    route-reflector-client = true")
		t.line("    route-reflector-cluster-id = %q", d.Cluster())
	}
	if p.AllowOwnAS > 0 || p.ASOverride {
		t.line("  [neighbors.as-path-options.config]")
		t.line("    allow-own-as = %d", p.AllowOwnAS)
		t.line("    replace-peer-as = %v", p.ASOverride)
	}
	if p.AddPath != fabric.AddPathNone {
		t.line("  [neighbors.add-paths.config]")
		t.line("    receive = %v", p.AddPath.Receives())
		if p.AddPath.Sends() {
			t.line("    send-max = %d", max(2, d.Multipath))
		}
	}
}

// gobgpFamily writes what it says of one.
func gobgpFamily(t *text, p *fabric.Profile, family fabric.Family) {
	t.line("  [[neighbors.afi-safis]]")
	t.line("    [neighbors.afi-safis.config]")
	t.line("      afi-safi-name = \"%s-unicast\"", familyNames[family].unicast)
	if p.GracefulRestart.On() {
		t.line("    [neighbors.afi-safis.mp-graceful-restart.config]")
		t.line("      enabled = true")
	}
	switch {
	case p.MaxPrefix == 0:
	case p.MaxPrefixAction == fabric.MaxPrefixRestart:
		t.line("    [neighbors.afi-safis.prefix-limit.config]")
		t.line("      max-prefixes = %d", p.MaxPrefix)
	default:
		// FAB-SEC-004.
		t.line("      # no limit of %d prefixes: GoBGP does not only warn, it ends the session", p.MaxPrefix)
	}
}

// gobgpSets writes the peers of each profile, and the rules of each filter.
func (e *Emitter) gobgpSets(t *text, profiles []*fabric.Profile, peers []peer) {
	for _, p := range profiles {
		t.line("[[defined-sets.neighbor-sets]]")
		t.line("  neighbor-set-name = %q", p.Name)
		list := ""
		for _, x := range peers {
			for _, a := range x.Address {
				if x.Profile == p {
					list += fmt.Sprintf("%q, ", a)
				}
			}
		}
		t.line("  neighbor-info-list = [%s]", list)
	}
	for _, f := range e.filters(profiles) {
		for i, r := range f.Rules {
			if !slices.Contains(e.x.Families, fabric.FamilyOf(r.Within.Addr())) {
				continue
			}
			low, high := r.Lengths()
			t.line("[[defined-sets.prefix-sets]]")
			t.line("  prefix-set-name = \"%s-%d\"", f.Name, i)
			t.line("  [[defined-sets.prefix-sets.prefix-list]]")
			t.line("    ip-prefix = %q", r.Within)
			t.line("    masklength-range = \"%d..%d\"", low, high)
		}
	}
}

// gobgpPolicy writes the statements of a profile in one direction: the first that matches decides.
func (e *Emitter) gobgpPolicy(t *text, p *fabric.Profile, filter string, in bool) {
	n := 0
	statement := func(prefixes string, permit, external bool) {
		n++
		way := "import"
		if !in {
			way = "export"
		}
		t.line("  [[policy-definitions.statements]]")
		t.line("    name = \"%s-%s-%d\"", way, p.Name, n)
		if prefixes != "" {
			t.line("    [policy-definitions.statements.conditions.match-prefix-set]")
			t.line("      prefix-set = %q", prefixes)
		}
		t.line("    [policy-definitions.statements.conditions.match-neighbor-set]")
		t.line("      neighbor-set = %q", p.Name)
		if external {
			t.line("    [policy-definitions.statements.conditions.bgp-conditions]")
			t.line("      route-type = \"external\"")
		}
		t.line("    [policy-definitions.statements.actions]")
		if permit {
			t.line("      route-disposition = \"accept-route\"")
		} else {
			t.line("      route-disposition = \"reject-route\"")
		}
		if permit && in && p.LocalPref > 0 {
			t.line("    [policy-definitions.statements.actions.bgp-actions]")
			t.line("      set-local-pref = %d", p.LocalPref)
		}
		if permit && !in && (external || p.NextHopSelf == fabric.NextHopSelfAll) {
			t.line("    [policy-definitions.statements.actions.bgp-actions]")
			t.line("      set-next-hop = \"self\"")
		}
	}
	pass := func(prefixes string, permit bool) {
		if permit && !in && p.NextHopSelf == fabric.NextHopSelfEBGP {
			statement(prefixes, true, true) // for what came by eBGP only: FAB-NH-001
		}
		statement(prefixes, permit, false)
	}
	f := e.x.Filter(filter)
	if f == nil {
		pass("", true)
		return
	}
	for i, r := range f.Rules {
		if slices.Contains(e.x.Families, fabric.FamilyOf(r.Within.Addr())) {
			pass(fmt.Sprintf("%s-%d", f.Name, i), r.Permit)
		}
	}
	pass("", false)
}
