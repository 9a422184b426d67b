// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"fmt"
	"strings"
)

// Template is a file to start from, with the fields that a model has and what
// they mean. Fields with their default values are comments.
func Template(name string, model Model, racks, servers, endpoints int) string {
	f := Fabric{Spec: Spec{Model: model, Racks: Racks{Count: racks}, Endpoints: Endpoints{PerServer: endpoints}}}
	f.Spec.Servers.PerRack = servers
	f.fill()
	p := &f.Spec.Pools
	var b strings.Builder
	line := func(format string, v ...any) { fmt.Fprintf(&b, format+"\n", v...) }
	line("# A fabric for `muslin fabric design` and `validate`.")
	line("# What is a comment here is what holds without it.")
	line("apiVersion: %s", APIVersion)
	line("kind: %s", KindFabric)
	line("metadata: {name: %s}", name)
	line("spec:")
	line("  model: %s", model)
	line("  racks: {count: %d, tors: 1}              # or a list: [{name: r0, servers: 40, tors: 2}, …]", racks)
	if f.Spec.Model == ASPerServer || f.Spec.Model == DownwardDefault {
		line("  servers: {perRack: %d, uplinks: %s}   # or segment, unnumbered", servers, f.Spec.Servers.Uplinks)
	} else {
		line("  servers: {perRack: %d}", servers)
	}
	line("  endpoints:")
	line("    perServer: %d", endpoints)
	line("    growth: {percentPerYear: 0, years: 0}  # for the capacity of switches")
	line("    # announce: one-by-one                 # or server-block, rack-block; strays: N outside of their blocks")
	line("")
	line("  # families: [ipv4]                       # with [ipv4, ipv6] every endpoint is a route of each")
	if model == Ethernet {
		line("  # spine: {kind: l2, count: 2}            # the planes")
		line("  # routeReflectors: {placement: per-plane, perPlane: 2, hosts: dedicated}")
		line("  #   placement: all-planes needs addPath: true; none is a full mesh")
	} else {
		line("  # spine: {kind: l3, count: 2, as: shared}  # kind: l2 for Ethernet planes; as: unique for an AS for each")
	}
	switch model {
	case ASPerRack:
		line("  # inRack: {sessions: reflector, reflector: tor}   # or sessions: mesh; or reflector: server, standalone")
		line("  # tors: {isl: false}                     # a link between the two ToRs of a rack")
	case ASPerServer:
		line("  # tors: {as: unique}                     # or shared, on planes")
	case DownwardDefault:
		line("  # downwardDefault: {origin: spine, fallback: inter-spine}   # or border, dual-tor; exceptions: N with blocks")
	}
	line("  # anycast: [{ip: 192.168.99.1, servers: [r0/s0, r1/s0]}]")
	line("  # machines: [{name: db, rack: r0}]         # bare metal: attach: segment, port; routing: bgp, static")
	line("  # border: [{name: b1, as: 64999, default: true}]")
	line("  # overrides: {devices: [{name: %s, multipath: 8}]}   # edits by hand; sessions: [{on: NAME, with: NAME, set: {…}}]", map[bool]string{true: "r0-s0", false: "r0-t0"}[model == Ethernet])
	line("")
	line("  # pools:")
	line("  #   endpoints: [{cidr: %s, external: nat}]     # or advertise", p.Endpoints[0].CIDR)
	line("  #   loopbacks: [%s]", p.Loopbacks[0])
	line("  #   links: [%s]", p.Links[0])
	line("  #   as: {start: %d, style: %s}", p.AS.Start, p.AS.Style)
	if model == Ethernet {
		line("  # rates: {server: 25G, load: 2G}         # of ports, and what a server sends out of its rack")
	} else {
		line("  # rates: {server: 25G, uplink: 100G, load: 2G}   # of ports, and what a server sends out of its rack")
	}
	line("  # plan: {serversPerRack: %d, endpointsPerServer: %d}   # what numbers are kept for; powers of two", f.Spec.Plan.ServersPerRack, f.Spec.Plan.EndpointsPerServer)
	line("")
	line("  # bgp:")
	line("  #   timers: {hold: 9s}")
	line("  #   bfd: {segment: 100ms, planes: 100ms, links: off}   # three packets may be lost")
	line("  #   gracefulRestart: {vrouter: 120s, rr: 120s}")
	line("  #   roles: auto                          # RFC 9234")
	line("  #   authentication: none                 # or md5, tcp-ao")
	line("  #   maxPrefix: warning                   # or restart, off")
	if model != Ethernet {
		line("  # switches:                              # or catalog: NAME, of `muslin fabric switches`")
		line("  #   tor: {hostTable: 16k, lpmTable: 128k, hostRoutesIn: host, ram: 4GiB}")
		line("  #   spine: {hostTable: 16k, lpmTable: 128k, hostRoutesIn: lpm, ram: 16GiB}")
	}
	return b.String()
}
