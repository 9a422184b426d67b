// SPDX-License-Identifier: Apache-2.0

package policy

// Protocol numbers that rules treat specially.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// NeighbourTypes are the ICMPv6 types that host endpoints let pass in both
// directions, because nothing works on a link without them: of multicast listener
// discovery (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861), but not
// redirects. RFC 4890 section 4.4.1 says which must not be dropped.
var NeighbourTypes = []byte{130, 131, 132, 133, 134, 135, 136, 143}

// HasPorts tells whether rules can match ports of an IP protocol: those of
// TCP, UDP and SCTP.
func HasPorts(proto uint8) bool {
	return proto == protoTCP || proto == protoUDP || proto == protoSCTP
}

// MatchesPorts tells whether this end of the rule has any port criterion.
func (m *Match) MatchesPorts() bool {
	return len(m.Ports)+len(m.NotPorts)+len(m.PortSets)+len(m.NotPortSets) > 0
}

// MatchesPorts tells whether the rule has any port criterion at either end,
// positive or negated. Such a rule matches TCP, UDP and SCTP only.
func (r *Rule) MatchesPorts() bool { return r.Src.MatchesPorts() || r.Dst.MatchesPorts() }

// icmpOf is the protocol that ICMP matches mean in an IP version. A rule for that of
// the other one, which is 10 less the version, matches nothing there.
func icmpOf(version uint8) uint8 {
	if version == 6 {
		return protoICMPv6
	}
	return protoICMP
}
