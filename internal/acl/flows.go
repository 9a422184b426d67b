// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// A flow that policy has come to deny keeps its connection, with markCut. To
// delete it instead would not end the flow: the next segment of either side would
// be taken for the first of a new one (nf_conntrack_tcp_loose), and if it is the
// server's, policy would judge it the other way round.

// Attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaMark       = 8
	ctaID         = 12
	ctaZone       = 18
	ctaMarkMask   = 21

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctMsgNew    = unix.NFNL_SUBSYS_CTNETLINK << 8 // IPCTNL_MSG_CT_NEW
	ctMsgGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctMsgDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	statusExpected = 1 // IPS_EXPECTED: a helper announced it
)

// Flows is connections tracked in a network namespace. It is not safe for
// concurrent use, and may be used beside a Table.
type Flows struct {
	read, write *socket
}

// OpenFlows opens the flows of the network namespace that a descriptor stands
// for, 0 for that of the calling thread.
func OpenFlows(netns int) (*Flows, error) {
	read, err := openSocket(netns)
	if err != nil {
		return nil, err
	}
	write, err := openSocket(netns)
	if err != nil {
		read.close()
		return nil, err
	}
	return &Flows{read, write}, nil
}

// Close ends the connections to the kernel; the marks stay.
func (f *Flows) Close() error { return errors.Join(f.read.close(), f.write.close()) }

// Review asks judge about every flow, as many at a time as the kernel tells in
// one piece, and makes the fates that it sets come true. It takes memory for one
// such piece, and time proportional to the flows of the host. A flow that begins
// or ends meanwhile may or may not be among them. Flows of other zones are not judged;
// with zones some of these are ours (see besides.go), and what policy has accepted of
// them is forgotten.
func (f *Flows) Review(judge func([]Flow) error, zones bool) (done Reviewed, err error) {
	var m msgs
	m.header("", ctMsgGet, unix.NLM_F_DUMP, unix.AF_UNSPEC, 0) // both families in one walk
	m.end()
	var flows, zoned []Flow
	var failed error // kept until the kernel has told all, or it would refuse the next request
	err = f.read.request(&m, true, func(data []byte) {
		switch flow, ok := parseFlow(data); {
		case !ok:
		case len(flow.zone) == 0:
			flows = append(flows, flow)
		case zones && flow.accepted:
			zoned = append(zoned, flow)
		}
	}, func() error {
		done.Seen += len(flows)
		if failed == nil {
			failed = judge(flows)
		}
		if failed == nil {
			failed = f.settle(flows, &done)
		}
		if failed == nil {
			failed = f.forget(zoned)
		}
		flows, zoned = flows[:0], zoned[:0]
		return nil
	})
	if errors.Is(err, errInterrupted) {
		err = nil // flows came and went
	}
	if err = errors.Join(err, failed); err != nil {
		err = fmt.Errorf("review connections: %w", err)
	}
	return done, err
}

// settle writes what has to change.
func (f *Flows) settle(flows []Flow, done *Reviewed) error {
	var m msgs
	var counts []*int
	for i := range flows {
		flow := &flows[i]
		switch {
		case flow.Fate == End:
			m.header("", ctMsgDelete, unix.NLM_F_ACK, flow.family, 0)
			counts = append(counts, &done.Ended)
		case flow.Fate == Cut && !flow.cut:
			m.header("", ctMsgNew, unix.NLM_F_ACK, flow.family, 0)
			m.data.u32(ctaMark, markCut)
			m.data.u32(ctaMarkMask, markCut)
			counts = append(counts, &done.Cut)
		case flow.Fate == Keep && flow.cut:
			m.header("", ctMsgNew, unix.NLM_F_ACK, flow.family, 0)
			m.data.u32(ctaMark, 0)
			m.data.u32(ctaMarkMask, markCut)
			counts = append(counts, &done.Restored)
		default:
			continue
		}
		m.data = append(m.data, flow.tuple...)
		m.data.attr(ctaID, flow.id)
		m.end()
	}
	if len(counts) == 0 {
		return nil
	}
	return f.write.each(&m, func(i int, err error) error {
		// One that has ended since is nobody's loss.
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err == nil {
			*counts[i]++
		}
		return nil
	})
}

// forget has policy asked about the next packets of flows.
func (f *Flows) forget(flows []Flow) error {
	var m msgs
	for i := range flows {
		flow := &flows[i]
		m.header("", ctMsgNew, unix.NLM_F_ACK, flow.family, 0)
		m.data.u32(ctaMark, 0)
		m.data.u32(ctaMarkMask, markOf(policy.Egress)|markOf(policy.Ingress))
		m.data.attr(ctaZone, flow.zone)
		m.data = append(m.data, flow.tuple...)
		m.data.attr(ctaID, flow.id)
		m.end()
	}
	if len(flows) == 0 {
		return nil
	}
	return f.write.each(&m, func(_ int, err error) error {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	})
}

// parseFlow reads a connection. It is not ok if it is malformed.
func parseFlow(data []byte) (f Flow, ok bool) {
	ok = true
	var reply policy.Packet
	for rest := data; len(rest) > 0; {
		typ, v, next, more := cutAttr(rest)
		if !more {
			return f, false
		}
		switch typ {
		case ctaTupleOrig:
			f.tuple = rest[:len(rest)-len(next)]
			ok = ok && parseTuple(v, &f.Packet)
		case ctaTupleReply:
			ok = ok && parseTuple(v, &reply)
		case ctaStatus:
			f.Related = beU32(v)&statusExpected != 0
		case ctaMark:
			f.cut = beU32(v)&markCut != 0
			f.accepted = beU32(v)&(markOf(policy.Egress)|markOf(policy.Ingress)) != 0
		case ctaID:
			f.id = v
		case ctaZone:
			if ok = ok && len(v) == 2; ok && v[0]|v[1] != 0 {
				f.zone = v
			}
		}
		rest = next
	}
	if !ok || len(f.tuple) == 0 || len(f.id) == 0 || !reply.Src.IsValid() || !f.Src.IsValid() {
		return f, false
	}
	f.family = unix.AF_INET6
	if f.Src.Is4() {
		f.family = unix.AF_INET
	}
	// Policy is asked after the destination was translated: what answers is what
	// was asked.
	f.Before = f.Packet
	f.Dst = reply.Src
	if policy.HasPorts(f.Proto) {
		f.DstPort = reply.SrcPort
	}
	return f, true
}

// parseTuple reads one direction of a connection.
func parseTuple(data []byte, p *policy.Packet) bool {
	attrs(data, func(typ uint16, v []byte) bool {
		switch typ {
		case ctaTupleIP:
			attrs(v, func(typ uint16, v []byte) bool {
				a, ok := netip.AddrFromSlice(v)
				switch {
				case !ok:
				case typ == 1 || typ == 3: // CTA_IP_V4_SRC, CTA_IP_V6_SRC
					p.Src = a
				case typ == 2 || typ == 4:
					p.Dst = a
				}
				return true
			})
		case ctaTupleProto:
			attrs(v, func(typ uint16, v []byte) bool {
				switch {
				case typ == 1 && len(v) == 1: // CTA_PROTO_NUM
					p.Proto = v[0]
				case typ == 2 && len(v) == 2: // CTA_PROTO_SRC_PORT
					p.SrcPort = binary.BigEndian.Uint16(v)
				case typ == 3 && len(v) == 2:
					p.DstPort = binary.BigEndian.Uint16(v)
				case (typ == 5 || typ == 8) && len(v) == 1: // CTA_PROTO_ICMP_TYPE, …_ICMPV6_TYPE
					p.ICMPType = v[0]
				case (typ == 6 || typ == 9) && len(v) == 1:
					p.ICMPCode = v[0]
				}
				return true
			})
		}
		return true
	})
	return p.Src.IsValid() && p.Dst.IsValid()
}
