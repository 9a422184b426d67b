// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// design reads a file of three racks with two servers each; spec says the
// model and what else differs.
func design(t testing.TB, spec string) *fabric.Design {
	t.Helper()
	all := "{" + spec
	for _, field := range []string{"racks: {count: 3}", "servers: {perRack: 2}", "endpoints: {perServer: 4}"} {
		name, _, _ := strings.Cut(field, ":")
		if !strings.Contains(spec, name+": {") {
			all += ", " + field
		}
	}
	doc, err := fabric.Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: " + all + "}"))
	if err != nil {
		t.Fatalf("%s: %v", all, err)
	}
	return doc.Fabric.Design()
}

const (
	perRack  = "model: as-per-rack"
	perSrv   = "model: as-per-server"
	downward = "model: downward-default"
	planes   = "model: ethernet"
	border   = ", border: [{name: b1, as: 64999, default: true}]"
	borders  = ", border: [{name: b1, as: 64999, default: true}, {name: b2, as: 64998, default: true}]"
	twins    = ", border: [{name: b1, as: 64999, default: true}, {name: b2, as: 64999, default: true}]"
	note     = ", racks: {count: 8}, servers: {perRack: 80}, endpoints: {perServer: 200}" // 128,000 endpoints
	override = ", bgp: {advanced: [{name: as-override, reason: anycast}]}, downwardDefault: {asOverride: true}"
)

// profile finds a profile to change.
func profile(g *fabric.Design, name string) *fabric.Profile {
	for i := range g.Profiles {
		if g.Profiles[i].Name == name {
			return &g.Profiles[i]
		}
	}
	panic("no profile " + name)
}

func device(g *fabric.Design, name string) *fabric.Device {
	for i := range g.Devices {
		if g.Devices[i].Name == name {
			return &g.Devices[i]
		}
	}
	panic("no device " + name)
}

// each changes all devices of a role.
func each(role fabric.Role, change func(d *fabric.Device)) func(*fabric.Design) {
	return func(g *fabric.Design) {
		for i := range g.Devices {
			if g.Devices[i].Role == role {
				change(&g.Devices[i])
			}
		}
	}
}

// with changes a profile.
func with(name string, change func(p *fabric.Profile)) func(*fabric.Design) {
	return func(g *fabric.Design) { change(profile(g, name)) }
}

// drop removes sessions of a device, and the other ends unless one is kept.
func drop(g *fabric.Design, from string, both bool, which func(s fabric.Session) bool) {
	d := device(g, from)
	for _, s := range d.Sessions {
		if p := device(g, s.Peer); which(s) && both {
			p.Sessions = slices.DeleteFunc(p.Sessions, func(o fabric.Session) bool { return o.Peer == from && o.Segment == s.Segment })
		}
	}
	d.Sessions = slices.DeleteFunc(d.Sessions, which)
}

// hash says how ToRs and spines choose among equal paths.
func hash(tor, spine string) func(*fabric.Design) {
	return func(g *fabric.Design) {
		for i := range g.Devices {
			switch p := &g.Devices[i]; p.Role {
			case fabric.RoleToR:
				p.Platform = "tor"
			case fabric.RoleSpine:
				p.Platform = "spine"
			}
		}
		g.Platforms = []fabric.Platform{{Name: "tor", Hash: tor}, {Name: "spine", Hash: spine}}
	}
}

// cases has, for each rule, a design that is near to a good one and breaks it.
// The good one is the same without the change, or, where the file says it, with
// another spec.
var cases = []struct {
	rule   string
	spec   string
	change func(g *fabric.Design)
	twin   string // spec of the good one; empty: spec, unchanged
	says   string // part of the message
}{
	{"FAB-AS-001", perRack, func(g *fabric.Design) { renumber(g, "r2", device(g, "r0-t0").AS) }, "", "AS 4200001000 is used by 2 groups of routers that reach each other only through other ASes: rack r0, rack r2"},
	{"FAB-AS-001", downward, func(g *fabric.Design) { // one rack is told of the others, which are told of a default route only
		g.Model = ""
		for _, name := range []string{"spine-tor", "tor-spine"} {
			p := *profile(g, name)
			p.Name, p.Import, p.Export = name+"-open", "", ""
			g.Profiles = append(g.Profiles, p)
		}
		for _, spine := range []string{"spine0", "spine1"} {
			for _, end := range [][3]string{{spine, "r0-t0", "spine-tor-open"}, {"r0-t0", spine, "tor-spine-open"}} {
				d := device(g, end[0])
				d.Sessions[slices.IndexFunc(d.Sessions, func(s fabric.Session) bool { return s.Peer == end[1] })].Profile = end[2]
			}
		}
	}, "", "AS 64513 is used by 3 groups of routers"},
	{"FAB-AS-002", perRack, func(g *fabric.Design) { renumber(g, "r2", device(g, "r0-t0").AS) }, "", "routes vanish, since routers find their own AS number in the path: 8 of 30 pairs of servers are cut"},
	{"FAB-AS-004", perRack, func(g *fabric.Design) { renumber(g, "r2", 3356) }, "", "AS 3356 is no private number: r2-t0, r2-s0, r2-s1"},
	{"FAB-AS-005", perRack, func(g *fabric.Design) { device(g, "spine1").Sessions[0].PeerAS++ }, "", "spine1 says that its neighbour r0-t0 is AS 4200001001, which is 4200001000"},
	{"FAB-AS-006", perRack, with("spine-tor", func(p *fabric.Profile) { p.AllowOwnAS = 1 }), "", "allowas-in on 6 sessions of spine0, spine1"},
	{"FAB-AS-006", downward + ", downwardDefault: {asOverride: true}", nil, downward + override, "as-override on 12 sessions of spine0, spine1 and 3 more"},
	{"FAB-AS-007", downward, with("tor-server", func(p *fabric.Profile) { p.RemovePrivateAS = true }), "", "keeps the AS number of the peer itself: 6 sessions"},
	{"FAB-NH-001", perRack, with("tor-server", func(p *fabric.Profile) { p.NextHopSelf = "" }), "", "r0-t0, r1-t0, r2-t0 pass next hops on by iBGP that its peers cannot reach, on 6 sessions"},
	{"FAB-NH-001", planes + border + ", routeReflectors: {placement: none}", func(g *fabric.Design) {
		d, m := device(g, "r0-s1"), &g.Meshes[1]
		d.Interfaces = slices.DeleteFunc(d.Interfaces, func(i fabric.Interface) bool { return i.Segment == m.Segment })
		m.Members = slices.DeleteFunc(m.Members, func(name string) bool { return name == d.Name })
		drop(g, d.Name, true, func(s fabric.Session) bool { return s.Segment == m.Segment })
	}, "", "r0-s0, r1-s0 and 3 more pass next hops on by iBGP that its peers cannot reach, on 5 sessions"},
	{"FAB-NH-002", perRack, with("tor-server", func(p *fabric.Profile) { p.NextHopSelf = "" }), "", "22 paths on each of r0-s0, r0-s1 and 4 more: their next hop is on no segment there (6 devices)"},
	{"FAB-NH-003", perRack, with("tor-server", func(p *fabric.Profile) { p.NextHopSelf, p.Default = "", fabric.AlwaysDefault }), "", "next hops that r0-t0, r1-t0, r2-t0 pass on resolve only through the default route of the peer"},
	{"FAB-NH-004", perRack + ", spine: {kind: l2}", nil, perRack, "next hops of third parties on plane0: 3 routers speak eBGP there"},
	{"FAB-NH-005", perRack, loopbacks("r0-t0", "r0-s0"), "", "r0-s0 and r0-t0 speak between addresses that are on no segment of both"},
	{"FAB-NH-005", planes, func(g *fabric.Design) {
		device(g, "plane0-rr1").Interfaces = device(g, "plane0-rr1").Interfaces[:1]
		drop(g, "plane0-rr1", true, func(s fabric.Session) bool { return s.Peer != "r0-s0" })
	}, "", "share no segment"},
	{"FAB-NH-006", perRack, with("tor-server", func(p *fabric.Profile) { p.NextHopSelf = fabric.NextHopSelfAll }), "", "next-hop-self for all routes on 6 sessions of r0-t0, r1-t0, r2-t0"},
	{"FAB-RR-001", perRack, with("tor-server", func(p *fabric.Profile) { p.ReflectorClient = false }), "", "AS 4200001000: 3 routers, 3 iBGP pairs, 1 missing and no reflector"},
	{"FAB-RR-001", downward + ", spine: {kind: l2}, racks: {count: 2}", func(g *fabric.Design) { g.Meshes = nil }, "", "AS 64513: 2 routers, 1 iBGP pair, 1 missing and no reflector"},
	{"FAB-RR-001", perRack, func(g *fabric.Design) { drop(g, "r0-s0", true, func(fabric.Session) bool { return true }) }, "", "AS 4200001000: 2 routers, 1 iBGP pair, 1 missing and no reflector"},
	{"FAB-RR-001", planes + ", routeReflectors: {placement: none}", func(g *fabric.Design) {
		for i := range g.Meshes {
			g.Meshes[i].Members = g.Meshes[i].Members[1:]
		}
	}, "", "AS 64512: 6 routers, 15 iBGP pairs, 5 missing and no reflector"},
	{"FAB-RR-002", planes + ", routeReflectors: {perPlane: 1}", nil, planes, "plane0-rr0 is the only reflector on plane0: if it dies, r0-s0, r0-s1 and 4 more lose all remote routes there"},
	{"FAB-RR-003", planes + ", routeReflectors: {placement: all-planes}", nil, planes + ", routeReflectors: {placement: all-planes, addPath: true}", "rr0, rr1 serve several planes without ADD-PATH"},
	{"FAB-RR-003", planes + ", routeReflectors: {placement: all-planes, addPath: true}", with("client", func(p *fabric.Profile) { p.AddPath = "" }), "", "rr0, rr1 serve several planes without ADD-PATH"},
	{"FAB-RR-004", planes + ", racks: {count: 3}, servers: {perRack: 167}", nil, planes + ", racks: {count: 4}, servers: {perRack: 125}", "501 clients of plane0-rr0"},
	{"FAB-RR-005", planes, func(g *fabric.Design) {
		one := netip.MustParseAddr("1.1.1.1")
		device(g, "plane0-rr0").ClusterID, device(g, "plane0-rr1").ClusterID = one, one
		drop(g, "plane0-rr1", true, func(s fabric.Session) bool { return s.Peer == "r0-s0" })
		drop(g, "plane0-rr0", true, func(s fabric.Session) bool { return s.Peer == "r1-s0" })
	}, "", "plane0-rr0 and plane0-rr1 share the cluster ID 1.1.1.1"},
	{"FAB-RR-006", planes + ", routeReflectors: {hosts: servers}", func(g *fabric.Design) {
		device(g, "plane0-rr0").Interfaces = device(g, "plane0-rr0").Interfaces[:1]
	}, "", "plane0-rr0 runs on r0-s0, and is reachable through the vRouter there only"},
	{"FAB-RR-007", planes + ", routeReflectors: {hosts: servers}", func(g *fabric.Design) { device(g, "plane0-rr1").Host = "r0-s0" }, "", "all reflectors of plane0 run on r0-s0"},
	{"FAB-RR-008", planes, func(g *fabric.Design) {
		d := device(g, "plane0-rr0")
		d.Originate = append(d.Originate, fabric.Origin{Kind: fabric.OriginSubnet, Prefix: d.Interfaces[1].Addresses[0].Masked(), Count: 1})
	}, "", "plane0-rr0 announces 172.20.0.0/18"},
	{"FAB-SES-001", perRack, func(g *fabric.Design) {
		drop(g, "spine0", false, func(s fabric.Session) bool { return s.Peer == "r1-t0" })
	}, "", "the session of r1-t0 with spine0 exists on one side only"},
	{"FAB-SES-001", perRack, func(g *fabric.Design) { address(g, "r0-t0", "spine0", "172.20.77.0") }, "", "sessions of r0-t0 never come up: r0-t0 looks for spine0 at 172.20.77.0, which it does not have there"},
	{"FAB-SES-001", perRack, func(g *fabric.Design) { address(g, "r0-t0", "r0-s0", "172.20.0.12") }, "", "r0-t0 looks for r0-s0 at 172.20.0.12, which it does not have there"},
	{"FAB-SES-001", perRack, func(g *fabric.Design) {
		port(g, "spine0", "down0").Addresses[0] = netip.MustParsePrefix("172.20.99.0/31")
		address(g, "r0-t0", "spine0", "172.20.99.0")
	}, "", "172.20.99.0 is in no subnet of up0 of r0-t0"},
	{"FAB-SES-001", perRack, func(g *fabric.Design) { address(g, "r0-t0", "spine0", "") }, "", "one end has addresses, and the other those of its port"},
	{"FAB-SES-001", perRack, with("tor-server", func(p *fabric.Profile) { p.Authentication = fabric.MD5 }), "", "sessions of r0-t0, r0-s0 and 7 more never come up: one end authenticates by md5, the other by none"},
	{"FAB-SES-001", perSrv, func(g *fabric.Design) {
		profile(g, "tor-spine").Role, profile(g, "spine-tor").Role = fabric.Provider, fabric.Provider
	}, "", "one end is provider, the other provider"},
	{"FAB-SES-001", perRack, func(g *fabric.Design) {
		for _, end := range [][2]string{{"r0-t0", "r0-s0"}, {"r0-s0", "r0-t0"}} {
			d := device(g, end[0])
			d.Sessions[slices.IndexFunc(d.Sessions, func(s fabric.Session) bool { return s.Peer == end[1] })].Segment = "r1-t0--rack"
		}
	}, "", "sessions of r0-t0, r0-s0 never come up: no port on r1-t0--rack"},
	{"FAB-SES-001", perRack + ", spine: {kind: l2}", func(g *fabric.Design) { unplug(g, "r1-t0", "plane1") }, "", "mesh plane1 of r1-t0 never come up: no port on plane1"},
	{"FAB-ADR-002", perRack, func(g *fabric.Design) {
		device(g, "r1-s1").Originate[0].Prefix = device(g, "r0-s0").Originate[0].Prefix
	}, "", "10.64.0.0 is an endpoint of r0-s0 and of r1-s1"},
	{"FAB-SES-002", perRack + ", spine: {kind: l2}, racks: {count: 503}", nil, perRack + ", spine: {kind: l2}, racks: {count: 500}", "1,006 peers, where 1,000 are the limit"},
	{"FAB-SES-002", planes + ", routeReflectors: {placement: none}, racks: {count: 3}, servers: {perRack: 34}", nil,
		planes + ", routeReflectors: {placement: none}, racks: {count: 3}, servers: {perRack: 33}", "plane0, plane1 are meshes of 102 routers: one more is a session more on each"},
	{"FAB-SES-002", perRack + ", switches: {tor: {peers: 3}}", nil, perRack + ", switches: {tor: {peers: 4}}", "r0-t0, r1-t0, r2-t0: 4 peers, where 3 are the limit"},
	{"FAB-SES-003", perRack, each(fabric.RoleToR, func(d *fabric.Device) { d.Traditional = true }), "", "frr defaults traditional, and no policy on 6 sessions"},
	{"FAB-ECMP-001", perRack + ", spine: {as: unique, count: 4}", each(fabric.RoleToR, func(d *fabric.Device) { d.MultipathRelax = false }), "", "multipath-relax is off: 1 of 4 uplinks is used"},
	{"FAB-ECMP-001", perRack + ", spine: {as: unique, count: 4}", each(fabric.RoleToR, func(d *fabric.Device) { d.MultipathRelax = false }), perRack, ""},
	{"FAB-ECMP-001", perSrv + ", racks: {count: 3, tors: 2}", each(fabric.RoleSpine, func(d *fabric.Device) { d.MultipathRelax = false }), "", "spine0, spine1: paths differ in AS numbers only, and multipath-relax is off: routes to which not all ways are used: 30"},
	{"FAB-ECMP-001", perSrv + ", racks: {count: 3, tors: 2}, spine: {kind: l2}", each(fabric.RoleToR, func(d *fabric.Device) { d.MultipathRelax = false }), "", "routes to which not all ways are used: 20"},
	{"FAB-ECMP-002", planes, each(fabric.RoleServer, func(d *fabric.Device) { d.Multipath = 1 }), "", "one path over 2 planes"},
	{"FAB-LOOP-001", perRack + ", racks: {count: 3, tors: 2}, tors: {isl: true}", with("isl", func(p *fabric.Profile) { p.LocalPref = 0 }), "", "r0-t0 and r0-t1 send a part of the traffic"},
	{"FAB-TIM-001", perRack + ", bgp: {bfd: {segment: off}}", nil, perRack, "6 sessions of r0-t0, r0-s0 and 7 more on a rack without BFD: a dead link is noticed after 9s instead of 0.36 s"},
	{"FAB-TIM-002", perRack + ", bgp: {timers: {hold: 180s}}", nil, perRack, "hold time 3m0s"},
	{"FAB-TIM-002", perRack + ", bgp: {timers: {hold: 31s}}", nil, perRack + ", bgp: {timers: {hold: 30s}}", "hold time 31s"},
	{"FAB-TIM-002", perRack, func(g *fabric.Design) {
		profile(g, "tor-spine").Hold = 0
		each(fabric.RoleToR, func(d *fabric.Device) { d.Software = fabric.BIRD })(g)
	}, "", "hold time 4m0s, BIRD's own on 6 ends of sessions of r0-t0, r1-t0, r2-t0"},
	{"FAB-TIM-003", perRack + ", servers: {perRack: 40}, bgp: {bfd: {segment: 10ms}}", nil, perRack + ", servers: {perRack: 40}", "40 sessions of BFD, 4,000 packets a second each way"},
	{"FAB-TIM-003", perRack + ", servers: {perRack: 21}, bgp: {bfd: {segment: 10ms}}", nil, perRack + ", servers: {perRack: 20}, bgp: {bfd: {segment: 10ms}}", "21 sessions of BFD, 2,100 packets a second each way"},
	{"FAB-TIM-004", perRack + ", bgp: {gracefulRestart: {vrouter: off}}", nil, perRack, "no graceful restart on 6 sessions"},
	{"FAB-TIM-005", perRack, nil, "", "a dead path is noticed on a rack: BFD, 360ms (6 sessions)"},
	{"FAB-CAP-001", perRack + note + ", switches: {tor: {lpmTable: 128k, hostRoutesIn: lpm}}", nil, perRack + note + ", switches: {tor: {lpmTable: 256k, hostRoutesIn: lpm}}", "r0-t0: 128,018 routes of 131,072 (97 %) (and on 7 devices like it)"},
	{"FAB-CAP-001", perRack + note + ", switches: {spine: {catalog: trident3/cumulus-v4-lpm-heavy}}", nil, perRack + note + ", switches: {spine: {catalog: jericho/flexroute}}", "spine0: 128,018 routes of 131,072 (97 %)"},
	{"FAB-CAP-001", perRack + ", racks: {count: 4}, servers: {perRack: 40}, endpoints: {perServer: 100, growth: {percentPerYear: 40, years: 2}}, switches: {tor: {lpmTable: 32k}}", nil,
		perRack + ", racks: {count: 4}, servers: {perRack: 40}, endpoints: {perServer: 100, growth: {percentPerYear: 4, years: 2}}, switches: {tor: {lpmTable: 32k}}",
		"r0-t0: 16,010 routes of 32,768 (48 %); with growth, 40 % a year for 2 years, 31,370"},
	{"FAB-CAP-002", perRack + note + ", spine: {as: unique, count: 4}, bgp: {roles: off}, switches: {spine: {ram: 256MiB}}", nil,
		perRack + note + ", spine: {as: unique, count: 4}, switches: {spine: {ram: 256MiB}}", "spine0: 1,024,000 paths ≈ 0.5 GB of 0.3 GB"},
	{"FAB-CAP-003", perRack + note + ", switches: {tor: {catalog: trident2/junos-lpm-profile}}", nil, perRack + note + ", switches: {tor: {catalog: trident2/junos-l3-profile}}",
		"which has 16,384 entries, and 128,100 are needed (and on 7 devices like it)"},
	{"FAB-CAP-004", downward + note + ", switches: {tor: {hostTable: 16k, hostRoutesIn: host}}", nil, downward + note + ", switches: {tor: {hostTable: 32k, hostRoutesIn: host}}",
		"r0-t0: 16,000 endpoint routes, 16,163 of 16,384 entries with loopbacks and neighbours, 221 are left (and on 7 devices like it)"},
	{"FAB-CAP-005", perRack + ", endpoints: {perServer: 4, announce: server-block}", nil, perRack, "6 routes stand for 24 endpoints"},
	{"FAB-CAP-005", perRack + ", endpoints: {perServer: 4, announce: rack-block}", nil, perRack + ", endpoints: {perServer: 4, announce: rack-block, strays: 5}", "none is planned for"},
	{"FAB-CAP-001", perRack + ", endpoints: {perServer: 4, announce: server-block, strays: 100}, switches: {tor: {lpmTable: 100}}", nil,
		perRack + ", endpoints: {perServer: 4, announce: server-block, strays: 10}, switches: {tor: {lpmTable: 100}}", "routes of 100"},
	{"FAB-CAP-001", perRack + ", endpoints: {perServer: 4, announce: server-block}, racks: {count: 30}, switches: {tor: {hostTable: 1k, lpmTable: 64, hostRoutesIn: host}}", nil,
		perRack + ", endpoints: {perServer: 4, announce: server-block}, racks: {count: 20}, switches: {tor: {hostTable: 1k, lpmTable: 64, hostRoutesIn: host}}", "r0-t0: 60 routes to prefixes of 64 in the LPM table (93 %) (and on 29 devices like it)"},
	{"FAB-CAP-001", perRack + ", endpoints: {perServer: 5}, switches: {tor: {lpmTable: 54}}", nil, perRack + ", endpoints: {perServer: 5}, switches: {tor: {lpmTable: 55}}", "r0-t0: 38 routes of 54 (70 %)"},
	{"FAB-CAP-001", perRack + ", switches: {tor: {lpmTable: 64, hostRoutesIn: lpm}}", func(g *fabric.Design) { g.Platforms[0].URPF = true }, "", "r0-t0: 32 routes of 32 (100 %)"},
	{"FAB-CAP-001", downward + ", switches: {tor: {lpmTable: 15, hostRoutesIn: lpm}}", nil, downward + ", switches: {tor: {lpmTable: 16, hostRoutesIn: lpm}}", "r0-t0: 11 routes of 15 (73 %)"},
	{"FAB-CAP-006", perRack + ", switches: {tor: {lpmTable: 128k}}", func(g *fabric.Design) { g.Platforms[0].URPF = true }, "", "strict uRPF on tor: 65,536 of 131,072 LPM entries are left"},
	{"FAB-CAP-007", planes + ", racks: {count: 8}, servers: {perRack: 64}", nil, planes + ", racks: {count: 7}, servers: {perRack: 73}", "r0-s0, r0-s1 and 510 more: 1,026 neighbours on 2 ports; Linux keeps 1,024"},
	{"FAB-CAP-008", perRack + note + ", spine: {count: 4}", nil, "", "672 UPDATE messages in all of the fabric"},
	{"FAB-CAP-009", perRack + ", spine: {count: 4}, switches: {tor: {ecmp: 2}}", nil, perRack + ", spine: {count: 4}, switches: {tor: {ecmp: 4}}", "2-way groups, 4 are needed"},
	{"FAB-DD-001", downward + ", downwardDefault: {fallback: none}", nil, downward, "50 % of the traffic for that rack is dropped at the spine until the repair (3 racks, spine0, spine1)"},
	{"FAB-DD-001", downward + ", downwardDefault: {fallback: none}", ownDefault(fabric.RoleSpine), downward, "50 % of the traffic for that rack"},
	{"FAB-DD-001", downward + ", downwardDefault: {fallback: none}", nil, downward + ", racks: {count: 3, tors: 2}, downwardDefault: {fallback: dual-tor}", ""},
	{"FAB-DD-001", downward + ", downwardDefault: {fallback: none}", nil, downward + border + ", downwardDefault: {fallback: border}", ""},
	{"FAB-DD-002", downward + ", racks: {count: 3, tors: 2}, downwardDefault: {origin: tor}", nil, downward + ", racks: {count: 3, tors: 2}", "r0-t0, r0-t1 and 4 more make the default route unconditionally"},
	{"FAB-DD-002", downward + ", racks: {count: 3, tors: 2}", ownDefault(fabric.RoleToR), "", "r0-t0, r0-t1 and 4 more make the default route unconditionally"},
	{"FAB-DD-002", downward + ", spine: {kind: l2}, racks: {count: 3, tors: 2}", nil, downward + borders + ", spine: {kind: l2}, racks: {count: 3, tors: 2}, downwardDefault: {origin: border}", "on planes only a border has one to hand on"},
	{"FAB-DD-003", downward + ", spine: {as: unique}", func(g *fabric.Design) { profile(g, "tor-spine").Export, profile(g, "spine-tor").Import = "", "" }, "", "r0-t0, r1-t0, r2-t0 tell spines of the default route"},
	{"FAB-DD-004", downward + ", spine: {kind: l2}", nil, downward, "the spine is l2"},
	{"FAB-DD-005", downward, each(fabric.RoleSpine, func(d *fabric.Device) { d.Discard = []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10")} }), "", "spine0, spine1 discard 10.64.0.0/10"},
	{"FAB-DD-006", downward, func(g *fabric.Design) { profile(g, "tor-server").Export, profile(g, "spine-tor").Export = "", "" }, "", "are refused by every tor, all AS 64513"},
	{"FAB-BR-001", perRack + border, func(g *fabric.Design) { drop(g, "b1", true, func(s fabric.Session) bool { return s.Peer == "spine1" }) }, "", "spine0 down: the default route of a border leads 6 of 6 servers out of the fabric no more (1 such failure)"},
	{"FAB-BR-001", planes + border, func(g *fabric.Design) {
		unplug(g, "b1", "plane1")
		drop(g, "b1", true, func(s fabric.Session) bool { return s.Segment == "plane1" })
	}, "", "plane0 down: the default route of a border leads 6 of 6 servers out of the fabric no more"},
	{"FAB-BR-001", perRack + border, func(g *fabric.Design) { profile(g, "tor-spine").Import = onlyPools(g) }, "", "with nothing failed: the default route of a border leads 6 of 6 servers out of the fabric no more"},
	{"FAB-BR-003", perRack + border, func(g *fabric.Design) { device(g, "b1").Discard = nil }, "", "b1 has no discard route for 10.64.0.0/10"},
	{"FAB-BR-004", downward + ", border: [{name: b1, as: 64512}]", nil, downward + ", border: [{name: b1, as: 64999}]", "b1 is in AS 64512, as r0-s0 is"},
	{"FAB-VR-001", perRack, each(fabric.RoleServer, func(d *fabric.Device) {
		d.Originate = append(d.Originate, fabric.Origin{Kind: fabric.OriginLoopback, Prefix: netip.MustParsePrefix("169.254.1.1/32"), Count: 1})
	}), "", "announce 169.254.1.1/32"},
	{"FAB-VR-001", perSrv, func(g *fabric.Design) {
		d := device(g, "r1-s1")
		d.Originate = append(d.Originate, fabric.Origin{Kind: fabric.OriginLoopback, Prefix: d.Interfaces[1].Addresses[0].Masked(), Count: 1})
	}, "", "r1-s1 announces 172.20."},
	{"FAB-VR-002", perRack, func(g *fabric.Design) { device(g, "r1-s1").Software, device(g, "r1-s1").VRouter = fabric.BIRD, nil }, "", "r1-s1: local endpoints are less preferred"},
	{"FAB-VR-002", perRack, each(fabric.RoleServer, func(d *fabric.Device) { d.VRouter.PreferLocal = false }), "", "less preferred than BGP"},
	{"FAB-VR-003", perRack + ", endpoints: {perServer: 4, announce: server-block}", each(fabric.RoleServer, func(d *fabric.Device) { d.Discard = nil }), "", "announce a block without a discard route"},
	{"FAB-VR-003", downward + ", endpoints: {perServer: 4, announce: rack-block}", each(fabric.RoleToR, func(d *fabric.Device) { d.Discard = nil }), "", "r0-t0, r1-t0, r2-t0 announce a block without a discard route"},
	{"FAB-VR-004", perRack + border, func(g *fabric.Design) {
		profile(g, "tor-server").Export = onlyPools(g)
		each(fabric.RoleServer, func(d *fabric.Device) { d.VRouter.LocalGateway = false })(g)
	}, "", "no answer to ARP"},
	{"FAB-VR-004", perRack, each(fabric.RoleServer, func(d *fabric.Device) { d.VRouter.LocalGateway = false }), "", "no answer to ARP"},
	{"FAB-VR-005", perRack, each(fabric.RoleServer, func(d *fabric.Device) { d.VRouter.IgnoreLinkDown = false }), "", "ports without carrier"},
	{"FAB-SEC-001", perRack, with("tor-server", func(p *fabric.Profile) { p.Import = "" }), "", "r0-t0, r1-t0, r2-t0 take any prefix from servers, on 6 sessions"},
	{"FAB-SEC-002", perRack, nil, perRack + ", bgp: {authentication: md5}", "no authentication of 6 sessions"},
	{"FAB-SEC-003", perRack, nil, perRack + ", bgp: {roles: on}", "no role on 6 eBGP sessions"},
	{"FAB-SEC-004", perRack + ", bgp: {maxPrefix: restart}", nil, perRack, "6 sessions of r0-t0, r1-t0, r2-t0 end at more than 16 prefixes"},
	{"FAB-ADR-001", perRack, func(g *fabric.Design) { device(g, "r1-s0").RouterID = device(g, "r0-s0").RouterID }, "", "is used by r0-s0 and r1-s0"},
	{"FAB-ADR-002", perRack, func(g *fabric.Design) { device(g, "r0-s1").Interfaces[1] = device(g, "r0-s0").Interfaces[1] }, "", "172.20.0.11 is on r0-s0 and on r0-s1"},
	{"FAB-ADR-002", perRack, func(g *fabric.Design) {
		device(g, "r1-s1").Originate[0].Prefix = netip.MustParsePrefix("172.20.0.10/32")
	}, "", "172.20.0.11 is on r0-s0, and an endpoint of r1-s1"},
	{"FAB-ADR-002", perRack, func(g *fabric.Design) { g.Segments[1].Subnets = g.Segments[0].Subnets }, "", "overlaps"},
	{"FAB-ADR-004", planes, func(g *fabric.Design) { g.Segments[1].Switch = "spine0" }, "", "plane0 and plane1 share an Ethernet, that of spine0"},
	{"FAB-ADR-005", perRack, func(g *fabric.Design) { g.Pools[0].CIDR = netip.MustParsePrefix("172.20.0.0/24") }, "", "endpoint pool 172.20.0.0/24 overlaps 172.20.0.0/25 of r0-t0--rack"},
	{"FAB-PHY-001", perRack, func(g *fabric.Design) {
		drop(g, "r1-t0", true, func(s fabric.Session) bool { return s.Peer == "spine1" })
	}, "", "r1-t0 is not connected to spine1: 50 % less"},
	{"FAB-PHY-001", perRack + ", spine: {kind: l2}", func(g *fabric.Design) { unplug(g, "r1-t0", "plane1") }, "", "r1-t0 is not connected to plane1: 50 % less"},
	{"FAB-PHY-001", planes, func(g *fabric.Design) { unplug(g, "r1-s0", "plane1") }, "", "r1-s0 is not connected to plane1: 50 % less"},
	{"FAB-PHY-002", perRack + ", spine: {count: 1}", nil, perRack, "1 spine"},
	{"FAB-PHY-002", perRack + ", spine: {count: 17}", nil, perRack + ", spine: {count: 16}", "17 spines"},
	{"FAB-PHY-002", planes + ", spine: {count: 1}", nil, planes, "1 plane"},
	{"FAB-PHY-003", perRack + ", racks: {count: 3, tors: 2}", func(g *fabric.Design) {
		drop(g, "r1-s1", true, func(s fabric.Session) bool { return s.Peer == "r1-t1" })
	}, "",
		"rack r1: r1-t0 and r1-t1 share AS 4200001001 and do not speak with each other, and r1-s1 is on r1-t0 only: r1-t1 cannot reach it"},
	{"FAB-PHY-003", perRack + ", racks: {count: 3, tors: 2}, machines: [{name: fw, rack: r1, routing: static}]", nil, perRack + ", racks: {count: 3, tors: 2}, tors: {isl: true}, machines: [{name: fw, rack: r1, routing: static}]",
		"and fw is on r1-t0 only: r1-t1 cannot reach it"},
	{"FAB-PHY-004", perRack, func(g *fabric.Design) { g.Segments[1].MTU = 9000 }, "", "MTU 1500 on r0-t0--rack, 9000 on r1-t0--rack"},
	{"FAB-PHY-004", perRack, func(g *fabric.Design) { g.Segments[0].MTU, g.Segments[1].MTU = 1500, 9000 }, "", "MTU 1500 on r0-t0--rack, 9000 on r1-t0--rack"},
	{"FAB-WI-001", perRack, with("tor-server", func(p *fabric.Profile) { p.NextHopSelf = "" }), "", "with nothing failed, 24 of 30 pairs of servers are cut"},
	{"FAB-WI-001", downward + ", downwardDefault: {fallback: none}", nil, downward, "spine0-r0-t0 down: 8 of 30 pairs lose up to 50 % of their flows, until it is repaired (6 such failures)"},
	{"FAB-WI-001", downward + ", racks: {count: 3, tors: 2}, endpoints: {perServer: 4, announce: rack-block}", nil, downward + ", racks: {count: 3, tors: 2}, endpoints: {perServer: 4, announce: server-block}",
		"r0-t0-r0-s0 down: 5 of 30 pairs lose up to 50 %"},
	{"FAB-WI-001", planes + ", routeReflectors: {placement: all-planes}", nil, planes + ", routeReflectors: {placement: all-planes, addPath: true}", "5 of 30 pairs of servers are cut, until it is repaired (6 such failures)"},
	// 2 servers send 40G each. 4 uplinks of 25G are enough for that, and 3 of them are not.
	{"FAB-WI-003", perRack + ", spine: {count: 4}, rates: {uplink: 25G, load: 40G}", nil, perRack + ", spine: {count: 5}, rates: {uplink: 25G, load: 40G}",
		"r0-t0, r1-t0, r2-t0: with spine0 down, 80G to send by 3 uplinks of 75G together: 107 %"},
	{"FAB-WI-003", perSrv + ", spine: {kind: l2}, rates: {uplink: 100G, load: 60G}", nil, perSrv + ", spine: {kind: l2}, rates: {uplink: 100G, load: 50G}",
		"r0-t0, r1-t0, r2-t0: with spine0 down, 120G to send by 1 uplink of 100G together: 120 %"},
	{"FAB-WI-003", perRack + ", rates: {uplink: 25G, load: 40G}", nil, perRack + ", rates: {uplink: 80G, load: 40G}", "r2-t0: 80G to send by 2 uplinks of 50G together: 160 %"},
	// Two ToRs share it, until one of them is down; and servers have a port on each.
	{"FAB-WI-003", perSrv + ", spine: {count: 3}, racks: {count: 3, tors: 2}, rates: {uplink: 30G, load: 50G}", nil, perSrv + ", spine: {count: 3}, racks: {count: 3, tors: 2}, rates: {uplink: 40G, load: 50G}",
		"r0-t0, r0-t1 and 4 more: with a ToR of the rack down, 100G to send by 3 uplinks of 90G together: 111 %"},
	{"FAB-WI-003", perRack + ", racks: {count: 3, tors: 2}, rates: {server: 25G, load: 30G}", nil, perRack + ", racks: {count: 3, tors: 2}, rates: {server: 25G, load: 25G}",
		"r0-s0, r0-s1 and 4 more: with a ToR of the rack down, 30G to send by 1 uplink of 25G together: 120 %"},
	{"FAB-WI-003", planes + ", spine: {count: 3}, rates: {server: 25G, load: 60G}", nil, planes + ", spine: {count: 3}, rates: {server: 25G, load: 50G}",
		"with spine0 down, 60G to send by 2 uplinks of 50G together: 120 %"},
	{"FAB-WI-003", perSrv + ", spine: {count: 3}, racks: {count: 3, tors: 2}, rates: {uplink: 20G, load: 50G}", nil, perSrv + ", spine: {count: 3}, racks: {count: 3, tors: 2}, rates: {uplink: 34G, load: 50G}",
		"with a ToR of the rack down, 100G to send by 3 uplinks of 60G together: 167 %"}, // a spine down is 125 %
	// The last uplink of a ToR is down: the servers use the other, which is to carry all.
	{"FAB-WI-003", perSrv + ", spine: {count: 1}, racks: {count: 3, tors: 2}, rates: {uplink: 60G, load: 50G}", nil, perSrv + ", spine: {count: 1}, racks: {count: 3, tors: 2}, rates: {uplink: 100G, load: 50G}",
		"with a ToR of the rack down, 100G to send by 1 uplink of 60G together: 167 %"},
	{"FAB-WI-004", downward + override, func(g *fabric.Design) {
		profile(g, "tor-server").Export, profile(g, "server-tor").Import = "", ""
		profile(g, "tor-server").NextHopSelf = fabric.NextHopSelfAll // so that a route that comes back leads to the ToR
		each(fabric.RoleServer, func(d *fabric.Device) { d.Software, d.VRouter.PreferLocal = fabric.BIRD, false })(g)
	}, "", "no stable state"},
	{"FAB-WI-005", perRack + ", racks: {count: 3, tors: 2}", hash("crc16, seed 0", "crc16, seed 0"), "", "spine0, spine1 hash by crc16, seed 0, as ToRs below do"},
	{"FAB-SIM-001", perRack, func(g *fabric.Design) { device(g, "r0-s0").Host = "nobody" }, "", "ipv4 is not simulated: "},
	{"FAB-PHY-005", perRack, nil, perRack + ", racks: {count: 3, tors: 2}", "6 servers have one ToR"},
}

// unplug takes the port of a device on a segment.
func unplug(g *fabric.Design, on, segment string) {
	d := device(g, on)
	d.Interfaces = slices.DeleteFunc(d.Interfaces, func(x fabric.Interface) bool { return x.Segment == segment })
}

// loopbacks has two devices speak between their loopbacks.
func loopbacks(x, y string) func(*fabric.Design) {
	return func(g *fabric.Design) {
		for _, end := range [][2]string{{x, y}, {y, x}} {
			d := device(g, end[0])
			s := &d.Sessions[slices.IndexFunc(d.Sessions, func(s fabric.Session) bool { return s.Peer == end[1] })]
			s.Segment, s.Address = "", []netip.Addr{device(g, end[1]).Loopback(fabric.IPv4)}
		}
	}
}

// ownDefault has devices announce a default route of their own, rather than make one for certain peers.
func ownDefault(role fabric.Role) func(*fabric.Design) {
	return func(g *fabric.Design) {
		for i := range g.Profiles {
			g.Profiles[i].Default = ""
		}
		each(role, func(d *fabric.Device) {
			d.Originate = append(d.Originate, fabric.Origin{Kind: fabric.OriginDefault, Prefix: fabric.IPv4.Default(), Count: 1})
		})(g)
	}
}

// onlyPools is a new filter that lets pass what is in the first pool.
func onlyPools(g *fabric.Design) string {
	g.Filters = append(g.Filters, fabric.Filter{Name: "pools", Rules: []fabric.FilterRule{{Permit: true, Within: g.Pools[0].CIDR, Min: 32}}})
	return "pools"
}

// TestNothingWrong: what is near to that which a rule is for, and harms nobody, is not found.
func TestNothingWrong(t *testing.T) {
	const twoToRs, segment = ", racks: {count: 3, tors: 2}", ", servers: {perRack: 2, uplinks: segment}"
	byHand := func(g *fabric.Design) { g.Model = "" }
	noLocalPref := with("isl", func(p *fabric.Profile) { p.LocalPref = 0 })
	single := func(g *fabric.Design) {
		drop(g, "r1-s1", true, func(s fabric.Session) bool { return s.Peer == "r1-t1" })
		unplug(g, "r1-s1", "r1-t1--r1-s1")
	}
	// appliance is what a server of an Ethernet fabric learns of by eBGP behind a link of its own.
	appliance := func(change func(p *fabric.Profile)) func(*fabric.Design) {
		return func(g *fabric.Design) {
			s, link := device(g, "r0-s0"), "r0-s0--fw"
			near, far := netip.MustParsePrefix("192.0.2.0/31"), netip.MustParsePrefix("192.0.2.1/31")
			g.Segments = append(g.Segments, fabric.Segment{Name: link, Kind: fabric.Link, Subnets: []netip.Prefix{near}})
			s.Interfaces = append(s.Interfaces, fabric.Interface{Name: "fw", Segment: link, Addresses: []netip.Prefix{near}})
			each(fabric.RoleReflector, func(d *fabric.Device) { d.Software = fabric.BIRD })(g) // which takes from a server what is another's
			p := *profile(g, "client")
			p.Name = "behind"
			change(&p)
			for i := range s.Sessions {
				s.Sessions[i].Profile = p.Name
			}
			g.Profiles = append(g.Profiles, p, fabric.Profile{Name: "fw", GracefulRestart: p.GracefulRestart})
			s.Sessions = append(s.Sessions, fabric.Session{Peer: "fw", Segment: link, PeerAS: 65099, Address: []netip.Addr{far.Addr()}, Profile: "fw"})
			g.Devices = append(g.Devices, fabric.Device{Name: "fw", Role: fabric.RoleMachine, Software: fabric.FRR, AS: 65099, RouterID: far.Addr(),
				Interfaces: []fabric.Interface{{Name: "eth0", Segment: link, Addresses: []netip.Prefix{far}}},
				Sessions:   []fabric.Session{{Peer: "r0-s0", Segment: link, PeerAS: 64512, Address: []netip.Addr{near.Addr()}, Profile: "fw"}},
				Originate:  []fabric.Origin{{Kind: fabric.OriginEndpoints, Prefix: netip.MustParsePrefix("203.0.113.0/32"), Count: 4}}})
		}
	}
	for _, c := range []struct {
		rule, spec string
		change     func(g *fabric.Design)
	}{
		{"FAB-AS-001", downward, byHand},
		{"FAB-AS-001", downward + segment, byHand},
		{"FAB-AS-001", downward + override, byHand},
		{"FAB-AS-001", downward + ", endpoints: {perServer: 4, announce: server-block}, downwardDefault: {exceptions: 9}", byHand}, // they take their own number once
		{"FAB-RR-001", downward + segment, byHand},
		{"FAB-RR-001", downward + segment + ", machines: [{name: db, rack: r0}, {name: lb, rack: r0}]", nil},
		{"FAB-NH-001", planes, appliance(func(p *fabric.Profile) { p.OwnOnly = true })},
		{"FAB-NH-001", planes, appliance(func(p *fabric.Profile) { p.NextHopSelf = fabric.NextHopSelfEBGP })},
		{"FAB-NH-001", planes, func(g *fabric.Design) { appliance(func(p *fabric.Profile) { p.Export = onlyPools(g) })(g) }},
		// The border's default route has a next hop that servers do not reach, either.
		{"FAB-NH-003", perRack + border, with("tor-server", func(p *fabric.Profile) { p.NextHopSelf = "" })},
		{"FAB-NH-004", perSrv + ", servers: {perRack: 1, uplinks: segment}", nil}, // nobody is a third there
		{"FAB-NH-004", perRack + ", spine: {kind: l2}, bgp: {roles: on}", nil},    // nobody tells of what peers told
		{"FAB-NH-005", perRack, func(g *fabric.Design) {
			loopbacks("r0-t0", "r0-s0")(g)
			address(g, "r0-t0", "r0-s0", "172.20.0.11")
			address(g, "r0-s0", "r0-t0", "172.20.0.1")
		}},
		{"FAB-RR-005", planes, func(g *fabric.Design) { // whoever is a client of the second is one of the first
			one := netip.MustParseAddr("1.1.1.1")
			device(g, "plane0-rr0").ClusterID, device(g, "plane0-rr1").ClusterID = one, one
			drop(g, "plane0-rr1", true, func(s fabric.Session) bool { return s.Peer == "r0-s0" })
		}},
		{"FAB-RR-007", planes + ", routeReflectors: {hosts: servers, perPlane: 1}", nil}, // one is not a group: FAB-RR-002
		{"FAB-ECMP-001", downward + twoToRs + ", spine: {count: 3}", each(fabric.RoleSpine, func(d *fabric.Device) { d.MultipathRelax = false })},
		{"FAB-LOOP-001", perRack + twoToRs + ", tors: {isl: true}, inRack: {sessions: mesh}", noLocalPref},
		{"FAB-DD-001", downward + ", spine: {count: 1}, downwardDefault: {fallback: none}", nil}, // the rack is off
		{"FAB-BR-001", perRack + borders, func(g *fabric.Design) {
			drop(g, "b1", true, func(s fabric.Session) bool { return s.Peer == "spine1" })
			drop(g, "b2", true, func(s fabric.Session) bool { return s.Peer == "spine0" })
		}},
		{"FAB-BR-004", planes + ", border: [{name: b1, as: 64512, default: true}]", nil},
		{"FAB-VR-003", perRack + ", endpoints: {perServer: 4, announce: server-block}", each(fabric.RoleServer, func(d *fabric.Device) {
			d.Discard = []netip.Prefix{netip.PrefixFrom(d.Discard[0].Addr(), 20).Masked()}
		})},
		{"FAB-VR-004", perRack + border, each(fabric.RoleServer, func(d *fabric.Device) { d.VRouter.LocalGateway = false })},
		{"FAB-PHY-003", downward + twoToRs, single},
	} {
		g := design(t, c.spec)
		if c.change != nil {
			c.change(g)
		}
		if got := found(Design(g), c.rule); len(got) > 0 {
			t.Errorf("%s, %s: %q", c.rule, c.spec, got)
		}
	}
}

// address has a device look for a peer somewhere else; nowhere in particular, if it is empty.
func address(g *fabric.Design, on, peer, a string) {
	for i := range device(g, on).Sessions {
		if s := &device(g, on).Sessions[i]; s.Peer == peer {
			if s.Address = nil; a != "" {
				s.Address = []netip.Addr{netip.MustParseAddr(a)}
			}
		}
	}
}

// port is an interface of a device.
func port(g *fabric.Design, on, name string) *fabric.Interface {
	list := device(g, on).Interfaces
	return &list[slices.IndexFunc(list, func(x fabric.Interface) bool { return x.Name == name })]
}

// TestOnlyItsOwn: what is wrong in one way is not blamed on another.
func TestOnlyItsOwn(t *testing.T) {
	for _, c := range []struct {
		spec   string
		change func(g *fabric.Design)
		not    string
	}{
		{perRack, with("tor-server", func(p *fabric.Profile) { p.NextHopSelf = "" }), "FAB-AS-002"},
		{perRack, with("tor-server", func(p *fabric.Profile) { p.ReflectorClient = false }), "FAB-AS-002"},
		{perRack, func(g *fabric.Design) { address(g, "r0-t0", "r0-s0", "172.20.0.99") }, "FAB-AS-002"},
		{planes, func(g *fabric.Design) { device(g, "r1-s0").RouterID = device(g, "r0-s0").RouterID }, "FAB-AS-002"},
		{perSrv, func(g *fabric.Design) { drop(g, "r0-s0", true, func(fabric.Session) bool { return true }) }, "FAB-AS-002"},
		{perRack, func(g *fabric.Design) { renumber(g, "r2", device(g, "r0-t0").AS) }, "FAB-DD-006"},
		// One reflector of a plane is enough to hear of everybody, if not to lose the other.
		{planes, func(g *fabric.Design) {
			drop(g, "r0-s0", true, func(s fabric.Session) bool { return s.Peer == "plane1-rr1" })
		}, "FAB-RR-001"},
	} {
		g := design(t, c.spec)
		c.change(g)
		all := Design(g)
		if len(found(all, c.not)) > 0 {
			t.Errorf("%s: %q", c.not, found(all, c.not))
		}
		if !slices.ContainsFunc(all, func(f *Finding) bool { return f.Severity == Error }) {
			t.Errorf("not %s, and no error at all", c.not)
		}
	}
}

// renumber gives a rack another AS number, and tells its neighbours.
func renumber(g *fabric.Design, rack string, as uint32) {
	old := device(g, rack+"-t0").AS
	for i := range g.Devices {
		d := &g.Devices[i]
		if d.Rack == rack {
			d.AS = as
		}
		for j := range d.Sessions {
			if d.Sessions[j].PeerAS == old {
				d.Sessions[j].PeerAS = as
			}
		}
	}
}

// name is that of a test, with the statement that it is about, if it is one.
func name(rule string) string {
	if s := statements[rule]; s != "" {
		return rule + "/" + s
	}
	return rule
}

// found are the messages of a rule, but not what it says for
// information only.
func found(all []*Finding, rule string) (list []string) {
	at := slices.IndexFunc(Rules, func(r Rule) bool { return r.ID == rule })
	for _, f := range all {
		if f.ID == rule && (f.Severity != Info || Rules[at].Severity == Info) {
			list = append(list, f.Message)
		}
	}
	return list
}

// statements are what designs of this kind are held to, by the rule that does.
var statements = map[string]string{
	"FAB-AS-001": "FAB-S-20", "FAB-AS-004": "FAB-S-54", "FAB-NH-001": "FAB-S-26", "FAB-NH-005": "FAB-S-77",
	"FAB-RR-001": "FAB-S-28", "FAB-RR-002": "FAB-S-30", "FAB-RR-004": "FAB-S-30", "FAB-RR-005": "FAB-S-30", "FAB-SES-002": "FAB-S-29", "FAB-ECMP-001": "FAB-S-14", "FAB-CAP-001": "FAB-S-34",
	"FAB-DD-002": "FAB-S-66", "FAB-BR-003": "FAB-S-67", "FAB-AS-006": "FAB-S-17",
	"FAB-RR-006": "FAB-S-47", "FAB-PHY-002": "FAB-S-43", "FAB-NH-004": "FAB-S-24",
}

// TestRules: every rule finds what it is for, and finds nothing in a design
// that differs by just that. Whatever is found says why and how to mend it.
func TestRules(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range cases {
		tested[c.rule] = true
		t.Run(name(c.rule), func(t *testing.T) {
			bad := design(t, c.spec)
			if c.change != nil {
				c.change(bad)
			}
			all := Design(bad)
			for _, f := range all {
				if f.Why == "" || len(f.Fix) == 0 && f.Severity != Info || f.Message == "" || strings.Contains(f.Message, "\x00") {
					t.Errorf("does not help: %+v", f)
				}
			}
			if got := found(all, c.rule); !strings.Contains(strings.Join(got, "\n"), c.says) || len(got) == 0 {
				t.Errorf("found %q, want %q", got, c.says)
			}
			twin := c.spec
			if c.twin != "" {
				twin = c.twin
			}
			if c.rule == "FAB-TIM-005" || c.rule == "FAB-CAP-008" {
				return // they say something of every design
			}
			if got := found(Design(design(t, twin)), c.rule); len(got) > 0 {
				t.Errorf("found in the good twin: %q", got)
			}
		})
	}
	for _, r := range Rules {
		if !tested[r.ID] {
			t.Errorf("%s is not tested", r.ID)
		}
	}
	for rule, statement := range statements {
		if !tested[rule] {
			t.Errorf("%s is held by %s, which is not tested", statement, rule)
		}
	}
}

// ofModel are the rules that speak of a model, and what is found instead if a design does not say that it is made after it.
var ofModel = map[string]string{"FAB-CAP-004": "FAB-CAP-001", "FAB-DD-004": ""}

// TestByHand: a rule finds the same in a design of which nobody says after which model it is made. What is in tables is
// simulated then, and no formula counts it.
func TestByHand(t *testing.T) {
	for _, c := range cases {
		bad, rule := design(t, c.spec), c.rule
		if c.change != nil {
			c.change(bad)
		}
		bad.Model = ""
		if instead, ok := ofModel[rule]; ok {
			if rule = instead; rule == "" {
				continue
			}
		}
		got := found(Design(bad), rule)
		if len(got) == 0 || !strings.HasPrefix(rule, "FAB-CAP-") && !strings.Contains(strings.Join(got, "\n"), c.says) {
			t.Errorf("%s: found %q, want %q", rule, got, c.says)
		}
	}
}

// elsewhere are the rules that were asked for and are not in the catalogue; why is in docs/fabric.md.
var elsewhere = []string{"FAB-AS-003", "FAB-ADR-003", "FAB-BR-002", "FAB-WI-002"}

// TestRatesFix: each of the lines that mend FAB-WI-003 does, with nothing down and with one thing.
func TestRatesFix(t *testing.T) {
	for _, spec := range []string{perRack + ", RATES{uplink: 25G, load: 40G}", perSrv + ", SPINE{count: 4}, RATES{uplink: 25G, load: 40G}",
		planes + ", RATES{server: 10G, load: 25G}", perSrv + ", racks: {count: 3, tors: 2}, SPINE{count: 3}, RATES{uplink: 30G, load: 50G}"} {
		fill := func(rates, spine string) string {
			return strings.NewReplacer("RATES{", "rates: {"+rates, "SPINE{", "spine: {"+spine).Replace(spec)
		}
		got := Design(design(t, fill("", "")))
		i := slices.IndexFunc(got, func(f *Finding) bool { return f.ID == "FAB-WI-003" })
		if i < 0 || len(got[i].Fix) != 2 {
			t.Fatalf("%s: %+v", spec, got)
		}
		rate, _, _ := strings.Cut(got[i].Fix[0], "}")
		field, value, _ := strings.Cut(strings.TrimPrefix(rate, "rates: {"), ": ")
		faster := regexp.MustCompile(field+`: \w+`).ReplaceAllString(fill("", ""), field+": "+value)
		more, _, _ := strings.Cut(got[i].Fix[1], "     #")
		wider := regexp.MustCompile(`, spine: \{[^}]*\}`).ReplaceAllString(fill("", ""), "") + ", " + more
		for _, mended := range []string{faster, wider} {
			if left := found(Design(design(t, mended)), "FAB-WI-003"); len(left) > 0 {
				t.Errorf("%s mended as %s: %q", spec, mended, left)
			}
		}
	}
}

// TestPaste: of the lines that mend a finding, those that are fields of the file can be put into it, and the finding is gone then.
func TestPaste(t *testing.T) {
	read := func(text string) (m map[string]any) {
		text, _, _ = strings.Cut(text, "     #")
		if !regexp.MustCompile(`^\{?[a-zA-Z]+: `).MatchString(text) || yaml.Unmarshal([]byte(text), &m) != nil {
			return nil
		}
		return m
	}
	var merge func(a, b map[string]any) map[string]any
	merge = func(a, b map[string]any) map[string]any {
		out := maps.Clone(a)
		for k, v := range b {
			x, inner := v.(map[string]any)
			if y, both := out[k].(map[string]any); inner && both {
				v = merge(y, x)
			}
			out[k] = v
		}
		return out
	}
	of := func(spec map[string]any) []*Finding {
		text, err := yaml.Marshal(map[string]any{"apiVersion": "fabric/v1", "kind": "Fabric", "metadata": map[string]any{"name": "a"}, "spec": spec})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := fabric.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return nil
		}
		return Design(doc.Fabric.Design())
	}
	pasted := map[string]bool{}
	for _, text := range []string{
		perRack + ", bgp: {bfd: {segment: 'off'}}", perRack + ", spine: {kind: l2}, bgp: {bfd: {planes: 'off'}}", perRack + ", bgp: {gracefulRestart: {vrouter: 'off'}}",
		perRack + ", bgp: {timers: {hold: 60s}}", perRack + ", bgp: {maxPrefix: restart}", perRack + ", spine: {count: 1}", perRack + ", endpoints: {perServer: 3, announce: server-block}",
		perRack + ", spine: {as: unique, count: 4}, bgp: {roles: 'off'}, racks: {count: 8}, switches: {spine: {ram: 15090000}}", perRack + ", switches: {tor: {lpmTable: 40}}",
		perRack + ", racks: {count: 3, tors: 2}, machines: [{name: fw, rack: r1, routing: static}]", perSrv,
		planes + ", routeReflectors: {perPlane: 1}", planes + ", routeReflectors: {placement: all-planes}", planes + ", routeReflectors: {placement: none}, servers: {perRack: 34}",
		downward + ", downwardDefault: {fallback: none}", downward + ", downwardDefault: {asOverride: true}", downward + ", downwardDefault: {origin: tor}, racks: {count: 3, tors: 2}",
		downward + ", spine: {kind: l2}", downward + border + ", downwardDefault: {fallback: border}",
	} {
		base := map[string]any{"racks": map[string]any{"count": 3}, "servers": map[string]any{"perRack": 3}, "endpoints": map[string]any{"perServer": 3}}
		spec := merge(base, read("{"+text+"}"))
		for _, f := range of(spec) {
			for _, line := range f.Fix {
				field := read(line)
				if field == nil || strings.HasSuffix(line, "with the next line") {
					continue
				}
				pasted[f.ID] = true
				if left := slices.IndexFunc(of(merge(spec, field)), func(o *Finding) bool { return o.ID == f.ID && o.Severity == f.Severity }); left >= 0 {
					t.Errorf("%s, with %s: there is still %s", text, line, f.ID)
				}
			}
		}
	}
	if len(pasted) < 15 {
		t.Errorf("only %d: %v", len(pasted), pasted)
	}
}

// TestCatalogue: every rule that was asked for is there, or the documentation says what is instead of it.
func TestCatalogue(t *testing.T) {
	docs, err := os.ReadFile("../../../docs/fabric.md")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for kind, n := range map[string]int{"AS": 7, "NH": 6, "RR": 8, "SES": 3, "ECMP": 2, "LOOP": 1, "TIM": 5, "CAP": 9, "DD": 6, "BR": 4, "VR": 5, "SEC": 4, "ADR": 5, "PHY": 5, "WI": 5} {
		asked += n
		for i := range n {
			id := fmt.Sprintf("FAB-%s-%03d", kind, i+1)
			is := slices.ContainsFunc(Rules, func(r Rule) bool { return r.ID == id })
			if is == slices.Contains(elsewhere, id) {
				t.Errorf("%s is in the catalogue: %v, and elsewhere: %v", id, is, !is)
			}
			if said := strings.Contains(string(docs), "\n| "+id+" |"); said == is {
				t.Errorf("%s is in the catalogue: %v, and among the others in docs/fabric.md: %v", id, is, said)
			}
		}
	}
	if asked != 75 {
		t.Error(asked)
	}
}

// TestDefaultsAreClean: the least of a file gives a design without errors.
func TestDefaultsAreClean(t *testing.T) {
	for _, spec := range []string{perRack, perSrv, downward, planes,
		perRack + ", spine: {kind: l2}", perSrv + ", spine: {kind: l2}", downward + ", spine: {kind: l2}",
		perRack + ", spine: {as: unique}", perRack + ", inRack: {sessions: mesh}", perRack + ", inRack: {reflector: server}", perRack + ", inRack: {reflector: standalone}",
		perSrv + ", tors: {as: shared}, spine: {kind: l2}", planes + ", routeReflectors: {placement: none}",
		perRack + ", racks: {count: 3, tors: 2}, tors: {isl: true}", perRack + ", racks: {count: 3, tors: 2}", downward + override,
		perRack + ", racks: {count: 3, tors: 2}, inRack: {sessions: mesh}", perRack + ", racks: {count: 3, tors: 2}, inRack: {sessions: mesh}, tors: {isl: true}",
		downward + ", endpoints: {perServer: 4, announce: server-block}, downwardDefault: {exceptions: 9}",
		perRack + ", machines: [{name: db, rack: r0, addresses: 2}, {name: lb, rack: r0, attach: port}, {name: fw, rack: r1, routing: static}]",
		downward + ", servers: {perRack: 2, uplinks: segment}", downward + override + ", servers: {perRack: 2, uplinks: segment}",
		downward + ", servers: {perRack: 2, uplinks: segment}, racks: {count: 3, tors: 2}, endpoints: {perServer: 4, announce: server-block}, downwardDefault: {exceptions: 9}",
		downward + borders + ", spine: {kind: l2}, racks: {count: 3, tors: 2}, downwardDefault: {origin: border}",
		downward + ", machines: [{name: db, rack: r0}, {name: fw, rack: r1, routing: static}]", planes + ", machines: [{name: db, rack: r0}]",
		perRack + border, downward + border, planes + border, perRack + border + ", spine: {kind: l2}",
		perRack + twins, perSrv + twins, downward + twins, planes + twins, planes + twins + ", routeReflectors: {placement: none}",
		planes + border + ", routeReflectors: {placement: none}", planes + borders + ", routeReflectors: {placement: all-planes, addPath: true}",
		perRack + twins + ", spine: {kind: l2}", perSrv + twins + ", spine: {kind: l2}", downward + twins + ", spine: {kind: l2}",
		downward + twins + ", spine: {kind: l2}, racks: {count: 3, tors: 2}, downwardDefault: {origin: border}"} {
		for _, families := range []string{"", ", families: [ipv4, ipv6]", ", families: [ipv6]"} {
			for _, f := range Design(design(t, spec+families)) {
				if f.Severity == Error || f.Severity == Advanced {
					t.Errorf("%s%s: %s %s", spec, families, f.ID, f.Message)
				}
			}
		}
	}
}

// TestLarge: 10,000 servers are checked in seconds, by findings and not by
// devices.
func TestLarge(t *testing.T) {
	for _, spec := range []string{downward, planes} {
		start := time.Now()
		list := Design(design(t, spec+", racks: {count: 250}, servers: {perRack: 40}, endpoints: {perServer: 200}, bgp: {bfd: {segment: off, planes: off}}"))
		if len(list) > 40 {
			t.Errorf("%s: %d findings", spec, len(list))
		}
		t.Logf("%s: %d findings in %v", spec, len(list), time.Since(start))
	}
}

func ExampleDesign() {
	doc, _ := fabric.Parse([]byte(`
apiVersion: fabric/v1
kind: Fabric
metadata: {name: pod-a}
spec:
  model: downward-default
  racks: {count: 3}
  servers: {perRack: 2}
  endpoints: {perServer: 4}
  downwardDefault: {fallback: none}
`))
	f := Design(doc.Fabric.Design())[0]
	fmt.Println(f.ID, f.Message)
	fmt.Println(f.Fix[0])
	// Output:
	// FAB-DD-001 one link between a spine and a ToR down: 50 % of the traffic for that rack is dropped at the spine until the repair (3 racks, spine0, spine1)
	// downwardDefault: {fallback: inter-spine}
}

// TestFillSeverity: a table that is full, or will be at 85 % when the growth is over, is an error, and one at 70 % a warning.
func TestFillSeverity(t *testing.T) {
	const blocks = perRack + ", endpoints: {perServer: 4, announce: server-block}, switches: {tor: {hostTable: 1k, hostRoutesIn: host, lpmTable: "
	const grows = perRack + ", endpoints: {perServer: 4, growth: {percentPerYear: 25, years: 1}}, switches: {tor: {lpmTable: "
	for spec, want := range map[string]Severity{ // 32 entries, 24 of which grow to 30; 6 blocks
		perRack + ", switches: {tor: {lpmTable: 46}}": "", perRack + ", switches: {tor: {lpmTable: 45}}": Warning, perRack + ", switches: {tor: {lpmTable: 33}}": Warning,
		perRack + ", switches: {tor: {lpmTable: 32}}": Error,
		grows + "46}}": "", grows + "45}}": Warning, grows + "44}}": Error,
		blocks + "9}}": "", blocks + "8}}": Warning, blocks + "7}}": Warning, blocks + "6}}": Error,
	} {
		var got Severity
		for _, f := range Design(design(t, spec)) {
			if f.ID == "FAB-CAP-001" {
				got = f.Severity
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", spec, got, want)
		}
	}
}

// TestTableFix: what is to mend a full table fits the device that has it.
func TestTableFix(t *testing.T) {
	const full = ", switches: {tor: {lpmTable: 20}, spine: {lpmTable: 20}}"
	for _, c := range []struct{ spec, device, first string }{
		{perRack + full, "r0-t0", "model: downward-default"}, {perRack + full, "spine0", "model: ethernet"}, {downward + full, "spine0", "model: ethernet"},
	} {
		for _, f := range Design(design(t, c.spec)) {
			if f.ID == "FAB-CAP-001" && f.Devices[0] == c.device && (!strings.HasPrefix(f.Fix[0], c.first) || len(f.Fix) != 3) {
				t.Errorf("%s, %s: %q, want %s", c.spec, c.device, f.Fix, c.first)
			}
		}
	}
	for _, f := range Design(design(t, perRack+", endpoints: {perServer: 4, announce: rack-block}, switches: {spine: {lpmTable: 8}}")) {
		if f.ID == "FAB-CAP-001" && strings.Contains(strings.Join(f.Fix, "\n"), "rack-block") {
			t.Errorf("blocks of racks are advised for what has them: %q", f.Fix)
		}
	}
}

// TestRackBlockFix: what is advised against the loss of a ToR that attracts its whole rack mends it.
func TestRackBlockFix(t *testing.T) {
	for _, model := range []string{perRack, perSrv, downward} {
		spec := model + ", racks: {count: 3, tors: 2}, endpoints: {perServer: 4, announce: BLOCK}"
		for _, f := range Design(design(t, strings.Replace(spec, "BLOCK", "rack-block", 1))) {
			if f.ID == "FAB-WI-001" && !strings.HasPrefix(f.Fix[0], "endpoints: {announce: server-block}") {
				t.Errorf("%s: %q", model, f.Fix)
			}
		}
		if got := found(Design(design(t, strings.Replace(spec, "BLOCK", "server-block", 1))), "FAB-WI-001"); len(got) > 0 {
			t.Errorf("%s: mended as it says: %q", model, got)
		}
	}
}

// TestPolarised: what chooses differently, or has nothing to choose from, is not found.
func TestPolarised(t *testing.T) {
	for spec, change := range map[string]func(*fabric.Design){
		perRack + ", racks: {count: 3, tors: 2}": hash("crc16, seed 0", "crc16, seed 1"),
		perRack:                                  hash("crc16", "crc16"),
		perSrv + ", racks: {count: 3, tors: 2}":  hash("", ""),
	} {
		g := design(t, spec)
		change(g)
		if got := found(Design(g), "FAB-WI-005"); len(got) > 0 {
			t.Errorf("%s: %q", spec, got)
		}
	}
}

// TestLargeMeshes: a full mesh of more than a hundred routers is a warning, and one of more than a thousand an error.
func TestLargeMeshes(t *testing.T) {
	for size, want := range map[string]Severity{"racks: {count: 4}, servers: {perRack: 25}": "", "racks: {count: 1}, servers: {perRack: 101}": Warning,
		"racks: {count: 25}, servers: {perRack: 40}": Warning, "racks: {count: 13}, servers: {perRack: 77}": Error} {
		s := &subject{Index: design(t, planes+", routeReflectors: {placement: none}, "+size).Index(), rule: &Rule{Severity: Warning}}
		s.largeMeshes()
		if len(s.found) > 1 || (len(s.found) == 0) != (want == "") || want != "" && s.found[0].Severity != want {
			t.Errorf("%s: %+v, want %q", size, s.found, want)
		}
	}
}

// TestWorstFailure: of failures of a kind the one is named that cuts most pairs, and of those that cut as many, the one
// that takes more of a pair's flows.
func TestWorstFailure(t *testing.T) {
	g := design(t, perRack)
	part := func(name string, cut int, worst float64) sim.Reach {
		return sim.Reach{Failure: name, Kind: "link", Cases: 1, Pairs: 30, Cut: cut, Partly: 1, Worst: worst}
	}
	for want, cases := range map[string][]sim.Reach{
		"b": {part("a", 0, .25), part("b", 0, .5), part("c", 0, .25)},
		"d": {part("a", 0, .9), part("d", 1, .5), part("c", 0, .9)},
	} {
		s := &subject{Index: g.Index(), rule: &Rules[0], simulated: []simulated{{whatIf: &sim.WhatIf{Cases: cases}}}}
		singleFailure(s)
		if len(s.found) != 1 || !strings.HasPrefix(s.found[0].Message, want+" down: ") || !strings.Contains(s.found[0].Message, "(3 such failures)") {
			t.Errorf("want %s: %+v", want, s.found)
		}
	}
}

// TestNumbersOfOthers: which AS numbers are reserved, and where a public one, or one that is removed, is nothing to speak of.
func TestNumbersOfOthers(t *testing.T) {
	const public = 3356
	remove := with("spine-tor", func(p *fabric.Profile) { p.RemovePrivateAS = true })
	for _, c := range []struct {
		rule   string
		change func(g *fabric.Design)
		says   string // part of the message; empty: it finds nothing
	}{
		{"FAB-AS-004", func(g *fabric.Design) { renumber(g, "r0", 0) }, "AS 0 is reserved"},
		{"FAB-AS-004", func(g *fabric.Design) { renumber(g, "r0", 23456) }, "AS 23456 is reserved"},
		{"FAB-AS-004", func(g *fabric.Design) { renumber(g, "r0", 4294967295) }, "AS 4294967295 is reserved"},
		{"FAB-AS-004", func(g *fabric.Design) { renumber(g, "r0", 65535) }, "AS 65535 is reserved"},
		{"FAB-AS-004", func(g *fabric.Design) { renumber(g, "r0", 65534) }, ""}, // the last private one
		{"FAB-AS-004", func(g *fabric.Design) { renumber(g, "r0", 64511) }, "AS 64511 is no private number"},
		{"FAB-AS-004", func(g *fabric.Design) { device(g, "b1").AS = public }, ""}, // that is what they are for
		{"FAB-AS-007", remove, "keeps the AS number of the peer"},
		{"FAB-AS-007", func(g *fabric.Design) {
			remove(g)
			each(fabric.RoleSpine, func(d *fabric.Device) { d.Software = fabric.BIRD })(g)
		}, ""},
		{"FAB-AS-007", func(g *fabric.Design) {
			remove(g)
			for _, r := range []string{"r0", "r1", "r2"} {
				renumber(g, r, public)
			}
		}, ""},
	} {
		g := design(t, perRack+border)
		c.change(g)
		if got := strings.Join(found(Design(g), c.rule), "\n"); !strings.Contains(got, c.says) || (got == "") != (c.says == "") {
			t.Errorf("%s: %q, want %q", c.rule, got, c.says)
		}
	}
}
