// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"net/netip"
)

// Fabric is an Ethernet segment: one namespace with one bridge. The bridge has
// no address, so the fabric forwards frames and takes part in nothing.
type Fabric struct {
	*Namespace
}

// Port is a plug of the fabric. Name is the link on the fabric's side.
type Port struct {
	Fabric *Fabric
	Name   string
}

const bridgeName = "br0"

// Fabric makes an Ethernet segment in a namespace called PREFIX-NAME.
func (l *Lab) Fabric(name string) (*Fabric, error) {
	n, err := l.Namespace(name)
	if err != nil {
		return nil, err
	}
	// A segment speaks no IP of its own; router solicitations of the bridge
	// would only disturb captures.
	for _, which := range []string{"all", "default"} {
		if err := n.SetSysctl("net/ipv6/conf/"+which+"/disable_ipv6", "1"); err != nil {
			return nil, err
		}
	}
	return &Fabric{n}, n.AddBridge(bridgeName)
}

// Connect plugs a namespace into the fabric: LINK there, a port called
// PORT here. Both ends are up afterwards.
func (f *Fabric) Connect(n *Namespace, link, port string) (*Port, error) {
	if err := Veth(End{NS: f.Namespace, Name: port}, End{NS: n, Name: link}); err != nil {
		return nil, err
	}
	if err := f.Enslave(port, bridgeName); err != nil {
		return nil, err
	}
	return &Port{Fabric: f, Name: port}, nil
}

// Up plugs the cable in.
func (p *Port) Up() error { return p.Fabric.LinkUp(p.Name) }

// Down pulls the cable: both ends lose their carrier.
func (p *Port) Down() error { return p.Fabric.LinkDown(p.Name) }

// Isolate takes the port off the segment: both ends keep their carrier, and
// nothing passes. That is how a path dies behind a switch.
func (p *Port) Isolate() error { return p.Fabric.Release(p.Name) }

// Join puts an isolated port back.
func (p *Port) Join() error { return p.Fabric.Enslave(p.Name, bridgeName) }

// Capture starts to record the frames on the port, in both directions.
func (p *Port) Capture() (*Capture, error) { return p.Fabric.Capture(p.Name) }

// Host is a compute server: a namespace with an uplink into a fabric.
type Host struct {
	*Namespace
	Uplink string // the link's name inside
	Port   *Port  // the other end
}

// Host makes a compute server called PREFIX-NAME with an uplink eth0 that has
// the given addresses. Its port in the fabric has the host's name, cut to what
// an interface name may have. Sysctls stay as the kernel made them, except that
// the uplink skips duplicate address detection.
func (l *Lab) Host(f *Fabric, name string, addrs ...netip.Prefix) (*Host, error) {
	n, err := l.Namespace(name)
	if err != nil {
		return nil, err
	}
	// Before the link exists, so that its link-local address is usable at once.
	if err := n.SetSysctl("net/ipv6/conf/default/accept_dad", "0"); err != nil {
		return nil, err
	}
	const uplink = "eth0"
	p, err := f.Connect(n, uplink, name[:min(len(name), 15)])
	if err != nil {
		return nil, err
	}
	if err := n.SetSysctl("net/ipv6/conf/default/accept_dad", "1"); err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addrs {
		errs = append(errs, n.AddAddr(uplink, a))
	}
	return &Host{Namespace: n, Uplink: uplink, Port: p}, errors.Join(errs...)
}
