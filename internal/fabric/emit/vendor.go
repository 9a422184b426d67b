// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Operating systems of switches that are not at hand here: what is written for them is
// general knowledge of their languages, and no device has read it. A header says so.

const notRun = "it was not run on a device: hold it against the documentation of %s and a device first"

// lacks are the settings of a profile that a system does not have, or that are not known of it.
func lacks(d *fabric.Device, system string, profiles []*fabric.Profile, what func(p *fabric.Profile) string) error {
	for _, p := range profiles {
		if s := what(p); s != "" {
			return fmt.Errorf("%s: %s is not written for %s: leave it out, or use frr here", d.Name, s, system)
		}
	}
	return nil
}

// notWritten is what is written for none of them: whether they have the roles of RFC 9234 is not known, and
// no switch tells a peer of its own routes only.
func notWritten(p *fabric.Profile) string {
	switch {
	case p.Role != "":
		return "a role (RFC 9234, bgp.roles)"
	case p.OwnOnly:
		return "a session for its own routes only (ownOnly)"
	}
	return ""
}

// holdOf are the keepalive and hold time of a profile, in seconds.
func holdOf(p *fabric.Profile) (keepalive, hold int) {
	hold = max(3, int(time.Duration(p.Hold).Seconds()))
	return hold / 3, hold
}

// restart is the longest graceful restart that a device's sessions have, in seconds.
func restart(profiles []*fabric.Profile) int {
	longest := fabric.Duration(120 * time.Second)
	for _, p := range profiles {
		longest = max(longest, p.GracefulRestart)
	}
	return int(time.Duration(longest).Seconds())
}

// bfdOn is the interval of the sessions over an interface, in milliseconds; 0 for none.
func bfdOn(i *fabric.Interface, peers []peer) (ms int64) {
	for _, p := range peers {
		if p.Port.Name == i.Name && p.Profile.BFD.On() {
			if v := time.Duration(p.Profile.BFD).Milliseconds(); ms == 0 || v < ms {
				ms = v
			}
		}
	}
	return ms
}

// needsKey tells of sessions that are authenticated.
func needsKey(profiles []*fabric.Profile) bool {
	return slices.ContainsFunc(profiles, func(p *fabric.Profile) bool { return p.Authentication.On() })
}

// listLines are the rules of a filter for one family, as prefix lists of the Cisco kind have
// them. A list that does not exist permits everything, and an empty one does not exist: each
// ends in a denial that can be seen.
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

// FRR, EOS and NX-OS have one language for these, but for where they stand.

// ipRoutes are the static routes of a device: what it discards, by the name of nowhere, and those to machines.
func ipRoutes(t *text, d *fabric.Device, nowhere string) {
	for _, p := range d.Discard {
		t.line("%s route %s %s", frrFamilies[fabric.FamilyOf(p.Addr())].ip, p, nowhere)
	}
	staticLines(d, func(family fabric.Family, p netip.Prefix, via netip.Addr) {
		t.line("%s route %s %s", frrFamilies[family].ip, p, via)
	})
}

// networks is what a device announces itself.
func networks(t *text, d *fabric.Device, family fabric.Family, indent string) {
	for _, o := range d.Originate {
		switch {
		case fabric.FamilyOf(o.Prefix.Addr()) != family || o.Kind == fabric.OriginDefault:
		case o.Kind == fabric.OriginRack:
			t.line("%saggregate-address %s summary-only", indent, o.Prefix)
		default:
			for p := range o.Each() {
				t.line("%snetwork %s", indent, p)
			}
		}
	}
}
