// SPDX-License-Identifier: Apache-2.0

package fabric

import "slices"

// Variant is the fabric as if something else stood in the file: defaults are filled in and
// checked anew, since they follow from the rest. change must not write into slices, which
// are those of the file.
func (f *Fabric) Variant(change func(*Spec)) (*Fabric, error) {
	v := &Fabric{APIVersion: f.APIVersion, Kind: f.Kind, Metadata: f.Metadata, Spec: f.given}
	change(&v.Spec)
	v.given = v.Spec
	v.fill()
	var e faults
	v.check(&e)
	return v, e.err()
}

// Resize changes the number of racks, which are equal. What is in racks that are gone goes with them, and so do edits by hand.
func (s *Spec) Resize(racks int) {
	s.Overrides = Overrides{}
	s.Racks = Racks{Count: racks, ToRs: s.Racks.ToRs}
	f := Fabric{Spec: *s}
	s.Machines, s.Anycast = f.present()
}

// Become changes the model, and with it what only the one or the other has; what is common to
// all stays as the file says.
func (s *Spec) Become(m Model, spine SpineKind) {
	s.Overrides = Overrides{} // they are of devices that another model may not have
	if s.Model == m && s.Spine.Kind == spine {
		return
	}
	if s.Model != m {
		s.InRack, s.Reflectors, s.Downward = InRack{}, Reflectors{}, Downward{}
		s.ToRs, s.Servers.Uplinks, s.Pools.AS = ToRSpec{}, "", ASPool{}
		s.Machines = slices.Clone(s.Machines)
		for i := range s.Machines {
			s.Machines[i].Attach = ""
		}
		if m == Ethernet { // whose ToRs hold no routes
			s.Racks.List = slices.Clone(s.Racks.List)
			for i := range s.Racks.List {
				s.Racks.List[i].ToR = ""
			}
		}
	}
	if s.Spine.Kind != spine {
		s.Spine.AS, s.ToRs.AS, s.Downward = "", "", Downward{}
		if spine == L2 {
			s.Spine.Count = min(s.Spine.Count, maxPlanes)
		}
	}
	s.Model, s.Spine.Kind = m, spine
}
