// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

// Machine is bare metal or an appliance of a rack: a device, if it speaks BGP, and else a host behind a ToR that has
// routes to it.
type Machine struct {
	Name  string
	Addrs []netip.Addr // its own; of a prefix of its own the first address for a host
	tor   *fabric.Device
	via   []netip.Addr // where the ToR has it; none if it speaks BGP
}

// machinesOf are those of a design.
func machinesOf(g *fabric.Design) (list []Machine) {
	of := func(name string, tor *fabric.Device) *Machine {
		i := slices.IndexFunc(list, func(m Machine) bool { return m.Name == name })
		if i < 0 {
			i, list = len(list), append(list, Machine{Name: name, tor: tor})
		}
		return &list[i]
	}
	for i := range g.Devices {
		d := &g.Devices[i]
		for _, o := range d.Originate {
			// A prefix that it has leads to what is behind it, which is nothing here.
			if d.Role == fabric.RoleMachine && o.Kind == fabric.OriginEndpoints && o.Prefix.IsSingleIP() {
				m := of(d.Name, nil)
				for p := range o.Each() {
					m.Addrs = append(m.Addrs, p.Addr())
				}
			}
		}
		for _, r := range d.Static {
			m := of(r.Machine, d)
			if !slices.Contains(m.via, r.Via) {
				m.via = append(m.via, r.Via)
			}
			for p := range r.Each() {
				a := p.Addr()
				if !p.IsSingleIP() {
					a = a.Next()
				}
				m.Addrs = append(m.Addrs, a)
			}
		}
	}
	return list
}

// machineLink is the port of a machine that speaks no BGP.
const machineLink = "eth0"

// placeMachines makes those that speak no BGP: each a namespace, with its addresses, a cable to where its ToR has it, and
// the ToR as its gateway.
func (l *Lab) placeMachines() error {
	for i, m := range machinesOf(l.Design) {
		if m.tor == nil {
			continue
		}
		n, err := l.newSpace(m.Name)
		if err != nil {
			return err
		}
		for _, key := range []string{"net/ipv6/conf/default/accept_dad", "net/ipv6/conf/all/accept_dad"} {
			if err := n.SetSysctl(key, "0"); err != nil {
				return err
			}
		}
		var errs []error
		for _, via := range m.via {
			gateway, plug, ok := l.behind(m.tor, via)
			if !ok {
				return fmt.Errorf("%s: %s has a route to it by %s, which is on none of its ports", m.Name, m.tor.Name, via)
			}
			if via == m.via[0] {
				b, err := l.space(plug.Space)
				if err != nil {
					return err
				}
				port := fmt.Sprintf("machine%d", i)
				if err := errors.Join(lab.Veth(lab.End{NS: n, Name: machineLink}, lab.End{NS: b, Name: port}), b.Enslave(port, plug.Link)); err != nil {
					return err
				}
			}
			errs = append(errs, n.AddAddr(machineLink, netip.PrefixFrom(via, gateway.Bits())), n.AddRoute(prefixOf(nil, fabric.FamilyOf(via)), gateway.Addr(), machineLink))
		}
		for _, a := range m.Addrs {
			errs = append(errs, n.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())))
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// behind finds the port of a device in whose subnet an address is, and the bridge that it leads to.
func (l *Lab) behind(d *fabric.Device, a netip.Addr) (own netip.Prefix, bridge Plug, ok bool) {
	for i := range d.Interfaces {
		x := &d.Interfaces[i]
		at := slices.IndexFunc(x.Addresses, func(p netip.Prefix) bool { return x.Segment != "" && p.Masked().Contains(a) })
		if at < 0 {
			continue
		}
		own = x.Addresses[at]
		for _, c := range cables(l.x) {
			if c.Port == (Plug{d.Name, x.Name}) {
				return own, c.Bridge, true
			}
		}
		return own, Plug{d.Name, x.Name}, true // the bridge of the rack's segment is the ToR's own port
	}
	return own, bridge, false
}
