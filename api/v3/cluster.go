// SPDX-License-Identifier: Apache-2.0

package v3

// ClusterInformation is the one object, named default, about the cluster.
type ClusterInformation struct {
	Object `json:",inline"`
	Spec   ClusterInformationSpec `json:"spec"`
}

// ClusterInformationSpec is its body. Only a true DatastoreReady means ready.
type ClusterInformationSpec struct {
	ClusterGUID    string `json:"clusterGUID,omitempty"`
	ClusterType    string `json:"clusterType,omitempty"`
	CalicoVersion  string `json:"calicoVersion,omitempty"`
	DatastoreReady *bool  `json:"datastoreReady,omitempty"`
	Variant        string `json:"variant,omitempty"`
}
