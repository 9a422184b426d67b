// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The tests of this file are made from the table: for each row every length
// that matters, the flags, the attribute twice, and its absence. What is to
// become of it is what the row says; rfc7606_test.go has, by hand, what the RFCs
// say.

// sender is whom an UPDATE comes from.
type sender struct{ ebgp, as4 bool }

func (s sender) String() string {
	return fmt.Sprintf("eBGP=%v/as4=%v", s.ebgp, s.as4)
}

func (s sender) decoder() *decoder { return &decoder{ebgp: s.ebgp, as4: s.as4} }

// well returns the well-formed attributes that announce a prefix.
func (s sender) well(prefix string) [][]byte {
	as := segments(1, s.as4)
	if !s.ebgp {
		as = nil
	}
	list := [][]byte{at(flagTransitive, attrOrigin, 0), at(flagTransitive, attrASPath, as...)}
	if strings.Contains(prefix, ":") {
		list = append(list, mpReach("fd99::9", prefix))
	} else {
		list = append(list, at(flagTransitive, attrNextHop, 10, 0, 0, 9))
	}
	if !s.ebgp {
		list = append(list, at(flagTransitive, attrLocalPref, 0, 0, 0, 100))
	}
	return list
}

// announce is the UPDATE of a prefix with attributes.
func announce(prefix string, list [][]byte) []byte {
	if strings.Contains(prefix, ":") {
		return upd(nil, cat(list...), nil)
	}
	return upd(nil, cat(list...), nlri(prefix))
}

// segments is an AS path of n times 65001.
func segments(n int, as4 bool) (v []byte) {
	for ; n > 0; n -= 255 {
		v = append(v, segSequence, byte(min(n, 255)))
		for range min(n, 255) {
			if as4 {
				v = append(v, 0, 0)
			}
			v = append(v, 0xfd, 0xe9)
		}
	}
	return v
}

// sample is a value of an attribute, as near to n octets as a well-formed one
// comes; n is a length that its rule allows.
func sample(typ uint8, n int, s sender) []byte {
	switch typ {
	case attrASPath, attrAS4Path:
		size := 2
		if s.as4 || typ == attrAS4Path {
			size = 4
		}
		as := 0
		for len(segments(as+1, size == 4)) <= n {
			as++
		}
		return segments(as, size == 4)
	case attrMPReach, attrMPUnreach:
		v := []byte{0, 2, 1}
		if typ == attrMPReach {
			v = mpReach("fd99::9")[3:]
		}
		for i := 0; len(v)+17 <= n; i++ {
			v = append(v, nlri(fmt.Sprintf("fd70::%x/128", i))...)
		}
		return v
	case attrOrigin:
		return make([]byte, n)
	}
	return slices.Repeat([]byte{1}, n) // AS 1, community 256:257, ...
}

// tableCase is one UPDATE with something about one attribute, and what the
// table says of it.
type tableCase struct {
	name  string
	list  [][]byte
	fate  remedy
	lives bool     // fate does not matter; the route is there, with the attributes of as
	as    [][]byte // what the decoder makes of it
}

// longest is what fits into a message beside what else is in it.
const longest = 3600

// tableCases are those of one attribute in the announcement of a prefix.
func tableCases(typ uint8, s sender, prefix string) (cases []tableCase) {
	r := ruleFor(typ)
	rest := slices.DeleteFunc(s.well(prefix), func(a []byte) bool { return a[1] == typ })
	add := func(name string, fate remedy, lives bool, as [][]byte, raw ...[]byte) {
		for i, where := range []string{"first", "in the middle", "last"} {
			list := slices.Insert(slices.Clone(rest), i*len(rest)/2, raw...)
			cases = append(cases, tableCase{fmt.Sprintf("%s %s %s", r.name, name, where), list, fate, lives, as})
		}
	}
	with := func(v []byte) [][]byte { return append(slices.Clone(rest), at(r.flags, typ, v...)) }
	// one adds a case of a value; well says that it is well-formed if its length is.
	one := func(name string, v []byte, well bool) {
		ok := well && r.lengths(s.as4).fit(len(v))
		needed := r.needed(s.decoder(), !strings.Contains(prefix, ":"))
		switch {
		case !r.takes(s.decoder()):
			add(name, discard, true, rest, at(r.flags, typ, v...))
		case ok:
			add(name, discard, true, with(v), at(r.flags, typ, v...))
		case r.malformed == discard && !needed:
			add(name, discard, true, rest, at(r.flags, typ, v...))
		default:
			add(name, r.malformed, false, nil, at(r.flags, typ, v...))
		}
	}
	want := r.lengths(s.as4)
	base := max(want.min, want.unit)
	switch typ {
	case attrASPath, attrAS4Path:
		base = len(segments(1, s.as4 || typ == attrAS4Path))
	case attrMPReach, attrMPUnreach:
		base = len(sample(typ, 60, s))
	}
	good := sample(typ, base, s)
	most := min(want.max, longest/want.unit*want.unit)
	if want.max == unbounded {
		most = len(sample(typ, most, s))
	}
	if typ == attrASPath && s.ebgp {
		// Of no octets it is well-formed, and no eBGP peer's (RFC 4271 section 6.3).
		cases = append(cases, tableCase{name: "AS_PATH length 0", list: with(nil), lives: true, as: with(nil)})
	} else {
		one("length 0", nil, true)
	}
	if len(good) > 1 {
		one("one octet less", good[:len(good)-1], false)
	}
	if want.max != base {
		one("well-formed", good, true)
	}
	one("one octet more", append(slices.Clone(good), 129), false)
	one("longest", sample(typ, most, s), true)
	one("longest and one more", append(sample(typ, most, s), 129), false)
	huge := slices.Repeat([]byte{255}, longest)
	if r.parse == nil {
		copy(huge, []byte{0, 2, 1}) // of a family that is ours, or nobody looks
	}
	one("longest of ones", huge, want.max == unbounded && typ != attrASPath && typ != attrAS4Path && r.parse != nil)

	for _, bit := range []struct {
		name string
		flip uint8
	}{{"Optional bit wrong", flagOptional}, {"Transitive bit wrong", flagTransitive}, {"both wrong", optionalTransitive}} {
		if !r.takes(s.decoder()) {
			add(bit.name, discard, true, rest, at(r.flags^bit.flip, typ, good...))
		} else {
			add(bit.name, withdraw, false, nil, at(r.flags^bit.flip, typ, good...))
		}
	}
	if r.takes(s.decoder()) {
		// The other flags say nothing about the route.
		add("Partial bit", discard, true, with(good), at(r.flags|0x20, typ, good...))
		add("low bits", discard, true, with(good), at(r.flags|0x0f, typ, good...))
		add("extended length", discard, true, with(good), cat([]byte{r.flags | flagExtended, typ, byte(len(good) >> 8), byte(len(good))}, good))
		second := at(r.flags, typ, sample(typ, base, s)...)
		second[len(second)-1] ^= 1
		add("twice", r.again, r.again == discard, with(good), at(r.flags, typ, good...), second)
		add("twice, the second malformed", r.again, r.again == discard, with(good), at(r.flags, typ, good...), at(r.flags^optionalTransitive, typ, 1, 2, 3, 4, 5))
	}
	if r.needed(s.decoder(), !strings.Contains(prefix, ":")) {
		cases = append(cases, tableCase{name: r.name + " missing", list: rest, fate: withdraw})
	}
	return cases
}

// every calls fn for every attribute, every kind of sender and both families,
// except for MP_REACH_NLRI with IPv6: there it stands beside an IPv4 route.
func every(fn func(typ uint8, s sender, prefix string)) {
	for typ := range attrRules {
		for i := range 4 {
			for _, prefix := range []string{"10.50.0.0/24", "fd50::/64"} {
				if ruleFor(uint8(typ)) != nil && (typ != attrMPReach || prefix[0] != 'f') {
					fn(uint8(typ), sender{ebgp: i&1 != 0, as4: i&2 == 0}, prefix)
				}
			}
		}
	}
}

// RFC 7606: the decoder does what the table says, and nothing of what is
// discarded is left in the route.
func TestRFC7606_TableDecoder(t *testing.T) {
	t.Parallel()
	cases := 0
	every(func(typ uint8, s sender, prefix string) {
		for _, c := range tableCases(typ, s, prefix) {
			cases++
			var u, as update
			n := s.decoder().decode(announce(prefix, c.list)[headerLen:], &u)
			if c.as != nil {
				if n := s.decoder().decode(announce(prefix, c.as)[headerLen:], &as); n != nil || as.treated {
					t.Fatalf("%v %s %s: what it should be is malformed: %v %s", s, prefix, c.name, n, as.problem)
				}
			}
			pfx := netip.MustParsePrefix(prefix)
			there := func(list []pathRef) bool { return slices.Contains(list, pathRef{prefix: pfx}) }
			switch {
			case !c.lives && c.fate == reset:
				if n == nil {
					t.Errorf("%v %s %s: no session reset", s, prefix, c.name)
				}
			case n != nil:
				t.Errorf("%v %s %s: session reset: %v", s, prefix, c.name, n)
			case !c.lives:
				if !u.treated || there(u.reach) || there(u.mpReach) || !there(u.withdrawn) {
					t.Errorf("%v %s %s: not treated as withdrawal: %+v", s, prefix, c.name, u)
				}
			case u.treated:
				t.Errorf("%v %s %s: treated as withdrawal: %s", s, prefix, c.name, u.problem)
			case keyOf(&u) != keyOf(&as):
				t.Errorf("%v %s %s:\n%x, want\n%x", s, prefix, c.name, keyOf(&u), keyOf(&as))
			}
		}
	})
	t.Logf("%d cases", cases)
}

// keyOf is what an UPDATE announces, canonically.
func keyOf(u *update) string {
	key := ""
	if u.attrs != nil {
		key += string(u.attrs.appendKey(nil))
	}
	if u.mpAttrs != nil {
		key += "|" + string(u.mpAttrs.appendKey(nil))
	}
	return key
}

// B01: the same on sessions, IPv4 and IPv6 on one, iBGP and eBGP: the route is
// gone, also one that was there before, or lives; a sentinel after each shows that
// the next message is understood; and the session survives unless the table
// says reset.
func TestB01_RFC7606_TableSessions(t *testing.T) {
	t.Parallel()
	for _, s := range []sender{{false, true}, {true, true}} {
		asn := uint32(64512)
		if s.ebgp {
			asn = 65001
		}
		n, r := rawTarget(t, asn, Options{})
		r.establish(n, asn)
		var resets []tableCase
		cases := 0
		every(func(typ uint8, from sender, prefix string) {
			if from != s {
				return
			}
			for _, c := range tableCases(typ, s, prefix) {
				if !c.lives && c.fate == reset {
					c.list = [][]byte{announce(prefix, c.list)}
					resets = append(resets, c)
					continue
				}
				cases++
				sentinel := fmt.Sprintf("fd60:%x::/64", cases)
				r.write(announce(prefix, append(s.well(prefix), at(flagOptional, attrMED, 0, 0, 0, 77))))
				r.write(announce(prefix, c.list))
				r.write(announce(sentinel, s.well(sentinel)))
				n.waitHops(sentinel, "fd99::9")
				routes := n.Routes(RouteFilter{View: ViewReceived, Prefix: netip.MustParsePrefix(prefix)})
				switch {
				case c.lives && (len(routes) != 1 || routes[0].MED == 77 && routes[0].HasMED):
					t.Errorf("%v %s %s: not there: %+v", s, prefix, c.name, routes)
				case !c.lives && len(routes) != 0:
					t.Errorf("%v %s %s: still there: %+v", s, prefix, c.name, routes)
				}
			}
		})
		if p := n.peer(r.addr); p.Established != 1 || p.State != "Established" {
			t.Fatalf("%v: needless reset: %+v", s, p)
		}
		for _, c := range resets {
			n, r := rawTarget(t, asn, Options{})
			r.establish(n, asn)
			r.write(c.list[0])
			if code, sub := r.readNote(); code != codeUpdate || sub != subAttrList && sub != subOptionalAttr {
				t.Errorf("%v %s: NOTIFICATION %d/%d", s, c.name, code, sub)
			}
			_ = r.nc.Close()
			n.stop()
		}
		t.Logf("%v: %d cases on one session, %d with a reset", s, cases, len(resets))
	}
}

// The page of the documentation says what the table says.
func TestRFC7606_Page(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| type | attribute | flags | length | malformed | a second time | has to be there | not taken from | RFC |\n|---|---|---|---|---|---|---|---|---|\n")
	for typ := range attrRules {
		r := ruleFor(uint8(typ))
		if r == nil {
			continue
		}
		kind := map[uint8]string{flagTransitive: "well-known", flagOptional: "optional", optionalTransitive: "optional transitive"}[r.flags]
		size := r.length.String()
		if r.length2 != (lengths{}) {
			size = fmt.Sprintf("%v, or %v where AS numbers have two octets", r.length, r.length2)
		}
		rfc := r.rfc
		if rfc[0] != 'R' {
			rfc = "RFC 7606 " + rfc
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %v | %v | %s | %s | %s |\n", typ, r.name, kind, size, r.malformed, r.again,
			[]string{"", "yes", "with IPv4 routes in the NLRI field", "from iBGP peers"}[r.present],
			[]string{"", "eBGP peers", "peers with four-octet AS numbers"}[r.from], rfc)
	}
	b.WriteString("\n")
	checkPage(t, "../../docs/bgp-errors.md", b.String())
}
