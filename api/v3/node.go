// SPDX-License-Identifier: Apache-2.0

package v3

// Node is one server of the cluster: a router and a BGP speaker.
type Node struct {
	Object `json:",inline"`
	Spec   NodeSpec   `json:"spec"`
	Status NodeStatus `json:"status,omitzero"`
}

// NodeSpec is the body of a Node.
type NodeSpec struct {
	BGP                  *NodeBGP        `json:"bgp,omitempty"`
	IPv4VXLANTunnelAddr  string          `json:"ipv4VXLANTunnelAddr,omitempty" check:"ip4"`
	VXLANTunnelMACAddr   string          `json:"vxlanTunnelMACAddr,omitempty" check:"mac"`
	IPv6VXLANTunnelAddr  string          `json:"ipv6VXLANTunnelAddr,omitempty" check:"ip6"`
	VXLANTunnelMACAddrV6 string          `json:"vxlanTunnelMACAddrV6,omitempty" check:"mac"`
	OrchRefs             []OrchRef       `json:"orchRefs,omitempty"`
	Wireguard            *NodeWireguard  `json:"wireguard,omitempty"`
	Addresses            []NodeAddress   `json:"addresses,omitempty"`
	Interfaces           []NodeInterface `json:"interfaces,omitempty"`
}

// NodeBGP is a node's part in BGP. Addresses are "IP/length": the host's own
// address and its subnet.
type NodeBGP struct {
	ASNumber                *ASNumber `json:"asNumber,omitempty"`
	IPv4Address             string    `json:"ipv4Address,omitempty" check:"net4"`
	IPv6Address             string    `json:"ipv6Address,omitempty" check:"net6"`
	IPv4IPIPTunnelAddr      string    `json:"ipv4IPIPTunnelAddr,omitempty" check:"ip4"`
	RouteReflectorClusterID string    `json:"routeReflectorClusterID,omitempty" check:"ip4"`
}

// OrchRef links a node to what an orchestrator calls it.
type OrchRef struct {
	NodeName     string `json:"nodeName,omitempty"`
	Orchestrator string `json:"orchestrator" required:"true"`
}

// NodeWireguard holds the WireGuard interface addresses of a node.
type NodeWireguard struct {
	InterfaceIPv4Address string `json:"interfaceIPv4Address,omitempty" check:"ip4"`
	InterfaceIPv6Address string `json:"interfaceIPv6Address,omitempty" check:"ip6"`
}

// NodeAddress is an address of a node: CalicoNodeIP, InternalIP or ExternalIP.
type NodeAddress struct {
	Address string `json:"address" check:"net" required:"true"`
	Type    string `json:"type,omitempty" oneof:"CalicoNodeIP|InternalIP|ExternalIP"`
}

// NodeInterface is informational.
type NodeInterface struct {
	Name      string   `json:"name,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
}

// NodeStatus is written by agents.
type NodeStatus struct {
	WireguardPublicKey   string   `json:"wireguardPublicKey,omitempty"`
	WireguardPublicKeyV6 string   `json:"wireguardPublicKeyV6,omitempty"`
	PodCIDRs             []string `json:"podCIDRs,omitempty" check:"each-cidr"`
}
