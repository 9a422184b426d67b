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

// symbol is a name as BIRD takes it.
func symbol(s string) string {
	return strings.NewReplacer("-", "_", ".", "_", "/", "_", ":", "_").Replace(s)
}

// template is the name of a profile's template; some profiles have names that
// mean something to BIRD.
func template(p *fabric.Profile) string { return "like_" + symbol(p.Name) }

// BIRDProtocol is what the session with an address of a neighbour is called.
func BIRDProtocol(p fabric.Neighbour, a netip.Addr) string {
	return symbol(p.Name+"_"+p.Port.Name) + "_" + called(a).number
}

// BIRDDynamic is what the sessions over a port without addresses are called, with a number behind.
func BIRDDynamic(i *fabric.Interface) string { return symbol("dyn_" + i.Name + "_") }

// bird writes bird.conf for BIRD 2.
func (e *Emitter) bird(d *fabric.Device) (string, error) {
	peers := e.peers(d)
	profiles := e.profiles(peers)
	for _, p := range profiles {
		switch {
		case p.ASOverride:
			return "", fmt.Errorf("%s: BIRD 2.0 has no as-override: use frr here, or no downwardDefault.asOverride", d.Name)
		case p.RemovePrivateAS:
			return "", fmt.Errorf("%s: BIRD 2.0 has no remove-private-as: use frr here", d.Name)
		}
	}
	if d.Originates(fabric.OriginRack) {
		return "", fmt.Errorf("%s: BIRD 2.0 makes no aggregates: use frr here, or endpoints.announce: server-block", d.Name)
	}
	var t text
	t.WriteString(e.header(d, "#", "parsed with BIRD 2.0.12"))
	t.line("log stderr all;")
	t.line("router id %s;", d.RouterID)
	t.line("protocol device { scan time 2; }")
	for _, p := range profiles {
		if p.BFD.On() {
			t.line("protocol bfd { }")
			break
		}
	}
	for _, family := range e.x.Families {
		e.birdTables(&t, d, family, profiles)
	}
	for _, f := range e.filters(profiles) {
		e.birdFilter(&t, f)
	}
	for _, p := range profiles {
		e.birdProfile(&t, d, p)
	}
	for _, p := range peers {
		e.birdSessions(&t, d, p)
	}
	birdAdvertisements(&t, peers)
	return t.String(), nil
}

// birdSessions writes those with a peer: one for each address, or one over link-local addresses.
func (e *Emitter) birdSessions(t *text, d *fabric.Device, p peer) {
	for _, a := range p.Address {
		t.line("protocol bgp %s from %s {", BIRDProtocol(p, a), template(p.Profile))
		t.line("\tlocal %s as %d; neighbor %s as %d; direct;", localAddress(p.Port, a), d.AS, a, p.AS)
		if e.endsByBFD(p) {
			// BFD ends it, on both sides: by the carrier of this one it would be closed, and the FIN
			// reach the peer by another plane, which would take it for a restart (RFC 4724 section 4.2).
			t.line("\tcheck link no;")
		}
		t.WriteString(e.birdChannel(p.Profile, fabric.FamilyOf(a), d, p.AS, false))
		t.line("}")
	}
	if len(p.Address) == 0 {
		t.line("protocol bgp %s from %s {", symbol(p.Name+"_"+p.Port.Name), template(p.Profile))
		t.line("\tlocal as %d; neighbor range fe80::/10 as %d; interface %q; dynamic name %q;", d.AS, p.AS, p.Port.Name, BIRDDynamic(p.Port))
		for _, family := range e.x.Families {
			t.WriteString(e.birdChannel(p.Profile, family, d, p.AS, family == fabric.IPv4))
		}
		t.line("}")
	}
}

// birdAdvertisements has peers on ports without addresses find this router (RFC 4861).
func birdAdvertisements(t *text, peers []peer) {
	begun := false
	for _, p := range peers {
		if len(p.Address) > 0 {
			continue
		}
		if !begun {
			t.line("protocol radv {")
			begun = true
		}
		t.line("\tinterface %q { default lifetime 0; max ra interval 10; };", p.Port.Name)
	}
	if begun {
		t.line("}")
	}
}

// birdTables writes what is announced, and how routes reach the kernel.
func (e *Emitter) birdTables(t *text, d *fabric.Device, family fabric.Family, profiles []*fabric.Profile) {
	w := familyNames[family]
	channel := "ipv" + w.number
	t.line("protocol direct { %s; check link yes; interface -\"cali*\", \"*\"; }", channel)
	birdOwn(t, d, family)
	birdBlocks(t, d, family)
	if makesDefault(d, family, profiles) {
		// A border has its own way out. Who makes one for others has none: one that was learned goes before it.
		preference := 1
		if gives(d, family) {
			preference = 200
		}
		t.line("protocol static made_default%s {", w.number)
		t.line("\t%s { preference %d; };", channel, preference)
		t.line("\troute %s blackhole;", family.Default())
		t.line("}")
	}
	t.line("protocol static discard%s {", w.number)
	t.line("\t%s;", channel)
	for _, p := range d.Discard {
		if fabric.FamilyOf(p.Addr()) == family {
			t.line("\troute %s blackhole;", p)
		}
	}
	t.line("}")
	birdKernel(t, d, w.number)
}

// birdOwn writes the function that tells what the device announces itself.
func birdOwn(t *text, d *fabric.Device, family fabric.Family) {
	number := familyNames[family].number
	var own []string
	for _, o := range d.Originate {
		switch {
		case fabric.FamilyOf(o.Prefix.Addr()) != family:
		case o.Kind == fabric.OriginLoopback, o.Kind == fabric.OriginSubnet, d.Role == fabric.RoleMachine && o.Kind == fabric.OriginEndpoints && o.Prefix.IsSingleIP():
			for p := range o.Each() {
				own = append(own, p.String())
			}
		}
	}
	t.line("function own%s() {", number)
	if len(own) > 0 {
		t.line("\tif source = RTS_DEVICE && net ~ [ %s ] then return true;", strings.Join(own, ", "))
	}
	if d.Role == fabric.RoleServer {
		// Endpoints are routes of the kernel to their interfaces.
		t.line("\tif source = RTS_INHERIT then return true;")
	}
	t.line("\treturn proto = \"blocks%s\";", number)
	t.line("}")
}

// birdBlocks writes routes that are announced and lead to no interface: blocks of a server, what is behind a machine, and the
// ways to machines that speak no BGP.
func birdBlocks(t *text, d *fabric.Device, family fabric.Family) {
	number := familyNames[family].number
	t.line("protocol static blocks%s {", number)
	t.line("\tipv%s;", number)
	for _, o := range d.Originate {
		block := d.Role == fabric.RoleServer && o.Kind == fabric.OriginBlock
		behind := d.Role == fabric.RoleMachine && o.Kind == fabric.OriginEndpoints && !o.Prefix.IsSingleIP()
		if fabric.FamilyOf(o.Prefix.Addr()) == family && (block || behind) {
			t.line("\troute %s blackhole;", o.Prefix)
		}
	}
	staticLines(d, func(of fabric.Family, p netip.Prefix, via netip.Addr) {
		if of == family {
			t.line("\troute %s via %s;", p, via)
		}
	})
	t.line("}")
}

// birdKernel writes what is taken from the kernel, and what is put there.
func birdKernel(t *text, d *fabric.Device, number string) {
	t.line("protocol kernel {")
	if d.Role == fabric.RoleServer {
		t.line("\tlearn;")
	}
	t.line("\tpersist; merge paths on limit %d;", max(1, d.Multipath))
	t.line("\tipv%s {", number)
	switch {
	case d.Role != fabric.RoleServer:
		t.line("\t\timport none;")
	case d.VRouter != nil && !d.VRouter.PreferLocal:
		t.line("\t\timport filter { if ifname ~ \"cali*\" then accept; reject; };")
	default:
		// What is here goes before what was learned: FAB-VR-002.
		t.line("\t\timport filter { if ifname ~ \"cali*\" then { preference = 300; accept; } reject; };")
	}
	pass := fmt.Sprintf("source = RTS_BGP || proto = \"discard%s\"", number)
	if discardsBlocks(d) {
		pass += fmt.Sprintf(" || proto = \"blocks%s\"", number)
	}
	t.line("\t\texport filter { if %s then accept; reject; };", pass)
	t.line("\t};")
	t.line("}")
}

// discardsBlocks tells whether packets to what no endpoint of a block has are dropped: without that they loop,
// FAB-VR-003.
func discardsBlocks(d *fabric.Device) bool {
	return !slices.ContainsFunc(d.Originate, func(o fabric.Origin) bool {
		return o.Kind == fabric.OriginBlock && !slices.Contains(d.Discard, o.Prefix)
	})
}

// birdFilter writes a filter as a function for each family.
func (e *Emitter) birdFilter(t *text, f *fabric.Filter) {
	for _, family := range e.x.Families {
		t.line("function list_%s_%s() {", symbol(f.Name), familyNames[family].number)
		for _, r := range f.Rules {
			if fabric.FamilyOf(r.Within.Addr()) == family {
				low, high := r.Lengths()
				t.line("\tif net ~ [ %s{%d,%d} ] then return %v;", r.Within, low, high, r.Permit)
			}
		}
		t.line("\treturn false;")
		t.line("}")
	}
}

// birdProfile writes the template of a profile.
func (e *Emitter) birdProfile(t *text, d *fabric.Device, p *fabric.Profile) {
	t.line("template bgp %s {", template(p))
	if p.Hold.On() {
		keepalive, hold := holdOf(p)
		t.line("\thold time %d; keepalive time %d;", hold, keepalive)
	}
	// By itself it waits for one to five minutes after an error, as BFD that is down is one, before it tries again.
	t.line("\terror wait time 1, 10; connect delay time 1; connect retry time 5;")
	if p.BFD.On() {
		ms := time.Duration(p.BFD).Milliseconds()
		t.line("\tbfd { min rx interval %d ms; min tx interval %d ms; multiplier 3; };", ms, ms)
	}
	if p.ReflectorClient {
		t.line("\trr client;")
		if d.ClusterID.IsValid() {
			t.line("\trr cluster id %s;", d.ClusterID)
		}
	}
	switch {
	case p.GracefulRestart.On():
		t.line("\tgraceful restart on; graceful restart time %d;", int(time.Duration(p.GracefulRestart).Seconds()))
	case d.Role == fabric.RoleToR || d.Role == fabric.RoleSpine || d.Role == fabric.RoleBorder:
		t.line("\tgraceful restart on;") // and the kernel goes on: persist
	}
	if p.Role != "" {
		t.line("\tlocal role %s;", p.Role)
	}
	if p.AllowOwnAS > 0 {
		t.line("\tallow local as %d;", p.AllowOwnAS)
	}
	if p.Authentication.On() {
		t.line("\t# password \"SECRET\"; (%s; BIRD 2.0 has md5)", p.Authentication)
	}
	t.line("}")
}

// birdChannel writes the channel of a session.
func (e *Emitter) birdChannel(p *fabric.Profile, family fabric.Family, d *fabric.Device, as uint32, extended bool) string {
	var t text
	n := familyNames[family].number
	t.line("\tipv%s {", n)
	if extended {
		t.line("\t\textended next hop on;")
	}
	pass := "accept;"
	if p.LocalPref > 0 {
		pass = fmt.Sprintf("{ bgp_local_pref = %d; accept; }", p.LocalPref)
	}
	condition := "true"
	if p.Import != "" {
		condition = fmt.Sprintf("list_%s_%s()", symbol(p.Import), n)
	}
	t.line("\t\timport filter { if %s then %s reject; };", condition, pass)
	// What was learned and what is its own; never connected subnets: FAB-RR-008.
	export := fmt.Sprintf("own%s()", n)
	if !p.OwnOnly {
		export = "source = RTS_BGP || " + export
	}
	if p.Default == fabric.AlwaysDefault || gives(d, family) {
		export += fmt.Sprintf(" || proto = \"made_default%s\"", n)
	}
	export = "(" + export + ")"
	if p.Export != "" {
		export += fmt.Sprintf(" && list_%s_%s()", symbol(p.Export), n)
	}
	t.line("\t\texport filter { if %s then accept; reject; };", export)
	switch {
	case p.NextHopSelf == fabric.NextHopSelfEBGP && as == d.AS:
		t.line("\t\tnext hop self ebgp;")
	case p.NextHopSelf != fabric.NextHopSelfNone:
		t.line("\t\tnext hop self;")
	}
	switch p.AddPath {
	case fabric.AddPathSend:
		t.line("\t\tadd paths tx;")
	case fabric.AddPathReceive:
		t.line("\t\tadd paths rx;")
	case fabric.AddPathBoth:
		t.line("\t\tadd paths on;")
	}
	switch {
	case p.MaxPrefix == 0:
	case p.MaxPrefixAction == fabric.MaxPrefixRestart:
		t.line("\t\timport limit %d action restart;", p.MaxPrefix)
	default:
		t.line("\t\timport limit %d action warn;", p.MaxPrefix)
	}
	t.line("\t};")
	return t.String()
}

// makesDefault tells whether a device tells a peer of a default route that it makes.
func makesDefault(d *fabric.Device, family fabric.Family, profiles []*fabric.Profile) bool {
	return gives(d, family) || slices.ContainsFunc(profiles, func(p *fabric.Profile) bool { return p.Default == fabric.AlwaysDefault })
}
