// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
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
