// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// chain is a chain as it should be.
type chain struct {
	name    string
	comment string
	owner   string // the object blamed when the kernel refuses it
	hook    *hook  // nil for a chain that is only jumped to
	rules   []*rule
	sets    []*set // what its rules look up, beyond the static sets

	logPrefix string       // of the policy whose rules are being added
	stage     policy.Stage // in which it is asked: decides how it accepts
	staged    bool         // it is asked and decides nothing
	dirs      [2]bool      // which of a workload's policies it is part of

	mixing []policy.SetID // sets in rules that mix what was before a change and what is after it (mixes)
}

// hook is where a base chain sits. Its type is filter and its policy accept:
// a replacement must never depend on a chain policy, so that what is to be
// dropped meets an explicit drop.
type hook struct {
	num      uint32
	priority int32
	device   string // of the netdev table: its name
	nat      bool   // its type is nat
}

func (c *chain) add(r *rule) { c.rules = append(c.rules, r) }

func (c *chain) sums() []sum {
	s := make([]sum, len(c.rules))
	for i, r := range c.rules {
		s[i] = r.sum
	}
	return s
}

// setType is the definition of a set: what the kernel cannot change later.
type setType struct {
	flags, keyType, keyLen, dataType uint32
	word                             string
	size                             uint32 // most elements, 0 for any number
}

// Data types of nft(8), which the kernel only stores for its sake.
const (
	typeIPv4    = 7
	typeIPv6    = 8
	typeEther   = 9
	typeProto   = 12
	typePort    = 13
	typeICMP    = 14
	typeMark    = 19
	typeICMPv6  = 29
	typeIfname  = 41
	typeVerdict = 0xffffff00
)

func concat(types ...uint32) (t uint32) {
	for _, x := range types {
		t = t<<6 | x
	}
	return t
}

// fieldLengths are those of what is concatenated.
func fieldLengths(keyType uint32) (out []uint32) {
	for ; keyType != 0; keyType >>= 6 {
		out = append(out, map[uint32]uint32{typeIPv4: 4, typeIPv6: 16, typeProto: 1, typePort: 2, typeIfname: 16}[keyType&0x3f])
	}
	slices.Reverse(out)
	return out
}

// dataLen is the length of what elements of a map lead to, other than verdicts.
func (t *setType) dataLen() (n uint32) {
	for _, part := range fieldLengths(t.dataType) {
		n += part
	}
	return n
}

var (
	setIfname = &setType{0, typeIfname, 16, 0, "ifname", 0}
	setVmap   = &setType{unix.NFT_SET_MAP, typeIfname, 16, typeVerdict, "ifname : verdict", 0}
	// An effective policy is told by its name, in a type that nft(8) can show.
	setIfPolicy = &setType{unix.NFT_SET_MAP, typeIfname, 16, concat(typeIfname, typeIfname), "ifname : ifname . ifname", 0}
	setIfIPv4   = &setType{0, concat(typeIfname, typeIPv4), 20, 0, "ifname . ipv4_addr", 0}
	setIfIPv6   = &setType{0, concat(typeIfname, typeIPv6), 32, 0, "ifname . ipv6_addr", 0}
	setIfNets4  = &setType{unix.NFT_SET_INTERVAL | setConcat, concat(typeIfname, typeIPv4), 20, 0, "ifname . ipv4_addr; flags interval", 0}
	setIfNets6  = &setType{unix.NFT_SET_INTERVAL | setConcat, concat(typeIfname, typeIPv6), 32, 0, "ifname . ipv6_addr; flags interval", 0}
	// A part is told by its name, in the same type.
	setPartIPv4    = &setType{0, concat(typeIfname, typeIPv4), 20, 0, "ifname . ipv4_addr", 0}
	setPartIPv6    = &setType{0, concat(typeIfname, typeIPv6), 32, 0, "ifname . ipv6_addr", 0}
	setListService = &setType{0, concat(typeIfname, typeProto, typePort), 24, 0, "ifname . inet_proto . inet_service", 0}
	setService     = &setType{0, concat(typeProto, typePort), 8, 0, "inet_proto . inet_service", 0}
	setIfEther     = &setType{0, concat(typeIfname, typeEther), 24, 0, "ifname . ether_addr", 0}
	setIPv4        = &setType{unix.NFT_SET_INTERVAL, typeIPv4, 4, 0, "ipv4_addr; flags interval", 0}
	setIPv6        = &setType{unix.NFT_SET_INTERVAL, typeIPv6, 16, 0, "ipv6_addr; flags interval", 0}
	setEnd4        = &setType{0, concat(typeIPv4, typeProto, typePort), 12, 0, "ipv4_addr . inet_proto . inet_service", 0}
	setEnd6        = &setType{0, concat(typeIPv6, typeProto, typePort), 24, 0, "ipv6_addr . inet_proto . inet_service", 0}
	setPort        = &setType{unix.NFT_SET_INTERVAL, typePort, 2, 0, "inet_service; flags interval", 0}
	setProto       = &setType{0, typeProto, 1, 0, "inet_proto", 0}
	setMark        = &setType{0, typeMark, 4, 0, "mark; size 64", 64} // a bounded set of such keys is the fastest the kernel has
	setICMP        = &setType{0, typeICMP, 1, 0, "icmp_type", 0}
	setUDPPort     = &setType{0, typePort, 2, 0, "inet_service", 0}
	setICMPv6      = &setType{0, typeICMPv6, 1, 0, "icmpv6_type", 0}
)

// set is a set as it should be. Its elements are constant, or come from the
// endpoints, or are a list of services, or are the members of the policy set id
// that fam can hold. One that is a part is no set of the kernel: its elements
// are in one that many share, and begin with 16 bytes of its own. The kernel
// finds a set by comparing names, from the first set on, for every rule that
// mentions one: with thousands of sets that was most of what a commit took.
type set struct {
	name    string
	typ     *setType
	comment string
	static  bool             // one of the table's own, filled by endpoints and parts
	elems   []elem           // of a constant set
	in      string           // the kernel's set that a part is in
	part    string           // what its elements begin with
	list    string           // of services: protocol, port and index of the rule, in 5 bytes each
	dir     policy.Direction // whose services these are
	blame   string           // the owner, if not the set itself
	id      policy.SetID
	kind    policy.SetKind
	fam     *family
	denial  bool // denials ask it, else permissions
}

// owner is the object blamed when the kernel refuses the set or an element.
func (s *set) owner() string {
	switch {
	case s.static:
		return ""
	case s.blame != "":
		return s.blame
	}
	return setOwner(s.name)
}

func setOwner(name string) string { return "set " + name }

// elem is an element: of an interval set, the start of an interval or the
// first key after it.
type elem struct {
	key    string
	end    bool
	last   string // key of the end, in a concatenation of intervals
	target string // what a map leads to: the chain to go to, or 32 bytes
	note   string // comment
	owner  string
}

// kernel is the name of the kernel's set that the elements are in.
func (s *set) kernel() string {
	if s.in != "" {
		return s.in
	}
	return s.name
}

// prefix shows what the elements of a part begin with.
func (s *set) prefix() string {
	if s.part == "" {
		return ""
	}
	return cstr([]byte(s.part)) + " . "
}

// value is what an element holds beside its key.
func (e *elem) value() string { return elemValue(e.target, e.note) }

func elemValue(target, note string) string {
	if note != "" {
		return target + "\x00" + note
	}
	return target
}

// place identifies an element within its set.
type place struct {
	key  string
	end  bool
	last string
}

func (e *elem) place() place { return place{e.key, e.end, e.last} }

// ifKey is an interface name as the kernel's registers hold it.
func ifKey(name string) string {
	var k [16]byte
	copy(k[:15], name)
	return string(k[:])
}

// key16 is 16 bytes that stand for an identifier.
func key16(id string) string {
	if len(id) != 16 || safeName(id) != id {
		id = hashName(id)[:16]
	}
	return id
}

// interval returns the elements for the addresses of a prefix. The interval
// that ends at the last address has no end element.
func interval(p netip.Prefix, owner string) []elem {
	p = p.Masked()
	a := p.Addr().AsSlice()
	out := []elem{{key: string(a), owner: owner}}
	b := slices.Clone(a)
	if !increment(b, p.Bits()) {
		out = append(out, elem{key: string(b), end: true, owner: owner})
	}
	return out
}

// increment adds one to the first n bits of b and tells whether that
// overflowed.
func increment(b []byte, n int) bool {
	if n == 0 {
		return true
	}
	i := (n - 1) / 8
	step := byte(1) << (7 - (n-1)%8)
	for ; i >= 0; i-- {
		old := b[i]
		b[i] += step
		if b[i] > old {
			return false
		}
		step = 1
	}
	return true
}

func portInterval(r policy.PortRange, owner string) []elem {
	out := []elem{{key: string(binary.BigEndian.AppendUint16(nil, r.Min)), owner: owner}}
	if r.Max < 65535 {
		out = append(out, elem{key: string(binary.BigEndian.AppendUint16(nil, r.Max+1)), end: true, owner: owner})
	}
	return out
}

// memberElems appends the elements for one member of the set, none if the
// member is of the other family. owner is the set's.
func (s *set) memberElems(out []elem, m policy.Member, owner string) []elem {
	if !m.Net.IsValid() || familyOf(m.Net.Addr()) != s.fam {
		return out
	}
	var room [32]byte
	k := append(room[:0], s.part...)
	if a := m.Net.Addr(); a.Is4() {
		b := a.As4()
		k = append(k, b[:]...)
	} else {
		b := a.As16()
		k = append(k, b[:]...)
	}
	switch {
	case s.kind == policy.SetPorts:
		k = append(k, m.Proto, 0, 0, 0)
		k = append(binary.BigEndian.AppendUint16(k, m.Port), 0, 0)
	case s.typ.flags&unix.NFT_SET_INTERVAL != 0:
		return append(out, interval(m.Net, owner)...)
	case isNetwork(m):
		return out
	}
	return append(out, elem{key: string(k), owner: owner})
}

// content returns all elements of a set that is not static. Those of a set of
// members are in room, as far as that has room.
func (s *set) content(view policy.View, room []elem) []elem {
	switch {
	case s.list != "":
		return s.listElems()
	case s.id == "":
		return s.elems
	}
	out := room[:0]
	owner := s.owner()
	for m := range view.Members(s.id) {
		out = s.memberElems(out, m, owner)
	}
	return out
}

// Names in the kernel never contain text from the datastore, so that no name
// can be a keyword, too long, or equal to another's after cutting.

var b32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// hashName is 24 characters of [a-z2-7] that stand for the parts.
func hashName(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write([]byte(p))
	}
	return b32.EncodeToString(h.Sum(nil))[:24]
}

// safeName returns an identifier of [a-z0-9] as it is and hashes what is not.
func safeName(id string) string {
	if id == "" || len(id) > 32 {
		return hashName(id)
	}
	for _, c := range id {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return hashName(id)
		}
	}
	return id
}

// dirLetter is how names tell the direction.
func dirLetter(d policy.Direction) string {
	if d == policy.Ingress {
		return "i"
	}
	return "e"
}

func dirWord(d policy.Direction) string {
	if d == policy.Ingress {
		return "ingress"
	}
	return "egress"
}

func (pd polDir) chain() string {
	if pd.host {
		return "h" + dirLetter(pd.dir) + "-" + hashName(pd.key.Kind, pd.key.Namespace, pd.key.Name)
	}
	return policyChain(pd.key, pd.dir)
}

func policyChain(k policy.Key, d policy.Direction) string {
	return "p" + dirLetter(d) + "-" + hashName(k.Kind, k.Namespace, k.Name)
}

func effectiveChain(id string, d policy.Direction) string {
	return "e" + dirLetter(d) + "-" + safeName(id)
}

// comment makes text fit for showing by nft(8): printable ASCII without
// quotes or backslashes, at most 120 bytes.
func comment(s string) string {
	if len(s) > 120 {
		s = s[:117] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
}

// mergeNets sorts the prefixes of the family and drops those that others
// contain, because intervals of a set must not overlap.
func mergeNets(nets []netip.Prefix, f *family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range nets {
		if p.IsValid() && familyOf(p.Addr()) == f {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	kept := out[:0]
	for _, p := range out {
		if n := len(kept); n == 0 || !kept[n-1].Overlaps(p) {
			kept = append(kept, p)
		}
	}
	return kept
}

// mergePorts sorts the ranges and joins those that touch. A range that ends
// before it starts matches nothing and is left out.
func mergePorts(ports []policy.PortRange) []policy.PortRange {
	in := slices.DeleteFunc(slices.Clone(ports), func(r policy.PortRange) bool { return r.Max < r.Min })
	slices.SortFunc(in, func(a, b policy.PortRange) int { return int(a.Min) - int(b.Min) })
	var out []policy.PortRange
	for _, r := range in {
		if n := len(out); n > 0 && int(r.Min) <= int(out[n-1].Max)+1 {
			out[n-1].Max = max(out[n-1].Max, r.Max)
			continue
		}
		out = append(out, r)
	}
	return out
}

// rangeText shows the interval from start to the key before end; end may be
// empty for the last key.
func rangeText(start, end string) string {
	last := make([]byte, len(start))
	if end == "" {
		for i := range last {
			last[i] = 0xff
		}
	} else {
		n := new(big.Int).SetBytes([]byte(end))
		n.Sub(n, big.NewInt(1)).FillBytes(last)
	}
	return keyText(start) + "-" + keyText(string(last))
}
