// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Limits of the address plan: see plan.go.
const (
	maxSpines = 63
	maxPlanes = 16
	maxRacks  = 10_000

	maxRackName = 57 // the last server of a rack has -s4095 behind it
)

var deviceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// NameOf makes a name of a fabric of what a file is called: small letters, digits and - for what else there is.
func NameOf(word string) string {
	name := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(word), "-"), "-")
	if !deviceName.MatchString(name) {
		return "pod-a"
	}
	return name
}

const wantName = "want small letters, digits and - inside, 63 at most"

// smaller ends what is said of a name that would do in small letters.
func smaller(name string) string {
	if small := strings.ToLower(name); small != name && deviceName.MatchString(small) {
		return fmt.Sprintf(", such as %q", small)
	}
	return ""
}

// designName is what ports, filters and the like are called: words of every configuration language.
var designName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._:/-]{0,126})$`)

// check looks for what cannot be designed: what could be and is bad, the rules
// tell of the design.
func (f *Fabric) check(e *faults) {
	s := &f.Spec
	if !deviceName.MatchString(f.Metadata.Name) {
		e.add("metadata.name", wantName+smaller(f.Metadata.Name), "%q", clip(f.Metadata.Name))
	}
	checkFamilies(e, "spec.families", s.Families)
	if given(e, "spec.model", s.Model); s.Model == "" {
		return
	}
	f.checkZeros(e)
	f.checkCounts(e)
	f.checkPlan(e)
	checkSwitch(e, "spec.switches.tor", &s.Switches.ToR)
	checkSwitch(e, "spec.switches.spine", &s.Switches.Spine)
	f.checkAdvanced(e)
	f.checkTimes(e)
	f.checkRates(e)
	f.checkRacks(e)
	f.checkModel(e)
	f.checkBorders(e)
	if len(e.list) == 0 {
		f.checkPools(e)
		f.checkAS(e)
		f.checkAnycast(e)
		f.checkMachines(e)
	}
	if len(e.list) == 0 {
		f.checkOverrides(e)
	}
}

// number is one in a file, by its field.
type number struct {
	field string
	is    int
}

// between refuses a number outside of a range.
func (n number) between(e *faults, from, to int, what string) {
	if n.is < from || n.is > to {
		e.add(n.field, fmt.Sprintf("want %d to %d %s", from, to, what), "%d", n.is)
	}
}

// checkZeros refuses a 0 where another number is filled in for what is left out: that would be taken for what was said.
func (f *Fabric) checkZeros(e *faults) {
	g := &f.given
	for _, n := range []number{
		{"spec.spine.count", g.Spine.Count}, {"spec.racks.tors", g.Racks.ToRs}, {"spec.routeReflectors.perPlane", g.Reflectors.PerPlane},
		{"spec.plan.serversPerRack", g.Plan.ServersPerRack}, {"spec.plan.endpointsPerServer", g.Plan.EndpointsPerServer},
	} {
		if n.is == 0 && f.lines[n.field] > 0 {
			e.add(n.field, "want 1 or more, or leave it out", "0")
		}
	}
}

// checkCounts refuses more or fewer of something than there can be.
func (f *Fabric) checkCounts(e *faults) {
	s := &f.Spec
	number{"spec.racks.count", s.Racks.Count}.between(e, 1, maxRacks, "racks")
	number{"spec.racks.tors", s.Racks.ToRs}.between(e, 1, 2, "ToRs in a rack")
	if s.Racks.List == nil || s.Servers.PerRack != 0 {
		number{"spec.servers.perRack", s.Servers.PerRack}.between(e, 1, 4096, "servers")
	}
	number{"spec.endpoints.perServer", s.Endpoints.PerServer}.between(e, 1, 65536, "endpoints on a server")
	number{"spec.endpoints.growth.percentPerYear", s.Endpoints.Growth.PercentPerYear}.between(e, 0, 1000, "percent")
	number{"spec.endpoints.growth.years", s.Endpoints.Growth.Years}.between(e, 0, 10, "years")
	number{"spec.endpoints.strays", s.Endpoints.Strays}.between(e, 0, 1<<24, "endpoints that may be outside of their blocks")
	if s.Endpoints.Strays > 0 && s.Endpoints.Announce == OneByOne {
		e.add("spec.endpoints.strays", "leave it out, or say announce: server-block", "endpoints that are announced one by one are in no block")
	}
	spines := number{"spec.spine.count", s.Spine.Count}
	if s.Spine.Kind == L2 {
		spines.between(e, 1, maxPlanes, "planes")
	} else {
		spines.between(e, 1, maxSpines, "spines")
	}
	if s.Reflectors.PerPlane != 0 {
		number{"spec.routeReflectors.perPlane", s.Reflectors.PerPlane}.between(e, 1, 8, "reflectors")
	}
}

// checkPlan refuses a plan without room for what is there, or whose blocks are no prefixes.
func (f *Fabric) checkPlan(e *faults) {
	s := &f.Spec
	servers, endpoints := number{"spec.plan.serversPerRack", s.Plan.ServersPerRack}, number{"spec.plan.endpointsPerServer", s.Plan.EndpointsPerServer}
	if least := f.mostServers(); least <= 4096 { // else that is told
		servers.between(e, max(16, least), 4096, "servers, those of the fullest rack and 16 at least")
	}
	endpoints.between(e, s.Endpoints.PerServer, maxRun, "endpoints, those of a server now at least")
	for _, n := range []number{servers, endpoints} {
		if n.is != powerOfTwo(n.is) {
			e.add(n.field, fmt.Sprintf("want a power of two, such as %d, so that a block is a prefix", powerOfTwo(n.is)), "%d", n.is)
		}
	}
}

// checkSwitch refuses a switch that nobody knows, or that is none.
func checkSwitch(e *faults, at string, s *SwitchSpec) {
	checkSilicon(e, at+".catalog", s.Catalog)
	if s.Software == Muslin {
		e.add(at+".software", "want frr, bird or gobgp: muslin runs on servers", "%s", s.Software)
	}
}

// checkSilicon refuses a name that the catalogue does not have.
func checkSilicon(e *faults, at, name string) {
	if _, ok := silicon(name); !ok && name != "" {
		e.add(at, meant(name, siliconNames(), reflect.TypeFor[struct{}]())+"; `muslin fabric switches` lists them", "%q is not in the catalogue", clip(name))
	}
}

// checkFamilies refuses one that is given twice: everything would be there twice.
func checkFamilies(e *faults, at string, list []Family) {
	for i, f := range list {
		if slices.Contains(list[:i], f) {
			e.add(fmt.Sprintf("%s[%d]", at, i), "leave one out", "%s is given twice", f)
		}
	}
}

// checkAdvanced refuses what would acknowledge nothing.
func (f *Fabric) checkAdvanced(e *faults) {
	for i, x := range f.Spec.BGP.Advanced {
		at := fmt.Sprintf("spec.bgp.advanced[%d]", i)
		if known := []string{"allowas-in", "as-override", "remove-private-as"}; !slices.Contains(known, strings.ToLower(x.Name)) {
			e.add(at+".name", wantOneOf(x.Name, known), "%q", clip(x.Name))
		}
		if x.Reason == "" {
			e.add(at+".reason", "say why the fabric needs it", "missing")
		}
	}
}

// checkTimes refuses what no daemon takes: hold times of RFC 4271 section 4.2, restart times of RFC 4724 section 3, and
// intervals of BFD as FRR has them.
func (f *Fabric) checkTimes(e *faults) {
	b := &f.Spec.BGP
	for _, c := range []struct {
		field    string
		is       Duration
		from, to time.Duration
	}{
		{"timers.hold", b.Timers.Hold, 3 * time.Second, 65535 * time.Second},
		{"bfd.segment", b.BFD.Segment, 10 * time.Millisecond, time.Minute},
		{"bfd.planes", b.BFD.Planes, 10 * time.Millisecond, time.Minute},
		{"bfd.links", b.BFD.Links, 10 * time.Millisecond, time.Minute},
		{"gracefulRestart.vrouter", b.GracefulRestart.VRouter, time.Second, 4095 * time.Second},
		{"gracefulRestart.rr", b.GracefulRestart.RR, time.Second, 4095 * time.Second},
	} {
		if c.is.On() && (time.Duration(c.is) < c.from || time.Duration(c.is) > c.to) {
			e.add("spec.bgp."+c.field, fmt.Sprintf("want %s to %s, or off", Duration(c.from), Duration(c.to)), "%s", c.is)
		}
	}
}

var planned = regexp.MustCompile(`^(?:spine\d+|plane\d+(?:-rr\d+)?|rr\d+|(.+)-(?:s|t|rr)\d+)$`)

// places are where in the file the things of a list are, by name.
type places map[string]string

// unique tells of a name that another thing has, and where that is; the first one to have it keeps it.
func (p places) unique(e *faults, at, name string) {
	if first, twice := p[name]; twice {
		e.add(at+".name", first+" has it; names are unique", "%q", clip(name))
		return
	}
	p[name] = at
}

// checkDeviceName refuses a name that is none, that another has, or that the design gives to a device of its own.
func (f *Fabric) checkDeviceName(e *faults, at, name string, seen places) {
	m := planned.FindStringSubmatch(name)
	racks := func() bool {
		for i := range f.Spec.Racks.Count {
			if f.rack(i).Name == m[1] {
				return true
			}
		}
		return false
	}
	switch {
	case !deviceName.MatchString(name):
		e.add(at+".name", wantName+smaller(name), "%q", clip(name))
	case m != nil && (m[1] == "" || racks()):
		e.add(at+".name", "want another name", "%q: so a switch, server or reflector of the fabric itself is called", name)
	default:
		seen.unique(e, at, name)
	}
}

func (f *Fabric) checkRacks(e *faults) {
	seen := places{}
	for i := range f.Spec.Racks.List {
		at := fmt.Sprintf("spec.racks[%d]", i)
		r := f.rack(i)
		if !deviceName.MatchString(r.Name) || len(r.Name) > maxRackName {
			e.add(at+".name", fmt.Sprintf("want small letters, digits and - inside, %d at most, since names of servers begin with it", maxRackName)+smaller(r.Name), "%q", clip(r.Name))
		}
		seen.unique(e, at, r.Name)
		if r.Servers < 1 || r.Servers > 4096 {
			e.add(at+".servers", "want 1 to 4096 servers here or in spec.servers.perRack", "%d", r.Servers)
		}
		if r.ToRs > 2 {
			e.add(at+".tors", "want 1 or 2 ToRs", "%d", r.ToRs)
		}
		checkSilicon(e, at+".tor", r.ToR)
		if r.ToR != "" && f.Spec.Model == Ethernet {
			e.add(at+".tor", "leave it out: the switches of planes route nothing", "%s", clip(r.ToR))
		}
	}
}

// checkModel refuses what the model does not have, rather than to ignore it.
func (f *Fabric) checkModel(e *faults) {
	s := &f.Spec
	only := func(field string, given bool, models ...Model) {
		var names []string
		for _, m := range models {
			if m == s.Model {
				given = false
			}
			names = append(names, string(m))
		}
		if given {
			have := "has"
			if len(names) > 1 {
				have = "have"
			}
			e.add(field, "only "+strings.Join(names, " and ")+" "+have+" it; leave it out", "the model is %s", s.Model)
		}
	}
	only("spec.inRack", s.InRack != InRack{}, ASPerRack)
	only("spec.routeReflectors", s.Reflectors != Reflectors{}, Ethernet)
	only("spec.downwardDefault", s.Downward != Downward{}, DownwardDefault)
	only("spec.tors.as", s.ToRs.AS != "", ASPerServer)
	only("spec.tors.isl", s.ToRs.ISL, ASPerRack)
	only("spec.rates.uplink", s.Rates.Uplink != 0, ASPerRack, ASPerServer, DownwardDefault)
	only("spec.servers.uplinks", s.Servers.Uplinks != "", ASPerRack, ASPerServer, DownwardDefault)
	if s.Model == ASPerRack && s.ToRs.ISL && !f.dualToRs() {
		e.add("spec.tors.isl", "say racks.tors: 2, or leave it out", "true, and no rack has two ToRs to link")
	}
	if s.Model == Ethernet && s.Spine.Kind == L3 {
		e.add("spec.spine.kind", "want l2: an Ethernet fabric has planes", "l3")
	}
	if s.Model == ASPerServer && s.ToRs.AS == Shared && s.Spine.Kind == L3 {
		e.add("spec.tors.as", "want unique, or spine.kind: l2, whose planes keep the ToRs' AS in one piece", "shared")
	}
	if s.Spine.Kind == L2 && s.Spine.AS != "" {
		e.add("spec.spine.as", "the planes of an l2 spine are switches and have no AS number: leave it out", "%s", s.Spine.AS)
	}
	if s.Model == ASPerRack && s.Servers.Uplinks != OnSegment {
		e.add("spec.servers.uplinks", "want segment: the routers of a rack are one AS, and reach each other without another", "%s", s.Servers.Uplinks)
	}
	if s.Servers.Uplinks == OnSegment && s.InRack.Sessions == RackMesh && s.InRack.Reflector != "" {
		e.add("spec.inRack.reflector", "a mesh has none: leave it out, or say sessions: reflector", "%s", s.InRack.Reflector)
	}
	if s.InRack.Reflector != "" && s.InRack.Reflector != OnToR && f.dualToRs() {
		e.add("spec.inRack.reflector", "want tor: a reflector on two segments tells its clients of one way only", "%s, with two ToRs in a rack", s.InRack.Reflector)
	}
	if s.Model == DownwardDefault {
		f.checkDownward(e)
	}
}

func (f *Fabric) checkDownward(e *faults) {
	d := &f.Spec.Downward
	if f.Spec.Spine.Kind == L2 && (d.Origin == FromSpine || d.Fallback == InterSpine) {
		e.add("spec.downwardDefault", "want origin: tor and fallback: none: planes are switches and announce nothing", "the spine is l2")
	}
	if d.Fallback == DualToR && f.Spec.Racks.ToRs != 2 {
		e.add("spec.downwardDefault.fallback", "say spec.racks.tors: 2, or want inter-spine or border", "dual-tor with %d ToR", f.Spec.Racks.ToRs)
	}
	if d.Exceptions != 0 {
		f.checkExceptions(e)
	}
	if d.Fallback != BorderRoute && d.Origin != FromBorder {
		return
	}
	for _, b := range f.Spec.Borders {
		if b.Default {
			return
		}
	}
	e.add("spec.downwardDefault", "add a border with default: true to spec.border", "no border announces a default route")
}

func (f *Fabric) checkExceptions(e *faults) {
	const at = "spec.downwardDefault.exceptions"
	switch d := &f.Spec.Downward; {
	case d.Exceptions < 0 || d.Exceptions > 1<<20:
		e.add(at, "want how many moved endpoints a ToR may know, such as 100", "%d", d.Exceptions)
	case f.Spec.Endpoints.Announce == OneByOne:
		e.add(at, "leave it out, or say endpoints.announce: server-block", "endpoints that are announced one by one need none: spines know where each is")
	case f.Spec.Endpoints.Announce == RackBlock:
		e.add(at, "say endpoints.announce: server-block", "a ToR that announces the block of its rack tells servers of nothing in it")
	case f.Spec.Spine.Kind == L2:
		e.add(at, "leave it out: on planes every ToR has all routes", "the spine is l2")
	case d.ASOverride:
		e.add(at, "leave out one of the two", "with asOverride everything that spines tell would travel on, and come back")
	}
}

func (f *Fabric) checkBorders(e *faults) {
	if len(f.Spec.Borders) > 16 {
		e.add("spec.border", "want 16 at most", "%d borders", len(f.Spec.Borders))
	}
	seen := places{}
	for i, b := range f.Spec.Borders {
		at := fmt.Sprintf("spec.border[%d]", i)
		f.checkDeviceName(e, at, b.Name, seen)
		if b.AS == 0 {
			e.add(at+".as", "want the AS number of this router", "missing")
		}
	}
}

// checkPools refuses pools that overlap or are too small for the plan.
func (f *Fabric) checkPools(e *faults) {
	type pool struct {
		field string
		cidr  netip.Prefix
	}
	p := &f.Spec.Pools
	var all []pool
	for i, c := range p.Endpoints {
		all = append(all, pool{fmt.Sprintf("spec.pools.endpoints[%d].cidr", i), c.CIDR})
	}
	for i, c := range p.Loopbacks {
		all = append(all, pool{fmt.Sprintf("spec.pools.loopbacks[%d]", i), c})
	}
	for i, c := range p.Links {
		all = append(all, pool{fmt.Sprintf("spec.pools.links[%d]", i), c})
	}
	for i, a := range all {
		if !a.cidr.IsValid() {
			e.add(a.field, "want a prefix such as 10.64.0.0/14 or fd64::/48", "no prefix")
			continue
		}
		if r := reserved(a.cidr); r.IsValid() {
			e.add(a.field, wantUsable, "%s overlaps %s", a.cidr, r)
		}
		if a.cidr != a.cidr.Masked() {
			e.add(a.field, "want "+a.cidr.Masked().String(), "%s has bits behind its length", a.cidr)
		}
		if strings.HasPrefix(a.field, "spec.pools.endpoints") && !f.has(FamilyOf(a.cidr.Addr())) {
			e.add(a.field, fmt.Sprintf("add %s to spec.families, or take the pool out", FamilyOf(a.cidr.Addr())), "%s is of a family that is not routed", a.cidr)
		}
		for _, b := range all[:i] {
			if b.cidr.IsValid() && a.cidr.Overlaps(b.cidr) {
				e.add(a.field, "give each pool addresses of its own", "%s%s overlaps %s%s of %s", a.cidr, f.whose(a.cidr), b.cidr, f.whose(b.cidr), b.field)
			}
		}
	}
	f.checkUsed(e, "spec.pools.loopbacks", p.Loopbacks)
	f.checkUsed(e, "spec.pools.links", p.Links)
	if len(e.list) > 0 {
		return
	}
	f.checkSizes(e)
}

// checkUsed refuses pools that no device would have an address from: of loopbacks and of links there is one of each family
// that is routed, and loopbacks of IPv4 are router IDs everywhere.
func (f *Fabric) checkUsed(e *faults, at string, pools []netip.Prefix) {
	for i, p := range pools {
		family := FamilyOf(p.Addr())
		switch first, _ := ofFamily(pools, family); {
		case !p.IsValid():
		case !f.has(family) && (family != IPv4 || at != "spec.pools.loopbacks"):
			e.add(fmt.Sprintf("%s[%d]", at, i), fmt.Sprintf("add %s to spec.families, or take the pool out", family), "%s is of a family that is not routed", p)
		case first != p:
			e.add(fmt.Sprintf("%s[%d]", at, i), "give one pool of each family, large enough", "%s would not be used: %s comes before it", p, first)
		}
	}
}

// notForwarded are the ranges whose packets no router takes from one link to another: RFC 1122 section 3.2.1.3, 3927,
// 5771 and 1112, 4291.
var notForwarded = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/16"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

const wantUsable = "want addresses that routers forward packets to, such as 10.64.0.0/14 or fd64::/48"

// reserved is the range that is not forwarded and that a prefix has a part of, or none.
func reserved(p netip.Prefix) netip.Prefix {
	if i := slices.IndexFunc(notForwarded, p.Overlaps); i >= 0 {
		return notForwarded[i]
	}
	return netip.Prefix{}
}

func (f *Fabric) checkAnycast(e *faults) {
	seen := map[netip.Addr]int{}
	for i, a := range f.Spec.Anycast {
		at := fmt.Sprintf("spec.anycast[%d]", i)
		f.checkAnycastAddress(e, at+".ip", a.IP)
		if first, twice := seen[a.IP]; twice {
			e.add(at+".ip", "name all servers there", "%s is in spec.anycast[%d] already", a.IP, first)
		} else {
			seen[a.IP] = i
		}
		if len(a.Servers) == 0 {
			e.add(at+".servers", "name the servers that have it, such as r0/s3", "none")
		}
		for j, name := range a.Servers {
			here := fmt.Sprintf("%s.servers[%d]", at, j)
			if _, _, ok := f.serverNamed(name); !ok {
				e.add(here, "want rack/server, such as "+f.rack(0).Name+"/s0", "%q is no server", clip(name))
			} else if slices.Contains(a.Servers[:j], name) {
				e.add(here, "leave one out", "%s is given twice", name)
			}
		}
	}
}

// checkAnycastAddress refuses one that cannot be routed, or that something else has.
func (f *Fabric) checkAnycastAddress(e *faults, at string, ip netip.Addr) {
	if !ip.IsValid() || !f.has(FamilyOf(ip)) {
		e.add(at, "want an address of a family that is routed", "%s", ip)
		return
	}
	one := netip.PrefixFrom(ip, ip.BitLen())
	if r := reserved(one); r.IsValid() {
		e.add(at, wantUsable, "%s is in %s", ip, r)
	}
	for _, p := range slices.Concat(f.Spec.Pools.Loopbacks, f.Spec.Pools.Links) {
		if p.Contains(ip) {
			e.add(at, "want one that is nobody's", "%s is in %s, which routers have addresses of", ip, p)
		}
	}
	if server := f.serverWith(ip); server != "" {
		e.add(at, "want one that is nobody's", "%s is that of an endpoint of %s", ip, server)
		return
	}
	for _, p := range f.Spec.Pools.Endpoints {
		if p.CIDR.Contains(ip) {
			e.add(at, "want one outside of the pools, such as "+map[bool]string{true: "192.168.99.1", false: "fd00:99::1"}[ip.Is4()],
				"%s is in %s%s, of which every address is one endpoint's", ip, p.CIDR, strings.TrimSuffix(f.whose(p.CIDR), ","))
		}
	}
}

// serverWith finds the server that has an endpoint with an address, by plan.
func (f *Fabric) serverWith(a netip.Addr) string {
	for rack := range f.Spec.Racks.Count {
		if !f.rackBlock(FamilyOf(a), rack).Contains(a) {
			continue
		}
		for server := range f.rack(rack).Servers {
			if block := f.endpointsOf(FamilyOf(a), rack, server); block.Contains(a) && a.Less(addr(block, f.Spec.Endpoints.PerServer)) {
				return fmt.Sprintf("%s/s%d", f.rack(rack).Name, server)
			}
		}
	}
	return ""
}

// serverNamed finds a server by rack and number, written r1/s3.
func (f *Fabric) serverNamed(name string) (rack, server int, ok bool) {
	r, s, _ := strings.Cut(name, "/s")
	for i := range f.Spec.Racks.Count {
		if f.rack(i).Name != r {
			continue
		}
		if n, err := fmt.Sscanf(s, "%d", &server); n != 1 || err != nil || fmt.Sprint(server) != s {
			return 0, 0, false
		}
		return i, server, server < f.rack(i).Servers
	}
	return 0, 0, false
}

// check looks for what makes a design that was written by hand unreadable:
// names that lead nowhere. What leads somewhere and is bad, the rules tell.
func (g *Design) check(e *faults) {
	if !deviceName.MatchString(g.Metadata.Name) {
		e.add("metadata.name", wantName, "%q", clip(g.Metadata.Name))
	}
	checkFamilies(e, "families", g.Families)
	if len(g.Families) == 0 {
		e.add("families", "want ["+strings.Join(IPv4.words(), ", ")+"], or one of them", "none")
	}
	if len(g.Devices) == 0 {
		e.add("devices", "`muslin fabric design FILE -o json` prints a design to start from", "none")
	}
	n := &named{e, places{}, places{}, places{}, places{}, places{}}
	for i := range g.Platforms {
		n.unique(fmt.Sprintf("platforms[%d]", i), g.Platforms[i].Name, n.platforms)
	}
	for i := range g.Filters {
		n.unique(fmt.Sprintf("filters[%d]", i), g.Filters[i].Name, n.filters)
	}
	for i := range g.Segments {
		at, s := fmt.Sprintf("segments[%d]", i), &g.Segments[i]
		n.unique(at, s.Name, n.segments)
		given(e, at+".kind", s.Kind)
	}
	for i := range g.Profiles {
		at, p := fmt.Sprintf("profiles[%d]", i), &g.Profiles[i]
		n.unique(at, p.Name, n.profiles)
		n.known(at+".import", p.Import, n.filters, "filters")
		n.known(at+".export", p.Export, n.filters, "filters")
	}
	for i := range g.Devices { // all of them, before anything refers to one
		n.device(fmt.Sprintf("devices[%d]", i), &g.Devices[i])
	}
	for i := range g.Devices {
		n.parts(fmt.Sprintf("devices[%d]", i), &g.Devices[i])
	}
	for i := range g.Meshes {
		n.mesh(fmt.Sprintf("meshes[%d]", i), &g.Meshes[i])
	}
}

// named is what has a name in a design, while it is checked: each name is looked for among those of its kind.
type named struct {
	e                                               *faults
	platforms, filters, segments, profiles, devices places
}

// word refuses a name that a configuration would not take for one word; none is no name.
func (n *named) word(at, name string) {
	if name != "" && !designName.MatchString(name) {
		n.e.add(at, "want letters, digits and . _ : / - inside: it becomes a word of configurations", "%q", clip(name))
	}
}

// given refuses a word that is left out.
func given[T interface {
	~string
	worded
}](e *faults, at string, word T) {
	if word == "" {
		e.add(at, "want one of "+strings.Join(word.words(), ", "), "missing")
	}
}

// unique takes the name of a thing among its kind.
func (n *named) unique(at, name string, kind places) {
	if name == "" {
		n.e.add(at+".name", "want a name", "missing")
		return
	}
	n.word(at+".name", name)
	kind.unique(n.e, at, name)
}

// needed refuses a name that nothing of the kind has.
func (n *named) needed(at, name string, kind places, what string) {
	if kind[name] == "" {
		n.e.add(at, "name one of "+what, "%q is not there", clip(name))
	}
}

// known is needed, unless there is no name.
func (n *named) known(at, name string, kind places, what string) {
	if name != "" {
		n.needed(at, name, kind, what)
	}
}

// device takes the name of a device, and looks at what it is.
func (n *named) device(at string, d *Device) {
	if !deviceName.MatchString(d.Name) {
		n.e.add(at+".name", wantName, "%q", clip(d.Name))
	}
	n.devices.unique(n.e, at, d.Name)
	given(n.e, at+".role", d.Role)
	given(n.e, at+".software", d.Software)
	n.known(at+".platform", d.Platform, n.platforms, "platforms")
}

// parts looks at what a device has: IDs, ports, sessions and routes.
func (n *named) parts(at string, d *Device) {
	n.known(at+".host", d.Host, n.devices, "devices")
	if d.AS == 0 {
		n.e.add(at+".as", "want the AS number of this router (0 is none, RFC 7607)", "missing")
	}
	if !d.RouterID.IsValid() || d.RouterID.IsUnspecified() {
		n.e.add(at+".routerId", "want 32 bits that are not all 0, written as an IPv4 address (RFC 6286)", "missing")
	}
	n.id(at+".routerId", d.RouterID)
	n.id(at+".clusterId", d.ClusterID)
	n.word(at+".rack", d.Rack)
	ports := places{}
	for i, x := range d.Interfaces {
		here := fmt.Sprintf("%s.interfaces[%d]", at, i)
		if x.Name == "" {
			n.e.add(here+".name", "want that of the port, such as eth0", "missing")
		}
		n.word(here+".name", x.Name)
		ports.unique(n.e, here, x.Name)
		if x.Name != "lo" {
			n.needed(here+".segment", x.Segment, n.segments, "segments")
		}
	}
	n.sessions(at, d.Sessions)
	for i, o := range d.Originate {
		here := fmt.Sprintf("%s.originate[%d]", at, i)
		given(n.e, here+".kind", o.Kind)
		checkRun(n.e, here, o.Prefix, o.Count)
		if most := min(maxRun, size(o.Prefix)); o.Kind == OriginBlock && o.Endpoints > most {
			n.e.add(here+".endpoints", fmt.Sprintf("want %s at most", Number(most)), "%s", Number(o.Endpoints))
		}
	}
	for i, r := range d.Static {
		here := fmt.Sprintf("%s.static[%d]", at, i)
		checkRun(n.e, here, r.Prefix, r.Count)
		n.word(here+".machine", r.Machine)
	}
}

// id refuses what is no 32 bits.
func (n *named) id(at string, id netip.Addr) {
	if id.IsValid() && !id.Is4() {
		n.e.add(at, "want 32 bits, written as an IPv4 address (RFC 6286)", "%s", id)
	}
}

// sessions looks at those of a device: one with each peer on a segment.
func (n *named) sessions(at string, list []Session) {
	type with struct{ peer, segment string }
	seen := map[with]int{}
	for i, x := range list {
		here := fmt.Sprintf("%s.sessions[%d]", at, i)
		n.known(here+".segment", x.Segment, n.segments, "segments")
		n.needed(here+".peer", x.Peer, n.devices, "devices")
		n.needed(here+".profile", x.Profile, n.profiles, "profiles")
		if x.PeerAS == 0 {
			n.e.add(here+".peerAS", "want the AS number that the peer has", "missing")
		}
		if first, twice := seen[with{x.Peer, x.Segment}]; twice {
			n.e.add(here, "leave one out", "%s is the peer of sessions[%d] already, on the same segment", clip(x.Peer), first)
			continue
		}
		seen[with{x.Peer, x.Segment}] = i
	}
}

// mesh looks at a full mesh and its members.
func (n *named) mesh(at string, m *Mesh) {
	n.word(at+".name", m.Name)
	given(n.e, at+".kind", m.Kind)
	if m.Name == "" || n.segments[m.Segment] == "" || n.profiles[m.Profile] == "" {
		n.e.add(at, "want a name, a segment of segments and a profile of profiles", "name %q, segment %q, profile %q", clip(m.Name), clip(m.Segment), clip(m.Profile))
	}
	for i, name := range m.Members {
		n.known(fmt.Sprintf("%s.members[%d]", at, i), name, n.devices, "devices")
	}
}

// maxRun bounds how many prefixes, or endpoints, one line of a design stands for: emitters and labs write each of them
// out. It is what a plan may keep for the endpoints of a server.
const maxRun = 1 << 20

// checkRun refuses prefixes that cannot be counted from the first.
func checkRun(e *faults, at string, first netip.Prefix, count int) {
	switch room := first.Bits(); {
	case !first.IsValid():
		e.add(at+".prefix", "want one such as 10.64.0.0/32", "missing")
	case count < 1 || count > maxRun:
		e.add(at+".count", fmt.Sprintf("want 1 to %s prefixes", Number(maxRun)), "%s", Number(count))
	case first != first.Masked():
		e.add(at+".prefix", "want "+first.Masked().String(), "%s has bits behind its length", first)
	case room < 20 && count > 1<<room:
		e.add(at+".count", "want fewer", "%s: there are %s prefixes of this length", Number(count), Number(1<<room))
	default:
		if _, ok := last(first, count); !ok {
			e.add(at+".count", "want fewer", "%s: the addresses end before", Number(count))
		}
	}
}
