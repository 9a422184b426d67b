// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const podA = `apiVersion: fabric/v1
kind: Fabric
metadata: {name: pod-a}
spec:
  model: as-per-rack
  spine:
    kind: l3
    count: 4
  racks: {count: 32, tors: 1}
  servers:
    perRack: 40
  endpoints:
    perServer: 100
    growth: {percentPerYear: 40, years: 2}
  anycast: [{ip: 10.99.0.1, servers: [r1/s3, r7/s3]}]
  pools:
    endpoints: [{cidr: 10.128.0.0/10, external: nat}]
    loopbacks: 172.31.0.0/16
    links: 172.20.0.0/14
    as: {start: 4200000000, style: 4byte}
  bgp:
    timers: {hold: 9s}
    bfd: {segment: 100ms, planes: 100ms, links: off}
    roles: auto
  border:
  - {name: b1, as: 64999, default: true}
  switches:
    tor: {catalog: trident3/cumulus-v4-lpm-heavy, ram: 4GiB}
    spine: {hostTable: 16k, hostRoutesIn: lpm}
`

func TestParse(t *testing.T) {
	doc, err := Parse([]byte(podA))
	if err != nil {
		t.Fatal(err)
	}
	s := doc.Fabric.Spec
	if s.Racks.Count != 32 || s.Switches.Spine.HostTable != 16384 || s.Switches.ToR.RAM != 4<<30 || s.BGP.BFD.Links != NoDuration {
		t.Errorf("read %+v", s)
	}
	if s.InRack.Reflector != OnToR || s.Spine.AS != Shared || s.Plan != (Plan{64, 256}) || !reflect.DeepEqual(s.Families, []Family{IPv4}) {
		t.Errorf("filled in %+v", s)
	}
}

// The four fields without which there is no fabric are enough.
func TestParseLeast(t *testing.T) {
	for _, model := range Model("").words() {
		text := "apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {model: " + model +
			", racks: {count: 250}, servers: {perRack: 40}, endpoints: {perServer: 200}}"
		for _, more := range []string{"", "\n  ,families: [ipv4, ipv6]", "\n  ,families: [ipv6]"} {
			if _, err := Parse([]byte(strings.TrimSuffix(text, "}") + more + "}")); err != nil {
				t.Errorf("%s%s: %v", model, more, err)
			}
		}
	}
}

func TestParseFaults(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"  model: as-per-rack", "  modle: as-per-rack", `line 5: spec.modle: unknown field: did you mean "model"?`},
		{"model: as-per-rack", "model: as-per-rak", `line 5: spec.model: "as-per-rak": did you mean as-per-rack? Possible are`},
		{"  model: as-per-rack\n", "", `line 4: spec.model: missing: want one of as-per-rack, as-per-server,`},
		{"count: 4\n", "count: four\n", `line 8: spec.spine.count: "four": want a whole number, 0 or more`},
		{"count: 4\n", "count: 4\n    count: 5\n", `line 9: spec.spine.count: given twice: it stands in line 8 already`},
		{"count: 4\n", "count: 0\n", `line 8: spec.spine.count: 0: want 1 or more, or leave it out`},
		{"racks: {count: 32, tors: 1}", "racks: {count: 32, tors: 0}", `line 9: spec.racks.tors: 0: want 1 or more, or leave it out`},
		{"racks: {count: 32, tors: 1}", "racks: [{name: Rack-A}]", `line 9: spec.racks[0].name: "Rack-A": want small letters, digits and - inside, 57 at most, since names of servers begin with it, such as "rack-a"`},
		{"count: 4\n", "count: 99\n", `line 8: spec.spine.count: 99: want 1 to 63 spines`},
		{"kind: Fabric\n", "kind: Fabrik\n", `line 2: kind: "Fabrik": did you mean Fabric?`},
		{"kind: Fabric\n", "", `kind: missing: begin with`},
		{"fabric/v1", "fabric/v2", `line 1: apiVersion: "fabric/v2": want fabric/v1`},
		{"racks: {count: 32, tors: 1}", "racks: {count: 32, tors: 3}", `line 9: spec.racks.tors: 3: want 1 to 2 ToRs in a rack`},
		{"racks: {count: 32, tors: 1}", "racks: 32", `line 9: spec.racks: members (name: value) are wanted, not "32": known members are count, tors`},
		{"racks: {count: 32, tors: 1}", "racks: [{name: a}, {name: b, tor: jericho/flexrout}]", `line 9: spec.racks[1].tor: "jericho/flexrout" is not in the catalogue: did you mean "jericho/flexroute"?`},
		{"racks: {count: 32, tors: 1}", "racks: [{name: a}, {name: b}, {name: a}]", `line 9: spec.racks[2].name: "a": spec.racks[0] has it; names are unique`},
		{"racks: {count: 32, tors: 1}", "racks: [{name: " + strings.Repeat("a", 58) + "}]", `line 9: spec.racks[0].name: "` + strings.Repeat("a", 58) + `": want small letters, digits and - inside, 57 at most`},
		{"racks: {count: 32, tors: 1}", "racks: {count: 10000, tors: 1}", `line 17: spec.pools.endpoints[0].cidr: FAB-ADR-003: 10.128.0.0/10 holds 4,194,304 endpoint addresses in whole racks, the plan needs 163,840,000: want a /4 or more`},
		{"    perServer: 100", "    perServer: 65536", `the plan needs 268,435,456: want a /4 or more`},
		{"racks: {count: 32, tors: 1}", "racks: {count: 10000, tors: 1}\n  plan: {serversPerRack: 4096}", `the plan needs 10,485,760,000: want fewer racks, or a smaller plan: no pool of the family is that large`},
		{"  racks:", "  families: [ipv4, ipv6, ipv4]\n  racks:", `line 9: spec.families[2]: ipv4 is given twice: leave one out`},
		{"  racks:", "  \"a\\e[2Jb\\nc\": 1\n  racks:", "line 9: spec.a\uFFFD[2Jb\uFFFDc: unknown field"},
		{"172.31.0.0/16", "::ffff:172.31.0.0/112", `line 18: spec.pools.loopbacks[0]: "::ffff:172.31.0.0/112": want a prefix such as`},
		{"10.99.0.1", "224.0.0.1", `line 15: spec.anycast[0].ip: 224.0.0.1 is in 224.0.0.0/3: want addresses that routers forward packets to`},
		{"10.99.0.1", "172.20.0.1", `line 15: spec.anycast[0].ip: 172.20.0.1 is in 172.20.0.0/14, which routers have addresses of: want one that is nobody's`},
		{"10.99.0.1", "172.31.9.9", `line 15: spec.anycast[0].ip: 172.31.9.9 is in 172.31.0.0/16, which routers have`},
		{"[{ip: 10.99.0.1, servers: [r1/s3, r7/s3]}]", "[{ip: 10.99.0.1, servers: [r1/s3]}, {ip: 10.99.0.1, servers: [r7/s3]}]", `line 15: spec.anycast[1].ip: 10.99.0.1 is in spec.anycast[0] already: name all servers there`},
		{"r7/s3", "r1/s3", `line 15: spec.anycast[0].servers[1]: r1/s3 is given twice: leave one out`},
		{"10.128.0.0/10", "224.0.0.0/6", `line 17: spec.pools.endpoints[0].cidr: 224.0.0.0/6 overlaps 224.0.0.0/3: want addresses that routers forward`},
		{"172.20.0.0/14", "fd00:20::/48", `line 19: spec.pools.links[0]: fd00:20::/48 is of a family that is not routed: add ipv6 to spec.families, or take the pool out`},
		{"172.31.0.0/16", "[172.31.0.0/16, fd00:31::/64]", `line 18: spec.pools.loopbacks[1]: fd00:31::/64 is of a family that is not routed: add ipv6`},
		{"172.31.0.0/16", "[172.31.0.0/16, 172.30.0.0/16]", `line 18: spec.pools.loopbacks[1]: 172.30.0.0/16 would not be used: 172.31.0.0/16 comes before it: give one pool of each family, large enough`},
		{"172.20.0.0/14", "127.0.0.0/8", `line 19: spec.pools.links[0]: 127.0.0.0/8 overlaps 127.0.0.0/8: want addresses`},
		{"172.20.0.0/14", "fe80::/10", `line 19: spec.pools.links[0]: fe80::/10 overlaps fe80::/10: want addresses`},
		{"  border:", "  machines: [{name: m, rack: r0, prefixes: [203.0.113.0/24]}, {name: n, rack: r1, prefixes: [203.0.113.0/28]}]\n  border:", `line 25: spec.machines[1].prefixes[0]: 203.0.113.0/28 overlaps 203.0.113.0/24 of another machine`},
		{"  border:", "  machines: [{name: m, rack: r0, prefixes: [10.99.0.0/24]}]\n  border:", `line 25: spec.machines[0].prefixes[0]: 10.99.0.0/24 overlaps 10.99.0.1/32 of another machine or of spec.anycast: want one`},
		{"  border:", "  machines: [{name: m, rack: r0, prefixes: [224.0.0.0/8]}]\n  border:", `line 25: spec.machines[0].prefixes[0]: 224.0.0.0/8 overlaps 224.0.0.0/3: want addresses`},
		{"spine: {hostTable", "spine: {software: muslin, hostTable", `line 29: spec.switches.spine.software: muslin: want frr, bird or gobgp: muslin runs on servers`},
		{"roles: auto", "advanced: [{name: as-overide, reason: anycast}]", `line 24: spec.bgp.advanced[0].name: "as-overide": did you mean as-override?`},
		{"roles: auto", "advanced: [{name: as-override}]", `line 24: spec.bgp.advanced[0].reason: missing: say why the fabric needs it`},
		{"perRack: 40", "perRack: 5000", `line 11: spec.servers.perRack: 5000: want 1 to 4096 servers`},
		{"10.99.0.1", "10.191.0.1", `line 15: spec.anycast[0].ip: 10.191.0.1 is in 10.128.0.0/10, of which every address is one endpoint's: want one outside of the pools, such as 192.168.99.1`},
		{"10.99.0.1", "10.128.0.1", `line 15: spec.anycast[0].ip: 10.128.0.1 is that of an endpoint of r0/s0: want one that is nobody's`},
		{"name: b1", "name: spine3", `line 26: spec.border[0].name: "spine3": so a switch, server or reflector of the fabric itself is called: want another name`},
		{"  border:", "  machines: [{name: r3-s1, rack: r0}]\n  border:", `line 25: spec.machines[0].name: "r3-s1": so a switch,`},
		{"  border:", "  machines: [{name: b1, rack: r0}]\n  border:", `line 25: spec.machines[0].name: "b1": spec.border[0] has it; names are unique`},
		{"segment: 100ms", "segment: 1ms", `line 23: spec.bgp.bfd.segment: 1ms: want 10ms to 1m0s, or off`},
		{"hold: 9s", "hold: 2s", `line 22: spec.bgp.timers.hold: 2s: want 3s to 18h12m15s, or off`},
		{"roles: auto", "gracefulRestart: {vrouter: 2h}", `line 24: spec.bgp.gracefulRestart.vrouter: 2h0m0s: want 1s to 1h8m15s, or off`},
		{"perRack: 40", "perRack: 0", `line 11: spec.servers.perRack: 0: want 1 to 4096 servers`},
		{"hold: 9s", "hold: 9", `line 22: spec.bgp.timers.hold: "9": want a time up to a day such as 100ms or 9s, or off`},
		{"172.20.0.0/14", "10.130.0.0/16", `line 19: spec.pools.links[0]: 10.130.0.0/16 overlaps 10.128.0.0/10 of spec.pools.endpoints[0].cidr: give each pool`},
		{"172.20.0.0/14", "172.20.0.0/18", `line 19: spec.pools.links[0]: FAB-ADR-003: 172.20.0.0/18 holds 8,192 addresses of links inside racks, the plan needs 16,384: want a /17 or more`},
		{"10.128.0.0/10", "10.128.0.0/18", `line 17: spec.pools.endpoints[0].cidr: FAB-ADR-003: 10.128.0.0/18 holds 16,384 endpoint addresses in whole racks, the plan needs 524,288: want a /13 or more`},
		{"172.31.0.0/16", "172.31.0.1/16", `line 18: spec.pools.loopbacks[0]: 172.31.0.1/16 has bits behind its length: want 172.31.0.0/16`},
		{"start: 4200000000", "start: 3356", `line 20: spec.pools.as.start: 3356: private numbers of 4byte are 4200000000 to 4294967294 (RFC 6996)`},
		{"r7/s3", "r7/s40", `line 15: spec.anycast[0].servers[1]: "r7/s40" is no server: want rack/server, such as r0/s0`},
		{"as: 64999", "as: 0", `line 26: spec.border[0].as: missing: want the AS number of this router`},
		{"cumulus-v4-lpm-heavy", "cumulus-v4-lpm-heavi", `line 28: spec.switches.tor.catalog: "trident3/cumulus-v4-lpm-heavi" is not in the catalogue: did you mean "trident3/cumulus-v4-lpm-heavy"?`},
		{"ram: 4GiB", "ram: 4 gigs", `line 28: spec.switches.tor.ram: "4 gigs": want an amount of memory such as 4GiB`},
		{"model: as-per-rack", "model: ethernet", `line 7: spec.spine.kind: l3: want l2: an Ethernet fabric has planes`},
		{"roles: auto", "roles: &a auto\n    maxPrefix: *a", `line 25: spec.bgp.maxPrefix: an alias: write the value out`},
		{"  bgp:", "\tbgp:", `line 21: not YAML: found character that cannot start any token: check the indentation`},
		{"spec:", "---\nspec:", `a second document: put each fabric into a file of its own`},
	} {
		if !strings.Contains(podA, c.old) {
			t.Fatalf("no %q in the file", c.old)
		}
		_, err := Parse([]byte(strings.Replace(podA, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q:\n got %v\nwant %s", c.new, c.old, err, c.want)
		}
	}
}

// TestDesignFaults: a design that was written by hand and cannot be read says where, and what would be right.
func TestDesignFaults(t *testing.T) {
	const good = `apiVersion: fabric/v1
kind: FabricDesign
metadata: {name: a}
families: [ipv4]
profiles: [{name: p}]
segments: [{name: net, kind: link}]
devices:
- name: t0
  role: tor
  software: frr
  routerId: 10.0.0.1
  as: 65001
  interfaces:
  - {name: eth0, segment: net}
  sessions:
  - {peer: t1, peerAS: 65002, profile: p, segment: net}
- {name: t1, role: tor, software: bird, routerId: 10.0.0.2, as: 65002}
`
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"families: [ipv4]\n", "", `families: none: want [ipv4, ipv6], or one of them`},
		{"families: [ipv4]", "families: [ipv4, ipv6, ipv4]", "line 4: families[2]: ipv4 is given twice: leave one out"},
		{good[strings.Index(good, "devices:"):], "devices: []\n", "line 7: devices: none: `muslin fabric design FILE -o json` prints a design"},
		{"role: tor\n", "role: torr\n", `line 9: devices[0].role: "torr": did you mean tor?`},
		{"  routerId: 10.0.0.1\n", "", `line 8: devices[0].routerId: missing: want 32 bits that are not all 0`},
		{"  as: 65001\n", "", `line 8: devices[0].as: missing: want the AS number of this router`},
		{"peerAS: 65002, ", "", `line 16: devices[0].sessions[0].peerAS: missing: want the AS number that the peer has`},
		{"metadata: {name: a}", "metadata: {name: *a}", `line 3: not YAML: unknown anchor 'a' referenced`},
		{"metadata: {name: a}", "metadata: {name: a\x01}", `line 3: not YAML: control characters`},
		{"metadata: {name: a}", "metadata: {name: a\xff}", `line 3: not YAML: `},
		{"apiVersion: fabric/v1", "apiVersion: fabric/v1: a", `line 1: not YAML: mapping values`},
		{"routerId: 10.0.0.1", "routerId: fe80::1", `line 11: devices[0].routerId: fe80::1: want 32 bits, written as an IPv4 address`},
		{"  software: frr\n", "", `line 8: devices[0].software: missing: want one of muslin, frr`},
		{"{name: eth0, segment: net}", "{name: eth0, segment: ent}", `line 14: devices[0].interfaces[0].segment: "ent" is not there: name one of segments`},
		{"{name: eth0, segment: net}", "{segment: net}", `line 14: devices[0].interfaces[0].name: missing: want that of the port`},
		{"{name: eth0, segment: net}", "{name: eth0, segment: net}\n  - {name: eth0, segment: net}", `line 15: devices[0].interfaces[1].name: "eth0": devices[0].interfaces[0] has it; names are unique`},
		{"profile: p, segment: net}", "profile: p, segment: net}\n  - {peer: t1, peerAS: 65003, profile: p, segment: net}", `line 17: devices[0].sessions[1]: t1 is the peer of sessions[0] already, on the same segment: leave one out`},
		{"as: 65002}", "as: 65002, originate: [{kind: endpoints, prefix: 255.255.255.254/32, count: 3}]}", `line 17: devices[1].originate[0].count: 3: the addresses end before: want fewer`},
		{"as: 65002}", "as: 65002, originate: [{kind: endpoints, prefix: 10.64.0.1/24, count: 3}]}", `line 17: devices[1].originate[0].prefix: 10.64.0.1/24 has bits behind its length: want 10.64.0.0/24`},
		{"peer: t1", "peer: t9", `line 16: devices[0].sessions[0].peer: "t9" is not there: name one of devices`},
		{"profile: p,", "profile: q,", `line 16: devices[0].sessions[0].profile: "q" is not there: name one of profiles`},
		{"name: t1,", "name: t0,", `line 17: devices[1].name: "t0": devices[0] has it; names are unique`},
		{"name: t1,", "name: T1,", `line 17: devices[1].name: "T1": want small letters, digits and - inside, 63 at most`},
		{"profiles: [{name: p}]", "profiles: [{name: p}, {name: p}]", `line 5: profiles[1].name: "p": profiles[0] has it; names are unique`},
		{"segments: [{", "segments: [{kind: link}, {", `line 6: segments[0].name: missing: want a name`},
		{"{name: net, kind: link}", "{name: net}", `line 6: segments[0].kind: missing: want one of link, rack, plane`},
		{"as: 65002}", "as: 65002, originate: [{prefix: 10.64.0.0/32, count: 1}]}", `line 17: devices[1].originate[0].kind: missing: want one of endpoints, block`},
		{"as: 65002}", "as: 65002}\nmeshes: [{name: m, segment: net, profile: p, members: [t0]}]", `line 18: meshes[0].kind: missing: want one of ibgp, ebgp`},
		{"as: 65002}", "as: 65002, originate: [{kind: endpoints, prefix: 10.64.0.0/32, count: 100000000}]}", `line 17: devices[1].originate[0].count: 100,000,000: want 1 to 1,048,576 prefixes`},
		{"as: 65002}", "as: 65002, originate: [{kind: endpoints, prefix: 10.64.0.0/32, count: 0}]}", `line 17: devices[1].originate[0].count: 0: want 1 to 1,048,576 prefixes`},
		{"as: 65002}", "as: 65002, originate: [{kind: endpoints, prefix: 128.0.0.0/1, count: 3}]}", `line 17: devices[1].originate[0].count: 3: there are 2 prefixes of this length: want fewer`},
		{"as: 65002}", "as: 65002, originate: [{kind: block, prefix: 10.64.0.0/26, count: 1, endpoints: 2000000000}]}", `line 17: devices[1].originate[0].endpoints: 2,000,000,000: want 64 at most`},
		{"as: 65002}", "as: 65002, originate: [{kind: endpoints, count: 3}]}", `line 17: devices[1].originate[0].prefix: missing: want one such as 10.64.0.0/32`},
		{"as: 65002}", "as: 65002, static: [{prefix: 10.64.0.0/32, count: 100000000}]}", `line 17: devices[1].static[0].count: 100,000,000: want 1 to 1,048,576 prefixes`},
		{"as: 65002}", "as: 65002}\nmeshes: [{name: m, segment: net, profile: q, members: [t0]}]", `line 18: meshes[0]: name "m", segment "net", profile "q": want a name, a segment of segments and a profile of profiles`},
		{"as: 65002}", "as: 65002}\nmeshes: [{name: m, segment: net, profile: p, members: [t0, t9]}]", `line 18: meshes[0].members[1]: "t9" is not there: name one of devices`},
		{"profiles: [{name: p}]", "profiles: [{name: p, export: up}]", `line 5: profiles[0].export: "up" is not there: name one of filters`},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("no %q in the design", c.old)
		}
		_, err := Parse([]byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q:\n got %v\nwant %s", c.new, c.old, err, c.want)
		}
	}
}

// TestExceptionFaults: exceptions are refused where there is nothing to except, or nothing would come of it.
func TestExceptionFaults(t *testing.T) {
	for spec, want := range map[string]string{
		"exceptions: 9}": "spec.downwardDefault.exceptions: endpoints that are announced one by one need none: spines know where each is",
		"exceptions: 9}, endpoints: {perServer: 4, announce: rack-block}":                                                   "tells servers of nothing in it",
		"exceptions: 9, origin: tor, fallback: none}, endpoints: {perServer: 4, announce: server-block}, spine: {kind: l2}": "the spine is l2",
		"exceptions: 9, asOverride: true}, endpoints: {perServer: 4, announce: server-block}":                               "leave out one of the two",
		"exceptions: -1}, endpoints: {perServer: 4, announce: server-block}":                                                "spec.downwardDefault.exceptions",
		"exceptions: 9, fallback: none}, endpoints: {perServer: 4, announce: server-block}":                                 "",
	} {
		if !strings.Contains(spec, "endpoints:") {
			spec += ", endpoints: {perServer: 4}"
		}
		_, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec: {model: downward-default, racks: {count: 2}, servers: {perRack: 2}, downwardDefault: {" + spec + "}"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s:\n got %v\nwant %s", spec, err, want)
		}
	}
}

// TestPrivateASNumbers: what the private ranges hold, to the last number
// (RFC 6996 section 5), is what a plan can use.
func TestPrivateASNumbers(t *testing.T) {
	plan := func(racks, servers int, as string) error {
		f := &Fabric{Metadata: Metadata{"a"}, Spec: Spec{Model: ASPerServer, Racks: Racks{Count: racks}}}
		f.Spec.Servers.PerRack, f.Spec.Endpoints.PerServer = servers, 1
		f.Spec.Pools.AS.Style = ASStyle(as)
		f.fill()
		e := &faults{}
		f.checkAS(e)
		return e.err()
	}
	// One spine AS, and for each rack one ToR and its servers: 1 + 2·511 = 1,023.
	if err := plan(2, 510, "2byte"); err != nil {
		t.Error(err)
	}
	if err := plan(2, 511, "2byte"); err == nil || !strings.Contains(err.Error(), "needs 1,025 AS numbers, 64512 to 65534 are 1,023: want style: 4byte, which has 94,967,295") {
		t.Error(err)
	}
	if n := uint32(last4-first4) + 1; n != 94_967_295 {
		t.Error(n)
	}
	if err := plan(10_000, 4096, "4byte"); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(podA))
	f.Add([]byte("kind: FabricDesign\napiVersion: fabric/v1\nmetadata: {name: a}\nfamilies: [ipv4]\nprofiles: [{name: x}]\ndevices: [{name: a, role: tor, software: frr, as: 65001, routerId: 10.0.0.1, sessions: [{peer: a, peerAS: 65001, profile: x}]}]"))
	f.Add([]byte("kind: FabricDesign\napiVersion: fabric/v1\n\"\": [{a: b}]"))
	f.Add([]byte("kind: Fabric\nspec: {racks: [{name: a, tors: 2}], bgp: {timers: {hold: off}}}"))
	f.Fuzz(func(t *testing.T, input []byte) {
		doc, err := Parse(input)
		if err != nil {
			return
		}
		// What was read can be written, and reads the same.
		var v any = doc.Design
		if doc.Fabric != nil {
			v = doc.Fabric
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if doc.Fabric != nil {
			// Where it stands, and what stood there without defaults, is of the file itself.
			again.Fabric.lines, again.Fabric.given = doc.Fabric.lines, doc.Fabric.given
		} else {
			again.Design.lines = doc.Design.lines
		}
		if !reflect.DeepEqual(doc, again) {
			t.Errorf("%+v is written and read as %+v", doc, again)
		}
	})
}

// TestDesignWords: whatever a design calls its parts, it is one word of a configuration: no name begins a line of its own there.
func TestDesignWords(t *testing.T) {
	const good = `apiVersion: fabric/v1
kind: FabricDesign
metadata: {name: META}
families: [ipv4]
platforms: [{name: PLATFORM, hash: HASH}]
filters: [{name: FILTER}]
profiles: [{name: PROFILE, import: FILTER}]
segments: [{name: SEGMENT, kind: link}]
meshes: [{name: MESH, kind: ibgp, segment: SEGMENT, profile: PROFILE, members: [t0]}]
devices:
- {name: t0, role: tor, software: frr, as: 65001, routerId: 10.0.0.1, rack: RACK, clusterId: CLUSTER, interfaces: [{name: PORT, segment: SEGMENT}],
   static: [{prefix: 10.64.0.0/32, count: 1, via: VIA, machine: MACHINE}], sessions: [{peer: t0, peerAS: 1, profile: PROFILE, address: [ADDRESS]}]}
`
	right := map[string]string{"META": "a", "HASH": "any words, of ports; and {seed 5}", "CLUSTER": "10.0.0.1", "VIA": "10.0.0.1", "ADDRESS": "fd00::1"}
	text := func(bad, value string) string {
		return regexp.MustCompile(`[A-Z]{3,}`).ReplaceAllStringFunc(good, func(w string) string {
			switch {
			case w == bad:
				v, _ := json.Marshal(value)
				return string(v)
			case right[w] != "":
				return `"` + right[w] + `"`
			}
			return strings.ToLower(w)
		})
	}
	if _, err := Parse([]byte(text("", ""))); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"META", "PLATFORM", "HASH", "FILTER", "PROFILE", "SEGMENT", "MESH", "RACK", "CLUSTER", "PORT", "VIA", "MACHINE", "ADDRESS"} {
		bad := []string{"x\n no router bgp 1", "x\x1b[2J", "fe80::1%x\n y"}
		if part != "HASH" {
			bad = append(bad, "fe80::1%x", "a b", "a;b", `a"b`, "<b>", "-a", strings.Repeat("a", 200))
		}
		for _, value := range bad {
			if _, err := Parse([]byte(text(part, value))); err == nil || strings.Contains(err.Error(), "\n no router") || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("%s is %q: %v", part, value, err)
			}
		}
	}
}

// TestUnnamedPool: a pool that the file does not name is said to be such a one.
func TestUnnamedPool(t *testing.T) {
	_, err := Parse([]byte("apiVersion: fabric/v1\nkind: Fabric\nmetadata: {name: a}\nspec:\n  model: ethernet\n  racks: {count: 1}\n  servers: {perRack: 1}\n" +
		"  endpoints: {perServer: 1}\n  pools: {endpoints: [{cidr: 172.16.0.0/12}]}\n"))
	if want := "spec.pools.links[0]: 172.20.0.0/14, the pool where the file names none, overlaps 172.16.0.0/12 of spec.pools.endpoints[0].cidr"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}
