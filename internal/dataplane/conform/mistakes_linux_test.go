// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"iter"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
)

// mistakenView is policy with a mistake of the compiler in it.
type mistakenView struct {
	policy.View
	rule     func(*policy.Rule)
	endpoint func(*policy.Endpoint)
	list     func([]policy.Rule) []policy.Rule
}

func (v mistakenView) Policies() iter.Seq[*policy.Policy] {
	return func(yield func(*policy.Policy) bool) {
		for p := range v.View.Policies() {
			wrong := *p
			for _, list := range []*[]policy.Rule{&wrong.Ingress, &wrong.Egress} {
				*list = slices.Clone(*list)
				if v.list != nil {
					*list = v.list(*list)
				}
				for i := range *list {
					if v.rule != nil {
						v.rule(&(*list)[i])
					}
				}
			}
			if !yield(&wrong) {
				return
			}
		}
	}
}

func (v mistakenView) Endpoints() iter.Seq[*policy.Endpoint] {
	return func(yield func(*policy.Endpoint) bool) {
		for e := range v.View.Endpoints() {
			wrong := *e
			if v.endpoint != nil {
				v.endpoint(&wrong)
			}
			if !yield(&wrong) {
				return
			}
		}
	}
}

// misled is a packet filter that is told policy with a mistake in it.
type misled struct {
	dataplane.Filtering
	with mistakenView
}

func (f misled) Apply(v policy.View, _ policy.Changes) error { return f.Resync(v) }
func (f misled) Resync(v policy.View) error {
	f.with.View = v
	return f.Filtering.Resync(f.with)
}

// TestFindsCompilerMistakes plants mistakes into what the compiler makes of the
// objects, one after the other: each is found by the packets of some case.
func TestFindsCompilerMistakes(t *testing.T) {
	d := newLinux(t)
	for _, c := range []struct {
		name string
		with mistakenView
	}{
		{"a port too many", mistakenView{rule: func(r *policy.Rule) {
			r.Dst.Ports = slices.Clone(r.Dst.Ports)
			for i := range r.Dst.Ports {
				r.Dst.Ports[i].Max++
			}
		}}},
		{"Deny is forgotten", mistakenView{list: func(l []policy.Rule) []policy.Rule {
			return slices.DeleteFunc(l, func(r policy.Rule) bool { return r.Action == policy.Deny })
		}}},
		{"Pass allows", mistakenView{rule: func(r *policy.Rule) {
			if r.Action == policy.Pass {
				r.Action = policy.Allow
			}
		}}},
		{"the last rule first", mistakenView{list: func(l []policy.Rule) []policy.Rule {
			slices.Reverse(l)
			return l
		}}},
		{"every protocol", mistakenView{rule: func(r *policy.Rule) {
			if len(r.Dst.Ports) == 0 {
				r.HasProto = false
			}
		}}},
		{"both families", mistakenView{rule: func(r *policy.Rule) { r.IPVersion = 0 }}},
		{"a selector of sources is forgotten", mistakenView{rule: func(r *policy.Rule) { r.Src.Sets = nil }}},
		{"networks of sources are forgotten", mistakenView{rule: func(r *policy.Rule) { r.Src.Nets = nil }}},
		{"what is excepted is not", mistakenView{rule: func(r *policy.Rule) { r.Dst.NotSets, r.Dst.NotPorts = nil, nil }}},
		{"every ICMP type", mistakenView{rule: func(r *policy.Rule) { r.ICMP = nil }}},
		{"a MAC address is forgotten", mistakenView{endpoint: func(e *policy.Endpoint) { e.HasMAC = false }}},
		{"an address is forgotten", mistakenView{endpoint: func(e *policy.Endpoint) { e.Addrs = e.Addrs[:1] }}},
		{"floating IPs are forgotten", mistakenView{endpoint: func(e *policy.Endpoint) { e.Floating = nil }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found(t, mistaken{Machine: d, filter: func(f dataplane.Filtering) dataplane.Filtering { return misled{f, c.with} }})
		})
	}
	// Told in this way, but without a mistake, it does what it has to.
	right := mistaken{Machine: d, filter: func(f dataplane.Filtering) dataplane.Filtering { return misled{Filtering: f} }}
	for _, c := range Cases() {
		for _, err := range c.Check(right) {
			t.Errorf("without a mistake: %s: %v", c.Name, err)
		}
	}
}
