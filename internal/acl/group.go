// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// Consecutive rules with the same action may be asked in any order: whichever
// matches, the verdict is the same. Those among them that differ only in
// protocol and destination port become one rule of the kernel, which looks both
// up in a list. So a rule of the model that joins a group, or whose port
// changes, is an element and no rule: the kernel validates the whole table, rule
// by rule, whenever a rule changes, and never for an element.

// group is a rule that stands alone, or what the rules of a group have in
// common.
type group struct {
	rule     policy.Rule
	first    *policy.Rule // of the group
	rules    int
	nth      int       // among the groups of the policy with this in common
	services []service // empty if the rule stands alone
	shape    shape     // of merged groups, whose parts these are
	parts    []group
	indexes  []int // of the rules, in order
}

// service is a protocol and a destination port that a rule of a group matches.
type service struct {
	proto byte
	port  uint16
	index int // of the rule
}

// maxListed bounds the ports of a rule that are listed one by one.
const maxListed = 16

// groups divides rules into groups. What matches a rule that logs goes on to
// the next one, so that each of these stands alone.
func groups(rules []policy.Rule) (out []group) {
	type member struct {
		group int
		proto byte
		port  uint16
	}
	open := map[string]int{} // groups of the present run, by what is common
	nth := map[string]int{}
	seen := map[member]bool{}
	var last policy.Action
	var key []byte
	out = make([]group, 0, min(len(rules), 16)) // most lists are short, and a group is large
	for i := range rules {
		ru := &rules[i]
		if ru.Never {
			continue
		}
		if ru.Action != last {
			clear(open)
			last = ru.Action
		}
		services := servicesOf(ru)
		if services == nil {
			out = append(out, group{rule: *ru, first: ru, rules: 1, indexes: []int{ru.Index}})
			continue
		}
		common := *ru
		common.HasProto, common.Proto, common.Dst.Ports = false, 0, nil
		key = appendRule(key[:0], &common)
		n, ok := open[string(key)]
		if !ok {
			n = len(out)
			open[string(key)] = n
			out = append(out, group{rule: common, first: ru, nth: nth[string(key)]})
			nth[string(key)]++
		}
		out[n].rules++
		out[n].indexes = append(out[n].indexes, ru.Index)
		for _, s := range services {
			if m := (member{n, s.proto, s.port}); !seen[m] {
				seen[m] = true
				out[n].services = append(out[n].services, s)
			}
		}
	}
	return out
}

// servicesOf lists what a rule may be grouped by; nothing if it may not.
func servicesOf(ru *policy.Rule) (out []service) {
	if ru.Action == policy.Log || ru.HasNotProto || ru.ICMP != nil || ru.NotICMP != nil ||
		len(ru.Src.Ports)+len(ru.Src.PortSets)+len(ru.Src.NotPorts)+len(ru.Src.NotPortSets) > 0 ||
		len(ru.Dst.PortSets)+len(ru.Dst.NotPorts)+len(ru.Dst.NotPortSets) > 0 {
		return nil
	}
	protos := portProtos
	if ru.HasProto {
		if !policy.HasPorts(ru.Proto) {
			return nil
		}
		protos = []byte{ru.Proto}
	}
	for _, r := range mergePorts(ru.Dst.Ports) {
		for port := int(r.Min); port <= int(r.Max); port++ {
			for _, p := range protos {
				out = append(out, service{p, uint16(port), ru.Index})
			}
			if len(out) > maxListed*len(protos) {
				return nil
			}
		}
	}
	return out
}

// uniform tells whether all rules that decide do the same.
func uniform(gs []group) bool {
	var action policy.Action
	known := false
	for i := range gs {
		a := gs[i].rule.Action
		if a == policy.Log {
			continue
		}
		if known && a != action {
			return false
		}
		action, known = a, true
	}
	return true
}

// services is the set that a group's services are in.
//
// A packet that is among the old rules when a commit takes effect meets the
// elements of after it. Where all rules do the same, whatever it is then matched
// by is a rule of before or of after, and the list is a part of setServices that
// changes in place. Otherwise it could pass between a denial of before and one
// of after, and the list is a set of its own, named by its content.
//
// The same is true of two policies that change at once. Their lists are named by
// content until they change alone.
func (r *renderer) services(p *policy.Policy, d policy.Direction, g *group, inPlace bool) *set {
	if !inPlace || r.atOnce || r.has != nil {
		es := make([]elem, 0, len(g.services))
		for _, s := range g.services {
			es = append(es, elem{key: string([]byte{s.proto, 0, 0, 0, byte(s.port >> 8), byte(s.port), 0, 0})})
		}
		if list := constSet("cs", setService, es); !inPlace || r.atOnce || r.has(list.name) {
			return list
		}
	}
	name := hashName(p.Key.Kind, p.Key.Namespace, p.Key.Name, dirLetter(d), string(appendRule(nil, &g.rule)), fmt.Sprint(g.nth))
	s := &set{name: "s-" + name, in: setServices, part: name[:16], typ: setListService, blame: policyOwner(p.Key), dir: d,
		comment: displayName(p) + " " + dirWord(d)}
	list := make([]byte, 0, 5*len(g.services))
	for _, v := range g.services {
		list = binary.BigEndian.AppendUint16(append(list, v.proto), v.port)
		list = binary.BigEndian.AppendUint16(list, uint16(v.index))
	}
	s.list = string(list)
	return s
}

// listElems returns the elements of a list of services.
func (s *set) listElems() (out []elem) {
	for l := s.list; len(l) >= 5; l = l[5:] {
		out = append(out, elem{
			key:   s.part + string([]byte{l[0], 0, 0, 0, l[1], l[2], 0, 0}),
			note:  comment(fmt.Sprintf("%s %d", s.comment, uint16(l[3])<<8|uint16(l[4]))),
			owner: s.owner(),
		})
	}
	return out
}

// serviceIn matches protocol and destination port in a set of services.
func (r *rb) serviceIn(s *set) *rb {
	proto, port := uint32(reg1), uint32(unix.NFT_REG32_01)
	if s.in != "" {
		r.name(s.part)
		proto, port = reg2, unix.NFT_REG32_05
	}
	r.load(expr.MetaKeyL4PROTO, proto)
	r.payload(expr.PayloadBaseTransportHeader, destination.portOff(), 2, port)
	r.in(s.kernel(), false)
	if !r.text {
		return r
	}
	return r.say("%smeta l4proto . th dport @%s", s.prefix(), s.kernel())
}

// appendRule appends what a rule matches and does, for each rule differently.
func appendRule(b []byte, ru *policy.Rule) []byte {
	flags := byte(0)
	for i, x := range []bool{ru.HasProto, ru.HasNotProto, ru.ICMP != nil, ru.NotICMP != nil} {
		if x {
			flags |= 1 << i
		}
	}
	b = append(b, byte(ru.Action), ru.IPVersion, flags, ru.Proto, ru.NotProto)
	for _, m := range []*policy.ICMPMatch{ru.ICMP, ru.NotICMP} {
		if m != nil {
			b = appendNumbers(b, uint16(m.Type), uint16(m.Code))
		}
	}
	for _, m := range []*policy.Match{&ru.Src, &ru.Dst} {
		for _, list := range [][]netip.Prefix{m.Nets, m.NotNets} {
			b = appendNumbers(b, uint16(len(list)))
			for _, p := range list {
				a := p.Addr().As16()
				b = append(append(b, a[:]...), byte(p.Addr().BitLen()), byte(p.Bits()))
			}
		}
		for _, list := range [][]policy.SetID{m.Sets, m.NotSets, m.PortSets, m.NotPortSets} {
			b = appendNumbers(b, uint16(len(list)))
			for _, id := range list {
				b = append(appendNumbers(b, uint16(len(id))), id...)
			}
		}
		for _, list := range [][]policy.PortRange{m.Ports, m.NotPorts} {
			b = appendNumbers(b, uint16(len(list)))
			for _, p := range list {
				b = appendNumbers(b, p.Min, p.Max)
			}
		}
	}
	return b
}

func appendNumbers(b []byte, list ...uint16) []byte {
	for _, n := range list {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}
