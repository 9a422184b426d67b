// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"encoding/json"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// equalRacks is the short form of Racks.
type equalRacks struct {
	Count int `json:"count"`
	ToRs  int `json:"tors,omitempty"`
}

// decode reads {count, tors} or a list of racks.
func (r *Racks) decode(d *decoder, n *yaml.Node, field string, depth int) {
	if n.Kind == yaml.SequenceNode {
		d.value(n, reflect.ValueOf(&r.List).Elem(), field, depth)
		r.Count = len(r.List)
		return
	}
	var e equalRacks
	d.value(n, reflect.ValueOf(&e).Elem(), field, depth)
	r.Count, r.ToRs = e.Count, e.ToRs
}

// MarshalJSON writes the form that was read.
func (r Racks) MarshalJSON() ([]byte, error) {
	if r.List != nil {
		return json.Marshal(r.List)
	}
	return json.Marshal(equalRacks{r.Count, r.ToRs})
}

// rack returns the rack of a number, whichever form was written.
func (f *Fabric) rack(i int) Rack {
	r := Rack{Name: fmt.Sprintf("r%d", i)}
	if f.Spec.Racks.List != nil {
		r = f.Spec.Racks.List[i]
	}
	if r.Servers == 0 {
		r.Servers = f.Spec.Servers.PerRack
	}
	if r.ToRs == 0 {
		r.ToRs = f.Spec.Racks.ToRs
	}
	return r
}

// dualToRs tells whether a rack has two ToRs.
func (f *Fabric) dualToRs() bool {
	for i := range f.Spec.Racks.List {
		if f.rack(i).ToRs == 2 {
			return true
		}
	}
	return f.Spec.Racks.ToRs == 2
}
