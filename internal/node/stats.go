// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
)

// getPolicyStats reads the counters of the rules in force. The loop only says
// what the chains stand for; the kernel is read beside it.
func (d *Daemon) getPolicyStats(r *http.Request) (any, error) {
	ledger, err := d.ledger(r.Context())
	if err != nil {
		return nil, err
	}
	list, err := ledger.Read()
	if err != nil {
		return nil, err
	}
	stats := api.PolicyStats{Rules: []api.RuleStats{}, Ends: []api.EndStats{}}
	for _, c := range list {
		if c.Policy == nil {
			stats.Ends = append(stats.Ends, api.EndStats{End: c.End, Direction: directionWord(c.Direction), Packets: c.Packets, Bytes: c.Bytes})
			continue
		}
		p := c.Policy
		stats.Rules = append(stats.Rules, api.RuleStats{
			Kind: p.Key.Kind, Namespace: p.Key.Namespace, Name: p.Name, Tier: p.Tier, Direction: directionWord(c.Direction),
			Rule: c.Rules, Action: actionOf(p, c.Direction, c.Rules), Packets: c.Packets, Bytes: c.Bytes,
		})
	}
	return stats, nil
}

// ledger notes what the rules in force stand for.
func (d *Daemon) ledger(ctx context.Context) (l ledger, err error) {
	if !d.loop.call(ctx, func() { l, err = ledgerOf(d.acl) }) {
		err = ctx.Err()
	}
	return l, err
}

func directionWord(d policy.Direction) string {
	if d == policy.Egress {
		return "egress"
	}
	return "ingress"
}

// actionOf is the action that rules counted together have.
func actionOf(p *policy.Policy, d policy.Direction, rules string) string {
	list := p.Ingress
	if d == policy.Egress {
		list = p.Egress
	}
	first := strings.FieldsFunc(rules, func(r rune) bool { return r == '-' || r == ',' })[0]
	i, err := strconv.Atoi(first)
	if err != nil || i >= len(list) {
		return policy.Deny.String() // quarantined
	}
	return list[i].Action.String()
}
