// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// bgpKinds is every field of the kinds of BGP, in objects that are valid: what
// excludes each other is in different ones.
const bgpKinds = `
kind: BGPConfiguration
metadata: {name: default}
spec:
  logSeverityScreen: Debug
  nodeToNodeMeshEnabled: true
  asNumber: 64513
  serviceLoadBalancerIPs: [{cidr: 203.0.113.0/24}]
  serviceExternalIPs: [{cidr: 198.51.100.0/24}]
  serviceClusterIPs: [{cidr: 10.96.0.0/12}]
  serviceLoadBalancerAggregation: Disabled
  communities: [{name: inner, value: "64512:1"}]
  prefixAdvertisements: [{cidr: 10.65.0.0/16, communities: [inner, "1:2:3"]}]
  listenPort: 1790
  nodeMeshPassword: {secretKeyRef: {name: bgp, key: mesh, optional: true}}
  nodeMeshMaxRestartTime: 2m0s
  bindMode: NodeIP
  ignoredInterfaces: [docker0]
  localWorkloadPeeringIPV4: 192.0.2.254
  localWorkloadPeeringIPV6: 2001:db8::254
  programClusterRoutes: Enabled
  ipv4NormalRoutePriority: 512
  ipv6NormalRoutePriority: 513
---
kind: BGPPeer
metadata: {name: tor}
spec:
  node: n1
  peerIP: "[fd00::fe]:1179"
  asNumber: 64999
  localASNumber: 65010
  nextHopMode: Self
  password: {secretKeyRef: {name: bgp, key: tor, optional: false}}
  sourceAddress: None
  maxRestartTime: 1m0s
  keepaliveTime: 10s
  numAllowedLocalASNumbers: 2
  ttlSecurity: 1
  reachableBy: fd00::1
  filters: [f]
  reversePeering: Manual
---
kind: BGPPeer
metadata: {name: reflectors}
spec: {nodeSelector: all(), peerSelector: has(reflector), keepOriginalNextHop: true}
---
kind: BGPPeer
metadata: {name: routers}
spec: {localWorkloadSelector: role == "router", asNumber: 65020}
---
kind: Node
metadata: {name: n1}
spec: {bgp: {asNumber: 64514, ipv4Address: 10.0.0.1/24, ipv6Address: "fd00::1/64", ipv4IPIPTunnelAddr: 10.65.0.1, routeReflectorClusterID: 1.1.1.1}}
---
kind: BGPFilter
metadata: {name: f}
spec:
  exportV4: &rules
  - {cidr: 10.65.0.0/16, matchOperator: In, prefixLength: {min: 20, max: 26}, source: RemotePeers, interface: "cali*", peerType: eBGP,
     communities: {values: ["64512:7"]}, asPathPrefix: [65001], priority: 512, action: Accept,
     operations: [{addCommunity: {value: "1:2:3"}}, {prependASPath: {prefix: [1, 2]}}, {setPriority: {value: 700}}]}
  importV4: *rules
  exportV6: &rules6
  - {cidr: "fd65::/64", matchOperator: NotIn, prefixLength: {min: 64, max: 122}, source: RemotePeers, interface: eth0, peerType: iBGP,
     communities: {values: ["1:2:3"]}, asPathPrefix: [65001, 65002], priority: 512, action: Accept,
     operations: [{addCommunity: {value: "64512:7"}}, {prependASPath: {prefix: [1]}}, {setPriority: {value: 700}}]}
  importV6: *rules6
`

// Every field of the kinds of BGP is valid as written, and comes back as it was: from
// what is stored, and from what get prints. Defaults add what the model demands
// and nothing to what is there.
func TestBGPKindsRoundTrip(t *testing.T) {
	list, err := Decode([]byte(strings.ReplaceAll(bgpKinds, "\nkind:", "\napiVersion: projectcalico.org/v3\nkind:")))
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for _, r := range list {
		before, _ := json.Marshal(r)
		Default(r)
		if err := Validate(r); err != nil {
			t.Errorf("%s: %v", r.Meta().Name, err)
		}
		if after, _ := json.Marshal(r); r.Type().Kind == "BGPConfiguration" && !bytes.Equal(before, after) {
			t.Errorf("defaults changed what was there:\n%s\n%s", before, after)
		}
		stored, err := EncodeMerged(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeKV(KeyOf(r), stored)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		text, err := yaml.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Resource{r}, again); diff != "" {
			t.Errorf("printed (-want +got):\n%s", diff)
		}
		fieldsIn(reflect.ValueOf(r).Elem().FieldByName("Spec"), r.Type().Kind, given)
	}
	// The objects above have every field that there is.
	var missing []string
	for name, has := range given {
		if node, inBGP := strings.HasPrefix(name, "Node."), strings.HasPrefix(name, "Node.bgp"); !has && (!node || inBGP) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("no object has %s", strings.Join(missing, ", "))
	}
}

// fieldsIn notes which fields a value has, by path.
func fieldsIn(v reflect.Value, at string, given map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fieldsIn(v.Elem(), at, given)
		}
	case reflect.Slice:
		for i := range v.Len() {
			fieldsIn(v.Index(i), at, given)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if tag == "" {
				return // a scalar that is a struct, such as a Duration
			}
			name := at + "." + tag
			given[name] = given[name] || !v.Field(i).IsZero()
			fieldsIn(v.Field(i), name, given)
		}
	}
}

// What is stored where the author of a BGPConfiguration said nothing.
func TestBGPDefaults(t *testing.T) {
	c := &BGPConfiguration{}
	c.Metadata.Name = "default"
	Default(c)
	b, err := EncodeMerged(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"kind":"BGPConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"logSeverityScreen":"Info","serviceLoadBalancerAggregation":"Enabled"}}`
	if string(b) != want {
		t.Errorf("got %s\nwant %s", b, want)
	}
	if key := KeyOf(c); key != "/calico/resources/v3/projectcalico.org/bgpconfigurations/default" {
		t.Errorf("key %s", key)
	}
}
