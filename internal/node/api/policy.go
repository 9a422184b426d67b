// SPDX-License-Identifier: Apache-2.0

package api

import "time"

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

// DeniedList is the answer of GET /v1/policy/denied.
type DeniedList struct {
	Logged bool     `json:"logged"` // whether denied packets are logged now
	Flows  []Denied `json:"flows"`  // the last one first
}

// Denied is denied packets of one kind, of those that were sampled.
type Denied struct {
	Direction   string `json:"direction"`      // ingress, egress: which end denied
	From        string `json:"from,omitempty"` // endpoint that has the source, NAMESPACE/NAME
	To          string `json:"to,omitempty"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Protocol    int    `json:"protocol"`
	Port        uint16 `json:"port,omitempty"` // of the destination
	ICMPType    uint8  `json:"icmpType,omitempty"`
	ICMPCode    uint8  `json:"icmpCode,omitempty"`
	// By is the rule that denies it, or that none allows it.
	By      string    `json:"by"`
	Packets int       `json:"packets"` // sampled
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// Alike tells whether two differ at most in when and how often.
func (d Denied) Alike(o Denied) bool {
	d.Packets, d.First, d.Last = o.Packets, o.First, o.Last
	return d == o
}
