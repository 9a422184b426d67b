// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// walk is the way of a packet through the model: may it have its source, may
// its sender send it, which way does it go, who announced that, may its receiver
// have it.
type walk struct {
	flow  policy.Flow
	trace policy.Trace
	path  api.ExplainPath
	notes []string
	in    string // the interface of this host that it comes in on; empty if this host sends it, or unknown
	here  bool   // it passes this host
	// Its ends are workloads of this host.
	fromHere, toHere bool
}

func step(where string, allowed bool, object, format string, args ...any) api.ExplainStep {
	s := api.ExplainStep{Where: where, Verdict: "deny", Object: object, Rule: -1, Text: fmt.Sprintf(format, args...)}
	if allowed {
		s.Verdict = "allow"
	}
	return s
}

// walk walks a packet. The kernel is asked for routes alone.
func (d *Daemon) walk(ctx context.Context, w *world, o acl.Options, f policy.Flow, fromHost, toHost bool) *walk {
	k := &walk{flow: f, trace: policy.Evaluate(&w.World, f), path: api.ExplainPath{Family: "ipv4", From: f.Src.String(), To: f.Dst.String()}}
	if f.Src.Is6() {
		k.path.Family = "ipv6"
	}
	p := &k.path
	p.Allowed = true
	add := func(s api.ExplainStep) {
		p.Steps = append(p.Steps, s)
		p.Allowed = p.Allowed && s.Verdict == "allow"
	}
	here := func(id policy.EndpointID) bool {
		return w.Endpoints[id] != nil && w.Endpoints[id].Spec.Node == d.cfg.Node
	}
	from, to := w.Endpoints[f.From], w.Endpoints[f.To]
	k.fromHere, k.toHere = here(f.From), here(f.To)
	k.here = fromHost || toHost || k.fromHere || k.toHere || from == nil && to == nil
	process := w.IsProcess(f.From)
	k.in = k.comesBy(w, fromHost || k.fromHere && process)
	onLink := k.goesNoFurther()
	toHost = toHost || onLink
	if from != nil {
		if why := o.Refused(f.Packet); why != "" && !process {
			add(step("anti-spoof", false, "anti-spoofing", "%s", why))
		} else {
			add(w.mayHave(f.From, f.Src))
		}
	}
	if why := o.Excepted(f.Packet, toHost); why != "" && k.fromHere && !process {
		add(step("egress", true, "exception for OpenStack", "%s", why))
		if onLink || f.Dst.IsMulticast() {
			d.walkRoute(ctx, k, f, false)
		}
		return k
	}
	// From here on the packet is what this server makes of it.
	if sent, received := w.Translated(f); received.Dst != f.Dst {
		text := fmt.Sprintf("%s is a floating IP of %s, and becomes %s", f.Dst, f.To, received.Dst)
		if sent.Dst == f.Dst || !k.here && !fromHost {
			text += " on node " + to.Spec.Node
		}
		add(step("floating-ip", true, "WorkloadEndpoint "+f.To.String(), "%s", text))
		if k.toHere {
			f.Packet = received
		}
	}
	if k.trace.Egress != nil {
		add(explainStep(k.trace.Egress))
		k.staged(k.trace.Egress)
	}
	if from != nil && !k.fromHere {
		k.notes = append(k.notes, fmt.Sprintf("%s is on node %s: which way its packets go from there is known there", f.From, from.Spec.Node))
	}
	var out []policy.Decision
	policed := false
	if way, ok := d.walkRoute(ctx, k, f, k.toHere); ok {
		var in []policy.Decision
		in, out = k.askHosts(w, d.cfg.Node, o.Prefixes, way)
		policed = len(in)+len(out) > 0
		for i := range in {
			add(explainHost(&in[i]))
		}
	}
	switch {
	case process && f.From == f.To:
		add(step("ingress", true, "none", "what a process sends to itself is not policed"))
	case fromHost && k.toHere:
		add(step("ingress", true, "none", "what this server itself sends to its workloads is not policed"))
		k.trace.Ingress = nil
	case k.trace.Ingress != nil:
		add(explainStep(k.trace.Ingress))
		k.staged(k.trace.Ingress)
	case k.trace.Egress != nil || policed:
	case toHost:
		add(step("host-ingress", true, "none", "no host endpoint is where it comes in: no policy applies"))
	case fromHost:
		add(step("host-egress", true, "none", "no host endpoint is where it goes out: no policy applies"))
	default:
		add(step("forward", true, "none", "neither end is a workload: no policy applies"))
	}
	for i := range out {
		add(explainHost(&out[i]))
	}
	if toHost && p.Allowed && from != nil {
		add(d.toHost(ctx))
	}
	return k
}

// comesBy is the interface of this server that the packet comes in by, empty if this
// server itself sends it.
func (k *walk) comesBy(w *world, itself bool) string {
	switch {
	case itself:
	case k.fromHere:
		return w.Endpoints[k.flow.From].Spec.InterfaceName
	case k.here:
		if back, err := wayOf(route.Query{Dst: k.flow.Src}); err == nil && !back.Local {
			return back.Device
		}
	}
	return ""
}

// goesNoFurther tells whether this server takes the packet as one of all on the link, or
// of a group, that it comes in by.
func (k *walk) goesNoFurther() bool {
	if k.in == "" {
		return false
	}
	way, err := wayOf(route.Query{Src: k.flow.Src, Dst: k.flow.Dst, In: k.in})
	return err == nil && way.OnLink
}

// staged adds what staged policies would have done.
func (k *walk) staged(dec *policy.Decision) {
	for _, s := range dec.Staged {
		k.path.Steps = append(k.path.Steps, api.ExplainStep{
			Where: directionWord(dec.Direction), Verdict: "staged", Object: s.Policy.String(), Rule: s.Rule, Text: fmt.Sprintf("%s: %s", s.Policy, s)})
	}
}

// placeOf is where an endpoint is on its server.
func (w *world) placeOf(id policy.EndpointID) string {
	if w.IsProcess(id) {
		return "a process of node " + w.Endpoints[id].Spec.Node
	}
	return "interface " + w.Endpoints[id].Spec.InterfaceName
}

// mayHave is the anti-spoof step.
func (w *world) mayHave(id policy.EndpointID, src netip.Addr) api.ExplainStep {
	owner, owned := w.Owner(src)
	object := "WorkloadEndpoint " + id.String()
	if owned && owner == id {
		return step("anti-spoof", true, object, "%s is an address of %s, %s", src, id, w.placeOf(id))
	}
	if w.MaySend(id, src) {
		return step("anti-spoof", true, object, "%s is in allowSpoofedSourcePrefixes of %s, interface %s", src, id, w.Endpoints[id].Spec.InterfaceName)
	}
	why := "nobody has it"
	switch {
	case owned:
		why = "it is " + owner.String() + "'s"
	case w.Reserved[src] != "":
		why = "it is reserved for " + w.Reserved[src]
	}
	return step("anti-spoof", false, object, "%s is no address of %s: %s", src, id, why)
}

// learned is the prefix of the route that packets to an address follow, if BGP learned it; else what the kernel
// named. Of routes of IPv6 with a group of next hops in common the kernel may name another one (it keeps a route
// for each next hop, and whose it was).
func (d *Daemon) learned(dst netip.Addr, named netip.Prefix) netip.Prefix {
	for bits := dst.BitLen(); dst.Is6() && bits >= 0; bits-- {
		p := netip.PrefixFrom(dst, bits).Masked()
		list := d.speaker.Routes(bgp.RouteFilter{Prefix: p, Exact: true, View: bgp.ViewBest, Limit: 1})
		switch {
		case len(list) == 0:
		case list[0].PeerName == "": // this server's own: not the route that was asked about
			return named
		default:
			return p
		}
	}
	return named
}

// walkRoute asks the kernel which way the packet goes, and BGP who said so. It is
// not ok if it does not come by here, or goes nowhere.
func (d *Daemon) walkRoute(ctx context.Context, k *walk, f policy.Flow, local bool) (way route.Way, ok bool) {
	if !k.here {
		return way, false
	}
	way, err := wayOf(route.Query{Src: f.Src, Dst: f.Dst, In: k.in})
	if err != nil || way.Refused != "" && k.in != "" && !f.Dst.IsMulticast() { // of a source that may not come in there, or while the interface is away
		if plain, perr := wayOf(route.Query{Dst: f.Dst}); perr == nil {
			way, err = plain, nil
		}
	}
	if err != nil {
		k.notes = append(k.notes, err.Error())
		return way, false
	}
	var protocol uint8
	d.loop.call(ctx, func() { protocol = d.loop.protocol })
	object := "kernel"
	if way.Protocol == protocol {
		object = "BGP"
		if local {
			object = "WorkloadEndpoint " + f.To.String()
		}
	}
	if object == "BGP" && way.Refused == "" {
		way.Prefix = d.learned(f.Dst, way.Prefix)
	}
	s := step("route", way.Refused == "", object, "%s", way)
	if way.Refused != "" {
		k.path.Unroutable = s.Text
	}
	k.path.Steps = append(k.path.Steps, s)
	if object != "BGP" || way.Refused != "" {
		return way, way.Refused == ""
	}
	for _, r := range d.speaker.Routes(bgp.RouteFilter{Prefix: way.Prefix, Exact: true, View: bgp.ViewBest}) {
		if r.PeerName == "" {
			continue
		}
		text := fmt.Sprintf("%s was learned from %s, next hop %s", r.Prefix, r.PeerName, r.NextHop)
		if len(r.ASPath) > 0 {
			text += ", AS path " + strings.Trim(fmt.Sprint(r.ASPath), "[]")
		}
		k.path.Steps = append(k.path.Steps, step("bgp", true, "peer "+r.PeerName, "%s", text))
		break
	}
	return way, true
}
