// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestKeys(t *testing.T) {
	for _, c := range []struct{ kind, namespace, name, key string }{
		{"Node", "", "n1", "/calico/resources/v3/projectcalico.org/nodes/n1"},
		{"NetworkPolicy", "production", "web", "/calico/resources/v3/projectcalico.org/networkpolicies/production/web"},
		{"GlobalNetworkPolicy", "", "default.web", "/calico/resources/v3/projectcalico.org/globalnetworkpolicies/default.web"},
		{"WorkloadEndpoint", "openstack", "host1-openstack-dev--1-port--1", "/calico/resources/v3/projectcalico.org/workloadendpoints/openstack/host1-openstack-dev--1-port--1"},
		{"BGPConfiguration", "", "node.n1", "/calico/resources/v3/projectcalico.org/bgpconfigurations/node.n1"},
		{"BGPFilter", "", "f", "/calico/resources/v3/projectcalico.org/bgpfilters/f"},
		{"FelixConfiguration", "", "default", "/calico/resources/v3/projectcalico.org/felixconfigurations/default"},
		{"ClusterInformation", "", "default", "/calico/resources/v3/projectcalico.org/clusterinformations/default"},
	} {
		if got := Key(c.kind, c.namespace, c.name); got != c.key {
			t.Errorf("Key(%s, %s, %s) = %s, want %s", c.kind, c.namespace, c.name, got, c.key)
		}
		kind, namespace, name, ok := ParseKey(c.key)
		if !ok || kind != c.kind || namespace != c.namespace || name != c.name {
			t.Errorf("ParseKey(%s) = %s, %s, %s, %v", c.key, kind, namespace, name, ok)
		}
		if p := ListPrefix(c.kind, c.namespace); !strings.HasPrefix(c.key, p) || !strings.HasSuffix(p, "/") {
			t.Errorf("ListPrefix(%s, %s) = %q is no prefix of %s", c.kind, c.namespace, p, c.key)
		}
	}
	for _, c := range [][3]string{{"Node", "", ""}, {"Node", "ns", "n"}, {"NetworkPolicy", "", "n"}, {"NetworkPolicy", "a/b", "n"}, {"Node", "", "a/b"}, {"Pod", "a", "b"}, {"node", "", "n"}} {
		if got := Key(c[0], c[1], c[2]); got != "" {
			t.Errorf("Key%q = %s, want none", c, got)
		}
	}
	for _, key := range []string{"", "/", Root, Root + "nodes", Root + "nodes/", Root + "nodes/a/b", Root + "networkpolicies/a", Root + "networkpolicies//a",
		Root + "networkpolicies/a/", Root + "networkpolicies/a/b/c", Root + "pods/a", "/calico/ipam/v2/config", "/x" + Root + "nodes/a"} {
		if kind, namespace, name, ok := ParseKey(key); ok || kind+namespace+name != "" {
			t.Errorf("ParseKey(%s) = %s, %s, %s", key, kind, namespace, name)
		}
	}
	if kind, _, name, ok := ParseKey(Root[1:] + "Nodes/Ab"); !ok || kind != "Node" || name != "Ab" {
		t.Errorf("a key as other clients read it: %s %s %v", kind, name, ok)
	}
	for _, c := range [][3]string{{"NetworkPolicy", "", Root + "networkpolicies/"}, {"Node", "ns", ""}, {"Pod", "", ""}} {
		if got := ListPrefix(c[0], c[1]); got != c[2] {
			t.Errorf("ListPrefix(%s, %s) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestKinds(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Kinds() {
		for _, name := range append([]string{strings.ToLower(k.Kind), k.Plural}, k.Aliases...) {
			if name != strings.ToLower(name) {
				t.Errorf("%s: %s is not in lower case", k.Kind, name)
			}
			if other, ok := seen[name]; ok && other != k.Kind {
				t.Errorf("%s means both %s and %s", name, other, k.Kind)
			}
			seen[name] = k.Kind
			if got, ok := LookupKind(strings.ToUpper(name)); !ok || got.Kind != k.Kind {
				t.Errorf("LookupKind(%s) = %s, %v", strings.ToUpper(name), got.Kind, ok)
			}
		}
		r := k.New()
		if r == k.New() || *r.Type() != (TypeMeta{k.Kind, APIVersion}) {
			t.Errorf("%s: New returns %T %v", k.Kind, r, r.Type())
		}
		if info, ok := InfoFor(r); !ok || info.Kind != k.Kind {
			t.Errorf("InfoFor(%T) = %s, %v", r, info.Kind, ok)
		}
	}
	for _, alias := range []string{"np", "policy", "pol", "gnp", "snp", "spol", "sgnp", "sknp", "hep", "wep", "ipp", "pool", "reservation", "bgpp", "bp", "bgpf", "bf",
		"bgpconfig", "felixconfig", "clusterinfo", "netsets", "gnetsets", "pro", "no", "tier"} {
		if _, ok := LookupKind(alias); !ok {
			t.Errorf("%s is unknown", alias)
		}
	}
	if k, ok := LookupKind("pods"); ok {
		t.Errorf("pods is %s", k.Kind)
	}
	if _, ok := InfoFor(nil); ok {
		t.Error("nil is a kind")
	}
}

func TestWorkloadEndpointName(t *testing.T) {
	for _, c := range []struct {
		spec WorkloadEndpointSpec
		name string
	}{
		{WorkloadEndpointSpec{Node: "compute-01", Orchestrator: "openstack", Workload: "1f2e-aa", Endpoint: "77-bb"}, "compute--01-openstack-1f2e--aa-77--bb"},
		{WorkloadEndpointSpec{Node: "n", Orchestrator: "k8s", Pod: "p-1", Endpoint: "eth0"}, "n-k8s-p--1-eth0"},
		{WorkloadEndpointSpec{Node: "n", Orchestrator: "cni", ContainerID: "c", Endpoint: "eth0"}, "n-cni-c-eth0"},
		{WorkloadEndpointSpec{Node: "n", Orchestrator: "libnetwork", Workload: "libnetwork", Endpoint: "e"}, "n-libnetwork-libnetwork-e"},
		{WorkloadEndpointSpec{Node: "a--b", Orchestrator: "x", Workload: "w", Endpoint: "e"}, "a----b-x-w-e"},
	} {
		got, err := WorkloadEndpointName(c.spec)
		if err != nil || got != c.name {
			t.Errorf("WorkloadEndpointName(%+v) = %s, %v; want %s", c.spec, got, err, c.name)
		}
		back, err := ParseWorkloadEndpointName(c.name)
		if diff := cmp.Diff(c.spec, back); err != nil || diff != "" {
			t.Errorf("ParseWorkloadEndpointName(%s): %v\n%s", c.name, err, diff)
		}
	}
	for _, s := range []WorkloadEndpointSpec{
		{},
		{Node: "n", Orchestrator: "k8s", Workload: "w", Endpoint: "e"}, // a pod is wanted
		{Node: "n", Orchestrator: "x", Workload: "-w", Endpoint: "e"},
		{Node: "n", Orchestrator: "x", Workload: "w", Endpoint: "e-"},
	} {
		if name, err := WorkloadEndpointName(s); err == nil {
			t.Errorf("WorkloadEndpointName(%+v) = %s, want an error", s, name)
		}
	}
	for _, name := range []string{"", "a", "a-b-c", "a-b-c-d-e", "-b-c-d", "a-b-c-", "a---b-x-w", "a-b---c-d", "--a-b-c-d", "a-b-c-d--"} {
		if s, err := ParseWorkloadEndpointName(name); err == nil {
			t.Errorf("ParseWorkloadEndpointName(%s) = %+v, want an error", name, s)
		}
	}
}

func TestWorkloadEndpointNameRoundTrip(t *testing.T) {
	part := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?`)
	rapid.Check(t, func(t *rapid.T) {
		s := WorkloadEndpointSpec{Node: part.Draw(t, "node"), Orchestrator: "x" + part.Draw(t, "orchestrator"), Workload: part.Draw(t, "workload"), Endpoint: part.Draw(t, "endpoint")}
		name, err := WorkloadEndpointName(s)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseWorkloadEndpointName(name); err != nil || !cmp.Equal(s, back) {
			t.Fatalf("%+v → %s → %+v, %v", s, name, back, err)
		}
	})
}

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1/24":         "10.0.0.1/24 10.0.0.0/24",
		"10.0.0.1":            "10.0.0.1/32 10.0.0.1/32",
		"2001:DB8::1/64":      "2001:db8::1/64 2001:db8::/64",
		"::1":                 "::1/128 ::1/128",
		"0.0.0.0/0":           "0.0.0.0/0 0.0.0.0/0",
		"::ffff:10.0.0.1":     "10.0.0.1/32 10.0.0.1/32",
		"::ffff:10.0.0.1/120": "10.0.0.1/24 10.0.0.0/24",
		"10.0.0.0/24/32":      "",
		"10.0.0.0/33":         "",
		"10.0.0.0/-1":         "",
		"10.0.0.0/":           "",
		"10.0.0/8":            "",
		"010.0.0.1":           "",
		"fe80::1%eth0":        "",
		"fe80::1%eth0/64":     "",
		"::ffff:10.0.0.1/64":  "",
		"":                    "",
		"/":                   "",
		"host":                "",
	} {
		i, err1 := ParseInterface(text)
		n, err2 := ParseNetwork(text)
		if want == "" {
			if err1 == nil || err2 == nil || !strings.Contains(err2.Error(), text) {
				t.Errorf("%q: %v %v %v %v, want errors that quote it", text, i, n, err1, err2)
			}
			continue
		}
		if got := i.String() + " " + n.String(); err1 != nil || err2 != nil || got != want {
			t.Errorf("%q: %s (%v, %v), want %s", text, got, err1, err2, want)
		}
	}
}

func TestNodeAddrs(t *testing.T) {
	for _, c := range []struct {
		spec   NodeSpec
		v4, v6 string
	}{
		{NodeSpec{}, "invalid Prefix", "invalid Prefix"},
		{NodeSpec{BGP: &NodeBGP{IPv4Address: "10.0.0.2/24", IPv6Address: "fd00::2/64"}}, "10.0.0.2/24", "fd00::2/64"},
		{NodeSpec{BGP: &NodeBGP{IPv4Address: "10.0.0.2"}, Addresses: []NodeAddress{{"10.0.0.3", "InternalIP"}}}, "10.0.0.2/32", "invalid Prefix"},
		{NodeSpec{BGP: &NodeBGP{IPv4Address: "fd00::2/64", IPv6Address: "x"}}, "invalid Prefix", "invalid Prefix"},
		{NodeSpec{Addresses: []NodeAddress{{"10.0.0.9/24", "ExternalIP"}, {"fd00::9", "ExternalIP"}, {"10.0.0.3/24", "InternalIP"}, {"10.0.0.4/24", "InternalIP"}, {"x", "InternalIP"}}}, "10.0.0.3/24", "fd00::9/128"},
	} {
		v4, v6 := (&Node{Spec: c.spec}).Addrs()
		if v4.String() != c.v4 || v6.String() != c.v6 {
			t.Errorf("%+v: %s %s, want %s %s", c.spec, v4, v6, c.v4, c.v6)
		}
	}
}

func TestScalars(t *testing.T) {
	for text, want := range map[string]ASNumber{"64512": 64512, "1.10": 65546, "0.1": 1, "4294967295": 4294967295, "65535.65535": 4294967295} {
		if got, err := ParseASNumber(text); err != nil || got != want {
			t.Errorf("ParseASNumber(%s) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "4294967296", "1.65536", "1.", ".1", "1.1.1", "x"} {
		if got, err := ParseASNumber(text); err == nil {
			t.Errorf("ParseASNumber(%q) = %d", text, got)
		}
	}
	for text, want := range map[string]uint8{"0": 0, "63": 63, "DF": 0, "EF": 46, "AF11": 10, "AF43": 38, "CS0": 0, "CS6": 48} {
		if got, err := ParseDSCP(text); err != nil || got != want {
			t.Errorf("ParseDSCP(%s) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "64", "-1", "AF14", "AF51", "CS7", "ef", "256"} {
		if got, err := ParseDSCP(text); err == nil {
			t.Errorf("ParseDSCP(%q) = %d", text, got)
		}
	}
	for text, want := range map[string][]uint32{"65535:0": {65535, 0}, "4294967295:0:1": {4294967295, 0, 1}} {
		if got, err := ParseCommunity(text); err != nil || !cmp.Equal(got, want) {
			t.Errorf("ParseCommunity(%s) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "65536:0", "1:2:3:4", "1:2:4294967296", "a:b"} {
		if got, err := ParseCommunity(text); err == nil {
			t.Errorf("ParseCommunity(%q) = %d", text, got)
		}
	}
	for text, want := range map[string]string{"10.0.0.1": "10.0.0.1 0", "10.0.0.1:1790": "10.0.0.1 1790", "fd00::1": "fd00::1 0", "[fd00::1]:1790": "fd00::1 1790"} {
		a, port, err := ParsePeerIP(text)
		if got := a.String() + " " + SinglePort(port).String(); err != nil || got != want {
			t.Errorf("ParsePeerIP(%s) = %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "10.0.0.1/24", "10.0.0.1:0", "10.0.0.1:x", "[fd00::1]", "fe80::1%eth0", "host:1"} {
		if a, _, err := ParsePeerIP(text); err == nil {
			t.Errorf("ParsePeerIP(%q) = %s", text, a)
		}
	}
}

func TestDefaultAllowProfile(t *testing.T) {
	p := DefaultAllowProfile()
	if p == DefaultAllowProfile() || p.Metadata.Name != "projectcalico-default-allow" || p.Type().Kind != "Profile" ||
		!cmp.Equal(p.Spec, ProfileSpec{Ingress: []Rule{{Action: "Allow"}}, Egress: []Rule{{Action: "Allow"}}}) {
		t.Errorf("%+v", p)
	}
}
