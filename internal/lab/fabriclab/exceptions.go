// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
)

// room refuses a move for which the ToRs of the rack that the endpoint's block is in had to know more exceptions
// than the design lets them. Those count that are on their way out, of which ToRs have not heard yet, and those that
// came home, as long as a ToR has not heard of that, or they are under way.
func (l *Lab) room(ctx context.Context, e Endpoint, server string, all []Endpoint) error {
	budget := l.x.Exceptions()
	if budget == 0 || server == "" {
		return nil
	}
	homes := l.homes()
	home, away := homes[e.Name], 0
	if l.x.Device(server).Rack == home {
		return nil
	}
	known, err := l.exceptionsIn(ctx, home)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.Name == e.Name || homes[o.Name] != home {
			continue
		}
		if o.Server != "" && l.x.Device(o.Server).Rack != home || l.underway[o.Name] || slices.ContainsFunc(o.Addrs, func(a netip.Addr) bool { return known[a] }) {
			away++
		}
	}
	if away >= budget {
		return fmt.Errorf("%s cannot leave %s: %d endpoints have, or came home a moment ago, and its ToRs may know %d exceptions (downwardDefault.exceptions)", e.Name, home, away, budget)
	}
	return nil
}

// homes are the racks that the design has endpoints in.
func (l *Lab) homes() map[string]string {
	homes := map[string]string{}
	for i := range l.Design.Devices {
		for _, e := range endpointsOf(&l.Design.Devices[i]) {
			homes[e.Name] = l.Design.Devices[i].Rack
		}
	}
	return homes
}

// exceptionsIn are the single addresses that a ToR of a rack has from spines, whether or not it sends packets there.
func (l *Lab) exceptionsIn(ctx context.Context, rack string) (map[netip.Addr]bool, error) {
	known := map[netip.Addr]bool{}
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		if d.Role != fabric.RoleToR || d.Rack != rack || !l.runs(d) {
			continue
		}
		for _, family := range l.Design.Families {
			has, err := l.actual(ctx, d, family)
			if err != nil {
				return nil, err
			}
			for p, e := range has {
				if p.IsSingleIP() && l.upwards(e) {
					known[p.Addr()] = true
				}
			}
		}
	}
	return known, nil
}

// upwards tells whether a spine has told of a route, or packets go to one by it.
func (l *Lab) upwards(e *live.Entry) bool {
	spine := func(name string) bool {
		d := l.x.Device(name)
		return d != nil && d.Role == fabric.RoleSpine
	}
	return slices.ContainsFunc(e.Paths, func(p live.Path) bool { return spine(p.From) }) ||
		slices.ContainsFunc(e.Via, func(v string) bool { name, _, _ := strings.Cut(v, " "); return spine(name) })
}
