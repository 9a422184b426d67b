// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unique"
)

// Protocol is the route protocol number (rtm_protocol) of everything that
// Muslin puts into the kernel, unless Options say otherwise.
const Protocol = 177

// defaultMetric is the metric of a Route that names none.
const defaultMetric = 1024

// Kind says what a route does with a packet.
type Kind uint8

const (
	// Link sends to a device directly: an endpoint of this node.
	Link Kind = iota
	// Blackhole drops in silence: the rest of a block of this node.
	Blackhole
	// Via sends to next hops, to several in equal shares.
	Via
)

// String returns link, blackhole or via.
func (k Kind) String() string { return [...]string{"link", "blackhole", "via"}[min(k, Via)] }

// Route is a wish. It is comparable: equal values are equal routes.
type Route struct {
	Prefix netip.Prefix // masked; IPv4-mapped IPv6 is not accepted
	Kind   Kind
	Device string // of a Link
	Hops   Hops   // of a Via
	Metric uint32 // lower wins in the kernel; 0 is 1024
}

// String renders the route like the kernel's own tools do.
func (r Route) String() string {
	var b strings.Builder
	switch r.Kind {
	case Blackhole:
		fmt.Fprintf(&b, "blackhole %s", r.Prefix)
	case Link:
		fmt.Fprintf(&b, "%s dev %s", r.Prefix, r.Device)
	default:
		fmt.Fprintf(&b, "%s via %s", r.Prefix, r.Hops)
	}
	if r.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	return b.String()
}

// check says what is wrong with the route, naming it.
func (r Route) check() error {
	var why string
	switch {
	case !r.Prefix.IsValid() || r.Prefix.Addr().Is4In6() || r.Prefix.Addr().Zone() != "":
		why = "want an IPv4 or IPv6 prefix without zone"
	case r.Prefix != r.Prefix.Masked():
		why = fmt.Sprintf("host bits are set, want %s", r.Prefix.Masked())
	case r.Kind > Via:
		why = "unknown kind"
	case r.Kind == Link && (r.Device == "" || len(r.Device) > 15):
		why = "want a device name of 1 to 15 characters"
	case r.Kind == Via && r.Hops == Hops{}:
		why = "want at least one next hop"
	default:
		return nil
	}
	return fmt.Errorf("route %s: %s", r, why)
}

// Hops is a set of next-hop addresses. It is comparable, and equal sets share
// one value however many routes use it. The zero value is the empty set.
type Hops struct {
	h unique.Handle[string]
}

// HopsOf makes a set: order and repetition do not count, and an IPv4-mapped
// address is the IPv4 address. A link-local address has the device's name as
// its zone. An invalid address is left out.
func HopsOf(addrs ...netip.Addr) Hops {
	if len(addrs) > 1 {
		addrs = slices.Clone(addrs)
		for i, a := range addrs {
			addrs[i] = a.Unmap()
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		addrs = slices.Compact(addrs)
	}
	var scratch [64]byte
	b := scratch[:0]
	for _, a := range addrs {
		if !a.IsValid() {
			continue
		}
		at := len(b)
		b = append(b, 0)
		b, _ = a.Unmap().AppendBinary(b) // has no error
		b[at] = byte(min(len(b)-at-1, 255))
	}
	if len(b) == 0 {
		return Hops{}
	}
	return Hops{unique.Make(string(b))}
}

// Addrs returns the addresses in order.
func (h Hops) Addrs() []netip.Addr {
	if h == (Hops{}) {
		return nil
	}
	var out []netip.Addr
	for s := h.h.Value(); len(s) > 0; {
		n := int(s[0])
		var a netip.Addr
		if err := a.UnmarshalBinary([]byte(s[1 : 1+n])); err == nil { // it was ours
			out = append(out, a)
		}
		s = s[1+n:]
	}
	return out
}

// String renders the addresses with commas between them.
func (h Hops) String() string {
	var b strings.Builder
	for i, a := range h.Addrs() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
	}
	return b.String()
}
