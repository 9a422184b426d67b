// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The keys of the address datastore. Host names and handle IDs stand in keys
// as they are, without escaping; a prefix has '-' in place of its '/'.
const (
	// Prefix is what every key of this package begins with.
	Prefix = "/calico/ipam/v2/"
	// ConfigKey holds a Config.
	ConfigKey = Prefix + "config"
	// HandlePrefix is followed by a handle ID.
	HandlePrefix = Prefix + "handle/"
	// BlockPrefix is followed by "ipv4/block/CIDR" or "ipv6/block/CIDR".
	BlockPrefix = Prefix + "assignment/"
	// HostPrefix is followed by a node's name and, for an affinity, by
	// "/ipv4/block/CIDR" or "/ipv6/block/CIDR".
	HostPrefix = Prefix + "host/"

	virtualPrefix = Prefix + "virtual/"
)

// Family is an address family by its version number.
type Family int

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address. An IPv4-mapped IPv6 address
// counts as IPv6; nothing in this package ever holds one.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Bits returns the length of an address: 32 or 128.
func (f Family) Bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

// String returns "IPv4" or "IPv6".
func (f Family) String() string { return "IPv" + strconv.Itoa(int(f)) }

func (f Family) segment() string { return "ipv" + strconv.Itoa(int(f)) + "/block/" }

// Owner is who a block is affine to, in the form in which blocks store it:
// "host:NODE" or "virtual:NAME". The empty Owner is nobody.
type Owner string

// LoadBalancer is the one virtual owner.
const LoadBalancer Owner = "virtual:load-balancer"

// HostOwner returns the Owner that stands for a node.
func HostOwner(node string) Owner { return Owner("host:" + node) }

// Node returns the node's name, and false if the owner is not a node.
func (o Owner) Node() (string, bool) { return strings.CutPrefix(string(o), "host:") }

// prefix returns the key prefix of the owner's own subtree, without the
// trailing slash.
func (o Owner) prefix() (string, error) {
	root, name := HostPrefix, ""
	if n, ok := o.Node(); ok {
		name = n
	} else if n, ok := strings.CutPrefix(string(o), "virtual:"); ok {
		root, name = virtualPrefix, n
	}
	if err := checkSegment("node name", name); err != nil {
		return "", err
	}
	return root + name, nil
}

// checkSegment refuses what would change the shape of a key.
func checkSegment(what, s string) error {
	if s == "" || len(s) > 512 || strings.ContainsAny(s, "/\x00") {
		return fmt.Errorf("%s %.64q: want 1–512 characters without '/'", what, s)
	}
	return nil
}

// BlockKey returns the key of a block.
func BlockKey(cidr netip.Prefix) string {
	return BlockPrefix + FamilyOf(cidr.Addr()).segment() + keyCIDR(cidr)
}

// BlockListPrefix returns the prefix of the keys of all blocks of a family.
func BlockListPrefix(f Family) string { return BlockPrefix + f.segment() }

// ParseBlockKey is the inverse of BlockKey.
func ParseBlockKey(key string) (cidr netip.Prefix, ok bool) {
	rest, ok := strings.CutPrefix(key, BlockPrefix)
	if !ok {
		return netip.Prefix{}, false
	}
	return parseFamilyCIDR(rest)
}

// AffinityKey returns the key of an owner's affinity to a block, or an error
// if the owner's name cannot be part of a key.
func AffinityKey(o Owner, cidr netip.Prefix) (string, error) {
	p, err := o.prefix()
	if err != nil {
		return "", err
	}
	return p + "/" + FamilyOf(cidr.Addr()).segment() + keyCIDR(cidr), nil
}

// ParseAffinityKey is the inverse of AffinityKey. It is false for every other
// key, the marker of a host included.
func ParseAffinityKey(key string) (o Owner, cidr netip.Prefix, ok bool) {
	kind := "host:"
	rest, ok := strings.CutPrefix(key, HostPrefix)
	if !ok {
		kind = "virtual:"
		if rest, ok = strings.CutPrefix(key, virtualPrefix); !ok {
			return "", netip.Prefix{}, false
		}
	}
	name, rest, ok := strings.Cut(rest, "/")
	if !ok || name == "" {
		return "", netip.Prefix{}, false
	}
	cidr, ok = parseFamilyCIDR(rest)
	if !ok {
		return "", netip.Prefix{}, false
	}
	return Owner(kind + name), cidr, true
}

// HandleKey returns the key of a handle, or an error if the ID cannot be part
// of a key.
func HandleKey(id string) (string, error) {
	if err := checkSegment("handle", id); err != nil {
		return "", err
	}
	return HandlePrefix + id, nil
}

// ParseHandleKey is the inverse of HandleKey.
func ParseHandleKey(key string) (id string, ok bool) {
	id, ok = strings.CutPrefix(key, HandlePrefix)
	return id, ok && checkSegment("handle", id) == nil
}

func keyCIDR(p netip.Prefix) string {
	return p.Addr().String() + "-" + strconv.Itoa(p.Bits())
}

// parseFamilyCIDR reads "ipv4/block/10.0.0.0-26". The text must be canonical,
// or one block could have two keys.
func parseFamilyCIDR(s string) (netip.Prefix, bool) {
	for _, f := range []Family{IPv4, IPv6} {
		t, ok := strings.CutPrefix(s, f.segment())
		if !ok {
			continue
		}
		addr, bits, ok := strings.Cut(t, "-")
		if !ok {
			return netip.Prefix{}, false
		}
		p, err := netip.ParsePrefix(addr + "/" + bits)
		ok = err == nil && FamilyOf(p.Addr()) == f && p == p.Masked() && !p.Addr().Is4In6() && keyCIDR(p) == t
		return p, ok
	}
	return netip.Prefix{}, false
}
