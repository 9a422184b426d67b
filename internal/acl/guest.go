// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// A guest is a workload that believes in a subnet on its link, as virtual
// machines do: it asks for each address of it, and for its gateway, by ARP. All
// of them are behind the host, so that every question gets the same answer,
// except those for the guest's own addresses, whom nobody else may seem to have.
//
// The table netdev answers: it turns the question around and sends it back. Proxy
// ARP would answer only for what the host has a route to by another interface,
// which without a default route is not much; and this, being bound to a name,
// outlives the interface, and the agent.
var (
	chainGuest  = in(netdevTable, "guest")  // every frame from a guest that was not answered
	chainAnswer = in(netdevTable, "answer") // a question to be answered
)

// guestGateway is the MAC address that guests are told. Their interfaces have
// others, which the tables do not know.
var guestGateway = []byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

const (
	arpOpRequest, arpOpReply = 1, 2

	packetHost, packetOtherHost = unix.PACKET_HOST, unix.PACKET_OTHERHOST
)

// questions appends to a guest's chain what leads its questions to the answer.
// It speaks for itself in them (RFC 826), or probes (RFC 5227).
func (r *renderer) questions(c *chain, e *policy.Endpoint) {
	var own []netip.Addr
	for _, a := range e.Addrs {
		if a.Is4() {
			own = append(own, a)
		}
	}
	c.add(r.rule().etherTypeNot(unix.ETH_P_ARP).goTo(chainGuest).done(""))
	for _, a := range own {
		c.add(r.rule().nh(24, a.AsSlice(), expr.CmpOpEq, "arp daddr ip "+a.String()).goTo(chainFrames).done("its own address"))
	}
	for _, a := range append(own, netip.IPv4Unspecified()) {
		ask := func() *rb {
			return r.rule().nh(6, binary.BigEndian.AppendUint16(nil, arpOpRequest), expr.CmpOpEq, "arp operation request")
		}
		as := func(b *rb) {
			c.add(b.nh(14, a.AsSlice(), expr.CmpOpEq, "arp saddr ip "+a.String()).goTo(chainAnswer).done(""))
		}
		if !e.HasMAC {
			as(ask())
		}
		for _, mac := range e.AllMACs() {
			as(ask().ll(6, mac[:], "ether saddr").nh(8, mac[:], expr.CmpOpEq, "arp saddr ether the same"))
		}
	}
	c.add(r.rule().goTo(chainGuest).done(""))
}

func (r *renderer) guestChains() []*chain {
	guest := &chain{name: chainGuest}
	// The interface takes what is sent to the address in the answers for somebody
	// else's.
	guest.add(r.rule().packetType(packetOtherHost).ll(0, guestGateway, "ether daddr").setPacketType(packetHost).goTo(chainFrames).done("the gateway"))
	guest.add(r.rule().goTo(chainFrames).done(""))

	answer := &chain{name: chainAnswer}
	answer.add(r.rule().answer().done(""))
	return []*chain{guest, answer}
}

// answer turns an ARP request into the answer, from guestGateway, and sends it
// where it came from. Everything is read before anything is written.
func (r *rb) answer() *rb {
	const asker, askerAddr, asked, gateway, operation, iface = reg1, unix.NFT_REG32_02, unix.NFT_REG32_03, reg2, unix.NFT_REG_3, unix.NFT_REG_4
	r.payload(expr.PayloadBaseNetworkHeader, 8, 6, asker)
	r.payload(expr.PayloadBaseNetworkHeader, 14, 4, askerAddr)
	r.payload(expr.PayloadBaseNetworkHeader, 24, 4, asked)
	r.immediate(gateway, guestGateway)
	r.immediate(operation, binary.BigEndian.AppendUint16(nil, arpOpReply))
	r.load(expr.MetaKeyIIF, iface)
	for _, w := range []struct {
		base        expr.PayloadBase
		off, n, reg uint32
	}{
		{expr.PayloadBaseLLHeader, 0, 6, asker}, {expr.PayloadBaseLLHeader, 6, 6, gateway},
		{expr.PayloadBaseNetworkHeader, 6, 2, operation},
		{expr.PayloadBaseNetworkHeader, 8, 6, gateway}, {expr.PayloadBaseNetworkHeader, 14, 4, asked},
		{expr.PayloadBaseNetworkHeader, 18, 6, asker}, {expr.PayloadBaseNetworkHeader, 24, 4, askerAddr},
	} {
		r.write(w.base, w.off, w.n, w.reg)
	}
	r.expr("fwd", func(b *buf) { b.u32(unix.NFTA_FWD_SREG_DEV, iface) })
	return r.say("answer as ee:ee:ee:ee:ee:ee fwd to iif")
}

// write puts bytes of a register into a header.
func (r *rb) write(base expr.PayloadBase, off, n, reg uint32) {
	r.expr("payload", func(b *buf) {
		b.u32(unix.NFTA_PAYLOAD_SREG, reg)
		b.u32(unix.NFTA_PAYLOAD_BASE, uint32(base))
		b.u32(unix.NFTA_PAYLOAD_OFFSET, off)
		b.u32(unix.NFTA_PAYLOAD_LEN, n)
	})
}

func (r *rb) immediate(reg uint32, data []byte) {
	r.expr("immediate", func(b *buf) {
		b.u32(unix.NFTA_IMMEDIATE_DREG, reg)
		b.value(unix.NFTA_IMMEDIATE_DATA, data)
	})
}

// ll compares a MAC address in the Ethernet header.
func (r *rb) ll(off uint32, mac []byte, word string) *rb {
	r.payload(expr.PayloadBaseLLHeader, off, 6, reg1)
	r.cmp(expr.CmpOpEq, mac)
	return r.say("%s %x", word, mac)
}

// packetType compares for whom the kernel takes a frame, and setPacketType
// changes that.
func (r *rb) packetType(typ byte) *rb {
	r.load(expr.MetaKeyPKTTYPE, reg1)
	r.cmp(expr.CmpOpEq, []byte{typ})
	return r.say("meta pkttype %d", typ)
}

func (r *rb) setPacketType(typ byte) *rb {
	r.immediate(reg1, []byte{typ})
	r.expr("meta", func(b *buf) {
		b.u32(unix.NFTA_META_KEY, uint32(expr.MetaKeyPKTTYPE))
		b.u32(unix.NFTA_META_SREG, reg1)
	})
	return r.say("meta pkttype set %d", typ)
}
