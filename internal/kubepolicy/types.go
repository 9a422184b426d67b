// SPDX-License-Identifier: Apache-2.0

package kubepolicy

import v3 "github.com/muslin-net/muslin/api/v3"

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

// The body of a NetworkPolicy is that of the data model's
// StagedKubernetesNetworkPolicy.
type (
	Spec          = v3.KubernetesPolicySpec
	IngressRule   = v3.KubernetesIngressRule
	EgressRule    = v3.KubernetesEgressRule
	Peer          = v3.KubernetesPeer
	IPBlock       = v3.KubernetesIPBlock
	Port          = v3.KubernetesPort
	LabelSelector = v3.KubernetesSelector
	Requirement   = v3.KubernetesRequirement
)
