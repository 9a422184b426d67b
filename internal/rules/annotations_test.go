// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// annotation is one that refines an object: what it may be, what holds without
// it, what it does, and the tests that prove it.
type annotation struct {
	name    string
	on      []string
	values  string
	without string
	effect  string
	tests   []string
	good    []string          // values that are taken
	bad     []string          // and that are not
	with    map[string]string // other annotations that it needs
}

const (
	ofPeer   = "BGPPeer"
	ofConfig = "BGPConfiguration"
	ofNode   = "Node"
	ofRule   = "rule of a policy or profile"
	ofFelix  = "FelixConfiguration"
	ofWork   = "WorkloadEndpoint"
	onOff    = "`Enabled`, `Disabled`"
)

var switches = []string{"Enabled", "Disabled"}

var annotations = []annotation{
	{"as-override", []string{ofPeer}, onOff, "`Disabled`", "the neighbour's AS number in the path becomes ours; eBGP", []string{"node TestPoliceOptions", "e2e TestBGPPeerFields"}, switches, []string{"yes"}, nil},
	{"remove-private-as", []string{ofPeer}, onOff, "`Disabled`", "private AS numbers (RFC 6996) leave the path; eBGP", []string{"node TestPoliceOptions", "e2e TestBGPPeerFields"}, switches, []string{"on"}, nil},
	{"prepend", []string{ofPeer}, "1 to 10", "0", "our AS number so many times more in the path; eBGP", []string{"node TestPoliceOptions", "e2e TestBGPPeerFields"}, []string{"1", "10"}, []string{"0", "11", "x"}, nil},
	{"default-originate", []string{ofPeer}, onOff, "`Disabled`", "the neighbour is told a default route to this server", []string{"e2e TestBGPConfigurationFields"}, switches, []string{"1"}, nil},
	{"next-hop", []string{ofPeer}, "`ThirdParty`", "`nextHopMode`", "a next hop in a subnet that we share with the neighbour stays (RFC 4271 section 5.1.3)", []string{"node TestPoliceOptions"}, []string{"ThirdParty"}, []string{"Self"}, nil},
	{"extended-next-hop", []string{ofPeer}, onOff, "`Enabled` where one end has no IPv4 address", "IPv4 routes may have IPv6 next hops (RFC 8950)", []string{"node TestPeeringRestraint"}, switches, []string{""}, nil},
	{"communities", []string{ofPeer}, "communities with commas: `AS:N`, `AS:N:N`, `rt:AS:N`, `soo:AS:N`", "none", "are added to everything that is sent", []string{"node TestPoliceIdentity"}, []string{"64512:1", "64512:1, 4200000000:1:2, rt:64512:1, soo:4200000000:7"}, []string{"1", "rt:x:1"}, nil},
	{"add-path", []string{ofPeer}, "0 to 255", "8 to clients of a reflector, else 0", "how many paths per prefix are sent where the neighbour takes several (RFC 7911); 0 is the best alone", []string{"node TestPeeringReflection"}, []string{"0", "255"}, []string{"256"}, nil},
	{"max-prefixes", []string{ofPeer}, "0 to 2147483647", "1000000", "how many prefixes of each family are taken; 0 is no bound", []string{"node TestPeeringRestraint"}, []string{"0", "2147483647"}, []string{"-1", "2147483648"}, nil},
	{"max-prefixes-action", []string{ofPeer}, "`Discard`, `Warn`, `Restart`, `Shutdown`", "`Discard`", "what is done about more", []string{"node TestPeeringRestraint"}, []string{"Discard", "Warn", "Restart", "Shutdown"}, []string{"Drop"}, nil},
	{"shutdown", []string{ofPeer}, "text of at most 255 octets, may be empty", "the session is up", "there is no session, and the neighbour is told why (RFC 9003)", []string{"node TestPeeringRestraint"}, []string{"", "new fibre"}, []string{"a\nb", strings.Repeat("x", 256)}, nil},
	{"role", []string{ofPeer}, "`Provider`, `RouteServer`, `RouteServerClient`, `Customer`, `Peer`", "none", "what this server is to the eBGP neighbour (RFC 9234)", []string{"node TestPeeringRoles"}, []string{"Provider", "RouteServer", "RouteServerClient", "Customer", "Peer"}, []string{"customer"}, nil},
	{"role-strict", []string{ofPeer}, onOff, "`Disabled`", "no session with a neighbour that does not say its role", []string{"node TestPeeringRoles"}, switches, []string{"yes"}, map[string]string{"role": "Peer"}},
	{"listen-range", []string{ofPeer}, "networks with commas", "none", "sessions with whoever connects from there", []string{"node TestPeeringRanges"}, []string{"10.1.0.0/16, 2001:db8::/32"}, []string{"10.1.0.0/33", "fe80::/10"}, nil},
	{"listen-as", []string{ofPeer}, "AS numbers and rows of them with commas", "`asNumber`", "AS numbers that those may have", []string{"node TestPeeringRanges"}, []string{"64999", "65000-65099,64999"}, []string{"0", "9-1"}, map[string]string{"listen-range": "10.1.0.0/16"}},
	{"listen-limit", []string{ofPeer}, "1 to 32767", "100", "how many of those at a time", []string{"node TestPeeringRanges"}, []string{"1", "32767"}, []string{"0", "32768"}, map[string]string{"listen-range": "10.1.0.0/16", "listen-as": "1"}},
	{"interface", []string{ofPeer}, "names of interfaces with commas", "none", "sessions with the router at the other end of each, found by router advertisement (RFC 4861)", []string{"node TestPeeringOnInterfaces", "e2e TestUnnumbered_FRR"}, []string{"eth1", "eth1, swp2.100"}, []string{"lo", "eth1,", "eth1,eth1", "a/b", "a-name-of-16-char"}, map[string]string{"remote-as": "External"}},
	{"remote-as", []string{ofPeer}, "`External`, `Internal`", "`asNumber`", "any AS number but ours, or ours, on those interfaces", []string{"node TestPeeringOnInterfaces", "e2e TestUnnumbered_FRR"}, []string{"External", "Internal"}, []string{"external", "65001"}, map[string]string{"interface": "eth1"}},
	{"graceful-shutdown", []string{ofPeer, ofNode}, onOff, "`Disabled`", "others use other ways first (RFC 8326), on the sessions of the BGPPeer or on all of the node; one of them is enough", []string{"node TestPoliceNode", "e2e TestBGPPeerFields"}, switches, []string{"now"}, nil},
	{"origin-guard", []string{ofPeer, ofConfig}, onOff, "`Enabled`", "whether what others announce is judged by what the model binds to them; the nearest object counts", []string{"node TestPoliceImport"}, switches, []string{"off"}, nil},
	{"pass-unknown-attributes", []string{ofPeer, ofConfig}, onOff, "`Disabled`", "optional transitive attributes of unknown type go on with the routes (RFC 4271 section 9)", []string{"node TestPolicePassUnknown"}, switches, []string{"true"}, nil},
	{"hold-time", []string{ofPeer, ofConfig}, "whole seconds from `3s` on, `0s` for none", "`9s`, or three times `keepaliveTime`", "hold time that is offered (RFC 4271); on the BGPConfiguration `default`, of the mesh", []string{"node TestPeeringTimers"}, []string{"0s", "3s", "90s", "2m"}, []string{"2s", "3.5s", "90"}, nil},
	{"keepalive-time", []string{ofConfig}, "whole seconds from `1s` on", "`3s`", "how often something is sent in the mesh; on `default` alone. A BGPPeer has `keepaliveTime`", []string{"node TestPeeringTimers"}, []string{"1s", "30s"}, []string{"0s", "500ms"}, nil},
	{"send-hold-time", []string{ofPeer, ofConfig}, "longer than the hold time, `0s` for never", "twice the hold time", "after how long a neighbour is given up that does not read (RFC 9687); on the BGPConfiguration `default`, of the mesh", []string{"node TestPeeringTimers"}, []string{"0s", "10m"}, []string{"1s"}, nil},
	{"bfd", []string{ofPeer, ofConfig}, onOff, "`Disabled`", "BFD for the sessions (RFC 5880); on the BGPConfiguration `default`, of the mesh, as those below", []string{"node TestWatch"}, switches, []string{"yes"}, nil},
	{"bfd-interval", []string{ofPeer, ofConfig}, "`10ms` to `60s`", "`300ms`", "between packets, both ways", []string{"node TestWatch"}, []string{"10ms", "60s"}, []string{"9ms", "61s", "5"}, bfdOn},
	{"bfd-multiplier", []string{ofPeer, ofConfig}, "1 to 255", "3", "how many may be lost in a row", []string{"node TestWatch"}, []string{"1", "255"}, []string{"0", "256"}, bfdOn},
	{"bfd-multihop", []string{ofPeer, ofConfig}, onOff, "`Disabled` if the neighbour is in a subnet of this server", "over several hops (RFC 5883), or over one (RFC 5881)", []string{"node TestWatch"}, switches, []string{"2"}, bfdOn},
	{"bfd-auth", []string{ofPeer, ofConfig}, "`simple`, `md5`, `meticulous-md5`, `sha1`, `meticulous-sha1`", "none", "how packets are authenticated", []string{"node TestWatch"}, []string{"simple", "md5", "meticulous-md5", "sha1", "meticulous-sha1"}, []string{"sha256"}, map[string]string{"bfd": "Enabled", "bfd-auth-secret": "bfd/key"}},
	{"bfd-auth-key-id", []string{ofPeer, ofConfig}, "0 to 255", "0", "number of the key", []string{"node TestWatch"}, []string{"0", "255"}, []string{"256"}, map[string]string{"bfd": "Enabled", "bfd-auth-secret": "bfd/key", "bfd-auth": "sha1"}},
	{"bfd-auth-secret", []string{ofPeer, ofConfig}, "`NAME/KEY`", "none", "the file KEY in the folder NAME of `--secrets-dir`", []string{"node TestWatch"}, []string{"bfd/key"}, []string{"key", "a/b/c"}, map[string]string{"bfd": "Enabled", "bfd-auth": "sha1"}},
	{"ebgp-requires-policy", []string{ofConfig}, onOff, "`Disabled`", "an eBGP session without filters carries nothing (RFC 8212)", []string{"node TestPoliceImport"}, switches, []string{"yes"}, nil},
	{"next-hops-through-default", []string{ofConfig}, onOff, "`Disabled`", "a default route may lead to next hops; on `default` alone", []string{"route TestWhatLeadsToNoNextHop"}, switches, []string{"yes"}, nil},
	{"bmp", []string{ofConfig}, "`ADDRESS:PORT` with commas", "none", "stations that are told of sessions and routes (RFC 7854)", []string{"node TestStations", "e2e TestSeeingBGP"}, []string{"10.0.0.9:11019", "10.0.0.9:11019, [fd00::9]:11019"}, []string{"10.0.0.9", "0.0.0.0:1"}, nil},
	{"announce", []string{ofNode}, "addresses with commas", "none", "addresses of the server itself that it announces while it has them: mostly its loopback", []string{"node TestOriginate", "e2e TestNode_AnnouncesItself"}, []string{"172.31.0.8", "172.31.0.8, fd31::8"}, []string{"", "10.0.0.0/8", "127.0.0.1"}, nil},
	{"may-announce", []string{ofNode}, "networks with commas", "none", "what the server may announce to the others besides what is bound to it, and pass on to them", []string{"node TestGranted", "e2e TestB17_JudgedAgain"}, []string{"0.0.0.0/0", "10.0.0.0/8, fd00::/8"}, []string{"10.0.0.0/40"}, nil},
	{"program-routes", []string{ofNode}, onOff, "`Enabled`", "`Disabled`: what BGP learns stays out of this server's kernel", []string{"e2e TestB16_RouteReflectors"}, switches, []string{"no"}, nil},
	{"macs", []string{ofWork}, "up to 16 MAC addresses with commas", "`mac` alone", "the endpoint may send from these as well, in frames, ARP and neighbour discovery; packets to it go to `mac`", []string{"policy TestMACs", "acl TestMACs_ComeAndGo"}, []string{"02:00:00:00:00:02", "02:00:00:00:00:02, 02:00:00:00:00:03"}, []string{"", "02:00", "01:00:5e:00:00:01"}, nil},
	{"host-process", []string{ofWork}, onOff, "`Disabled`", "the endpoint is whatever process of its server binds to its addresses, which are on `lo` there; `interfaceName` is a name that no interface has", []string{"e2e TestHostProcess"}, switches, []string{"true"}, nil},
	{"established", []string{ofRule}, "`Keep`, `Cut`", "`Cut`", "flows that were allowed before the rule denied them go on", []string{"acl TestFlowsAreCut"}, []string{"Keep", "Cut"}, []string{"keep"}, nil},
	{"anycast", []string{ofWork}, onOff, "`Disabled`", "endpoints of other servers that say so may have its addresses, too: each server that has one announces it", []string{"policy TestAnycast"}, switches, []string{"yes"}, nil},
	{"denied-log", []string{ofFelix}, "1 to 9999 in a unit, as `10/second`; `Disabled`", "`Disabled`", "how many denied packets are logged; `FELIX_DENIEDLOG` is the same", []string{"node TestLogSettings", "e2e TestSeeingPolicy"}, nil, nil, nil},
}

var bfdOn = map[string]string{"bfd": "Enabled"}

// Every annotation that the code knows has a row, and the other way round; the
// values of a row are taken, and others are not; its tests speak of it.
// docs/annotations.md is written from the rows (-update).
func TestEveryAnnotationIsDocumented(t *testing.T) {
	rows := map[string][]string{}
	tests := testSources(t)
	var page strings.Builder
	page.WriteString("\n| annotation | on | values | without it | effect | proven by |\n|---|---|---|---|---|---|\n")
	for _, a := range annotations {
		fmt.Fprintf(&page, "| `muslin/%s` | %s | %s | %s | %s | %s |\n", a.name, strings.Join(a.on, ", "), a.values, a.without, a.effect, strings.Join(a.tests, ", "))
		for _, test := range a.tests {
			source, ok := tests[test]
			if !ok {
				t.Errorf("%s: there is no test %s", a.name, test)
			} else if plain := plainWord(a.name); !strings.Contains(plainWord(source), plain) {
				t.Errorf("%s: %s does not speak of it", a.name, test)
			}
		}
		for _, on := range a.on {
			rows[on] = append(rows[on], a.name)
			if on == ofFelix {
				continue // read by the node
			}
			for _, v := range a.good {
				if err := annotate(on, a, v); err != nil {
					t.Errorf("%s on a %s: %q is refused: %v", a.name, on, v, err)
				}
			}
			for _, v := range a.bad {
				if annotate(on, a, v) == nil {
					t.Errorf("%s on a %s: %q is taken", a.name, on, v)
				}
			}
		}
	}
	for on, have := range rows {
		want := knownOn(t, on)
		slices.Sort(have)
		if !slices.Equal(have, want) {
			t.Errorf("%s: the rows have %q, the code has %q", on, have, want)
		}
	}
	compare(t, "docs/annotations.md", page.String()+"\n")
}

// plainWord is a text without what words are joined with.
func plainWord(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }

// annotate reads an object that has the annotation with a value, and what it needs.
func annotate(on string, a annotation, value string) error {
	all := map[string]string{v3.AnnotationPrefix + a.name: value}
	for name, v := range a.with {
		all[v3.AnnotationPrefix+name] = v
	}
	return settingsError(on, all)
}

func settingsError(on string, all map[string]string) error {
	meta := v3.Object{Metadata: v3.ObjectMeta{Name: "default", Annotations: all}}
	var errs []error
	switch on {
	case ofPeer:
		_, errs = (&v3.BGPPeer{Object: meta}).Settings()
	case ofConfig:
		_, errs = (&v3.BGPConfiguration{Object: meta}).Settings()
	case ofNode:
		_, errs = (&v3.Node{Object: meta}).Settings()
	case ofWork:
		_, errs = (&v3.WorkloadEndpoint{Object: meta}).Settings()
	case ofRule:
		_, err := (&v3.Rule{Metadata: &v3.RuleMetadata{Annotations: all}}).Settings()
		errs = append(errs, err)
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// knownOn are the annotations that the code knows of a kind: it names them where one is
// not known.
func knownOn(t *testing.T, on string) (names []string) {
	t.Helper()
	if on == ofFelix {
		text, err := os.ReadFile(filepath.Join(root, "internal/node/settings.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`AnnotationPrefix \+ "([a-z-]+)"`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	} else {
		err := settingsError(on, map[string]string{v3.AnnotationPrefix + "nonsense": "x"})
		_, list, ok := strings.Cut(fmt.Sprint(err), ": want ")
		if !ok {
			t.Fatalf("%s: %v", on, err)
		}
		for name := range strings.SplitSeq(list, ", ") {
			names = append(names, strings.TrimPrefix(name, v3.AnnotationPrefix))
		}
	}
	once := map[string]bool{}
	for _, n := range names {
		once[n] = true
	}
	return slices.Sorted(maps.Keys(once))
}
