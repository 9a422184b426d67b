// SPDX-License-Identifier: Apache-2.0

package policy

import "net/netip"

// Protocol numbers that rules treat specially.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

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

// ForFamily returns the rule as packets of one IP version (4 or 6) see it, and
// false if it can match none of them. Nets and NotNets of the other family are
// left out, and so is a net that holds the whole family. A rule whose Nets or
// whose NotNets are all of the other family does not match this one, which
// follows Calico. The result shares the other slices with r.
func (r Rule) ForFamily(version uint8) (Rule, bool) {
	if r.Never || r.IPVersion != 0 && r.IPVersion != version {
		return Rule{}, false
	}
	if r.HasProto && r.MatchesPorts() && !HasPorts(r.Proto) {
		return Rule{}, false
	}
	if r.ICMP != nil && r.HasProto && r.Proto != icmpOf(version) {
		return Rule{}, false
	}
	src, ok1 := r.Src.forFamily(version)
	dst, ok2 := r.Dst.forFamily(version)
	r.IPVersion, r.Src, r.Dst = version, src, dst
	return r, ok1 && ok2
}

// icmpOf is the protocol that ICMP matches mean in an IP version.
func icmpOf(version uint8) uint8 {
	if version == 6 {
		return protoICMPv6
	}
	return protoICMP
}

func (m Match) forFamily(version uint8) (Match, bool) {
	nets, any := netsOfFamily(m.Nets, version)
	if len(m.Nets) > 0 && len(nets) == 0 && !any {
		return Match{}, false
	}
	not, none := netsOfFamily(m.NotNets, version)
	if none || len(m.NotNets) > 0 && len(not) == 0 {
		return Match{}, false
	}
	m.Nets, m.NotNets = nets, not
	return m, true
}

// netsOfFamily returns the nets of one family. If one of them is the whole
// family it returns none, and true.
func netsOfFamily(nets []netip.Prefix, version uint8) (of []netip.Prefix, whole bool) {
	for _, p := range nets {
		if p.Addr().Is4() != (version == 4) {
			continue
		}
		if p.Bits() == 0 {
			return nil, true
		}
		of = append(of, p)
	}
	return of, false
}
