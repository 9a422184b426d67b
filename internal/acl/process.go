// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"net/netip"
	"strconv"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/policy"
)

// A process of this host with an address of its own, on lo, is found by that address
// rather than by an interface. What is sent to it meets ingress as it comes in for this
// host; what it sends, egress when it has been routed, and then ingress of the workload
// that it goes to, if that is here: no packet of this host's is forwarded. Its policies
// are chains as any endpoint's. What this host sends otherwise is asked about no more
// than what it sends to workloads, and what a process sends to itself is not asked about.
//
// Its addresses come from lo alone: whoever sends from one on an interface is somebody
// else. Without such processes there is nothing of what is here.
const (
	chainProcessRaw     = "process-raw"     // before connection tracking
	chainProcessIn      = "process-in"      // for this host
	chainProcessIngress = "process-ingress" // for a process
	chainProcessToHost  = "process-to-host" // from a process to others of this host; only if nobody may
	chainProcessOut     = "process-out"     // from this host
	chainProcessEgress  = "process-egress"  // from a process
	chainProcessOn      = "process-on"      // the same, after egress
	chainProcessToWl    = "process-to-wl"   // from a process to a workload
)

var (
	setAddrSet4  = &setType{0, typeIPv4, 4, 0, "ipv4_addr", 0}
	setAddrSet6  = &setType{0, typeIPv6, 16, 0, "ipv6_addr", 0}
	setAddrPair4 = &setType{0, concat(typeIPv4, typeIPv4), 8, 0, "ipv4_addr . ipv4_addr", 0}
	setAddrPair6 = &setType{0, concat(typeIPv6, typeIPv6), 32, 0, "ipv6_addr . ipv6_addr", 0}
	setAddrVmap4 = &setType{unix.NFT_SET_MAP, typeIPv4, 4, typeVerdict, "ipv4_addr : verdict", 0}
	setAddrVmap6 = &setType{unix.NFT_SET_MAP, typeIPv6, 16, typeVerdict, "ipv6_addr : verdict", 0}
)

// Names of the sets of each family. Those by which packets are led into policy are
// filled last (see create).
func (f *family) processes() string   { return "process" + strconv.Itoa(f.v) }
func (f *family) processSelf() string { return "process-self" + strconv.Itoa(f.v) }
func (f *family) processVmap(d policy.Direction) string {
	return "process-" + map[policy.Direction]string{policy.Egress: "from", policy.Ingress: "to"}[d] + strconv.Itoa(f.v)
}

var families = []*family{ipv4, ipv6}

func (r *renderer) processSets() (out []*set) {
	if !r.opts.Processes {
		return nil
	}
	types := map[*family][3]*setType{ipv4: {setAddrSet4, setAddrPair4, setAddrVmap4}, ipv6: {setAddrSet6, setAddrPair6, setAddrVmap6}}
	for _, f := range families {
		of := types[f]
		out = append(out,
			&set{name: f.processes(), typ: of[0], static: true, comment: "addresses of processes of this host"},
			&set{name: f.processSelf(), typ: of[1], static: true, comment: "a process to itself"},
			&set{name: f.processVmap(policy.Egress), typ: of[2], static: true, comment: "egress of processes of this host"},
			&set{name: f.processVmap(policy.Ingress), typ: of[2], static: true, comment: "ingress of processes of this host"})
	}
	return out
}

// leadsIn tells whether the elements of a static set lead packets into policy.
func leadsIn(name string) bool {
	for _, f := range families {
		if name == f.processVmap(policy.Egress) || name == f.processVmap(policy.Ingress) {
			return true
		}
	}
	return name == setFrom || name == setTo
}

func (r *renderer) processChains() []*chain {
	if !r.opts.Processes {
		return nil
	}
	// each adds a rule for each family.
	each := func(c *chain, end func(*rb, *family) *rule) {
		for _, f := range families {
			c.add(end(r.rule().is(f), f))
		}
	}
	base := func(name string, h hook) *chain { return &chain{name: name, hook: &h} }
	lo := func(key expr.MetaKey) *rb { return r.rule().on(key, policy.Loopback) }

	raw := base(chainProcessRaw, hook{num: unix.NF_INET_PRE_ROUTING, priority: priorityRaw})
	raw.add(lo(expr.MetaKeyIIFNAME).accept().done("from this host"))
	each(raw, func(b *rb, f *family) *rule {
		return b.process(f, source, false).counter().drop().done("the address of a process of this host")
	})
	r.leaving(raw, source)
	raw.add(r.rule().accept().done("no process's"))

	in := base(chainProcessIn, hook{num: unix.NF_INET_LOCAL_IN, priority: priorityFilter})
	r.leaving(in, destination)
	each(in, func(b *rb, f *family) *rule {
		return b.process(f, destination, false).goTo(chainProcessIngress).done("")
	})
	if r.opts.HostAction == HostDrop {
		each(in, func(b *rb, f *family) *rule { return b.process(f, source, false).goTo(chainProcessToHost).done("") })
	}
	in.add(r.rule().accept().done("no process's"))

	ingress := &chain{name: chainProcessIngress}
	for _, f := range families {
		ingress.add(lo(expr.MetaKeyIIFNAME).is(f).process(f, source, true).accept().done("this host"))
		ingress.add(lo(expr.MetaKeyIIFNAME).is(f).processSelf(f).accept().done("itself"))
	}
	ingress.add(r.accepted(policy.Ingress).accept().done("in this epoch"))
	ingress.add(r.answers(policy.Egress).accept().done("an answer"))
	each(ingress, func(b *rb, f *family) *rule { return b.processVerdict(f, policy.Ingress).done("") })
	ingress.add(r.rule().drop().done("unknown process"))

	toHost := &chain{name: chainProcessToHost}
	toHost.add(r.rule().ctState(ctEstablished|ctRelated, "established,related").accept().done(""))
	toHost.add(r.rule().drop().done("endpoint to host"))

	out := base(chainProcessOut, hook{num: unix.NF_INET_POST_ROUTING, priority: priorityMangle})
	out.add(r.rule().forwarded().accept().done("not from this host"))
	r.leaving(out, source)
	each(out, func(b *rb, f *family) *rule { return b.process(f, source, false).goTo(chainProcessEgress).done("") })
	out.add(r.rule().accept().done("no process's"))

	egress := &chain{name: chainProcessEgress}
	for _, f := range families {
		egress.add(lo(expr.MetaKeyOIFNAME).is(f).processSelf(f).accept().done("itself"))
	}
	egress.add(r.accepted(policy.Egress).accept().done("in this epoch"))
	egress.add(r.answers(policy.Ingress).accept().done("an answer"))
	each(egress, func(b *rb, f *family) *rule { return b.processVerdict(f, policy.Egress).done("") })
	egress.add(r.rule().drop().done("unknown process"))

	on := base(chainProcessOn, hook{num: unix.NF_INET_POST_ROUTING, priority: priorityMangle + 1})
	on.add(r.rule().forwarded().accept().done("not from this host"))
	each(on, func(b *rb, f *family) *rule { return b.process(f, source, false).goTo(chainProcessToWl).done("") })
	on.add(r.rule().accept().done("no process's"))

	toWl := &chain{name: chainProcessToWl}
	r.inAccepted(toWl)
	for _, p := range r.opts.Prefixes {
		toWl.add(r.rule().prefixed(expr.MetaKeyOIFNAME, p).goTo(chainIngressWl).done(""))
	}
	toWl.add(r.rule().accept().done("not a workload"))

	chains := []*chain{raw, in, ingress, out, egress, on, toWl}
	if r.opts.HostAction == HostDrop {
		chains = append(chains, toHost)
	}
	return chains
}

// leaving drops what has an address at one end that is to leave lo.
func (r *renderer) leaving(c *chain, e end) {
	for _, a := range r.opts.Leaving {
		f := familyOf(a)
		c.add(r.rule().is(f).addr(f, e, netip.PrefixFrom(a, a.BitLen()), false).counter().drop().done("no process's any more"))
	}
}

// spareProcesses accepts what comes from or goes to a process, which is not this host
// as host endpoints mean it, nor as those do who let workloads speak to it.
func (r *renderer) spareProcesses(c *chain, ends ...end) {
	if !r.opts.Processes {
		return
	}
	for _, e := range ends {
		for _, f := range families {
			c.add(r.rule().is(f).process(f, e, false).accept().done("a process, asked in " + chainProcessIn + " and " + chainProcessOut))
		}
	}
}

// process matches packets with an end that is, or with not is no, process of this host.
func (r *rb) process(f *family, e end, not bool) *rb {
	r.payload(expr.PayloadBaseNetworkHeader, e.addrOff(f), f.bytes, reg1)
	r.in(f.processes(), not)
	return r.say("%s %s %s@%s", f.word, e.word, notWord(not), f.processes())
}

// processSelf matches packets with both ends of one process.
func (r *rb) processSelf(f *family) *rb {
	r.bothEnds(f)
	r.in(f.processSelf(), false)
	return r.say("%s saddr . %s daddr @%s", f.word, f.word, f.processSelf())
}

// processVerdict goes to the effective policy of the process at one end.
func (r *rb) processVerdict(f *family, d policy.Direction) *rb {
	e := destination
	if d == policy.Egress {
		e = source
	}
	r.payload(expr.PayloadBaseNetworkHeader, e.addrOff(f), f.bytes, reg1)
	r.lookup(f.processVmap(d), reg1, unix.NFT_REG_VERDICT)
	return r.say("%s %s vmap @%s", f.word, e.word, f.processVmap(d))
}

// process renders the elements that make the endpoint of a process live. One that is
// not to be in force is closed: its addresses are known, and lead nowhere.
func (r *renderer) process(e *policy.Endpoint, bad bool) (out []setElem) {
	if !r.opts.Processes {
		return nil
	}
	owner := endpointOwner(e.ID)
	add := func(set, key, target string) {
		out = append(out, setElem{set, elem{key: key, target: target, owner: owner}})
	}
	for _, a := range e.Addrs {
		f, key := familyOf(a), string(a.AsSlice())
		add(f.processes(), key, "")
		if bad || e.Effective == nil {
			continue
		}
		for _, d := range directions {
			add(f.processVmap(d), key, effectiveChain(e.Effective.ID, d))
		}
		for _, b := range e.Addrs {
			if familyOf(b) == f {
				add(f.processSelf(), key+string(b.AsSlice()), "")
			}
		}
	}
	return out
}
