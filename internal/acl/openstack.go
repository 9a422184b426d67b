// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What virtual machines of OpenStack need of their host whatever policy says: an
// address by DHCP, names, and their metadata. Only what stays on this host is
// excepted, so that nobody is reached by it who is elsewhere.
const chainMetadata = "metadata"

var metadataNet = netip.PrefixFrom(metadataAddr, 32)

// metadataChains send what machines ask 169.254.169.254 to where the metadata is. A
// loopback address stands for this host: what comes from a link never reaches
// one, and so goes to the address of the interface that it comes in by.
func (r *renderer) metadataChains() []*chain {
	m := r.opts.OpenStack.Metadata
	if !m.IsValid() {
		return nil
	}
	c := &chain{name: chainMetadata, hook: &hook{num: unix.NF_INET_PRE_ROUTING, priority: priorityDestNAT, nat: true}}
	b := r.rule().is(ipv4).addr(ipv4, destination, metadataNet, false).iifIn(setInterfaces).
		l4proto(expr.CmpOpEq, protoTCP).portRange(destination, metadataPort, metadataPort, false)
	if m.Addr().IsLoopback() {
		b.redirect(m.Port())
	} else {
		b.dnatTo(m)
	}
	c.add(b.done("metadata"))
	return []*chain{c}
}

// excepted renders the rules that except this from policy, and from what workloads may
// send to their host.
func (r *renderer) excepted() (rules []*rule) {
	o := &r.opts.OpenStack
	if !o.Active {
		return nil
	}
	udp := func(f *family) *rb {
		b := r.rule()
		if f != nil {
			b.is(f)
		}
		return b.iifIn(setInterfaces).l4proto(expr.CmpOpEq, protoUDP).forHost()
	}
	dhcp := func(f *family, client, server uint16) *rule {
		return udp(f).portRange(source, client, client, false).portRange(destination, server, server, false).accept().done("DHCP")
	}
	rules = append(rules, dhcp(ipv4, dhcpClient, dhcpServer), dhcp(ipv6, dhcp6Client, dhcp6Server), udp(nil).portRange(destination, dnsPort, dnsPort, false).accept().done("DNS"))
	if m := o.Metadata; m.IsValid() {
		rules = append(rules, r.rule().is(ipv4).iifIn(setInterfaces).l4proto(expr.CmpOpEq, protoTCP).forHost().
			portRange(destination, m.Port(), m.Port(), false).dnat(false).accept().done("metadata"))
	}
	return rules
}

// discover lets a machine that has no address yet ask for one.
func (r *renderer) discover(c *chain) {
	if r.opts.OpenStack.Active {
		c.add(r.rule().is(ipv4).addr(ipv4, source, netip.PrefixFrom(netip.IPv4Unspecified(), 32), false).l4proto(expr.CmpOpEq, protoUDP).
			portRange(source, dhcpClient, dhcpClient, false).portRange(destination, dhcpServer, dhcpServer, false).accept().done("DHCP discovery"))
	}
}

// forHost matches packets that go no further than this host: to an address of it,
// to all on the link, or to a group. What is behind these in the kernel's list has no
// route that this question finds; the packet's own may be in a table for the
// interface that it comes in by. The values are of one octet, so that to compare
// octets is to compare numbers.
func (r *rb) forHost() *rb {
	r.expr("fib", func(b *buf) {
		b.u32(unix.NFTA_FIB_DREG, reg1)
		b.u32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
		b.u32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)
	})
	r.cmp(expr.CmpOpNeq, binary.NativeEndian.AppendUint32(nil, unix.RTN_UNICAST))
	r.cmp(expr.CmpOpLte, binary.NativeEndian.AppendUint32(nil, unix.RTN_MULTICAST))
	return r.say("fib daddr type != unicast <= multicast")
}

const (
	natToAddress = 1 // NF_NAT_RANGE_MAP_IPS
	natToPort    = 2 // NF_NAT_RANGE_PROTO_SPECIFIED
)

// redirect sends the packet to a port of the interface that it comes in by.
func (r *rb) redirect(port uint16) *rb {
	r.immediate(reg1, binary.BigEndian.AppendUint16(nil, port))
	r.expr("redir", func(b *buf) {
		b.u32(unix.NFTA_REDIR_REG_PROTO_MIN, reg1)
		b.u32(unix.NFTA_REDIR_REG_PROTO_MAX, reg1)
		b.u32(unix.NFTA_REDIR_FLAGS, natToPort)
	})
	return r.say("redirect to :%d", port)
}

// dnatTo sends the packet to an address and a port.
func (r *rb) dnatTo(to netip.AddrPort) *rb {
	r.immediate(reg1, to.Addr().AsSlice())
	r.immediate(reg2, binary.BigEndian.AppendUint16(nil, to.Port()))
	r.nat(ipv4, unix.NFT_NAT_DNAT, natToPort)
	return r.say("dnat to %s", to)
}
