// SPDX-License-Identifier: Apache-2.0

package route

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// topology is what next hops and devices are resolved with: the interfaces
// that are up, and the subnets that the kernel itself holds to be on-link.
// Those are read from its routes, not from its addresses, because the kernel
// resolves a gateway by routes too.
type topology struct {
	byName    map[string]uint32 // up only
	up        map[uint32]bool   // every interface, by number
	connected []connected       // longest first
}

type connected struct {
	prefix netip.Prefix
	metric uint32
	oif    uint32
}

// out returns the interface behind which a next hop is on-link, or 0 and why.
func (t *topology) out(a netip.Addr) (oif uint32, why string) {
	if z := a.Zone(); z != "" {
		if oif = t.byName[z]; oif == 0 {
			return 0, "interface " + z + " is missing or down"
		}
		return oif, ""
	}
	for _, c := range t.connected {
		if c.prefix.Contains(a) && t.up[c.oif] {
			return c.oif, ""
		}
	}
	return 0, "next hop " + a.String() + " is in no connected subnet"
}

// setConnected takes the subnets over.
func (t *topology) setConnected(cs []connected) {
	slices.SortFunc(cs, func(a, b connected) int {
		return cmp.Or(cmp.Compare(b.prefix.Bits(), a.prefix.Bits()), cmp.Compare(a.metric, b.metric),
			a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.oif, b.oif))
	})
	t.connected = cs
}

// readLinks lists the interfaces. The caller holds on to connected.
func readLinks(c *conn) (byName map[string]uint32, up map[uint32]bool, err error) {
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS: they are most of the answer
	body := appendAttr32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, skipStats)
	for range dumpTries {
		byName, up = map[string]uint32{}, map[uint32]bool{}
		err = c.dump(unix.RTM_GETLINK, body, func(m message) {
			index, isUp, name := parseLink(m.data)
			if m.typ != unix.RTM_NEWLINK || index == 0 {
				return
			}
			up[index] = isUp
			if isUp {
				byName[name] = index
			}
		})
		if err != errInterrupted {
			break
		}
	}
	return byName, up, err
}

// parseLink reads the payload of an RTM_NEWLINK; index is 0 if it is none.
func parseLink(b []byte) (index uint32, up bool, name string) {
	if len(b) < unix.SizeofIfInfomsg {
		return 0, false, ""
	}
	index, up = ne.Uint32(b[4:]), ne.Uint32(b[8:])&unix.IFF_UP != 0
	for b = b[unix.SizeofIfInfomsg:]; ; {
		typ, data, rest, ok := nextAttr(b)
		if !ok {
			return index, up, name
		}
		if b = rest; typ == unix.IFLA_IFNAME {
			name = string(bytes.TrimRight(data, "\x00"))
		}
	}
}
