// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/node/api"
)

// Endpoint is a workload of a server, as a namespace.
type Endpoint struct {
	Name   string // and of its namespace; it stays when the endpoint moves
	Server string
	Addrs  []netip.Addr // one of each family
	// Anycast: others have the same address.
	Anycast bool
}

// endpointsOf are those that the design has on a server: the n-th has the n-th address of each family.
func endpointsOf(d *fabric.Device) (list []Endpoint) {
	if d.Role == fabric.RoleMachine {
		return nil // they are addresses of the machine itself
	}
	var anycast []Endpoint
	for _, o := range d.Originate {
		count := o.Count
		switch o.Kind {
		case fabric.OriginEndpoints:
		case fabric.OriginBlock:
			count = o.Endpoints
		case fabric.OriginAnycast:
			anycast = append(anycast, Endpoint{fmt.Sprintf("%s-a%d", d.Name, len(anycast)), d.Name, []netip.Addr{o.Prefix.Addr()}, true})
			continue
		default:
			continue
		}
		for n := range count {
			if n == len(list) {
				list = append(list, Endpoint{Name: fmt.Sprintf("%s-e%d", d.Name, n), Server: d.Name})
			}
			list[n].Addrs = append(list[n].Addrs, fabric.Nth(netip.PrefixFrom(o.Prefix.Addr(), o.Prefix.Addr().BitLen()), n).Addr())
		}
	}
	return append(list, anycast...)
}

// all are the endpoints of the lab, those that are on no server now among them.
func (l *Lab) all() []Endpoint {
	l.places.Lock()
	defer l.places.Unlock()
	return l.placed()
}

// placed is all, for who holds places.
func (l *Lab) placed() (list []Endpoint) {
	for i := range l.Design.Devices {
		list = append(list, endpointsOf(&l.Design.Devices[i])...)
	}
	for i := range list {
		if at, ok := l.Moved[list[i].Name]; ok {
			list[i].Server = at
		}
	}
	return list
}

// Endpoints are those that are on a server.
func (l *Lab) Endpoints() []Endpoint {
	return slices.DeleteFunc(l.all(), func(e Endpoint) bool { return e.Server == "" })
}

// endpointsOn are those of a server.
func (l *Lab) endpointsOn(server string) []Endpoint {
	return slices.DeleteFunc(l.all(), func(e Endpoint) bool { return e.Server != server })
}

// checkEndpoints says what the lab cannot attach.
func checkEndpoints(g *fabric.Design) error {
	for i := range g.Devices {
		d := &g.Devices[i]
		for _, o := range d.Originate {
			if o.Kind == fabric.OriginMoved {
				return fmt.Errorf("%s announces %s, %s: in the lab endpoints move when it is up", d.Name, o.Prefix, o.Kind)
			}
		}
		if d.Role == fabric.RoleServer && d.Software != fabric.Muslin && d.Software != fabric.BIRD {
			return fmt.Errorf("%s is a server that runs %s: the lab's servers run muslin, or bird", d.Name, d.Software)
		}
	}
	return nil
}

// attach makes the endpoints of a server and gives them to its daemon.
func (l *Lab) attach(ctx context.Context, d *fabric.Device) error {
	var errs []error
	for n, e := range endpointsOf(d) {
		if d.Software == fabric.Muslin {
			errs = append(errs, l.attachOne(ctx, e, d.Name, ""))
		} else {
			errs = append(errs, l.attachByHand(d, n, e))
		}
	}
	return errors.Join(errs...)
}

// attachOne gives an endpoint to a server; from is the one that has it, if there is one.
func (l *Lab) attachOne(ctx context.Context, e Endpoint, server, from string) error {
	n, err := l.space(e.Name)
	if err != nil {
		return err
	}
	req := api.Attach{Name: e.Name, NetNS: n.Path(), Interface: l.inside(e, server), From: from, Labels: map[string]string{"lab": l.Name}, Anycast: e.Anycast, Timeout: "60s"}
	for _, a := range e.Addrs {
		req.IPs = append(req.IPs, a.String())
	}
	// An attach that fails leaves nothing. While many servers start at once, the datastore may take longer to answer
	// than an agent waits.
	for range 3 {
		if err = api.NewClient(l.dir(server)).Post(ctx, "/v1/endpoints", req, nil); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("attach %s to %s: %w", e.Name, server, err)
	}
	return nil
}

// inside is the interface of an endpoint that is on a server: it has two while it moves. That of the server which the
// design has it on is the one that everybody expects.
func (l *Lab) inside(e Endpoint, server string) string {
	if e.Name[:strings.LastIndex(e.Name, "-")] == server {
		return "eth0"
	}
	return fmt.Sprintf("eth%d", 1+slices.IndexFunc(l.Design.Devices, func(d fabric.Device) bool { return d.Name == server }))
}

// overlap is for how long two servers have an endpoint that moves. What moves a virtual machine takes longer.
const overlap = 500 * time.Millisecond

// Move attaches an endpoint to another server, with the addresses that it has, and takes it off its own when the
// fabric knows; that is how virtual machines migrate. If the server is empty it is on none. Different endpoints may
// move at once.
func (l *Lab) Move(ctx context.Context, name, server string) error {
	defer l.over(name)
	return l.move(ctx, name, server)
}

// move is Move, after which the endpoint is under way until over.
func (l *Lab) move(ctx context.Context, name, server string) error {
	e, err := l.moves(ctx, name, server)
	if err != nil {
		return err
	}
	if server != "" && e.Server != "" && !e.Anycast {
		if err := l.setAside(e); err != nil {
			return err
		}
		if err := l.attachOne(ctx, e, server, e.Server); err != nil {
			return err
		}
		select {
		case <-time.After(overlap):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if e.Server != "" {
		if err := api.NewClient(l.dir(e.Server)).Delete(ctx, "/v1/endpoints/default/"+name, url.Values{"interface": {l.inside(e, e.Server)}}, nil); err != nil {
			return fmt.Errorf("detach %s from %s: %w", name, e.Server, err)
		}
	}
	if server == "" || e.Server != "" && !e.Anycast {
		return nil
	}
	return l.attachOne(ctx, e, server, "")
}

// moves writes down that an endpoint is on another server, before it is, and returns it as it was. It refuses what
// cannot be.
func (l *Lab) moves(ctx context.Context, name, server string) (e Endpoint, err error) {
	l.places.Lock()
	defer l.places.Unlock()
	all := l.placed()
	i := slices.IndexFunc(all, func(e Endpoint) bool { return e.Name == name })
	if i < 0 {
		return e, fmt.Errorf("no endpoint %q: they are called SERVER-eN, and SERVER-aN those of anycast", name)
	}
	e = all[i]
	if server != "" && (l.x.Device(server) == nil || l.x.Device(server).Role != fabric.RoleServer) {
		return e, fmt.Errorf("%q is no server", server)
	}
	for _, at := range []string{e.Server, server} {
		if at != "" && l.x.Device(at).Software != fabric.Muslin {
			return e, fmt.Errorf("%s runs %s: endpoints move between servers with muslin", at, l.x.Device(at).Software)
		}
	}
	if e.Server == server {
		return e, fmt.Errorf("%s is there already", name)
	}
	if err := l.room(ctx, e, server, all); err != nil {
		return e, err
	}
	if l.Moved == nil {
		l.Moved = map[string]string{}
	}
	if l.underway == nil {
		l.underway = map[string]bool{}
	}
	l.Moved[name] = server
	l.underway[name] = true
	l.settlePlaces()
	return e, l.save()
}

// over ends that an endpoint is under way. Until then it counts among those that left their rack: of one that comes home
// spines prefer the route from there, but may take the other once more when the first is for neighbours alone.
func (l *Lab) over(name string) {
	l.places.Lock()
	defer l.places.Unlock()
	delete(l.underway, name)
}

// setAside has the routes out of an endpoint by its interface give way to those by the next one that it gets.
func (l *Lab) setAside(e Endpoint) error {
	n, err := l.space(e.Name)
	if err != nil {
		return err
	}
	h, err := n.Handle()
	if err != nil {
		return err
	}
	link, err := h.LinkByName(l.inside(e, e.Server))
	if err != nil {
		return err
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.RouteListFiltered(family, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Protocol != unix.RTPROT_BOOT && r.Protocol != unix.RTPROT_STATIC {
				continue
			}
			aside := r
			aside.Priority += 2000
			if err := errors.Join(h.RouteAdd(&aside), h.RouteDel(&r)); err != nil {
				return fmt.Errorf("%s: set %s aside: %w", e.Name, r, err)
			}
		}
	}
	return nil
}

// settlePlaces makes the design of now: what has moved is announced where it is, and who came
// home has not moved.
func (l *Lab) settlePlaces() {
	now := *l.Design
	now.Devices = slices.Clone(now.Devices)
	at := func(server string) *fabric.Device {
		return &now.Devices[slices.IndexFunc(now.Devices, func(d fabric.Device) bool { return d.Name == server })]
	}
	for i := range l.Design.Devices {
		home := &l.Design.Devices[i]
		for _, e := range endpointsOf(home) {
			place, moved := l.Moved[e.Name]
			if moved && place == home.Name {
				delete(l.Moved, e.Name)
			}
			if !moved || place == home.Name {
				continue
			}
			for _, a := range e.Addrs {
				now.Devices[i].Originate = without(now.Devices[i].Originate, a)
				if place != "" {
					d := at(place)
					d.Originate = append(slices.Clone(d.Originate), fabric.Origin{Kind: fabric.OriginMoved, Prefix: netip.PrefixFrom(a, a.BitLen()), Count: 1})
				}
			}
		}
	}
	l.now = &now
}

// leave takes out of what a server should have the routes to endpoints that left it: those of a block are
// in it still.
func (l *Lab) leave(t live.Table, d *fabric.Device) {
	for _, e := range endpointsOf(d) {
		if _, moved := l.Moved[e.Name]; !moved {
			continue
		}
		for _, a := range e.Addrs {
			p := netip.PrefixFrom(a, a.BitLen())
			if x := t[p]; x != nil && x.Delivered {
				y := *x
				y.Delivered = false
				t[p] = &y
			}
		}
	}
}

// without takes an address out of what is announced. A block stays.
func without(list []fabric.Origin, a netip.Addr) (out []fabric.Origin) {
	for _, o := range list {
		if o.Prefix.Addr().Is4() != a.Is4() || !o.Prefix.IsSingleIP() || o.Kind == fabric.OriginLoopback {
			out = append(out, o)
			continue
		}
		part := func(from, to int) {
			if from < to {
				p := o
				p.Prefix, p.Count = fabric.Nth(o.Prefix, from), to-from
				out = append(out, p)
			}
		}
		start := 0
		for n := range o.Count {
			if fabric.Nth(o.Prefix, n).Addr() == a {
				part(start, n)
				start = n + 1
			}
		}
		part(start, o.Count)
	}
	return out
}
