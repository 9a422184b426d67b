// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

// A server that runs BIRD is what rules warn of, and what vRouters are compared with: it treats endpoints as its
// design says (fabric.VRouter), and not as Muslin would. Nothing there knows of endpoints but the kernel's routes, so
// that the lab does what a CNI plugin does.

// The gateways of an endpoint: of IPv4 the one that each has, of IPv6 an address of the host's side.
var (
	gateway4 = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::1")
)

// attachByHand connects the n-th endpoint of a server without muslin.
func (l *Lab) attachByHand(d *fabric.Device, n int, e Endpoint) error {
	inside, err := l.space(e.Name)
	if err != nil {
		return err
	}
	host, err := l.space(d.Name)
	if err != nil {
		return err
	}
	const eth = "eth0"
	cali := fmt.Sprintf("cali%d", n)
	if err := lab.Veth(lab.End{NS: host, Name: cali}, lab.End{NS: inside, Name: eth}); err != nil {
		return err
	}
	errs := []error{host.SetSysctl("net/ipv4/conf/"+cali+"/proxy_arp", "1")}
	if d.VRouter == nil || d.VRouter.LocalGateway {
		errs = append(errs, host.AddAddr(cali, netip.PrefixFrom(gateway4, 32)))
	}
	for _, a := range e.Addrs {
		own, gateway := netip.PrefixFrom(a, a.BitLen()), gateway4
		if a.Is6() {
			gateway = gateway6
			errs = append(errs, host.AddAddr(cali, netip.PrefixFrom(gateway, 64)))
		}
		errs = append(errs, inside.AddAddr(eth, own), inside.AddRoute(prefixOf(nil, fabric.FamilyOf(a)), gateway, eth), host.AddRoute(own, netip.Addr{}, cali))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("attach %s to %s: %w", e.Name, d.Name, err)
	}
	return nil
}
