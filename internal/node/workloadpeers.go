// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/selector"
)

// Workloads of this node that speak BGP with it: localWorkloadSelector of
// BGPPeers. The node waits for them, on localWorkloadPeeringIPV4 and IPV6 if the
// BGPConfiguration has them, which are then on the interfaces of these workloads.
// What they announce and policy accepts lies behind their interfaces.

// workload is an endpoint of this node, as far as a session is concerned.
type workload struct {
	id    policy.EndpointID
	iface string
	addrs []netip.Addr
}

func compareWorkloads(a, b workload) int { return cmp.Compare(a.id.String(), b.id.String()) }

// workloads lists the endpoints that a selector selects, in order.
func (l *loop) workloads(s *selector.Selector) (list []workload) {
	for e := range l.model.index.Endpoints() {
		if !e.Process && l.model.index.Selects(s, e.ID) {
			list = append(list, workload{e.ID, e.Interface, e.Addrs})
		}
	}
	slices.SortFunc(list, compareWorkloads)
	return list
}

// selected are the workloads that a BGPPeer selects.
func (in *peeringInput) selected(p *v3.BGPPeer) ([]workload, error) {
	s, err := selector.Parse(p.Spec.LocalWorkloadSelector)
	if err != nil || in.workloads == nil {
		return nil, err
	}
	return in.workloads(s), nil
}

// workloadOf are the addresses of the workload that a BGPPeer selects and that
// has one address; none if it is no such peer.
func (in *peeringInput) workloadOf(p *v3.BGPPeer, one netip.Addr) []netip.Addr {
	if p.Spec.LocalWorkloadSelector == "" {
		return nil
	}
	list, _ := in.selected(p) // without an error: there is a session
	for _, w := range list {
		if slices.Contains(w.addrs, one) {
			return w.addrs
		}
	}
	return []netip.Addr{one}
}

// byWorkload adds the sessions with the workloads that a BGPPeer selects, one
// for each of their addresses.
func (in *peeringInput) byWorkload(name string, p *v3.BGPPeer, self nodeAddr, add func(bgp.PeerConfig, *v3.BGPPeer)) (problems []problem) {
	list, err := in.selected(p)
	if err != nil {
		return []problem{{object: "BGPPeer " + name, field: "spec.localWorkloadSelector", text: err.Error()}}
	}
	host := in.workloadAddrs()
	for _, w := range list {
		for _, a := range w.addrs {
			c := bgp.PeerConfig{Name: w.id.String(), Addr: netip.AddrPortFrom(a, defaultPort), ASN: uint32(p.Spec.ASNumber), Passive: true,
				LocalAddr: host[a.Is6()]}
			if !c.LocalAddr.IsValid() {
				c.LocalAddr = self.own(a)
			}
			if !c.LocalAddr.IsValid() && p.Spec.SourceAddress != "None" {
				problems = append(problems, problem{object: "BGPPeer " + name, field: "spec.localWorkloadSelector",
					text: fmt.Sprintf("%s of %s needs an address of its family on this node: set localWorkloadPeeringIPV%s of BGPConfiguration default, or give the node one with --ip or --ip6", a, w.id, familyDigit(a))})
				continue
			}
			options(p, &c)
			add(c, p)
		}
	}
	return problems
}

func familyDigit(a netip.Addr) string {
	if a.Is6() {
		return "6"
	}
	return "4"
}

// workloadAddrs are the addresses that workloads find this node at, by whether
// they are IPv6; a family that has none is left out.
func (in *peeringInput) workloadAddrs() map[bool]netip.Addr {
	m := map[bool]netip.Addr{}
	if in.global != nil {
		for _, text := range []string{in.global.Spec.LocalWorkloadPeeringIPV4, in.global.Spec.LocalWorkloadPeeringIPV6} {
			if a, err := v3.ParseAddr(text); err == nil {
				m[a.Is6()] = a
			}
		}
	}
	return m
}

// listenForWorkloads are the addresses to listen on besides, for the sessions
// that have one of them as their own.
func (in *peeringInput) listenForWorkloads(sessions map[netip.AddrPort]bgp.PeerConfig, have []netip.AddrPort, port uint16) (list []netip.AddrPort) {
	for _, a := range in.workloadAddrs() {
		any := slices.ContainsFunc(have, func(l netip.AddrPort) bool { return l.Addr().IsUnspecified() && l.Addr().Is4() == a.Is4() })
		for _, s := range sessions {
			if s.LocalAddr == a && !any {
				list = append(list, netip.AddrPortFrom(a, port))
				break
			}
		}
	}
	return list
}

// speakers is what the rest of the data plane does for workloads that speak BGP.
type speakers struct {
	workloads []workload
	host      []netip.Addr // on their interfaces, IPv4 first
	port      uint16       // that they connect to
}

func (s speakers) equal(o speakers) bool {
	return s.port == o.port && slices.Equal(s.host, o.host) && slices.EqualFunc(s.workloads, o.workloads, func(a, b workload) bool {
		return a.id == b.id && a.iface == b.iface && slices.Equal(a.addrs, b.addrs)
	})
}

// interfaces are those of the workloads, in order.
func (s speakers) interfaces() (names []string) {
	for _, w := range s.workloads {
		names = append(names, w.iface)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// hostAddrs are the addresses of this node that an endpoint's interface has.
func (s speakers) hostAddrs(id policy.EndpointID) []netip.Addr {
	if slices.ContainsFunc(s.workloads, func(w workload) bool { return w.id == id }) {
		return s.host
	}
	return nil
}

// speaking collects the workloads of all BGPPeers that concern this node.
func (in *peeringInput) speaking() (out speakers) {
	self, err := in.node(in.self)
	if err != nil {
		return speakers{}
	}
	found := map[policy.EndpointID]workload{}
	for _, name := range slices.Sorted(maps.Keys(in.peers)) {
		p := in.peers[name]
		if p.Spec.LocalWorkloadSelector == "" {
			continue
		}
		if local, err := in.selects(p.Spec.Node, p.Spec.NodeSelector, in.self, self.labels); err != nil || !local {
			continue
		}
		list, _ := in.selected(p) // an error is a problem of the sessions
		for _, w := range list {
			found[w.id] = w
		}
	}
	if len(found) == 0 {
		return speakers{}
	}
	out.workloads = slices.SortedFunc(maps.Values(found), compareWorkloads)
	host := in.workloadAddrs()
	for _, six := range []bool{false, true} {
		if a := host[six]; a.IsValid() {
			out.host = append(out.host, a)
		}
	}
	out.port = in.listenPort(in.self)
	return out
}

// applySpeakers has interfaces, packet filter and routing table do what sessions
// with workloads need, before there are any.
func (l *loop) applySpeakers() error {
	now := l.peeringInput().speaking()
	l.model.touchedWorkloads = false
	if now.equal(l.speakers) {
		return nil
	}
	l.model.touchedPeering = true
	was := l.speakers
	l.speakers = now
	if err := l.setACLOptions(); err != nil {
		l.speakers = was
		return err
	}
	near := map[netip.Addr]string{}
	for _, w := range now.workloads {
		for _, a := range w.addrs {
			near[a] = w.iface
		}
	}
	l.routes.Near(near)
	return l.linksOfSpeakers(was)
}

// linksOfSpeakers gives interfaces the addresses of this node that sessions with
// workloads need, and takes them from those that need them no more. An interface that is
// new gets them with what else it gets.
func (l *loop) linksOfSpeakers(was speakers) error {
	old, now := was.byID(), l.speakers.byID()
	var names []string
	for e := range l.model.index.Endpoints() {
		if !slices.Equal(old[e.ID], now[e.ID]) && l.interfaces[e.ID] == e.Interface && l.links.Set(e.Interface, l.linkConfig(e)) {
			names = append(names, e.Interface)
		}
	}
	err := l.syncLinks(slices.Values(names))
	l.resyncLinks = l.resyncLinks || err != nil
	return err
}

// byID is what hostAddrs says of each workload.
func (s speakers) byID() map[policy.EndpointID][]netip.Addr {
	m := make(map[policy.EndpointID][]netip.Addr, len(s.workloads))
	for _, w := range s.workloads {
		m[w.id] = s.host
	}
	return m
}
