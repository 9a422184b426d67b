// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
)

// What is denied is known to the kernel, which copies as many packets as the
// settings allow; who they are from and to, and which rule denies them, is known
// to the index, which is asked about each. What is alike is one line of the log
// in deniedWindow, and there are no more than deniedLines of them in that time.

const (
	deniedWindow = 10 * time.Second
	deniedLines  = 50
	// deniedKept is how many of the latest are there to be asked for.
	deniedKept = 500
)

// denials is what the daemon knows of denied packets.
type denials struct {
	on      atomic.Bool // they are to be logged
	changed signal      // on is another

	mu     sync.Mutex
	recent []api.Denied // in the order in which they were last seen
	since  time.Time    // of the window
	lines  int          // written in it
	unsaid int          // not written in it
}

// followDenied listens for denied packets while that is wanted. If the kernel
// lets nobody listen, it is said, and tried again.
func (d *Daemon) followDenied(ctx context.Context) error {
	const again = 10 * time.Second
	x := &d.loop.denials
	for {
		var retry <-chan time.Time
		if x.on.Load() {
			if err := d.listenDenied(ctx); err != nil {
				d.log.Error("denied packets are not logged", "err", err)
				retry = time.After(again)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-x.changed:
		case <-retry:
		}
	}
}

// listenDenied returns when packets are to be logged no more.
func (d *Daemon) listenDenied(ctx context.Context) error {
	log, err := openDenied()
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		tick := time.NewTicker(deniedWindow)
		defer tick.Stop()
		for d.loop.denials.on.Load() {
			select {
			case <-ctx.Done():
				return
			case <-d.loop.denials.changed:
			case <-tick.C:
				d.endWindow()
			}
		}
	}()
	err = log.Read(ctx, func(list []acl.Denied) {
		named := make([]api.Denied, len(list))
		if !d.loop.call(ctx, func() {
			for i := range list {
				named[i] = d.loop.name(&list[i])
			}
		}) {
			return
		}
		for _, n := range named {
			d.denied(n)
		}
	})
	cancel()
	<-done
	return err
}

// name says who the ends of a denied packet are, and what denies it by the
// policy that is in force now. It runs in the loop.
func (l *loop) name(p *acl.Denied) api.Denied {
	x := l.model.index
	out := api.Denied{
		Direction: directionWord(p.Direction), Source: p.Src.String(), Destination: p.Dst.String(),
		Protocol: int(p.Proto), Port: p.DstPort, By: "policy that has changed since",
	}
	if !policy.HasPorts(p.Proto) {
		out.ICMPType, out.ICMPCode = p.ICMPType, p.ICMPCode
	}
	if id, ok := x.NameAt(p.Src); ok {
		out.From = id.String()
	}
	if id, ok := x.NameAt(p.Dst); ok {
		out.To = id.String()
	}
	r, asked := l.denier(p)
	switch {
	case !asked:
		out.By = "an endpoint that is closed or gone"
		return out
	case r.Allowed:
		return out
	}
	out.Direction = directionWord(r.Direction)
	switch {
	case r.Rule != nil:
		ref := policy.PolicyRef{Key: r.Policy.Key, Name: r.Policy.Name}
		out.By = fmt.Sprintf("%s, %s rule %d", ref, out.Direction, r.Rule.Index)
	case r.Tier != "":
		out.By = "end of tier " + r.Tier
	default:
		out.By = "no profile allows"
	}
	if r.Host != "" {
		out.By = "HostEndpoint " + r.Host + ": " + out.By
	}
	return out
}

// denier is what the first one says that denies a packet, of the endpoints and host
// endpoints that were asked where it was dropped; asked is false if that was nobody. A
// process is asked as it sends, and who it sends to at once.
func (l *loop) denier(p *acl.Denied) (r policy.Ruling, asked bool) {
	x := l.model.index
	from, to := x.LocalAt(p.Src), x.LocalAt(p.Dst)
	sends := p.Direction == policy.Egress
	ask := func(e *policy.Endpoint, d policy.Direction) bool {
		r, asked = x.Judge(e, d, &p.Packet), true
		r.Direction = d
		return !r.Allowed
	}
	process := from != nil && from.Process || to != nil && to.Process
	switch {
	case sends && from != nil && ask(from, policy.Egress),
		to != nil && (!sends || from != nil && from.Process) && ask(to, policy.Ingress):
		return r, true
	}
	if !l.ways().asks {
		return r, asked
	}
	workload := func(iface string) bool { return isWorkload(l.settings.prefixes, iface) }
	via := policy.Passage{In: p.In, Out: p.Out, FromWorkload: workload(p.In), ToWorkload: workload(p.Out), Process: process}
	return x.JudgePassage(via, &p.Packet, &p.Packet, l.settings.failsafes), true
}

// denied takes note of a denied packet, and writes a line for the first of its
// like in a window.
func (d *Daemon) denied(n api.Denied) {
	x := &d.loop.denials
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	n.First, n.Last, n.Packets = now, now, 1
	if i := slices.IndexFunc(x.recent, n.Alike); i >= 0 {
		old := x.recent[i]
		x.recent = append(slices.Delete(x.recent, i, i+1), old)
		last := &x.recent[len(x.recent)-1]
		last.Last, last.Packets = now, last.Packets+1
		if old.Last.After(x.since) {
			return // there is a line in this window
		}
		n = *last
	} else {
		if len(x.recent) == deniedKept {
			x.recent = slices.Delete(x.recent, 0, 1)
		}
		x.recent = append(x.recent, n)
	}
	if x.lines == deniedLines {
		x.unsaid++
		return
	}
	x.lines++
	d.log.Info("denied", "direction", n.Direction, "from", orAddress(n.From, n.Source), "to", orAddress(n.To, n.Destination),
		"source", n.Source, "destination", n.Destination, "protocol", n.Protocol, "port", n.Port, "by", n.By, "packets", n.Packets)
}

func orAddress(name, address string) string {
	if name == "" {
		return address
	}
	return name
}

// endWindow begins the next window.
func (d *Daemon) endWindow() {
	x := &d.loop.denials
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.unsaid > 0 {
		d.log.Info("more was denied than is written here", "others", x.unsaid, "in", deniedWindow)
	}
	x.since, x.lines, x.unsaid = time.Now(), 0, 0
}

// getPolicyDenied answers with the latest denied packets, the last one first.
func (d *Daemon) getPolicyDenied(*http.Request) (any, error) {
	x := &d.loop.denials
	x.mu.Lock()
	defer x.mu.Unlock()
	list := slices.Clone(x.recent)
	slices.Reverse(list)
	return api.DeniedList{Logged: x.on.Load(), Flows: list}, nil
}
