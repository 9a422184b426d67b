// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	Error    Severity = "error"
	Warning  Severity = "warning"
	Advanced Severity = "advanced" // legal, and to be acknowledged with a reason
	Info     Severity = "info"
)

func (s Severity) rank() int {
	return slices.Index([]Severity{Error, Advanced, Warning, Info}, s)
}

// Rule is one thing that is looked for.
type Rule struct {
	ID       string
	Severity Severity
	What     string // what is wrong, in general
	Why      string // RFC, or what happens otherwise
	check    func(*subject)
}

// Finding is what a rule found.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Devices  []string `json:"devices,omitempty"`
	Why      string   `json:"why"`
	Fix      []string `json:"fix,omitempty"`      // lines to write or to paste
	Evidence []string `json:"evidence,omitempty"` // what shows it
}

// subject is a design while rules look at it.
type subject struct {
	*fabric.Index
	// What the design puts into tables; nothing if it is after no model, and cannot be simulated.
	entries   []fabric.Entries
	updates   int
	endpoints int         // of all servers
	simulated []simulated // for each family
	rule      *Rule
	found     []*Finding
}

// Design holds a design against every rule. Findings come in the order of
// severity, then of the catalogue.
func Design(g *fabric.Design) []*Finding {
	found, _ := WithFailures(g)
	return found
}

// Failures are those of one thing, in one family.
type Failures struct {
	Family fabric.Family
	*sim.WhatIf
}

// WithFailures is Design, and beside the findings the failures that were simulated
// for them, in each family in which that is possible.
func WithFailures(g *fabric.Design) ([]*Finding, []Failures) {
	s := &subject{Index: g.Index()}
	s.simulated = simulate(g)
	s.weigh()
	for _, e := range s.entries {
		if e.Role != fabric.RoleServer {
			s.endpoints = max(s.endpoints, e.Routes)
		}
	}
	for i := range Rules {
		s.rule = &Rules[i]
		s.rule.check(s)
	}
	slices.SortStableFunc(s.found, func(a, b *Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	var failures []Failures
	for _, x := range s.simulated {
		if x.whatIf != nil {
			failures = append(failures, Failures{x.family, x.whatIf})
		}
	}
	return s.found, failures
}

// weigh finds out what is in tables: by the formulas of the model, or by the simulation.
func (s *subject) weigh() {
	var ok bool
	if s.entries, s.updates, ok = s.Entries(); ok {
		return
	}
	var tables []*sim.Tables
	for i := range s.simulated {
		if s.simulated[i].tables == nil {
			return
		}
		tables = append(tables, s.simulated[i].tables)
	}
	s.entries, _, s.updates = sim.EntriesOf(s.Index, tables)
}

// report adds a finding.
func (s *subject) report(message string, devices []string, fix ...string) *Finding {
	f := &Finding{ID: s.rule.ID, Severity: s.rule.Severity, Message: message, Devices: devices, Why: s.rule.Why, Fix: fix}
	s.found = append(s.found, f)
	return f
}

// tally collects what differs in its device only.
type tally struct {
	keys  []string
	cases map[string]*sameCase
}

type sameCase struct {
	devices  []string
	n        int      // occurrences; a device may have several
	fix      []string // of the first
	evidence string
}

// add counts one case of a key.
func (t *tally) add(key, device, evidence string, fix ...string) {
	t.many(1, key, device, evidence, fix...)
}

// many counts n cases of a key at one device.
func (t *tally) many(n int, key, device, evidence string, fix ...string) {
	if t.cases == nil {
		t.cases = map[string]*sameCase{}
	}
	c := t.cases[key]
	if c == nil {
		c = &sameCase{fix: fix, evidence: evidence}
		t.cases[key] = c
		t.keys = append(t.keys, key)
	}
	c.n += n
	if n := len(c.devices); n == 0 || c.devices[n-1] != device {
		c.devices = append(c.devices, device)
	}
}

// report makes a finding of each key, and returns them; message gets the key and the devices.
func (t *tally) report(s *subject, message func(key string, c *sameCase) string) (list []*Finding) {
	for _, k := range t.keys {
		c := t.cases[k]
		f := s.report(message(k, c), c.devices, c.fix...)
		if c.evidence != "" {
			f.Evidence = []string{c.evidence}
		}
		list = append(list, f)
	}
	return list
}

// names lists devices in a line.
func names(list []string) string {
	switch len(list) {
	case 0:
		return "nothing"
	case 1:
		return list[0]
	case 2, 3:
		out := list[0]
		for _, n := range list[1:] {
			out += ", " + n
		}
		return out
	}
	return fmt.Sprintf("%s, %s and %d more", list[0], list[1], len(list)-2)
}

// adjacency is one end of sessions that are alike: of one session, or of all
// that a member has in a mesh.
type adjacency struct {
	on      *fabric.Device
	peer    *fabric.Device // nil in a mesh
	mesh    *fabric.Mesh   // nil of one session
	session *fabric.Session
	segment *fabric.Segment // nil between loopbacks
	profile *fabric.Profile
	ibgp    bool
	n       int
}

// address is how the peer is called in a router's configuration.
func (a *adjacency) address() string {
	if a.session != nil && len(a.session.Address) > 0 {
		return a.session.Address[0].String()
	}
	return "PEER"
}

// each visits every end of a session.
func (s *subject) each(visit func(a *adjacency)) {
	for i := range s.Devices {
		d := &s.Devices[i]
		for j := range d.Sessions {
			x := &d.Sessions[j]
			visit(&adjacency{d, s.Device(x.Peer), nil, x, s.Segment(x.Segment), s.Profile(x.Profile), x.PeerAS == d.AS, 1})
		}
		for _, m := range s.MeshesOf(d) {
			if n := s.MeshPeers(m, d); n > 0 {
				visit(&adjacency{d, nil, m, nil, s.Segment(m.Segment), s.Profile(m.Profile), m.Kind == fabric.MeshIBGP, n})
			}
		}
	}
}

// shared tells a segment on which a dead link has no carrier.
func shared(s *fabric.Segment) bool { return s != nil && s.Kind != fabric.Link }

// filter is what a direction of a profile lets pass; nil is everything.
func (s *subject) filter(name string) *fabric.Filter {
	if name == "" {
		return nil
	}
	return s.Filter(name)
}

// passesDefault tells whether a filter lets a default route pass.
func (s *subject) passesDefault(name string) bool {
	f := s.filter(name)
	if f == nil {
		return true
	}
	for _, family := range s.Families {
		if f.Permits(family.Default()) {
			return true
		}
	}
	return false
}
