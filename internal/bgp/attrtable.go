// SPDX-License-Identifier: Apache-2.0

package bgp

import "fmt"

// What is done about an error in a path attribute: RFC 7606 as a table. The
// decoder (update.go) knows no attribute by itself, docs/bgp-errors.md is
// written from the table, and the tests of errors are made from it.

// remedy is one of the approaches of RFC 7606 section 2. "AFI/SAFI disable" is
// not among them: wherever it may be used "session reset" may be, too, and that
// is over when both ends have exchanged their tables again, where a family that
// was disabled stays away until somebody notices.
type remedy uint8

const (
	discard  remedy = iota // attribute discard: the route lives without it
	withdraw               // treat-as-withdraw: the routes of the UPDATE go
	reset                  // session reset: the routes cannot be located
)

func (r remedy) String() string {
	return [...]string{"attribute discard", "treat-as-withdraw", "session reset"}[r]
}

// lengths are those that the value of an attribute may have: at least min
// octets, at most max, and a multiple of unit.
type lengths struct{ min, max, unit int }

// unbounded is more than a message holds.
const unbounded = 1 << 16

func exactly(n int) lengths { return lengths{n, n, 1} }
func atLeast(n int) lengths { return lengths{n, unbounded, 1} }
func listOf(n int) lengths  { return lengths{n, unbounded, n} } // of one element or more

func (l lengths) fit(n int) bool { return n >= l.min && n <= l.max && n%l.unit == 0 }

func (l lengths) String() string {
	switch {
	case l.min == l.max:
		return fmt.Sprint(l.min)
	case l.unit > 1 && l.min == l.unit:
		return fmt.Sprintf("multiple of %d, not 0", l.unit)
	case l.unit > 1:
		return fmt.Sprintf("multiple of %d", l.unit)
	}
	return fmt.Sprintf("at least %d", l.min)
}

// presence says when an attribute has to be there. What lacks it is treated as
// withdrawal (RFC 7606 section 3 d).
type presence uint8

const (
	optional   presence = iota
	mandatory           // in every UPDATE that announces
	withNLRI            // where the NLRI field is not empty
	fromInside          // from an iBGP peer
)

// senders are those from whom an attribute is taken. Others have it discarded
// unread.
type senders uint8

const (
	anybody  senders = iota
	inside           // iBGP peers
	twoOctet         // peers without four-octet AS numbers
)

// attrRule is what is known of one attribute type.
type attrRule struct {
	name      string
	flags     uint8    // Optional and Transitive bits; others: treat-as-withdraw (RFC 7606 section 3 c)
	length    lengths  // where two-octet AS numbers make another one: length2
	length2   lengths  //
	malformed remedy   // of another length, or with a value that parse refuses
	again     remedy   // there a second time (RFC 7606 section 3 g)
	present   presence //
	from      senders  //
	rfc       string   // where malformed, from and present are said; without a name, of RFC 7606
	parse     func(v []byte, as4 bool, a *attrs, aux *auxAttrs) error
}

const optionalTransitive = flagOptional | flagTransitive

// attrRules by type. A type without a name is not known. MP_REACH_NLRI and
// MP_UNREACH_NLRI carry routes and are read with them: they have no parse.
var attrRules = [...]attrRule{
	attrOrigin:       {name: "ORIGIN", flags: flagTransitive, length: exactly(1), malformed: withdraw, present: mandatory, rfc: "7.1", parse: parseOrigin},
	attrASPath:       {name: "AS_PATH", flags: flagTransitive, length: lengths{0, unbounded, 2}, malformed: withdraw, present: mandatory, rfc: "7.2; RFC 7607 2", parse: parseASPath},
	attrNextHop:      {name: "NEXT_HOP", flags: flagTransitive, length: exactly(4), malformed: withdraw, present: withNLRI, rfc: "7.3", parse: parseNextHop},
	attrMED:          {name: "MULTI_EXIT_DISC", flags: flagOptional, length: exactly(4), malformed: withdraw, rfc: "7.4", parse: parseMED},
	attrLocalPref:    {name: "LOCAL_PREF", flags: flagTransitive, length: exactly(4), malformed: withdraw, present: fromInside, from: inside, rfc: "7.5", parse: parseLocalPref},
	attrAtomic:       {name: "ATOMIC_AGGREGATE", flags: flagTransitive, length: exactly(0), malformed: discard, rfc: "7.6", parse: parseAtomic},
	attrAggregator:   {name: "AGGREGATOR", flags: optionalTransitive, length: exactly(8), length2: exactly(6), malformed: discard, rfc: "7.7; RFC 7607 2", parse: parseAggregator},
	attrCommunities:  {name: "COMMUNITIES", flags: optionalTransitive, length: listOf(4), malformed: withdraw, rfc: "7.8", parse: parseCommunities},
	attrOriginatorID: {name: "ORIGINATOR_ID", flags: flagOptional, length: exactly(4), malformed: withdraw, from: inside, rfc: "7.9", parse: parseOriginatorID},
	attrClusterList:  {name: "CLUSTER_LIST", flags: flagOptional, length: listOf(4), malformed: withdraw, from: inside, rfc: "7.10", parse: parseClusterList},
	attrMPReach:      {name: "MP_REACH_NLRI", flags: flagOptional, length: atLeast(5), malformed: reset, again: reset, rfc: "5.3, 7.11"},
	attrMPUnreach:    {name: "MP_UNREACH_NLRI", flags: flagOptional, length: atLeast(3), malformed: reset, again: reset, rfc: "5.3, 7.12"},
	attrExtComm:      {name: "EXTENDED_COMMUNITIES", flags: optionalTransitive, length: listOf(8), malformed: withdraw, rfc: "7.14", parse: parseExtended},
	attrAS4Path:      {name: "AS4_PATH", flags: optionalTransitive, length: lengths{0, unbounded, 2}, malformed: discard, from: twoOctet, rfc: "RFC 6793 4.1, 6", parse: parseAS4Path},
	attrAS4Aggr:      {name: "AS4_AGGREGATOR", flags: optionalTransitive, length: exactly(8), malformed: discard, from: twoOctet, rfc: "RFC 6793 4.1, 6", parse: parseAS4Aggregator},
	attrLargeComm:    {name: "LARGE_COMMUNITY", flags: optionalTransitive, length: listOf(12), malformed: withdraw, rfc: "RFC 8092 6", parse: parseLarge},
	attrOTC:          {name: "ONLY_TO_CUSTOMER", flags: optionalTransitive, length: exactly(4), malformed: withdraw, rfc: "RFC 9234 5", parse: parseOTC},
}

// neededTypes are those that some UPDATE has to have.
var neededTypes = func() (list []uint8) {
	for typ, r := range attrRules {
		if r.present != optional {
			list = append(list, uint8(typ))
		}
	}
	return list
}()

// ruleFor returns the rule of an attribute type, nil for a type that is not
// known.
func ruleFor(typ uint8) *attrRule {
	if int(typ) < len(attrRules) && attrRules[typ].name != "" {
		return &attrRules[typ]
	}
	return nil
}

// read puts a value into a, or what does not belong to the route into aux. With
// an error both are as before.
func (r *attrRule) read(v []byte, as4 bool, a *attrs, aux *auxAttrs) error {
	if want := r.lengths(as4); !want.fit(len(v)) {
		return fmt.Errorf("length %d, want %v", len(v), want)
	}
	return r.parse(v, as4, a, aux)
}

// lengths are those that a peer may send, by the size of its AS numbers.
func (r *attrRule) lengths(as4 bool) lengths {
	if !as4 && r.length2 != (lengths{}) {
		return r.length2
	}
	return r.length
}

// takes reports whether the attribute is taken from the decoder's peer.
func (r *attrRule) takes(d *decoder) bool {
	return r.from == anybody || r.from == inside && !d.ebgp || r.from == twoOctet && !d.as4
}

// needed reports whether the attribute has to be there, with or without routes in
// the NLRI field.
func (r *attrRule) needed(d *decoder, nlri bool) bool {
	return r.present == mandatory || r.present == withNLRI && nlri || r.present == fromInside && !d.ebgp
}
