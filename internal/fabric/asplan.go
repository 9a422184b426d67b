// SPDX-License-Identifier: Apache-2.0

package fabric

import "fmt"

// Where in a range of four octets the parts begin, so that each can grow.
const (
	rackASOffset   = 1_000
	serverASOffset = 100_000
)

// asPlan gives AS numbers by place. Four octets are wide enough to keep spines,
// racks and servers apart. In two octets racks count up from the start and
// spines down from the end, with nothing between them: all of the range is of
// use, and growth by racks or spines changes no number. Servers that have
// numbers of two octets are counted rack by rack, and a server more in each
// rack does change them.
type asPlan struct {
	f     *Fabric
	start uint32
}

// as is the plan of the file: a smaller copy keeps the numbers that it has there.
func (f *Fabric) as() asPlan {
	if f.whole != nil {
		f = f.whole
	}
	return asPlan{f, f.Spec.Pools.AS.Start}
}

func (a asPlan) two() bool { return a.f.Spec.Pools.AS.Style == TwoByte }

// spine is the AS number of a spine. Downward Default has one for all servers,
// one for all ToRs and one for the spines, in this order.
func (a asPlan) spine(i int) uint32 {
	if a.f.Spec.Spine.AS == Shared {
		i = 0
	}
	switch {
	case a.f.Spec.Model == DownwardDefault:
		return a.start + 2 + uint32(i)
	case a.two():
		return last2 - uint32(i)
	}
	return a.start + uint32(i)
}

// tor is the AS number of a ToR: that of its rack, or its own.
func (a asPlan) tor(rack, i int) uint32 {
	s := &a.f.Spec
	switch {
	case s.Model == ASPerRack && a.two():
		return a.start + uint32(rack)
	case s.Model == ASPerRack:
		return a.start + rackASOffset + uint32(rack)
	case s.Model == DownwardDefault:
		return a.start + 1
	case s.ToRs.AS == Shared && a.two():
		return a.start
	case s.ToRs.AS == Shared:
		return a.start + rackASOffset
	case a.two():
		return a.start + uint32(a.before(rack)+i)
	}
	return a.start + rackASOffset + uint32(2*rack+i)
}

// server is the AS number of a server.
func (a asPlan) server(rack, i int) uint32 {
	s := &a.f.Spec
	switch {
	case s.Model == ASPerRack:
		return a.tor(rack, 0)
	case s.Model != ASPerServer:
		return a.start
	case a.two():
		tors := a.f.rack(rack).ToRs
		if s.ToRs.AS == Shared {
			tors = 0
		}
		return a.start + uint32(a.before(rack)+tors+i)
	}
	return a.start + serverASOffset + uint32(rack*s.Plan.ServersPerRack+i)
}

// before is how many numbers of two octets the racks before one take, with AS
// per server.
func (a asPlan) before(rack int) int {
	s := &a.f.Spec
	n := 0
	if s.ToRs.AS == Shared {
		n = 1
	}
	if s.Racks.List == nil { // equal racks
		n += rack * s.Servers.PerRack
		if s.ToRs.AS != Shared {
			n += rack * s.Racks.ToRs
		}
		return n
	}
	for i := range rack {
		r := a.f.rack(i)
		n += r.Servers
		if s.ToRs.AS != Shared {
			n += r.ToRs
		}
	}
	return n
}

// needed is how many numbers the fabric takes.
func (a asPlan) needed() int {
	s := &a.f.Spec
	spines := 0
	switch {
	case s.Spine.Kind == L3 && s.Spine.AS == Shared:
		spines = 1
	case s.Spine.Kind == L3:
		spines = s.Spine.Count
	}
	switch s.Model {
	case ASPerRack:
		return spines + s.Racks.Count
	case DownwardDefault:
		return spines + 2
	case Ethernet:
		return 1
	}
	return spines + a.before(s.Racks.Count)
}

// checkAS holds the range against the plan (rule FAB-AS-003), and against the
// private numbers of RFC 6996 section 5.
func (f *Fabric) checkAS(e *faults) {
	p := f.Spec.Pools.AS
	first, last, other := uint32(first2), uint32(last2), "style: 4byte, which has 94,967,295"
	if p.Style == FourByte {
		first, last, other = first4, last4, "a start nearer to 4200000000"
	}
	if p.Start < first || p.Start > last {
		e.add("spec.pools.as.start", fmt.Sprintf("private numbers of %s are %d to %d (RFC 6996)", p.Style, first, last), "%d", p.Start)
		return
	}
	a := f.as()
	has, need := int(last-p.Start)+1, a.needed()
	if p.Style == FourByte && f.Spec.Model == ASPerServer {
		// Numbers that are kept for growth count as taken.
		need = serverASOffset + f.Spec.Racks.Count*f.Spec.Plan.ServersPerRack
	} else if p.Style == FourByte && f.Spec.Model == ASPerRack {
		need = rackASOffset + f.Spec.Racks.Count
	}
	if need > has {
		e.add("spec.pools.as", "want "+other, "FAB-AS-003: the plan needs %s AS numbers, %d to %d are %s", Number(need), p.Start, last, Number(has))
	}
}
