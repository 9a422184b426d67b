// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Kinds of packets that no workload may send, whatever policy says and whoever
// it sends them to: those by which routers and servers lead others, and those
// that hide packets inside, which whoever unpacks them would take for his own.
// And neighbour discovery, in which everybody speaks for himself alone. They are
// asked after reassembly, so that no fragment hides one, and before connection
// tracking, so that none becomes part of a flow.
const (
	chainKinds = "antispoof-kinds" // of protocols that are looked at closer
	chainND    = "antispoof-nd"    // neighbour discovery
	chainNDWho = "antispoof-nd-who"

	setKinds     = "kinds"        // protocols that are looked at closer
	setKindPorts = "kinds-ports"  // UDP ports that no workload sends to
	setKindICMP4 = "kinds-icmp"   // ICMP types that none sends
	setKindICMP6 = "kinds-icmpv6" // ICMPv6 types that none sends
	setSolicit   = "solicit"      // ICMPv6 types of neighbour discovery
)

const (
	protoIGMP = unix.IPPROTO_IGMP
	igmpQuery = 0x11 // RFC 2236 section 2.1
)

// closer are the protocols whose packets are looked at closer.
func (o *Options) closer() []byte {
	list := []byte{ipv4.icmp, protoIGMP, unix.IPPROTO_UDP, ipv6.icmp}
	if !o.AllowIPIP {
		list = append(list, protoIPIP, protoIPv6)
	}
	return list
}

func (r *renderer) kindSets() []*set {
	var ports []elem
	for _, p := range r.opts.refusedPorts() {
		ports = append(ports, elem{key: string(binary.BigEndian.AppendUint16(nil, p))})
	}
	return []*set{
		{name: setKinds, typ: setProto, static: true, elems: protoElems(r.opts.closer()), comment: "protocols that are looked at closer"},
		{name: setKindPorts, typ: setUDPPort, static: true, elems: ports, comment: "UDP ports that no workload sends to"},
		{name: setKindICMP4, typ: setICMP, static: true, elems: protoElems(leading[protoICMP]), comment: "ICMP types that no workload sends"},
		{name: setKindICMP6, typ: setICMPv6, static: true, elems: protoElems(leading[protoICMPv6]), comment: "ICMPv6 types that no workload sends"},
		{name: setSolicit, typ: setICMPv6, static: true, elems: protoElems([]byte{routerSolicitation, neighbourSolicits, neighbourAdvertisement}),
			comment: "neighbour discovery"},
	}
}

// kind begins the chain for packets from workloads. What the chain does not
// drop comes back.
func (r *renderer) kind() *rule { return r.rule().protoIn(setKinds).jump(chainKinds).done("") }

func (r *renderer) kindChains() []*chain {
	icmp := func(f *family) *rb { return r.rule().is(f).l4proto(expr.CmpOpEq, f.icmp) }
	c := &chain{name: chainKinds}
	c.add(r.rule().l4proto(expr.CmpOpEq, unix.IPPROTO_UDP).portIn(destination, setKindPorts, false).drop().done("DHCP server or VXLAN"))
	c.add(r.rule().l4proto(expr.CmpOpEq, unix.IPPROTO_UDP).ret().done(""))
	c.add(icmp(ipv6).icmpTypeIn(ipv6, setSolicit).goTo(chainND).done(""))
	c.add(icmp(ipv6).icmpTypeIn(ipv6, setKindICMP6).drop().done("router"))
	c.add(icmp(ipv4).icmpTypeIn(ipv4, setKindICMP4).drop().done("router"))
	c.add(r.rule().l4proto(expr.CmpOpEq, protoIGMP).th(0, []byte{igmpQuery}, "igmp type 0x11").drop().done("multicast querier"))
	if !r.opts.AllowIPIP {
		c.add(r.rule().l4proto(expr.CmpOpEq, protoIPIP).drop().done("IPv4 in IP"))
		c.add(r.rule().l4proto(expr.CmpOpEq, protoIPv6).drop().done("IPv6 in IP"))
	}
	return append([]*chain{c}, r.discovery()...)
}

// discovery renders the check of neighbour discovery (RFC 4861 section 4): who
// advertises does it for an address of his own, and a link-layer address that is
// told is the sender's. There is room for one option only: whoever has more to
// say hides something. A nonce (RFC 7527) is the one other option that hosts send.
func (r *renderer) discovery() []*chain {
	icmp := func(typ byte) *rb { return r.rule().icmpBytes(ipv6, 0, []byte{typ}, false) }
	nd := &chain{name: chainND}
	// Extension headers would be in the lengths below.
	nd.add(r.rule().nh(6, []byte{ipv6.icmp}, expr.CmpOpNeq, "ip6 nexthdr != 58").drop().done("neighbour discovery behind other headers"))
	target := func(set string) *rb {
		return icmp(neighbourAdvertisement).iifAnd(expr.PayloadBaseTransportHeader, 8, 16, "icmpv6 taddr", set)
	}
	nd.add(target(setSrc6).goTo(chainNDWho).done(""))
	nd.add(target(setLinkLocal).goTo(chainNDWho).done(""))
	nd.add(icmp(neighbourAdvertisement).th(8, linkLocal.Addr().AsSlice()[:8], "icmpv6 taddr fe80::/64").iifIn(setLLAny).goTo(chainNDWho).done(""))
	nd.add(icmp(neighbourAdvertisement).drop().done("advertises the address of another"))
	nd.add(r.rule().goTo(chainNDWho).done(""))

	who := &chain{name: chainNDWho}
	who.add(r.rule().iifIn(setLLAny).ret().done("MAC address not known"))
	for _, m := range []struct {
		typ    byte
		length uint16 // of the message without options
		option byte   // the type of the option that says the sender's address, section 4.6.1
	}{{routerSolicitation, 8, 1}, {neighbourSolicits, 24, 1}, {neighbourAdvertisement, 24, 2}} {
		who.add(icmp(m.typ).payloadLength(m.length).ret().done(""))
		who.add(icmp(m.typ).payloadLength(m.length+8).th(uint32(m.length), []byte{m.option, 1}, "option link-layer address").
			iifAnd(expr.PayloadBaseTransportHeader, uint32(m.length)+2, 6, "option address", setMAC).ret().done(""))
	}
	who.add(icmp(neighbourSolicits).payloadLength(24+8).th(24, []byte{14, 1}, "option nonce").ret().done(""))
	who.add(r.rule().drop().done("link-layer address of another"))
	return []*chain{nd, who}
}

// payloadLength matches what follows the IPv6 header by its length.
func (r *rb) payloadLength(n uint16) *rb {
	return r.nh(4, binary.BigEndian.AppendUint16(nil, n), expr.CmpOpEq, fmt.Sprintf("ip6 length %d", n))
}

// nh compares bytes of the network header, th of the transport header.
func (r *rb) nh(off uint32, data []byte, op expr.CmpOp, words string) *rb {
	r.payload(expr.PayloadBaseNetworkHeader, off, uint32(len(data)), reg1)
	r.cmp(op, data)
	return r.say("%s", words)
}

func (r *rb) th(off uint32, data []byte, words string) *rb {
	r.payload(expr.PayloadBaseTransportHeader, off, uint32(len(data)), reg1)
	r.cmp(expr.CmpOpEq, data)
	return r.say("%s", words)
}
