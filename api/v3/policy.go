// SPDX-License-Identifier: Apache-2.0

package v3

import "encoding/json"

// Tier is an ordered stage of policy evaluation.
type Tier struct {
	Object `json:",inline"`
	Spec   TierSpec        `json:"spec"`
	Status json.RawMessage `json:"status,omitempty"`
}

// TierSpec is the body of a Tier. A nil Order sorts last.
type TierSpec struct {
	Order         *float64 `json:"order,omitempty"`
	DefaultAction string   `json:"defaultAction,omitempty" oneof:"Deny|Pass"` // Deny (default) or Pass
}

// NetworkPolicy is a policy that selects endpoints of its own namespace.
type NetworkPolicy struct {
	Object `json:",inline"`
	Spec   PolicySpec      `json:"spec"`
	Status json.RawMessage `json:"status,omitempty"`
}

// GlobalNetworkPolicy is a policy that selects endpoints of every namespace
// and host endpoints.
type GlobalNetworkPolicy struct {
	Object `json:",inline"`
	Spec   GlobalPolicySpec `json:"spec"`
	Status json.RawMessage  `json:"status,omitempty"`
}

// PolicySpec is what both kinds of policy share. Nil Order means +Inf. Empty
// Types means both directions, whatever the rule lists hold.
type PolicySpec struct {
	Tier                   string   `json:"tier,omitempty" check:"label"`
	Order                  *float64 `json:"order,omitempty"`
	Ingress                []Rule   `json:"ingress,omitempty"`
	Egress                 []Rule   `json:"egress,omitempty"`
	Selector               string   `json:"selector,omitempty" check:"selector"`
	Types                  []string `json:"types,omitempty" oneof:"Ingress|Egress"` // Ingress, Egress
	ServiceAccountSelector string   `json:"serviceAccountSelector,omitempty" check:"selector"`
	PerformanceHints       []string `json:"performanceHints,omitempty" oneof:"AssumeNeededOnEveryNode"`
}

// GlobalPolicySpec adds the members that only a GlobalNetworkPolicy has.
type GlobalPolicySpec struct {
	PolicySpec        `json:",inline"`
	NamespaceSelector string `json:"namespaceSelector,omitempty" check:"selector"`
	DoNotTrack        bool   `json:"doNotTrack,omitempty"`
	PreDNAT           bool   `json:"preDNAT,omitempty"`
	ApplyOnForward    bool   `json:"applyOnForward,omitempty"`
}

// Rule is one match and its action. All members present are ANDed; within a
// list, any entry matches.
type Rule struct {
	Action      string        `json:"action" oneof:"Allow|Deny|Log|Pass" required:"true"` // Allow, Deny, Log, Pass
	IPVersion   *int          `json:"ipVersion,omitempty" oneof:"4|6"`
	Protocol    *Protocol     `json:"protocol,omitempty" check:"protocol"`
	ICMP        *ICMP         `json:"icmp,omitempty"`
	NotProtocol *Protocol     `json:"notProtocol,omitempty" check:"protocol"`
	NotICMP     *ICMP         `json:"notICMP,omitempty"`
	Source      EntityRule    `json:"source,omitzero"`
	Destination EntityRule    `json:"destination,omitzero"`
	HTTP        *HTTPMatch    `json:"http,omitempty"`
	Metadata    *RuleMetadata `json:"metadata,omitempty"`
}

// ICMP matches a type and, with it, a code. networking-calico may write a
// code without a type.
type ICMP struct {
	Type *int `json:"type,omitempty" check:"0..254"`
	Code *int `json:"code,omitempty" check:"0..255"`
}

// EntityRule matches one end of a packet.
type EntityRule struct {
	Nets              []string         `json:"nets,omitempty" check:"each-net"`
	NotNets           []string         `json:"notNets,omitempty" check:"each-net"`
	Selector          string           `json:"selector,omitempty" check:"selector"`
	NotSelector       string           `json:"notSelector,omitempty" check:"selector"`
	NamespaceSelector string           `json:"namespaceSelector,omitempty" check:"namespace-selector"`
	Services          *ServiceMatch    `json:"services,omitempty"`
	Ports             []Port           `json:"ports,omitempty" check:"each-port"`
	NotPorts          []Port           `json:"notPorts,omitempty" check:"each-port"`
	ServiceAccounts   *ServiceAccounts `json:"serviceAccounts,omitempty"`
}

// ServiceMatch names a Kubernetes service; it matches nothing in etcd mode.
type ServiceMatch struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// ServiceAccounts matches by name and by label; both are ANDed.
type ServiceAccounts struct {
	Names    []string `json:"names,omitempty" check:"each-name"`
	Selector string   `json:"selector,omitempty" check:"selector"`
}

// HTTPMatch is an application-layer match, which no kernel enforces.
type HTTPMatch struct {
	Methods []string   `json:"methods,omitempty"`
	Paths   []HTTPPath `json:"paths,omitempty"`
}

// HTTPPath is one path match; exactly one member is set.
type HTTPPath struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// RuleMetadata carries annotations shown beside a rule.
type RuleMetadata struct {
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Profile holds rules consulted when no tiered policy decided, and labels that
// endpoints which name it inherit.
type Profile struct {
	Object `json:",inline"`
	Spec   ProfileSpec `json:"spec"`
}

// ProfileSpec is the body of a Profile.
type ProfileSpec struct {
	Ingress       []Rule            `json:"ingress,omitempty"`
	Egress        []Rule            `json:"egress,omitempty"`
	LabelsToApply map[string]string `json:"labelsToApply,omitempty"`
}

// NetworkSet is a labelled list of networks within a namespace.
type NetworkSet struct {
	Object `json:",inline"`
	Spec   NetworkSetSpec `json:"spec"`
}

// GlobalNetworkSet is a labelled list of networks.
type GlobalNetworkSet struct {
	Object `json:",inline"`
	Spec   NetworkSetSpec `json:"spec"`
}

// NetworkSetSpec is the body of both kinds of network set.
type NetworkSetSpec struct {
	Nets []string `json:"nets,omitempty" check:"each-net"`
}
