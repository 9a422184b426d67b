// SPDX-License-Identifier: Apache-2.0

package v3

// BGPFilter is a set of ordered rules about the routes of a session.
type BGPFilter struct {
	Object `json:",inline"`
	Spec   BGPFilterSpec `json:"spec"`
}

// BGPFilterSpec is the body of a BGPFilter. In each list the first rule that
// matches decides; no match leaves the route to the default treatment.
type BGPFilterSpec struct {
	ExportV4 []BGPFilterRule `json:"exportV4,omitempty"`
	ImportV4 []BGPFilterRule `json:"importV4,omitempty"`
	ExportV6 []BGPFilterRule `json:"exportV6,omitempty"`
	ImportV6 []BGPFilterRule `json:"importV6,omitempty"`
}

// BGPFilterRule matches routes; all members present are ANDed.
type BGPFilterRule struct {
	CIDR          string                `json:"cidr,omitempty" check:"cidr"`
	PrefixLength  *BGPFilterLengths     `json:"prefixLength,omitempty"`
	MatchOperator string                `json:"matchOperator,omitempty" oneof:"Equal|NotEqual|In|NotIn"`
	Source        string                `json:"source,omitempty" oneof:"RemotePeers"`
	Interface     string                `json:"interface,omitempty" check:"interface-glob"`
	PeerType      string                `json:"peerType,omitempty" oneof:"eBGP|iBGP"`
	Communities   *BGPFilterCommunities `json:"communities,omitempty"`
	ASPathPrefix  []ASNumber            `json:"asPathPrefix,omitempty"`
	Priority      *int                  `json:"priority,omitempty" check:"1..2147483646"`
	Action        string                `json:"action" oneof:"Accept|Reject" required:"true"`
	Operations    []BGPFilterOperation  `json:"operations,omitempty"`
}

// BGPFilterLengths bounds the length of a route's prefix.
type BGPFilterLengths struct {
	Min *int32 `json:"min,omitempty" check:"0..128"`
	Max *int32 `json:"max,omitempty" check:"0..128"`
}

// BGPFilterCommunities matches a community that the route carries.
type BGPFilterCommunities struct {
	Values []string `json:"values" check:"each-community"`
}

// BGPFilterOperation changes a route that is accepted; exactly one member is set.
type BGPFilterOperation struct {
	AddCommunity  *AddCommunity  `json:"addCommunity,omitempty"`
	PrependASPath *PrependASPath `json:"prependASPath,omitempty"`
	SetPriority   *SetPriority   `json:"setPriority,omitempty"`
}

// AddCommunity adds a community.
type AddCommunity struct {
	Value string `json:"value" check:"community" required:"true"`
}

// PrependASPath prepends AS numbers, in the order in which they go on the wire.
type PrependASPath struct {
	Prefix []ASNumber `json:"prefix"`
}

// SetPriority sets the kernel's priority, and LOCAL_PREF to match.
type SetPriority struct {
	Value int `json:"value" check:"1..2147483646"`
}
