// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// What is done about an error in a path attribute: RFC 7606 section 2, as a
// table instead of code paths.
type severity uint8

const (
	discard  severity = iota // the attribute is dropped, the route lives
	withdraw                 // treat-as-withdraw: the routes of the UPDATE go
)

// attrRule is what is known of one attribute type.
type attrRule struct {
	name     string
	flags    uint8    // Optional and Transitive bits it must have
	severity severity // for a malformed value (RFC 7606 section 7, RFC 6793, RFC 8092)
	ibgpOnly bool     // from an eBGP peer it is discarded unread
	parse    func(v []byte, as4 bool, a *attrs, aux *auxAttrs) error
}

// auxAttrs holds what does not become part of a route as it is.
type auxAttrs struct {
	as4Path  []segment
	as4Aggr  bool
	as4AggAS uint32
	as4AggIP [4]byte
}

var (
	errLength = errors.New("illegal length")
	errValue  = errors.New("illegal value")
)

// ruleFor returns the rule of an attribute type, nil for a type that is not
// known. MP_REACH_NLRI and MP_UNREACH_NLRI are not here: they carry routes and
// are read with them (update.go).
func ruleFor(typ uint8) *attrRule {
	if int(typ) < len(attrRules) && attrRules[typ].parse != nil {
		return &attrRules[typ]
	}
	return nil
}

var attrRules = [...]attrRule{
	attrOrigin: {"ORIGIN", flagTransitive, withdraw, false, func(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
		if len(v) != 1 {
			return errLength
		}
		if v[0] > 2 {
			return errValue
		}
		a.origin = v[0]
		return nil
	}},
	attrASPath: {"AS_PATH", flagTransitive, withdraw, false, func(v []byte, as4 bool, a *attrs, _ *auxAttrs) (err error) {
		a.path, err = parsePath(v, as4)
		return err
	}},
	attrNextHop: {"NEXT_HOP", flagTransitive, withdraw, false, func(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
		if len(v) != 4 {
			return errLength
		}
		a.nextHop = netip.AddrFrom4([4]byte(v))
		return nil
	}},
	attrMED: {"MULTI_EXIT_DISC", flagOptional, withdraw, false, func(v []byte, _ bool, a *attrs, _ *auxAttrs) (err error) {
		a.med, err = parse32(v)
		a.hasMED = true
		return err
	}},
	attrLocalPref: {"LOCAL_PREF", flagTransitive, withdraw, true, func(v []byte, _ bool, a *attrs, _ *auxAttrs) (err error) {
		a.localPref, err = parse32(v)
		a.hasLocalPref = true
		return err
	}},
	attrAtomic: {"ATOMIC_AGGREGATE", flagTransitive, discard, false, func(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
		if len(v) != 0 {
			return errLength
		}
		a.atomic = true
		return nil
	}},
	attrAggregator: {"AGGREGATOR", flagOptional | flagTransitive, discard, false, func(v []byte, as4 bool, a *attrs, _ *auxAttrs) error {
		switch {
		case as4 && len(v) == 8:
			a.aggrAS = binary.BigEndian.Uint32(v)
			a.aggrAddr = [4]byte(v[4:])
		case !as4 && len(v) == 6:
			a.aggrAS = uint32(binary.BigEndian.Uint16(v))
			a.aggrAddr = [4]byte(v[2:])
		default:
			return errLength
		}
		if a.aggrAS == 0 { // RFC 7607
			return errValue
		}
		a.hasAggregator = true
		return nil
	}},
	attrCommunities: {"COMMUNITIES", flagOptional | flagTransitive, withdraw, false, func(v []byte, _ bool, a *attrs, _ *auxAttrs) (err error) {
		a.comms, err = parseList32(v)
		return err
	}},
	attrOriginatorID: {"ORIGINATOR_ID", flagOptional, withdraw, true, func(v []byte, _ bool, a *attrs, _ *auxAttrs) (err error) {
		a.originator, err = parse32(v)
		a.hasOriginator = true
		return err
	}},
	attrClusterList: {"CLUSTER_LIST", flagOptional, withdraw, true, func(v []byte, _ bool, a *attrs, _ *auxAttrs) (err error) {
		a.clusters, err = parseList32(v)
		return err
	}},
	attrExtComm: {"EXTENDED_COMMUNITIES", flagOptional | flagTransitive, withdraw, false, func(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
		if len(v) == 0 || len(v)%8 != 0 {
			return errLength
		}
		a.ext = make([][8]byte, 0, len(v)/8)
		for ; len(v) > 0; v = v[8:] {
			a.ext = append(a.ext, [8]byte(v))
		}
		return nil
	}},
	attrAS4Path: {"AS4_PATH", flagOptional | flagTransitive, discard, false, func(v []byte, as4 bool, _ *attrs, aux *auxAttrs) (err error) {
		if as4 {
			return errValue // RFC 6793 section 4.1: a four-octet speaker must not send it
		}
		aux.as4Path, err = parsePath(v, true)
		return err
	}},
	attrAS4Aggr: {"AS4_AGGREGATOR", flagOptional | flagTransitive, discard, false, func(v []byte, as4 bool, _ *attrs, aux *auxAttrs) error {
		if as4 {
			return errValue
		}
		if len(v) != 8 {
			return errLength
		}
		aux.as4AggAS = binary.BigEndian.Uint32(v)
		aux.as4AggIP = [4]byte(v[4:])
		aux.as4Aggr = aux.as4AggAS != 0
		return nil
	}},
	attrLargeComm: {"LARGE_COMMUNITY", flagOptional | flagTransitive, withdraw, false, func(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
		if len(v) == 0 || len(v)%12 != 0 {
			return errLength
		}
		a.large = make([][3]uint32, 0, len(v)/12)
		for ; len(v) > 0; v = v[12:] {
			a.large = append(a.large, [3]uint32{
				binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), binary.BigEndian.Uint32(v[8:])})
		}
		return nil
	}},
}

func parse32(v []byte) (uint32, error) {
	if len(v) != 4 {
		return 0, errLength
	}
	return binary.BigEndian.Uint32(v), nil
}

// parseList32 reads a non-empty list of four-octet values.
func parseList32(v []byte) ([]uint32, error) {
	if len(v) == 0 || len(v)%4 != 0 {
		return nil, errLength
	}
	out := make([]uint32, 0, len(v)/4)
	for ; len(v) > 0; v = v[4:] {
		out = append(out, binary.BigEndian.Uint32(v))
	}
	return out, nil
}

// parsePath reads AS_PATH segments: RFC 7606 section 7.2 names what is
// malformed, RFC 7607 adds AS 0. Confederation segments are malformed for
// us, because no session is inside a confederation (RFC 5065 section 5).
func parsePath(v []byte, as4 bool) ([]segment, error) {
	size := 2
	if as4 {
		size = 4
	}
	var path []segment
	for len(v) > 0 {
		if len(v) < 2 {
			return nil, errLength
		}
		typ, n := v[0], int(v[1])
		if typ != segSet && typ != segSequence {
			return nil, fmt.Errorf("segment type %d: %w", typ, errValue)
		}
		if n == 0 || len(v) < 2+n*size {
			return nil, errLength
		}
		s := segment{typ, make([]uint32, n)}
		for i := range n {
			if as4 {
				s.as[i] = binary.BigEndian.Uint32(v[2+i*4:])
			} else {
				s.as[i] = uint32(binary.BigEndian.Uint16(v[2+i*2:]))
			}
			if s.as[i] == 0 {
				return nil, fmt.Errorf("AS 0: %w", errValue)
			}
		}
		path = append(path, s)
		v = v[2+n*size:]
	}
	return path, nil
}

// mergeAS4 rebuilds the true path and aggregator of a peer with two-octet AS
// numbers: RFC 6793 section 4.2.3.
func (a *attrs) mergeAS4(aux *auxAttrs) {
	if a.hasAggregator && aux.as4Aggr {
		if a.aggrAS != asTrans {
			return // the rule: then AS4_AGGREGATOR and AS4_PATH are both ignored
		}
		a.aggrAS, a.aggrAddr = aux.as4AggAS, aux.as4AggIP
	}
	if len(aux.as4Path) == 0 {
		return
	}
	short := (&attrs{path: aux.as4Path}).pathLen()
	lead := a.pathLen() - short
	if lead < 0 {
		return
	}
	var path []segment
	for _, s := range a.path {
		if lead == 0 {
			break
		}
		if s.typ == segSet {
			path = append(path, s)
			lead--
			continue
		}
		n := min(lead, len(s.as))
		path = append(path, segment{s.typ, s.as[:n:n]})
		lead -= n
	}
	for i, s := range aux.as4Path {
		if last := len(path) - 1; i == 0 && last >= 0 && s.typ == segSequence && path[last].typ == segSequence && len(path[last].as)+len(s.as) <= 255 {
			path[last].as = append(path[last].as, s.as...)
			continue
		}
		path = append(path, s)
	}
	a.path = path
}
