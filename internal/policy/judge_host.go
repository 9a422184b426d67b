// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
)

// JudgePassage reads what the host endpoints of this node say of the first packet
// of a flow on its way through, as Judge does for a workload endpoint. The packet is
// that after the destination was translated; before is as it came. The Ruling is
// that of the first who denies it, of those who keep nothing before the others; if
// nobody does, it allows and says no more.
func (x *Index) JudgePassage(via Passage, p, before *Packet, open [2][]Failsafe) Ruling {
	out := Ruling{Allowed: true}
	ask := func(iface string, workload bool, s Stage, d Direction) (settled bool) {
		packet := p
		if s > StageForward {
			packet = before
		}
		h := x.hostOf(iface, workload, s)
		r := x.judgeStage(h, s, d, packet, open)
		if !r.Allowed && (out.Allowed || out.KeepsEstablished()) {
			out = r
			out.Host, out.Direction = h.Name, d
		}
		return r.Allowed && r.Rule != nil
	}
	in := func(iface string, workload bool) {
		switch {
		case ask(iface, workload, StageUntracked, Ingress), ask(iface, workload, StagePreDNAT, Ingress):
		case via.In != "" && via.Out != "":
			ask(iface, workload, StageForward, Ingress)
		case !workload && !via.Process:
			ask(iface, workload, StageHost, Ingress)
		}
	}
	switch {
	case via.In != "":
		in(via.In, via.FromWorkload)
	case via.Out == Loopback:
		in(Loopback, false)
	}
	switch {
	case via.Out == "":
	case via.In != "":
		ask(via.Out, via.ToWorkload, StageForward, Egress)
	case !ask(via.Out, via.ToWorkload, StageUntracked, Egress) && !via.ToWorkload && !via.Process:
		ask(via.Out, via.ToWorkload, StageHost, Egress)
	}
	return out
}

// hostOf is the host endpoint that is asked about an interface in a stage, nil if
// none.
func (x *Index) hostOf(iface string, workload bool, s Stage) (rest *HostEndpoint) {
	for _, h := range x.hosts.public {
		switch {
		case !workload && slices.Contains(h.Interfaces, iface):
			return h
		case h.Rest && s != StageUntracked:
			rest = h
		}
	}
	return rest
}

func (x *Index) judgeStage(h *HostEndpoint, s Stage, d Direction, p *Packet, open [2][]Failsafe) Ruling {
	passes := Ruling{Allowed: true}
	if h == nil {
		return passes
	}
	e := h.At(s)
	if e == nil || s != StageHost && len(e.Tiers[d]) == 0 || s != StageForward && keptOpen(s, d, p, open) {
		return passes
	}
	r, decided := x.judge(e, d, p)
	if !decided && s != StageHost {
		return passes
	}
	return r
}

// keptOpen tells whether a packet passes host endpoints whatever policy says.
func keptOpen(s Stage, d Direction, p *Packet, open [2][]Failsafe) bool {
	if p.Proto == protoICMPv6 && p.Src.Is6() && slices.Contains(NeighbourTypes, p.ICMPType) {
		return true
	}
	remote := p.Src
	if d == Egress {
		remote = p.Dst
	}
	return IsFailsafe(open[d], p.Proto, p.DstPort, remote) || s == StageUntracked && IsFailsafe(open[1-d], p.Proto, p.SrcPort, remote)
}

// IsFailsafe tells whether a list has a port, for who is at the other end.
func IsFailsafe(list []Failsafe, proto uint8, port uint16, remote netip.Addr) bool {
	return HasPorts(proto) && slices.ContainsFunc(list, func(f Failsafe) bool {
		return f.Proto == proto && f.Port == port && (!f.Net.IsValid() || f.Net.Contains(remote))
	})
}
