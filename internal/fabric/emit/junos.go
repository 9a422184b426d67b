// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"net/netip"
	"slices"
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
	var t text
	t.WriteString(e.header(d, "#", fmt.Sprintf(notRun, "Juniper Junos")))
	t.line("set system host-name %s", d.Name)
	for _, f := range d.Interfaces {
		name := f.Name
		if name == "lo" {
			name = "lo0"
		}
		if len(f.Addresses) == 0 {
			return "", fmt.Errorf("%s: sessions without addresses are not written for Junos: servers: {uplinks: routed}, or use frr here", d.Name)
		}
		for _, a := range f.Addresses {
			t.line("set interfaces %s unit 0 family %s address %s", name, junosFamily[fabric.FamilyOf(a.Addr())], a)
		}
	}
	t.line("set routing-options router-id %s", d.RouterID)
	t.line("set routing-options autonomous-system %d", d.AS)
	t.line("set routing-options graceful-restart restart-duration %d", restart(profiles))
	// What is equal in BGP is used together only if the forwarding table is told so.
	t.line("set policy-options policy-statement per-flow then load-balance per-packet")
	t.line("set routing-options forwarding-table export per-flow")
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
	for _, f := range e.filters(profiles) {
		e.junosFilter(&t, f)
	}
	e.junosAnnounced(&t, d)
	for _, p := range profiles {
		e.junosProfile(&t, d, p, peers)
	}
	return t.String(), nil
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
	t.line("%s term learned from protocol bgp", at)
	t.line("%s term learned then next policy", at)
	for _, family := range e.x.Families {
		own := map[string][]netip.Prefix{}
		for _, o := range d.Originate {
			switch {
			case fabric.FamilyOf(o.Prefix.Addr()) != family || o.Kind == fabric.OriginDefault:
			case o.Kind == fabric.OriginRack:
				// What is in it is not told beside it.
				own["aggregate"] = append(own["aggregate"], o.Prefix)
				t.line("%s term inside-%s from route-filter %s longer", at, junosFamily[family], o.Prefix)
				t.line("%s term inside-%s then reject", at, junosFamily[family])
				t.line("insert policy-options policy-statement announced term inside-%s before term learned", junosFamily[family])
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

// junosProfile writes the groups of a profile.
func (e *Emitter) junosProfile(t *text, d *fabric.Device, p *fabric.Profile, peers []peer) {
	imports, exports := "", "announced"
	if p.Import != "" {
		imports = p.Import + " "
	}
	if p.Export != "" {
		exports += " " + p.Export
	}
	from, to := "from-"+p.Name, "to-"+p.Name
	if p.LocalPref > 0 {
		t.line("set policy-options policy-statement %s then local-preference %d", from, p.LocalPref)
	}
	t.line("set policy-options policy-statement %s then accept", from)
	switch p.NextHopSelf {
	case fabric.NextHopSelfEBGP:
		// Only what came by eBGP: else traffic inside a rack takes a detour (FAB-NH-006).
		t.line("set policy-options policy-statement %s term external from route-type external", to)
		t.line("set policy-options policy-statement %s term external then next-hop self", to)
		t.line("set policy-options policy-statement %s term external then accept", to)
	case fabric.NextHopSelfAll:
		t.line("set policy-options policy-statement %s then next-hop self", to)
	}
	t.line("set policy-options policy-statement %s then accept", to)
	for _, family := range e.x.Families {
		n := frrFamilies[family].number
		if !uses(p, n, peers) {
			continue
		}
		at := "set protocols bgp group " + group(p, n)
		kind := "external"
		for _, x := range peers {
			if x.Profile == p && x.AS == d.AS {
				kind = "internal"
			}
		}
		t.line("%s type %s", at, kind)
		set := func(on bool, format string, v ...any) {
			if on {
				t.line(at+" "+format, v...)
			}
		}
		if p.ReflectorClient {
			t.line("%s cluster %s", at, d.Cluster())
		}
		if p.Hold.On() {
			_, hold := holdOf(p)
			t.line("%s hold-time %d", at, hold)
		}
		if p.BFD.On() {
			t.line("%s bfd-liveness-detection minimum-interval %d", at, time.Duration(p.BFD).Milliseconds())
			t.line("%s bfd-liveness-detection multiplier 3", at)
		}
		if d.Multipath > 1 {
			multiple := ""
			if d.MultipathRelax && kind == "external" {
				multiple = " multiple-as"
			}
			t.line("%s multipath%s", at, multiple)
		}
		set(p.ASOverride, "as-override")
		set(p.RemovePrivateAS, "remove-private")
		set(p.ASOverride || p.AllowOwnAS > 0, "advertise-peer-as")
		unicast := fmt.Sprintf("family %s unicast", junosFamily[family])
		t.line("%s %s", at, unicast)
		set(p.AllowOwnAS > 0, "%s loops %d", unicast, p.AllowOwnAS+1)
		set(p.AddPath.Receives(), "%s add-path receive", unicast)
		set(p.AddPath.Sends(), "%s add-path send path-count %d", unicast, min(64, max(2, d.Multipath)))
		if p.MaxPrefix > 0 {
			t.line("%s %s prefix-limit maximum %d", at, unicast, p.MaxPrefix)
			// Without teardown it is a warning: FAB-SEC-004.
			set(p.MaxPrefixAction == fabric.MaxPrefixRestart, "%s prefix-limit teardown idle-timeout 5", unicast)
		}
		if p.Authentication.On() {
			t.line("# %s authentication-key SECRET (%s)", at, p.Authentication)
		}
		t.line("%s import [ %s%s ]", at, imports, from)
		if p.Default == fabric.AlwaysDefault || gives(d, family) {
			// One that was learned goes before it.
			def := family.Default()
			t.line("set routing-options %sstatic route %s discard preference 200", rib(def), def)
			t.line("set policy-options policy-statement default-%s term 1 from route-filter %s exact", n, def)
			t.line("set policy-options policy-statement default-%s term 1 then next-hop self", n)
			t.line("set policy-options policy-statement default-%s term 1 then accept", n)
			t.line("%s export [ default-%s %s %s ]", at, n, exports, to)
		} else {
			t.line("%s export [ %s %s ]", at, exports, to)
		}
		for _, x := range peers {
			for _, a := range x.Address {
				if x.Profile == p && fabric.FamilyOf(a) == family {
					if kind == "external" {
						t.line("%s neighbor %s peer-as %d", at, a, x.AS)
					}
					t.line("%s neighbor %s description %s", at, a, x.Name)
				}
			}
		}
	}
}
