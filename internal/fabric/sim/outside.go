// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// elsewhere are addresses of nobody (RFC 5737 section 3, RFC 3849 section 2), which stand for all that is outside.
var elsewhere = map[fabric.Family]netip.Addr{fabric.IPv4: netip.MustParseAddr("192.0.2.1"), fabric.IPv6: netip.MustParseAddr("2001:db8::1")}

// Exits are the failures of w, all of one thing, after which servers that are in touch with more than their rack lose what
// they send outside by the default route of a border, or the healthy fabric if they lose it there. Pairs are servers with
// all that is outside. That a border itself is down is not among them.
func (s *Sim) Exits(w *WhatIf) (list []Reach, err error) {
	exit := slices.ContainsFunc(s.g.classes, func(c class) bool {
		return c.prefix.Bits() == 0 && slices.ContainsFunc(c.origins, func(d int) bool { return s.g.devices[d].Role == fabric.RoleBorder })
	})
	to := netip.PrefixFrom(elsewhere[s.g.family], elsewhere[s.g.family].BitLen())
	if over := s.g.over(to); !exit || len(over) == 0 || s.g.classes[over[0]].prefix.Bits() > 0 {
		return nil, nil // it has no way out, or the address is somebody's
	}
	healthy, err := s.exit(Failure{}, to)
	if err != nil || !healthy.Whole() {
		return []Reach{*healthy}, err
	}
	for _, c := range w.Cases {
		if slices.ContainsFunc(c.down.list(), func(e element) bool { return e.device >= 0 && s.g.devices[e.device].Role == fabric.RoleBorder }) {
			continue
		}
		r, err := s.exit(c.down, to)
		if err != nil {
			return nil, err
		}
		if r.Cases, r.Kind, r.Notice = c.Cases, c.Kind, c.Notice; !r.Whole() {
			list = append(list, *r)
		}
	}
	return list, nil
}

// exit is what servers lose of what they send to an address that is nobody's.
func (s *Sim) exit(f Failure, to netip.Prefix) (out *Reach, err error) {
	err = s.g.run(func(pins []int) error {
		out = &Reach{Failure: s.g.failureName(f), Cases: 1, down: f}
		sc := s.g.scene(f, pins)
		k, err := sc.walk(to, -1)
		if rest, ok := err.(*Restless); ok {
			out.Restless = append(out.Restless, rest.Error())
			return nil
		}
		if err != nil {
			return err
		}
		for n := range sc.nodes {
			x := &sc.nodes[n]
			if s.g.served(x.device) < 0 || !f.up(s.g, x.device) || !sc.abroad(n) {
				continue
			}
			out.Pairs += x.weight()
			if fate := k.from(n); fate.lost > 1e-9 {
				out.add(sc, fate, x.weight(), n, sc.nodes[fate.at].device)
			}
		}
		return nil
	})
	return out, err
}

// abroad tells whether a node is connected with something outside of its rack.
func (s *scene) abroad(n int) bool {
	for m, yes := range s.connected(n) {
		if yes && s.devices[s.nodes[m].device].rack != s.devices[s.nodes[n].device].rack {
			return true
		}
	}
	return false
}
