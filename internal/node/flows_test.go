// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestJudgeFlows says what becomes of flows of which one end is a workload that
// policy allows nothing: they are cut, but for those that this host itself
// began, which policy is not asked about, and those that end with their address.
func TestJudgeFlows(t *testing.T) {
	x := policy.NewIndex("n1")
	w := &v3.WorkloadEndpoint{}
	w.Spec.Node, w.Spec.InterfaceName = "n1", "cali1"
	w.Spec.IPNetworks = []string{"10.65.0.1/32", "fd65::1/128"}
	x.Set(policy.Key{Kind: "WorkloadEndpoint", Namespace: "default", Name: "w"}, w, nil)
	x.Flush()
	l := &loop{model: newModel("n1", x)}
	set := func(list ...string) map[netip.Addr]bool {
		m := map[netip.Addr]bool{}
		for _, s := range list {
			m[netip.MustParseAddr(s)] = true
		}
		return m
	}
	for _, c := range []struct {
		src, dst string
		related  bool
		want     acl.Fate
	}{
		{"10.0.0.2", "10.65.0.1", false, acl.Cut},
		{"fd00::2", "fd65::1", false, acl.Cut},
		{"10.65.0.1", "10.0.0.2", false, acl.Cut},
		{"10.0.0.1", "10.65.0.1", false, acl.Keep}, // this host
		{"fd00::1", "fd65::1", false, acl.Keep},
		{"10.65.0.1", "10.0.0.1", false, acl.Cut},
		{"10.0.0.2", "10.65.0.1", true, acl.Leave},
		{"10.0.0.2", "10.0.0.3", false, acl.Leave},
		{"10.0.0.1", "10.65.0.9", false, acl.End},
		{"fd65::9", "fd65::1", true, acl.End},
	} {
		f := []acl.Flow{{Packet: policy.Packet{Src: netip.MustParseAddr(c.src), Dst: netip.MustParseAddr(c.dst), Proto: 17, DstPort: 53}, Related: c.related}}
		l.judgeFlows(f, set("10.65.0.9", "fd65::9"), set("10.0.0.1", "fd00::1"), l.ways())
		if f[0].Fate != c.want {
			t.Errorf("%s to %s, related %v: fate %v, want %v", c.src, c.dst, c.related, f[0].Fate, c.want)
		}
	}
}

// TestFloatingIPGivenUp: what went to a floating IP ends when its endpoint has it no more,
// because it was taken away, or because floating IPs are off; what goes to the
// endpoint's own address goes on, and so does a floating IP that stays.
func TestFloatingIPGivenUp(t *testing.T) {
	for _, a := range [][2]string{{"10.65.0.1", "203.0.113.7"}, {"fd65::1", "2001:db8:f::7"}} {
		own, external := netip.MustParseAddr(a[0]), netip.MustParseAddr(a[1])
		x := policy.NewIndex("n1")
		l := &loop{model: newModel("n1", x), established: established{due: make(signal, 1), addrs: map[policy.EndpointID][]netip.Addr{}, gone: map[netip.Addr]bool{}}}
		allow := &v3.Profile{Spec: v3.ProfileSpec{Ingress: []v3.Rule{{Action: "Allow"}}}}
		x.Set(policy.Key{Kind: "Profile", Name: "open"}, allow, nil)
		round := func(what string, enabled bool, external string, want [2]acl.Fate) {
			t.Helper()
			w := &v3.WorkloadEndpoint{}
			w.Spec.Node, w.Spec.InterfaceName, w.Spec.Profiles = "n1", "cali1", []string{"open"}
			w.Spec.IPNetworks = []string{own.String()}
			if external != "" {
				w.Spec.IPNATs = []v3.IPNAT{{InternalIP: own.String(), ExternalIP: external}}
			}
			x.Set(policy.Key{Kind: "WorkloadEndpoint", Namespace: "default", Name: "w"}, w, nil)
			l.settings.floatingIPs = enabled
			l.policyChanged(x.Flush())
			var list []acl.Flow
			for _, to := range []netip.Addr{own, netip.MustParseAddr(a[1])} {
				f := acl.Flow{Packet: policy.Packet{Src: netip.MustParseAddr(a[1]).Next(), Dst: own, Proto: 6, SrcPort: 3000, DstPort: 80}}
				f.Before = f.Packet
				f.Before.Dst = to
				list = append(list, f)
			}
			l.judgeFlows(list, l.established.gone, nil, l.ways())
			if got := [2]acl.Fate{list[0].Fate, list[1].Fate}; got != want {
				t.Errorf("%s: to its own address and to the floating IP: fates %v, want %v", what, got, want)
			}
			l.established.gone = map[netip.Addr]bool{}
		}
		both, one := [2]acl.Fate{acl.Keep, acl.Keep}, [2]acl.Fate{acl.Keep, acl.End}
		round("it has one", true, external.String(), both)
		round("nothing changes", true, external.String(), both)
		round("it has none", true, "", one)
		round("it has it again", true, external.String(), both)
		round("they are off", false, external.String(), one)
		round("and on again", true, external.String(), both)
		round("it has another", true, external.Next().String(), one)
	}
}

// TestJudgeFlows_OpenStack: what a machine may ask of its host whatever policy says is
// not cut, and nothing else that policy denies is spared with it.
func TestJudgeFlows_OpenStack(t *testing.T) {
	x := policy.NewIndex("n1")
	w := &v3.WorkloadEndpoint{}
	w.Spec.Node, w.Spec.InterfaceName = "n1", "tap1"
	w.Spec.IPNetworks = []string{"10.65.0.1/32", "fd65::1/128"}
	x.Set(policy.Key{Kind: "WorkloadEndpoint", Namespace: "default", Name: "w"}, w, nil)
	x.Flush()
	ap, a := netip.MustParseAddrPort, netip.MustParseAddr
	host := map[netip.Addr]bool{a("10.0.0.1"): true, a("fd00::1"): true, a("169.254.1.1"): true}
	for _, c := range []struct {
		what          string
		metadata      netip.AddrPort
		proto         uint8
		src, dst, via netip.AddrPort // via is what the destination becomes
		want          acl.Fate       // with OpenStack; without it each is cut
	}{
		{"metadata on loopback", ap("127.0.0.1:8775"), 6, ap("10.65.0.1:3000"), ap("169.254.169.254:80"), ap("169.254.1.1:8775"), acl.Keep},
		{"metadata on another address of this host", ap("10.0.0.1:8775"), 6, ap("10.65.0.1:3000"), ap("169.254.169.254:80"), ap("10.0.0.1:8775"), acl.Keep},
		{"metadata elsewhere", ap("10.0.0.9:8775"), 6, ap("10.65.0.1:3000"), ap("169.254.169.254:80"), ap("10.0.0.9:8775"), acl.Cut},
		{"DNS", netip.AddrPort{}, 17, ap("10.65.0.1:3000"), ap("10.0.0.1:53"), netip.AddrPort{}, acl.Keep},
		{"DNS", netip.AddrPort{}, 17, ap("[fd65::1]:3000"), ap("[fd00::1]:53"), netip.AddrPort{}, acl.Keep},
		{"DNS elsewhere", netip.AddrPort{}, 17, ap("[fd65::1]:3000"), ap("[fd00::9]:53"), netip.AddrPort{}, acl.Cut},
		{"DHCP", netip.AddrPort{}, 17, ap("10.65.0.1:68"), ap("10.0.0.1:67"), netip.AddrPort{}, acl.Keep},
		{"DHCPv6", netip.AddrPort{}, 17, ap("[fd65::1]:546"), ap("[ff02::1:2]:547"), netip.AddrPort{}, acl.Keep},
		{"something else on this host", netip.AddrPort{}, 6, ap("10.65.0.1:3000"), ap("10.0.0.1:8775"), netip.AddrPort{}, acl.Cut},
	} {
		for _, active := range []bool{true, false} {
			l := &loop{model: newModel("n1", x)}
			l.settings.stack = acl.OpenStack{Active: active}
			want := acl.Fate(acl.Cut)
			if active {
				l.settings.stack.Metadata, want = c.metadata, c.want
			}
			f := []acl.Flow{{Before: policy.Packet{Src: c.src.Addr(), Dst: c.dst.Addr(), Proto: c.proto, SrcPort: c.src.Port(), DstPort: c.dst.Port()}}}
			if f[0].Packet = f[0].Before; c.via.IsValid() {
				f[0].Dst, f[0].DstPort = c.via.Addr(), c.via.Port()
			}
			l.judgeFlows(f, nil, host, l.ways())
			if f[0].Fate != want {
				t.Errorf("%s, OpenStack %v: fate %v, want %v", c.what, active, f[0].Fate, want)
			}
		}
	}
}

// TestJudgeFlows_Hosts says what becomes of the flows of this host itself, and of
// those that it forwards, when a host endpoint comes to deny them.
func TestJudgeFlows_Hosts(t *testing.T) {
	host := map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true, netip.MustParseAddr("fd00::1"): true}
	tcp := v3.ProtocolName("TCP")
	keep := &v3.RuleMetadata{Annotations: map[string]string{"muslin/established": "Keep"}}
	port := func(p uint16) v3.EntityRule { return v3.EntityRule{Ports: []v3.Port{v3.SinglePort(p)}} }
	for _, iface := range []string{"*", "up0"} {
		x := policy.NewIndex("n1")
		h := &v3.HostEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Labels: map[string]string{"is": "host"}}}}
		h.Spec.Node, h.Spec.InterfaceName = "n1", iface
		p := &v3.GlobalNetworkPolicy{}
		p.Spec.Selector, p.Spec.Types, p.Spec.ApplyOnForward = "is == 'host'", []string{"Ingress", "Egress"}, true
		p.Spec.Ingress = []v3.Rule{{Action: "Allow", Protocol: &tcp, Destination: port(80)}, {Action: "Deny", Protocol: &tcp, Destination: port(81), Metadata: keep}}
		p.Spec.Egress = []v3.Rule{{Action: "Allow", Protocol: &tcp, Destination: port(443)}, {Action: "Allow", Protocol: &tcp, Destination: port(80)}}
		x.Set(policy.Key{Kind: "HostEndpoint", Name: "h"}, h, nil)
		x.Set(policy.Key{Kind: "GlobalNetworkPolicy", Name: "p"}, p, nil)
		x.Flush()
		l := &loop{model: newModel("n1", x)}
		l.settings.prefixes = []string{"cali"}
		l.settings.failsafes[policy.Ingress] = []policy.Failsafe{{Proto: 6, Port: 22}}
		for _, c := range []struct {
			what, src, dst string
			sport, dport   uint16
			want           acl.Fate
		}{
			{"in, allowed", "10.0.0.2", "10.0.0.1", 3000, 80, acl.Keep},
			{"in, allowed", "fd00::2", "fd00::1", 3000, 80, acl.Keep},
			{"in, denied", "10.0.0.2", "10.0.0.1", 3000, 82, acl.Cut},
			{"in, denied", "fd00::2", "fd00::1", 3000, 82, acl.Cut},
			{"in, denied but kept", "fd00::2", "fd00::1", 3000, 81, acl.Keep},
			{"in, a failsafe port", "10.0.0.2", "10.0.0.1", 3000, 22, acl.Keep},
			{"in, a failsafe port the wrong way round", "10.0.0.1", "10.0.0.2", 22, 3000, acl.Keep},
			{"out, allowed", "10.0.0.1", "10.0.0.2", 3000, 443, acl.Keep},
			{"out, denied", "10.0.0.1", "10.0.0.2", 3000, 81, acl.Cut},
			{"forwarded, allowed", "10.0.0.2", "10.0.0.3", 3000, 80, acl.Keep},
			{"forwarded, denied where it leaves", "10.0.0.2", "10.0.0.3", 3000, 81, acl.Cut},
			{"forwarded, denied where it comes in", "fd00::2", "fd00::3", 3000, 443, acl.Cut},
			{"to a group", "10.0.0.1", "224.0.0.5", 3000, 81, acl.Leave},
		} {
			f := []acl.Flow{{Packet: policy.Packet{Src: netip.MustParseAddr(c.src), Dst: netip.MustParseAddr(c.dst), Proto: 6, SrcPort: c.sport, DstPort: c.dport}}}
			f[0].Before = f[0].Packet
			w := l.ways()
			for _, a := range []string{"10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3"} {
				w.device[netip.MustParseAddr(a)] = "up0"
			}
			l.judgeFlows(f, nil, host, w)
			if f[0].Fate != c.want {
				t.Errorf("host endpoint %s, %s: fate %v, want %v", iface, c.what, f[0].Fate, c.want)
			}
			if iface != "*" {
				w.device = nil // nobody knows
				f[0].Fate = acl.Leave
				if l.judgeFlows(f, nil, host, w); f[0].Fate != acl.Leave && f[0].Fate != acl.Keep {
					t.Errorf("%s, by an unknown way: fate %v", c.what, f[0].Fate)
				}
			}
		}
	}
}
