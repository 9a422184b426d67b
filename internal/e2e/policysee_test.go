// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/node/api"
)

// TestSeeingPolicy is what a server tells of its policy at work: how often each
// rule decided, and who was denied what by which rule.
func TestSeeingPolicy(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.Nodes[0]
	apply(t, c, `
kind: NetworkPolicy
metadata: {name: db, namespace: default}
spec:
  selector: app == "db"
  types: [Ingress]
  ingress:
  - {action: Deny, protocol: UDP, destination: {ports: [81]}}
  - {action: Allow, protocol: UDP, source: {selector: app == "web"}, destination: {ports: [80]}}
---
kind: GlobalNetworkPolicy
metadata: {name: out}
spec: {selector: app == "web", types: [Egress], egress: [{action: Allow}]}
---
kind: FelixConfiguration
metadata: {name: default, annotations: {muslin/denied-log: 100/second}}
spec: {}
`)
	web := machineOf(attach(t, n, "web", "--label", "app=web"))
	db := machineOf(attach(t, n, "db", "--label", "app=db"))
	serve(t, db, 80, 81)
	eventually(t, 20*time.Second, func() error {
		for _, six := range []bool{false, true} {
			for port, want := range map[uint16]lab.Verdict{80: lab.Reached, 81: lab.TimedOut, 82: lab.TimedOut} {
				if o := web.Probe(t.Context(), lab.Probe{Proto: lab.UDP, Dst: db.addr[six], Port: port, Timeout: 200 * time.Millisecond}); o.Verdict != want {
					return fmt.Errorf("udp/%d to %s: %v (%v), want %v", port, db.addr[six], o.Verdict, o.Err, want)
				}
			}
		}
		return nil
	})

	var stats api.PolicyStats
	ask(t, n, &stats, "policy", "stats", "--all", "-o", "json")
	counted := map[string]uint64{}
	for _, r := range stats.Rules {
		counted[strings.Join([]string{r.Kind, r.Namespace, r.Name, r.Tier, r.Direction, r.Rule, r.Action}, " ")] = r.Packets
	}
	for _, e := range stats.Ends {
		counted[e.End+" "+e.Direction] = e.Packets
	}
	for _, what := range []string{
		"NetworkPolicy default db default ingress 0 Deny", "NetworkPolicy default db default ingress 1 Allow",
		"GlobalNetworkPolicy  out default egress 0 Allow", "end of tier default ingress",
	} {
		if counted[what] < 2 { // a packet of each family
			t.Errorf("%q has counted %d; all: %v", what, counted[what], counted)
		}
	}
	if out, err := n.Muslin(t.Context(), "policy", "stats", "default/db", "-o", "wide"); err != nil || !containsAll(out, []string{"TIER", "default/db", "ingress 1"}) || strings.Contains(out, "out") {
		t.Errorf("policy stats default/db: %v\n%s", err, out)
	}

	want := map[string]bool{}
	for _, six := range []bool{false, true} {
		a, b := web.addr[six], db.addr[six]
		want[fmt.Sprintf("default/n1-muslin-web-eth0 %s default/n1-muslin-db-eth0 %s 17 81 ingress: NetworkPolicy default/db, ingress rule 0", a, b)] = true
		want[fmt.Sprintf("default/n1-muslin-web-eth0 %s default/n1-muslin-db-eth0 %s 17 82 ingress: end of tier default", a, b)] = true
	}
	eventually(t, 20*time.Second, func() error {
		_ = web.Probe(t.Context(), lab.Probe{Proto: lab.UDP, Dst: db.addr[true], Port: 81, Timeout: 50 * time.Millisecond})
		var list api.DeniedList
		ask(t, n, &list, "policy", "denied", "-o", "json")
		left := fmt.Sprint(list.Flows)
		if !list.Logged {
			return fmt.Errorf("nothing is logged")
		}
		seen := map[string]bool{}
		for _, d := range list.Flows {
			seen[fmt.Sprintf("%s %s %s %s %d %d %s: %s", d.From, d.Source, d.To, d.Destination, d.Protocol, d.Port, d.Direction, d.By)] = true
		}
		for w := range want {
			if !seen[w] {
				return fmt.Errorf("not among the denied: %s; there are %s", w, left)
			}
		}
		return nil
	})
}

// TestExplainWay: explain walks the whole way, between workloads of one server and
// of two, from a source that is not the sender's, and to nowhere; and a packet that
// is sent on that way fares as it says.
func TestExplainWay(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	apply(t, c, `
kind: NetworkPolicy
metadata: {name: db, namespace: default}
spec:
  selector: app == "db"
  types: [Ingress]
  ingress: [{action: Allow, protocol: UDP, source: {selector: app == "web"}, destination: {ports: [80]}}]
---
kind: GlobalNetworkPolicy
metadata: {name: out}
spec: {selector: app == "web", types: [Egress], egress: [{action: Allow}]}
`)
	web := machineOf(attach(t, n1, "web", "--label", "app=web"))
	near := machineOf(attach(t, n1, "near", "--label", "app=db"))
	far := machineOf(attach(t, n2, "far", "--label", "app=db"))
	live(t, c)
	for _, six := range []bool{false, true} {
		routed(t, n1, far.addr[six])
		routed(t, n2, web.addr[six])
	}
	heard := map[*machine]*lab.Capture{}
	for _, m := range []*machine{near, far} {
		capture, err := m.Capture("eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer capture.Close()
		heard[m] = capture
	}
	type step struct{ where, verdict, object string }
	allowed := []step{{"anti-spoof", "allow", "WorkloadEndpoint default/n1-muslin-web-eth0"}, {"egress", "allow", "GlobalNetworkPolicy out"}}
	denied := step{"ingress", "deny", "end of tier default"}
	type question struct {
		name    string
		node    *cluster.Node
		words   []string
		steps   []step
		verdict string
	}
	questions := []question{
		{"one server", n1, []string{"web", "near", "udp", "80"}, append(allowed[:2:2], step{"route", "allow", "WorkloadEndpoint default/n1-muslin-near-eth0"}, step{"ingress", "allow", "NetworkPolicy default/db"}), "passed"},
		{"implicit deny", n1, []string{"web", "near", "udp", "81"}, append(allowed[:2:2], step{"route", "allow", "WorkloadEndpoint default/n1-muslin-near-eth0"}, denied), "dropped"},
		{"two servers, where it leaves", n1, []string{"web", "far", "udp", "80"}, append(allowed[:2:2], step{"route", "allow", "BGP"}, step{"bgp", "allow", "peer n2"}, step{"ingress", "allow", "NetworkPolicy default/db"}), "passed"},
		{"two servers, where it arrives", n2, []string{"web", "far", "udp", "80"}, append(allowed[:2:2], step{"route", "allow", "WorkloadEndpoint default/n2-muslin-far-eth0"}, step{"ingress", "allow", "NetworkPolicy default/db"}), "passed"},
		{"two servers, denied where it arrives", n2, []string{"web", "far", "udp", "81"}, append(allowed[:2:2], step{"route", "allow", "WorkloadEndpoint default/n2-muslin-far-eth0"}, denied), "dropped"},
		{"no such source", n1, []string{"web", "near", "udp", "80", "--source", "198.51.100.7"}, append([]step{{"anti-spoof", "deny", "WorkloadEndpoint default/n1-muslin-web-eth0"}}, allowed[1],
			step{"route", "allow", "WorkloadEndpoint default/n1-muslin-near-eth0"}, denied), "dropped"},
		{"from the server", n1, []string{"host", "near", "udp", "81"}, []step{{"route", "allow", "WorkloadEndpoint default/n1-muslin-near-eth0"}, {"ingress", "allow", "none"}}, "passed"},
		{"to its gateway", n1, []string{"web", "169.254.1.1", "udp", "81"}, append(allowed[:2:2], step{"route", "allow", "kernel"}, step{"to-host", "deny", "FelixConfiguration defaultEndpointToHostAction"}), "dropped"},
		{"to the server", n1, []string{"web", "host", "udp", "81"}, append(allowed[:2:2], step{"route", "allow", "kernel"}, step{"to-host", "deny", "FelixConfiguration defaultEndpointToHostAction"}), "dropped"},
	}
	for _, dst := range []string{"224.0.0.1", "255.255.255.255", "10.0.0.255", "ff02::1"} {
		questions = append(questions, question{"to all on the link, " + dst, n1, []string{"web", dst, "udp", "5353"},
			append(allowed[:2:2], step{"route", "allow", "kernel"}, step{"to-host", "deny", "FelixConfiguration defaultEndpointToHostAction"}), "dropped"})
	}
	for _, dst := range []string{"224.0.0.251", "239.1.2.3", "ff02::fb", "ff0e::1"} {
		questions = append(questions, question{"to nobody's group, " + dst, n1, []string{"web", dst, "udp", "5353"}, append(allowed[:2:2], step{"route", "deny", "kernel"}), "lost"})
	}
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			var e api.Explain
			ask(t, q.node, &e, append(append([]string{"explain"}, q.words...), "--live", "-o", "json")...)
			families := 2
			if _, err := netip.ParseAddr(q.words[1]); err == nil || q.name == "no such source" {
				families = 1
			}
			if len(e.Families) != families {
				t.Fatalf("%d families: %+v", len(e.Families), e)
			}
			for _, f := range e.Families {
				var got []step
				for _, s := range f.Steps {
					object, _, _ := strings.Cut(s.Object, " (")
					got = append(got, step{s.Where, s.Verdict, object})
				}
				if !slices.Equal(got, q.steps) || (f.Unroutable != "") != (q.verdict == "lost") {
					t.Errorf("%s: steps %v, want %v; %q", f.Family, got, q.steps, f.Unroutable)
				}
				if f.Live == nil || f.Live.Verdict != q.verdict || f.Live.Differs != "" {
					t.Errorf("%s: live %+v, want %s", f.Family, f.Live, q.verdict)
				}
			}
		})
	}
	// What passed has arrived.
	for m, capture := range heard {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := capture.Next(ctx, func(f lab.Frame) bool { return bytes.Contains(f.Data, []byte("muslin")) }); err != nil {
			t.Errorf("%s has heard nothing of a probe: %v", m.Name(), err)
		}
		cancel()
	}
	var e api.Explain
	ask(t, n1, &e, "explain", "web", "203.0.113.9", "tcp", "80", "-o", "json")
	if len(e.Families) != 1 || !e.Families[0].Allowed || e.Families[0].Unroutable == "" {
		t.Errorf("to nowhere: %+v", e)
	}
	if links, err := n1.Links(); err != nil || slices.ContainsFunc(links, func(l string) bool { return strings.HasPrefix(l, "muslin-") }) {
		t.Errorf("links after all probes: %v, %v", links, err)
	}
}

// ask runs a question that is answered as JSON.
func ask(t *testing.T, n *cluster.Node, into any, words ...string) {
	t.Helper()
	out, err := n.Muslin(t.Context(), words...)
	if err == nil {
		err = json.Unmarshal([]byte(out), into)
	}
	if err != nil {
		t.Fatalf("muslin %s: %v\n%s", strings.Join(words, " "), err, out)
	}
}
