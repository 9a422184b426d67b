// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"net/netip"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// memory is the machine without a kernel.
type memory struct{ m dataplane.Memory }

// NewMemory makes the machine on which the evaluator forwards and filters. It is what
// the suite expects of others, and an example of a driver.
func NewMemory() Machine {
	host := &route.Host{}
	for _, l := range Links {
		host.SetInterface(l.Name, route.Interface{Up: true, Addrs: l.Addrs})
	}
	for _, a := range Behind[Uplinks[0].Name] {
		everywhere := netip.PrefixFrom(a, 0).Masked()
		host.Put(route.FIBRoute{Prefix: everywhere, Protocol: 3, Metric: 2000, Hops: []route.Exit{{Device: Uplinks[0].Name, Via: a}}})
	}
	return &memory{m: dataplane.Memory{Host: host}}
}

func (d *memory) Open(filter acl.Options, routes route.Options, world *policy.World) (dataplane.Filtering, dataplane.Forwarding, error) {
	open := func() (*acl.Memory, error) { return acl.NewMemory(Node, filter, world) }
	if d.m.Policy != nil {
		open = func() (*acl.Memory, error) { return d.m.Policy.Reopen(filter, world) }
	}
	p, err := open()
	if err != nil {
		return nil, nil, err
	}
	d.m.Policy = p
	return p, route.OpenMemory(routes, d.m.Host), nil
}

func (d *memory) Send(frames []dataplane.Frame) (all []dataplane.Outcome, err error) {
	for _, f := range frames {
		all = append(all, d.m.Send(f))
	}
	return all, nil
}

func (d *memory) Place(addrs []netip.Addr) error {
	lo := route.Interface{Up: true}
	for _, a := range addrs {
		lo.Addrs = append(lo.Addrs, netip.PrefixFrom(a, a.BitLen()))
	}
	d.m.Host.SetInterface(policy.Loopback, lo)
	return nil
}

func (d *memory) Reset() error {
	d.m.Reset()
	return nil
}
