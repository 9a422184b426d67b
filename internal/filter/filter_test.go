// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// object decodes one document without its apiVersion.
func object[T v3.Resource](t *testing.T, doc string) T {
	t.Helper()
	list, err := v3.Decode([]byte("apiVersion: projectcalico.org/v3\n" + doc))
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	v3.Default(list[0])
	if err := v3.Validate(list[0]); err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	return list[0].(T)
}

func filterOf(t *testing.T, spec string) *v3.BGPFilter {
	t.Helper()
	return object[*v3.BGPFilter](t, "kind: BGPFilter\nmetadata: {name: f}\nspec: "+spec+"\n")
}

// bindings says what is bound to whom, for tests.
type bindings struct{ bound, owned []netip.Prefix }

func within(list []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(list, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
}
func (b bindings) Bound(p netip.Prefix) bool { return within(b.bound, p) }
func (b bindings) Owned(p netip.Prefix) bool { return within(b.owned, p) }

// fabric has an open and a closed pool of each family, addresses of services,
// this node's blocks and, outside the pools, an endpoint of another.
func fabric(t *testing.T) *Fabric {
	t.Helper()
	pool := func(name, spec string) *v3.IPPool {
		return object[*v3.IPPool](t, "kind: IPPool\nmetadata: {name: "+name+"}\nspec: "+spec+"\n")
	}
	f, errs := NewFabric(Input{
		Pools: []*v3.IPPool{
			pool("open4", "{cidr: 10.65.0.0/16}"), pool("closed4", "{cidr: 10.99.0.0/16, disableBGPExport: true}"),
			pool("open6", "{cidr: 'fd65::/64'}"), pool("closed6", "{cidr: 'fd99::/64', disableBGPExport: true}"),
		},
		Global: object[*v3.BGPConfiguration](t, `kind: BGPConfiguration
metadata: {name: default}
spec:
  serviceClusterIPs: [{cidr: 10.96.0.0/12}, {cidr: "fd96::/112"}]
  serviceExternalIPs: [{cidr: 198.51.100.0/24}]
  serviceLoadBalancerIPs: [{cidr: 203.0.113.0/24}]
  communities: [{name: inner, value: "64512:2"}, {name: big, value: "1:2:3"}]
  prefixAdvertisements:
  - {cidr: 10.65.0.0/16, communities: ["64512:1", big]}
  - {cidr: 10.65.8.0/24, communities: [inner]}
  - {cidr: "fd65::/64", communities: [inner]}
`),
		Priority4: 1024, Priority6: 512,
		Bindings: bindings{
			bound: []netip.Prefix{pfx("172.30.0.9/32"), pfx("fd30::9/128")},
			owned: []netip.Prefix{pfx("10.65.8.0/26"), pfx("fd65::/122")},
		},
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return f
}

func mustImport(t *testing.T, s Session) bgp.Policy {
	t.Helper()
	p, _, errs := s.Import()
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return p
}

func mustExport(t *testing.T, s Session) bgp.Policy {
	t.Helper()
	p, _, errs := s.Export()
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return p
}

// say renders a verdict as a test wants to read it.
func say(v bgp.Verdict) string {
	if v.Refused != bgp.Accepted {
		return "refused: " + v.Detail
	}
	s := "accepted"
	if e := v.Edit; e != nil {
		for _, c := range e.Communities {
			s += fmt.Sprintf(" +%d:%d", c>>16, c&0xffff)
		}
		for _, c := range e.Large {
			s += fmt.Sprintf(" +%d:%d:%d", c[0], c[1], c[2])
		}
		for _, c := range e.Extended {
			s += fmt.Sprintf(" +%x", c)
		}
		if len(e.Prepend) > 0 {
			s += fmt.Sprintf(" path %v…", e.Prepend)
		}
		if e.SetLocalPref {
			s += fmt.Sprintf(" priority %d", MaxPriority-e.LocalPref)
		}
	}
	return s
}

// Every field of a rule, with a route that it matches and one that it does not.
// The default after the rule is to accept, so a Reject shows the match.
func TestRuleFields(t *testing.T) {
	prio := func(p uint32) bgp.Route { return bgp.Route{HasLocalPref: true, LocalPref: MaxPriority - p} }
	at := func(r bgp.Route, p string) bgp.Route { r.Prefix = pfx(p); return r }
	for _, c := range []struct {
		rule   string // for IPv4; the networks of the IPv6 form are made of it
		ebgp   bool
		hit    []bgp.Route
		missed []bgp.Route
	}{
		{rule: "", hit: []bgp.Route{at(bgp.Route{}, "10.1.0.0/16"), at(bgp.Route{}, "0.0.0.0/0")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: In",
			hit:    []bgp.Route{at(bgp.Route{}, "10.1.0.0/16"), at(bgp.Route{}, "10.1.2.0/24"), at(bgp.Route{}, "10.1.2.3/32")},
			missed: []bgp.Route{at(bgp.Route{}, "10.0.0.0/15"), at(bgp.Route{}, "10.2.0.0/16"), at(bgp.Route{}, "0.0.0.0/0")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: NotIn",
			hit:    []bgp.Route{at(bgp.Route{}, "10.0.0.0/15"), at(bgp.Route{}, "10.2.0.0/16")},
			missed: []bgp.Route{at(bgp.Route{}, "10.1.0.0/16"), at(bgp.Route{}, "10.1.2.3/32")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: Equal",
			hit:    []bgp.Route{at(bgp.Route{}, "10.1.0.0/16")},
			missed: []bgp.Route{at(bgp.Route{}, "10.1.2.0/24"), at(bgp.Route{}, "10.0.0.0/15")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: NotEqual",
			hit:    []bgp.Route{at(bgp.Route{}, "10.1.2.0/24"), at(bgp.Route{}, "10.0.0.0/15")},
			missed: []bgp.Route{at(bgp.Route{}, "10.1.0.0/16")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: In, prefixLength: {min: 20, max: 24}",
			hit:    []bgp.Route{at(bgp.Route{}, "10.1.16.0/20"), at(bgp.Route{}, "10.1.2.0/24")},
			missed: []bgp.Route{at(bgp.Route{}, "10.1.0.0/16"), at(bgp.Route{}, "10.1.2.0/25"), at(bgp.Route{}, "10.2.16.0/20")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: In, prefixLength: {max: 16}",
			hit:    []bgp.Route{at(bgp.Route{}, "10.1.0.0/16")},
			missed: []bgp.Route{at(bgp.Route{}, "10.1.0.0/17")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: In, prefixLength: {min: 8}", // raised to the length of cidr
			hit:    []bgp.Route{at(bgp.Route{}, "10.1.0.0/16"), at(bgp.Route{}, "10.1.2.3/32")},
			missed: []bgp.Route{at(bgp.Route{}, "10.0.0.0/8")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: NotIn, prefixLength: {min: 24}",
			hit:    []bgp.Route{at(bgp.Route{}, "10.1.0.0/16"), at(bgp.Route{}, "10.2.2.0/24")},
			missed: []bgp.Route{at(bgp.Route{}, "10.1.2.0/24")}},
		{rule: "source: RemotePeers",
			hit:    []bgp.Route{at(bgp.Route{Peer: netip.MustParseAddr("10.0.0.2")}, "10.1.0.0/16")},
			missed: []bgp.Route{at(bgp.Route{Local: true}, "10.1.0.0/16")}},
		{rule: "interface: 'cali*'",
			hit:    []bgp.Route{at(bgp.Route{Local: true, Interface: "cali12"}, "10.1.0.1/32"), at(bgp.Route{Local: true, Interface: "cali"}, "10.1.0.1/32")},
			missed: []bgp.Route{at(bgp.Route{Local: true, Interface: "tap1"}, "10.1.0.1/32"), at(bgp.Route{}, "10.1.0.1/32")}},
		{rule: "interface: eth0",
			hit:    []bgp.Route{at(bgp.Route{Local: true, Interface: "eth0"}, "10.1.0.1/32")},
			missed: []bgp.Route{at(bgp.Route{Local: true, Interface: "eth01"}, "10.1.0.1/32")}},
		{rule: "peerType: eBGP", ebgp: true, hit: []bgp.Route{at(bgp.Route{}, "10.1.0.0/16")}},
		{rule: "peerType: iBGP", ebgp: true, missed: []bgp.Route{at(bgp.Route{}, "10.1.0.0/16")}},
		{rule: "peerType: eBGP", missed: []bgp.Route{at(bgp.Route{}, "10.1.0.0/16")}},
		{rule: "peerType: iBGP", hit: []bgp.Route{at(bgp.Route{}, "10.1.0.0/16")}},
		{rule: "communities: {values: ['64512:7']}",
			hit:    []bgp.Route{at(bgp.Route{Communities: []uint32{1, 64512<<16 | 7}}, "10.1.0.0/16")},
			missed: []bgp.Route{at(bgp.Route{Communities: []uint32{1}}, "10.1.0.0/16"), at(bgp.Route{Large: [][3]uint32{{0, 64512, 7}}}, "10.1.0.0/16")}},
		{rule: "communities: {values: ['1:2:3']}",
			hit:    []bgp.Route{at(bgp.Route{Large: [][3]uint32{{1, 2, 3}}}, "10.1.0.0/16")},
			missed: []bgp.Route{at(bgp.Route{Large: [][3]uint32{{3, 2, 1}}}, "10.1.0.0/16")}},
		{rule: "asPathPrefix: [65001, '1.10']",
			hit:    []bgp.Route{at(bgp.Route{ASPath: []uint32{65001, 65546}}, "10.1.0.0/16"), at(bgp.Route{ASPath: []uint32{65001, 65546, 7}}, "10.1.0.0/16")},
			missed: []bgp.Route{at(bgp.Route{ASPath: []uint32{65001}}, "10.1.0.0/16"), at(bgp.Route{ASPath: []uint32{7, 65001, 65546}}, "10.1.0.0/16"), at(bgp.Route{}, "10.1.0.0/16")}},
		{rule: "priority: 512",
			hit:    []bgp.Route{at(prio(512), "10.1.0.0/16")},
			missed: []bgp.Route{at(prio(1024), "10.1.0.0/16"), at(bgp.Route{LocalPref: MaxPriority - 512}, "10.1.0.0/16")}},
		{rule: "cidr: 10.1.0.0/16, matchOperator: In, source: RemotePeers", // all must hold
			hit:    []bgp.Route{at(bgp.Route{}, "10.1.0.0/16")},
			missed: []bgp.Route{at(bgp.Route{Local: true}, "10.1.0.0/16"), at(bgp.Route{}, "10.2.0.0/16")}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			rule := strings.TrimPrefix(c.rule+", ", ", ") + "action: Reject"
			six := sixOfRule(rule)
			f := filterOf(t, fmt.Sprintf("{importV4: [{%s}], importV6: [{%s}]}", rule, six))
			p := mustImport(t, Session{Filters: []*v3.BGPFilter{f}, EBGP: c.ebgp})
			for want, list := range map[bool][]bgp.Route{true: c.hit, false: c.missed} {
				for _, r := range list {
					for _, r := range []bgp.Route{r, sixOfRoute(r)} {
						if got := p(&r); (got.Refused != bgp.Accepted) != want {
							t.Errorf("%s: %s; matches: want %v", r.Prefix, say(got), want)
						}
					}
				}
			}
		})
	}
}

// six is an IPv6 network that stands to others as the IPv4 one does.
func six(p netip.Prefix) netip.Prefix {
	if p.Bits() == 0 {
		return pfx("::/0")
	}
	a := p.Addr().As4()
	b := [16]byte{0xfd}
	copy(b[1:], a[:])
	if p.Bits() == 32 {
		return netip.PrefixFrom(netip.AddrFrom16(b), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), p.Bits()+8)
}

func sixOfRoute(r bgp.Route) bgp.Route {
	r.Prefix = six(r.Prefix)
	return r
}

func sixOfRule(rule string) string {
	for _, c := range []struct{ four, six string }{
		{"10.1.0.0/16", "'" + six(pfx("10.1.0.0/16")).String() + "'"},
		{"min: 20, max: 24", "min: 28, max: 32"}, {"max: 16", "max: 24"}, {"min: 8", "min: 16"}, {"min: 24", "min: 32"},
	} {
		rule = strings.ReplaceAll(rule, c.four, c.six)
	}
	return rule
}

// Every operation, and their order.
func TestOperations(t *testing.T) {
	for ops, want := range map[string]string{
		"{addCommunity: {value: '64512:7'}}":                                                   "accepted +64512:7",
		"{addCommunity: {value: '1:2:3'}}":                                                     "accepted +1:2:3",
		"{prependASPath: {prefix: [65001, 65002]}}":                                            "accepted path [65001 65002]…",
		"{prependASPath: {prefix: [1]}}, {prependASPath: {prefix: [2, 3]}}":                    "accepted path [2 3 1]…",
		"{setPriority: {value: 512}}":                                                          "accepted priority 512",
		"{addCommunity: {value: '1:2'}}, {setPriority: {value: 1}}, {setPriority: {value: 2}}": "accepted +1:2 priority 2",
	} {
		f := filterOf(t, "{importV4: [{action: Accept, operations: ["+ops+"]}], exportV4: [{action: Accept, operations: ["+ops+"]}], exportV6: [{action: Accept, operations: ["+ops+"]}]}")
		s := Session{Filters: []*v3.BGPFilter{f}, Fabric: fabric(t)}
		if got := say(mustImport(t, s)(&bgp.Route{Prefix: pfx("10.1.0.0/16")})); got != want {
			t.Errorf("import %s: %s, want %s", ops, got, want)
		}
		for _, prefix := range []string{"10.1.0.0/16", "fd01::/16"} {
			if got := say(mustExport(t, s)(&bgp.Route{Prefix: pfx(prefix)})); got != want {
				t.Errorf("export %s of %s: %s, want %s", ops, prefix, got, want)
			}
		}
	}
}

// What happens to a route that no rule matches, on the way out.
func TestDefaultExport(t *testing.T) {
	elevated := uint32(MaxPriority - 512)
	p := mustExport(t, Session{Fabric: fabric(t)})
	for _, c := range []struct {
		r    bgp.Route
		want string
	}{
		{bgp.Route{Local: true, Prefix: pfx("10.65.8.0/26")}, "accepted +64512:1 +64512:2 +1:2:3"},
		{bgp.Route{Local: true, Prefix: pfx("fd65::/122")}, "accepted +64512:2"},
		{bgp.Route{Local: true, Prefix: pfx("172.30.0.1/32")}, "accepted"}, // an endpoint outside every pool
		{bgp.Route{Prefix: pfx("10.65.1.0/26")}, "accepted +64512:1 +1:2:3"},
		{bgp.Route{Prefix: pfx("10.65.0.0/16")}, "accepted +64512:1 +1:2:3"},
		{bgp.Route{Prefix: pfx("10.64.0.0/15")}, "refused: it lies outside every IP pool"},
		{bgp.Route{Prefix: pfx("10.99.1.0/26")}, "refused: IP pool closed4 has disableBGPExport"},
		{bgp.Route{Prefix: pfx("fd99::/122")}, "refused: IP pool closed6 has disableBGPExport"},
		{bgp.Route{Local: true, Prefix: pfx("10.99.1.0/26")}, "refused: IP pool closed4 has disableBGPExport"},
		{bgp.Route{Prefix: pfx("10.65.8.5/32")}, "refused: it lies in a block of this node, which is announced as one"},
		{bgp.Route{Prefix: pfx("10.65.8.5/32"), HasLocalPref: true, LocalPref: MaxPriority - 1024}, "refused: it lies in a block of this node, which is announced as one"},
		{bgp.Route{Prefix: pfx("10.65.8.5/32"), HasLocalPref: true, LocalPref: elevated}, "accepted +64512:1 +64512:2 +1:2:3"},
		{bgp.Route{Prefix: pfx("fd65::5/128")}, "refused: it lies in a block of this node, which is announced as one"},
		{bgp.Route{Prefix: pfx("fd65::5/128"), HasLocalPref: true, LocalPref: elevated}, "refused: it lies in a block of this node, which is announced as one"}, // of IPv6 it is the ordinary one
		{bgp.Route{Prefix: pfx("fd65::5/128"), HasLocalPref: true, LocalPref: elevated + 1}, "accepted +64512:2"},
		{bgp.Route{Prefix: pfx("10.96.0.10/32")}, "accepted"},
		{bgp.Route{Prefix: pfx("fd96::a/128")}, "accepted"},
		{bgp.Route{Prefix: pfx("198.51.100.7/32")}, "accepted"},
		{bgp.Route{Prefix: pfx("203.0.113.7/32")}, "accepted"},
		{bgp.Route{Prefix: pfx("172.30.0.9/32")}, "accepted"},
		{bgp.Route{Prefix: pfx("fd30::9/128")}, "accepted"},
		{bgp.Route{Prefix: pfx("172.30.0.8/32")}, "refused: it lies outside every IP pool"},
		{bgp.Route{Prefix: pfx("0.0.0.0/0")}, "refused: it lies outside every IP pool"},
		{bgp.Route{Prefix: pfx("::/0")}, "refused: it lies outside every IP pool"},
	} {
		if got := say(p(&c.r)); got != c.want {
			t.Errorf("%s local %v: %s, want %s", c.r.Prefix, c.r.Local, got, c.want)
		}
	}
}

// prefixAdvertisements of the node replace those of the cluster; the names of
// communities are known to both.
func TestNodeReplacesAdvertisements(t *testing.T) {
	f, errs := NewFabric(Input{
		Global: object[*v3.BGPConfiguration](t, "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {communities: [{name: c, value: '1:1'}], prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [c]}]}\n"),
		Node:   object[*v3.BGPConfiguration](t, "kind: BGPConfiguration\nmetadata: {name: node.a}\nspec: {prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: ['2:2']}]}\n"),
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	p := mustExport(t, Session{Fabric: f})
	for prefix, want := range map[string]string{"10.1.0.0/24": "accepted +2:2", "10.2.0.0/24": "accepted"} {
		if got := say(p(&bgp.Route{Local: true, Prefix: pfx(prefix)})); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}

// RFC 8212: existing sessions go on with the default; strict ones carry
// nothing without rules for the direction and family.
func TestRFC8212_Strict(t *testing.T) {
	v4 := bgp.Route{Prefix: pfx("10.65.1.0/26")}
	v6 := bgp.Route{Prefix: pfx("fd65::40/122")}
	f := filterOf(t, "{importV4: [{cidr: 10.0.0.0/8, matchOperator: NotIn, action: Reject}], exportV6: [{action: Accept}]}")
	for _, c := range []struct {
		name       string
		s          Session
		in4, in6   bool
		out4, out6 bool
	}{
		{"lenient", Session{EBGP: true}, true, true, true, true},
		{"strict, iBGP", Session{Strict: true}, true, true, true, true},
		{"strict, eBGP", Session{Strict: true, EBGP: true}, false, false, false, false},
		{"strict, eBGP, with some rules", Session{Strict: true, EBGP: true, Filters: []*v3.BGPFilter{f}}, true, false, false, true},
		{"dynamic, iBGP", Session{Dynamic: true}, false, false, false, false},
		{"dynamic, eBGP, with some rules", Session{Dynamic: true, EBGP: true, Filters: []*v3.BGPFilter{f}}, true, false, false, true},
	} {
		c.s.Fabric = fabric(t)
		in, out := mustImport(t, c.s), mustExport(t, c.s)
		for i, got := range []bgp.Verdict{in(&v4), in(&v6), out(&v4), out(&v6)} {
			want := []bool{c.in4, c.in6, c.out4, c.out6}[i]
			if (got.Refused == bgp.Accepted) != want || !want && got.Refused != bgp.RefusedNoPolicy {
				t.Errorf("%s: %d: %v %s, want %v", c.name, i, got.Refused, say(got), want)
			}
		}
	}
}

// A filter that is not there, or not usable, lets nothing pass and says so.
func TestUnusableFilters(t *testing.T) {
	bad := func(rule v3.BGPFilterRule) []*v3.BGPFilter {
		f := &v3.BGPFilter{Spec: v3.BGPFilterSpec{ImportV4: []v3.BGPFilterRule{rule}}}
		f.Metadata.Name = "f"
		return []*v3.BGPFilter{f}
	}
	for _, filters := range [][]*v3.BGPFilter{
		{nil},
		bad(v3.BGPFilterRule{Action: "Maybe"}),
		bad(v3.BGPFilterRule{Action: "Accept", CIDR: "fd00::/8", MatchOperator: "In"}),
		bad(v3.BGPFilterRule{Action: "Accept", CIDR: "10.0.0.0/8"}),
		bad(v3.BGPFilterRule{Action: "Accept", Source: "Here"}),
		bad(v3.BGPFilterRule{Action: "Accept", PeerType: "x"}),
		bad(v3.BGPFilterRule{Action: "Accept", Communities: &v3.BGPFilterCommunities{}}),
		bad(v3.BGPFilterRule{Action: "Accept", Operations: []v3.BGPFilterOperation{{}}}),
		bad(v3.BGPFilterRule{Action: "Accept", Operations: []v3.BGPFilterOperation{{SetPriority: &v3.SetPriority{}}}}),
	} {
		p, _, errs := Session{Filters: filters}.Import()
		got := p(&bgp.Route{Prefix: pfx("10.0.0.0/24")})
		if len(errs) != 1 || got.Refused != bgp.RefusedFilter || !strings.Contains(got.Detail, "nothing passes") {
			t.Errorf("%+v: errors %v, verdict %s", filters, errs, say(got))
		}
	}
}

// Sessions have one identity exactly when nothing that decides differs.
func TestIdentity(t *testing.T) {
	f := filterOf(t, "{exportV4: [{action: Reject}]}")
	g := filterOf(t, "{exportV4: [{action: Accept}]}")
	onlyImport := filterOf(t, "{importV4: [{action: Reject}]}")
	id := func(s Session) string { _, id, _ := s.Export(); return id }
	base := Session{Fabric: fabric(t), Filters: []*v3.BGPFilter{f}}
	if id(base) != id(Session{Fabric: fabric(t), Filters: []*v3.BGPFilter{f}}) {
		t.Error("equal sessions have different identities")
	}
	tag, _ := v3.ParseAnyCommunity("1:2")
	seen := map[string]string{id(base): "base"}
	pool := func(spec string) []*v3.IPPool {
		return []*v3.IPPool{object[*v3.IPPool](t, "kind: IPPool\nmetadata: {name: p}\nspec: "+spec+"\n")}
	}
	global := func(spec string) *v3.BGPConfiguration {
		return object[*v3.BGPConfiguration](t, "kind: BGPConfiguration\nmetadata: {name: default}\nspec: "+spec+"\n")
	}
	for name, in := range map[string]Input{
		"another priority of IPv4": {Priority4: 512}, "another priority of IPv6": {Priority6: 512},
		"a pool": {Pools: pool("{cidr: 10.65.0.0/16}")}, "a closed pool": {Pools: pool("{cidr: 10.65.0.0/16, disableBGPExport: true}")},
		"services":                   {Global: global("{serviceClusterIPs: [{cidr: 10.65.0.0/16}]}")},
		"an advertisement":           {Global: global("{prefixAdvertisements: [{cidr: 10.65.0.0/16, communities: ['1:1']}]}")},
		"another community":          {Global: global("{prefixAdvertisements: [{cidr: 10.65.0.0/16, communities: ['1:2']}]}")},
		"an advertisement of a node": {Node: global("{prefixAdvertisements: [{cidr: 10.66.0.0/16, communities: ['1:1']}]}")},
	} {
		f, errs := NewFabric(in)
		if was := seen[id(Session{Fabric: f})]; was != "" || len(errs) > 0 {
			t.Errorf("%s has the identity of %s; %v", name, was, errs)
		}
		seen[id(Session{Fabric: f})] = name
	}
	for name, s := range map[string]Session{
		"dynamic": {Fabric: base.Fabric, Filters: base.Filters, Dynamic: true}, "other filter": {Fabric: base.Fabric, Filters: []*v3.BGPFilter{g}},
		"no filter": {Fabric: base.Fabric}, "missing": {Fabric: base.Fabric, Filters: []*v3.BGPFilter{nil}},
		"eBGP": {Fabric: base.Fabric, Filters: base.Filters, EBGP: true}, "strict": {Fabric: base.Fabric, Filters: base.Filters, Strict: true},
		"tags": {Fabric: base.Fabric, Filters: base.Filters, Tags: []v3.AnyCommunity{tag}},
	} {
		if was := seen[id(s)]; was != "" {
			t.Errorf("%s has the identity of %s", name, was)
		}
		seen[id(s)] = name
	}
	if id(Session{Fabric: base.Fabric, Filters: []*v3.BGPFilter{onlyImport}}) == "" {
		t.Error("no identity")
	}
}

// Equal verdicts have one edit, also with tags: the engine's cache depends on it.
func TestEditsAreShared(t *testing.T) {
	tags := []v3.AnyCommunity{{Values: []uint32{7, 7}}, {Extended: [8]byte{0, 2, 252, 0, 0, 0, 0, 7}}}
	p := mustExport(t, Session{Fabric: fabric(t), Tags: tags})
	a, b := p(&bgp.Route{Prefix: pfx("10.65.1.0/26")}), p(&bgp.Route{Prefix: pfx("10.65.2.0/26")})
	if a.Edit == nil || a.Edit != b.Edit {
		t.Error("two edits for one change")
	}
	if got, want := say(a), "accepted +64512:1 +7:7 +1:2:3 +0002fc0000000007"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := say(mustExport(t, Session{Fabric: fabric(t)})(&bgp.Route{Prefix: pfx("10.65.1.0/26")})); strings.Contains(got, "7:7") {
		t.Error("the tag of one session is on another")
	}
}

func TestGlob(t *testing.T) {
	for pattern, c := range map[string]struct{ yes, no string }{
		"*": {"eth0 x", ""}, "eth0": {"eth0", "eth01 xeth0"}, "eth*": {"eth eth0", "xeth0"}, "*0": {"eth0 0", "eth01"},
		"e*0": {"e0 eth0 e00", "0e e"}, "a*b*c": {"abc axbxc abbc", "acb ab bc"},
	} {
		for _, name := range strings.Fields(c.yes) {
			if !Glob(pattern, name) {
				t.Errorf("%s does not match %s", pattern, name)
			}
		}
		for _, name := range strings.Fields(c.no) {
			if Glob(pattern, name) {
				t.Errorf("%s matches %s", pattern, name)
			}
		}
	}
}

// twinRule reads a rule as it is written, field by field and as text.
func twinRule(r v3.BGPFilterRule, route bgp.Route, ebgp bool) bool {
	if r.CIDR != "" {
		net := pfx(r.CIDR)
		length := route.Prefix.Bits()
		low, high := net.Bits(), net.Addr().BitLen()
		if r.PrefixLength != nil && r.PrefixLength.Min != nil && int(*r.PrefixLength.Min) > low {
			low = int(*r.PrefixLength.Min)
		}
		if r.PrefixLength != nil && r.PrefixLength.Max != nil && int(*r.PrefixLength.Max) < high {
			high = int(*r.PrefixLength.Max)
		}
		masked, _ := route.Prefix.Addr().Prefix(net.Bits())
		in := length >= net.Bits() && masked == net && length >= low && length <= high
		eq := in && length == net.Bits()
		if holds := map[string]bool{"In": in, "NotIn": !in, "Equal": eq, "NotEqual": !eq}[r.MatchOperator]; !holds {
			return false
		}
	}
	path, want := fmt.Sprint(route.ASPath), fmt.Sprint(r.ASPathPrefix)
	comms := map[string]bool{}
	for _, c := range route.Communities {
		comms[fmt.Sprintf("%d:%d", c>>16, c&65535)] = true
	}
	for _, c := range route.Large {
		comms[fmt.Sprintf("%d:%d:%d", c[0], c[1], c[2])] = true
	}
	switch {
	case r.Source == "RemotePeers" && route.Local,
		r.Interface != "" && (route.Interface == "" || !strings.HasPrefix(route.Interface, strings.TrimSuffix(r.Interface, "*"))),
		r.PeerType == "eBGP" && !ebgp, r.PeerType == "iBGP" && ebgp,
		r.Communities != nil && !comms[r.Communities.Values[0]],
		len(r.ASPathPrefix) > 0 && !strings.HasPrefix(strings.Trim(path, "[]")+" ", strings.Trim(want, "[]")+" "),
		r.Priority != nil && !(route.HasLocalPref && int(route.LocalPref)+*r.Priority == 2147483647):
		return false
	}
	return true
}

// TestPolicyAgreesWithTwin judges random routes with random filters, beside a
// twin that reads the objects plainly, for every route and session type.
func TestPolicyAgreesWithTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 5))
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	number := func(lo, hi int) *int32 {
		if rnd.IntN(2) == 0 {
			return nil
		}
		n := int32(lo + rnd.IntN(hi-lo+1))
		return &n
	}
	prefix := func(is6 bool) netip.Prefix {
		if is6 {
			a := [16]byte{0xfd, byte(rnd.IntN(2)) << 7, byte(rnd.IntN(2)) << 7}
			p, _ := netip.AddrFrom16(a).Prefix([]int{0, 8, 9, 16, 17, 128}[rnd.IntN(6)])
			return p
		}
		a := [4]byte{10, byte(rnd.IntN(2)) << 7, byte(rnd.IntN(2)) << 7}
		p, _ := netip.AddrFrom4(a).Prefix([]int{0, 8, 9, 16, 17, 32}[rnd.IntN(6)])
		return p
	}
	rule := func(is6 bool) (r v3.BGPFilterRule) {
		if rnd.IntN(3) > 0 {
			r.CIDR, r.MatchOperator = prefix(is6).String(), pick("In", "NotIn", "Equal", "NotEqual")
			if rnd.IntN(2) == 0 {
				r.PrefixLength = &v3.BGPFilterLengths{Min: number(0, 32), Max: number(0, 32)}
			}
		}
		r.Source, r.PeerType = pick("", "", "RemotePeers"), pick("", "", "eBGP", "iBGP")
		r.Interface = pick("", "", "", "cali*", "eth0*")
		if rnd.IntN(4) == 0 {
			r.Communities = &v3.BGPFilterCommunities{Values: []string{pick("1:1", "1:2", "1:1:1")}}
		}
		if rnd.IntN(4) == 0 {
			r.ASPathPrefix = [][]v3.ASNumber{{1}, {1, 2}, {12}, {2}}[rnd.IntN(4)]
		}
		if rnd.IntN(4) == 0 {
			p := 1024
			r.Priority = &p
		}
		r.Action = pick("Accept", "Reject")
		return r
	}
	route := func(is6 bool) bgp.Route {
		r := bgp.Route{Prefix: prefix(is6), Local: rnd.IntN(2) == 0, HasLocalPref: rnd.IntN(2) == 0, LocalPref: uint32(MaxPriority - 1024*rnd.IntN(2))}
		r.Interface = pick("", "cali1", "eth0", "eth1")
		r.ASPath = [][]uint32{nil, {1}, {1, 2}, {12}, {2, 1}, {1, 2, 3}}[rnd.IntN(6)]
		r.Communities = [][]uint32{nil, {1<<16 | 1}, {1<<16 | 2, 1<<16 | 1}}[rnd.IntN(3)]
		r.Large = [][][3]uint32{nil, {{1, 1, 1}}}[rnd.IntN(2)]
		return r
	}
	refused := 0
	for range 3000 {
		is6, ebgp := rnd.IntN(2) == 0, rnd.IntN(2) == 0
		var filters []*v3.BGPFilter
		var flat []v3.BGPFilterRule
		for i := range 1 + rnd.IntN(3) {
			f := &v3.BGPFilter{}
			f.Metadata.Name = fmt.Sprint("f", i)
			for range rnd.IntN(3) {
				r := rule(is6)
				flat = append(flat, r)
				if is6 {
					f.Spec.ImportV6 = append(f.Spec.ImportV6, r)
				} else {
					f.Spec.ImportV4 = append(f.Spec.ImportV4, r)
				}
			}
			filters = append(filters, f)
		}
		p := mustImport(t, Session{Filters: filters, EBGP: ebgp})
		for range 20 {
			r := route(is6)
			want := true // what the default import does
			for _, u := range flat {
				if twinRule(u, r, ebgp) {
					want = u.Action == "Accept"
					break
				}
			}
			before := r
			got := p(&r)
			if (got.Refused == bgp.Accepted) != want {
				t.Fatalf("%+v by %+v (eBGP %v): %s, want %v", r, flat, ebgp, say(got), want)
			}
			if !reflect.DeepEqual(before, r) {
				t.Fatalf("the policy changed the route: %+v, was %+v", r, before)
			}
			if !want {
				refused++
			}
		}
	}
	if refused < 3000 || refused > 57000 {
		t.Errorf("%d of 60000 refused: the test sees one side only", refused)
	}
}
