// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
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
