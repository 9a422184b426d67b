// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Parts of a table, in percent, at which something is said.
const (
	FillWarns = 70
	FillGrown = 85 // with growth
)

// tableFix is what makes the table of a device smaller, or holds more.
func (s *subject) tableFix(e fabric.Entries) []string {
	model := "model: ethernet     # switches then know no endpoint"
	if e.Role == fabric.RoleToR && s.Model != fabric.DownwardDefault {
		model = "model: downward-default     # if the ToR is full"
	}
	list := []string{model, "another profile or silicon: `muslin fabric switches`"}
	if e.Hosts > 0 {
		list = append(list, "endpoints: {announce: rack-block}     # if endpoints stay in their rack")
	}
	return list
}

// fill: FAB-CAP-001. The tables of hosts, FAB-CAP-003, and ToRs of Downward
// Default, FAB-CAP-004, have rules of their own.
func fill(s *subject) {
	for _, e := range s.entries {
		s.fillLPM(e)
		if e.Holds == 0 || hostsFull(e) || s.downwardToR(e) {
			continue
		}
		percent, grown := 100*e.Used/int(e.Holds), 100*e.Grown/int(e.Holds)
		if percent < FillWarns && (grown < FillGrown || e.Grown == e.Used) {
			continue
		}
		message := fmt.Sprintf("%s: %s routes of %s (%d %%)", e.Device, fabric.Number(e.Used), fabric.Number(int(e.Holds)), percent)
		if e.Grown > e.Used {
			message += fmt.Sprintf("; with growth, %d %% a year for %d years, %s", s.Growth.PercentPerYear, s.Growth.Years, fabric.Number(e.Grown))
		}
		f := s.report(message+s.asMany(e), []string{e.Device}, s.tableFix(e)...)
		if percent < 100 && (grown < FillGrown || e.Grown == e.Used) {
			f.Severity = Warning
		}
		if e.Table == "" {
			f.Evidence = []string{"the vendor does not say which table routes to single addresses are in: the LPM table is assumed"}
		}
	}
}

// fillLPM is fill for the table of prefixes of a device that has single addresses elsewhere.
func (s *subject) fillLPM(e fabric.Entries) {
	if e.LPMHolds == 0 || 100*e.LPM < FillWarns*int(e.LPMHolds) {
		return
	}
	f := s.report(fmt.Sprintf("%s: %s routes to prefixes of %s in the LPM table (%d %%)%s", e.Device, fabric.Number(e.LPM), fabric.Number(int(e.LPMHolds)), 100*e.LPM/int(e.LPMHolds), s.asMany(e)),
		[]string{e.Device}, s.tableFix(e)...)
	if e.LPM < int(e.LPMHolds) {
		f.Severity = Warning
	}
}

// asMany tells of how many devices a finding speaks.
func (s *subject) asMany(e fabric.Entries) string {
	if e.Devices > 1 {
		return fmt.Sprintf(" (and on %s like it)", fabric.Amount(e.Devices-1, "device"))
	}
	return ""
}

// downwardToR tells whether downwardFill speaks of what a device holds.
func (s *subject) downwardToR(e fabric.Entries) bool {
	return s.Model == fabric.DownwardDefault && e.Role == fabric.RoleToR && e.Used <= int(e.Holds) && e.Routes < s.endpoints &&
		max(e.Used, e.Grown)*100 >= FillGrown*int(e.Holds)
}

func hostsFull(e fabric.Entries) bool {
	return e.Table == fabric.HostTable && e.Used > int(e.Holds)
}

func memory(s *subject) {
	for _, e := range s.entries {
		if e.RAM > 0 && e.Memory > e.RAM {
			s.report(fmt.Sprintf("%s: %s paths ≈ %.1f GB of %.1f GB%s", e.Device, fabric.Number(e.Paths), float64(e.Memory)/1e9, float64(e.RAM)/1e9, s.asMany(e)), []string{e.Device},
				s.memoryFix(e)...)
		}
	}
}

// memoryFix is what takes paths away that ToRs carry between what is above them, or else how much memory it takes.
func (s *subject) memoryFix(e fabric.Entries) (fix []string) {
	spines, meshed := map[uint32]bool{}, false
	s.ofRole(fabric.RoleSpine, func(d *fabric.Device) { spines[d.AS] = true })
	for i := range s.Meshes {
		m := &s.Meshes[i]
		meshed = meshed || m.Kind == fabric.MeshEBGP && s.Profile(m.Profile).Role == ""
	}
	without := false
	s.each(func(a *adjacency) {
		without = without || a.on.Role == fabric.RoleToR && a.peer != nil && a.peer.Role == fabric.RoleSpine && a.profile.Role == ""
	})
	if len(spines) > 1 && without {
		fix = append(fix, "bgp: {roles: on}", "spine: {as: shared}     # or this")
	} else if meshed {
		fix = append(fix, "bgp: {roles: on}")
	}
	at := "spine"
	if e.Role == fabric.RoleToR {
		at = "tor"
	}
	const giga = 1 << 30
	return append(fix, fmt.Sprintf("switches: {%s: {ram: %dGiB}}     # what it takes", at, (int64(e.Memory)+giga-1)/giga))
}

func hostTable(s *subject) {
	for _, e := range s.entries {
		if !hostsFull(e) {
			continue
		}
		p := s.Platform(e.Platform)
		f := s.report(fmt.Sprintf("%s: routes to single addresses go to the host table, which has %s entries, and %s are needed%s", e.Device, fabric.Number(int(e.Holds)), fabric.Number(e.Used), s.asMany(e)),
			[]string{e.Device}, s.tableFix(e)...)
		if p != nil && p.Source != "" {
			f.Evidence = append(f.Evidence, p.Source)
		}
		for _, c := range fabric.Catalogue {
			if c.HostRoutesIn == fabric.HostTable && int(c.HostTable) > e.Used {
				f.Evidence = append(f.Evidence, fmt.Sprintf("%s holds %s", c.Name, fabric.Number(int(c.HostTable))))
			}
		}
	}
}

func downwardFill(s *subject) {
	for _, e := range s.entries {
		if e.Holds > 0 && s.downwardToR(e) {
			grown := ""
			if e.Grown > e.Used {
				grown = fmt.Sprintf("; with growth %s", fabric.Number(e.Grown))
			}
			f := s.report(fmt.Sprintf("%s: %s endpoint routes, %s of %s entries with loopbacks and neighbours, %s are left%s%s", e.Device, fabric.Number(e.Routes), fabric.Number(e.Used),
				fabric.Number(int(e.Holds)), fabric.Number(int(e.Holds)-e.Used), grown, s.asMany(e)), []string{e.Device}, "fewer servers in a rack, or another profile: `muslin fabric switches`")
			if e.Grown > int(e.Holds) {
				f.Severity = Error
			}
		}
	}
}

func updateCost(s *subject) {
	if s.updates > 0 {
		s.report(s.UpdateCost(s.updates), nil)
	}
}
