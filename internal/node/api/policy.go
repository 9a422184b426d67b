// SPDX-License-Identifier: Apache-2.0

package api

// PolicyStats is the answer of GET /v1/policy/stats: what the rules in force on
// this server have decided.
type PolicyStats struct {
	Rules []RuleStats `json:"rules"`
	// Ends are what decided where no rule did.
	Ends []EndStats `json:"ends"`
}

// RuleStats is what one rule has decided, or several that the kernel has as one.
type RuleStats struct {
	Kind      string `json:"kind"` // NetworkPolicy, GlobalNetworkPolicy, Profile
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Tier      string `json:"tier,omitempty"` // not of a profile
	Direction string `json:"direction"`      // ingress, egress
	// Rule is the place in the list, from 0; several, such as 0-2,7, are counted
	// together. "quarantined" stands for a whole direction that the kernel refused.
	Rule    string `json:"rule"`
	Action  string `json:"action"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// EndStats is what was denied at the end of a tier, or because no profile allowed it.
type EndStats struct {
	End       string `json:"end"`
	Direction string `json:"direction"`
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
}
