// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Our tables, told by their families: all have the same name. Everything about
// IPv4 and IPv6 packets is in inet. The two others are for what inet never
// sees: ARP, and what is neither.
const (
	inetTable   = unix.NFPROTO_INET
	arpTable    = unix.NFPROTO_ARP
	netdevTable = unix.NFPROTO_NETDEV
)

var tables = []byte{inetTable, arpTable, netdevTable}

// tableWord is how nft(8) writes one of our tables.
func tableWord(table byte) string {
	word := map[byte]string{inetTable: "inet", arpTable: "arp", netdevTable: "netdev"}[table]
	return word + " " + TableName
}

// in names a chain or a set of a table. That of inet is the plain name, others
// have the table behind a NUL, which no name in the kernel has: so one name
// tells objects of all tables apart.
func in(table byte, name string) string {
	if table == inetTable {
		return name
	}
	return name + "\x00" + string(rune(table))
}

// home takes the name apart.
func home(name string) (table byte, bare string) {
	bare, where, other := strings.Cut(name, "\x00")
	if !other {
		return inetTable, name
	}
	return where[0], bare
}

func bare(name string) string {
	_, name = home(name)
	return name
}

// Attributes of linux/netfilter/nf_tables.h for the devices of a hook.
const (
	nftaHookDevs   = 4 // NFTA_HOOK_DEVS
	nftaDeviceName = 1 // NFTA_DEVICE_NAME
)

// putDevice writes the interface that a hook is on, if it is on one.
func (h *hook) putDevice(b *buf) {
	if h.device == "" {
		return
	}
	at := b.begin(nftaHookDevs)
	b.str(nftaDeviceName, h.device)
	b.end(at)
}

// deviceText reads what putDevice wrote. Whatever else the kernel has there,
// several names or part of one, differs from every name.
func deviceText(data []byte) (text string) {
	attrs(data, func(typ uint16, v []byte) bool {
		if text != "" || typ != nftaDeviceName {
			text += "/"
		}
		text += cstr(v)
		return true
	})
	return text
}
