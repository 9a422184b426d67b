// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// Groups of one run that differ in networks, protocol and ports only are merged
// if they are many: the kernel then looks up addresses, protocol and port at once,
// in a concatenation of intervals, and a policy costs a packet the same with
// eight such rules and with a thousand. What is merged must have the same shape,
// that is the same fields: a rule without ports also matches packets that are too
// short to have any, and a lookup with ports never does.
//
// Such a set is named by its content and never changes, and it is there before
// the rule that looks it up (early): so a rule of the model that joins, leaves or
// changes takes effect with the rules of its transaction, all at once.

// minMerged is how many groups are merged at least. Below that their rules are
// about as fast, and what changes in them is an element.
const minMerged = 8

// maxBoxes bounds the elements of a merged set of one family; a longer run is
// several. The kernel takes 5 and 16 ms (IPv4, IPv6) to make such a set, and for
// twice as many three times as long: what changes in a policy of a thousand rules
// is to be in force within 50 ms.
const maxBoxes = 512

// shape is the fields that merged groups differ in.
type shape uint8

const (
	bySrc shape = 1 << iota
	byDst
	byProto
	byPort // and byProto
)

// shapeOf returns the shape of a group; 0 if it cannot be merged.
func shapeOf(g *group) (s shape) {
	ru := &g.rule
	if ru.Action == policy.Log || ru.HasNotProto || ru.ICMP != nil || ru.NotICMP != nil ||
		len(ru.Src.Ports)+len(ru.Src.PortSets)+len(ru.Src.NotPorts)+len(ru.Src.NotPortSets) > 0 ||
		len(ru.Dst.PortSets)+len(ru.Dst.NotPorts)+len(ru.Dst.NotPortSets) > 0 ||
		len(ru.Dst.Ports) > 0 && (len(mergePorts(ru.Dst.Ports)) == 0 || ru.HasProto && !policy.HasPorts(ru.Proto)) {
		return 0
	}
	if len(ru.Src.Nets) > 0 {
		s |= bySrc
	}
	if len(ru.Dst.Nets) > 0 {
		s |= byDst
	}
	switch {
	case len(g.services) > 0 || len(ru.Dst.Ports) > 0:
		s |= byProto | byPort
	case ru.HasProto && s != 0: // protocols alone are few
		s |= byProto
	}
	return s
}

// size is how many boxes a group has at most, in a family.
func (g *group) size() int {
	protos := len(portProtos)
	if g.rule.HasProto {
		protos = 1
	}
	n := 1
	for _, f := range []*family{ipv4, ipv6} {
		of := func(p netip.Prefix) bool { return familyOf(p.Addr()) == f }
		n = max(n, max(1, count(g.rule.Src.Nets, of))*max(1, count(g.rule.Dst.Nets, of)))
	}
	return n * max(1, len(g.services), protos*len(g.rule.Dst.Ports))
}

func count[T any](list []T, is func(T) bool) (n int) {
	for _, x := range list {
		if is(x) {
			n++
		}
	}
	return n
}

// merge puts groups of a run together that have a shape and everything else in
// common, at the place of the first.
func merge(gs []group) (out []group) {
	for len(gs) > 0 {
		n := 1
		for n < len(gs) && gs[n].rule.Action == gs[0].rule.Action {
			n++
		}
		if merged := mergeRun(gs[:n]); out == nil {
			out = merged[:len(merged):len(merged)] // most policies are one run, and a group is large
		} else {
			out = append(out, merged...)
		}
		gs = gs[n:]
	}
	return out
}

func mergeRun(run []group) []group {
	if len(run) < minMerged {
		return run
	}
	type kin struct {
		members []int
		boxes   int
	}
	kins := map[string]*kin{}
	of := make([]*kin, len(run))
	some := false
	for i := range run {
		g := &run[i]
		s := shapeOf(g)
		if s == 0 || g.size() > maxBoxes/minMerged {
			continue
		}
		common := g.common()
		key := string(append(appendRule(nil, &common), byte(s)))
		k := kins[key]
		if k == nil || k.boxes+g.size() > maxBoxes {
			k = &kin{}
			kins[key] = k
		}
		k.boxes += g.size()
		k.members = append(k.members, i)
		of[i], some = k, some || len(k.members) == minMerged
	}
	if !some {
		return run
	}
	var out []group
	for i := range run {
		k := of[i]
		switch {
		case k == nil || len(k.members) < minMerged:
			out = append(out, run[i])
		case k.members[0] == i:
			g := group{rule: run[i].common(), shape: shapeOf(&run[i])}
			for _, m := range k.members {
				g.parts = append(g.parts, run[m])
				g.rules += run[m].rules
				g.indexes = append(g.indexes, run[m].indexes...)
			}
			slices.Sort(g.indexes)
			out = append(out, g)
		}
	}
	return out
}

// common is a group's rule without what merged groups may differ in.
func (g *group) common() policy.Rule {
	ru := g.rule
	ru.Src.Nets, ru.Dst.Nets, ru.Dst.Ports, ru.HasProto, ru.Proto = nil, nil, nil, false, 0
	return ru
}

// box is the packets from one network to another, of a protocol, to some ports.
// What its shape has not is zero.
type box struct {
	src, dst netip.Prefix
	proto    byte
	ports    policy.PortRange
}

// boxes lists what a part of a merged group matches in a family.
func (s shape) boxes(out []box, part *group, f *family) []box {
	ru := &part.rule
	src, dst := []netip.Prefix{{}}, []netip.Prefix{{}}
	if s&bySrc != 0 {
		src = mergeNets(ru.Src.Nets, f)
	}
	if s&byDst != 0 {
		dst = mergeNets(ru.Dst.Nets, f)
	}
	add := func(proto byte, ports policy.PortRange) {
		for _, from := range src {
			for _, to := range dst {
				out = append(out, box{from, to, proto, ports})
			}
		}
	}
	protos := []byte{ru.Proto}
	if s&byPort != 0 && !ru.HasProto {
		protos = portProtos
	}
	for _, v := range part.services {
		add(v.proto, policy.PortRange{Min: v.port, Max: v.port})
	}
	for _, p := range protos {
		switch {
		case len(part.services) > 0:
		case s&byPort == 0:
			add(p, policy.PortRange{})
		default:
			for _, r := range mergePorts(ru.Dst.Ports) {
				add(p, r)
			}
		}
	}
	return out
}

// disjoint takes away what boxes have in common, because intervals must not
// overlap. It is not ok for two networks that cross: one that is wider where the
// other one is narrower.
func disjoint(in []box) (out []box, ok bool) {
	type nets struct {
		src, dst netip.Prefix
		proto    byte
	}
	ports := map[nets][]policy.PortRange{}
	for _, b := range in {
		k := nets{b.src, b.dst, b.proto}
		ports[k] = append(ports[k], b.ports)
	}
	keys := slices.Collect(maps.Keys(ports))
	outer := func(k nets) netip.Prefix {
		if k.src.IsValid() {
			return k.src
		}
		return k.dst
	}
	wider := func(a, b netip.Prefix) int { return cmp.Or(a.Bits()-b.Bits(), a.Addr().Compare(b.Addr())) }
	slices.SortFunc(keys, func(a, b nets) int { // wider ones first
		return cmp.Or(wider(outer(a), outer(b)), wider(a.dst, b.dst), int(a.proto)-int(b.proto))
	})
	type place struct {
		outer netip.Prefix
		proto byte
	}
	index := map[place][]nets{} // of those before, which may contain the next
	var widths []int            // of their outer networks
	for _, k := range keys {
		left := mergePorts(ports[k])
		o := outer(k)
		for _, w := range widths {
			at := place{proto: k.proto}
			if o.IsValid() {
				at.outer = netip.PrefixFrom(o.Addr(), w).Masked()
			}
			for _, other := range index[at] {
				switch {
				case k.dst == other.dst, k.dst.IsValid() && other.dst.Overlaps(k.dst) && other.dst.Bits() <= k.dst.Bits():
					left = without(left, ports[other])
				case k.src.IsValid() && other.dst.Overlaps(k.dst) && overlap(left, ports[other]):
					return nil, false
				}
			}
		}
		ports[k] = left
		if len(left) == 0 {
			continue
		}
		for _, r := range left {
			out = append(out, box{k.src, k.dst, k.proto, r})
		}
		if w := o.Bits(); !slices.Contains(widths, w) {
			widths = append(widths, w)
		}
		index[place{o, k.proto}] = append(index[place{o, k.proto}], k)
	}
	return out, true
}

// without returns the ports of a list that are not in another; both are sorted,
// and the ranges of each do not overlap.
func without(list, other []policy.PortRange) (out []policy.PortRange) {
	for _, r := range list {
		lo := int(r.Min)
		for _, o := range other {
			if int(o.Max) < lo || o.Min > r.Max {
				continue
			}
			if int(o.Min) > lo {
				out = append(out, policy.PortRange{Min: uint16(lo), Max: o.Min - 1})
			}
			lo = int(o.Max) + 1
		}
		if lo <= int(r.Max) {
			out = append(out, policy.PortRange{Min: uint16(lo), Max: r.Max})
		}
	}
	return out
}

func overlap(a, b []policy.PortRange) bool {
	return slices.ContainsFunc(a, func(x policy.PortRange) bool {
		return slices.ContainsFunc(b, func(y policy.PortRange) bool { return x.Min <= y.Max && y.Min <= x.Max })
	})
}

// mergedRules appends the rules of a merged group, one for each family. It
// appends none, and returns false, if the boxes of a family cross.
func (r *renderer) mergedRules(c *chain, g *group, d policy.Direction, next, note string) bool {
	families := []*family{ipv4, ipv6}
	if g.shape&(bySrc|byDst) == 0 {
		families = r.families(&g.rule)
	}
	sets := map[*family]*set{}
	for _, f := range families {
		if g.rule.IPVersion != 0 && f != nil && f.v != int(g.rule.IPVersion) || !possible(&g.rule, f) {
			continue
		}
		var all []box
		for i := range g.parts {
			if f == nil || possible(&g.parts[i].rule, f) {
				all = g.shape.boxes(all, &g.parts[i], f)
			}
		}
		all, ok := disjoint(all)
		if !ok {
			return false
		}
		if len(all) > 0 {
			sets[f] = g.shape.set(all, f)
		}
	}
	for _, f := range families {
		if sets[f] == nil {
			continue
		}
		b := r.rule()
		if f != nil {
			b.is(f)
		}
		b.boxIn(g.shape, f, use(c, sets[f]))
		r.end(c, b, source, &g.rule.Src, f, choice{}, denies(&g.rule))
		r.end(c, b, destination, &g.rule.Dst, f, choice{}, denies(&g.rule))
		b.counter()
		r.action(c, b, g.rule.Action, d, next)
		c.add(b.done(note))
	}
	return true
}

// set is the set of boxes: a concatenation of intervals, or intervals of
// addresses if there is nothing else.
func (s shape) set(boxes []box, f *family) *set {
	v := 0
	if f != nil {
		v = f.v
	}
	slices.SortFunc(boxes, func(a, b box) int {
		return cmp.Or(a.src.Compare(b.src), a.dst.Compare(b.dst), int(a.proto)-int(b.proto), int(a.ports.Min)-int(b.ports.Min))
	})
	var es []elem
	for _, b := range boxes {
		switch s {
		case bySrc:
			es = append(es, interval(b.src, "")...)
		case byDst:
			es = append(es, interval(b.dst, "")...)
		default:
			first, last := s.keys(b)
			es = append(es, elem{key: first, last: last})
		}
	}
	if s == bySrc || s == byDst {
		return constSet(fmt.Sprintf("cn%d", v), addrSet(f), es)
	}
	return constSet(fmt.Sprintf("cm%d", v), s.setType(f), es)
}

// keys are the first and the last of a box.
func (s shape) keys(b box) (first, last string) {
	var lo, hi []byte
	for _, p := range []netip.Prefix{b.src, b.dst} {
		if p.IsValid() {
			lo = append(lo, p.Addr().AsSlice()...)
			hi = append(hi, lastOf(p)...)
		}
	}
	if s&byProto != 0 {
		lo, hi = append(lo, b.proto, 0, 0, 0), append(hi, b.proto, 0, 0, 0)
	}
	if s&byPort != 0 {
		lo, hi = binary.BigEndian.AppendUint16(lo, b.ports.Min), binary.BigEndian.AppendUint16(hi, b.ports.Max)
		lo, hi = append(lo, 0, 0), append(hi, 0, 0)
	}
	return string(lo), string(hi)
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) []byte {
	a := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(a); i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return a
}

// setType is that of sets of boxes of a shape, in a family if they have
// addresses.
func (s shape) setType(f *family) *setType {
	t := &setType{flags: unix.NFT_SET_INTERVAL | setConcat}
	var types []uint32
	field := func(typ, n uint32, word string) {
		types = append(types, typ)
		t.keyLen += (n + 3) &^ 3
		if t.word != "" {
			t.word += " . "
		}
		t.word += word
	}
	for _, by := range []shape{bySrc, byDst} {
		if s&by != 0 {
			field(f.addrType, f.bytes, addrSet(f).word[:len("ipv4_addr")])
		}
	}
	if s&byProto != 0 {
		field(typeProto, 1, "inet_proto")
	}
	if s&byPort != 0 {
		field(typePort, 2, "inet_service")
	}
	t.keyType = concat(types...)
	t.word += "; flags interval"
	return t
}

// boxIn matches the fields of a shape in a set of boxes, or of addresses.
func (r *rb) boxIn(s shape, f *family, in *set) *rb {
	n, words := uint32(0), ""
	load := func(bytes uint32, what string, f func(reg uint32)) {
		reg := uint32(unix.NFT_REG32_00) + n
		if n%4 == 0 { // it has another name
			reg = unix.NFT_REG_1 + n/4
		}
		f(reg)
		n += (bytes + 3) / 4
		if words != "" {
			words += " . "
		}
		words += what
	}
	for _, e := range []end{source, destination} {
		if s&bySrc != 0 && e.src || s&byDst != 0 && !e.src {
			load(f.bytes, f.word+" "+e.word, func(reg uint32) { r.payload(expr.PayloadBaseNetworkHeader, e.addrOff(f), f.bytes, reg) })
		}
	}
	if s&byProto != 0 {
		load(1, "meta l4proto", func(reg uint32) { r.load(expr.MetaKeyL4PROTO, reg) })
	}
	if s&byPort != 0 {
		load(2, "th dport", func(reg uint32) { r.payload(expr.PayloadBaseTransportHeader, destination.portOff(), 2, reg) })
	}
	r.in(in.name, false)
	return r.say("%s @%s", words, in.name)
}
