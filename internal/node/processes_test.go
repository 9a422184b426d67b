// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
)

// told is a packet filter that remembers its options.
type told struct {
	dataplane.Filtering
	acl.Options
}

func (f *told) SetOptions(o acl.Options) error { f.Options = o; return nil }
func (f *told) Problems() []acl.Problem        { return nil }

func (f *told) Apply(policy.View, policy.Changes) error { return nil }

// fakeLo is a lo that keeps its addresses, or cannot be read at all.
type fakeLo struct {
	addrs        []netip.Addr
	keeps, blind bool
}

func (f *fakeLo) sync(stay, add []netip.Addr) (writes int, left []netip.Addr, err error) {
	if f.blind {
		return 0, nil, errors.New("lo cannot be read")
	}
	for _, a := range slices.Clone(f.addrs) {
		switch {
		case slices.Contains(stay, a):
		case f.keeps:
			left, err = append(left, a), errors.New("not taken off")
		default:
			f.addrs = slices.DeleteFunc(f.addrs, func(b netip.Addr) bool { return a == b })
		}
	}
	for _, a := range add {
		if !slices.Contains(f.addrs, a) {
			f.addrs = append(f.addrs, a)
		}
	}
	return 0, left, err
}

// TestProcessGoneClosed: the address of a process that is gone is closed by the packet
// filter while it cannot be taken off lo, and no longer. While nobody knows what is there,
// no policy goes.
func TestProcessGoneClosed(t *testing.T) {
	a, b := netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("fd65::1")
	id := policy.EndpointID{Namespace: "ns", Name: "p"}
	process := &policy.Endpoint{ID: id, Process: true, Addrs: []netip.Addr{a, b}}
	for _, x := range []struct {
		name         string
		keeps, blind bool
	}{{"it stays", true, false}, {"lo cannot be read", false, true}} {
		t.Run(x.name, func(t *testing.T) {
			filter, lo := &told{}, &fakeLo{}
			l := &loop{d: &Daemon{acl: filter}, model: newModel("n", policy.NewIndex("n")), denials: denials{changed: make(signal, 1)}, failures: map[string]error{},
				processes: processes{addrs: map[policy.EndpointID][]netip.Addr{}, due: true, syncLo: lo.sync}}
			round := func(e *policy.Endpoint, leaving ...netip.Addr) {
				t.Helper()
				ch := policy.Changes{}
				if e != nil || l.processes.addrs[id] != nil {
					ch.Endpoints = map[policy.EndpointID]*policy.Endpoint{id: e}
				}
				err := l.noteProcesses(ch)
				delete(l.failures, "host processes")
				if err != nil {
					l.failures["host processes"] = err
				}
				if (err != nil) != (lo.keeps || lo.blind) {
					t.Errorf("error %v", err)
				}
				if err := l.placeProcesses(); err != nil {
					t.Error(err)
				}
				if !slices.Equal(filter.Leaving, leaving) || filter.Processes != (e != nil || len(leaving) > 0) {
					t.Errorf("the packet filter is told %v, processes %v; want %v", filter.Leaving, filter.Processes, leaving)
				}
			}
			round(process)
			if len(lo.addrs) != 2 {
				t.Fatalf("on lo: %v", lo.addrs)
			}
			lo.keeps, lo.blind = x.keeps, x.blind
			round(nil, a, b)
			round(nil, a, b)
			lo.keeps, lo.blind = false, false
			round(nil)
			if len(lo.addrs) > 0 {
				t.Errorf("on lo: %v", lo.addrs)
			}

			// After a start nothing is known.
			lo.addrs, l.processes = []netip.Addr{a}, processes{addrs: map[policy.EndpointID][]netip.Addr{}, due: true, syncLo: lo.sync}
			*filter = told{}
			lo.keeps, lo.blind = x.keeps, x.blind
			if x.keeps {
				round(nil, a)
			} else {
				round(nil)
			}
			if err := l.applyACL(policy.Changes{}); (err != nil) != x.blind {
				t.Errorf("policy: %v, want it to wait", err)
			}
		})
	}
}
