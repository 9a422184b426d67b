// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/policy"
)

// flowPause is between two reviews of the flows that are established: it bounds
// what reviews cost while policy changes all the time, and how long a flow that
// is denied goes on.
const flowPause = 250 * time.Millisecond

// established is what the loop keeps for the review of established flows.
type established struct {
	due   signal                             // policy in the kernel has changed
	addrs map[policy.EndpointID][]netip.Addr // floating IPs included
	float acl.Floating                       // whose these are
	gone  map[netip.Addr]bool                // what endpoints had, and have no more; another one may
	total acl.Reviewed                       // since the start, for metrics
}

// policyChanged takes note of what is in force now.
func (l *loop) policyChanged(ch policy.Changes) {
	e := &l.established
	for id, now := range ch.Endpoints {
		if now == nil {
			e.has(id, nil)
		} else {
			e.has(id, l.reachedBy(now))
		}
	}
	if now := l.floating(); now != e.float {
		e.float = now
		for ep := range l.model.index.Endpoints() {
			if len(ep.Floating) > 0 {
				e.has(ep.ID, l.reachedBy(ep))
			}
		}
	}
	e.due.notify()
}

// has takes note of the addresses that an endpoint has now.
func (e *established) has(id policy.EndpointID, now []netip.Addr) {
	for _, a := range e.addrs[id] {
		if !slices.Contains(now, a) {
			e.gone[a] = true
		}
	}
	if delete(e.addrs, id); len(now) > 0 {
		e.addrs[id] = now
	}
}

// reviewFlows holds the flows that the kernel has accepted against policy
// whenever that has changed: what it denies now is cut. It looks a second time
// after a pause, because a packet that was accepted just before a change may
// enter the table of connections just after the first look.
func (d *Daemon) reviewFlows(ctx context.Context) error {
	flows, err := openFlows()
	if err != nil {
		return err
	}
	defer flows.Close()
	var again <-chan time.Time
	failed := false
	for {
		second := false
		select {
		case <-ctx.Done():
			return nil
		case <-d.loop.established.due:
		case <-again:
			second = true
		}
		again = time.After(flowPause)
		err := d.reviewOnce(ctx, flows)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failed = false
			if second {
				again = nil
			}
		case !failed:
			failed = true
			d.log.Error("flows that policy denies now may go on; trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(flowPause):
		}
	}
}

func (d *Daemon) reviewOnce(ctx context.Context, flows flowTable) error {
	host, err := endpoint.AllAddrs()
	if err != nil {
		return err
	}
	l := d.loop
	gone := map[netip.Addr]bool{}
	var w *ways
	zones := false
	if !l.call(ctx, func() {
		zones = l.settings.anySource
		w, gone, l.established.gone = l.ways(), l.established.gone, map[netip.Addr]bool{}
		for _, a := range l.processes.all() {
			delete(host, a) // a process is an endpoint, and not the host itself
		}
	}) {
		return ctx.Err()
	}
	done, err := flows.Review(func(some []acl.Flow) error {
		w.learn(some, host)
		// In the loop, whose the index is; a piece takes less than a millisecond.
		if !l.call(ctx, func() { l.judgeFlows(some, gone, host, w) }) {
			return context.Cause(ctx)
		}
		return nil
	}, zones)
	if done.Cut+done.Restored+done.Ended > 0 {
		d.log.Info("established flows follow policy", "cut", done.Cut, "restored", done.Restored, "ended", done.Ended, "seen", done.Seen)
	}
	ok := l.call(ctx, func() {
		e := &l.established
		e.total.Seen = done.Seen
		e.total.Cut += done.Cut
		e.total.Restored += done.Restored
		e.total.Ended += done.Ended
		if err != nil { // their flows are still to be ended
			maps.Copy(e.gone, gone)
		}
	})
	if !ok {
		err = errors.Join(err, context.Cause(ctx))
	}
	return err
}

// judgeFlows says what becomes of flows. Those of an address that an endpoint
// has given up, its own or a floating IP, end; what its next owner has begun meanwhile begins anew. What this
// host itself sends to a workload is not asked about, nor what a machine of OpenStack
// asks of its host (see acl). Those between
// others are nobody's here, unless there are host endpoints.
func (l *loop) judgeFlows(flows []acl.Flow, gone, host map[netip.Addr]bool, w *ways) {
	x, options := l.model.index, acl.Options{OpenStack: l.settings.stack}
	denied := func(e *policy.Endpoint, d policy.Direction, f *acl.Flow) bool {
		r := x.Judge(e, d, &f.Packet)
		return !r.Allowed && !r.KeepsEstablished()
	}
	for i := range flows {
		f := &flows[i]
		from, to := x.LocalAt(f.Src), x.LocalAt(f.Dst)
		via, passes := l.passage(f, from, to, host, w)
		switch {
		case gone[f.Src], gone[f.Dst], gone[f.Before.Dst]:
			f.Fate = acl.End
		case f.Related, from == nil && to == nil && !passes, from != nil && from == to && from.Process:
		case from != nil && (from.Process || options.Excepted(f.Before, host[f.Dst]) == "") && denied(from, policy.Egress, f), to != nil && !host[f.Src] && denied(to, policy.Ingress, f):
			f.Fate = acl.Cut
		case passes && l.deniedByHosts(f, via):
			f.Fate = acl.Cut
		default:
			f.Fate = acl.Keep
		}
	}
}
