// SPDX-License-Identifier: Apache-2.0

package v3

// BGPConfiguration is the cluster's ("default") or one node's ("node.NAME")
// BGP configuration.
type BGPConfiguration struct {
	Object `json:",inline"`
	Spec   BGPConfigurationSpec `json:"spec"`
}

// DefaultASNumber is that of nodes where neither the Node nor the default
// BGPConfiguration has one.
const DefaultASNumber = 64512

// BGPConfigurationSpec is the body of a BGPConfiguration.
type BGPConfigurationSpec struct {
	LogSeverityScreen              string                `json:"logSeverityScreen,omitempty" oneof:"Trace|Debug|Info|Warning|Error|Fatal|None" fold:"true"`
	NodeToNodeMeshEnabled          *bool                 `json:"nodeToNodeMeshEnabled,omitempty"`
	ASNumber                       *ASNumber             `json:"asNumber,omitempty"`
	ServiceLoadBalancerIPs         []CIDRBlock           `json:"serviceLoadBalancerIPs,omitempty"`
	ServiceExternalIPs             []CIDRBlock           `json:"serviceExternalIPs,omitempty"`
	ServiceClusterIPs              []CIDRBlock           `json:"serviceClusterIPs,omitempty"`
	ServiceLoadBalancerAggregation string                `json:"serviceLoadBalancerAggregation,omitempty" oneof:"Enabled|Disabled"`
	Communities                    []Community           `json:"communities,omitempty"`
	PrefixAdvertisements           []PrefixAdvertisement `json:"prefixAdvertisements,omitempty"`
	ListenPort                     uint16                `json:"listenPort,omitempty" check:"1..65535"`
	NodeMeshPassword               *Password             `json:"nodeMeshPassword,omitempty"`
	NodeMeshMaxRestartTime         *Duration             `json:"nodeMeshMaxRestartTime,omitempty"`
	BindMode                       string                `json:"bindMode,omitempty" oneof:"None|NodeIP"`
	IgnoredInterfaces              []string              `json:"ignoredInterfaces,omitempty"`
	LocalWorkloadPeeringIPV4       string                `json:"localWorkloadPeeringIPV4,omitempty" check:"ip4"`
	LocalWorkloadPeeringIPV6       string                `json:"localWorkloadPeeringIPV6,omitempty" check:"ip6"`
	ProgramClusterRoutes           string                `json:"programClusterRoutes,omitempty" oneof:"Enabled|Disabled|EnabledIPIPOnly|EnabledNoEncapOnly"`
	IPv4NormalRoutePriority        int                   `json:"ipv4NormalRoutePriority,omitempty" check:"1..2147483646"`
	IPv6NormalRoutePriority        int                   `json:"ipv6NormalRoutePriority,omitempty" check:"1..2147483646"`
}

// CIDRBlock wraps one prefix.
type CIDRBlock struct {
	CIDR string `json:"cidr" check:"cidr" required:"true"`
}

// Community names a community value, aa:nn or aa:nn:mm.
type Community struct {
	Name  string `json:"name" required:"true"`
	Value string `json:"value" check:"community" required:"true"`
}

// PrefixAdvertisement attaches communities to prefixes.
type PrefixAdvertisement struct {
	CIDR        string   `json:"cidr" check:"cidr" required:"true"`
	Communities []string `json:"communities,omitempty"`
}

// Password refers to a secret; it never holds one.
type Password struct {
	SecretKeyRef *SecretKeyRef `json:"secretKeyRef,omitempty"`
}

// SecretKeyRef names a key of a secret.
type SecretKeyRef struct {
	Name     string `json:"name,omitempty"`
	Key      string `json:"key" required:"true"`
	Optional *bool  `json:"optional,omitempty"`
}

// BGPPeer is a session, or a set of sessions, beside the node-to-node mesh.
type BGPPeer struct {
	Object `json:",inline"`
	Spec   BGPPeerSpec `json:"spec"`
}

// BGPPeerSpec is the body of a BGPPeer. PeerIP is IP, IP:port or [IPv6]:port.
type BGPPeerSpec struct {
	Node                     string    `json:"node,omitempty" check:"name"`
	NodeSelector             string    `json:"nodeSelector,omitempty" check:"selector"`
	PeerIP                   string    `json:"peerIP,omitempty" check:"ip-port"`
	PeerSelector             string    `json:"peerSelector,omitempty" check:"selector"`
	LocalWorkloadSelector    string    `json:"localWorkloadSelector,omitempty" check:"selector"`
	ASNumber                 ASNumber  `json:"asNumber,omitzero"`
	LocalASNumber            *ASNumber `json:"localASNumber,omitempty"`
	KeepOriginalNextHop      bool      `json:"keepOriginalNextHop,omitempty"`
	NextHopMode              string    `json:"nextHopMode,omitempty" oneof:"Auto|Self|Keep"`
	Password                 *Password `json:"password,omitempty"`
	SourceAddress            string    `json:"sourceAddress,omitempty" oneof:"UseNodeIP|None"`
	MaxRestartTime           *Duration `json:"maxRestartTime,omitempty"`
	KeepaliveTime            *Duration `json:"keepaliveTime,omitempty"`
	NumAllowedLocalASNumbers *int32    `json:"numAllowedLocalASNumbers,omitempty" check:"0..255"`
	TTLSecurity              *uint8    `json:"ttlSecurity,omitempty"`
	ReachableBy              string    `json:"reachableBy,omitempty" check:"ip"`
	Filters                  []string  `json:"filters,omitempty" check:"each-name"`
	ReversePeering           string    `json:"reversePeering,omitempty" oneof:"Auto|Manual"`
}
