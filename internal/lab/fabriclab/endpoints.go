// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
	"github.com/muslin-net/muslin/internal/node/api"
)

// Endpoint is a workload of a server, as a namespace.
type Endpoint struct {
	Name   string // and of its namespace
	Server string
	Addrs  []netip.Addr // one of each family
}

// endpointsOf are those of a server: the n-th has the n-th address of each family.
func endpointsOf(d *fabric.Device) (list []Endpoint) {
	for _, o := range d.Originate {
		count := o.Count
		switch o.Kind {
		case fabric.OriginEndpoints:
		case fabric.OriginBlock:
			count = o.Endpoints
		default:
			continue
		}
		for n := range count {
			if n == len(list) {
				list = append(list, Endpoint{Name: fmt.Sprintf("%s-e%d", d.Name, n), Server: d.Name})
			}
			list[n].Addrs = append(list[n].Addrs, sim.Nth(netip.PrefixFrom(o.Prefix.Addr(), o.Prefix.Addr().BitLen()), n).Addr())
		}
	}
	return list
}

// Endpoints are all of the lab.
func (l *Lab) Endpoints() (list []Endpoint) {
	for i := range l.Design.Devices {
		list = append(list, endpointsOf(&l.Design.Devices[i])...)
	}
	return list
}

// checkEndpoints says what the lab cannot attach.
func checkEndpoints(g *fabric.Design) error {
	for i := range g.Devices {
		d := &g.Devices[i]
		for _, o := range d.Originate {
			if o.Kind == fabric.OriginAnycast || o.Kind == fabric.OriginMoved {
				return fmt.Errorf("%s announces %s, %s: the lab has none such yet", d.Name, o.Prefix, o.Kind)
			}
		}
		if d.Role == fabric.RoleServer && d.Software != fabric.Muslin {
			return fmt.Errorf("%s is a server that runs %s: the lab's servers run muslin", d.Name, d.Software)
		}
	}
	return nil
}

// attach makes the endpoints of a server and gives them to its daemon.
func (l *Lab) attach(ctx context.Context, d *fabric.Device) error {
	client := api.NewClient(l.dir(d.Name))
	var errs []error
	for _, e := range endpointsOf(d) {
		n := l.spaces[e.Name]
		req := api.Attach{Name: e.Name, NetNS: n.Path(), Labels: map[string]string{"lab": l.Name}, Timeout: "60s"}
		for _, a := range e.Addrs {
			req.IPs = append(req.IPs, a.String())
		}
		if err := client.Post(ctx, "/v1/endpoints", req, nil); err != nil {
			errs = append(errs, fmt.Errorf("attach %s: %w", e.Name, err))
		}
	}
	return errors.Join(errs...)
}
