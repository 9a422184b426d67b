// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// annotated is a valid object of a kind with annotations.
func annotated(t *testing.T, kind string, annotations map[string]string) Resource {
	t.Helper()
	spec := map[string]string{"BGPPeer": "{peerIP: 10.0.0.254, asNumber: 64999}", "BGPConfiguration": "{}", "Node": "{}",
		"WorkloadEndpoint": "{orchestrator: muslin, node: a, workload: w, endpoint: lo, interfaceName: cali1, mac: '02:00:00:00:00:01', ipNetworks: [10.65.0.9/32]}"}[kind]
	name := map[string]string{"BGPConfiguration": "default", "WorkloadEndpoint": "a-muslin-w-lo"}[kind]
	if name == "" {
		name = "x"
	}
	r := load(t, kind, name, spec)
	r.Meta().Annotations = annotations
	return r
}

// Every annotation: what it sets, and that what it cannot be is refused.
func TestAnnotations(t *testing.T) {
	for _, c := range []struct {
		kind, name string
		good       map[string]string // value → settings that differ from none
		bad        []string
	}{
		{"BGPPeer", "as-override", map[string]string{"Enabled": "ASOverride:true", "Disabled": ""}, []string{"", "true", "enabled"}},
		{"WorkloadEndpoint", "macs", map[string]string{"02:00:00:00:00:02, 02:00:00:00:00:03": "MACs:[[2 0 0 0 0 2] [2 0 0 0 0 3]]"}, []string{"", "02:00", "01:00:5e:00:00:01", strings.Repeat("02:00:00:00:00:02,", 16) + "02:00:00:00:00:02"}},
		{"WorkloadEndpoint", "host-process", map[string]string{"Enabled": "HostProcess:true", "Disabled": ""}, []string{"", "true"}},
		{"BGPPeer", "remove-private-as", map[string]string{"Enabled": "RemovePrivateAS:true"}, []string{"all"}},
		{"BGPPeer", "default-originate", map[string]string{"Enabled": "DefaultOriginate:true"}, []string{"0.0.0.0/0"}},
		{"BGPPeer", "graceful-shutdown", map[string]string{"Enabled": "GracefulShutdown:true"}, []string{"yes"}},
		{"BGPPeer", "prepend", map[string]string{"1": "Prepend:1", "10": "Prepend:10"}, []string{"", "0", "11", "-1", "x"}},
		{"BGPPeer", "max-prefixes", map[string]string{"0": "MaxPrefixes:0x", "10000": "MaxPrefixes:0x"}, []string{"", "-1", "2147483648"}},
		{"BGPPeer", "max-prefixes-action", map[string]string{"Warn": "MaxPrefixAction:Warn", "Shutdown": "MaxPrefixAction:Shutdown"}, []string{"", "warn"}},
		{"BGPPeer", "shutdown", map[string]string{"": "Shutdown:0x", "new fibre": "Shutdown:0x"}, []string{"a\nb", strings.Repeat("x", 256)}},
		{"BGPPeer", "add-path", map[string]string{"0": "AddPath:0x", "255": "AddPath:0x"}, []string{"", "256", "all"}},
		{"BGPPeer", "next-hop", map[string]string{"ThirdParty": "ThirdParty:true"}, []string{"Self", ""}},
		{"BGPPeer", "listen-limit", nil, []string{"", "0", "32768"}},
		{"BGPPeer", "role", map[string]string{"Customer": "Role:Customer", "RouteServerClient": "Role:RouteServerClient"}, []string{"", "customer", "None"}},
		{"BGPPeer", "role-strict", map[string]string{"Disabled": ""}, []string{"yes", "Enabled"}}, // without a role
		{"BGPPeer", "origin-guard", map[string]string{"Enabled": "Untrusted:true", "Disabled": "Trusted:true"}, []string{"Off"}},
		{"BGPPeer", "extended-next-hop", map[string]string{"Enabled": "ExtendedNextHop:0x", "Disabled": "ExtendedNextHop:0x"}, []string{"", "On"}},
		{"BGPPeer", "pass-unknown-attributes", map[string]string{"Enabled": "PassUnknown:0x", "Disabled": "PassUnknown:0x"}, []string{"", "All"}},
		{"BGPConfiguration", "pass-unknown-attributes", map[string]string{"Enabled": "PassUnknown:true", "Disabled": ""}, []string{"99"}},
		{"BGPPeer", "communities", map[string]string{
			"64512:1":              "Communities:[64512:1]",
			"1:2:3, rt:64512:7":    "Communities:[1:2:3 rt:64512:7]",
			"soo:4200000000:1":     "Communities:[soo:4200000000:1]",
			"rt:65535:4294967295":  "Communities:[rt:65535:4294967295]",
			"rt:1.0:65535,65535:0": "Communities:[rt:65536:65535 65535:0]",
		}, []string{"", "1", "65536:1", "rt:65536:65536", "rt:1", "x:1:2", "1:2,"}},
		{"BGPPeer", "bfd", map[string]string{"Enabled": "BFD:{Enabled:true", "Disabled": ""}, []string{"", "on"}},
		{"BGPConfiguration", "bfd", map[string]string{"Enabled": "BFD:{Enabled:true", "Disabled": ""}, []string{"mesh"}},
		{"BGPPeer", "hold-time", map[string]string{"0": "Timers:{Hold:0s", "3s": "Timers:{Hold:3s", "90s": "Timers:{Hold:1m30s", "65535s": "Timers:{Hold:18h12m15s"}, []string{"", "90", "2s", "-3s", "3500ms", "65536s"}},
		{"BGPPeer", "send-hold-time", map[string]string{"0s": "SendHold:0s", "8m": "SendHold:8m"}, []string{"", "2s", "x"}},
		{"BGPConfiguration", "hold-time", map[string]string{"90s": "Timers:{Hold:1m30s"}, []string{"1s"}},
		{"BGPConfiguration", "keepalive-time", map[string]string{"1s": "Keepalive:1s", "30s": "Keepalive:30s"}, []string{"", "0", "500ms"}},
		{"BGPConfiguration", "ebgp-requires-policy", map[string]string{"Enabled": "EBGPRequiresPolicy:true"}, []string{"Strict"}},
		{"BGPConfiguration", "origin-guard", map[string]string{"Disabled": "Trusting:true", "Enabled": ""}, []string{"Report"}},
		{"BGPConfiguration", "bmp", map[string]string{"10.0.0.9:11019": "BMP:[10.0.0.9:11019]", "10.0.0.9:1, [fd00::9]:2": "BMP:[10.0.0.9:1 [fd00::9]:2]"},
			[]string{"", "10.0.0.9", "10.0.0.9:0", "collector:11019", "0.0.0.0:1", "10.0.0.9:1,"}},
		{"Node", "graceful-shutdown", map[string]string{"Enabled": "GracefulShutdown:true"}, []string{"on"}},
		{"Node", "program-routes", map[string]string{"Disabled": "ControlPlaneOnly:true", "Enabled": ""}, []string{"off"}},
		{"Node", "announce", map[string]string{"172.31.0.8, fd31::8": "Announce:[172.31.0.8 fd31::8]"}, []string{"", "10.0.0.0/8", "127.0.0.1", "fe80::1"}},
		{"Node", "may-announce", map[string]string{"0.0.0.0/0, 2001:db8::1": "MayAnnounce:[0.0.0.0/0 2001:db8::1/128]"}, []string{"", "default"}},
	} {
		key := AnnotationPrefix + c.name
		for value, want := range c.good {
			r := annotated(t, c.kind, map[string]string{key: value})
			if err := Validate(r); err != nil {
				t.Errorf("%s %s=%s: %v", c.kind, key, value, err)
			}
			got := settingsOf(r)
			if none := settingsOf(annotated(t, c.kind, nil)); want == "" && got != none || want != "" && (got == none || !strings.Contains(got, want)) {
				t.Errorf("%s %s=%s: %s, want %s", c.kind, key, value, got, want)
			}
		}
		for _, value := range c.bad {
			r := annotated(t, c.kind, map[string]string{key: value})
			if got, want := paths(Validate(r)), fmt.Sprintf("metadata.annotations[%q]", key); got != want {
				t.Errorf("%s %s=%s: faults %q, want %q", c.kind, key, value, got, want)
			}
			// It counts as absent, with whatever good there is before it.
			for first := range maps.Keys(c.good) {
				r := annotated(t, c.kind, map[string]string{key: first + ", " + value})
				if got, none := settingsOf(r), settingsOf(annotated(t, c.kind, nil)); got != none && Validate(r) != nil {
					t.Errorf("%s %s=%s, %s: %s, want nothing", c.kind, key, first, value, got)
				}
			}
		}
	}
	// One that is not known is refused, and those that are known are named.
	for kind, names := range map[string]map[string]bool{"BGPPeer": namesOf(peerAnnotations), "BGPConfiguration": namesOf(configurationAnnotations), "Node": namesOf(nodeAnnotations), "WorkloadEndpoint": namesOf(endpointAnnotations)} {
		r := annotated(t, kind, map[string]string{"muslin/no-such": "x", "other/x": "y"})
		err := Validate(r)
		if paths(err) != `metadata.annotations["muslin/no-such"]` {
			t.Errorf("%s: %v", kind, err)
		}
		for name := range maps.Keys(names) {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v does not say that there is %s", kind, err, name)
			}
		}
	}
}

func namesOf[T any](list []annotation[T]) map[string]bool {
	m := map[string]bool{}
	for _, a := range list {
		m[a.name] = true
	}
	return m
}

// settingsOf is what Settings reads, as text.
func settingsOf(r Resource) string {
	text := ""
	switch r := r.(type) {
	case *BGPPeer:
		s, _ := r.Settings()
		text = fmt.Sprintf("%+v", s)
	case *BGPConfiguration:
		s, _ := r.Settings()
		text = fmt.Sprintf("%+v", s)
	case *WorkloadEndpoint:
		s, _ := r.Settings()
		text = fmt.Sprintf("%+v", s)
	case *Node:
		s, _ := r.Settings()
		text = fmt.Sprintf("%+v", s)
	}
	return strings.NewReplacer("Values:", "", "Extended:", "").Replace(text)
}

// What holds for all nodes or for none is refused on the configuration of one.
func TestAnnotationsOfOneNode(t *testing.T) {
	for key, alone := range map[string]bool{"next-hops-through-default=Enabled": true, "bfd=Enabled": true, "origin-guard=Disabled": false, "bmp=10.0.0.9:11019": false,
		"hold-time=90s": true, "keepalive-time=30s": true, "send-hold-time=90s": true} {
		name, value, _ := strings.Cut(key, "=")
		for _, of := range []string{"default", "node.a"} {
			c := &BGPConfiguration{}
			c.Metadata.Name = of
			c.Metadata.Annotations = map[string]string{AnnotationPrefix + name: value}
			if _, errs := c.Settings(); (len(errs) > 0) != (alone && of != "default") {
				t.Errorf("%s on %s: %v", key, of, errs)
			}
		}
	}
}

// Whoever misspells a name finds the right one in a list in order.
func TestKnownAnnotationsAreInOrder(t *testing.T) {
	for _, kind := range []string{"BGPPeer", "BGPConfiguration", "Node"} {
		err := Validate(annotated(t, kind, map[string]string{"muslin/zzz": "1"}))
		if err == nil {
			t.Fatalf("%s: muslin/zzz is taken", kind)
		}
		_, list, _ := strings.Cut(err.Error(), ": want ")
		if names := strings.Split(list, ", "); len(names) < 3 || !slices.IsSorted(names) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// On kinds without settings an annotation of ours is kept, and named as being without effect.
func TestIgnoredAnnotations(t *testing.T) {
	for _, c := range []struct {
		r    Resource
		want string
	}{
		{&BGPFilter{}, "[muslin/bfd muslin/denied-log]"},
		{&GlobalNetworkPolicy{}, "[muslin/bfd muslin/denied-log]"},
		{&FelixConfiguration{}, "[muslin/bfd]"},
		{&BGPPeer{}, "[]"}, // there it is an error
	} {
		c.r.Meta().Annotations = map[string]string{"muslin/denied-log": "1/second", "muslin/bfd": "Enabled", "other/bfd": "x"}
		if got := fmt.Sprint(Ignored(c.r)); got != c.want {
			t.Errorf("%T: %s, want %s", c.r, got, c.want)
		}
	}
}
