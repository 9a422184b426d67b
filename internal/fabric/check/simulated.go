// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// simulated is what a design comes to, for one family.
type simulated struct {
	family fabric.Family
	sim    *sim.Sim
	tables *sim.Tables // nil if something does not come to rest
	whatIf *sim.WhatIf
	err    error // the design cannot be simulated
}

// simulate runs the design, healthy and under every failure of one thing.
func simulate(g *fabric.Design) (list []simulated) {
	for _, family := range g.Families {
		x := simulated{family: family}
		s, err := sim.New(g, family)
		x.sim = s
		if err == nil {
			x.whatIf, err = s.WhatIf(1)
		}
		if err == nil && x.whatIf.Healthy.Restless == nil {
			x.tables, err = s.Tables(sim.Failure{})
		}
		x.err = err
		list = append(list, x)
	}
	return list
}

// eachFamily visits what was simulated. A finding that is the same for both
// families is told once.
func (s *subject) eachFamily(visit func(x *simulated)) {
	for i := range s.simulated {
		if x := &s.simulated[i]; x.err == nil {
			before := len(s.found)
			visit(x)
			if i > 0 {
				s.found = append(s.found[:before:before], slices.DeleteFunc(slices.Clone(s.found[before:]), func(f *Finding) bool {
					return slices.ContainsFunc(s.found[:before], func(o *Finding) bool { return o.ID == f.ID && o.Message == f.Message })
				})...)
			}
		}
	}
}

// pairText is how many pairs lose what.
func pairText(r *sim.Reach) string {
	var parts []string
	if r.Cut > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s pairs of servers are cut", fabric.Number(r.Cut), fabric.Number(r.Pairs)))
	}
	if r.Partly > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s pairs lose up to %d %% of their flows", fabric.Number(r.Partly), fabric.Number(r.Pairs), int(100*r.Worst+0.5)))
	}
	return strings.Join(parts, ", ")
}

// lossText is where the worst pair loses its flows.
func lossText(r *sim.Reach) string {
	return fmt.Sprintf("%s to %s: lost at %s, %s", r.From, r.To, r.At, r.Why)
}

// vanished: FAB-AS-002. Paths with the own AS number in them are refused in every healthy fabric, too: what counts is who has no
// other way to endpoints.
func vanished(s *subject) {
	s.eachFamily(func(x *simulated) {
		h := &x.whatIf.Healthy
		if h.Whole() || x.tables == nil {
			return
		}
		var at []string
		routes := 0
		for _, t := range x.tables.Devices {
			if t.Looped > 0 && (t.Role == fabric.RoleServer || t.Role == fabric.RoleToR) {
				routes += t.Looped * t.Devices
				at = append(at, t.Device)
			}
		}
		if routes > 0 {
			f := s.report(fmt.Sprintf("%s vanish%s, since routers find their own AS number in the path: %s", fabric.Amount(routes, "route"), verb(routes, "es", ""), pairText(h)), at,
				"give every rack an AS number of its own", "or as-override at both tiers, with its reason in bgp.advanced")
			f.Evidence = []string{lossText(h)}
		}
	})
}

// unusable: FAB-NH-002. Where no traffic is lost, healthy or after one failure,
// there are other paths, and it is worth knowing only.
func unusable(s *subject) {
	s.eachFamily(func(x *simulated) {
		if x.tables == nil {
			return
		}
		var t tally
		for _, row := range x.tables.Devices {
			if row.Unusable > 0 {
				t.many(row.Devices, fmt.Sprintf("%s\x00%s", row.Role, fabric.Number(row.Unusable)), row.Device, "", "next-hop-self on the iBGP sessions that bring them: see FAB-NH-001")
			}
		}
		from := len(s.found)
		t.report(s, func(key string, c *sameCase) string {
			_, paths, _ := cut(key)
			return fmt.Sprintf("%s paths on each of %s: their next hop is on no segment there (%s devices)", paths, names(c.devices), fabric.Number(c.n))
		})
		if whole(x) {
			for _, f := range s.found[from:] {
				f.Severity = Info
			}
		}
	})
}

// whole tells whether nothing is lost, healthy or after one failure.
func whole(x *simulated) bool {
	return x.whatIf.Healthy.Whole() && !slices.ContainsFunc(x.whatIf.Cases, func(r sim.Reach) bool { return !r.Whole() })
}

// loops: FAB-LOOP-001, of whatever kind.
func loops(s *subject) {
	before := len(s.found)
	islLoop(s)
	if len(s.found) > before {
		return // which also says where it comes from
	}
	s.eachFamily(func(x *simulated) {
		if h := &x.whatIf.Healthy; h.Looping > 0 {
			f := s.report(fmt.Sprintf("flows of %s of %s pairs of servers go round for ever, with nothing failed", fabric.Number(h.Looping), fabric.Number(h.Pairs)), []string{h.At},
				"what sends to each other needs different LOCAL_PREFs, or a discard route")
			f.Evidence = []string{lossText(h)}
		}
	})
}

// singleFailure: FAB-WI-001. Where traffic is lost in health already, that is
// told, and no failures. Failures of one kind are told once.
func singleFailure(s *subject) {
	s.eachFamily(func(x *simulated) {
		if h := &x.whatIf.Healthy; h.Cut+h.Partly > 0 {
			f := s.report("with nothing failed, "+pairText(h), []string{h.From, h.To}, "mend the other errors first: this is what they come to")
			f.Evidence = []string{lossText(h)}
			return
		}
		for _, w := range worstOfKinds(x.whatIf.Cases) {
			r := w.Reach
			f := s.report(fmt.Sprintf("%s down: %s, until it is repaired (%s such %s)", r.Failure, pairText(r), fabric.Number(w.cases), verb(w.cases, "failure", "failures")), []string{r.At}, s.wayAround(r.At)...)
			f.Evidence = []string{lossText(r)}
		}
	})
}

// worst stands for all failures of its kind that lose something: how many there are, and the one that loses most.
type worst struct {
	*sim.Reach
	cases int
}

// worstOfKinds is one of each kind of failures that lose something, in their order.
func worstOfKinds(list []sim.Reach) (kinds []worst) {
	for i := range list {
		r := &list[i]
		if r.Cut+r.Partly == 0 {
			continue
		}
		at := slices.IndexFunc(kinds, func(w worst) bool { return w.Kind == r.Kind })
		if at < 0 {
			at, kinds = len(kinds), append(kinds, worst{Reach: r})
		}
		w := &kinds[at]
		if r.Cut > w.Cut || r.Cut == w.Cut && r.Worst > w.Worst {
			w.Reach = r
		}
		w.cases += r.Cases
	}
	return kinds
}

// wayAround is what gives traffic another way past the device that loses it.
func (s *subject) wayAround(at string) []string {
	if d := s.Device(at); d != nil && slices.ContainsFunc(d.Originate, func(o fabric.Origin) bool { return o.Kind == fabric.OriginRack }) {
		return []string{"endpoints: {announce: server-block}     # with the block of its rack a ToR attracts what only the other ToR has a port to"}
	}
	if s.Model == fabric.DownwardDefault {
		return []string{"downwardDefault: {fallback: inter-spine}", "racks: {tors: 2}     # or this"}
	}
	return []string{"a second way for what goes past it: two ToRs, two reflectors on each plane, ADD-PATH"}
}

// restless: FAB-WI-004.
func restless(s *subject) {
	s.eachFamily(func(x *simulated) {
		seen := map[string]bool{}
		for _, r := range append([]sim.Reach{x.whatIf.Healthy}, x.whatIf.Cases...) {
			for _, text := range r.Restless {
				if !seen[text] {
					seen[text] = true
					s.report(text, nil, "preference = 300;                   # BIRD: what is local goes first")
				}
			}
		}
	})
}

// notSimulated: FAB-SIM-001.
func notSimulated(s *subject) {
	for _, x := range s.simulated {
		if x.err != nil {
			s.report(fmt.Sprintf("%s is not simulated: %v", x.family, x.err), nil, "mend what it says, and validate again")
		}
	}
}
