// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/policy"
)

// This page is what the daemon does for endpoints that are processes of this host: their
// addresses are on lo for as long as the packet filter knows them. They come after their
// policy is in force, and go before it does: in between the address leads nowhere. One that
// cannot be taken off lo is closed by the packet filter until it can.

// processes is what the loop keeps of them.
type processes struct {
	addrs  map[policy.EndpointID][]netip.Addr
	onLo   map[netip.Addr]bool // as last brought there
	due    bool                // lo is to be looked at
	filter bool                // the packet filter asks for them

	leaving []netip.Addr // still on lo, and closed
	unseen  bool         // lo could not be read since the start: no policy may go

	syncLo func(stay, add []netip.Addr) (writes int, left []netip.Addr, err error) // endpoint.SyncLoopback
}

// noteProcesses takes in which processes there are, and tells the packet filter when the
// first has come or the last has gone. The addresses of those that have gone leave lo.
func (l *loop) noteProcesses(ch policy.Changes) error {
	p := &l.processes
	p.due = p.due || l.resyncLinks
	for id, e := range ch.Endpoints {
		_, was := p.addrs[id]
		delete(p.addrs, id)
		if e != nil && e.Process {
			p.addrs[id] = e.Addrs
		}
		p.due = p.due || was || e != nil && e.Process
	}
	if !p.due {
		return nil
	}
	stay := p.all()
	_, left, err := p.syncLo(stay, nil)
	gone := func(a netip.Addr) bool { return !slices.Contains(stay, a) }
	if err == nil || len(left) > 0 {
		p.unseen = false
	} else { // what was there may be there
		p.unseen = p.unseen || p.onLo == nil && p.leaving == nil
		left = slices.Clone(p.leaving)
		for a := range p.onLo {
			left = append(left, a)
		}
		left = slices.DeleteFunc(left, func(a netip.Addr) bool { return !gone(a) })
	}
	maps.DeleteFunc(p.onLo, func(a netip.Addr, _ bool) bool { return gone(a) && !slices.Contains(left, a) })
	slices.SortFunc(left, netip.Addr.Compare)
	left = slices.Compact(left)
	filter := len(p.addrs)+len(left) > 0
	if filter != p.filter || !slices.Equal(left, p.leaving) {
		was := *p
		p.filter, p.leaving = filter, left
		if refused := l.setACLOptions(); refused != nil {
			p.filter, p.leaving = was.filter, was.leaving
			err = errors.Join(err, refused)
		}
	}
	return err
}

// all are the addresses of all processes.
func (p *processes) all() (list []netip.Addr) {
	for _, addrs := range p.addrs {
		list = append(list, addrs...)
	}
	return list
}

// placeProcesses brings the addresses of processes to lo whose policy is in force.
func (l *loop) placeProcesses() error {
	p := &l.processes
	if !p.due || l.failures["policy"] != nil || l.failures["host processes"] != nil {
		return nil
	}
	closed := map[string]bool{}
	for _, x := range l.d.acl.Problems() {
		closed[x.Object] = true
	}
	var want []netip.Addr
	waits := false // what closes one may go without a change of the endpoint
	for id, addrs := range p.addrs {
		if closed["WorkloadEndpoint "+id.String()] {
			waits = true
		} else {
			want = append(want, addrs...)
		}
	}
	if _, _, err := p.syncLo(want, want); err != nil {
		return err
	}
	p.due = waits
	now := map[netip.Addr]bool{}
	for _, a := range want {
		now[a] = true
	}
	l.originDirty = l.originDirty || !maps.Equal(now, p.onLo)
	p.onLo = now
	return nil
}

// linkStatus is how far what carries an endpoint has come: its interface, or lo.
func (l *loop) linkStatus(e *policy.Endpoint) endpoint.Status {
	switch {
	case !e.Process:
		return l.links.Status(e.Interface)
	case slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool { return !l.processes.onLo[a] }):
		return endpoint.Status{State: endpoint.Absent}
	}
	return endpoint.Status{State: endpoint.Ready}
}

// linkName is the name of that.
func linkName(e *policy.Endpoint) string {
	if e.Process {
		return policy.Loopback
	}
	return e.Interface
}
