// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

// The world outside is one host, on a segment with all borders that announce a default
// route. It knows the way to public pools, and to nothing else.
const (
	outside     = "outside" // its namespace, and the ports of borders towards it
	outsideLink = "eth0"
)

// outsideNets are those of documentation (RFC 5737, RFC 3849), which no design has.
var outsideNets = map[fabric.Family]netip.Prefix{
	fabric.IPv4: netip.MustParsePrefix("198.51.100.0/24"),
	fabric.IPv6: netip.MustParsePrefix("2001:db8:ff::/64"),
}

// outsideAddr is the n-th address outside: the host is 1, borders follow.
func outsideAddr(f fabric.Family, n int) netip.Prefix {
	p := outsideNets[f]
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

// edge are the borders through which packets leave.
func (l *Lab) edge() (list []*fabric.Device) {
	for i := range l.Design.Devices {
		if d := &l.Design.Devices[i]; d.Originates(fabric.OriginDefault) {
			list = append(list, d)
		}
	}
	return list
}

// startOutside makes the host outside, if a border leads there, and has borders translate what
// comes from private pools.
func (l *Lab) startOutside() error {
	borders := l.edge()
	if len(borders) == 0 {
		return nil
	}
	host, err := l.newSpace(outside)
	if err != nil {
		return err
	}
	for _, key := range []string{"net/ipv6/conf/default/accept_dad", "net/ipv6/conf/all/accept_dad"} {
		if err := host.SetSysctl(key, "0"); err != nil {
			return err
		}
	}
	if err := host.AddBridge(outsideLink); err != nil {
		return err
	}
	for _, family := range l.Design.Families {
		if err := host.AddAddr(outsideLink, outsideAddr(family, 1)); err != nil {
			return err
		}
	}
	for i, d := range borders {
		if err := l.connectOutside(host, d, i); err != nil {
			return err
		}
	}
	return l.followBorders()
}

// connectOutside gives the i-th border a port there, and its own default route: what it tells the
// fabric is true, and no route of another border takes its place.
func (l *Lab) connectOutside(host *lab.Namespace, d *fabric.Device, i int) error {
	b, err := l.space(d.Name)
	if err != nil {
		return err
	}
	port := outsidePort(i)
	if err := errors.Join(lab.Veth(lab.End{NS: host, Name: port}, lab.End{NS: b, Name: outside}), host.Enslave(port, outsideLink)); err != nil {
		return err
	}
	for _, family := range l.Design.Families {
		if err := b.AddAddr(outside, outsideAddr(family, 2+i)); err != nil {
			return err
		}
		all := prefixOf(nil, family)
		if err := b.AddRoute(all, outsideAddr(family, 1).Addr(), outside); err != nil {
			return err
		}
	}
	var private []netip.Prefix
	for _, p := range l.Design.Pools {
		if p.External != fabric.Advertise {
			private = append(private, p.CIDR)
		}
	}
	return b.Masquerade(outside, private...)
}

// outsidePort is where the host has the i-th border.
func outsidePort(i int) string { return fmt.Sprintf("b%d", i) }

// followBorders has the world outside know of the borders that are up, and no others: one that fails does so with its
// port there.
func (l *Lab) followBorders() error {
	borders := l.edge()
	if len(borders) == 0 {
		return nil
	}
	host, err := l.space(outside)
	if err != nil {
		return err
	}
	var up []int
	for i, d := range borders {
		set := host.LinkUp
		if slices.ContainsFunc(l.Failed, func(f Failed) bool { return f.What == d.Name && f.How != ByDaemon }) {
			set = host.LinkDown
		} else {
			up = append(up, i)
		}
		err = errors.Join(err, set(outsidePort(i)))
	}
	return errors.Join(err, l.routesOutside(host, up))
}

// routesOutside tells the host the way to public pools, by some borders.
func (l *Lab) routesOutside(host *lab.Namespace, borders []int) error {
	h, err := host.Handle()
	if err != nil {
		return err
	}
	link, err := host.LinkIndex(outsideLink)
	if err != nil {
		return err
	}
	for _, p := range l.Design.Pools {
		if p.External != fabric.Advertise {
			continue
		}
		r := &netlink.Route{Dst: &net.IPNet{IP: p.CIDR.Addr().AsSlice(), Mask: net.CIDRMask(p.CIDR.Bits(), p.CIDR.Addr().BitLen())}, Protocol: unix.RTPROT_STATIC}
		for _, i := range borders {
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: link, Gw: outsideAddr(fabric.FamilyOf(p.CIDR.Addr()), 2+i).Addr().AsSlice()})
		}
		change := h.RouteReplace
		if len(borders) == 0 {
			change = h.RouteDel
		}
		if err := change(r); err != nil && !errors.Is(err, unix.ESRCH) { // it may be gone already
			return fmt.Errorf("outside: route to %s: %w", p.CIDR, err)
		}
	}
	return nil
}

// public tells whether the world outside knows an address.
func (l *Lab) public(a netip.Addr) bool {
	return slices.ContainsFunc(l.Design.Pools, func(p fabric.EndpointPool) bool { return p.External == fabric.Advertise && p.CIDR.Contains(a) })
}

// Crossing is how endpoints and the host outside see each other.
type Crossing struct {
	Tries int `json:"tries"`
	// Inward and Translated are how many of them came from outside, and how many were seen with an address of a border.
	Inward     int      `json:"inward"`
	Translated int      `json:"translated"`
	Wrong      []string `json:"wrong"`
}

// whoPort is where those who are asked say whom they see.
const whoPort = 7

// Cross connects every endpoint with the host outside, and from there every public endpoint. Who is
// called says whom he sees: a public address as it is, and in place of a private one that of a border.
func (l *Lab) Cross(ctx context.Context) (*Crossing, error) {
	c := &Crossing{Wrong: []string{}}
	borders := l.edge()
	if len(borders) == 0 {
		return c, nil
	}
	host, err := l.space(outside)
	if err != nil {
		return nil, err
	}
	stop, err := answer(host)
	if err != nil {
		return nil, err
	}
	defer stop()
	edge := map[netip.Addr]bool{}
	for i := range borders {
		for _, family := range l.Design.Families {
			edge[outsideAddr(family, 2+i).Addr()] = true
		}
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	try := func(n *lab.Namespace, to netip.Addr, name string, inward bool, want func(netip.Addr) bool) {
		g.Go(func() error {
			seen, err := ask(ctx, n, to)
			mu.Lock()
			defer mu.Unlock()
			c.Tries++
			switch {
			case err != nil:
				c.Wrong = append(c.Wrong, fmt.Sprintf("%s to %s: %v", name, to, err))
			case !want(seen):
				c.Wrong = append(c.Wrong, fmt.Sprintf("%s to %s: seen as %s", name, to, seen))
			case inward:
				c.Inward++
			case edge[seen]:
				c.Translated++
			}
			return ctx.Err()
		})
	}
	for _, e := range l.Endpoints() {
		if e.Anycast {
			continue // answers may go to another one that has the address
		}
		n, err := l.space(e.Name)
		if err != nil {
			return nil, err
		}
		answering := false
		for _, a := range e.Addrs {
			try(n, outsideAddr(fabric.FamilyOf(a), 1).Addr(), e.Name, false, func(seen netip.Addr) bool {
				if l.public(a) {
					return seen == a
				}
				return edge[seen] && seen.Is4() == a.Is4()
			})
			if !l.public(a) {
				continue
			}
			if !answering {
				stop, err := answer(n)
				if err != nil {
					return nil, errors.Join(err, g.Wait())
				}
				defer stop()
				answering = true
			}
			try(host, a, outside, true, func(seen netip.Addr) bool { return seen == outsideAddr(fabric.FamilyOf(a), 1).Addr() })
		}
	}
	err = g.Wait()
	slices.Sort(c.Wrong)
	return c, err
}

// answer says to everybody who connects whom it sees.
func answer(n *lab.Namespace) (stop func(), err error) {
	ln, err := n.Listen("tcp", fmt.Sprintf("[::]:%d", whoPort))
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = io.WriteString(c, c.RemoteAddr().String())
			c.Close()
		}
	}()
	return func() { ln.Close() }, nil
}

// ask connects and is told whom the other sees.
func ask(ctx context.Context, n *lab.Namespace, to netip.Addr) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := n.Dial(ctx, "tcp", netip.AddrPortFrom(to, whoPort).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	text, err := io.ReadAll(io.LimitReader(c, 256))
	if err != nil {
		return netip.Addr{}, err
	}
	seen, err := netip.ParseAddrPort(strings.TrimSpace(string(text)))
	return seen.Addr().Unmap(), err
}

// Summary is the crossing in a line.
func (c *Crossing) Summary() string {
	return fmt.Sprintf("%d connections through the border, %d of them from outside and %d with the border's address: %d wrong", c.Tries, c.Inward, c.Translated, len(c.Wrong))
}
