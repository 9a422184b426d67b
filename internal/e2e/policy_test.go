// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/lab"
)

// TestPolicy_Packets is what rules mean, told by packets: each case applies
// its objects, asks, and removes them.
func TestPolicy_Packets(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	apply(t, c, `
kind: Profile
metadata: {name: open}
spec: {labelsToApply: {from-profile: "yes"}, ingress: [{action: Allow}], egress: [{action: Allow}]}
---
kind: Profile
metadata: {name: web-only}
spec: {ingress: [{action: Pass, protocol: UDP}, {action: Allow, protocol: TCP, destination: {ports: [80]}}], egress: [{action: Allow}]}
---
kind: Profile
metadata: {name: kns.jobs}
spec: {labelsToApply: {pcns.team: batch}}
---
kind: Profile
metadata: {name: udp-after-pass}
spec: {ingress: [{action: Allow, protocol: UDP}]}
`)
	web := machineOf(attach(t, n1, "web", "--label", "app=web", "--profile", "open"))
	db := machineOf(attach(t, n2, "db", "--label", "app=db", "--label", "tier=back", "--profile", "open"))
	batch := machineOf(attach(t, n1, "batch", "--label", "app=batch", "-n", "jobs", "--profile", "open", "--profile", "kns.jobs"))
	narrow := machineOf(attach(t, n2, "narrow", "--label", "app=narrow", "--profile", "web-only", "--profile", "udp-after-pass"))
	bare := machineOf(attach(t, n2, "bare", "--label", "app=bare"))
	host1 := &machine{Namespace: n1.Namespace, node: n1, addr: map[bool]netip.Addr{false: n1.V4.Addr(), true: n1.V6.Addr()}}
	all := []*machine{web, db, batch, narrow, bare}
	// Two endpoints with named ports, written as they are.
	apply(t, c, `
kind: WorkloadEndpoint
metadata: {name: n2-muslin-named-eth0, namespace: default, labels: {app: named}}
spec: {node: n2, orchestrator: muslin, workload: named, endpoint: eth0, interfaceName: calinamed, profiles: [open], ipNetworks: [198.51.100.1/32, "2001:db8::1/128"], ports: [{name: http, protocol: TCP, port: 8080}]}
---
kind: WorkloadEndpoint
metadata: {name: n1-muslin-named2-eth0, namespace: default, labels: {app: named}}
spec: {node: n1, orchestrator: muslin, workload: named2, endpoint: eth0, interfaceName: calinamed2, profiles: [open], ipNetworks: [198.51.100.2/32, "2001:db8::2/128"], ports: [{name: http, protocol: TCP, port: 81}]}
`)
	named := plug(t, c, n2, "named", "calinamed", "", "198.51.100.1", "2001:db8::1")
	named2 := plug(t, c, n1, "named2", "calinamed2", "", "198.51.100.2", "2001:db8::2")
	all = append(all, named, named2)
	for _, m := range all {
		serve(t, m, 80, 81, 8080)
		for _, n := range c.Nodes {
			routed(t, n, m.addr[false], m.addr[true])
		}
	}
	live(t, c)
	judge(t,
		web.asks("profile open", db, lab.TCP, 81, true),
		web.asks("profile web-only", narrow, lab.TCP, 80, true), web.asks("profile web-only", narrow, lab.TCP, 81, false),
		web.asks("Pass ends a profile for what it matches, and the next is asked", narrow, lab.UDP, 81, true),
		web.asks("neither policy nor profile", bare, lab.TCP, 80, false), bare.asks("neither policy nor profile", web, lab.TCP, 80, false),
	)

	np := func(spec string) string {
		return "kind: NetworkPolicy\nmetadata: {name: x, namespace: default}\nspec: " + spec + "\n"
	}
	gnp := func(name, spec string) string {
		return "kind: GlobalNetworkPolicy\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
	}
	for _, tc := range []struct {
		name, docs string
		ask        [][]question
	}{
		{"a namespace's policy selects, and means, its own endpoints only",
			np(`{selector: all(), types: [Ingress], ingress: [{action: Allow, source: {selector: "app in {'web', 'batch'}"}}]}`), [][]question{
				web.asks("", db, lab.TCP, 81, true), batch.asks("", db, lab.TCP, 81, false), web.asks("", batch, lab.TCP, 81, true), named.asks("", db, lab.TCP, 81, false),
			}},
		{"namespaceSelector", gnp("x", `{namespaceSelector: team == 'batch', types: [Ingress], ingress: [{action: Allow, source: {namespaceSelector: team == 'batch'}}]}`), [][]question{
			web.asks("", batch, lab.TCP, 81, false), web.asks("", db, lab.TCP, 81, true),
		}},
		{"empty types mean what the rules say", gnp("x", `{selector: app == 'db', egress: [{action: Deny}]}`), [][]question{
			web.asks("", db, lab.TCP, 80, true), db.asks("", web, lab.TCP, 80, false),
		}},
		{"named ports differ by endpoint", gnp("x", `{selector: app == 'named', types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [http]}}]}`), [][]question{
			web.asks("", named, lab.TCP, 8080, true), web.asks("", named, lab.TCP, 81, false), web.asks("", named2, lab.TCP, 81, true), web.asks("", named2, lab.TCP, 8080, false),
		}},
		{"named ports of the other end", gnp("x", `{selector: app == 'web', types: [Egress], egress: [{action: Allow, protocol: TCP, destination: {selector: app == 'named', ports: [http, 80]}}]}`), [][]question{
			web.asks("", named, lab.TCP, 8080, true), web.asks("", named2, lab.TCP, 8080, false), web.asks("", named2, lab.TCP, 80, true), web.asks("", db, lab.TCP, 80, false),
		}},
		{"notSelector and notPorts", gnp("x", `{selector: app == 'db', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {notSelector: app == 'batch'}, destination: {notPorts: [81, "8000:9000"]}}]}`), [][]question{
			web.asks("", db, lab.TCP, 80, true), web.asks("", db, lab.TCP, 81, false), web.asks("", db, lab.TCP, 8080, false), batch.asks("", db, lab.TCP, 80, false), host1.asks("", db, lab.TCP, 80, true),
		}},
		{"notNets", gnp("x", `{selector: app == 'db', types: [Ingress], ingress: [{action: Allow, source: {notNets: [10.0.0.0/24]}}, {action: Allow, source: {notNets: ["fd00::/64"]}}]}`), [][]question{
			web.asks("", db, lab.TCP, 80, true), host1.asks("", db, lab.TCP, 80, false),
		}},
		{"nets, several lists in one rule", gnp("x", `{selector: app == 'db', types: [Ingress], ingress: [{action: Allow, protocol: UDP, source: {nets: [10.0.0.0/24, 198.51.100.2/32]}, destination: {ports: [80, 8080]}}, {action: Allow, protocol: UDP, source: {nets: ["fd00::/64", "2001:db8::2/128"]}, destination: {ports: [80, 8080]}}]}`), [][]question{
			host1.asks("", db, lab.UDP, 80, true), named2.asks("", db, lab.UDP, 8080, true), named.asks("", db, lab.UDP, 80, false), host1.asks("", db, lab.UDP, 81, false), host1.asks("", db, lab.TCP, 80, false),
		}},
		{"notProtocol", gnp("x", `{selector: app == 'db', types: [Ingress], ingress: [{action: Allow, notProtocol: TCP}]}`), [][]question{
			web.asks("", db, lab.UDP, 80, true), web.asks("", db, lab.TCP, 80, false), web.asks("", db, lab.ICMP, 0, true),
		}},
		{"icmp and notICMP", gnp("x", `{selector: app == 'db', types: [Ingress], ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8}}, {action: Allow, protocol: ICMPv6, notICMP: {type: 128}}]}`), [][]question{
			web.asksAs("", db, lab.ICMP, 0, true, false), web.asks("", db, lab.UDP, 80, false),
		}},
		{"ipVersion", gnp("x", `{selector: app == 'db', types: [Ingress], ingress: [{action: Allow, ipVersion: 6}]}`), [][]question{
			web.asksAs("", db, lab.TCP, 80, false, true),
		}},
		{"labels that a profile gives", gnp("x", `{selector: app == 'db', types: [Ingress], ingress: [{action: Allow, source: {selector: has(from-profile)}}]}`), [][]question{
			web.asks("", db, lab.TCP, 80, true), narrow.asks("", db, lab.TCP, 80, false),
		}},
		{"order, then name", gnp("b", `{order: 10, selector: app == 'db', types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [80]}}]}`) + "---\n" +
			gnp("a", `{order: 10, selector: app == 'db', types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]}`) + "---\n" +
			gnp("z", `{order: 1, selector: app == 'db', types: [Ingress], ingress: [{action: Deny, source: {selector: app == 'batch'}}, {action: Log}, {action: Allow, protocol: UDP}]}`), [][]question{
			web.asks("", db, lab.TCP, 80, true), batch.asks("", db, lab.TCP, 80, false), web.asks("", db, lab.UDP, 81, true), web.asks("", db, lab.TCP, 81, false),
		}},
		{"tiers with Pass", `
kind: Tier
metadata: {name: t1}
spec: {order: 1, defaultAction: Deny}
---
kind: Tier
metadata: {name: t2}
spec: {order: 2, defaultAction: Pass}
---
` + gnp("t1.x", `{tier: t1, selector: tier == 'back', types: [Ingress], ingress: [{action: Pass, protocol: TCP, destination: {ports: [80, 8080]}}, {action: Allow, protocol: UDP}]}`) + "---\n" +
			gnp("t2.x", `{tier: t2, selector: tier == 'back', types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [8080]}}]}`), [][]question{
			web.asks("passed to the profile", db, lab.TCP, 80, true), web.asks("passed to a tier that denies", db, lab.TCP, 8080, false),
			web.asks("the end of a tier that denies", db, lab.TCP, 81, false), web.asks("allowed by the first tier", db, lab.UDP, 8080, true), web.asks("not selected", narrow, lab.TCP, 80, true),
		}},
		{"network sets", `
kind: GlobalNetworkSet
metadata: {name: s, labels: {set: hosts}}
spec: {nets: [10.0.0.0/28, "fd00::/120"]}
---
kind: NetworkSet
metadata: {name: s, namespace: jobs, labels: {set: hosts}}
spec: {nets: [198.51.100.0/24, "2001:db8::/64"]}
---
` + gnp("x", `{selector: app == 'db', types: [Ingress], ingress: [{action: Deny, source: {selector: set == 'hosts', namespaceSelector: team == 'batch'}}, {action: Allow, source: {selector: set == 'hosts'}}]}`), [][]question{
			host1.asks("", db, lab.TCP, 80, true), named.asks("", db, lab.TCP, 80, false), web.asks("", db, lab.TCP, 80, false),
		}},
	} {
		for _, list := range tc.ask {
			for i := range list {
				list[i].text = strings.TrimSuffix(tc.name+": "+list[i].text, ": ")
			}
		}
		apply(t, c, tc.docs)
		live(t, c)
		judge(t, tc.ask...)
		docs := strings.ReplaceAll("\n"+tc.docs, "\nkind:", "\napiVersion: projectcalico.org/v3\nkind:")
		if out, err := n2.MuslinIn(t.Context(), docs, "delete", "-f", "-"); err != nil {
			t.Fatalf("%s: delete: %v: %s", tc.name, err, out)
		}
	}
	live(t, c)
	judge(t, batch.asks("as at first", db, lab.TCP, 81, true))
	for _, n := range c.Nodes {
		noProblems(t, n)
	}
}
