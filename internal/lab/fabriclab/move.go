// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

// moveRate is how many packets a second each flow has that a move is watched with.
const moveRate = 200

// afterwards is for how long a move is watched when packets arrive: the server that an endpoint comes home to
// withdraws its address 2 s later, and that is to lose none.
const afterwards = 2500 * time.Millisecond

// WatchMove moves an endpoint to another server while a flow runs to each of its addresses, and says what these lost.
// They come from the endpoint that is given, which is to stay where it is, or the first one of a third server. Several
// endpoints may move at once.
func (l *Lab) WatchMove(ctx context.Context, name, server, from string) (gaps []Gap, err error) {
	all := l.Endpoints()
	i := slices.IndexFunc(all, func(e Endpoint) bool { return e.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("no endpoint %q is on a server: want one such as r0-s0-e0, the first of r0-s0", name)
	}
	to := all[i]
	f := slices.IndexFunc(all, func(e Endpoint) bool {
		return !e.Anycast && e.Server != to.Server && e.Server != server && (from == "" || e.Name == from)
	})
	if f < 0 || to.Anycast {
		return nil, errors.New("want an endpoint that nobody else has the address of, and a third server to send from")
	}
	var flows []*lab.Flow
	defer func() {
		for _, x := range flows {
			x.Stop(0)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for n, a := range to.Addrs {
		x, err := l.startFlow(all[f].Name, name, netip.AddrPortFrom(a, flowPort+uint16(n)), moveRate)
		if err != nil {
			return nil, err
		}
		flows, gaps = append(flows, x), append(gaps, Gap{From: all[f].Name, To: name, Addr: a})
	}
	before := make([]lab.FlowReport, len(flows))
	for n, x := range flows {
		if err := x.WaitDelivered(ctx, 5); err != nil {
			return nil, err
		}
		x.Mark() // to find neighbours for the first time is no part of a move
		before[n] = x.Report()
	}
	defer l.over(name)
	if err := l.move(ctx, name, server); err != nil {
		return nil, err
	}
	for n, x := range flows { // a while of them, so that none comes of what was on its way
		r := x.Report()
		if err := x.WaitDelivered(ctx, r.Sent-r.Lost+moveRate/4); err != nil {
			return nil, fmt.Errorf("%s does not come back at %s: %w", gaps[n].Addr, server, err)
		}
	}
	select {
	case <-time.After(afterwards):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var wait sync.WaitGroup
	for n, x := range flows {
		wait.Go(func() {
			r := x.Stop(300 * time.Millisecond)
			gaps[n].Sent, gaps[n].Lost, gaps[n].Gap = r.Sent-before[n].Sent, r.Lost-before[n].Lost, r.MaxGap
			gaps[n].End = r.GapEnd
		})
	}
	wait.Wait()
	return gaps, nil
}

// Things are all that Fail takes by the carrier, but for servers: links, ports on segments of many, planes,
// switches, borders and reflectors.
func (l *Lab) Things() (list []string) {
	for i := range l.x.Segments {
		s := &l.x.Segments[i]
		on := l.x.On(s.Name)
		if s.Switch == "" && len(on) == 2 {
			list = append(list, on[0].Device.Name+"-"+on[1].Device.Name)
			continue
		}
		for _, a := range on {
			if a.Device.Name != s.Switch {
				list = append(list, a.Device.Name+"-"+s.Name)
			}
		}
		if l.x.Device(s.Switch) == nil {
			list = append(list, s.Name)
		}
	}
	for i := range l.Design.Devices {
		if d := &l.Design.Devices[i]; d.Role != fabric.RoleServer && len(l.cut(d.Name)) > 0 {
			list = append(list, d.Name)
		}
	}
	return list
}
