// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"errors"
	"fmt"
	"net/netip"
)

// ICMPv6 types (RFC 4861 section 4), and what messages of them have at least.
const (
	typeSolicitation  = 133
	typeAdvertisement = 134

	solicitationLen  = 8
	advertisementLen = 16

	optionSource = 1   // Source Link-Layer Address
	hopLimit     = 255 // nobody on another link can send with as much
)

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// solicitation and advertisement are messages of a router with a MAC address. The
// kernel fills in the checksum. The advertisement makes nobody's default route:
// its router lifetime is 0, and it says nothing of prefixes or parameters.
func solicitation(mac [6]byte) []byte {
	b := make([]byte, solicitationLen, solicitationLen+8)
	b[0] = typeSolicitation
	return appendSource(b, mac)
}

func advertisement(mac [6]byte) []byte {
	b := make([]byte, advertisementLen, advertisementLen+8)
	b[0] = typeAdvertisement
	return appendSource(b, mac)
}

func appendSource(b []byte, mac [6]byte) []byte {
	if mac == ([6]byte{}) {
		return b // an interface without link-layer addresses
	}
	return append(append(b, optionSource, 1), mac[:]...)
}

// check says whether a message is one of a router on the link or of somebody who
// looks for one, or what RFC 4861 section 6.1 has against it. The kernel has
// checked the checksum.
func check(b []byte, from netip.Addr, hops int) (typ uint8, err error) {
	if len(b) < solicitationLen {
		return 0, fmt.Errorf("%d octets are no message", len(b))
	}
	least := map[uint8]int{typeSolicitation: solicitationLen, typeAdvertisement: advertisementLen}[b[0]]
	switch {
	case least == 0:
		return 0, fmt.Errorf("ICMPv6 type %d", b[0])
	case hops != hopLimit:
		return 0, fmt.Errorf("hop limit %d: it may come from another link", hops)
	case b[1] != 0:
		return 0, fmt.Errorf("code %d", b[1])
	case len(b) < least:
		return 0, fmt.Errorf("%d octets of %d", len(b), least)
	case b[0] == typeAdvertisement && !from.IsLinkLocalUnicast():
		return 0, fmt.Errorf("an advertisement from %s, which is not link-local", from)
	}
	for o := b[least:]; len(o) > 0; {
		if len(o) < 2 || o[1] == 0 || len(o) < 8*int(o[1]) {
			return 0, errors.New("an option of length 0, or cut off")
		}
		if o[0] == optionSource && from.IsUnspecified() {
			return 0, errors.New("a link-layer address from nobody")
		}
		o = o[8*int(o[1]):]
	}
	return b[0], nil
}

// arrival is a message that was received.
type arrival struct {
	message []byte
	from    netip.Addr
	index   int // of the interface
	hops    int // hop limit it arrived with; -1 if unknown
}
