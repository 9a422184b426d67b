// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"net/netip"

	"github.com/muslin-net/muslin/internal/fabric"
)

// FRR, EOS and NX-OS have one language for these, which began with Cisco, but for where they stand.

// prefixLists writes filters, a line for each rule.
func (e *Emitter) prefixLists(t *text, filters []*fabric.Filter) {
	for _, f := range filters {
		for _, family := range e.x.Families {
			ip := familyNames[family].ip
			listLines(f, family, func(seq int, action, match string) {
				t.line("%s prefix-list %s seq %d %s %s", ip, f.Name, seq, action, match)
			})
		}
	}
}

// listLines are the rules of a filter for one family. A list that does not exist permits everything, and an
// empty one does not exist: each ends in a denial that can be seen.
func listLines(f *fabric.Filter, family fabric.Family, line func(seq int, action, match string)) {
	seq := 5
	for _, r := range f.Rules {
		if fabric.FamilyOf(r.Within.Addr()) != family {
			continue
		}
		action := "deny"
		if r.Permit {
			action = "permit"
		}
		low, high := r.Lengths()
		limits := ""
		if low > r.Within.Bits() {
			limits = fmt.Sprintf(" ge %d", low)
		}
		if high > low || high > r.Within.Bits() && low == r.Within.Bits() {
			limits += fmt.Sprintf(" le %d", high)
		}
		line(seq, action, r.Within.String()+limits)
		seq += 5
	}
	line(seq, "deny", fmt.Sprintf("%s le %d", family.Default(), family.Default().Addr().BitLen()))
}

// ipRoutes are the static routes of a device: what it discards, by the name of nowhere, and those to machines.
func ipRoutes(t *text, d *fabric.Device, nowhere string) {
	for _, p := range d.Discard {
		t.line("%s route %s %s", called(p.Addr()).ip, p, nowhere)
	}
	staticLines(d, func(family fabric.Family, p netip.Prefix, via netip.Addr) {
		t.line("%s route %s %s", familyNames[family].ip, p, via)
	})
}

// summaryOnly says that what an aggregate stands for is not told beside it.
const summaryOnly = " summary-only"

// networks is what a device announces itself.
func networks(t *text, d *fabric.Device, family fabric.Family, indent, aggregate string) {
	for _, o := range d.Originate {
		switch {
		case fabric.FamilyOf(o.Prefix.Addr()) != family || o.Kind == fabric.OriginDefault:
		case o.Kind == fabric.OriginRack:
			t.line("%saggregate-address %s%s", indent, o.Prefix, aggregate)
		default:
			for p := range o.Each() {
				t.line("%snetwork %s", indent, p)
			}
		}
	}
}
