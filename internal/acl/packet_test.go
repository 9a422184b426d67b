// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/policy"
)

const tcp, udp = 6, 17

// allow is an Allow rule with changes.
func allow(changes ...func(r *policy.Rule)) policy.Rule { return with(policy.Allow, changes...) }

func with(a policy.Action, changes ...func(r *policy.Rule)) policy.Rule {
	r := policy.Rule{Action: a}
	for _, change := range changes {
		if change != nil {
			change(&r)
		}
	}
	return r
}

func toPort(proto uint8, ports ...policy.PortRange) func(r *policy.Rule) {
	return func(r *policy.Rule) {
		r.HasProto, r.Proto = true, proto
		r.Dst.Ports = ports
	}
}

func port(p uint16) policy.PortRange { return policy.PortRange{Min: p, Max: p} }

// TestRules shows with packets what one policy on the ingress of b lets in.
func TestRules(t *testing.T) {
	r := newRig(t)
	everyone := r.allowAllEffective()
	for _, n := range []string{"a", "b", "c"} {
		r.endpoint(n, everyone)
	}
	r.apply()
	r.expect(true, lab.TCP, "a", "b", 80)
	r.expect(true, lab.ICMP, "c", "b", 0)
	r.expect(true, lab.UDP, "n", "b", 80)
	r.expect(true, lab.UDP, "b", "n", 80)

	type probe struct {
		want  bool
		proto lab.Proto
		from  string
		port  uint16
		v     []int
	}
	yes := func(p lab.Proto, from string, port uint16, v ...int) probe { return probe{true, p, from, port, v} }
	no := func(p lab.Proto, from string, port uint16, v ...int) probe { return probe{false, p, from, port, v} }
	srcNets := func(list ...string) func(*policy.Rule) {
		return func(r *policy.Rule) { r.Src.Nets = nets(list...) }
	}
	cases := []struct {
		name   string
		rules  []policy.Rule
		probes []probe
	}{
		{"no rule", nil, []probe{no(lab.TCP, "a", 80), no(lab.ICMP, "n", 0)}},
		{"one port", []policy.Rule{allow(toPort(tcp, port(80)))},
			[]probe{yes(lab.TCP, "a", 80), no(lab.TCP, "a", 81), no(lab.UDP, "a", 80), yes(lab.TCP, "n", 80)}},
		{"ports and ranges", []policy.Rule{allow(toPort(udp, port(80), policy.PortRange{Min: 1000, Max: 1010}))},
			[]probe{yes(lab.UDP, "a", 80), yes(lab.UDP, "a", 1005), no(lab.UDP, "a", 81), no(lab.TCP, "a", 80)}},
		{"range", []policy.Rule{allow(toPort(udp, policy.PortRange{Min: 1000, Max: 1010}))},
			[]probe{yes(lab.UDP, "a", 1005), no(lab.UDP, "a", 80)}},
		{"not port", []policy.Rule{allow(func(r *policy.Rule) {
			r.HasProto, r.Proto = true, tcp
			r.Dst.NotPorts = []policy.PortRange{port(80), port(1005)}
		})}, []probe{no(lab.TCP, "a", 80), yes(lab.TCP, "a", 81), no(lab.TCP, "a", 1005), no(lab.UDP, "a", 81)}},
		{"not port of any protocol", []policy.Rule{allow(func(r *policy.Rule) { r.Dst.NotPorts = []policy.PortRange{port(80)} })},
			[]probe{no(lab.TCP, "a", 80), yes(lab.UDP, "a", 81), no(lab.ICMP, "a", 0)}},
		{"port without protocol", []policy.Rule{allow(func(r *policy.Rule) { r.Dst.Ports = []policy.PortRange{port(80)} })},
			[]probe{yes(lab.TCP, "a", 80), yes(lab.UDP, "a", 80), no(lab.TCP, "a", 81), no(lab.ICMP, "a", 0)}},
		{"one net", []policy.Rule{allow(srcNets("10.65.0.1/32"))},
			[]probe{yes(lab.TCP, "a", 80, 4), no(lab.TCP, "a", 80, 6), no(lab.TCP, "c", 80)}},
		{"net of odd length", []policy.Rule{allow(srcNets("10.65.0.2/31", "fd65::2/127"))},
			[]probe{yes(lab.TCP, "c", 80), no(lab.TCP, "a", 80)}},
		{"nets that overlap", []policy.Rule{allow(srcNets("10.65.0.0/30", "10.65.0.1/32", "172.16.0.0/30", "fd65::/64", "fd65::1/128", "fd99::/64"))},
			[]probe{yes(lab.TCP, "a", 80), yes(lab.TCP, "c", 80), yes(lab.TCP, "n", 80, 4), no(lab.TCP, "n", 80, 6)}},
		{"not nets of one family", []policy.Rule{allow(func(r *policy.Rule) { r.Src.NotNets = nets("10.65.0.1/32") })},
			[]probe{no(lab.TCP, "a", 80), yes(lab.TCP, "c", 80, 4), no(lab.TCP, "c", 80, 6)}},
		{"not everything", []policy.Rule{allow(func(r *policy.Rule) { r.Src.NotNets = nets("0.0.0.0/0", "10.0.0.0/8", "::/0") })},
			[]probe{no(lab.TCP, "a", 80), no(lab.TCP, "n", 80)}},
		{"three lists", []policy.Rule{allow(func(r *policy.Rule) {
			r.HasProto, r.Proto = true, tcp
			r.Src.Nets = nets("10.65.0.1/32", "10.65.0.3/32", "fd65::1/128", "fd65::3/128")
			r.Dst.Nets = nets("10.65.0.9/32", "10.65.0.10/32", "fd65::9/128", "fd65::10/128")
			r.Dst.Ports = []policy.PortRange{port(80), port(1005)}
		})}, []probe{no(lab.TCP, "a", 80)}},
		{"protocol", []policy.Rule{allow(toPort(udp))}, []probe{yes(lab.UDP, "a", 80), no(lab.TCP, "a", 80), no(lab.ICMP, "a", 0)}},
		{"not protocol", []policy.Rule{allow(func(r *policy.Rule) { r.HasNotProto, r.NotProto = true, udp })},
			[]probe{no(lab.UDP, "a", 80), yes(lab.TCP, "a", 80), yes(lab.ICMP, "a", 0)}},
		{"echo request of IPv4", []policy.Rule{allow(func(r *policy.Rule) {
			r.HasProto, r.Proto, r.ICMP = true, 1, &policy.ICMPMatch{Type: 8, Code: -1}
		})}, []probe{yes(lab.ICMP, "a", 0, 4), no(lab.ICMP, "a", 0, 6), no(lab.TCP, "a", 80)}},
		{"echo request of IPv6 with code", []policy.Rule{allow(func(r *policy.Rule) {
			r.HasProto, r.Proto, r.ICMP = true, 58, &policy.ICMPMatch{Type: 128, Code: 0}
		})}, []probe{yes(lab.ICMP, "a", 0, 6), no(lab.ICMP, "a", 0, 4)}},
		{"not echo request", []policy.Rule{allow(func(r *policy.Rule) {
			r.HasProto, r.Proto, r.NotICMP = true, 1, &policy.ICMPMatch{Type: 8, Code: 0}
		})}, []probe{no(lab.ICMP, "a", 0)}},
		{"not ICMP type of any protocol", []policy.Rule{allow(func(r *policy.Rule) { r.NotICMP = &policy.ICMPMatch{Type: 8, Code: -1} })},
			[]probe{no(lab.ICMP, "a", 0, 4), yes(lab.ICMP, "a", 0, 6), yes(lab.TCP, "a", 80)}},
		{"IP version", []policy.Rule{allow(func(r *policy.Rule) { r.IPVersion = 6 })},
			[]probe{no(lab.TCP, "a", 80, 4), yes(lab.TCP, "a", 80, 6)}},
		{"never", []policy.Rule{allow(func(r *policy.Rule) { r.Never = true })}, []probe{no(lab.TCP, "a", 80)}},
		{"deny before allow", []policy.Rule{with(policy.Deny, toPort(tcp, port(80))), allow()},
			[]probe{no(lab.TCP, "a", 80), yes(lab.TCP, "a", 81)}},
		{"a group", []policy.Rule{allow(toPort(tcp, port(80))), allow(toPort(udp, port(81), port(1005))), allow(toPort(tcp, port(81)))},
			[]probe{yes(lab.TCP, "a", 80), yes(lab.TCP, "n", 81), no(lab.TCP, "a", 1005), yes(lab.UDP, "a", 1005), no(lab.UDP, "a", 80), no(lab.ICMP, "a", 0)}},
		{"a group of another port", []policy.Rule{allow(toPort(tcp, port(80))), allow(toPort(udp, port(80), port(1005))), allow(toPort(tcp, port(81)))},
			[]probe{no(lab.UDP, "a", 81), yes(lab.UDP, "a", 80)}},
		{"two groups of other sources", []policy.Rule{
			allow(toPort(tcp, port(80))),
			allow(func(r *policy.Rule) { toPort(tcp, port(81))(r); r.Src.Nets = nets("10.65.0.1/32", "fd65::1/128") }),
			allow(toPort(udp, port(80))),
			allow(func(r *policy.Rule) { toPort(udp, port(81))(r); r.Src.Nets = nets("10.65.0.1/32", "fd65::1/128") }),
		}, []probe{yes(lab.TCP, "c", 80), yes(lab.UDP, "c", 80), no(lab.TCP, "c", 81), yes(lab.TCP, "a", 81), yes(lab.UDP, "a", 81), no(lab.UDP, "n", 81)}},
		{"a group that denies before one that allows", []policy.Rule{
			with(policy.Deny, toPort(tcp, port(80))), with(policy.Deny, toPort(udp, port(81))),
			allow(toPort(tcp, port(80), port(81))), allow(toPort(udp, port(80), port(81))),
		}, []probe{no(lab.TCP, "a", 80), yes(lab.TCP, "a", 81), yes(lab.UDP, "a", 80), no(lab.UDP, "a", 81), no(lab.UDP, "a", 82)}},
		{"log goes on", []policy.Rule{with(policy.Log), allow()}, []probe{yes(lab.TCP, "a", 80)}},
		{"unknown action denies", []policy.Rule{with(policy.Action(99), toPort(tcp, port(80))), allow()}, []probe{no(lab.TCP, "a", 80)}},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r.TB = t
			p := r.v.policy(gnp("p", c.rules, nil))
			r.endpoint("b", r.v.effective(&policy.Effective{ID: fmt.Sprintf("case%012d", i), Profiles: everyone.Profiles,
				Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}}))
			r.apply()
			for _, p := range c.probes {
				r.expect(p.want, p.proto, p.from, "b", p.port, p.v...)
			}
			quiet(t, r.tab, r.v)
		})
	}
}

// TestSets changes members under a rule that stays: hosts, then a network,
// which makes an interval set of the hash table, then hosts again.
func TestSets(t *testing.T) {
	r := newRig(t)
	everyone := r.allowAllEffective()
	r.v.set("hosts", policy.SetNets, netMembers("10.65.0.1/32", "fd65::1/128")...)
	r.v.set("named", policy.SetPorts,
		policy.Member{Net: host(addr4["b"]), Proto: tcp, Port: 81}, policy.Member{Net: host(addr6["b"]), Proto: tcp, Port: 81})
	p := r.v.policy(gnp("p", []policy.Rule{
		allow(func(r *policy.Rule) { r.Src.Sets = []policy.SetID{"hosts"}; toPort(udp)(r) }),
		allow(func(r *policy.Rule) {
			toPort(tcp, port(1005))(r)
			r.Dst.PortSets = []policy.SetID{"named"}
		}),
	}, nil))
	r.endpoint("a", everyone)
	r.endpoint("c", everyone)
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "setssetssetssets", Tiers: both(tier("default", false, p))}))
	r.apply()
	r.expect(true, lab.UDP, "a", "b", 80)
	r.expect(false, lab.UDP, "c", "b", 80)
	r.expect(true, lab.TCP, "c", "b", 81)
	r.expect(true, lab.TCP, "c", "b", 1005)
	r.expect(false, lab.TCP, "c", "b", 80)
	quiet(t, r.tab, r.v)

	for _, step := range []struct {
		members []policy.Member
		a, c, n bool
	}{
		{netMembers("10.65.0.3/32", "fd65::3/128"), false, true, false},
		{netMembers("10.65.0.3/32", "fd65::3/128", "172.16.0.0/24", "fd16::/64"), false, true, true},
		{netMembers("10.65.0.0/31", "fd65::/127", "10.65.0.3/32", "fd65::3/128"), true, true, false},
		{netMembers("0.0.0.0/0", "::/0"), true, true, true},
		{netMembers("10.65.0.1/32", "fd65::1/128", "255.255.255.255/32"), true, false, false},
		{nil, false, false, false},
		{netMembers("172.16.0.2/32", "fd16::2/128"), false, false, true},
	} {
		r.v.set("hosts", policy.SetNets, step.members...)
		r.apply()
		r.expect(step.a, lab.UDP, "a", "b", 80)
		r.expect(step.c, lab.UDP, "c", "b", 80)
		r.expect(step.n, lab.UDP, "n", "b", 80)
		quiet(t, r.tab, r.v)
	}
}

// TestTiers walks tiers, their default actions, Pass and profiles.
func TestTiers(t *testing.T) {
	r := newRig(t)
	everyone := r.allowAllEffective()
	r.endpoint("a", everyone)
	r.endpoint("c", everyone)
	pass80 := gnp("pass80", []policy.Rule{with(policy.Pass, toPort(tcp, port(80)))}, nil)
	pass80.Tier = "first"
	allow81 := gnp("allow81", []policy.Rule{allow(toPort(tcp, port(81)))}, nil)
	allow80 := gnp("allow80", []policy.Rule{allow(toPort(tcp, port(80)))}, nil)
	deny80 := gnp("deny80", []policy.Rule{with(policy.Deny, toPort(tcp, port(80)))}, nil)
	none := gnp("none", nil, nil)
	passing := profile("passing", []policy.Rule{with(policy.Pass, toPort(tcp, port(80))), allow()}, allowAll)
	for _, p := range []*policy.Policy{pass80, allow81, allow80, deny80, none, passing} {
		r.v.policy(p)
	}
	open := everyone.Profiles
	for i, c := range []struct {
		name     string
		tiers    []policy.TierPolicies
		profiles []*policy.Policy
		p80, p81 bool
	}{
		{"nothing at all", nil, nil, false, false},
		{"profile only", nil, open, true, true},
		{"end of tier drops", []policy.TierPolicies{tier("first", false, allow81)}, open, false, true},
		{"end of tier passes", []policy.TierPolicies{tier("first", true, none)}, open, true, true},
		{"empty policy drops", []policy.TierPolicies{tier("first", false, none)}, open, false, false},
		{"pass to the next tier", []policy.TierPolicies{tier("first", false, pass80), tier("default", false, allow80)}, open, true, false},
		{"pass skips the rest of the tier", []policy.TierPolicies{tier("first", false, allow81, pass80, deny80)}, open, true, true},
		{"pass to a tier that denies", []policy.TierPolicies{tier("first", true, pass80), tier("default", true, deny80)}, open, false, true},
		{"pass from the last tier without profile", []policy.TierPolicies{tier("first", true, pass80)}, nil, false, false},
		{"pass in a profile ends it", nil, []*policy.Policy{passing}, false, true},
		{"pass in a profile leaves the next", nil, []*policy.Policy{passing, open[0]}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.TB = t
			r.endpoint("b", r.v.effective(&policy.Effective{ID: fmt.Sprintf("tier%012d", i), Profiles: c.profiles,
				Tiers: [2][]policy.TierPolicies{policy.Ingress: c.tiers}}))
			r.apply()
			r.expect(c.p80, lab.TCP, "a", "b", 80)
			r.expect(c.p81, lab.TCP, "a", "b", 81)
			quiet(t, r.tab, r.v)
		})
	}

	t.Run("a policy begins and ends to pass", func(t *testing.T) {
		r.TB = t
		r.endpoint("b", r.v.effective(&policy.Effective{ID: "tierchangestiers", Profiles: open,
			Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("first", false, allow81)}}}))
		r.apply()
		r.v.policy(gnp("allow81", []policy.Rule{with(policy.Pass)}, nil))
		r.apply()
		r.expect(true, lab.TCP, "a", "b", 80)
		quiet(t, r.tab, r.v)
		r.v.policy(allow81)
		r.apply()
		r.expect(false, lab.TCP, "a", "b", 80)
		quiet(t, r.tab, r.v)
	})
}

// TestHost shows the way between a workload and its host, and that egress is
// enforced.
func TestHost(t *testing.T) {
	r := newRig(t)
	r.endpoint("a", r.allowAllEffective())
	closed := r.v.policy(gnp("closed", nil, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "closedclosedclos", Tiers: both(tier("default", false, closed))}))
	r.apply()
	r.expect(false, lab.TCP, "a", "host", 80)
	r.expect(true, lab.TCP, "host", "a", 80)
	r.expect(true, lab.TCP, "host", "b", 80) // its policy is not asked
	r.expect(false, lab.TCP, "b", "n", 80)
	r.expect(true, lab.TCP, "a", "n", 80)
	r.expect(false, lab.TCP, "c", "n", 80) // unknown interface
	r.expect(false, lab.TCP, "n", "c", 80)
	r.expect(false, lab.TCP, "host", "c", 80) // its answers do not pass

	r.retune(func(o *Options) { o.HostAction = HostAccept })
	r.expect(true, lab.TCP, "a", "host", 80)
	r.expect(false, lab.TCP, "b", "host", 80) // its egress policy is asked
}

// TestSpeakers lets a workload speak BGP with its host: at that port and no
// other, after its egress policy, and nobody else. The rules are read back as they
// were written.
func TestSpeakers(t *testing.T) {
	r := newRig(t)
	r.endpoint("a", r.allowAllEffective())
	closed := r.v.policy(gnp("closed", nil, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "closedclosedclos", Tiers: both(tier("default", false, closed))}))
	r.apply()
	speak := func(port uint16, names ...string) {
		t.Helper()
		r.retune(func(o *Options) { o.Speakers, o.SpeakerPort = names, port })
	}
	r.expect(false, lab.TCP, "a", "host", 80)
	speak(80, "calia", "calib")
	r.expect(true, lab.TCP, "a", "host", 80)
	r.expect(false, lab.UDP, "a", "host", 80)
	r.expect(false, lab.TCP, "b", "host", 80) // its egress policy is asked
	speak(81, "calia", "calib")
	r.expect(false, lab.TCP, "a", "host", 80)
	speak(80, "calib")
	r.expect(false, lab.TCP, "a", "host", 80)
	speak(80)
	r.expect(false, lab.TCP, "a", "host", 80)
}

// TestEmptyChainIsClosed takes the rules of an endpoint's chains away, as they
// are not there for packets of before the commit that makes a chain.
func TestEmptyChainIsClosed(t *testing.T) {
	r := newRig(t)
	e := r.allowAllEffective()
	r.endpoint("a", e)
	r.endpoint("b", e)
	r.apply()
	for _, d := range directions {
		for _, v := range []int{4, 6} {
			r.expect(true, lab.UDP, "a", "b", 80, v)
		}
		var m msgs
		m.flushChain("", effectiveChain(e.ID, d))
		must(t, r.tab.sock.transact(&m))
		for _, v := range []int{4, 6} {
			r.expect(false, lab.UDP, "a", "b", 80, v)
		}
		must(t, r.tab.Resync(r.v))
	}
}

// TestI1_UnknownInterface takes an endpoint away under an established flow.
func TestI1_UnknownInterface(t *testing.T) {
	r := newRig(t)
	e := r.allowAllEffective()
	r.endpoint("a", e)
	r.endpoint("b", e)
	r.apply()
	for _, v := range []int{4, 6} {
		f, err := lab.StartFlow(lab.FlowConfig{From: r.wl["a"], To: r.wl["b"], Dst: netip.AddrPortFrom(addrOf(v, "b"), 7000), PPS: 500, Echo: true})
		must(t, err)
		if err := f.WaitDelivered(t.Context(), 20); err != nil {
			t.Fatalf("IPv%d: %v %v", v, err, f.Report())
		}
		r.v.removeEndpoint(policy.EndpointID{Namespace: "ns", Name: "a"})
		r.apply()
		sent := func(n int) { // waits for n more
			end := f.Report().Sent + n
			labtest.Poll(t, 5*time.Second, func() error {
				if f.Report().Sent < end {
					return fmt.Errorf("%v", f.Report())
				}
				return nil
			})
		}
		sent(5) // what was under way has arrived
		delivered := f.Report().Delivered
		sent(50)
		if rep := f.Stop(0); rep.Delivered != delivered {
			t.Errorf("IPv%d: %d packets of an interface without endpoint passed", v, rep.Delivered-delivered)
		}
		r.endpoint("a", e)
		r.apply()
		r.expect(true, lab.TCP, "a", "b", 80)
	}
	quiet(t, r.tab, r.v)
}
