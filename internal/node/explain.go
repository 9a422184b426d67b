// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

// getExplain walks a packet through the model. The objects are read from the
// datastore for the question: keeping all of them for a rare one would cost
// more than the whole data plane.
func (d *Daemon) getExplain(r *http.Request) (any, error) {
	q := r.URL.Query()
	w, read, err := d.world(r.Context())
	if err != nil {
		return nil, err
	}
	if w.Interfaces, err = endpoint.InterfaceAddrs(); err != nil {
		return nil, err
	}
	src, err := w.end(q.Get("src"))
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	dst, err := w.end(q.Get("dst"))
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	proto, port, err := protocolAndPort(q.Get("proto"), q.Get("port"))
	if err != nil {
		return nil, err
	}
	var o acl.Options
	d.loop.call(r.Context(), func() { o = d.loop.aclOptions() })
	sport := uint16(49152)
	if q.Get("live") != "" {
		sport += uint16(rand.IntN(65536 - 49152)) // of no flow that is there
	}
	var source netip.Addr
	if s := q.Get("source"); s != "" {
		if source, err = netip.ParseAddr(s); err != nil {
			return nil, fmt.Errorf("source address %q: want an address", s)
		}
	}
	w.Failsafes = o.Failsafes
	answer := api.Explain{Source: q.Get("src"), Destination: q.Get("dst"), Protocol: q.Get("proto"), Port: port}
	for _, six := range []bool{false, true} {
		if !proto.in(six) {
			continue
		}
		from, to := src.addr(six), dst.addr(six)
		if source.IsValid() {
			from = netip.Addr{}
			if source.Is6() == six {
				from = source
			}
		}
		if !from.IsValid() || !to.IsValid() {
			continue
		}
		p := policy.Packet{Src: from, Dst: to, Proto: proto.forFamily(six), DstPort: port, SrcPort: sport}
		if proto.echo {
			p.ICMPType = 8
			if six {
				p.ICMPType = 128
			}
		}
		f := policy.Flow{Packet: p, From: src.id, To: dst.id}
		if src.id == (policy.EndpointID{}) && dst.id == (policy.EndpointID{}) {
			f = w.FlowOf(p)
		}
		if to, _, ok := w.Floating(p.Dst); ok {
			f.To = to
		}
		walk := d.walk(r.Context(), w, o, f, src.host, dst.host)
		if q.Get("live") != "" {
			if walk.path.Live, err = d.live(r.Context(), w, walk); err != nil {
				return nil, err
			}
		}
		answer.Families = append(answer.Families, walk.path)
		answer.Notes = append(answer.Notes, walk.notes...)
	}
	slices.Sort(answer.Notes)
	answer.Notes = slices.Compact(answer.Notes)
	blocked := ""
	d.loop.call(r.Context(), func() {
		notes, differs := d.loop.differences(read)
		answer.Notes, answer.OtherState = append(answer.Notes, notes...), differs
		for _, id := range slices.Compact([]policy.EndpointID{src.id, dst.id}) {
			e := w.Endpoints[id]
			if e == nil {
				continue
			}
			note, blocks := d.loop.hindrance(id, e.Spec.Node, w.nodes)
			if note != "" {
				answer.Notes = append(answer.Notes, note)
			}
			if blocks && blocked == "" {
				blocked = note
			}
		}
	})
	if len(answer.Families) == 0 {
		return nil, noFamily(q.Get("src"), q.Get("dst"), proto)
	}
	for i := range answer.Families {
		f := &answer.Families[i]
		f.Blocked = blocked
		f.Passes = f.Allowed && f.Unroutable == "" && f.Blocked == ""
	}
	return answer, nil
}

// noFamily says that there is no packet to ask about.
func noFamily(src, dst string, p protocol) error {
	switch {
	case !p.in(true):
		return fmt.Errorf("%s and %s do not both have an IPv4 address, and ICMP is of IPv4: ask for icmpv6, or for ping, which is either", src, dst)
	case !p.in(false):
		return fmt.Errorf("%s and %s do not both have an IPv6 address, and ICMPv6 is of IPv6: ask for icmp, or for ping, which is either", src, dst)
	}
	return fmt.Errorf("%s and %s have no address of a common family", src, dst)
}

// hindrance tells what is to be known of an endpoint beside policy, and whether
// that keeps all packets from it and of it. How its interface is, is known to its
// own node alone.
func (l *loop) hindrance(id policy.EndpointID, node string, nodes map[string]bool) (note string, blocks bool) {
	switch {
	case !nodes[node]:
		return fmt.Sprintf("%s is on node %s, which does not exist: nobody routes to it", id, node), true
	case node != l.d.cfg.Node:
		return fmt.Sprintf("%s is on node %s: whether its interface is there and up is known there", id, node), false
	}
	e := l.endpoint(id.Namespace, id.Name)
	switch {
	case e == nil:
		return fmt.Sprintf("%s is not in force on this node: `muslin status` says why", id), true
	case e.State == stateNoLink:
		return fmt.Sprintf("%s has no interface: %s does not exist on this node, so nothing passes", id, e.Interface), true
	case e.State == stateDown:
		return fmt.Sprintf("%s is cut off: its interface %s is down, so nothing passes", id, e.Interface), true
	case e.State == stateError:
		return fmt.Sprintf("%s is in error, so nothing passes: %s", id, e.Text), true
	}
	return "", false
}

func explainStep(dec *policy.Decision) api.ExplainStep {
	s := api.ExplainStep{Where: "ingress", Verdict: "deny", Rule: dec.Rule, Text: dec.String()}
	if dec.Direction == policy.Egress {
		s.Where = "egress"
	}
	if dec.Allowed {
		s.Verdict = "allow"
	}
	switch dec.Reason {
	case policy.EndOfTier:
		var names []string
		for _, p := range dec.Selected {
			names = append(names, p.String())
		}
		s.Object, s.Rule = "end of tier "+dec.Tier+" ("+strings.Join(names, ", ")+")", -1
	case policy.ByPolicy, policy.ByProfile, policy.BadPolicy, policy.MissingProfile:
		s.Object = dec.Policy.String()
	default:
		s.Object, s.Rule = string(dec.Reason), -1
	}
	return s
}

// toHost is the last decision on the way from a workload to its own host.
func (d *Daemon) toHost(ctx context.Context) api.ExplainStep {
	action := "Drop"
	d.loop.call(ctx, func() { action = d.loop.settings.hostAction })
	s := api.ExplainStep{Where: "to-host", Verdict: "deny", Object: "FelixConfiguration defaultEndpointToHostAction", Rule: -1, Text: "defaultEndpointToHostAction is " + action}
	if action != "Drop" {
		s.Verdict = "allow"
	}
	return s
}

// world is the objects that matter to verdicts.
type world struct {
	policy.World
	self  []netip.Addr // addresses of the node of the daemon that was asked
	nodes map[string]bool
}

// take takes in one object; self is the node of the daemon that was asked.
func (w *world) take(self string, c store.Change) {
	if policy.Takes(c.Kind) {
		w.Put(policy.Key{Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}, c.Object, c.Err)
	}
	if c.Kind == "Node" {
		w.nodes[c.Name] = true // whatever is in it
	}
	n, ok := c.Object.(*v3.Node)
	if !ok || c.Err != nil {
		return
	}
	v4, v6 := n.Addrs()
	for _, a := range []netip.Prefix{v4, v6} {
		if !a.IsValid() {
			continue
		}
		w.Reserved[a.Addr()] = "Node " + c.Name
		if c.Name == self {
			w.self = append(w.self, a.Addr())
		}
	}
}

// isHeld tells whether an interface of the server that was asked has an address, such
// as that of a workload's gateway.
func (w *world) isHeld(a netip.Addr) bool {
	for _, addrs := range w.Interfaces {
		if slices.ContainsFunc(addrs, func(own netip.Addr) bool { return own.WithZone("").Unmap() == a.WithZone("") }) {
			return true
		}
	}
	return false
}

// end is one end of a packet: a workload, or just addresses.
type end struct {
	id    policy.EndpointID
	addrs []netip.Addr
	host  bool // the node of the daemon that was asked
}

func (e end) addr(six bool) netip.Addr {
	for _, a := range e.addrs {
		if a.Is6() == six {
			return a
		}
	}
	return netip.Addr{}
}

// end resolves what a user calls an end: an address, `host`, or a workload as
// NAME or NAMESPACE/NAME, where NAME is the workload's, the pod's or that of
// the WorkloadEndpoint.
func (w *world) end(s string) (end, error) {
	if s == "" {
		return end{}, errors.New("name a workload, an address, or host")
	}
	if s == "host" {
		return end{addrs: w.self, host: true}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		id, owned := w.Owner(a)
		return end{id: id, addrs: []netip.Addr{a}, host: slices.Contains(w.self, a) || !owned && w.isHeld(a)}, nil
	}
	ns, name, qualified := strings.Cut(s, "/")
	if !qualified {
		ns, name = "", s
	}
	var found []policy.EndpointID
	for id, e := range w.Endpoints {
		if (ns == "" || ns == id.Namespace) && (name == id.Name || name == e.Spec.Workload || name == e.Spec.Pod) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return end{}, fmt.Errorf("no workload is called %q: `muslin get workloadendpoints -A` lists them; an address or \"host\" will do too", s)
	case 1:
		addrs, err := addresses(w.Endpoints[found[0]])
		return end{id: found[0], addrs: addrs}, err
	}
	var names []string
	for _, id := range found {
		names = append(names, id.String())
	}
	slices.Sort(names)
	return end{}, fmt.Errorf("%q is the name of %d workloads: say which of %s", s, len(found), strings.Join(names, ", "))
}

// protocol is what a user asked about.
type protocol struct {
	number uint8
	echo   bool // an echo request of ICMP, in IPv6 of ICMPv6
	both   bool // in both families
}

const icmp, icmpv6 = 1, 58

// in tells whether there is such a packet in a family.
func (p protocol) in(six bool) bool {
	return p.both || p.number != icmp && p.number != icmpv6 || six == (p.number == icmpv6)
}

func (p protocol) forFamily(six bool) uint8 {
	if p.both && six {
		return icmpv6
	}
	return p.number
}

func protocolAndPort(proto, port string) (protocol, uint16, error) {
	var p protocol
	switch strings.ToLower(proto) {
	case "ping":
		return protocol{number: icmp, echo: true, both: true}, 0, nil
	case "icmp":
		return protocol{number: icmp, echo: true}, 0, nil
	case "icmpv6":
		return protocol{number: icmpv6, echo: true}, 0, nil
	default:
		n, ok := v3.ProtocolName(proto).Number()
		if !ok {
			v, err := strconv.ParseUint(proto, 10, 8)
			if err != nil || v == 0 {
				return p, 0, fmt.Errorf("protocol %q: want tcp, udp, icmp, icmpv6, ping, sctp, udplite or 1–255", proto)
			}
			n = uint8(v)
		}
		p.number = n
	}
	ports := p.number == 6 || p.number == 17 || p.number == 132 || p.number == 136
	if port == "" || port == "0" {
		if ports {
			return p, 0, fmt.Errorf("protocol %s has ports: give one", proto)
		}
		return p, 0, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return p, 0, fmt.Errorf("port %q: want 1–65535", port)
	}
	return p, uint16(n), nil
}
