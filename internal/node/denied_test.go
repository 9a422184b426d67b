// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestLogSettings reads the rates and the prefix of the packet logs.
func TestLogSettings(t *testing.T) {
	burst := 7
	felix := &v3.FelixConfiguration{Spec: v3.FelixConfigurationSpec{LogPrefix: "m %p", LogActionRateLimit: "10/minute", LogActionRateLimitBurst: &burst}}
	felix.Metadata.Annotations = map[string]string{"muslin/denied-log": "20/second"}
	s, problems := resolve(nil, felixSources{configs: map[string]*v3.FelixConfiguration{"default": felix}})
	if len(problems) > 0 || s.logPrefix != "m %p" || s.logLimit != (acl.Rate{Packets: 10, Unit: time.Minute}) || s.logBurst != 7 ||
		s.denied != (acl.Rate{Packets: 20, Unit: time.Second, Burst: 20}) {
		t.Errorf("%+v, %v", s, problems)
	}
	s, problems = resolve(nil, felixSources{})
	if len(problems) > 0 || s.logPrefix != "calico-packet" || s.logLimit != (acl.Rate{}) || s.logBurst != 5 || s.denied != (acl.Rate{}) {
		t.Errorf("built in: %+v, %v", s, problems)
	}
	for _, v := range []string{"10", "10/fortnight", "0/second", "-1/second", "10000/second", "/second", "x", "Enabled"} {
		felix.Metadata.Annotations["muslin/denied-log"] = v
		s, problems := resolve(nil, felixSources{configs: map[string]*v3.FelixConfiguration{"default": felix}})
		if s.denied != (acl.Rate{}) || len(problems) != 1 || problems[0].field != "muslin/denied-log" {
			t.Errorf("%q: %+v, problems %v", v, s.denied, problems)
		}
	}
}

// TestDeniedIsBounded: what is alike is one flow and one line, and neither is
// without bound.
func TestDeniedIsBounded(t *testing.T) {
	var log strings.Builder
	d := &Daemon{log: slog.New(slog.NewTextHandler(&log, nil)), loop: &loop{}}
	for i := range 2 * deniedKept {
		n := api.Denied{Source: fmt.Sprint(i), Destination: "b", By: "x"}
		d.denied(n)
		d.denied(n)
	}
	answer, err := d.getPolicyDenied(nil)
	if err != nil {
		t.Fatal(err)
	}
	list := answer.(api.DeniedList).Flows
	if len(list) != deniedKept || list[0].Source != fmt.Sprint(2*deniedKept-1) || list[0].Packets != 2 {
		t.Errorf("%d flows, the last is %+v", len(list), list[0])
	}
	if n := strings.Count(log.String(), "msg=denied"); n != deniedLines {
		t.Errorf("%d lines, want %d", n, deniedLines)
	}
	d.endWindow()
	if !strings.Contains(log.String(), fmt.Sprintf("others=%d", 2*deniedKept-deniedLines)) {
		t.Error("it is not said how many lines are missing")
	}
	log.Reset()
	d.denied(api.Denied{Source: fmt.Sprint(2*deniedKept - 1), Destination: "b", By: "x"})
	if !strings.Contains(log.String(), "packets=3") {
		t.Errorf("in the next window: %s", log.String())
	}
}

// TestDenier names who denied a packet where it was dropped: a workload, a process of
// this host, which is asked as it sends, or a host endpoint, in either direction and
// before and after routing.
func TestDenier(t *testing.T) {
	x := policy.NewIndex("n1")
	put := func(kind, namespace, name string, r v3.Resource) {
		x.Set(policy.Key{Kind: kind, Namespace: namespace, Name: name}, r, nil)
	}
	endpoint := func(name, iface, addr string, annotations map[string]string) {
		w := &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Labels: map[string]string{"app": name}, Annotations: annotations}}}
		w.Spec.Node, w.Spec.InterfaceName, w.Spec.IPNetworks = "n1", iface, []string{addr}
		put("WorkloadEndpoint", "default", name, w)
	}
	deny := func(port uint16) v3.Rule {
		udp := v3.ProtocolName("UDP")
		return v3.Rule{Action: "Deny", Protocol: &udp, Destination: v3.EntityRule{Ports: []v3.Port{v3.SinglePort(port)}}}
	}
	global := func(name, selector string, edit func(*v3.GlobalPolicySpec)) {
		p := &v3.GlobalNetworkPolicy{}
		p.Spec.Selector, p.Spec.Types = selector, []string{"Ingress", "Egress"}
		p.Spec.Ingress, p.Spec.Egress = []v3.Rule{{Action: "Allow"}}, []v3.Rule{{Action: "Allow"}}
		edit(&p.Spec)
		put("GlobalNetworkPolicy", "", name, p)
	}
	endpoint("w", "cali1", "10.65.0.1/32", nil)
	endpoint("p", "process", "10.65.0.9/32", map[string]string{"muslin/host-process": "Enabled"})
	global("wl", "has(app)", func(s *v3.GlobalPolicySpec) {
		s.Ingress = []v3.Rule{deny(80), {Action: "Allow"}}
		s.Egress = []v3.Rule{deny(81), {Action: "Allow"}}
	})
	denied := func(in, out, src, dst string, port uint16, d policy.Direction) *acl.Denied {
		return &acl.Denied{In: in, Out: out, Direction: d,
			Packet: policy.Packet{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: 17, DstPort: port}}
	}
	l := &loop{model: newModel("n1", x)}
	l.settings.prefixes = []string{"cali"}
	const w, p, host, far, gone = "10.65.0.1", "10.65.0.9", "172.16.0.1", "172.16.0.2", "an endpoint that is closed or gone"
	type named struct {
		what          string
		p             *acl.Denied
		direction, by string
	}
	check := func(list []named) {
		t.Helper()
		x.Flush()
		for _, c := range list {
			if got := l.name(c.p); got.Direction != c.direction || got.By != c.by {
				t.Errorf("%s: %s by %q, want %s by %q", c.what, got.Direction, got.By, c.direction, c.by)
			}
		}
	}
	workloads := []named{
		{"from a workload", denied("cali1", "", w, far, 81, policy.Egress), "egress", "GlobalNetworkPolicy wl, egress rule 0"},
		{"to a workload", denied("up0", "cali1", far, w, 80, policy.Ingress), "ingress", "GlobalNetworkPolicy wl, ingress rule 0"},
		{"to a process", denied("up0", "", far, p, 80, policy.Ingress), "ingress", "GlobalNetworkPolicy wl, ingress rule 0"},
		{"from a process", denied("", "up0", p, far, 81, policy.Egress), "egress", "GlobalNetworkPolicy wl, egress rule 0"},
		{"from a process to a workload", denied("", "cali1", p, w, 80, policy.Egress), "ingress", "GlobalNetworkPolicy wl, ingress rule 0"},
		{"allowed by now", denied("up0", "cali1", far, w, 99, policy.Ingress), "ingress", "policy that has changed since"},
	}
	check(append(workloads, named{"nobody's", denied("up0", "", far, host, 82, policy.Ingress), "ingress", gone}))

	h := &v3.HostEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Labels: map[string]string{"is": "host"}}}}
	h.Spec.Node, h.Spec.InterfaceName = "n1", "up0"
	put("HostEndpoint", "", "h", h)
	global("raw", "is == 'host'", func(s *v3.GlobalPolicySpec) {
		s.DoNotTrack, s.ApplyOnForward, s.Ingress, s.Egress = true, true, []v3.Rule{deny(82)}, []v3.Rule{deny(82)}
	})
	global("pre", "is == 'host'", func(s *v3.GlobalPolicySpec) {
		s.PreDNAT, s.ApplyOnForward, s.Types, s.Ingress, s.Egress = true, true, []string{"Ingress"}, []v3.Rule{deny(83)}, nil
	})
	global("forward", "is == 'host'", func(s *v3.GlobalPolicySpec) {
		s.ApplyOnForward = true
		s.Ingress, s.Egress = []v3.Rule{deny(84), {Action: "Allow"}}, []v3.Rule{deny(85), {Action: "Allow"}}
	})
	check(append(workloads, []named{
		{"before connection tracking", denied("up0", "", far, host, 82, policy.Egress), "ingress", "HostEndpoint h: GlobalNetworkPolicy raw, ingress rule 0"},
		{"before translation", denied("up0", "", far, w, 83, policy.Egress), "ingress", "HostEndpoint h: GlobalNetworkPolicy pre, ingress rule 0"},
		{"to the host", denied("up0", "", far, host, 84, policy.Ingress), "ingress", "HostEndpoint h: GlobalNetworkPolicy forward, ingress rule 0"},
		{"from the host", denied("", "up0", host, far, 85, policy.Egress), "egress", "HostEndpoint h: GlobalNetworkPolicy forward, egress rule 0"},
		{"from the host, before connection tracking", denied("", "up0", host, far, 82, policy.Egress), "egress", "HostEndpoint h: GlobalNetworkPolicy raw, egress rule 0"},
		{"forwarded in", denied("up0", "cali1", far, w, 84, policy.Ingress), "ingress", "HostEndpoint h: GlobalNetworkPolicy forward, ingress rule 0"},
		{"forwarded out", denied("cali1", "up0", w, far, 85, policy.Ingress), "egress", "HostEndpoint h: GlobalNetworkPolicy forward, egress rule 0"},
	}...))
}
