// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// The values of attributes. The table (attrtable.go) has seen to it that their
// length is legal, and says what becomes of an error.

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

func parseOrigin(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	if v[0] > 2 {
		return errValue
	}
	a.origin = v[0]
	return nil
}

func parseASPath(v []byte, as4 bool, a *attrs, _ *auxAttrs) error {
	path, err := parsePath(v, as4)
	if err == nil {
		a.path = path
	}
	return err
}

func parseNextHop(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.nextHop = netip.AddrFrom4([4]byte(v))
	return nil
}

func parseMED(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.med, a.hasMED = binary.BigEndian.Uint32(v), true
	return nil
}

func parseLocalPref(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.localPref, a.hasLocalPref = binary.BigEndian.Uint32(v), true
	return nil
}

func parseAtomic(_ []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.atomic = true
	return nil
}

func parseAggregator(v []byte, as4 bool, a *attrs, _ *auxAttrs) error {
	as := uint32(binary.BigEndian.Uint16(v))
	if as4 {
		as = binary.BigEndian.Uint32(v)
	}
	if as == 0 { // RFC 7607
		return errValue
	}
	a.hasAggregator, a.aggrAS, a.aggrAddr = true, as, [4]byte(v[len(v)-4:])
	return nil
}

func parseCommunities(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.comms = parseList32(v)
	return nil
}

func parseOriginatorID(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.originator, a.hasOriginator = binary.BigEndian.Uint32(v), true
	return nil
}

func parseClusterList(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.clusters = parseList32(v)
	return nil
}

func parseExtended(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.ext = make([][8]byte, 0, len(v)/8)
	for ; len(v) > 0; v = v[8:] {
		a.ext = append(a.ext, [8]byte(v))
	}
	return nil
}

func parseAS4Path(v []byte, _ bool, _ *attrs, aux *auxAttrs) (err error) {
	aux.as4Path, err = parsePath(v, true)
	return err
}

func parseAS4Aggregator(v []byte, _ bool, _ *attrs, aux *auxAttrs) error {
	aux.as4AggAS, aux.as4AggIP = binary.BigEndian.Uint32(v), [4]byte(v[4:])
	if aux.as4AggAS == 0 { // RFC 7607
		return errValue
	}
	aux.as4Aggr = true
	return nil
}

func parseLarge(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.large = make([][3]uint32, 0, len(v)/12)
	for ; len(v) > 0; v = v[12:] {
		a.large = append(a.large, [3]uint32{
			binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), binary.BigEndian.Uint32(v[8:])})
	}
	return nil
}

// parseList32 reads a list of four-octet values.
func parseList32(v []byte) []uint32 {
	out := make([]uint32, 0, len(v)/4)
	for ; len(v) > 0; v = v[4:] {
		out = append(out, binary.BigEndian.Uint32(v))
	}
	return out
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

func parseOTC(v []byte, _ bool, a *attrs, _ *auxAttrs) error {
	a.otc, a.hasOTC = binary.BigEndian.Uint32(v), true
	return nil
}
