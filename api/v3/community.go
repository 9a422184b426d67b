// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// AnyCommunity is a community of one of three kinds: of a standard one (RFC 1997)
// and of a large one (RFC 8092) Values has two and three elements; of an
// extended one (RFC 4360) Extended is set.
type AnyCommunity struct {
	Values   []uint32
	Extended [8]byte
}

// ParseAnyCommunity reads a community of any of the three kinds: aa:nn, aa:nn:mm,
// and rt:AS:nn or soo:AS:nn for a route target or a site of origin (RFC 4360
// sections 4 and 5, with four-octet AS numbers RFC 5668).
func ParseAnyCommunity(s string) (AnyCommunity, error) {
	sub := map[string]byte{"rt": 2, "soo": 3}
	kind, rest, _ := strings.Cut(s, ":")
	low, extended := sub[kind]
	if !extended {
		v, err := ParseCommunity(s)
		if err != nil {
			err = fmt.Errorf("%w, or rt:AS:nn or soo:AS:nn", err)
		}
		return AnyCommunity{Values: v}, err
	}
	asText, nText, _ := strings.Cut(rest, ":")
	as, err1 := ParseASNumber(asText)
	n, err2 := strconv.ParseUint(nText, 10, 32)
	switch {
	case err1 == nil && err2 == nil && as <= 65535:
		return AnyCommunity{Extended: [8]byte{0, low, byte(as >> 8), byte(as), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}}, nil
	case err1 == nil && err2 == nil && n <= 65535:
		return AnyCommunity{Extended: [8]byte{2, low, byte(as >> 24), byte(as >> 16), byte(as >> 8), byte(as), byte(n >> 8), byte(n)}}, nil
	}
	return AnyCommunity{}, fmt.Errorf("community %q: want %s:AS:nn, of which one has at most 16 bits", s, kind)
}

// String is what ParseAnyCommunity reads; of extended ones with another meaning than those, the eight octets.
func (c AnyCommunity) String() string {
	if c.Values != nil {
		var parts []string
		for _, v := range c.Values {
			parts = append(parts, strconv.FormatUint(uint64(v), 10))
		}
		return strings.Join(parts, ":")
	}
	e := c.Extended
	if sub, known := map[byte]string{2: "rt", 3: "soo"}[e[1]]; known {
		switch e[0] {
		case 0:
			return fmt.Sprintf("%s:%d:%d", sub, binary.BigEndian.Uint16(e[2:]), binary.BigEndian.Uint32(e[4:]))
		case 1: // RFC 4360 section 3.2
			return fmt.Sprintf("%s:%s:%d", sub, netip.AddrFrom4([4]byte(e[2:6])), binary.BigEndian.Uint16(e[6:]))
		case 2:
			return fmt.Sprintf("%s:%d:%d", sub, binary.BigEndian.Uint32(e[2:]), binary.BigEndian.Uint16(e[6:]))
		}
	}
	return fmt.Sprintf("%#x", e[:])
}
