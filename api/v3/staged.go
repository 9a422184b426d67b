// SPDX-License-Identifier: Apache-2.0

package v3

import "encoding/json"

// StagedNetworkPolicy is a NetworkPolicy that is not enforced (yet).
type StagedNetworkPolicy struct {
	Object `json:",inline"`
	Spec   StagedPolicySpec `json:"spec"`
	Status json.RawMessage  `json:"status,omitempty"`
}

// StagedPolicySpec is the body of a StagedNetworkPolicy.
type StagedPolicySpec struct {
	StagedAction string `json:"stagedAction,omitempty" oneof:"Set|Delete|Learn|Ignore"`
	PolicySpec   `json:",inline"`
}

// StagedGlobalNetworkPolicy is a GlobalNetworkPolicy that is not enforced (yet).
type StagedGlobalNetworkPolicy struct {
	Object `json:",inline"`
	Spec   StagedGlobalPolicySpec `json:"spec"`
	Status json.RawMessage        `json:"status,omitempty"`
}

// StagedGlobalPolicySpec is the body of a StagedGlobalNetworkPolicy.
type StagedGlobalPolicySpec struct {
	StagedAction     string `json:"stagedAction,omitempty" oneof:"Set|Delete|Learn|Ignore"`
	GlobalPolicySpec `json:",inline"`
}
