// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"testing"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
)

// refusing is a packet filter that takes options only when it wants to.
type refusing struct {
	dataplane.Filtering
	refuse error
	got    []acl.Floating
}

func (f *refusing) SetOptions(o acl.Options) error {
	if f.refuse == nil {
		f.got = append(f.got, o.Floating)
	}
	return f.refuse
}

// TestApplyFloating: the packet filter is told of the first of OpenStack's floating IPs
// and when the last has gone, once each, and again if it could not be told, although
// nothing changes in the round of the retry.
func TestApplyFloating(t *testing.T) {
	f := &refusing{}
	l := &loop{d: &Daemon{acl: f}, stackFloats: map[policy.EndpointID]bool{}, denials: denials{changed: make(signal, 1)}}
	change := func(name string, e *policy.Endpoint) policy.Changes {
		return policy.Changes{Endpoints: map[policy.EndpointID]*policy.Endpoint{{Namespace: "ns", Name: name}: e}}
	}
	with := &policy.Endpoint{OpenStack: true, Floating: make([]policy.Floating, 1)}
	round := func(what string, ch policy.Changes, told int, last acl.Floating) {
		t.Helper()
		if err := l.applyFloating(ch); (err != nil) != (f.refuse != nil) {
			t.Errorf("%s: %v", what, err)
		}
		if len(f.got) != told || told > 0 && f.got[told-1] != last {
			t.Errorf("%s: the packet filter was told %v", what, f.got)
		}
	}
	round("an endpoint without", change("a", &policy.Endpoint{OpenStack: true}), 0, 0)
	round("one that is not OpenStack's", change("b", &policy.Endpoint{Floating: with.Floating}), 0, 0)
	f.refuse = errors.New("not now")
	round("refused", change("a", with), 0, 0)
	round("refused again", policy.Changes{}, 0, 0)
	f.refuse = nil
	round("tried again", policy.Changes{}, 1, acl.OpenStackFloating)
	round("another one", change("c", with), 1, acl.OpenStackFloating)
	round("one goes", change("a", nil), 1, acl.OpenStackFloating)
	round("the last goes", change("c", &policy.Endpoint{OpenStack: true}), 2, acl.NoFloating)
	round("nothing", policy.Changes{}, 2, acl.NoFloating)
}
