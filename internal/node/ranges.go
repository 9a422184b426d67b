// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
)

// ranges are the networks from which sessions are accepted, as BGPPeers with
// muslin/listen-range say. Who connects counts as a router outside, and nothing passes
// that no filter lets pass (RFC 8212).
func (in *peeringInput) ranges(self nodeAddr, police func(*bgp.PeerConfig, *v3.BGPPeer, v3.PeerSettings) []problem) (list []bgp.RangeConfig, problems []problem) {
	for _, name := range slices.Sorted(maps.Keys(in.peers)) {
		p := in.peers[name]
		set, errs := p.Settings()
		if !p.Asks("listen-range") {
			continue
		}
		bad := func(field, format string, args ...any) {
			problems = append(problems, problem{object: "BGPPeer " + name, field: field, text: fmt.Sprintf(format, args...)})
		}
		problems = append(problems, annotationProblems(errs)...)
		if len(set.ListenRange) == 0 {
			continue // it cannot be read
		}
		local, err := in.selects(p.Spec.Node, p.Spec.NodeSelector, in.self, self.labels)
		if err != nil {
			bad("spec.nodeSelector", "%v", err)
		}
		if !local {
			continue
		}
		c := bgp.PeerConfig{Name: name}
		if c.Password, err = in.password(p.Spec.Password); err != nil {
			bad("spec.password", "%v; until then nobody is accepted", err)
			continue
		}
		r := bgp.RangeConfig{Prefixes: set.ListenRange, ASNs: set.ListenAS, Limit: set.ListenLimit}
		if as := uint32(p.Spec.ASNumber); as != 0 {
			r.ASNs = append(r.ASNs, [2]uint32{as, as})
		}
		if len(r.ASNs) == 0 {
			if p.Asks("listen-as") {
				continue // it cannot be read
			}
			bad("spec.asNumber", "is missing: give the AS number of who connects, or several in muslin/listen-as")
			continue
		}
		options(p, &c)
		c.ASN = r.ASNs[0][0]
		own := cmp.Or(c.LocalASN, self.asn)
		inside := slices.ContainsFunc(r.ASNs, func(row [2]uint32) bool { return row[0] <= own && own <= row[1] })
		if several := len(r.ASNs) > 1 || r.ASNs[0][1] > c.ASN; several && inside {
			// What passes depends on whether a session is iBGP.
			bad(`metadata.annotations["muslin/listen-as"]`, "has our own AS %d beside others: give it a BGPPeer of its own", own)
			continue
		}
		if set.BFD.Enabled {
			bad(`metadata.annotations["muslin/bfd"]`, "there is none with neighbours of a listen range")
		}
		reflection(self, nodeAddr{}, set, &c)
		restraint(set, &c)
		timers(v3.Timers{}, set.Timers, p, &c)
		problems = append(problems, in.role(self, set, p, &c)...)
		problems = append(problems, police(&c, p, set)...)
		r.Peer = c
		list = append(list, r)
	}
	return list, problems
}
