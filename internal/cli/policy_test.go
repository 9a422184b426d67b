// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/node/api"
)

func TestPolicyStats(t *testing.T) {
	stats := api.PolicyStats{
		Rules: []api.RuleStats{
			{Kind: "NetworkPolicy", Namespace: "shop", Name: "db", Direction: "ingress", Rule: "0", Action: "Allow", Packets: 3},
			{Kind: "StagedNetworkPolicy", Namespace: "shop", Name: "tight", Direction: "ingress", Rule: "0", Action: "Deny", Packets: 2},
			{Kind: "GlobalNetworkPolicy", Name: "out", Direction: "egress", Rule: "0", Action: "Allow"},
		},
		Ends: []api.EndStats{{End: "end of tier default", Direction: "ingress", Packets: 1}},
	}
	show := func(all bool, names ...string) string {
		chosen, err := chosenStats(stats, names, all)
		if err != nil {
			return err.Error()
		}
		var out bytes.Buffer
		if err := (&app{Streams: Streams{Out: &out}}).showPolicyStats(chosen, false); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out.String()), " ")
	}
	const heads = "POLICY RULE ACTION PACKETS BYTES "
	const db, staged = "shop/db ingress 0 Allow 3 0", "shop/tight ingress 0 Deny (staged) 2 0"
	for _, c := range []struct {
		got, want string
	}{
		{show(false), heads + db + " " + staged + " end of tier default ingress Deny 1 0"},
		{show(true), heads + db + " " + staged + " out egress 0 Allow 0 0 end of tier default ingress Deny 1 0"},
		{show(false, "db"), heads + db},
		{show(false, "shop/tight"), heads + staged},
		{show(false, "out"), heads + "out egress 0 Allow 0 0"},
		{show(false, "db", "dp"), `no rule of a policy "dp" is in force on this server: ` + "`muslin policy stats --all` lists those that are"},
	} {
		if c.got != c.want {
			t.Errorf("%s\nwant %s", c.got, c.want)
		}
	}
}

// What passed by an interface with a long name does not push the other columns aside, and what blocks the
// way is said once.
func TestExplainLiveColumns(t *testing.T) {
	var out bytes.Buffer
	e := api.Explain{Source: "web", Destination: "db", Protocol: "tcp", Port: 80, Families: []api.ExplainPath{{
		Family: "ipv4", From: "10.0.0.1", To: "10.0.0.2", Allowed: true,
		Steps: []api.ExplainStep{{Where: "egress", Verdict: "allow", Text: "all", Rule: -1}},
		Live:  &api.ExplainLive{Verdict: "passed", Device: "cali0123456789a"},
	}}, Notes: []string{"db is down", "db is old"}}
	e.Families[0].Blocked = "db is down"
	if err := (&app{Streams: Streams{Out: &out}}).showExplain(e); err != nil {
		t.Fatal(err)
	}
	if want := "  egress  allow   all\n  way     none    db is down\n  live    passed  by cali0123456789a\nnote: db is old\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("%s\nwant at the end\n%s", out.String(), want)
	}
}
