// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
)

// Memory is a packet filter without a kernel: it says what a Table does with the
// first packet of a flow. It works from the objects, by the evaluator, and takes of
// the compiled policy that it is handed only that it has changed: so a mistake of the
// compiler is none of its own. It keeps no flows.
type Memory struct {
	node    string
	next    Options       // what the next Apply puts in force
	objects *policy.World // … and of which objects
	opts    Options
	inForce policy.World
	made    bool // something is in force; without it everything passes
	stats   Stats
}

// NewMemory returns the packet filter of a node, in which nothing is in force.
// The objects are read by Apply and Resync.
func NewMemory(node string, opts Options, objects *policy.World) (*Memory, error) {
	m := &Memory{node: node, objects: objects}
	return m, m.SetOptions(opts)
}

// Reopen is NewMemory after an earlier one, as of an agent that starts again: what is
// in force stays.
func (m *Memory) Reopen(opts Options, objects *policy.World) (*Memory, error) {
	n := *m
	n.objects, n.stats = objects, Stats{}
	return &n, n.SetOptions(opts)
}

// SetOptions is that of Table.
func (m *Memory) SetOptions(opts Options) error {
	if err := opts.check(); err != nil {
		return err
	}
	m.next = opts
	return nil
}

// Apply puts the objects in force as one.
func (m *Memory) Apply(policy.View, policy.Changes) error {
	w := m.objects.Clone()
	w.Node = m.node
	m.opts, m.made = m.next, true
	w.Failsafes, w.AnySource, w.FloatingIPs = m.opts.Failsafes, m.opts.AnySource, m.opts.Floating == AllFloating
	m.inForce = w
	m.stats.Commits++
	return nil
}

// Resync is Apply: nobody else changes what is here.
func (m *Memory) Resync(v policy.View) error { return m.Apply(v, policy.Changes{}) }

// Unchanged is never known: the objects may be others.
func (m *Memory) Unchanged() bool { return false }

// CommitAfter waits, as there is nothing to do beside.
func (m *Memory) CommitAfter(ready <-chan struct{}) {
	if ready != nil {
		<-ready
	}
}

// Watch waits for the context to end.
func (m *Memory) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Problems has none: nothing is refused here.
func (m *Memory) Problems() []Problem { return nil }

// Stats counts what was put in force.
func (m *Memory) Stats() Stats { return m.stats }

// Guard closes all workloads, unless something is in force.
func (m *Memory) Guard() (made bool, err error) {
	if m.made {
		return false, nil
	}
	m.opts, m.made = m.next, true
	return true, nil
}

// Teardown forgets everything.
func (m *Memory) Teardown() error {
	m.inForce, m.made, m.stats = policy.World{}, false, Stats{}
	return nil
}

// Close leaves what is in force.
func (m *Memory) Close() error { return nil }

// Verdict is what becomes of a packet, and why. Trace is that of policy, if it came
// so far.
type Verdict struct {
	Passes bool
	Why    string
	Trace  policy.Trace
}

// Judge says what becomes of the first packet of a flow that comes in by one
// interface and leaves by another; the empty name is this host itself.
func (m *Memory) Judge(p policy.Packet, in, out string) Verdict {
	if !m.made {
		return Verdict{Passes: true, Why: "nothing is in force"}
	}
	if slices.Contains(m.opts.Leaving, p.Src) || out == "" && slices.Contains(m.opts.Leaving, p.Dst) {
		return Verdict{Why: "closed: the address of a process that is gone"}
	}
	from, known := m.endpointAt(in)
	if m.Workload(in) {
		why := m.opts.Refused(p)
		switch owner, _ := m.inForce.Owner(p.Src); {
		case !known:
			return Verdict{Why: "unknown: interface " + in}
		case why != "":
			return Verdict{Why: "refused: " + why}
		case owner != from && !m.inForce.MaySend(from, p.Src):
			return Verdict{Why: "spoofed: the source is not that interface's"}
		}
		if why := m.opts.Excepted(p, out == ""); why != "" {
			return Verdict{Passes: true, Why: "excepted: " + why}
		}
		if discovers(p) && out == "" {
			return Verdict{Passes: true, Why: "neighbour discovery"}
		}
	}
	to, known := m.endpointAt(out)
	process := m.processAt(p.Src)
	if in == "" {
		from = process
	}
	none := policy.EndpointID{}
	switch {
	case in == "" && process == none:
		to = none // what this host sends is not asked about at its workloads
	case m.Workload(out) && !known:
		return Verdict{Why: "unknown: interface " + out}
	case in != "" && process != none:
		return Verdict{Why: "spoofed: the source is a process of this host"}
	case out == "":
		to = m.processAt(p.Dst)
	}
	v := Verdict{Trace: policy.Evaluate(&m.inForce, policy.Flow{Packet: p, From: from, To: to, Via: m.passage(p, in, out)})}
	switch {
	case !begins(p) && tracked(v.Trace):
		v.Why = "invalid: begins no flow"
	case !v.Trace.Allowed:
		v.Why = "denied: " + reasons(v.Trace)
	case from != (policy.EndpointID{}) && out == "" && to == (policy.EndpointID{}) && m.opts.HostAction == HostDrop:
		v.Why = "denied: workloads may not speak to this host"
	default:
		v.Passes, v.Why = true, "allowed: "+reasons(v.Trace)
	}
	return v
}

// passage is the way of a packet through this host. What the host sends to itself
// leaves by lo, and comes in by it.
func (m *Memory) passage(p policy.Packet, in, out string) policy.Passage {
	process := func(a netip.Addr) bool { return m.processAt(a) != policy.EndpointID{} }
	via := policy.Passage{Node: m.node, In: in, Out: out, FromWorkload: m.Workload(in), ToWorkload: m.Workload(out),
		Process: in == "" && process(p.Src) || out == "" && process(p.Dst)}
	if in == "" && out == "" {
		via.Out = policy.Loopback
	}
	return via
}

// Speaks tells whether a frame that comes in by an interface may have a source
// address: one of a workload's of which the address is known has that.
func (m *Memory) Speaks(in string, mac [6]byte) bool {
	id, known := m.endpointAt(in)
	if !m.made || !m.Workload(in) || !known {
		return true
	}
	e := m.inForce.Endpoints[id]
	own, err := v3.ParseMAC(e.Spec.MAC)
	set, _ := e.Settings()
	return err != nil || own == mac || slices.Contains(set.MACs, mac)
}

// Inside is where a packet goes that comes to this host: the address behind a
// floating IP of an endpoint of this host.
func (m *Memory) Inside(dst netip.Addr) netip.Addr {
	if to, in, ok := m.inForce.Floating(dst); ok && m.made && m.opts.Floating != NoFloating && m.inForce.Endpoints[to].Spec.Node == m.node {
		return in
	}
	return dst
}

// Outside is the source under which a packet leaves by an interface with an address,
// of which before was what it was sent to.
func (m *Memory) Outside(p policy.Packet, before, iface netip.Addr) netip.Addr {
	in := func(list []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(n netip.Prefix) bool { return n.Contains(a) })
	}
	switch nat := m.opts.NAT; {
	case !m.made:
	case p.Src == p.Dst && before != p.Dst: // itself by its floating IP
		return before
	case !in(nat.Outgoing, p.Src) || in(nat.Spared, p.Dst):
	case nat.Address.IsValid() && nat.Address.Is4() == p.Src.Is4():
		return nat.Address
	case iface.IsValid():
		return iface
	}
	return p.Src
}

// Workload tells whether an interface is a workload's, by its name.
func (m *Memory) Workload(name string) bool {
	return slices.ContainsFunc(m.opts.Prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// endpointAt returns the endpoint that has an interface here.
func (m *Memory) endpointAt(name string) (policy.EndpointID, bool) {
	for id, e := range m.inForce.Endpoints {
		if name == "" || e.Spec.Node != m.node || e.Spec.InterfaceName != name || m.inForce.IsProcess(id) {
			continue
		}
		if !m.closed(id) {
			return id, true
		}
	}
	return policy.EndpointID{}, false
}

// processAt returns the process of this host that has an address, the zero EndpointID if
// none does. One that is closed has not: its address is not on lo.
func (m *Memory) processAt(a netip.Addr) policy.EndpointID {
	id, owned := m.inForce.Owner(a)
	if e := m.inForce.Endpoints[id]; !owned || !m.opts.Processes || e.Spec.Node != m.node || !m.inForce.IsProcess(id) || m.closed(id) {
		return policy.EndpointID{}
	}
	return id
}

// closed tells whether nothing passes to or from an endpoint, whatever policy says.
func (m *Memory) closed(id policy.EndpointID) bool {
	return policy.Evaluate(&m.inForce, policy.Flow{To: id}).Ingress.Reason == policy.Closed
}

// begins tells whether connection tracking takes a packet for the first of a
// flow. Of ICMP these are the requests, in its own family.
func begins(p policy.Packet) bool {
	switch p.Proto {
	case protoICMP:
		return p.Src.Is4() && (p.ICMPType == 8 || p.ICMPType == 13)
	case protoICMPv6:
		return p.Src.Is6() && (p.ICMPType == 128 || p.ICMPType == 139)
	}
	return true
}

// tracked tells whether connection tracking has a say in a packet's way: somebody
// asks for its state, and nobody has taken it out before.
func tracked(t policy.Trace) bool {
	all := slices.Concat(t.In, t.Out)
	if slices.ContainsFunc(all, func(d policy.Decision) bool {
		return d.Stage == policy.StageUntracked && d.Allowed && d.Reason == policy.ByPolicy
	}) {
		return false
	}
	return t.Egress != nil || t.Ingress != nil || slices.ContainsFunc(all, func(d policy.Decision) bool {
		return d.Stage != policy.StageUntracked && d.Reason != policy.NoForward
	})
}

func reasons(t policy.Trace) string {
	s := ""
	for _, d := range []*policy.Decision{t.Egress, t.Ingress} {
		if d != nil {
			s += d.String() + "; "
		}
	}
	for _, d := range slices.Concat(t.In, t.Out) {
		s += d.String() + "; "
	}
	return s
}
