// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// family is an address family as an array index; SAFI is always unicast.
type family uint8

const (
	v4 family = iota
	v6
	numFamilies
)

func (f family) String() string {
	if f == v4 {
		return "ipv4-unicast"
	}
	return "ipv6-unicast"
}

func (f family) afi() uint16 { return uint16(f) + 1 }

func (f family) wire() wire.Family { return wire.NewFamily(f.afi(), 1) }

func (f family) bits() int {
	if f == v4 {
		return 32
	}
	return 128
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// familyFrom maps AFI and SAFI of the wire; ok is false for any other than
// IPv4 and IPv6 unicast.
func familyFrom(afi uint16, safi uint8) (f family, ok bool) {
	if safi != 1 || afi < 1 || afi > 2 {
		return 0, false
	}
	return family(afi - 1), true
}

// familySet is a set of families.
type familySet [numFamilies]bool

func (s familySet) names() []string {
	var out []string
	for f := range numFamilies {
		if s[f] {
			out = append(out, f.String())
		}
	}
	return out
}

const asTrans = 23456

// openParams is what we put into an OPEN.
type openParams struct {
	asn         uint32
	id          netip.Addr
	hold        time.Duration
	families    familySet
	restarting  bool          // R bit
	forwarding  bool          // F bit of every family
	restartTime time.Duration // 0: graceful restart is not offered

	addPathReceive, addPathSend bool
	extNextHop                  bool // IPv4 routes with IPv6 next hops
	role                        Role // 0: none is said
}

// marshal encodes the OPEN: multiprotocol (RFC 4760), route refresh
// (RFC 2918) and its enhancement (RFC 7313), four-octet AS (RFC 6793), graceful restart (RFC 4724), ADD-PATH
// (RFC 7911), extended next hop encoding (RFC 8950), role (RFC 9234).
func (p openParams) marshal() ([]byte, error) {
	var caps []wire.ParameterCapabilityInterface
	var tuples []*wire.CapGracefulRestartTuple
	for f := range numFamilies {
		if p.families[f] {
			caps = append(caps, wire.NewCapMultiProtocol(f.wire()))
			tuples = append(tuples, wire.NewCapGracefulRestartTuple(f.wire(), p.forwarding))
		}
	}
	caps = append(caps, wire.NewCapRouteRefresh(), wire.NewCapEnhancedRouteRefresh(), wire.NewCapFourOctetASNumber(p.asn))
	if secs := min(int(p.restartTime/time.Second), 4095); secs > 0 {
		caps = append(caps, wire.NewCapGracefulRestart(p.restarting, false, uint16(secs), tuples))
	}
	if p.extNextHop && p.families[v4] {
		caps = append(caps, wire.NewCapExtendedNexthop([]*wire.CapExtendedNexthopTuple{wire.NewCapExtendedNexthopTuple(v4.wire(), v6.afi())}))
	}
	mode := wire.BGPAddPathMode(0)
	if p.addPathReceive {
		mode |= wire.BGP_ADD_PATH_RECEIVE
	}
	if p.addPathSend {
		mode |= wire.BGP_ADD_PATH_SEND
	}
	if mode != 0 {
		var tuples []*wire.CapAddPathTuple
		for f := range numFamilies {
			if p.families[f] {
				tuples = append(tuples, wire.NewCapAddPathTuple(f.wire(), mode))
			}
		}
		caps = append(caps, wire.NewCapAddPath(tuples))
	}
	if p.role != 0 {
		caps = append(caps, wire.NewCapUnknown(capRole, []byte{p.role.wire()}))
	}
	as2 := uint16(asTrans)
	if p.asn < 1<<16 {
		as2 = uint16(p.asn)
	}
	m, err := wire.NewBGPOpenMessage(as2, uint16(min(p.hold/time.Second, 65535)), p.id,
		[]wire.OptionParameterInterface{wire.NewOptionParameterCapability(caps)})
	if err != nil {
		return nil, fmt.Errorf("encode OPEN: router ID %s: %w", p.id, err)
	}
	return m.Serialize()
}

// openMessage is a decoded OPEN.
type openMessage struct {
	asn      uint32 // four octets when the peer has the capability
	id       netip.Addr
	hold     time.Duration
	families familySet
	as4      bool
	refresh  bool
	enhanced bool // route refresh has markers (RFC 7313)

	gr           bool
	grRestarting bool // R bit
	grTime       time.Duration
	grFamilies   familySet // families in the capability
	grForward    familySet // with the F bit

	addPathSend    familySet // the peer is able to send several paths
	addPathReceive familySet // and to receive them

	extNextHop bool // IPv4 unicast with IPv6 next hops (RFC 8950)
	role       Role
	roles      int // how many different ones
}

// decodeOpen reads the body of an OPEN. The structure of parameters and
// capabilities is walked here, with every length checked against what contains
// it; the codec sees one capability at a time and nothing beyond it. A
// capability that is malformed inside its own length is ignored, as one that
// is unknown (RFC 5492 section 4).
func decodeOpen(b []byte) (*openMessage, *notification) {
	bad := func(sub uint8, format string, a ...any) (*openMessage, *notification) {
		return nil, &notification{code: codeOpen, sub: sub, reason: fmt.Sprintf(format, a...)}
	}
	if len(b) < 10 {
		return bad(0, "too short")
	}
	if b[0] != 4 {
		n := &notification{code: codeOpen, sub: subVersion, data: []byte{0, 4}, reason: fmt.Sprintf("version %d", b[0])}
		return nil, n
	}
	as2 := binary.BigEndian.Uint16(b[1:3])
	hold := binary.BigEndian.Uint16(b[3:5])
	m := &openMessage{
		asn:  uint32(as2),
		hold: time.Duration(hold) * time.Second,
		id:   netip.AddrFrom4([4]byte(b[5:9])),
	}
	if hold == 1 || hold == 2 {
		return bad(subHoldTime, "hold time %d s is unacceptable", hold)
	}
	if m.id.IsUnspecified() {
		return bad(subIdentifier, "BGP identifier is 0.0.0.0")
	}
	params, ext := b[10:], false
	total := int(b[9])
	if total == 255 && len(params) >= 3 && params[0] == 255 { // RFC 9072
		ext = true
		total = int(binary.BigEndian.Uint16(params[1:3]))
		params = params[3:]
	}
	if total != len(params) {
		return bad(0, "optional parameters take %d octets, %d present", total, len(params))
	}
	multiprotocol := false
	for len(params) > 0 {
		head := 2
		if ext {
			head = 3
		}
		if len(params) < head {
			return bad(0, "optional parameter is cut off")
		}
		typ, l := params[0], int(params[1])
		if ext {
			l = int(binary.BigEndian.Uint16(params[1:3]))
		}
		if len(params) < head+l {
			return bad(0, "optional parameter %d is cut off", typ)
		}
		if typ != 2 {
			return bad(subOptParam, "optional parameter %d is not known", typ)
		}
		if !m.capabilities(params[head:head+l], &multiprotocol) {
			return bad(0, "capability is cut off")
		}
		params = params[head+l:]
	}
	if !multiprotocol {
		m.families[v4] = true // RFC 4760 section 8: without the capability, plain IPv4
	}
	if m.asn == 0 {
		return bad(subPeerAS, "AS number is 0") // RFC 7607
	}
	return m, nil
}

// capabilities reads the value of one capabilities parameter; it reports false
// when a capability does not fit.
func (m *openMessage) capabilities(b []byte, multiprotocol *bool) bool {
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return false
		}
		one := b[:2+int(b[1])]
		b = b[len(one):]
		c, err := wire.DecodeCapability(one)
		if err != nil {
			continue
		}
		switch c := c.(type) {
		case *wire.CapMultiProtocol:
			*multiprotocol = true
			if f, ok := familyFrom(c.CapValue.Afi(), c.CapValue.Safi()); ok {
				m.families[f] = true
			}
		case *wire.CapFourOctetASNumber:
			m.as4, m.asn = true, c.CapValue
		case *wire.CapRouteRefresh:
			m.refresh = true
		case *wire.CapEnhancedRouteRefresh:
			m.enhanced = true
		case *wire.CapGracefulRestart:
			m.gr = true
			m.grRestarting = c.Flags&0x8 != 0
			m.grTime = time.Duration(c.Time) * time.Second
			for _, t := range c.Tuples {
				if f, ok := familyFrom(t.AFI, t.SAFI); ok {
					m.grFamilies[f] = true
					m.grForward[f] = t.Flags&0x80 != 0
				}
			}
		case *wire.CapExtendedNexthop:
			for _, t := range c.Tuples {
				if f, ok := familyFrom(t.NLRIAFI, uint8(t.NLRISAFI)); ok && f == v4 && t.NexthopAFI == v6.afi() {
					m.extNextHop = true
				}
			}
		case *wire.CapUnknown:
			if c.Code() == capRole && len(c.CapValue) == 1 {
				if r := roleFrom(c.CapValue[0]); m.roles == 0 || r != m.role {
					m.role, m.roles = r, m.roles+1
				}
			}
		case *wire.CapAddPath:
			for _, t := range c.Tuples {
				f, ok := familyFrom(t.Family.Afi(), t.Family.Safi())
				if ok && t.Mode >= wire.BGP_ADD_PATH_RECEIVE && t.Mode <= wire.BGP_ADD_PATH_BOTH { // others are ignored, section 4
					m.addPathReceive[f] = t.Mode&wire.BGP_ADD_PATH_RECEIVE != 0
					m.addPathSend[f] = t.Mode&wire.BGP_ADD_PATH_SEND != 0
				}
			}
		}
	}
	return true
}

// accept checks a decoded OPEN against what is configured: RFC 4271
// section 6.2, RFC 6286 section 2.2.
func (m *openMessage) accept(wantAS, localAS uint32, localID netip.Addr) *notification {
	if m.asn != wantAS {
		return &notification{code: codeOpen, sub: subPeerAS, reason: fmt.Sprintf("peer says AS %d, configured is %d", m.asn, wantAS)}
	}
	if wantAS == localAS && m.id == localID {
		return &notification{code: codeOpen, sub: subIdentifier, reason: fmt.Sprintf("peer in our AS uses our own BGP identifier %s", m.id)}
	}
	return nil
}

// id32 is an IPv4 address as a number, for comparing BGP identifiers.
func id32(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// addr4 is the reverse of id32.
func addr4(id uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
}
