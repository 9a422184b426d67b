// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

// junosFamily is how Junos calls a family.
var junosFamily = map[fabric.Family]string{fabric.IPv4: "inet", fabric.IPv6: "inet6"}

// junos writes set commands for Juniper Junos. Sessions with one profile and family are a
// group.
func (e *Emitter) junos(d *fabric.Device) (string, error) {
	peers := e.peers(d)
	profiles := e.profiles(peers)
	if err := lacks(d, "Junos", profiles, notWritten); err != nil {
		return "", err
	}
	if slices.ContainsFunc(d.Interfaces, func(i fabric.Interface) bool { return len(i.Addresses) == 0 }) {
		return "", fmt.Errorf("%s: sessions without addresses are not written for Junos: servers: {uplinks: routed}, or use frr here", d.Name)
	}
	var t text
	t.WriteString(e.header(d, "#", fmt.Sprintf(notRun, "Juniper Junos")))
	t.line("set system host-name %s", d.Name)
	junosInterfaces(&t, d)
	t.line("set routing-options router-id %s", d.RouterID)
	t.line("set routing-options autonomous-system %d", d.AS)
	t.line("set routing-options graceful-restart restart-duration %d", restart(profiles))
	// What is equal in BGP is used together only if the forwarding table is told so.
	t.line("set policy-options policy-statement per-flow then load-balance per-packet")
	t.line("set routing-options forwarding-table export per-flow")
	junosRoutes(&t, d)
	for _, f := range e.filters(profiles) {
		e.junosFilter(&t, f)
	}
	e.junosAnnounced(&t, d)
	for _, p := range profiles {
		junosPolicies(&t, p)
		for _, family := range e.x.Families {
			if uses(p, familyNames[family].number, peers) {
				e.junosGroup(&t, d, p, family, peers)
			}
		}
	}
	return t.String(), nil
}

// junosInterfaces writes the addresses of ports.
func junosInterfaces(t *text, d *fabric.Device) {
	for _, f := range d.Interfaces {
		name := f.Name
		if name == "lo" {
			name = "lo0"
		}
		for _, a := range f.Addresses {
			t.line("set interfaces %s unit 0 family %s address %s", name, junosFamily[fabric.FamilyOf(a.Addr())], a)
		}
	}
}

// junosRoutes writes the static routes of a device, and those that stand for what is in them.
func junosRoutes(t *text, d *fabric.Device) {
	for _, p := range d.Discard {
		t.line("set routing-options %sstatic route %s discard", rib(p), p)
	}
	staticLines(d, func(_ fabric.Family, p netip.Prefix, via netip.Addr) {
		t.line("set routing-options %sstatic route %s next-hop %s", rib(p), p, via)
	})
	for _, o := range d.Originate {
		if o.Kind == fabric.OriginRack {
			t.line("set routing-options %saggregate route %s discard", rib(o.Prefix), o.Prefix)
		}
	}
}

// rib is the table of a route that is not IPv4.
func rib(p netip.Prefix) string {
	if p.Addr().Is4() {
		return ""
	}
	return "rib inet6.0 "
}

// junosFilter writes a filter as a policy; what it lets pass goes on to the next one.
func (e *Emitter) junosFilter(t *text, f *fabric.Filter) {
	at := "set policy-options policy-statement " + f.Name
	n := 0
	for _, family := range e.x.Families {
		for _, r := range f.Rules {
			if fabric.FamilyOf(r.Within.Addr()) != family {
				continue
			}
			n++
			low, high := r.Lengths()
			then := "reject"
			if r.Permit {
				then = "next policy"
			}
			t.line("%s term %d from family %s", at, n, junosFamily[family])
			t.line("%s term %d from route-filter %s prefix-length-range /%d-/%d", at, n, r.Within, low, high)
			t.line("%s term %d then %s", at, n, then)
		}
	}
	t.line("%s then reject", at)
}

// junosAnnounced writes what may be told at all: what was learned, and what is the device's own. By itself
// this system tells of no connected route.
func (e *Emitter) junosAnnounced(t *text, d *fabric.Device) {
	const at = "set policy-options policy-statement announced"
	const outside = "set policy-options policy-statement outside"
	t.line("%s term learned from protocol bgp", at)
	t.line("%s term learned then next policy", at)
	for _, family := range e.x.Families {
		own := map[string][]netip.Prefix{}
		for _, o := range d.Originate {
			switch {
			case fabric.FamilyOf(o.Prefix.Addr()) != family || o.Kind == fabric.OriginDefault:
			case o.Kind == fabric.OriginRack:
				// What is in it is not told beside it outside of the rack.
				own["aggregate"] = append(own["aggregate"], o.Prefix)
				t.line("%s term inside-%s from route-filter %s longer", outside, junosFamily[family], o.Prefix)
				t.line("%s term inside-%s then reject", outside, junosFamily[family])
			case o.Kind == fabric.OriginStatic:
				own["static"] = slices.AppendSeq(own["static"], o.Each())
			default:
				own["direct"] = slices.AppendSeq(own["direct"], o.Each())
			}
		}
		for _, protocol := range []string{"direct", "static", "aggregate"} {
			if len(own[protocol]) == 0 {
				continue
			}
			term := fmt.Sprintf("%s term %s-%s", at, protocol, junosFamily[family])
			t.line("%s from family %s", term, junosFamily[family])
			t.line("%s from protocol %s", term, protocol)
			for _, p := range own[protocol] {
				t.line("%s from route-filter %s exact", term, p)
			}
			t.line("%s then next policy", term)
		}
	}
	t.line("%s then reject", at)
}

// junosPolicies writes what a profile does with routes that its filters let pass.
func junosPolicies(t *text, p *fabric.Profile) {
	from := "set policy-options policy-statement from-" + p.Name
	if p.LocalPref > 0 {
		t.line("%s then local-preference %d", from, p.LocalPref)
	}
	t.line("%s then accept", from)
	to := "set policy-options policy-statement to-" + p.Name
	switch p.NextHopSelf {
	case fabric.NextHopSelfEBGP:
		// Only what came by eBGP: else traffic inside a rack takes a detour (FAB-NH-006).
		t.line("%s term external from route-type external", to)
		t.line("%s term external then next-hop self", to)
		t.line("%s term external then accept", to)
	case fabric.NextHopSelfAll:
		t.line("%s then next-hop self", to)
	}
	t.line("%s then accept", to)
}

// junosGroup writes the sessions of a profile in a family.
func (e *Emitter) junosGroup(t *text, d *fabric.Device, p *fabric.Profile, family fabric.Family, peers []peer) {
	set := t.setter("set protocols bgp group " + group(p, familyNames[family].number))
	internal := slices.ContainsFunc(peers, func(x peer) bool { return x.Profile == p && x.AS == d.AS })
	set(internal, "type internal")
	set(!internal, "type external")
	set(p.ReflectorClient, "cluster %s", d.Cluster())
	if p.Hold.On() {
		_, hold := holdOf(p)
		set(true, "hold-time %d", hold)
	}
	if p.BFD.On() {
		set(true, "bfd-liveness-detection minimum-interval %d", time.Duration(p.BFD).Milliseconds())
		set(true, "bfd-liveness-detection multiplier 3")
	}
	relaxed := d.MultipathRelax && !internal
	set(d.Multipath > 1 && relaxed, "multipath multiple-as")
	set(d.Multipath > 1 && !relaxed, "multipath")
	set(p.ASOverride, "as-override")
	set(p.RemovePrivateAS, "remove-private")
	set(p.ASOverride || p.AllowOwnAS > 0, "advertise-peer-as")
	junosUnicast(t, d, p, family)
	if p.Authentication.On() {
		t.line("# set protocols bgp group %s authentication-key SECRET (%s)", group(p, familyNames[family].number), p.Authentication)
	}
	junosChains(t, d, p, family, e.hides(d, p, peers))
	for _, x := range peers {
		for _, a := range x.Address {
			if x.Profile == p && fabric.FamilyOf(a) == family {
				set(!internal, "neighbor %s peer-as %d", a, x.AS)
				set(true, "neighbor %s description %s", a, x.Name)
			}
		}
	}
}

// junosUnicast writes what a group has in its family.
func junosUnicast(t *text, d *fabric.Device, p *fabric.Profile, family fabric.Family) {
	at := fmt.Sprintf("set protocols bgp group %s family %s unicast", group(p, familyNames[family].number), junosFamily[family])
	t.line("%s", at)
	set := t.setter(at)
	set(p.AllowOwnAS > 0, "loops %d", p.AllowOwnAS+1)
	set(p.AddPath.Receives(), "add-path receive")
	set(p.AddPath.Sends(), "add-path send path-count %d", min(64, max(2, d.Multipath)))
	if p.MaxPrefix > 0 {
		set(true, "prefix-limit maximum %d", p.MaxPrefix)
		// Without teardown it is a warning: FAB-SEC-004.
		set(p.MaxPrefixAction == fabric.MaxPrefixRestart, "prefix-limit teardown idle-timeout 5")
	}
}

// junosChains writes by which policies the routes of a group go, one after the other.
func junosChains(t *text, d *fabric.Device, p *fabric.Profile, family fabric.Family, hides bool) {
	n := familyNames[family].number
	set := t.setter("set protocols bgp group " + group(p, n))
	in, out := []string{"from-" + p.Name}, []string{"announced", "to-" + p.Name}
	if p.Import != "" {
		in = slices.Insert(in, 0, p.Import)
	}
	if hides {
		out = slices.Insert(out, 0, "outside") // what it does not reject goes on to the next one
	}
	if p.Export != "" {
		out = slices.Insert(out, len(out)-1, p.Export)
	}
	set(true, "import [ %s ]", strings.Join(in, " "))
	if p.Default == fabric.AlwaysDefault || gives(d, family) {
		// One that was learned goes before it.
		def, at := family.Default(), "set policy-options policy-statement default-"+n
		t.line("set routing-options %sstatic route %s discard preference 200", rib(def), def)
		t.line("%s term 1 from route-filter %s exact", at, def)
		t.line("%s term 1 then next-hop self", at)
		t.line("%s term 1 then accept", at)
		out = slices.Insert(out, 0, "default-"+n)
	}
	set(true, "export [ %s ]", strings.Join(out, " "))
}
