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
	Orchestrator               string         `json:"orchestrator,omitempty" required:"true"`
	Workload                   string         `json:"workload,omitempty"`
	Node                       string         `json:"node,omitempty" check:"name" required:"true"`
	ContainerID                string         `json:"containerID,omitempty"`
	Pod                        string         `json:"pod,omitempty"`
	Endpoint                   string         `json:"endpoint,omitempty" required:"true"`
	ServiceAccountName         string         `json:"serviceAccountName,omitempty" check:"name"`
	IPNetworks                 []string       `json:"ipNetworks,omitempty" check:"each-host"`
	IPNATs                     []IPNAT        `json:"ipNATs,omitempty"`
	IPv4Gateway                string         `json:"ipv4Gateway,omitempty" check:"ip4"`
	IPv6Gateway                string         `json:"ipv6Gateway,omitempty" check:"ip6"`
	Profiles                   []string       `json:"profiles,omitempty" check:"each-name"`
	InterfaceName              string         `json:"interfaceName,omitempty" check:"interface" required:"true"`
	MAC                        string         `json:"mac,omitempty" check:"mac"`
	Ports                      []EndpointPort `json:"ports,omitempty"`
	AllowSpoofedSourcePrefixes []string       `json:"allowSpoofedSourcePrefixes,omitempty" check:"each-cidr"`
	QoSControls                *QoSControls   `json:"qosControls,omitempty"`
	AllowedIPs                 []string       `json:"allowedIps,omitempty"` // written by networking-calico only
}

// IPNAT maps a floating address to one of the endpoint's own.
type IPNAT struct {
	InternalIP string `json:"internalIP" check:"ip" required:"true"`
	ExternalIP string `json:"externalIP" check:"ip" required:"true"`
}

// EndpointPort names a port of a workload endpoint.
type EndpointPort struct {
	Name     string   `json:"name" check:"port-name"`
	Protocol Protocol `json:"protocol" check:"protocol" required:"true"`
	Port     uint16   `json:"port" check:"1..65535"`
	HostPort uint16   `json:"hostPort"`
	HostIP   string   `json:"hostIP" check:"ip"`
}

// QoSControls limits an endpoint. Bandwidths are bits per second, bursts bits.
type QoSControls struct {
	IngressBandwidth      int64        `json:"ingressBandwidth,omitempty" check:"0..9223372036854775807"`
	EgressBandwidth       int64        `json:"egressBandwidth,omitempty" check:"0..9223372036854775807"`
	IngressBurst          int64        `json:"ingressBurst,omitempty" check:"0..9223372036854775807"`
	EgressBurst           int64        `json:"egressBurst,omitempty" check:"0..9223372036854775807"`
	IngressPeakrate       int64        `json:"ingressPeakrate,omitempty" check:"0..9223372036854775807"`
	EgressPeakrate        int64        `json:"egressPeakrate,omitempty" check:"0..9223372036854775807"`
	IngressMinburst       int64        `json:"ingressMinburst,omitempty" check:"0..9223372036854775807"`
	EgressMinburst        int64        `json:"egressMinburst,omitempty" check:"0..9223372036854775807"`
	IngressPacketRate     int64        `json:"ingressPacketRate,omitempty" check:"0..9223372036854775807"`
	EgressPacketRate      int64        `json:"egressPacketRate,omitempty" check:"0..9223372036854775807"`
	IngressPacketBurst    int64        `json:"ingressPacketBurst,omitempty" check:"0..9223372036854775807"`
	EgressPacketBurst     int64        `json:"egressPacketBurst,omitempty" check:"0..9223372036854775807"`
	IngressMaxConnections int64        `json:"ingressMaxConnections,omitempty" check:"0..9223372036854775807"`
	EgressMaxConnections  int64        `json:"egressMaxConnections,omitempty" check:"0..9223372036854775807"`
	DSCP                  *IntOrString `json:"dscp,omitempty" check:"dscp"`
}

// HostEndpoint is an interface of the host itself.
type HostEndpoint struct {
	Object `json:",inline"`
	Spec   HostEndpointSpec `json:"spec"`
}

// HostEndpointSpec is the body of a HostEndpoint. InterfaceName "*" is every
// interface of the host.
type HostEndpointSpec struct {
	Node          string             `json:"node,omitempty" check:"name" required:"true"`
	InterfaceName string             `json:"interfaceName,omitempty" check:"interface"`
	ExpectedIPs   []string           `json:"expectedIPs,omitempty" check:"each-ip"`
	Profiles      []string           `json:"profiles,omitempty" check:"each-name"`
	Ports         []HostEndpointPort `json:"ports,omitempty"`
}

// HostEndpointPort names a port of a host endpoint.
type HostEndpointPort struct {
	Name     string   `json:"name" check:"port-name" required:"true"`
	Protocol Protocol `json:"protocol" check:"protocol" required:"true"`
	Port     uint16   `json:"port" check:"1..65535"`
}
