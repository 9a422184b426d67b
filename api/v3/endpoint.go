// SPDX-License-Identifier: Apache-2.0

package v3

import "encoding/json"

// WorkloadEndpoint is one interface of a container, VM or process namespace.
type WorkloadEndpoint struct {
	Object `json:",inline"`
	Spec   WorkloadEndpointSpec `json:"spec"`
	Status json.RawMessage      `json:"status,omitempty"`
}

// WorkloadEndpointSpec is the body of a WorkloadEndpoint.
type WorkloadEndpointSpec struct {
	Orchestrator               string         `json:"orchestrator,omitempty"`
	Workload                   string         `json:"workload,omitempty"`
	Node                       string         `json:"node,omitempty"`
	ContainerID                string         `json:"containerID,omitempty"`
	Pod                        string         `json:"pod,omitempty"`
	Endpoint                   string         `json:"endpoint,omitempty"`
	ServiceAccountName         string         `json:"serviceAccountName,omitempty"`
	IPNetworks                 []string       `json:"ipNetworks,omitempty"`
	IPNATs                     []IPNAT        `json:"ipNATs,omitempty"`
	IPv4Gateway                string         `json:"ipv4Gateway,omitempty"`
	IPv6Gateway                string         `json:"ipv6Gateway,omitempty"`
	Profiles                   []string       `json:"profiles,omitempty"`
	InterfaceName              string         `json:"interfaceName,omitempty"`
	MAC                        string         `json:"mac,omitempty"`
	Ports                      []EndpointPort `json:"ports,omitempty"`
	AllowSpoofedSourcePrefixes []string       `json:"allowSpoofedSourcePrefixes,omitempty"`
	QoSControls                *QoSControls   `json:"qosControls,omitempty"`
	AllowedIPs                 []string       `json:"allowedIps,omitempty"` // written by networking-calico only
}

// IPNAT maps a floating address to one of the endpoint's own.
type IPNAT struct {
	InternalIP string `json:"internalIP"`
	ExternalIP string `json:"externalIP"`
}

// EndpointPort names a port of a workload endpoint.
type EndpointPort struct {
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
	HostPort uint16   `json:"hostPort"`
	HostIP   string   `json:"hostIP"`
}

// QoSControls limits an endpoint. Bandwidths are bits per second, bursts bits.
type QoSControls struct {
	IngressBandwidth      int64        `json:"ingressBandwidth,omitempty"`
	EgressBandwidth       int64        `json:"egressBandwidth,omitempty"`
	IngressBurst          int64        `json:"ingressBurst,omitempty"`
	EgressBurst           int64        `json:"egressBurst,omitempty"`
	IngressPeakrate       int64        `json:"ingressPeakrate,omitempty"`
	EgressPeakrate        int64        `json:"egressPeakrate,omitempty"`
	IngressMinburst       int64        `json:"ingressMinburst,omitempty"`
	EgressMinburst        int64        `json:"egressMinburst,omitempty"`
	IngressPacketRate     int64        `json:"ingressPacketRate,omitempty"`
	EgressPacketRate      int64        `json:"egressPacketRate,omitempty"`
	IngressPacketBurst    int64        `json:"ingressPacketBurst,omitempty"`
	EgressPacketBurst     int64        `json:"egressPacketBurst,omitempty"`
	IngressMaxConnections int64        `json:"ingressMaxConnections,omitempty"`
	EgressMaxConnections  int64        `json:"egressMaxConnections,omitempty"`
	DSCP                  *IntOrString `json:"dscp,omitempty"`
}
