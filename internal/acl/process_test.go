// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// The addresses of two processes of the host.
var processAddr = map[string]map[int]netip.Addr{
	"p": {4: ip("10.65.0.21"), 6: ip("fd65::21")},
	"q": {4: ip("10.65.0.22"), 6: ip("fd65::22")},
}

// processRig is a rig whose host has the processes p and q, with what these policies
// make of them.
func processRig(t *testing.T, change ...func(*Options)) *rig {
	r := newRig(t, append(change, func(o *Options) { o.Processes = true })...)
	for _, addrs := range processAddr {
		for _, a := range addrs {
			must(t, r.host.AddAddr("lo", host(a)))
		}
	}
	must(t, r.host.LinkUp("lo"))
	_, err := r.host.Serve(81) // besides 80, which it has
	must(t, err)
	everyone := r.allowAllEffective()
	for _, n := range []string{"a", "b"} {
		r.endpoint(n, everyone)
	}
	return r
}

// process makes a process live with policies.
func (r *rig) process(name string, p ...*policy.Policy) {
	e := r.v.effective(&policy.Effective{ID: strings.Repeat(name, 16), Tiers: both(tier("default", false, p...))})
	r.v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: name}, Interface: "cali" + name, Process: true,
		Addrs: []netip.Addr{processAddr[name][4], processAddr[name][6]}, Effective: e})
}

// placed is the address of anything in the rig.
func placed(v int, name string) netip.Addr {
	if p := processAddr[name]; p != nil {
		return p[v]
	}
	return addrOf(v, name)
}

// between checks one port between two, either of which may be a process, with the
// address of the first as the source.
func (r *rig) between(want bool, proto lab.Proto, from, to string, port uint16) {
	r.Helper()
	ns := r.ns(from)
	if processAddr[from] != nil {
		ns = r.host
	}
	for _, v := range []int{4, 6} {
		p := lab.Probe{Proto: proto, Src: placed(v, from), Dst: placed(v, to), Port: port, Timeout: 150 * time.Millisecond}
		o := ns.Probe(context.Background(), p)
		for try := 0; want && o.Verdict != lab.Reached && try < 3; try++ {
			p.Timeout = time.Second
			o = ns.Probe(context.Background(), p)
		}
		if got := o.Verdict == lab.Reached; got != want {
			r.Errorf("IPv%d %v %s to %s port %d: %v (%v), want reached %v", v, proto, from, to, port, o.Verdict, o.Err, want)
		}
	}
}

// TestHostProcess: policy of a process is asked in both directions, whoever is at the
// other end: a neighbour, a workload of the same host, another process; and not about
// what the host itself or the process sends to it.
func TestHostProcess(t *testing.T) {
	for _, action := range []HostAction{HostAccept, HostDrop} {
		t.Run(map[HostAction]string{HostAccept: "accept", HostDrop: "drop"}[action], func(t *testing.T) {
			r := processRig(t, func(o *Options) { o.HostAction = action })
			r.process("p", r.v.policy(gnp("p", []policy.Rule{allow(toPort(tcp, port(80))), allow(toPort(udp, port(81)))}, []policy.Rule{allow(toPort(tcp, port(81))), allow(toPort(udp, port(80)))})))
			r.process("q", r.v.policy(gnp("q", []policy.Rule{allow(toPort(tcp, port(81)))}, []policy.Rule{allow(toPort(tcp, port(80)))})))
			r.apply()
			quiet(t, r.tab, r.v)
			for _, from := range []string{"n", "a", "b"} {
				r.between(true, lab.TCP, from, "p", 80)
				r.between(true, lab.UDP, from, "p", 81)
				r.between(false, lab.TCP, from, "p", 81)
				r.between(false, lab.UDP, from, "p", 80)
				r.between(false, lab.ICMP, from, "p", 0)
			}
			for _, to := range []string{"n", "a"} {
				r.between(true, lab.TCP, "p", to, 81)
				r.between(true, lab.UDP, "p", to, 80)
				r.between(false, lab.TCP, "p", to, 80)
				r.between(false, lab.UDP, "p", to, 81)
				r.between(false, lab.ICMP, "p", to, 0)
			}
			// Both ends have a say, and each alone can say no.
			r.between(true, lab.TCP, "p", "q", 81)
			r.between(false, lab.TCP, "p", "q", 80)
			r.between(false, lab.UDP, "p", "q", 80)
			r.between(true, lab.TCP, "q", "p", 80)
			r.between(false, lab.TCP, "q", "p", 81)
			// The host is nobody's peer here, and nobody is his own.
			r.between(true, lab.TCP, "host", "p", 81)
			r.between(true, lab.TCP, "p", "p", 80)
			r.between(action == HostAccept, lab.UDP, "p", "host", 80)
			r.between(false, lab.TCP, "p", "host", 80)
			r.between(true, lab.TCP, "host", "n", 80)
			r.between(true, lab.TCP, "n", "host", 80)

			// The policy of the workload at the other end.
			r.endpoint("a", r.v.effective(&policy.Effective{ID: "closedclosedclos"}))
			r.apply()
			r.between(false, lab.TCP, "p", "a", 81)
			r.between(false, lab.TCP, "a", "p", 80)
			r.between(true, lab.TCP, "host", "a", 80)

			// Everything undone: the addresses are anybody's again.
			r.v.removeEndpoint(policy.EndpointID{Namespace: "ns", Name: "p"})
			r.apply()
			quiet(t, r.tab, r.v)
			r.between(true, lab.TCP, "n", "p", 81)
		})
	}
}

// TestHostProcess_NAT: what a process sends to the host itself does not leave the pools. With
// another source it would not be taken for the process's any more, and reach what no
// endpoint may reach.
func TestHostProcess_NAT(t *testing.T) {
	r := processRig(t, func(o *Options) {
		o.HostAction, o.NAT = HostDrop, NAT{Outgoing: nets("10.65.0.0/16", "fd65::/48"), Spared: nets("10.65.0.0/16", "fd65::/48")}
	})
	r.process("p", r.v.policy(gnp("p", allowAll, allowAll)))
	r.apply()
	quiet(t, r.tab, r.v)
	for _, p := range []string{"0.0.0.0/0", "::/0"} {
		must(t, r.n.DelRoute(netip.MustParsePrefix(p), "eth0")) // so that only the host's own address is answered
	}
	r.between(false, lab.TCP, "p", "host", 80)
	r.between(false, lab.UDP, "p", "host", 80)
	for _, to := range []string{"n", "a"} {
		r.between(true, lab.TCP, "p", to, 80)
	}
}

// TestHostProcess_Spoofed: nobody on the fabric, and no workload, sends from the
// address of a process.
func TestHostProcess_Spoofed(t *testing.T) {
	r := processRig(t, func(o *Options) { o.HostAction = HostAccept })
	must(t, r.host.SetSysctl("net/ipv4/conf/all/rp_filter", "0"))
	must(t, r.host.SetSysctl("net/ipv4/conf/up0/rp_filter", "0"))
	must(t, r.host.SetSysctl("net/ipv4/conf/up0/accept_local", "1"))
	r.process("p", r.v.policy(gnp("p", allowAll, allowAll)))
	r.apply()
	for _, v := range []int{4, 6} {
		h := newHears(r, r.host, uint16(9000+v))
		send := func(src netip.Addr, text string) {
			t.Helper()
			mac, err := r.host.MAC("up0")
			must(t, err)
			must(t, r.n.SendPacket("eth0", lab.Packet{DstMAC: mac, Src: src, Dst: placed(v, "host"), Proto: lab.ProtoUDP, SrcPort: 7, DstPort: uint16(9000 + v), Payload: []byte(text)}))
		}
		send(placed(v, "n"), "own")
		send(placed(v, "p"), "spoofed")
		send(placed(v, "n"), "last")
		if got := h.until("last"); len(got) != 1 || got[0] != "own" {
			t.Errorf("IPv%d: %q arrived, want own alone", v, got)
		}
	}
}

// TestHostProcess_HostEndpoint: a host endpoint that denies all has no say in what a
// process receives and sends.
func TestHostProcess_HostEndpoint(t *testing.T) {
	r := processRig(t, func(o *Options) { o.HostAction = HostAccept })
	r.process("p", r.v.policy(gnp("p", allowAll, allowAll)))
	r.hostEndpoint(everywhere)
	r.apply()
	quiet(t, r.tab, r.v)
	r.between(false, lab.TCP, "n", "host", 80)
	r.between(false, lab.TCP, "host", "n", 80)
	for _, other := range []string{"n", "a"} {
		r.between(true, lab.TCP, other, "p", 80)
		r.between(true, lab.TCP, "p", other, 80)
	}
}

// TestHostProcess_Bad: a process whose policy is not in force is closed, and without any
// process there is not a rule.
func TestHostProcess_Bad(t *testing.T) {
	r := processRig(t, func(o *Options) { o.HostAction = HostAccept })
	r.process("p", r.v.policy(gnp("p", allowAll, allowAll)))
	r.apply()
	r.between(true, lab.TCP, "n", "p", 80)
	ep := *r.v.endpoints[policy.EndpointID{Namespace: "ns", Name: "p"}]
	ep.Effective = nil // as one that is not to be in force is
	r.v.endpoint(&ep)
	r.apply()
	r.between(false, lab.TCP, "n", "p", 80)
	r.between(false, lab.TCP, "p", "n", 80)

	r.retune(func(o *Options) { o.Processes = false })
	if strings.Contains(r.tab.Text(r.v), "process") {
		t.Error("there are rules for processes without any")
	}

	// The first of another policy, under a host endpoint that has no say in it.
	r.process("p", r.v.policy(gnp("p", []policy.Rule{allow(toPort(tcp, port(81)))}, nil)))
	r.hostEndpoint(everywhere)
	r.apply()
	r.retune(func(o *Options) { o.Processes = true })
	r.between(true, lab.TCP, "n", "p", 81)
	r.between(false, lab.TCP, "n", "p", 80)
	r.between(false, lab.TCP, "p", "n", 80)
}

// TestHostProcess_NameTaken: a workload takes the interface name of a process. The
// address of the process is on lo, and known, and leads nowhere.
func TestHostProcess_NameTaken(t *testing.T) {
	r := processRig(t, func(o *Options) { o.HostAction = HostAccept })
	r.process("p", r.v.policy(gnp("p", allowAll, allowAll)))
	r.apply()
	r.between(true, lab.TCP, "n", "p", 80)
	r.v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: "before"}, Interface: "calip",
		Addrs: addrs("10.65.77.7", "fd65::77:7"), Effective: r.allowAllEffective()})
	must(t, r.tab.Apply(r.v, r.v.flush()))
	if p := r.tab.Problems(); len(p) != 1 || p[0].Object != "WorkloadEndpoint ns/p" {
		t.Errorf("problems %v, want that of p", p)
	}
	quiet(t, r.tab, r.v)
	r.between(false, lab.TCP, "n", "p", 80)
	r.between(false, lab.TCP, "p", "n", 80)
	r.v.removeEndpoint(policy.EndpointID{Namespace: "ns", Name: "before"})
	r.apply()
	quiet(t, r.tab, r.v)
	r.between(true, lab.TCP, "n", "p", 80)
}

// TestHostProcess_Leaving: nothing passes to or from the address of a process that is gone
// while it is on lo, and the same packets pass before it is gone.
func TestHostProcess_Leaving(t *testing.T) {
	r := processRig(t, func(o *Options) { o.HostAction = HostAccept })
	r.process("p", r.v.policy(gnp("p", allowAll, allowAll)))
	r.apply()
	check := func(want bool) {
		t.Helper()
		for _, other := range []string{"n", "a"} {
			r.between(want, lab.TCP, other, "p", 80)
			r.between(want, lab.TCP, "p", other, 80)
		}
	}
	check(true)
	r.v.removeEndpoint(policy.EndpointID{Namespace: "ns", Name: "p"})
	r.retune(func(o *Options) { o.Leaving = []netip.Addr{placed(4, "p"), placed(6, "p")} })
	check(false)
	r.between(true, lab.TCP, "n", "q", 80) // an address as any of the host
	r.retune(func(o *Options) { o.Leaving = nil })
	check(true)
}
