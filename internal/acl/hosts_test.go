// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// hostEndpoint makes a host endpoint with an effective policy for each stage, in
// place of the one of that name.
func (r *rig) hostEndpoint(h policy.HostEndpoint, stages ...*policy.Effective) {
	if len(stages) == 0 || stages[0].Stage != policy.StageHost {
		stages = append([]*policy.Effective{{Stage: policy.StageHost}}, stages...)
	}
	if r.v.hosts[h.Name] != nil {
		r.v.removeHost(h.Name)
	}
	for i, e := range stages {
		e.ID = hashName(h.Name, fmt.Sprint(i))[:16]
		r.v.effective(e)
		h.Stages = append(h.Stages, e)
	}
	r.v.host(&h)
}

// ofHost is the effective policy of a stage with one tier.
func ofHost(s policy.Stage, p ...*policy.Policy) *policy.Effective {
	return &policy.Effective{Stage: s, Tiers: both(tier("default", false, p...))}
}

func only(name string) policy.HostEndpoint {
	return policy.HostEndpoint{Name: name, Interfaces: []string{"up0"}}
}

var everywhere = policy.HostEndpoint{Name: "every", Rest: true}

func newHostRig(t *testing.T) *rig {
	r := newRig(t, func(o *Options) {
		o.HostAction = HostAccept
		o.Failsafes[policy.Ingress] = []policy.Failsafe{{Proto: tcp, Port: 179}, {Proto: tcp, Port: 2379, Net: netip.MustParsePrefix("172.16.0.0/30")}, {Proto: tcp, Port: 2379, Net: netip.MustParsePrefix("fd16::/126")},
			{Proto: tcp, Port: 2380, Net: netip.MustParsePrefix("172.16.0.4/30")}, {Proto: tcp, Port: 2380, Net: netip.MustParsePrefix("fd16::4/126")}}
		o.Failsafes[policy.Egress] = []policy.Failsafe{{Proto: tcp, Port: 179}, {Proto: udp, Port: 53}}
	})
	_, err := r.host.Serve(53, 81, 179, 2379, 2380)
	must(t, err)
	_, err = r.n.Serve(53, 179, 2379)
	must(t, err)
	everyone := r.allowAllEffective()
	for _, n := range []string{"a", "b"} {
		r.endpoint(n, everyone)
	}
	r.apply()
	return r
}

// TestHostEndpoint shows with packets what a host endpoint of an interface does to
// what the host receives and sends, and that it leaves everything else alone.
func TestHostEndpoint(t *testing.T) {
	r := newHostRig(t)
	plain := r.tab.Text(r.v)
	r.expect(true, lab.TCP, "n", "host", 80)
	r.expect(true, lab.UDP, "host", "n", 80)
	hold := r.hold("n", "host", 80)

	r.hostEndpoint(only("eth"))
	r.apply()
	for _, proto := range []lab.Proto{lab.TCP, lab.UDP} {
		r.expect(false, proto, "n", "host", 80)
		r.expect(false, proto, "host", "n", 80)
	}
	r.expect(false, lab.ICMP, "n", "host", 0)
	r.expect(true, lab.TCP, "n", "host", 179)
	r.expect(false, lab.UDP, "n", "host", 179)
	r.expect(true, lab.TCP, "host", "n", 179)
	r.expect(true, lab.UDP, "host", "n", 53)
	r.expect(false, lab.UDP, "n", "host", 53)
	r.expect(true, lab.TCP, "n", "host", 2379)  // from that network
	r.expect(false, lab.TCP, "n", "host", 2380) // from another one
	r.expect(true, lab.TCP, "a", "n", 80)
	r.expect(true, lab.TCP, "n", "a", 80)
	r.expect(true, lab.TCP, "a", "b", 80)
	r.expect(true, lab.TCP, "host", "a", 80)
	r.expect(true, lab.TCP, "a", "host", 80)
	r.expect(true, lab.TCP, "host", "host", 80)
	hold()
	quiet(t, r.tab, r.v)

	// Neighbours are found anew.
	forgetNeighbours(t, r.host, "up0")
	forgetNeighbours(t, r.n, "eth0")
	r.expect(true, lab.TCP, "n", "host", 179)

	web := r.v.policy(gnp("web", []policy.Rule{allow(toPort(tcp, port(80)))}, []policy.Rule{allow(toPort(udp, port(81)))}))
	r.hostEndpoint(only("eth"), ofHost(policy.StageHost, web))
	r.apply()
	r.expect(true, lab.TCP, "n", "host", 80)
	r.expect(false, lab.UDP, "n", "host", 80)
	r.expect(true, lab.UDP, "host", "n", 81)
	r.expect(false, lab.TCP, "host", "n", 81)
	r.expect(true, lab.TCP, "n", "host", 179)
	quiet(t, r.tab, r.v)

	// Other failsafes.
	safe := r.tab.opts.Failsafes
	r.retune(func(o *Options) {
		o.Failsafes = [2][]policy.Failsafe{policy.Ingress: {{Proto: udp, Port: 53}}, policy.Egress: {{Proto: tcp, Port: 53}}}
	})
	r.expect(false, lab.TCP, "n", "host", 179)
	r.expect(true, lab.UDP, "n", "host", 53)
	r.expect(false, lab.UDP, "host", "n", 53)
	r.expect(true, lab.TCP, "host", "n", 53)
	r.retune(func(o *Options) { o.Failsafes = safe })
	r.expect(true, lab.TCP, "n", "host", 179)

	// By profile.
	open := r.v.policy(profile("open", allowAll, []policy.Rule{allow(toPort(tcp))}))
	r.hostEndpoint(only("eth"), &policy.Effective{Stage: policy.StageHost, Profiles: []*policy.Policy{open}})
	r.apply()
	r.expect(true, lab.UDP, "n", "host", 80)
	r.expect(true, lab.TCP, "host", "n", 80)
	r.expect(false, lab.UDP, "host", "n", 80)

	r.v.removeHost("eth")
	delete(r.v.policies, open.Key)
	delete(r.v.policies, web.Key)
	r.v.ch.Policies[open.Key], r.v.ch.Policies[web.Key] = nil, nil
	r.apply()
	r.expect(true, lab.UDP, "host", "n", 80)
	if got := r.tab.Text(r.v); got != plain {
		t.Errorf("something is left:\n%s", got)
	}
	quiet(t, r.tab, r.v)
}

// TestHostEndpointForwards: only policies with applyOnForward concern what is
// forwarded, by where it comes in and by where it leaves.
func TestHostEndpointForwards(t *testing.T) {
	r := newHostRig(t)
	in := r.v.policy(gnp("in", []policy.Rule{allow(toPort(tcp, port(80)))}, nil))
	in.Forward = true
	r.hostEndpoint(only("eth"), ofHost(policy.StageHost, in),
		&policy.Effective{Stage: policy.StageForward, Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, in)}}})
	r.apply()
	r.expect(true, lab.TCP, "n", "a", 80)
	r.expect(false, lab.TCP, "n", "a", 81)
	r.expect(true, lab.TCP, "n", "host", 80)
	r.expect(true, lab.UDP, "a", "n", 81) // its answers come in as established
	r.expect(true, lab.UDP, "a", "b", 81)
	quiet(t, r.tab, r.v)

	out := r.v.policy(gnp("out", nil, []policy.Rule{allow(toPort(udp, port(80)))}))
	r.hostEndpoint(only("eth"), &policy.Effective{Stage: policy.StageForward, Tiers: [2][]policy.TierPolicies{policy.Egress: {tier("default", false, out)}}})
	r.apply()
	r.expect(true, lab.UDP, "a", "n", 80)
	r.expect(false, lab.TCP, "a", "n", 80)
	r.expect(true, lab.TCP, "n", "a", 81)
	r.expect(false, lab.TCP, "n", "a", 179) // not even a failsafe's would be let in there, if a served it
	r.expect(true, lab.UDP, "a", "b", 81)
	r.expect(true, lab.UDP, "a", "host", 80)
}

// TestHostEndpointOfTheRest: one for all interfaces concerns those without one of
// their own, and what workloads send as it is forwarded.
func TestHostEndpointOfTheRest(t *testing.T) {
	r := newHostRig(t)
	r.hostEndpoint(everywhere)
	r.apply()
	r.expect(false, lab.TCP, "n", "host", 80)
	r.expect(false, lab.TCP, "host", "n", 80)
	r.expect(false, lab.TCP, "host", "host", 80) // lo is an interface
	r.expect(true, lab.TCP, "host", "host", 179)
	r.expect(true, lab.TCP, "n", "host", 179)
	r.expect(true, lab.TCP, "a", "host", 80)
	r.expect(true, lab.TCP, "host", "a", 80)
	r.expect(true, lab.TCP, "a", "b", 80)
	quiet(t, r.tab, r.v)

	fwd := r.v.policy(gnp("fwd", []policy.Rule{allow(toPort(tcp))}, []policy.Rule{allow(toPort(tcp, port(80)))}))
	fwd.Forward = true
	r.hostEndpoint(everywhere, ofHost(policy.StageHost, fwd), ofHost(policy.StageForward, fwd))
	r.apply()
	r.expect(true, lab.TCP, "a", "b", 80)
	r.expect(false, lab.TCP, "a", "b", 81)
	r.expect(false, lab.UDP, "a", "b", 80)
	r.expect(true, lab.UDP, "host", "a", 81)
	r.expect(true, lab.UDP, "a", "host", 80)
	r.expect(true, lab.TCP, "n", "host", 80)

	// One of its own takes an interface out.
	r.hostEndpoint(only("eth"), &policy.Effective{Stage: policy.StageHost, Profiles: []*policy.Policy{r.v.policy(profile("allow", allowAll, allowAll))}})
	r.apply()
	r.expect(true, lab.UDP, "n", "host", 80)
	r.expect(true, lab.TCP, "n", "a", 80) // the rest's egress is asked at a's interface
	r.expect(false, lab.TCP, "n", "a", 81)
}

// TestHostEndpointUntracked: policies with doNotTrack are asked before connection
// tracking, both ways, and what they allow makes no connection.
func TestHostEndpointUntracked(t *testing.T) {
	r := newHostRig(t)
	raw := r.v.policy(gnp("raw",
		[]policy.Rule{allow(toPort(udp, port(80))), with(policy.Deny, toPort(udp, port(81)))},
		[]policy.Rule{allow(func(r *policy.Rule) { r.HasProto, r.Proto = true, udp; r.Src.Ports = []policy.PortRange{port(80)} })}))
	raw.Stage, raw.Forward = policy.StageUntracked, true
	web := r.v.policy(gnp("web", []policy.Rule{allow(toPort(tcp, port(80))), allow(toPort(udp, port(81)))}, nil))
	r.hostEndpoint(only("eth"), ofHost(policy.StageHost, web), ofHost(policy.StageUntracked, raw))
	r.apply()
	r.expect(true, lab.UDP, "n", "host", 80)
	r.expect(false, lab.UDP, "n", "host", 81) // denied before the other allows it
	r.expect(true, lab.TCP, "n", "host", 80)  // no rule of the first matches
	r.expect(false, lab.TCP, "n", "host", 81)
	r.expect(true, lab.TCP, "n", "host", 179)
	r.expect(true, lab.TCP, "host", "n", 179)
	for _, f := range r.flows() {
		if f.Proto == udp && f.DstPort == 80 {
			t.Errorf("there is a connection: %+v", f.Packet)
		}
	}
	quiet(t, r.tab, r.v)
	tracked := slices.ContainsFunc(r.flows(), func(f Flow) bool { return f.Proto == tcp && f.DstPort == 80 })
	if !tracked {
		t.Error("nothing else is tracked, either")
	}
}

// TestHostEndpointPreDNAT: policies with preDNAT see the destination that was
// asked for, and what they allow is not asked about again.
func TestHostEndpointPreDNAT(t *testing.T) {
	r := newHostRig(t)
	// Somebody else's translation: port 8080 of the host is a's port 80, and 8081 its 81.
	must(t, r.host.Do(func() error { return translate(map[uint16]uint16{8080: 80, 8081: 81}) }))
	r.expectAt(true, "n", 8080)
	pre := r.v.policy(gnp("pre", []policy.Rule{allow(toPort(tcp, port(8080))), with(policy.Deny, toPort(tcp, port(8081)))}, nil))
	pre.Stage, pre.Forward = policy.StagePreDNAT, true
	fwd := r.v.policy(gnp("fwd", nil, nil))
	r.hostEndpoint(only("eth"), ofHost(policy.StageHost),
		&policy.Effective{Stage: policy.StageForward, Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, fwd)}}},
		&policy.Effective{Stage: policy.StagePreDNAT, Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, pre)}}})
	r.apply()
	r.expectAt(true, "n", 8080)
	r.expectAt(false, "n", 8081)
	r.expect(false, lab.TCP, "n", "a", 80) // not translated: the forward policy denies all
	r.expect(true, lab.TCP, "n", "host", 179)
	quiet(t, r.tab, r.v)
}

// expectAt probes a port of the host from a neighbour, in IPv4 and IPv6.
func (r *rig) expectAt(want bool, from string, port uint16) {
	r.Helper()
	r.expect(want, lab.TCP, from, "host", port)
}

// hold keeps a connection, and returns what shows that it still works and ends it.
func (r *rig) hold(from, to string, port uint16) func() {
	r.Helper()
	conn, err := r.ns(from).Dial(context.Background(), "tcp", netip.AddrPortFrom(addr4[to], port).String())
	must(r, err)
	return func() {
		r.Helper()
		defer conn.Close()
		must(r, conn.SetDeadline(time.Now().Add(2*time.Second)))
		_, err := conn.Write([]byte("still here"))
		must(r, err)
		if _, err := conn.Read(make([]byte, 64)); err != nil {
			r.Errorf("the connection from before does not go on: %v", err)
		}
	}
}

func forgetNeighbours(t *testing.T, ns *lab.Namespace, link string) {
	t.Helper()
	h, err := ns.Handle()
	must(t, err)
	n, err := ns.LinkIndex(link)
	must(t, err)
	list, err := h.NeighList(n, 0)
	must(t, err)
	for _, x := range list {
		if x.State != netlink.NUD_NOARP {
			must(t, h.NeighDel(&x))
		}
	}
}

// translate sends ports of the host to ports of workload a, as another program
// would.
func translate(ports map[uint16]uint16) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "other-nat"})
	chain := c.AddChain(&nftables.Chain{Table: t, Name: "pre", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	for from, to := range ports {
		for _, f := range []*family{ipv4, ipv6} {
			a := addr4["a"]
			if f == ipv6 {
				a = addr6["a"]
			}
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.proto}},
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{tcp}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(from >> 8), byte(from)}},
				&expr.Immediate{Register: 1, Data: a.AsSlice()},
				&expr.Immediate{Register: 2, Data: []byte{byte(to >> 8), byte(to)}},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: 1, RegProtoMin: 2},
			}})
		}
	}
	return c.Flush()
}

func (r *rig) flows() (all []Flow) {
	r.Helper()
	f, err := OpenFlows(int(r.nsFile.Fd()))
	must(r, err)
	defer f.Close()
	_, err = f.Review(func(some []Flow) error { all = append(all, some...); return nil }, false)
	must(r, err)
	return all
}

// TestHostText compares the chains of host endpoints with their golden file.
func TestHostText(t *testing.T) {
	v := newView()
	p := v.policy(gnp("web", []policy.Rule{allow(toPort(tcp, port(80)))}, nil))
	raw := v.policy(gnp("raw", []policy.Rule{allow(toPort(udp, port(53)))}, []policy.Rule{with(policy.Deny, toPort(udp, port(53)))}))
	raw.Stage = policy.StageUntracked
	pre := v.policy(gnp("pre", []policy.Rule{with(policy.Deny, toPort(tcp, port(8080)))}, nil))
	pre.Stage = policy.StagePreDNAT
	eff := func(id string, e *policy.Effective) *policy.Effective { e.ID = id; return v.effective(e) }
	one := [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, pre)}}
	v.host(&policy.HostEndpoint{Name: "eth0", Interfaces: []string{"eth0", "eth1"}, Stages: []*policy.Effective{
		eff("hosthosthosthost", ofHost(policy.StageHost, p)), eff("fwdfwdfwdfwdfwdf", ofHost(policy.StageForward, p)),
		eff("rawrawrawrawrawr", ofHost(policy.StageUntracked, raw)), eff("preprepreprepre2", &policy.Effective{Stage: policy.StagePreDNAT, Tiers: one})}})
	v.host(&policy.HostEndpoint{Name: "rest", Rest: true, Stages: []*policy.Effective{eff("restrestrestrest", &policy.Effective{Stage: policy.StageHost})}})
	o := Options{Prefixes: []string{"cali"}, Failsafes: [2][]policy.Failsafe{
		{{Proto: tcp, Port: 22}, {Proto: udp, Port: 68, Net: netip.MustParsePrefix("10.0.0.0/8")}}, {{Proto: udp, Port: 53}}}}
	must(t, o.check())
	got := text(&renderer{opts: o, text: true}, v)
	got = got[max(0, strings.Index(got, "\tchain ei-")):]
	got = got[:strings.Index(got, "\n}\n")+1]
	file := filepath.Join("testdata", "host.txt")
	if *update {
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
