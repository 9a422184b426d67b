// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/selector"
)

// Loopback is the interface by which a server sends to itself, and receives what it
// has sent.
const Loopback = "lo"

// Passage is a packet's way through one server. In is the interface by which it
// came in, empty if the server itself sent it; Out the one by which it leaves,
// empty if it is for the server itself. FromWorkload and ToWorkload say that they
// are interfaces of workloads.
type Passage struct {
	Node                     string
	In, Out                  string
	FromWorkload, ToWorkload bool
	// Process: at this server is the endpoint of a process of it, which is not the
	// server as its host endpoints mean it.
	Process bool
}

var stageWords = map[Stage]string{StageForward: " (forwarded)", StageUntracked: " (not tracked)", StagePreDNAT: " (before DNAT)"}

// passage is what the host endpoints of a server say of a packet. What an earlier
// stage allows by policy is not asked about again on the same side, and what is
// between the server and its own workloads concerns no host endpoint's normal
// policy.
func (v *evaluation) passage(p Passage) (in, out []Decision) {
	ask := func(list *[]Decision, name string, stage Stage, dir Direction) (allowed bool) {
		if name == "" {
			return false
		}
		d, asked := v.decideHost(name, stage, dir)
		if asked {
			*list = append(*list, d)
		}
		return asked && d.Allowed && (d.Reason == ByPolicy)
	}
	if p.In != "" {
		named, h := v.w.hostAt(p.Node, p.In, p.FromWorkload), v.w.hostOr(p.Node, p.In, p.FromWorkload)
		settled := ask(&in, named, StageUntracked, Ingress) || ask(&in, h, StagePreDNAT, Ingress)
		switch {
		case settled, p.Out == "" && (p.FromWorkload || p.Process):
		case p.Out == "":
			ask(&in, h, StageHost, Ingress)
		default:
			ask(&in, h, StageForward, Ingress)
		}
	}
	switch {
	case p.Out == "":
		return in, nil
	case p.In == "" && p.Out == Loopback:
		in, _ = v.passage(Passage{Node: p.Node, In: Loopback, Process: p.Process})
	}
	named, h := v.w.hostAt(p.Node, p.Out, p.ToWorkload), v.w.hostOr(p.Node, p.Out, p.ToWorkload)
	switch {
	case p.In != "":
		ask(&out, h, StageForward, Egress)
	case !ask(&out, named, StageUntracked, Egress) && !p.ToWorkload && !p.Process:
		ask(&out, h, StageHost, Egress)
	}
	return in, out
}

// hostAt returns the host endpoint that an interface has of its own, empty if
// none: of several that are for it, the one with the lowest name.
func (w *World) hostAt(node, iface string, workload bool) string {
	if workload {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(w.HostEndpoints)) {
		h := w.HostEndpoints[name]
		if h.Spec.Node != node || !w.acts(h) {
			continue
		}
		if h.Spec.InterfaceName == iface {
			return name
		}
		for _, a := range w.Interfaces[iface] {
			if h.Spec.InterfaceName == "" && holds(expectedAddrs(h), plain(a)) {
				return name
			}
		}
	}
	return ""
}

// hostOr is hostAt, or else the one for all interfaces that have none.
func (w *World) hostOr(node, iface string, workload bool) string {
	if name := w.hostAt(node, iface, workload); name != "" {
		return name
	}
	for _, name := range slices.Sorted(maps.Keys(w.HostEndpoints)) {
		if h := w.HostEndpoints[name]; h.Spec.Node == node && h.Spec.InterfaceName == everyInterface {
			return name
		}
	}
	return ""
}

// acts tells whether a host endpoint is for any interface at all.
func (w *World) acts(h *v3.HostEndpoint) bool {
	return h.Spec.InterfaceName != "" || len(expectedAddrs(h)) > 0
}

func expectedAddrs(h *v3.HostEndpoint) (nets []netip.Prefix) {
	for _, text := range h.Spec.ExpectedIPs {
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			a = a.Unmap()
			nets = append(nets, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return nets
}

func hostPorts(h *v3.HostEndpoint) (ports []v3.EndpointPort) {
	for _, p := range h.Spec.Ports {
		ports = append(ports, v3.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
	}
	return ports
}

func (w *World) hostLabels(h *v3.HostEndpoint) selector.Map {
	labels := selector.Map{}
	maps.Copy(labels, h.Metadata.Labels)
	for _, name := range h.Spec.Profiles {
		w.inherit(labels, name)
	}
	return labels
}

// stageOf tells whether a policy is asked in a stage.
func stageOf(s *v3.GlobalPolicySpec, stage Stage) bool {
	switch {
	case s.DoNotTrack:
		return stage == StageUntracked
	case s.PreDNAT:
		return stage == StagePreDNAT
	case stage == StageForward:
		return s.ApplyOnForward
	}
	return stage <= StageHost
}

// decideHost is the verdict of a host endpoint in one stage, and whether it is
// asked there.
func (v *evaluation) decideHost(name string, stage Stage, dir Direction) (d Decision, asked bool) {
	h := v.w.HostEndpoints[name]
	d = Decision{Host: name, Stage: stage, Direction: dir, Rule: -1}
	list := v.applying(v.w.hostLabels(h), stage, dir)
	if len(list) == 0 && (stage == StageUntracked || stage == StagePreDNAT) {
		return d, false
	}
	if stage != StageForward {
		if reason := v.failsafe(stage, dir); reason != "" {
			d.Allowed, d.Reason = true, reason
			return d, true
		}
	}
	switch {
	case v.tiers(&d, list, dir, stage == StageHost || stage == StageForward):
	case stage == StageHost:
		d.Reason = NoMatch
		if len(list) == 0 && len(h.Spec.Profiles) == 0 {
			d.Reason = Unselected
		}
		v.profiles(&d, h.Spec.Profiles, dir)
	case len(list) == 0:
		d.Allowed, d.Reason = true, NoForward
	default:
		d.Allowed, d.Reason = true, Open
	}
	return d, true
}

// failsafe tells why a packet passes whatever policy says: what keeps a server
// reachable and its neighbours known. Before connection tracking, so do answers.
func (v *evaluation) failsafe(stage Stage, dir Direction) Reason {
	p := v.p
	if p.Proto == protoICMPv6 && p.Src.Is6() && slices.Contains(NeighbourTypes, p.ICMPType) {
		return ByNeighbours
	}
	open := func(list []Failsafe, port uint16) bool {
		remote := p.Src
		if dir == Egress {
			remote = p.Dst
		}
		return HasPorts(p.Proto) && slices.ContainsFunc(list, func(f Failsafe) bool {
			return f.Proto == p.Proto && f.Port == port && (!f.Net.IsValid() || f.Net.Contains(remote))
		})
	}
	if open(v.w.Failsafes[dir], p.DstPort) || stage == StageUntracked && open(v.w.Failsafes[1-dir], p.SrcPort) {
		return ByFailsafe
	}
	return ""
}
