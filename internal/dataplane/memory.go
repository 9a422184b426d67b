// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"hash/fnv"
	"net/netip"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// Memory is a server without a kernel: packets go through the filter of Policy and
// the table of Host, in the order in which Linux asks them. It knows the flows that
// it let pass, and judges their answers by these.
type Memory struct {
	Policy *acl.Memory
	Host   *route.Host

	flows map[flow]Frame // by what answers look like
}

// flow is what packets of one have in common, in one direction.
type flow struct {
	src, dst         netip.Addr
	proto            uint8
	srcPort, dstPort uint16
}

func flowOf(p policy.Packet) flow { return flow{p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort} }

// Frame is a packet on its way in: by an interface, or from the host itself if that
// is empty.
type Frame struct {
	policy.Packet
	In  string
	MAC [6]byte // its source address
}

// Outcome is what becomes of a packet. One that passes comes out by an interface, or
// at the host itself if that is empty, perhaps under other addresses.
type Outcome struct {
	Passes   bool
	Out      string
	Src, Dst netip.Addr
	Why      string // for people
}

// Send sends a packet through the server. That of a route to several next hops goes
// where others of its source and destination go.
func (m *Memory) Send(f Frame) Outcome {
	if !m.Policy.Speaks(f.In, f.MAC) {
		return Outcome{Why: "spoofed: the MAC address is not that interface's"}
	}
	if first, ok := m.flows[flowOf(f.Packet)]; ok {
		// It is an answer for as long as that passes. A workload answers by the interface
		// by which that came out; what comes from elsewhere may take another way back.
		if way := m.forward(first); way.Passes && (way.Out == f.In || way.Out != "" && f.In != "" && !m.Policy.Workload(f.In)) {
			return m.answer(f, first)
		}
	}
	o := m.forward(f)
	if o.Passes && policy.HasPorts(f.Proto) {
		if m.flows == nil {
			m.flows = map[flow]Frame{}
		}
		m.flows[flow{o.Dst, o.Src, f.Proto, f.DstPort, f.SrcPort}] = f
	}
	return o
}

// forward is the way of the first packet of a flow.
func (m *Memory) forward(f Frame) Outcome {
	p := f.Packet
	p.Dst = m.Policy.Inside(f.Dst)
	way := m.way(p, f.In)
	v := m.Policy.Judge(f.Packet, f.In, way.Device)
	o := Outcome{Passes: v.Passes, Out: way.Device, Src: p.Src, Dst: p.Dst, Why: v.Why}
	switch {
	case way.Refused != "":
		o = Outcome{Why: way.String()}
	case v.Passes && !way.Local:
		o.Src = m.Policy.Outside(p, f.Dst, m.address(way.Device, p.Src.Is4()))
	}
	return o
}

// answer is the way of a packet to the one who sent the first of its flow: its ends
// are translated back, and policy is not asked.
func (m *Memory) answer(f, first Frame) Outcome {
	p := policy.Packet{Src: first.Dst, Dst: first.Src, Proto: f.Proto, SrcPort: f.SrcPort, DstPort: f.DstPort}
	way := m.way(p, "")
	if way.Refused != "" {
		return Outcome{Why: way.String()}
	}
	return Outcome{Passes: true, Out: way.Device, Src: p.Src, Dst: p.Dst, Why: fmt.Sprintf("an answer to %s", first.Src)}
}

// way is where a packet goes that comes in by an interface: by no interface to the host
// itself.
func (m *Memory) way(p policy.Packet, in string) route.Way {
	ways := m.Host.Ask(route.Query{Src: p.Src, Dst: p.Dst, In: in})
	h := fnv.New32a()
	h.Write(p.Src.AsSlice())
	h.Write(p.Dst.AsSlice())
	w := ways[h.Sum32()%uint32(len(ways))]
	if w.Local {
		w.Device = ""
	}
	return w
}

// address is the first one of an interface in a family.
func (m *Memory) address(device string, v4 bool) netip.Addr {
	for _, a := range m.Host.Interface(device).Addrs {
		if a.Addr().Is4() == v4 {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// Reset forgets the flows.
func (m *Memory) Reset() { clear(m.flows) }
