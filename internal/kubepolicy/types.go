// SPDX-License-Identifier: Apache-2.0

package kubepolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// NetworkPolicy is a NetworkPolicy of Kubernetes, as far as it matters.
type NetworkPolicy struct {
	Metadata Metadata `json:"metadata"`
	Spec     Spec     `json:"spec"`
}

// Metadata is what a Kubernetes object is called, and its labels.
type Metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
}

// Spec is the body of a NetworkPolicy. Without PolicyTypes it concerns ingress,
// and egress if it has egress rules.
type Spec struct {
	PodSelector LabelSelector `json:"podSelector"`
	PolicyTypes []string      `json:"policyTypes"`
	Ingress     []Rule        `json:"ingress"`
	Egress      []Rule        `json:"egress"`
}

// Rule allows traffic from (ingress) or to (egress) any of the peers by any of
// the ports. Without peers it is anybody, without ports any traffic.
type Rule struct {
	From  []Peer `json:"from"`
	To    []Peer `json:"to"`
	Ports []Port `json:"ports"`
}

// Peer is pods or a network. Pods are of the policy's namespace, unless
// NamespaceSelector says of which.
type Peer struct {
	PodSelector       *LabelSelector `json:"podSelector"`
	NamespaceSelector *LabelSelector `json:"namespaceSelector"`
	IPBlock           *IPBlock       `json:"ipBlock"`
}

// IPBlock is a network without some.
type IPBlock struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except"`
}

// Port is a protocol, TCP if it is empty, and a port, a range or none.
type Port struct {
	Protocol string        `json:"protocol"`
	Port     *NumberOrName `json:"port"`
	EndPort  *int32        `json:"endPort"`
}

// LabelSelector selects what matches all of it.
type LabelSelector struct {
	MatchLabels      map[string]string `json:"matchLabels"`
	MatchExpressions []Requirement     `json:"matchExpressions"`
}

// Requirement is one condition: In, NotIn, Exists or DoesNotExist.
type Requirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values"`
}

// NumberOrName is a port by its number, or by its name in the pod.
type NumberOrName struct {
	Number uint16
	Name   string
}

// UnmarshalJSON reads a number or a text.
func (n *NumberOrName) UnmarshalJSON(b []byte) error {
	*n = NumberOrName{}
	if bytes.HasPrefix(b, []byte(`"`)) {
		return json.Unmarshal(b, &n.Name)
	}
	v, err := strconv.ParseUint(string(b), 10, 16)
	if err != nil {
		return fmt.Errorf("port %s: want 0–65535 or a name", b)
	}
	n.Number = uint16(v)
	return nil
}
