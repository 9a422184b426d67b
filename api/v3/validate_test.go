// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// load makes an object of a kind from the YAML of its spec.
func load(t *testing.T, kind, name, spec string) Resource {
	t.Helper()
	doc := fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: %s\nmetadata: {name: %q}\nspec: %s\n", kind, name, spec)
	rs, err := Decode([]byte(doc))
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	Default(rs[0])
	return rs[0]
}

// paths returns where the errors are.
func paths(err error) string {
	var list []string
	var f *FieldError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if errors.As(e, &f) {
				list = append(list, f.Path)
			}
		}
	} else if errors.As(err, &f) {
		list = append(list, f.Path)
	}
	return strings.Join(list, " ")
}

type validation struct{ kind, name, spec, want string } // want: paths of errors

func check(t *testing.T, table []validation) {
	t.Helper()
	for _, c := range table {
		r := load(t, c.kind, c.name, c.spec)
		err := Validate(r)
		if got := paths(err); got != c.want {
			t.Errorf("%s %s %s:\n got %s\nwant %s\n(%v)", c.kind, c.name, c.spec, got, c.want, err)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%s %q", c.kind, strings.TrimPrefix(r.Meta().Namespace+"/"+c.name, "/"))) {
			t.Errorf("error does not name the object: %v", err)
		}
	}
}

func TestValidateStagedKubernetes(t *testing.T) {
	const kind, at = "StagedKubernetesNetworkPolicy", "spec.ingress[0]"
	from := func(peer string) string { return "{ingress: [{from: [" + peer + "]}]}" }
	ports := func(port string) string { return "{egress: [{ports: [" + port + "]}]}" }
	const port = "spec.egress[0].ports[0]"
	check(t, []validation{
		{kind, "web.a", "{podSelector: {}, policyTypes: [Ingress, Egress]}", ""},
		{kind, "Web", "{}", "metadata.name"},
		{kind, "p", "{stagedAction: Later}", "spec.stagedAction"},
		{kind, "p", "{stagedAction: Delete}", ""},
		{kind, "p", "{stagedAction: Delete, policyTypes: [Ingress], podSelector: {matchLabels: {a: b}}}", "spec.podSelector spec.policyTypes"},
		{kind, "p", "{policyTypes: [Both]}", "spec.policyTypes[0]"},
		{kind, "p", "{podSelector: {matchLabels: {a b: c}}}", "spec.podSelector.matchLabels[\"a b\"]"},
		{kind, "p", from("{podSelector: {}, namespaceSelector: {matchExpressions: [{key: a, operator: In, values: [b]}, {key: c, operator: Exists}]}}"), ""},
		{kind, "p", from("{podSelector: {matchExpressions: [{key: a, operator: Like}, {operator: In}, {key: a, operator: Exists, values: [b]}]}}"),
			at + ".from[0].podSelector.matchExpressions[0].operator " + at + ".from[0].podSelector.matchExpressions[1].key " +
				at + ".from[0].podSelector.matchExpressions[1].values " + at + ".from[0].podSelector.matchExpressions[2].values"},
		{kind, "p", from("{}"), at + ".from[0]"},
		{kind, "p", from("{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}"), at + ".from[0].ipBlock"},
		{kind, "p", from("{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}"), ""},
		{kind, "p", from("{ipBlock: {cidr: 'fd00::/8', except: ['fe00::/16', 'fd00::/8']}}"), at + ".from[0].ipBlock.except[0] " + at + ".from[0].ipBlock.except[1]"},
		{kind, "p", from("{ipBlock: {cidr: 10.0.0.1}}"), at + ".from[0].ipBlock.cidr"},
		{kind, "p", from("{ipBlock: {}}"), at + ".from[0].ipBlock.cidr"},
		{kind, "p", ports("{port: 80, endPort: 90}, {protocol: SCTP, port: web}, {protocol: UDP}"), ""},
		{kind, "p", ports("{protocol: ICMP}"), port + ".protocol"},
		{kind, "p", ports("{port: 0}"), port + ".port"},
		{kind, "p", ports("{port: '80:90'}"), port + ".port"},
		{kind, "p", ports("{endPort: 90}"), port + ".endPort"},
		{kind, "p", ports("{port: web, endPort: 90}"), port + ".endPort"},
		{kind, "p", ports("{port: 80, endPort: 79}"), port + ".endPort"},
		{kind, "p", ports("{port: 80, endPort: 65536}"), port + ".endPort"},
	})
}

func TestValidatePolicies(t *testing.T) {
	rule := func(r string) string { return "{ingress: [" + r + "]}" }
	many := func(n int, item string) string { return "[" + strings.Repeat(item+",", n) + "]" }
	const at = "spec.ingress[0]"
	check(t, []validation{
		{"NetworkPolicy", "web", "{}", ""},
		{"NetworkPolicy", "tier.web", "{}", ""},
		{"NetworkPolicy", "knp.default.a.b", "{}", ""},
		{"NetworkPolicy", "ossg.default.5f6c", "{}", ""},
		{"NetworkPolicy", "a.b.c", "{}", "metadata.name"},
		{"NetworkPolicy", "Web", "{}", "metadata.name"},
		{"NetworkPolicy", "", "{}", "metadata.name"},
		{"GlobalNetworkPolicy", "a.b", "{}", ""},
		{"GlobalNetworkPolicy", "-a", "{}", "metadata.name"},
		{"NetworkPolicy", "p", "{tier: A.b}", "spec.tier"},
		{"NetworkPolicy", "p", "{types: [Ingress, Ingress]}", "spec.types[1]"},
		{"NetworkPolicy", "p", "{types: [Sideways]}", "spec.types[0]"},
		{"NetworkPolicy", "p", "{selector: 'a = b'}", "spec.selector"},
		{"NetworkPolicy", "p", "{selector: 'global()'}", "spec.selector"},
		{"NetworkPolicy", "p", "{selector: \"a == '" + strings.Repeat("x", 1024) + "'\"}", "spec.selector"},
		{"NetworkPolicy", "p", "{serviceAccountSelector: '&&'}", "spec.serviceAccountSelector"},
		{"NetworkPolicy", "p", "{performanceHints: [Fast]}", "spec.performanceHints[0]"},
		{"GlobalNetworkPolicy", "p", "{namespaceSelector: 'global()'}", "spec.namespaceSelector"},
		{"GlobalNetworkPolicy", "p", "{preDNAT: true, applyOnForward: true, egress: [{action: Deny}]}", "spec.egress spec.types[0]"},
		{"GlobalNetworkPolicy", "p", "{preDNAT: true, doNotTrack: true, applyOnForward: true}", "spec.preDNAT"},
		{"GlobalNetworkPolicy", "p", "{doNotTrack: true}", "spec.applyOnForward"},
		{"GlobalNetworkPolicy", "p", "{doNotTrack: true, applyOnForward: true}", ""},
		{"NetworkPolicy", "p", "{ingress: " + many(1025, "{action: Deny}") + "}", "spec.ingress"},
		{"StagedNetworkPolicy", "p", "{stagedAction: Delete, selector: 'all()'}", "spec.selector"},
		{"StagedGlobalNetworkPolicy", "p", "{stagedAction: Later, ingress: [{action: Deny, ipVersion: 5}]}", "spec.stagedAction " + at + ".ipVersion"},

		{"NetworkPolicy", "p", rule("{}"), at + ".action"},
		{"NetworkPolicy", "p", rule("{action: Deny, metadata: {annotations: {muslin/established: Keep, other/established: x}}}"), ""},
		{"NetworkPolicy", "p", rule("{action: Deny, metadata: {annotations: {muslin/established: Hold}}}"), at + ".metadata.annotations"},
		{"NetworkPolicy", "p", rule("{action: Deny, metadata: {annotations: {muslin/keep: Keep}}}"), at + ".metadata.annotations"},
		{"NetworkPolicy", "p", rule("{action: allow}"), at + ".action"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: GRE}"), at + ".protocol"},
		{"NetworkPolicy", "p", rule("{action: Allow, notProtocol: 0}"), at + ".notProtocol"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: 47, notProtocol: tcp}"), ""},
		{"NetworkPolicy", "p", rule("{action: Allow, ipVersion: 5}"), at + ".ipVersion"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: ICMP, ipVersion: 6}"), at + ".ipVersion"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: ICMPv6, ipVersion: 4}"), at + ".ipVersion"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: ICMP, icmp: {type: 8, code: 0}}"), ""},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: ICMP, icmp: {code: 0}}"), at + ".icmp.type"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: ICMP, icmp: {type: 255}}"), at + ".icmp.type"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: ICMP, notICMP: {type: 8, code: 256}}"), at + ".notICMP.code"},
		{"NetworkPolicy", "p", rule("{action: Allow, icmp: {type: 8}}"), at + ".icmp"},

		{"NetworkPolicy", "p", rule("{action: Allow, source: {nets: [10.0.0.1, 10.0.0.0/8]}}"), ""},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {nets: [10.0.0.0/33]}}"), at + ".source.nets[0]"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {nets: [10.0.0.0/8, 'fd00::/8']}}"), at + ".source.nets[1]"},
		{"NetworkPolicy", "p", rule("{action: Allow, ipVersion: 6, source: {nets: [10.0.0.0/8]}}"), at + ".source.nets[0]"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {nets: [10.0.0.0/8]}, destination: {notNets: ['fd00::/8']}}"), at + ".destination.notNets[0]"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {notNets: [0.0.0.0/0]}}"), at + ".source.notNets[0]"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {nets: " + many(257, "10.0.0.0/8") + "}}"), at + ".source.nets"},

		{"NetworkPolicy", "p", rule("{action: Allow, protocol: TCP, destination: {ports: [80, '1:2', http]}}"), ""},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: 6, destination: {ports: [80]}}"), ""},
		{"NetworkPolicy", "p", rule("{action: Allow, destination: {ports: [http]}}"), ""},
		{"NetworkPolicy", "p", rule("{action: Allow, destination: {ports: [http, 80]}}"), at + ".destination.ports[1]"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: ICMP, destination: {notPorts: [80]}}"), at + ".destination.notPorts"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: TCP, source: {ports: [0, '0:5']}}"), at + ".source.ports[0] " + at + ".source.ports[1]"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: TCP, source: {ports: " + many(51, "1") + "}}"), at + ".source.ports"},

		{"NetworkPolicy", "p", rule("{action: Allow, source: {selector: 'has('}}"), at + ".source.selector"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {notSelector: 'global()'}}"), at + ".source.notSelector"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {namespaceSelector: 'global()'}}"), ""},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {namespaceSelector: 'global() || has(a)'}}"), at + ".source.namespaceSelector"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {serviceAccounts: {names: [A], selector: x}}}"), at + ".source.serviceAccounts.names[0] " + at + ".source.serviceAccounts.selector"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {services: {name: s}}}"), ""},
		{"GlobalNetworkPolicy", "p", rule("{action: Allow, source: {services: {name: s}}}"), at + ".source.services.namespace"},
		{"NetworkPolicy", "p", rule("{action: Allow, destination: {services: {name: s}}}"), at + ".destination.services"},
		{"NetworkPolicy", "p", rule("{action: Allow, source: {services: {name: s}, nets: [10.0.0.0/8]}}"), at + ".source.services"},

		{"NetworkPolicy", "p", rule("{action: Allow, http: {methods: [GET], paths: [{exact: /a}, {prefix: /b}]}}"), ""},
		{"NetworkPolicy", "p", rule("{action: Deny, http: {methods: [GET]}}"), at + ".http"},
		{"NetworkPolicy", "p", rule("{action: Allow, protocol: UDP, http: {methods: [GET]}}"), at + ".http"},
		{"NetworkPolicy", "p", rule("{action: Allow, http: {paths: [{}]}}"), at + ".http.paths[0]"},

		{"Profile", "kns.default", "{labelsToApply: {pcns.a: b}, egress: [{action: Pass}]}", ""},
		{"Profile", "p", "{labelsToApply: {a: 'b c', '': x}, egress: [{action: Drop}]}", `spec.egress[0].action spec.labelsToApply[""] spec.labelsToApply["a"]`},
		{"Profile", DefaultAllowName, "{}", "metadata.name"},

		{"Tier", "ops", "{order: 5}", ""},
		{"Tier", "a.b", "{}", "metadata.name"},
		{"Tier", "default", "{}", ""},
		{"Tier", "default", "{order: 5, defaultAction: Pass}", "spec.order spec.defaultAction"},
		{"Tier", "kube-admin", "{order: 1000, defaultAction: Pass}", ""},
		{"Tier", "kube-baseline", "{}", "spec.order spec.defaultAction"},
		{"Tier", "ops", "{defaultAction: Allow}", "spec.defaultAction"},

		{"GlobalNetworkSet", "s", "{nets: [10.0.0.0/8, 'fd00::1']}", ""},
		{"NetworkSet", "s", "{nets: [10.0.0.0/8, x]}", "spec.nets[1]"},
	})
}

func TestValidateEndpointsAndNodes(t *testing.T) {
	wep := func(rest string) string {
		return "{node: n1, orchestrator: x, workload: w, endpoint: e, interfaceName: cali1, ipNetworks: [10.0.0.1/32, 'fd00::1']" + rest + "}"
	}
	const name = "n1-x-w-e"
	check(t, []validation{
		{"WorkloadEndpoint", name, wep(""), ""},
		{"WorkloadEndpoint", "other", wep(""), "metadata.name"},
		{"WorkloadEndpoint", name, "{}", "spec.orchestrator spec.node spec.endpoint spec.interfaceName"},
		{"WorkloadEndpoint", name, "{node: n1, orchestrator: x, endpoint: e, interfaceName: cali1}", "spec.workload"},
		{"WorkloadEndpoint", name, wep(", mac: x, ipv4Gateway: 'fd00::1', ipv6Gateway: 10.0.0.1, profiles: [A]"), "spec.ipv4Gateway spec.ipv6Gateway spec.profiles[0] spec.mac"},
		{"WorkloadEndpoint", name, strings.Replace(wep(""), "10.0.0.1/32", "10.0.0.0/24", 1), "spec.ipNetworks[0]"},
		{"WorkloadEndpoint", name, strings.Replace(wep(""), "cali1", "a-name-far-too-long", 1), "spec.interfaceName"},
		{"WorkloadEndpoint", name, wep(", ipNATs: [{internalIP: 10.0.0.1, externalIP: 1.2.3.4}]"), ""},
		{"WorkloadEndpoint", name, wep(", ipNATs: [{internalIP: 10.0.0.2, externalIP: 1.2.3.4}]"), "spec.ipNATs[0].internalIP"},
		{"WorkloadEndpoint", name, wep(", ipNATs: [{internalIP: 10.0.0.1, externalIP: 'fd00::5'}, {internalIP: x, externalIP: ''}]"), "spec.ipNATs[1].internalIP spec.ipNATs[1].externalIP spec.ipNATs[0].externalIP"},
		{"WorkloadEndpoint", name, wep(", ports: [{name: http, protocol: TCP, port: 80}]"), ""},
		{"WorkloadEndpoint", name, wep(", ports: [{name: '80', port: 0}]"), "spec.ports[0].name spec.ports[0].protocol spec.ports[0].port"},
		{"WorkloadEndpoint", name, wep(", ports: [{name: a, protocol: ICMP, port: 1}]"), "spec.ports[0].protocol"},
		{"WorkloadEndpoint", name, wep(", ports: [{name: a, protocol: TCP, port: 1}, {name: a, protocol: tcp, port: 2}]"), "spec.ports[1].name"},
		{"WorkloadEndpoint", name, wep(", allowSpoofedSourcePrefixes: [10.0.0.1], qosControls: {ingressBandwidth: -1, dscp: ZZ}"), "spec.allowSpoofedSourcePrefixes[0] spec.qosControls.ingressBandwidth spec.qosControls.dscp"},

		{"HostEndpoint", "h", "{node: n1, interfaceName: '*'}", ""},
		{"HostEndpoint", "h", "{}", "spec.node spec.interfaceName"},

		{"Node", "n", "{}", ""},
		{"Node", "N", "{}", "metadata.name"},
		{"Node", "n", "{bgp: {}}", "spec.bgp"},
		{"Node", "n", "{bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: 'fd00::1/64', asNumber: '1.10'}}", ""},
		{"Node", "n", "{bgp: {ipv4Address: 'fd00::1/64', ipv6Address: 10.0.0.1/24, asNumber: 0, routeReflectorClusterID: x}}", "spec.bgp.ipv4Address spec.bgp.ipv6Address spec.bgp.routeReflectorClusterID spec.bgp.asNumber"},
		{"Node", "n", "{addresses: [{address: 10.0.0.1, type: InternalIP}, {type: Other}], vxlanTunnelMACAddr: x}", "spec.vxlanTunnelMACAddr spec.addresses[1].address spec.addresses[1].type"},

		{"ClusterInformation", "default", "{datastoreReady: true}", ""},
		{"ClusterInformation", "other", "{}", "metadata.name"},
	})
}

func TestValidatePools(t *testing.T) {
	check(t, []validation{
		{"IPPool", "p", "{cidr: 10.0.0.0/16}", ""},
		{"IPPool", "p", "{cidr: 'fd00::/64', blockSize: 116}", ""},
		{"IPPool", "p", "{}", "spec.cidr"},
		{"IPPool", "p", "{cidr: 10.0.0.1}", "spec.cidr"},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, blockSize: 19}", "spec.blockSize"},
		{"IPPool", "p", "{cidr: 'fd00::/64', blockSize: 26}", "spec.blockSize"},
		{"IPPool", "p", "{cidr: 10.0.0.0/27}", "spec.cidr"},
		{"IPPool", "p", "{cidr: 10.0.0.0/27, disabled: true}", ""},
		{"IPPool", "p", "{cidr: 169.254.0.0/20}", "spec.cidr"},
		{"IPPool", "p", "{cidr: '::/0'}", "spec.cidr"},
		{"IPPool", "p", "{cidr: 'fd00::/64', ipipMode: Always}", "spec.ipipMode"},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, ipipMode: always}", "spec.ipipMode"},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, ipipMode: Always, vxlanMode: CrossSubnet}", "spec.vxlanMode"},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, nodeSelector: x, assignmentMode: x}", "spec.nodeSelector spec.assignmentMode"},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, namespaceSelector: has(a)}", "spec.namespaceSelector"},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, namespaceSelector: has(a), allowedUses: [Workload]}", ""},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer]}", ""},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer, Workload]}", "spec.allowedUses"},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], disableBGPExport: true}", "spec.disableBGPExport"},
		{"IPPool", "p", "{cidr: 10.0.0.0/16, allowedUses: [Games]}", "spec.allowedUses[0]"},
		{"IPReservation", "r", "{reservedCIDRs: [10.0.0.1, x]}", "spec.reservedCIDRs[1]"},
	})
	old, same, other := load(t, "IPPool", "p", "{cidr: 10.0.0.0/16}"), load(t, "IPPool", "p", "{cidr: 10.0.1.1/16}"), load(t, "IPPool", "p", "{cidr: 10.0.0.0/17, blockSize: 27}")
	if err := ValidateUpdate(old, same); err != nil {
		t.Error(err)
	}
	if got := paths(ValidateUpdate(old, other)); got != "spec.cidr spec.blockSize" {
		t.Errorf("changed: %s", got)
	}
}

func TestValidateBGPAndFelix(t *testing.T) {
	check(t, []validation{
		{"BGPConfiguration", "default", "{asNumber: 64512, nodeToNodeMeshEnabled: false, listenPort: 1790}", ""},
		{"BGPConfiguration", "node.n1", "{listenPort: 1790, logSeverityScreen: debug}", ""},
		{"BGPConfiguration", "node.n1", "{asNumber: 64512, nodeToNodeMeshEnabled: true}", "spec.nodeToNodeMeshEnabled spec.asNumber"},
		{"BGPConfiguration", "other", "{}", "metadata.name"},
		{"BGPConfiguration", "default", "{asNumber: 0, bindMode: Any, ignoredInterfaces: ['*'], ipv4NormalRoutePriority: -1}", "spec.bindMode spec.ipv4NormalRoutePriority spec.asNumber spec.ignoredInterfaces[0]"},
		{"BGPConfiguration", "default", "{communities: [{name: a, value: '1:2'}], prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [a, '1:2:3']}]}", ""},
		{"BGPConfiguration", "default", "{communities: [{name: a, value: '1'}], prefixAdvertisements: [{cidr: x, communities: [b]}]}", "spec.communities[0].value spec.prefixAdvertisements[0].cidr spec.prefixAdvertisements[0].communities[0] spec.communities[0].name"},
		{"BGPConfiguration", "default", "{nodeToNodeMeshEnabled: false, nodeMeshPassword: {secretKeyRef: {key: k}}}", "spec.nodeMeshPassword"},

		{"BGPConfiguration", "default", "{localWorkloadPeeringIPV4: 192.0.2.254, localWorkloadPeeringIPV6: '2001:db8::254'}", ""},
		{"BGPConfiguration", "default", "{localWorkloadPeeringIPV4: 169.254.1.1, localWorkloadPeeringIPV6: 'fe80::1'}", "spec.localWorkloadPeeringIPV4 spec.localWorkloadPeeringIPV6"},
		{"BGPConfiguration", "default", "{localWorkloadPeeringIPV4: 127.0.0.1, localWorkloadPeeringIPV6: '10.0.0.1'}", "spec.localWorkloadPeeringIPV6 spec.localWorkloadPeeringIPV4"},
		{"BGPConfiguration", "default", "{nodeMeshMaxRestartTime: 4095s}", ""},
		{"BGPConfiguration", "default", "{nodeMeshMaxRestartTime: 4096s}", "spec.nodeMeshMaxRestartTime"},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, asNumber: 1, maxRestartTime: 4095s}", ""},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, asNumber: 1, maxRestartTime: 4096s}", "spec.maxRestartTime"},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, asNumber: 1, keepaliveTime: 1s}", ""},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, asNumber: 1, keepaliveTime: 500ms}", "spec.keepaliveTime"},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, asNumber: 1, keepaliveTime: 21846s}", "spec.keepaliveTime"},
		{"BGPPeer", "p", "{localWorkloadSelector: role == 'router', asNumber: 64512}", ""},
		{"BGPPeer", "p", "{localWorkloadSelector: role ==, peerIP: 10.0.0.1}", "spec.localWorkloadSelector spec.peerIP"},
		{"BGPPeer", "p", "{localWorkloadSelector: all()}", "spec.asNumber"},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, asNumber: 64512}", ""},
		{"BGPPeer", "p", "{node: n1, peerIP: '[fd00::1]:1790', asNumber: 64512, reachableBy: 'fd00::2'}", ""},
		{"BGPPeer", "p", "{nodeSelector: has(rack), peerSelector: has(rr)}", ""},
		{"BGPPeer", "p", "{}", "spec.peerIP"},
		{"BGPPeer", "p", "{peerIP: 0.0.0.0, asNumber: 1}", "spec.peerIP"},
		{"BGPPeer", "p", "{peerIP: 'ff02::1', asNumber: 1}", "spec.peerIP"},
		{"BGPPeer", "p", "{peerIP: 'fe80::1', asNumber: 1}", "spec.peerIP"},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, asNumber: 23456, localASNumber: 4294967295}", "spec.asNumber spec.localASNumber"},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, peerSelector: all()}", "spec.peerIP"},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1}", "spec.asNumber"},
		{"BGPPeer", "p", "{peerSelector: all(), asNumber: 1}", "spec.asNumber"},
		{"BGPPeer", "p", "{peerIP: tor1, asNumber: 1, node: n1, nodeSelector: all()}", "spec.peerIP spec.nodeSelector"},
		{"BGPPeer", "p", "{peerIP: 10.0.0.1, asNumber: 1, reachableBy: 'fd00::2', keepOriginalNextHop: true, nextHopMode: Self, maxRestartTime: -5s}", "spec.keepOriginalNextHop spec.reachableBy spec.maxRestartTime"},

		{"BGPFilter", "f", "{exportV4: [{cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 16, max: 24}, action: Accept, operations: [{addCommunity: {value: '1:2'}}]}]}", ""},
		{"BGPFilter", "f", "{importV6: [{cidr: 10.0.0.0/8, action: Deny}]}", "spec.importV6[0].action spec.importV6[0].matchOperator spec.importV6[0].cidr"},
		{"BGPFilter", "f", "{exportV4: [{prefixLength: {min: 9}, communities: {values: []}, action: Reject, operations: [{}]}]}", "spec.exportV4[0].prefixLength spec.exportV4[0].communities.values spec.exportV4[0].operations spec.exportV4[0].operations[0]"},
		{"BGPFilter", "f", "{exportV4: [{asPathPrefix: [64512, 0], action: Accept, operations: [{prependASPath: {prefix: [0]}}, {setPriority: {value: 0}}]}]}",
			"spec.exportV4[0].operations[1].setPriority.value spec.exportV4[0].asPathPrefix[1] spec.exportV4[0].operations[0].prependASPath.prefix[0]"},

		{"FelixConfiguration", "default", "{defaultEndpointToHostAction: accept, logSeverityScreen: Warning, routeRefreshInterval: 90s, failsafeInboundHostPorts: [{protocol: tcp, port: 22, net: 10.0.0.0/8}]}", ""},
		{"FelixConfiguration", "node.n1", "{nodeSelector: all()}", "spec.nodeSelector"},
		{"FelixConfiguration", "rack1", "{nodeSelector: rack == '1'}", ""},
		{"FelixConfiguration", "rack1", "{}", "spec.nodeSelector"},
		{"FelixConfiguration", "default", "{defaultEndpointToHostAction: Maybe, deviceRouteProtocol: 256, deviceRouteSourceAddress: 'fd00::1', externalNodesList: [x], failsafeOutboundHostPorts: [{protocol: x, port: 0}]}",
			"spec.defaultEndpointToHostAction spec.deviceRouteProtocol spec.deviceRouteSourceAddress spec.externalNodesList[0] spec.failsafeOutboundHostPorts[0].protocol spec.failsafeOutboundHostPorts[0].port"},
		{"FelixConfiguration", "default", "{routeTableRanges: [{min: 9, max: 3}], natPortRange: http}", "spec.routeTableRanges[0] spec.natPortRange"},
	})
}

func TestValidateMetadata(t *testing.T) {
	r := load(t, "GlobalNetworkSet", "s", "{}")
	m := r.Meta()
	m.Namespace = "ns"
	m.Labels = map[string]string{"ok": "v", "a.b/c_d": "", "bad key": "v", "bad": "-v", LabelNamespace: "x"}
	m.Annotations = map[string]string{"Fine.org/A": strings.Repeat("x", 256<<10), "no good": ""}
	want := `metadata.namespace metadata.labels["bad"] metadata.labels["bad key"] metadata.annotations["no good"] metadata.annotations metadata.labels["projectcalico.org/namespace"]`
	if got := paths(Validate(r)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	p := &NetworkPolicy{}
	p.Metadata.Name = "p"
	if got := paths(Validate(p)); got != "metadata.namespace" {
		t.Errorf("no namespace: %s", got)
	}
	if err := Validate(nil); err == nil {
		t.Error("nil is valid")
	}
}

// Every tag names something that Validate knows.
func TestTagsAreKnown(t *testing.T) {
	known := " selector namespace-selector name label interface interface-glob port-name protocol port mac community dscp ip-port ip ip4 ip6 net net4 net6 cidr host "
	for _, k := range Kinds() {
		walkTags(t, k.Kind, k.New(), known)
	}
}

// OpenStack's endpoint is valid but for the upper case that its example has.
func TestValidateOpenStack(t *testing.T) {
	r, err := DecodeKV(strings.ToLower(openstackKey), []byte(strings.ReplaceAll(openstackWEP, "DEADBEEF", "deadbeef")))
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(r); err != nil {
		t.Error(err)
	}
}

func walkTags(t *testing.T, path string, r any, known string) {
	t.Helper()
	var visit func(typ reflect.Type, path string)
	visit = func(typ reflect.Type, path string) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || isOpaque(typ) {
			return
		}
		for _, f := range fields(typ) {
			rule := strings.TrimPrefix(f.tag.Get("check"), "each-")
			if rule != "" && !strings.Contains(rule, "..") && !strings.Contains(known, " "+rule+" ") {
				t.Errorf("%s.%s: unknown check %q", path, f.name, rule)
			}
			visit(f.typ, path+"."+f.name)
		}
	}
	visit(reflect.TypeOf(r), path)
}
