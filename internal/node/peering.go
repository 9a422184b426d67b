// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/guard"
	"github.com/muslin-net/muslin/internal/secret"
	"github.com/muslin-net/muslin/selector"
)

// The defaults of a session between nodes of the cluster.
const (
	defaultPort        = bgp.DefaultPort
	defaultRestartTime = bgp.DefaultRestartTime
)

// peeringInput is all that decides which sessions this node has.
type peeringInput struct {
	self    string
	nodes   map[string]*v3.Node
	configs map[string]*v3.BGPConfiguration // by name; none need be there
	global  *v3.BGPConfiguration            // of these, default
	peers   map[string]*v3.BGPPeer
	filters map[string]*v3.BGPFilter
	pools   map[string]*v3.IPPool
	// workloads lists the endpoints of this node that a selector selects; nil: none.
	workloads func(*selector.Selector) []workload
	onLink    func(netip.Addr) bool // in a subnet of an interface of this host
	prefixes  []string              // of workloads' interfaces
	found     map[string]linkFound  // interfaces on which neighbours are looked for
	secret    func(*v3.SecretKeyRef) (secret.Text, error)
	metric4   int // of ordinary routes, where BGPConfiguration says nothing
	metric6   int
	guard     *guard.Guard // nil: nothing is bound to anybody

	nodeAt map[netip.Addr]nodeAddr // by address, once peering has begun
}

// nodeAddr is what one node brings into BGP.
type nodeAddr struct {
	v4, v6  netip.Prefix // address with its subnet's length; invalid if absent
	asn     uint32
	cluster netip.Addr // presence makes it a route reflector
	labels  selector.Map
	port    uint16 // that it listens on
}

// peering computes the speaker's configuration: the sessions of the full mesh
// as nodeToNodeMeshEnabled says, and those of BGPPeers; and whose paths BFD watches. It is pure; problems
// concern single objects and leave out only the sessions that need them.
func peering(in peeringInput) (cfg bgp.Config, watch []watched, problems []problem) {
	self, err := in.node(in.self)
	if err != nil {
		return cfg, nil, []problem{*err}
	}
	if !self.v4.IsValid() && !self.v6.IsValid() {
		return cfg, nil, []problem{{object: "Node " + in.self, field: "spec.bgp", text: "has neither an IPv4 nor an IPv6 address: give one with --ip or --ip6"}}
	}
	if id := in.nodes[in.self].Spec.BGP.RouteReflectorClusterID; id != "" && !self.cluster.IsValid() {
		problems = append(problems, problem{object: "Node " + in.self, field: "spec.bgp.routeReflectorClusterID", text: fmt.Sprintf("%q is not an IPv4 address, so the node reflects no routes", id)})
	}
	cfg.ASN = self.asn
	cfg.RouterID = routerID(self, in.self)
	if self.v4.IsValid() {
		cfg.NextHop4 = self.v4.Addr()
	}
	if self.v6.IsValid() {
		cfg.NextHop6 = self.v6.Addr()
	}
	port := in.listenPort(in.self)
	cfg.Listen = in.listen(cfg.NextHop4, cfg.NextHop6, port)
	cfg.RestartTime = in.restartTime()
	cfg.ClusterID = self.cluster
	cfg.ControlPlaneOnly = controlPlaneOnly(in.nodes[in.self])

	in.nodeAt = in.byAddress()
	police, more := in.police(self)
	set := sessionSet{in: &in, self: self, police: police, byAddr: map[netip.AddrPort]bgp.PeerConfig{}, shut: map[netip.AddrPort]bool{}, problems: append(problems, more...)}
	if in.global != nil {
		set.mesh, set.meshErrs = in.global.Settings()
	}
	set.bad(in.explicit(self, port, set.add)...)
	cfg.PeersUnknown, more = in.unnumbered(self, set.add)
	set.bad(more...)
	cfg.Ranges, more = in.ranges(self, police)
	set.bad(more...)
	cfg.Listen = append(cfg.Listen, in.listenForWorkloads(set.byAddr, cfg.Listen, port)...)
	cfg.Listen = append(cfg.Listen, listenOnLinks(set.byAddr, cfg.Listen, port)...)
	set.bad(in.meshed(self, set.add)...)
	for _, k := range slices.SortedFunc(maps.Keys(set.byAddr), netip.AddrPort.Compare) {
		cfg.Peers = append(cfg.Peers, set.byAddr[k])
	}
	return cfg, set.watch, set.problems
}

// sessionSet is what peering collects: sessions, the first definition of each, whose
// paths BFD watches, and problems.
type sessionSet struct {
	in       *peeringInput
	self     nodeAddr
	mesh     v3.ConfigurationSettings
	meshErrs []error
	police   func(*bgp.PeerConfig, *v3.BGPPeer, v3.PeerSettings) []problem
	byAddr   map[netip.AddrPort]bgp.PeerConfig
	shut     map[netip.AddrPort]bool // that are to have a password which cannot be read
	watch    []watched
	problems []problem
}

func (set *sessionSet) bad(more ...problem) { set.problems = append(set.problems, more...) }

// badOnce is for what one BGPPeer may have many times.
func (set *sessionSet) badOnce(p problem) {
	if !slices.Contains(set.problems, p) {
		set.bad(p)
	}
}

// add takes a session that by, a BGPPeer, asks for, or nil the mesh, and completes it.
func (set *sessionSet) add(p bgp.PeerConfig, by *v3.BGPPeer) {
	if a := p.Addr.Addr(); a == set.self.v4.Addr() || a == set.self.v6.Addr() {
		return
	}
	if _, taken := set.byAddr[p.Addr]; taken || set.shut[p.Addr] {
		return // the first definition wins
	}
	var s v3.PeerSettings
	bfd, errs, object := set.mesh.BFD, set.meshErrs, "BGPConfiguration default"
	if by != nil {
		object = "BGPPeer " + by.Metadata.Name
		var err error
		if p.Password, err = set.in.password(by.Spec.Password); err != nil {
			// Nor does a later definition open it: it would be without.
			set.shut[p.Addr] = true
			set.badOnce(problem{object: object, field: "spec.password", text: err.Error() + "; until then there is no session"})
			return
		}
		s, errs = by.Settings()
		bfd = s.BFD
	}
	other := set.in.nodeAt[p.Addr.Addr()]
	reflection(set.self, other, s, &p)
	p.ExtendedNextHop = extendedNextHop(set.self, other, p, s.ExtendedNextHop)
	restraint(s, &p)
	timers(set.mesh.Timers, s.Timers, by, &p)
	for _, bad := range set.in.role(set.self, s, by, &p) {
		set.badOnce(bad)
	}
	set.bad(set.police(&p, by, s)...)
	if by != nil {
		set.bad(annotationProblems(errs)...)
	}
	set.byAddr[p.Addr] = p
	w, more := set.in.watch(set.self, p, object, bfd, errs)
	set.watch = append(set.watch, w...)
	set.bad(more...)
}

// meshed adds the sessions of the mesh: with every other node that is no route reflector, unless
// this one is.
func (in *peeringInput) meshed(self nodeAddr, add func(bgp.PeerConfig, *v3.BGPPeer)) (problems []problem) {
	if !in.meshEnabled() || self.cluster.IsValid() {
		return nil
	}
	var password secret.Text
	if in.global != nil {
		var err error
		if password, err = in.password(in.global.Spec.NodeMeshPassword); err != nil {
			return []problem{{object: "BGPConfiguration default", field: "spec.nodeMeshPassword", text: err.Error() + "; until then there are no sessions between nodes"}}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.nodes)) {
		if name == in.self {
			continue
		}
		n, err := in.node(name)
		if err != nil {
			problems = append(problems, *err)
			continue
		}
		if n.cluster.IsValid() {
			continue // route reflectors are peered with explicitly
		}
		if p, ok := session(self, n); ok {
			p.Name, p.Password = name, password
			p.Passive = passive(p.LocalAddr, p.Addr.Addr())
			add(p, nil)
		}
	}
	return problems
}

// reflectedPaths is how many paths per prefix a reflector sends to its clients:
// they choose among them, and have the next ones at hand when one is lost.
const reflectedPaths = 8

// reflection makes an iBGP neighbour of a route reflector its client, unless it
// is a reflector of the same cluster; other is the node that the neighbour is, if
// it is one. Several paths are taken from everyone who sends them.
func reflection(self, other nodeAddr, set v3.PeerSettings, p *bgp.PeerConfig) {
	asn := p.LocalASN
	if asn == 0 {
		asn = self.asn
	}
	p.Client = self.cluster.IsValid() && asn == p.ASN && other.cluster != self.cluster
	p.AddPathReceive = true
	if p.Client {
		p.AddPathSend = reflectedPaths
	}
	if set.AddPath != nil {
		p.AddPathSend = int(*set.AddPath)
	}
}

// extendedNextHop tells whether IPv4 routes with IPv6 next hops are offered
// (RFC 8950): as the BGPPeer says, else where one of the two has no IPv4 address
// that could be a next hop, as none counts that has a link-local address with its interface.
// other is the node that the neighbour is, if it is one.
func extendedNextHop(self, other nodeAddr, p bgp.PeerConfig, asked *bool) bool {
	if asked != nil {
		return *asked
	}
	return !self.v4.IsValid() || p.Addr.Addr().Zone() != "" || other.v6.IsValid() && !other.v4.IsValid()
}

// defaultMaxPrefixes bounds what any neighbour can fill this node's memory with:
// more than anybody has, and some hundred megabytes at most.
const defaultMaxPrefixes = 1_000_000

// restraint is what a BGPPeer says of limits and of a shutdown.
func restraint(s v3.PeerSettings, p *bgp.PeerConfig) {
	p.MaxPrefixes = [2]int{defaultMaxPrefixes, defaultMaxPrefixes}
	if s.MaxPrefixes != nil {
		p.MaxPrefixes = [2]int{int(*s.MaxPrefixes), int(*s.MaxPrefixes)}
	}
	p.OverLimit = map[string]bgp.LimitAction{"Warn": bgp.LimitWarn, "Restart": bgp.LimitRestart, "Shutdown": bgp.LimitShutdown}[s.MaxPrefixAction]
	if s.Shutdown != nil {
		p.Shutdown, p.ShutdownText = true, *s.Shutdown
	}
}

// timers are what annotations say of the timers of a session: those of the
// BGPConfiguration where by, the BGPPeer that asks for it, is nil.
func timers(mesh, peer v3.Timers, by *v3.BGPPeer, p *bgp.PeerConfig) {
	t := peer
	if by == nil {
		t = mesh
	}
	if t.Keepalive != nil {
		p.Keepalive = *t.Keepalive
		p.HoldTime = 3 * p.Keepalive
	}
	set := func(into *time.Duration, d *time.Duration) {
		if d != nil {
			if *into = *d; *d == 0 {
				*into = bgp.TimerOff
			}
		}
	}
	set(&p.HoldTime, t.Hold)
	set(&p.SendHold, t.SendHold)
}

// role is what this node is to a peer (RFC 9234): what the BGPPeer says to the nodes
// that it selects, and the opposite to those that have the session back.
func (in *peeringInput) role(self nodeAddr, s v3.PeerSettings, by *v3.BGPPeer, p *bgp.PeerConfig) []problem {
	if s.Role == "" {
		return nil
	}
	if as := cmp.Or(p.LocalASN, self.asn); p.ASN == as {
		return []problem{{object: "BGPPeer " + by.Metadata.Name, field: `metadata.annotations["muslin/role"]`,
			text: fmt.Sprintf("has no effect on iBGP: both ends are AS %d, and roles are of sessions between ASes (RFC 9234 section 4); remove it", as)}}
	}
	p.Role = map[string]bgp.Role{"Provider": bgp.RoleProvider, "RouteServer": bgp.RoleRouteServer, "RouteServerClient": bgp.RoleRouteServerClient,
		"Customer": bgp.RoleCustomer, "Peer": bgp.RolePeer}[s.Role]
	p.RoleStrict = s.RoleStrict
	if local, err := in.selects(by.Spec.Node, by.Spec.NodeSelector, in.self, self.labels); err == nil && !local {
		p.Role = p.Role.Opposite()
	}
	return nil
}

// controlPlaneOnly tells whether a node keeps what it learns out of its kernel.
func controlPlaneOnly(n *v3.Node) bool {
	if n == nil {
		return false
	}
	s, _ := n.Settings()
	return s.ControlPlaneOnly
}

// byAddress finds nodes by their addresses; of two that claim one, the first by
// name has it.
func (in *peeringInput) byAddress() map[netip.Addr]nodeAddr {
	m := map[netip.Addr]nodeAddr{}
	for _, name := range slices.Sorted(maps.Keys(in.nodes)) {
		n, err := in.node(name)
		if err != nil {
			continue
		}
		for _, p := range []netip.Prefix{n.v4, n.v6} {
			if _, taken := m[p.Addr()]; p.IsValid() && !taken {
				m[p.Addr()] = n
			}
		}
	}
	return m
}

// password is the one that a member refers to; zero if the member is absent.
func (in *peeringInput) password(p *v3.Password) (secret.Text, error) {
	if p == nil {
		return secret.Text{}, nil
	}
	text, err := in.secret(p.SecretKeyRef)
	if err == nil && len(text.Reveal()) > bgp.MaxPassword {
		err = fmt.Errorf("has %d octets: TCP takes %d at most", len(text.Reveal()), bgp.MaxPassword)
	}
	return text, err
}

// session is the one session between two nodes: over IPv4 if both have it,
// else over IPv6; it carries both families.
func session(self, n nodeAddr) (bgp.PeerConfig, bool) {
	p := bgp.PeerConfig{ASN: n.asn}
	switch {
	case self.v4.IsValid() && n.v4.IsValid():
		p.LocalAddr, p.Addr = self.v4.Addr(), netip.AddrPortFrom(n.v4.Addr(), n.port)
	case self.v6.IsValid() && n.v6.IsValid():
		p.LocalAddr, p.Addr = self.v6.Addr(), netip.AddrPortFrom(n.v6.Addr(), n.port)
	default:
		return p, false
	}
	return p, true
}

// passive says which end of a mesh session waits. Calico compares the textual
// forms, and a mixed mesh works only if both ends apply the same rule.
func passive(own, peer netip.Addr) bool { return peer.String() > own.String() }

// explicit adds the sessions that BGPPeers ask of this node: global ones
// first, then those for some nodes only, then the reverse of those that other
// nodes have towards this one.
func (in *peeringInput) explicit(self nodeAddr, port uint16, add func(bgp.PeerConfig, *v3.BGPPeer)) (problems []problem) {
	for _, name := range in.inOrder() {
		p := in.peers[name]
		bad := func(field, format string, args ...any) {
			problems = append(problems, problem{object: "BGPPeer " + name, field: field, text: fmt.Sprintf(format, args...)})
		}
		local, err := in.selects(p.Spec.Node, p.Spec.NodeSelector, in.self, self.labels)
		if err != nil {
			bad("spec.nodeSelector", "%v", err)
			continue
		}
		if p.Spec.LocalWorkloadSelector != "" {
			if local {
				problems = append(problems, in.byWorkload(name, p, self, add)...)
			}
			continue
		}
		if p.Spec.PeerSelector != "" {
			problems = append(problems, in.bySelector(name, p, self, local, add)...)
			continue
		}
		if p.Spec.PeerIP == "" {
			continue
		}
		ip, peerPort, perr := v3.ParsePeerIP(p.Spec.PeerIP)
		if perr != nil {
			if local {
				bad("spec.peerIP", "%v", perr)
			}
			continue
		}
		if (ip == self.v4.Addr() || ip == self.v6.Addr()) && p.Spec.ReversePeering != "Manual" &&
			(p.Spec.ASNumber == 0 || uint32(p.Spec.ASNumber) == self.asn) {
			in.reverse(p, self, ip, add)
		}
		if !local {
			continue
		}
		if peerPort == 0 {
			peerPort = in.portOf(ip, uint32(p.Spec.ASNumber))
		}
		addr := netip.AddrPortFrom(ip, peerPort)
		c := bgp.PeerConfig{Name: name, Addr: addr, ASN: uint32(p.Spec.ASNumber)}
		if c.ASN == 0 {
			bad("spec.asNumber", "is missing: give the AS number of %s", addr.Addr())
			continue
		}
		if p.Spec.SourceAddress != "None" {
			c.LocalAddr = self.own(addr.Addr())
			if !c.LocalAddr.IsValid() {
				bad("spec.peerIP", "%s needs an address of its family on this node: give one with --ip or --ip6, or set spec.sourceAddress: None", addr.Addr())
				continue
			}
		}
		options(p, &c)
		add(c, p)
	}
	return problems
}

// bySelector adds sessions to the nodes that a BGPPeer's peerSelector selects,
// and back from them.
func (in *peeringInput) bySelector(name string, p *v3.BGPPeer, self nodeAddr, local bool, add func(bgp.PeerConfig, *v3.BGPPeer)) (problems []problem) {
	remote, err := selector.Parse(p.Spec.PeerSelector)
	if err != nil {
		return []problem{{object: "BGPPeer " + name, field: "spec.peerSelector", text: err.Error()}}
	}
	back := remote.Match(self.labels) && p.Spec.ReversePeering != "Manual"
	for _, other := range slices.Sorted(maps.Keys(in.nodes)) {
		if other == in.self {
			continue
		}
		n, perr := in.node(other)
		if perr != nil {
			continue // reported by the mesh
		}
		want := local && remote.Match(n.labels)
		if !want && back {
			if sel, err := in.selects(p.Spec.Node, p.Spec.NodeSelector, other, n.labels); err == nil {
				want = sel
			}
		}
		if !want {
			continue
		}
		if c, ok := session(self, n); ok {
			c.Name = other
			options(p, &c)
			add(c, p)
		}
	}
	return problems
}

// reverse adds the sessions back to those nodes that a BGPPeer selects, from
// the address ip of this node that its peerIP is.
func (in *peeringInput) reverse(p *v3.BGPPeer, self nodeAddr, ip netip.Addr, add func(bgp.PeerConfig, *v3.BGPPeer)) {
	for _, other := range slices.Sorted(maps.Keys(in.nodes)) {
		n, err := in.node(other)
		if other == in.self || err != nil || !n.own(ip).IsValid() {
			continue
		}
		if ok, err := in.selects(p.Spec.Node, p.Spec.NodeSelector, other, n.labels); err != nil || !ok {
			continue
		}
		c := bgp.PeerConfig{Name: other, Addr: netip.AddrPortFrom(n.own(ip), n.port), LocalAddr: ip, ASN: n.asn}
		options(p, &c)
		add(c, p)
	}
}

func options(p *v3.BGPPeer, c *bgp.PeerConfig) {
	if p.Spec.SourceAddress == "None" {
		c.LocalAddr = netip.Addr{}
		c.SessionNextHop = true // who has ports in several subnets is a next hop in each
	}
	if p.Spec.LocalASNumber != nil {
		c.LocalASN = uint32(*p.Spec.LocalASNumber)
	}
	if p.Spec.KeepaliveTime != nil && p.Spec.KeepaliveTime.Duration >= time.Second {
		c.Keepalive = p.Spec.KeepaliveTime.Duration
		c.HoldTime = 3 * c.Keepalive
	}
	if p.Spec.MaxRestartTime != nil {
		c.RestartTime = cmp.Or(p.Spec.MaxRestartTime.Duration, bgp.TimerOff)
	}
	if p.Spec.TTLSecurity != nil {
		c.TTLSecurity = *p.Spec.TTLSecurity
	}
	if n := p.Spec.NumAllowedLocalASNumbers; n != nil {
		c.AllowLocalAS = uint8(min(max(*n, 0), 255))
	}
}

func (in *peeringInput) node(name string) (nodeAddr, *problem) {
	n := in.nodes[name]
	if n == nil || n.Spec.BGP == nil {
		return nodeAddr{}, &problem{object: "Node " + name, field: "spec.bgp", text: "is missing, so the node has no address to peer with"}
	}
	a := nodeAddr{asn: in.asn(n), labels: n.Metadata.Labels}
	if id, err := netip.ParseAddr(n.Spec.BGP.RouteReflectorClusterID); err == nil && id.Is4() && !id.IsUnspecified() {
		a.cluster = id
	}
	a.port = in.listenPort(name)
	for _, f := range []struct {
		text, name string
		into       *netip.Prefix
	}{{n.Spec.BGP.IPv4Address, "spec.bgp.ipv4Address", &a.v4}, {n.Spec.BGP.IPv6Address, "spec.bgp.ipv6Address", &a.v6}} {
		if f.text == "" {
			continue
		}
		p, err := v3.ParseInterface(f.text)
		if err != nil {
			return a, &problem{object: "Node " + name, field: f.name, text: err.Error()}
		}
		*f.into = p
	}
	return a, nil
}

func (in *peeringInput) asn(n *v3.Node) uint32 {
	switch {
	case n.Spec.BGP != nil && n.Spec.BGP.ASNumber != nil:
		return uint32(*n.Spec.BGP.ASNumber)
	case in.global != nil && in.global.Spec.ASNumber != nil:
		return uint32(*in.global.Spec.ASNumber)
	}
	return v3.DefaultASNumber
}

func (in *peeringInput) meshEnabled() bool {
	return in.global == nil || in.global.Spec.NodeToNodeMeshEnabled == nil || *in.global.Spec.NodeToNodeMeshEnabled
}

// perNode is the configuration of a node, nil if it has none of its own.
func (in *peeringInput) perNode(name string) *v3.BGPConfiguration { return in.configs["node."+name] }

// listenPort is where a node is connected to.
func (in *peeringInput) listenPort(name string) uint16 {
	for _, c := range []*v3.BGPConfiguration{in.perNode(name), in.global} {
		if c != nil && c.Spec.ListenPort != 0 {
			return c.Spec.ListenPort
		}
	}
	return defaultPort
}

// listen is where connections are accepted: on the node's own addresses, or on
// every address of a family that it has, if bindMode says None in so many words.
func (in *peeringInput) listen(v4, v6 netip.Addr, port uint16) (list []netip.AddrPort) {
	if in.global != nil && in.global.Spec.BindMode == "None" {
		if v4.IsValid() {
			v4 = netip.IPv4Unspecified()
		}
		if v6.IsValid() {
			v6 = netip.IPv6Unspecified()
		}
	}
	for _, a := range []netip.Addr{v4, v6} {
		if a.IsValid() {
			list = append(list, netip.AddrPortFrom(a, port))
		}
	}
	return list
}

func (in *peeringInput) restartTime() time.Duration {
	if in.global != nil && in.global.Spec.NodeMeshMaxRestartTime != nil {
		return cmp.Or(in.global.Spec.NodeMeshMaxRestartTime.Duration, bgp.TimerOff)
	}
	return defaultRestartTime
}

// portOf is the port to use for a peerIP without one: a node's own listen port
// if the address belongs to a node of that AS.
func (in *peeringInput) portOf(a netip.Addr, asn uint32) uint16 {
	if n, ok := in.nodeAt[a]; ok && n.asn == asn {
		return n.port
	}
	return defaultPort
}

// selects tells whether a BGPPeer's local side includes a node.
func (in *peeringInput) selects(node, sel, name string, labels selector.Map) (bool, error) {
	switch {
	case node != "":
		return node == name, nil
	case sel != "":
		s, err := selector.Parse(sel)
		if err != nil {
			return false, err
		}
		return s.Match(labels), nil
	}
	return true, nil
}

func (a nodeAddr) own(family netip.Addr) netip.Addr {
	switch {
	case family.Is4() && a.v4.IsValid():
		return a.v4.Addr()
	case family.Is6() && a.v6.IsValid():
		return a.v6.Addr()
	}
	return netip.Addr{}
}

// inOrder are the BGPPeers as the first of several counts: global ones, then those for some nodes
// only, each by name.
func (in *peeringInput) inOrder() []string {
	specific := func(name string) int {
		if p := in.peers[name]; p.Spec.Node == "" && p.Spec.NodeSelector == "" {
			return 0
		}
		return 1
	}
	names := slices.Sorted(maps.Keys(in.peers))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(specific(a), specific(b)) })
	return names
}

// routerID is the node's IPv4 address, or 32 bits of a hash of its name where
// it has none (RFC 6286 asks only for uniqueness within the AS).
func routerID(a nodeAddr, name string) netip.Addr {
	if a.v4.IsValid() {
		return a.v4.Addr()
	}
	h := fnv32(name)
	return netip.AddrFrom4([4]byte{byte(h>>24)&0x7f | 1, byte(h >> 16), byte(h >> 8), byte(h) | 1})
}

func fnv32(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}
