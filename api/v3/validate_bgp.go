// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// configName checks the name of a configuration that is the cluster's or a
// node's, and tells which node, "" if it is none's.
func configName(name string) (node string, ok bool) {
	node, isNode := strings.CutPrefix(name, "node.")
	if isNode {
		return node, node != ""
	}
	return "", name == "default"
}

func (f *faults) bgpConfiguration(r *BGPConfiguration) {
	s := &r.Spec
	node, ok := configName(r.Metadata.Name)
	if !ok {
		f.add("metadata.name", "%q: want default, or node. and the name of a node", r.Metadata.Name)
	}
	if node != "" {
		f.clusterOnly(reflect.ValueOf(*s), "nodeToNodeMeshEnabled", "asNumber", "serviceClusterIPs", "serviceExternalIPs",
			"serviceLoadBalancerIPs", "nodeMeshPassword", "nodeMeshMaxRestartTime", "bindMode", "ignoredInterfaces",
			"localWorkloadPeeringIPV4", "localWorkloadPeeringIPV6", "programClusterRoutes", "ipv4NormalRoutePriority", "ipv6NormalRoutePriority")
	}
	if s.ASNumber != nil {
		f.asNumber(*s.ASNumber, "spec.asNumber")
	}
	named := map[string]bool{}
	for i, c := range s.Communities {
		if named[c.Name] {
			f.add("spec.communities["+strconv.Itoa(i)+"].name", "%q: occurs twice", c.Name)
		}
		named[c.Name] = true
	}
	used := map[string]bool{}
	for i, p := range s.PrefixAdvertisements {
		for j, c := range p.Communities {
			used[c] = true
			if _, err := ParseCommunity(c); err != nil && !named[c] {
				f.add("spec.prefixAdvertisements["+strconv.Itoa(i)+"].communities["+strconv.Itoa(j)+"]", "%q is neither the name of one of spec.communities nor a value aa:nn or aa:nn:mm", c)
			}
		}
	}
	for i, c := range s.Communities {
		if !used[c.Name] && c.Name != "" {
			f.add("spec.communities["+strconv.Itoa(i)+"].name", "%q: no prefixAdvertisements use it", c.Name)
		}
	}
	if s.NodeMeshPassword != nil && s.NodeToNodeMeshEnabled != nil && !*s.NodeToNodeMeshEnabled {
		f.add("spec.nodeMeshPassword", "not together with nodeToNodeMeshEnabled: false")
	}
	f.workloadPeering("spec.localWorkloadPeeringIPV4", s.LocalWorkloadPeeringIPV4)
	f.workloadPeering("spec.localWorkloadPeeringIPV6", s.LocalWorkloadPeeringIPV6)
	f.restartTime(s.NodeMeshMaxRestartTime, "spec.nodeMeshMaxRestartTime")
	for i, pattern := range s.IgnoredInterfaces {
		if pattern == "*" || pattern == "" {
			f.add("spec.ignoredInterfaces["+strconv.Itoa(i)+"]", "%q would ignore every interface", pattern)
		}
	}
}

// clusterOnly refuses members that a node's configuration cannot have.
func (f *faults) clusterOnly(spec reflect.Value, names ...string) {
	for _, name := range names {
		if field, ok := knows(spec.Type(), name); ok && !spec.FieldByIndex(field.index).IsZero() {
			f.add("spec."+name, "only the configuration named default may have it")
		}
	}
}

const (
	// maxRestartTime is the restart time of 12 bits, in seconds (RFC 4724 section 3).
	maxRestartTime = 4095 * time.Second
	// maxKeepalive is a third of the hold time of 16 bits (RFC 4271 section 4.2).
	maxKeepalive = 65535 / 3 * time.Second
)

// workloadPeering refuses what cannot be a node's address for its workloads; that
// it is an address at all is checked elsewhere.
func (f *faults) workloadPeering(path, text string) {
	a, err := ParseAddr(text)
	switch {
	case err != nil:
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.Is6() && a.IsLinkLocalUnicast():
		f.add(path, "%s: want an address that a workload can connect to, such as 192.0.2.254 or 2001:db8::254", a)
	case a == netip.AddrFrom4([4]byte{169, 254, 1, 1}):
		f.add(path, "%s is the gateway of every workload: want another address", a)
	}
}

func (f *faults) restartTime(d *Duration, path string) {
	f.notNegative(d, path)
	if d != nil && d.Duration > maxRestartTime {
		f.add(path, "%s: want at most %s, which is all that BGP can say (RFC 4724 section 3)", d.Duration, maxRestartTime)
	}
}

func (f *faults) notNegative(d *Duration, path string) {
	if d != nil && d.Duration < 0 {
		f.add(path, "%s: want a duration that is not negative", d.Duration)
	}
}

// asNumber refuses those numbers that no speaker may have.
func (f *faults) asNumber(n ASNumber, path string) {
	rfc, reserved := map[ASNumber]string{0: "RFC 7607", 23456: "AS_TRANS, RFC 6793", 1<<32 - 1: "RFC 7300"}[n]
	if reserved {
		f.add(path, "%d is reserved (%s): want another of 1–4294967294", uint32(n), rfc)
	}
}

// peerIP refuses addresses with which there can be no session.
func (f *faults) peerIP(s string) {
	a, _, err := ParsePeerIP(s)
	switch {
	case err != nil: // said already
	case a.IsUnspecified() || a.IsMulticast():
		f.add("spec.peerIP", "%s is no address to connect to", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		f.add("spec.peerIP", "%s says nothing without its interface: remove it, and name the interface in muslin/interface", a)
	}
}

// bgpPeer goes by which annotations there are, whatever is in them: a mistake in one
// that says who the neighbour is is one fault, and not that of a missing neighbour, too.
func (f *faults) bgpPeer(p *BGPPeer, set PeerSettings) {
	s := &p.Spec
	if s.Node != "" && s.NodeSelector != "" {
		f.add("spec.nodeSelector", "not together with spec.node: remove one")
	}
	remotes := 0
	for _, v := range []string{s.PeerIP, s.PeerSelector, s.LocalWorkloadSelector} {
		if v != "" {
			remotes++
		}
	}
	onLink, listens := p.Asks("interface"), p.Asks("listen-range")
	switch {
	case onLink && (remotes > 0 || listens):
		f.add("spec.peerIP", "neither this nor a selector nor muslin/listen-range together with muslin/interface: the neighbour is found on the interface")
	case onLink && (s.ASNumber == 0) == !p.Asks("remote-as"):
		f.add("spec.asNumber", "give either this, the neighbour's AS number, or muslin/remote-as: External or Internal")
	case onLink && s.SourceAddress != "" && s.SourceAddress != "UseNodeIP":
		f.add("spec.sourceAddress", "%s: not together with muslin/interface, where the interface's own address is used: remove it", s.SourceAddress)
	case onLink:
	case p.Asks("remote-as"):
		f.add("metadata.annotations", "muslin/remote-as needs muslin/interface")
	case listens && remotes > 0:
		f.add("spec.peerIP", "neither this nor a selector together with muslin/listen-range")
	case listens && s.ASNumber == 0 && !p.Asks("listen-as"):
		f.add("spec.asNumber", "required: the AS number of who connects, or several in muslin/listen-as")
	case listens:
	case p.Asks("listen-as") || set.ListenLimit > 0:
		f.add("metadata.annotations", "muslin/listen-as and muslin/listen-limit need muslin/listen-range")
	case remotes != 1:
		f.add("spec.peerIP", "give exactly one of peerIP, peerSelector and localWorkloadSelector")
	case s.PeerSelector != "" && s.ASNumber != 0:
		f.add("spec.asNumber", "not together with peerSelector: the peers' own numbers are used")
	case s.PeerSelector == "" && s.ASNumber == 0:
		f.add("spec.asNumber", "required: the peer's AS number")
	}
	if s.KeepOriginalNextHop && s.NextHopMode != "" {
		f.add("spec.keepOriginalNextHop", "not together with nextHopMode: remove it, and set nextHopMode: Keep")
	}
	f.peerIP(s.PeerIP)
	if s.ASNumber != 0 {
		f.asNumber(s.ASNumber, "spec.asNumber")
	}
	if s.LocalASNumber != nil {
		f.asNumber(*s.LocalASNumber, "spec.localASNumber")
	}
	if s.ReachableBy != "" {
		via, err1 := ParseAddr(s.ReachableBy)
		peer, _, err2 := ParsePeerIP(s.PeerIP)
		switch {
		case s.PeerIP == "":
			f.add("spec.reachableBy", "only together with peerIP")
		case err1 == nil && err2 == nil && via.Is4() != peer.Is4():
			f.add("spec.reachableBy", "%s is not of the family of peerIP %s", via, peer)
		}
	}
	f.restartTime(s.MaxRestartTime, "spec.maxRestartTime")
	f.notNegative(s.KeepaliveTime, "spec.keepaliveTime")
	if d := s.KeepaliveTime; d != nil && d.Duration > 0 && (d.Duration < time.Second || d.Duration > maxKeepalive) {
		f.add("spec.keepaliveTime", "%s: want 1s–%s; the hold time is three times that, and BGP counts seconds", d.Duration, maxKeepalive)
	}
	if s.Password != nil && s.Password.SecretKeyRef == nil {
		f.add("spec.password.secretKeyRef", "required")
	}
}

func (f *faults) bgpFilter(s *BGPFilterSpec) {
	for _, l := range []struct {
		name  string
		bits  int
		rules []BGPFilterRule
	}{{"exportV4", 32, s.ExportV4}, {"importV4", 32, s.ImportV4}, {"exportV6", 128, s.ExportV6}, {"importV6", 128, s.ImportV6}} {
		for i, r := range l.rules {
			f.bgpFilterRule(&r, "spec."+l.name+"["+strconv.Itoa(i)+"]", l.bits)
		}
	}
}

func (f *faults) bgpFilterRule(r *BGPFilterRule, path string, bits int) {
	if (r.CIDR == "") != (r.MatchOperator == "") {
		f.add(path+".matchOperator", "cidr and matchOperator need each other")
	}
	if p, err := ParseNetwork(r.CIDR); err == nil && p.Addr().BitLen() != bits {
		f.add(path+".cidr", "%s is not of the family of this list", p)
	}
	if l := r.PrefixLength; l != nil {
		low, high := int32(0), int32(bits)
		if l.Min != nil {
			low = *l.Min
		}
		if l.Max != nil {
			high = *l.Max
		}
		switch {
		case r.CIDR == "":
			f.add(path+".prefixLength", "only together with cidr")
		case low > high || high > int32(bits):
			f.add(path+".prefixLength", "%d–%d: want 0–%d, min not above max", low, high, bits)
		}
	}
	f.noASZero(r.ASPathPrefix, path+".asPathPrefix")
	if r.Communities != nil && len(r.Communities.Values) != 1 {
		f.add(path+".communities.values", "%d values: want exactly one", len(r.Communities.Values))
	}
	switch {
	case len(r.Operations) > 0 && r.Action != "Accept":
		f.add(path+".operations", "only with the action Accept")
	case len(r.Operations) > 10:
		f.add(path+".operations", "%d operations: the limit is 10", len(r.Operations))
	}
	for i, o := range r.Operations {
		n := 0
		for _, set := range []bool{o.AddCommunity != nil, o.PrependASPath != nil, o.SetPriority != nil} {
			if set {
				n++
			}
		}
		here := path + ".operations[" + strconv.Itoa(i) + "]"
		if n != 1 {
			f.add(here, "give exactly one of addCommunity, prependASPath and setPriority")
		}
		if p := o.PrependASPath; p != nil {
			if len(p.Prefix) == 0 || len(p.Prefix) > 10 {
				f.add(here+".prependASPath.prefix", "%d AS numbers: want 1–10", len(p.Prefix))
			}
			f.noASZero(p.Prefix, here+".prependASPath.prefix")
		}
	}
}

func (f *faults) noASZero(list []ASNumber, path string) {
	for i, as := range list {
		if as == 0 {
			f.add(path+"["+strconv.Itoa(i)+"]", "0 is reserved (RFC 7607): want 1–4294967295")
		}
	}
}

func (f *faults) felixConfiguration(r *FelixConfiguration) {
	s := &r.Spec
	_, fixed := configName(r.Metadata.Name)
	switch {
	case fixed && s.NodeSelector != "":
		f.add("spec.nodeSelector", "not for the configurations named default or node.NAME: remove it, or name the object otherwise")
	case !fixed && s.NodeSelector == "":
		f.add("spec.nodeSelector", "required: a configuration named %q applies to the nodes that it selects (default is for all, node.NAME for one)", r.Metadata.Name)
	}
	for i, t := range append([]RouteTableRange{}, s.RouteTableRanges...) {
		if t.Min > t.Max {
			f.add("spec.routeTableRanges["+strconv.Itoa(i)+"]", "min %d is above max %d", t.Min, t.Max)
		}
	}
	if t := s.RouteTableRange; t != nil && t.Min > t.Max {
		f.add("spec.routeTableRange", "min %d is above max %d", t.Min, t.Max)
	}
	if s.RouteTableRange != nil && s.RouteTableRanges != nil {
		f.add("spec.routeTableRange", "not together with routeTableRanges: remove it")
	}
	if p := s.NATPortRange; p != nil && p.Name != "" {
		f.add("spec.natPortRange", "%q: want a range such as 32768:65535", p.Name)
	}
}
