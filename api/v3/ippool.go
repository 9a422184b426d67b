// SPDX-License-Identifier: Apache-2.0

package v3

import "encoding/json"

// IPPool is a range that endpoint addresses are allocated from.
type IPPool struct {
	Object `json:",inline"`
	Spec   IPPoolSpec      `json:"spec"`
	Status json.RawMessage `json:"status,omitempty"`
}

// IPPoolSpec is the body of an IPPool. BlockSize is a prefix length.
type IPPoolSpec struct {
	CIDR              string   `json:"cidr" check:"cidr" required:"true"`
	VXLANMode         string   `json:"vxlanMode,omitempty" oneof:"Never|Always|CrossSubnet"`
	IPIPMode          string   `json:"ipipMode,omitempty" oneof:"Never|Always|CrossSubnet"`
	NATOutgoing       bool     `json:"natOutgoing,omitempty"`
	Disabled          bool     `json:"disabled,omitempty"`
	DisableBGPExport  bool     `json:"disableBGPExport,omitempty"`
	BlockSize         int      `json:"blockSize,omitempty"`
	NodeSelector      string   `json:"nodeSelector,omitempty" check:"selector"`
	NamespaceSelector string   `json:"namespaceSelector,omitempty" check:"selector"`
	AllowedUses       []string `json:"allowedUses,omitempty" oneof:"Workload|Tunnel|LoadBalancer"`
	AssignmentMode    string   `json:"assignmentMode,omitempty" oneof:"Automatic|Manual"`
}

// IPReservation is a list of networks that are never allocated automatically.
type IPReservation struct {
	Object `json:",inline"`
	Spec   IPReservationSpec `json:"spec"`
}

// IPReservationSpec is the body of an IPReservation.
type IPReservationSpec struct {
	ReservedCIDRs []string `json:"reservedCIDRs,omitempty" check:"each-net"`
}
