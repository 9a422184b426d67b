// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// What a workload may say on its link, where there is no IP yet: this page is
// the tables arp and netdev. The base chain of arp is on all interfaces and
// singles out those of workloads by prefix, as those of inet do: none is ever
// without it. In netdev there is a base chain for the interface of each
// endpoint, by its name: the kernel puts it on the interface that has the name,
// whenever that comes, before its first packet.
var (
	chainSenders   = in(arpTable, "senders")    // every ARP message
	chainSendersWl = in(arpTable, "senders-wl") // from a workload
	chainFrames    = in(netdevTable, "frames")  // every frame from an endpoint

	setSenders    = in(arpTable, "senders")     // interface . its MAC address, twice . its address
	setSendersAny = in(arpTable, "senders-any") // interface whose MAC address is not known . its address
)

// NF_ARP_IN of linux/netfilter_arp.h, and NF_NETDEV_EGRESS of linux/netfilter.h.
const (
	arpIn        = 0
	netdevEgress = 1
)

// priorityFrames is before everybody else on the interface.
const priorityFrames = -500

var (
	setSender    = &setType{0, concat(typeIfname, typeEther, typeEther, typeIPv4), 36, 0, "ifname . ether_addr . ether_addr . ipv4_addr", 0}
	setSenderAny = setIfIPv4
)

func linkSets() []*set {
	return []*set{
		{name: setSenders, typ: setSender, static: true, comment: "MAC addresses, as source and as ARP sender, and IPv4 addresses"},
		{name: setSendersAny, typ: setSenderAny, static: true, comment: "IPv4 addresses, where the MAC address is not known"},
		{name: setARPRate, typ: setTraffic, static: true, comment: "ARP by interface"},
	}
}

func (r *renderer) linkChains() []*chain {
	base := &chain{name: chainSenders, hook: &hook{num: arpIn, priority: priorityRaw}}
	for _, p := range r.opts.Prefixes {
		base.add(r.rule().prefixed(expr.MetaKeyIIFNAME, p).goTo(chainSendersWl).done(""))
	}
	base.add(r.rule().accept().done("not a workload"))

	// RFC 826: whoever asks or answers says who he is, and is believed. So all
	// of it must be the workload's own, with the unspecified address for a probe
	// (RFC 5227 section 1.1).
	wl := &chain{name: chainSendersWl}
	wl.add(r.rule().arpSender(setSenders).withinRate().accept().done(""))
	wl.add(r.rule().arpSenderAddr(setSendersAny).withinRate().accept().done(""))
	wl.add(r.rule().drop().done("ARP sender, or too much of it"))
	chains := []*chain{base, wl}
	if r.noFrames {
		return chains
	}

	// The Ethernet header is asked, and not what the kernel makes of it: that has
	// taken a VLAN tag off already.
	frames := &chain{name: chainFrames}
	for _, e := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6, unix.ETH_P_ARP} {
		frames.add(r.rule().etherType(e).accept().done(""))
	}
	frames.add(r.rule().drop().done("neither IP nor ARP"))
	return append(chains, frames)
}

// framesOf renders the base chain of an endpoint's interface.
func (r *renderer) framesOf(e *policy.Endpoint) *chain {
	c := &chain{name: framesName(e.Interface), owner: endpointOwner(e.ID), hook: &hook{priority: priorityFrames, device: e.Interface}}
	switch {
	case r.enslaved(e.Interface):
		c.add(r.rule().drop().done("enslaved"))
	case e.Guest:
		r.questions(c, e)
	default:
		for _, e := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6} { // what most frames are, sooner
			c.add(r.rule().etherType(e).accept().done(""))
		}
		c.add(r.rule().goTo(chainFrames).done(""))
	}
	return c
}

func framesName(iface string) string { return in(netdevTable, "frames-"+safeName(iface)) }

// What a bridge forwards from one port to another passes no hook of inet. So the
// interface of an endpoint that is a port of one is closed where frames come from it, and
// where they go to it. The latter chain is there for such an interface alone: every
// other would pay for it.

func (r *renderer) enslaved(iface string) bool { return slices.Contains(r.opts.Enslaved, iface) }

// framesTo renders the base chain of frames to an endpoint, if its interface is enslaved.
func (r *renderer) framesTo(e *policy.Endpoint) *chain {
	c := &chain{name: framesToName(e.Interface), owner: endpointOwner(e.ID), hook: &hook{num: netdevEgress, priority: priorityFrames, device: e.Interface}}
	c.add(r.rule().drop().done("enslaved"))
	return c
}

func framesToName(iface string) string { return in(netdevTable, "frames-to-"+safeName(iface)) }

// arpSender matches (input interface, source of the frame, sender's MAC address,
// sender's address) of an ARP message in a set of such.
func (r *rb) arpSender(set string) *rb {
	r.load(expr.MetaKeyIIFNAME, reg1)
	r.payload(expr.PayloadBaseLLHeader, 6, 6, reg2)
	r.payload(expr.PayloadBaseNetworkHeader, 8, 6, unix.NFT_REG32_06)
	r.payload(expr.PayloadBaseNetworkHeader, 14, 4, unix.NFT_REG_3)
	r.in(set, false)
	return r.say("iifname . ether saddr . arp saddr ether . arp saddr ip @%s", bare(set))
}

// arpSenderAddr matches (input interface, sender's address) of an ARP message.
func (r *rb) arpSenderAddr(set string) *rb {
	return r.iifAnd(expr.PayloadBaseNetworkHeader, 14, 4, "arp saddr ip", set)
}

func (r *rb) etherType(typ uint16) *rb    { return r.frameType(expr.CmpOpEq, typ) }
func (r *rb) etherTypeNot(typ uint16) *rb { return r.frameType(expr.CmpOpNeq, typ) }

func (r *rb) frameType(op expr.CmpOp, typ uint16) *rb {
	r.payload(expr.PayloadBaseLLHeader, 12, 2, reg1)
	r.cmp(op, binary.BigEndian.AppendUint16(nil, typ))
	word := map[uint16]string{unix.ETH_P_IP: "ip", unix.ETH_P_IPV6: "ip6", unix.ETH_P_ARP: "arp"}[typ]
	return r.say("ether type %s%s", opWord(op), word)
}

// senders renders the elements for what an endpoint may say of itself in ARP.
func senders(e *policy.Endpoint, add func(set, key, target string)) {
	iface := ifKey(e.Interface)
	say := func(a netip.Addr) {
		if !e.HasMAC {
			add(setSendersAny, iface+string(a.AsSlice()), "")
		}
		for _, m := range e.AllMACs() {
			mac := string(m[:]) + "\x00\x00"
			add(setSenders, iface+mac+mac+string(a.AsSlice()), "")
		}
	}
	for _, a := range e.Addrs {
		if a.Is4() {
			say(a)
			say(netip.IPv4Unspecified())
		}
	}
}
