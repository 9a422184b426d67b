// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/lab"
)

// Gap is what a flow lost over an event.
type Gap struct {
	From string        `json:"from"`
	To   string        `json:"to"`
	Addr netip.Addr    `json:"address"`
	Sent int           `json:"sent"`
	Lost int           `json:"lost"`
	Gap  time.Duration `json:"gap"` // the longest time between two arrivals
	End  time.Time     `json:"-"`   // of that time
	// Cut: the simulation says that it loses packets for as long as the failure lasts.
	Cut bool `json:"cut,omitempty"`
	// Before: something had failed, and nothing of it arrived before the event either.
	Before bool `json:"before,omitempty"`
}

// Event is a failure or its end, with what it did to flows.
type Event struct {
	What  string `json:"what"`
	Flows []Gap  `json:"flows"`
	// Settled is how long it took until every table was what the simulation says.
	Settled time.Duration `json:"settled"`
	*live.Comparison
}

// Affected are the flows that lost something although there is a way for them, the worst first.
func (e *Event) Affected() (list []Gap) {
	for _, g := range e.Flows {
		if g.Lost > 0 && !g.Cut && !g.Before {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b Gap) int { return int(b.Gap - a.Gap) })
	return list
}

// Summary is the event in a line.
func (e *Event) Summary() string {
	affected, cut, before := e.Affected(), 0, 0
	for _, g := range e.Flows {
		switch {
		case g.Cut:
			cut++
		case g.Before:
			before++
		}
	}
	text := fmt.Sprintf("%s: %d of %d flows lost packets", e.What, len(affected), len(e.Flows)-cut-before)
	if n := len(affected); n > 0 {
		text += fmt.Sprintf(", gap %v at most, %v in the middle", affected[0].Gap.Round(time.Millisecond), affected[n/2].Gap.Round(time.Millisecond))
	}
	if cut > 0 {
		text += fmt.Sprintf("; %d more have no way, or not all of it, as simulated", cut)
	}
	if before > 0 {
		text += fmt.Sprintf("; of %d more nothing had arrived before", before)
	}
	return text
}

// maxFlows and flowRate bound what is sent meanwhile: a packet each 20 ms on each flow.
const (
	maxFlows = 60
	flowRate = 50
	flowPort = 20000
)

// Watch does something to the lab while flows run between the first endpoints of servers, and says
// what each of them lost, and when all tables were as simulated again.
func (l *Lab) Watch(ctx context.Context, what string, do func() error) (*Event, error) {
	flows, gaps, err := l.startFlows()
	defer func() {
		for _, f := range flows {
			f.Stop(0)
		}
	}()
	if err != nil {
		return nil, err
	}
	before, err := l.lost()
	if err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for i, f := range flows {
		if before(gaps[i]) {
			continue
		}
		// While something has failed more may be lost than the simulation says: the peers of a dead daemon forget it
		// after the restart time. That is no reason not to mend it.
		err := f.WaitDelivered(ready, 5)
		if gaps[i].Before = err != nil && len(l.Failed) > 0 && ctx.Err() == nil; err != nil && !gaps[i].Before {
			return nil, err
		}
	}
	if err := l.watched(ctx); err != nil {
		return nil, err
	}
	reports := make([]lab.FlowReport, len(flows))
	for i, f := range flows {
		f.Mark()
		reports[i] = f.Report()
	}
	start := time.Now()
	if err := do(); err != nil {
		return nil, err
	}
	e := &Event{What: what}
	if e.Comparison, err = l.Settle(ctx, 30*time.Second); err != nil {
		return nil, err
	}
	e.Settled = time.Since(start)
	select { // what is late is lost
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := l.lost()
	if err != nil {
		return nil, err
	}
	ended := make([]lab.FlowReport, len(flows))
	var stopped sync.WaitGroup
	for i, f := range flows { // each waits for what is on its way
		stopped.Go(func() { ended[i] = f.Stop(500 * time.Millisecond) })
	}
	stopped.Wait()
	for i, r := range ended {
		g := gaps[i]
		g.Sent, g.Lost, g.Gap, g.End, g.Cut = r.Sent-reports[i].Sent, r.Lost-reports[i].Lost, r.MaxGap, r.GapEnd, before(g) || after(g)
		e.Flows = append(e.Flows, g)
	}
	flows = nil
	return e, nil
}

// startFlows starts them: of all ordered pairs of servers, in each family, as many as are let.
func (l *Lab) startFlows() (flows []*lab.Flow, gaps []Gap, err error) {
	var first []Endpoint
	for i := range l.Design.Devices {
		if list := endpointsOf(&l.Design.Devices[i]); len(list) > 0 && !list[0].Anycast {
			first = append(first, list[0])
		}
	}
	for step := 1; step < len(first); step++ { // every server sends before one sends twice
		for i, from := range first {
			to := first[(i+step)%len(first)]
			for _, a := range to.Addrs {
				if len(flows) == maxFlows {
					return flows, gaps, nil
				}
				f, err := l.startFlow(from.Name, to.Name, netip.AddrPortFrom(a, flowPort+uint16(len(flows))), flowRate)
				if err != nil {
					return flows, gaps, err
				}
				flows, gaps = append(flows, f), append(gaps, Gap{From: from.Name, To: to.Name, Addr: a})
			}
		}
	}
	return flows, gaps, nil
}

// startFlow starts a flow from one endpoint to an address of another, of so many packets a second.
func (l *Lab) startFlow(from, to string, dst netip.AddrPort, rate int) (*lab.Flow, error) {
	a, err := l.space(from)
	if err != nil {
		return nil, err
	}
	b, err := l.space(to)
	if err != nil {
		return nil, err
	}
	return lab.StartFlow(lab.FlowConfig{From: a, To: b, Dst: dst, PPS: rate})
}

// lost tells of a flow whether the simulation, with what has failed now, loses any of it.
func (l *Lab) lost() (func(Gap) bool, error) {
	sims := map[bool]*simulation{}
	for _, family := range l.Design.Families {
		s, err := l.simulate(family)
		if err != nil {
			return nil, err
		}
		sims[family == fabric.IPv4] = s
	}
	server := map[string]string{}
	for _, e := range l.Endpoints() {
		server[e.Name] = e.Server
	}
	return func(g Gap) bool {
		s := sims[g.Addr.Is4()]
		p, err := s.Path(server[g.From], g.Addr, s.down)
		return err != nil || p.Lost > 1e-9
	}, nil
}
