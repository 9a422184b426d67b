// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

const (
	// traceTable is there while a probe is under way, and only then: it goes with
	// the connection that made it. Base chains begin before all others, and end
	// after them.
	traceTable      = "muslin-trace"
	tracePriority   = -1000
	traceLast       = 1000
	traceGroup      = 9 // NFNLGRP_NFTRACE
	traceTime       = 2 * time.Second
	traceSentChain  = "sent"
	traceHereChain  = "here"
	traceFirstChain = "first"
	traceBackChain  = "back" // by lo, from this host to itself

	loopbackIndex = 1 // in each network namespace
)

// Trace sends a probe and follows it. The kernel tells of each rule that a packet
// matches whose trace bit is set; a table of its own sets it for this packet alone.
// It is called with a Ledger that is up to date, and may run beside the Table.
func (l *Ledger) Trace(q Probe, send func() error) (*Traced, error) {
	own, err := openSocket(l.netns)
	if err != nil {
		return nil, err
	}
	defer own.close() // and with it goes the table
	events, err := openSocket(l.netns)
	if err != nil {
		return nil, err
	}
	defer events.close()
	rules, err := events.counters("")
	if err != nil {
		return nil, err
	}
	if err := events.join(traceGroup); err != nil {
		return nil, fmt.Errorf("subscribe to nftables traces: %w", err)
	}
	if err := own.transact(q.install()); err != nil {
		return nil, fmt.Errorf("make table inet %s: %w", traceTable, err)
	}
	sent := send()
	if sent != nil && !errors.Is(sent, unix.EPERM) { // which is what the sender is told of a packet that is dropped on its way out
		return nil, fmt.Errorf("send the probe: %w", sent)
	}
	f := following{ledger: l, rules: rules}
	deadline := time.Now().Add(traceTime)
	for !f.over {
		events.file.SetDeadline(deadline)
		err := events.receive(func(typ, _ uint16, _, _ uint32, data []byte) error {
			if typ == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE && len(data) >= 4 {
				f.take(data[4:])
			}
			return nil
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			f.over = true
		case err != nil:
			return nil, fmt.Errorf("read nftables traces: %w", err)
		}
	}
	switch {
	case !f.began && sent != nil:
		return nil, fmt.Errorf("send the probe: %w", sent)
	case !f.began:
		return nil, errors.New("the probe did not come to the packet filter")
	}
	return &f.out, nil
}

// install makes the table that sets the trace bit, and tells that a packet has
// come to the end. It belongs to the connection.
func (q *Probe) install() *msgs {
	m := &msgs{table: traceTable}
	m.begin("", inetTable, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.data.str(tableAttr, traceTable)
	m.data.u32(unix.NFTA_TABLE_FLAGS, nftTableOwner)
	m.end()
	first := hook{num: unix.NF_INET_PRE_ROUTING, priority: tracePriority}
	chains := []*chain{
		{name: traceSentChain, hook: &hook{num: unix.NF_INET_POST_ROUTING, priority: traceLast}},
		{name: traceHereChain, hook: &hook{num: unix.NF_INET_LOCAL_IN, priority: traceLast}},
	}
	if q.In != "" {
		chains = append(chains, &chain{name: traceFirstChain, hook: &first, rules: []*rule{q.traced(q.In)}})
	} else {
		chains = append(chains,
			&chain{name: traceFirstChain, hook: &hook{num: unix.NF_INET_LOCAL_OUT, priority: tracePriority}, rules: []*rule{q.traced("")}},
			&chain{name: traceBackChain, hook: &first, rules: []*rule{q.traced(policy.Loopback)}})
	}
	for _, c := range chains {
		m.addChain(c)
		for _, r := range c.rules {
			m.addRule("", c.name, r)
		}
	}
	return m
}

// traced is the rule that sets the trace bit of the packet, which comes in on an
// interface, or none.
func (q *Probe) traced(in string) *rule {
	b := &rb{}
	if in != "" {
		b.load(expr.MetaKeyIIFNAME, reg1)
		b.cmp(expr.CmpOpEq, []byte(ifKey(in)))
	}
	f := familyOf(q.Src)
	b.is(f).addr(f, source, netip.PrefixFrom(q.Src, q.Src.BitLen()), false).addr(f, destination, netip.PrefixFrom(q.Dst, q.Dst.BitLen()), false)
	b.l4proto(expr.CmpOpEq, q.Proto)
	switch {
	case policy.HasPorts(q.Proto):
		b.portRange(source, q.SrcPort, q.SrcPort, false).portRange(destination, q.DstPort, q.DstPort, false)
	case q.Proto == f.icmp:
		b.icmpBytes(f, 4, binary.BigEndian.AppendUint16(nil, q.ID), false)
	}
	b.traced()
	return b.done("")
}

// traced sets the trace bit of the packet.
func (r *rb) traced() {
	r.expr("immediate", func(b *buf) {
		b.u32(unix.NFTA_IMMEDIATE_DREG, reg1)
		b.value(unix.NFTA_IMMEDIATE_DATA, []byte{1})
	})
	r.expr("meta", func(b *buf) {
		b.u32(unix.NFTA_META_SREG, reg1)
		b.u32(unix.NFTA_META_KEY, uint32(expr.MetaKeyNFTRACE))
	})
}

// following is the reading of one packet's trace.
type following struct {
	ledger *Ledger
	rules  map[string][]counted
	id     uint32
	began  bool
	looped bool // it left by lo, and is to come in again
	over   bool
	out    Traced
}

func (f *following) take(data []byte) {
	var e struct {
		table, chain    string
		typ, id, oif    uint32
		verdict, policy int32
		handle          uint64
		jump            string
	}
	e.verdict = nfAccept
	attrs(data, func(typ uint16, v []byte) bool {
		switch typ {
		case unix.NFTA_TRACE_TABLE:
			e.table = cstr(v)
		case unix.NFTA_TRACE_CHAIN:
			e.chain = cstr(v)
		case unix.NFTA_TRACE_RULE_HANDLE:
			e.handle = beU64(v)
		case unix.NFTA_TRACE_TYPE:
			e.typ = beU32(v)
		case unix.NFTA_TRACE_ID:
			e.id = beU32(v)
		case unix.NFTA_TRACE_OIF:
			e.oif = beU32(v)
		case unix.NFTA_TRACE_POLICY:
			e.policy = int32(beU32(v))
		case unix.NFTA_TRACE_VERDICT:
			e.verdict, e.jump = readVerdict(v)
		}
		return true
	})
	if e.table == traceTable {
		switch {
		case e.chain == traceFirstChain && !f.began:
			f.began, f.id = true, e.id
		case e.chain == traceBackChain && f.looped:
			f.looped, f.id = false, e.id // the number is of where it comes in, too
		case f.began && e.id == f.id && e.chain == traceSentChain && (f.looped || e.oif == loopbackIndex): // only its first event there has oif
			f.looped = true
		case f.began && e.id == f.id && (e.chain == traceSentChain || e.chain == traceHereChain):
			f.out.Passed, f.out.Out, f.over = true, int(e.oif), true
		}
		return
	}
	if !f.began || e.id != f.id {
		return // another packet, which somebody else traces
	}
	s := Seen{Table: e.table, Chain: e.chain, Verdict: traceVerdict(e.typ, e.verdict, e.policy, e.jump)}
	if e.table == TableName {
		f.ledger.place(&s, f.rules[e.chain], e.handle)
	}
	f.out.Steps = append(f.out.Steps, s)
	if s.Verdict == "drop" {
		f.out.Dropped, f.over = &f.out.Steps[len(f.out.Steps)-1], true
	}
}

// place says what the rule with a handle stands for.
func (l *Ledger) place(s *Seen, rules []counted, handle uint64) {
	for i, r := range rules {
		if r.handle != handle {
			continue
		}
		s.Comment = r.note
		if st := l.chains[s.Chain]; st != nil && i < len(st.sums) && st.sums[i] == r.sum {
			o := st.from[i]
			s.Policy, s.Direction = o.policy, o.dir
			if o.policy != nil {
				s.Rules = o.text
			} else {
				s.End = o.text
			}
		}
		return
	}
}

func traceVerdict(typ uint32, verdict, policy int32, jump string) string {
	if typ == unix.NFT_TRACETYPE_POLICY {
		verdict = policy
	}
	switch verdict {
	case nfDrop:
		return "drop"
	case nfAccept:
		return "accept"
	case nftJump:
		return "jump " + jump
	case nftGoto:
		return "goto " + jump
	case nftReturn:
		return "return"
	case -1: // NFT_CONTINUE
		return "continue"
	}
	return fmt.Sprint("verdict ", verdict)
}
