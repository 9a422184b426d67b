// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
)

// floating says whose floating IPs the packet filter translates: those of OpenStack's
// endpoints as soon as there is one here.
func (l *loop) floating() acl.Floating {
	switch {
	case l.settings.floatingIPs:
		return acl.AllFloating
	case len(l.stackFloats) > 0:
		return acl.OpenStackFloating
	}
	return acl.NoFloating
}

// applyFloating tells the packet filter when the first of OpenStack's endpoints with a
// floating IP has come, or the last has gone. What it could not be told is still to be
// told in the next round, in which nothing may have changed.
func (l *loop) applyFloating(ch policy.Changes) error {
	before := l.floating()
	for id, e := range ch.Endpoints {
		if e != nil && e.OpenStack && len(e.Floating) > 0 {
			l.stackFloats[id] = true
		} else {
			delete(l.stackFloats, id)
		}
	}
	if l.floating() != before {
		l.floatingDue = true
	}
	if !l.floatingDue {
		return nil
	}
	if err := l.setACLOptions(); err != nil {
		return err
	}
	l.floatingDue = false
	return nil
}

// reachedBy are the addresses by which others reach an endpoint: its own and its
// floating IPs.
func (l *loop) reachedBy(e *policy.Endpoint) []netip.Addr {
	floating := e.FloatingIPs(l.settings.floatingIPs)
	if len(floating) == 0 {
		return e.Addrs
	}
	out := slices.Clone(e.Addrs)
	for _, f := range floating {
		out = append(out, f.External)
	}
	return out
}

// floatingProblems are the endpoints whose floating IPs this node does not give.
func (l *loop) floatingProblems() (list []api.Problem) {
	for e := range l.model.index.Endpoints() {
		if len(e.Floating) > len(e.FloatingIPs(l.settings.floatingIPs)) {
			list = append(list, api.Problem{Object: "WorkloadEndpoint " + e.ID.String(), Field: "spec.ipNATs",
				Text: "floatingIPs of this node is Disabled: they lead nowhere; set it to Enabled in a FelixConfiguration"})
		}
	}
	return list
}
