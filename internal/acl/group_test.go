// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
	"pgregory.net/rapid"
)

// flow is what the rules of TestGroupsAgree can tell apart.
type flow struct {
	proto byte
	port  uint16
	src   netip.Addr
}

// matches is the plain meaning of the fields that anyRule sets.
func (x flow) matches(ru *policy.Rule) bool {
	in := func(list []policy.PortRange) bool {
		return slices.ContainsFunc(list, func(r policy.PortRange) bool { return r.Min <= x.port && x.port <= r.Max })
	}
	switch d := &ru.Dst; {
	case ru.Never, ru.HasProto && ru.Proto != x.proto, ru.HasNotProto && ru.NotProto == x.proto:
		return false
	case len(ru.Src.Nets) > 0 && !slices.ContainsFunc(ru.Src.Nets, func(p netip.Prefix) bool { return p.Contains(x.src) }):
		return false
	case len(d.Ports) > 0 && (!policy.HasPorts(x.proto) || !in(d.Ports)):
		return false
	case len(d.NotPorts) > 0 && (!policy.HasPorts(x.proto) || in(d.NotPorts)):
		return false
	}
	return true
}

// isIn tells whether a merged set holds the flow.
func (x flow) isIn(s shape, parts []group) bool {
	var all []box
	for i := range parts {
		all = s.boxes(all, &parts[i], ipv4)
	}
	all, ok := disjoint(all)
	return ok && slices.ContainsFunc(all, func(b box) bool { return b.holds(x.src, x.src, x.proto, x.port, s&byPort != 0) })
}

func (b box) holds(src, dst netip.Addr, proto byte, port uint16, ports bool) bool {
	return (!b.src.IsValid() || b.src.Contains(src)) && (!b.dst.IsValid() || b.dst.Contains(dst)) && (b.proto == 0 || b.proto == proto) &&
		(!ports || policy.HasPorts(proto) && b.ports.Min <= port && port <= b.ports.Max)
}

func anyRule(t *rapid.T) policy.Rule {
	var ru policy.Rule
	ru.Action = rapid.SampledFrom([]policy.Action{policy.Allow, policy.Allow, policy.Deny, policy.Pass, policy.Log}).Draw(t, "action")
	ru.Never = rapid.IntRange(0, 9).Draw(t, "never") == 0
	if ru.HasProto = rapid.Bool().Draw(t, "has protocol"); ru.HasProto {
		ru.Proto = rapid.SampledFrom([]byte{1, tcp, udp, 132}).Draw(t, "protocol")
	}
	if ru.HasNotProto = rapid.IntRange(0, 9).Draw(t, "not protocol") == 0; ru.HasNotProto {
		ru.NotProto = udp
	}
	ports := func(what string) (out []policy.PortRange) {
		for range rapid.IntRange(0, 2).Draw(t, what) {
			p := rapid.Uint16Range(1, 6).Draw(t, "port")
			out = append(out, policy.PortRange{Min: p, Max: p + rapid.SampledFrom([]uint16{0, 0, 0, 1, 2, 40}).Draw(t, "more")})
		}
		return out
	}
	ru.Dst.Ports = ports("ports")
	if rapid.IntRange(0, 9).Draw(t, "not ports") == 0 {
		ru.Dst.NotPorts = ports("but not")
	}
	if rapid.Bool().Draw(t, "sources") {
		ru.Src.Nets = nets(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/30", "10.2.0.0/31", "11.0.0.1/32", "0.0.0.0/0", "fd00::/8"}).Draw(t, "source"))
	}
	return ru
}

// TestGroupsAgree judges flows by rules one after another and by their groups.
func TestGroupsAgree(t *testing.T) {
	var flows []flow
	for _, proto := range []byte{1, tcp, udp, 132} {
		for port := range uint16(50) {
			for _, src := range addrs("10.1.0.1", "10.2.0.1", "11.0.0.1") {
				flows = append(flows, flow{proto, port, src})
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(anyRule), 0, 12).Draw(t, "rules")
		if rapid.Bool().Draw(t, "with a long run") { // of which much is merged
			run := rapid.SliceOfN(rapid.Custom(anyRule), minMerged, 30).Draw(t, "run")
			for i := range run {
				run[i].Action = run[0].Action
			}
			rules = append(rules, run...)
		}
		for i := range rules {
			rules[i].Index = i
		}
		gs := merge(groups(rules))
		for _, x := range flows {
			var want, got []policy.Action // what is logged on the way, then what decides
			for i := range rules {
				if x.matches(&rules[i]) {
					want = append(want, rules[i].Action)
					if rules[i].Action != policy.Log {
						break
					}
				}
			}
			for i := range gs {
				g := &gs[i]
				if !x.matches(&g.rule) || len(g.parts) > 0 && !x.isIn(g.shape, g.parts) {
					continue
				}
				if n := slices.IndexFunc(g.services, func(s service) bool { return s.proto == x.proto && s.port == x.port }); len(g.services) > 0 {
					if n < 0 {
						continue
					}
					if by := &rules[g.services[n].index]; !x.matches(by) || by.Action != g.rule.Action {
						t.Fatalf("%v: blamed on rule %d, which does not match it", x, by.Index)
					}
				}
				got = append(got, g.rule.Action)
				if g.rule.Action != policy.Log {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%v: %v by groups, %v by rules", x, got, want)
			}
		}
	})
}
