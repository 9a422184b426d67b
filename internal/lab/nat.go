// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Masquerade gives packets from the sources that leave by a link the link's own
// address, and answers theirs back (RFC 3022). It is for routers at an edge.
func (n *Namespace) Masquerade(link string, sources ...netip.Prefix) error {
	n.mu.Lock()
	file := n.file
	n.mu.Unlock()
	if file == nil {
		return fmt.Errorf("masquerade: network namespace %s is deleted", n.name)
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(file.Fd())))
	if err != nil {
		return fmt.Errorf("%s: masquerade: %w", n.name, err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "edge"})
	chain := c.AddChain(&nftables.Chain{Name: "leaving", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	for _, p := range sources {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: masquerade(link, p)})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("%s: masquerade: %w", n.name, err)
	}
	return nil
}

// masquerade is `oifname LINK ip saddr SOURCE masquerade`.
func masquerade(link string, source netip.Prefix) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, link)
	nfproto, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), 4
	if source.Addr().Is6() {
		nfproto, offset, size = unix.NFPROTO_IPV6, 8, 16
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{nfproto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: net.CIDRMask(source.Bits(), 8*size), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: source.Masked().Addr().AsSlice()},
		&expr.Masq{},
	}
}
