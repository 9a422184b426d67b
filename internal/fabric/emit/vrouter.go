// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// vrouter writes the Node of a vRouter and its BGPPeers, for muslin apply. What
// holds for all is in Common.
func (e *Emitter) vrouter(d *fabric.Device) (string, error) {
	if d.Role != fabric.RoleServer && d.Role != fabric.RoleReflector {
		return "", fmt.Errorf("%s is a %s: vRouters are servers and reflectors", d.Name, d.Role)
	}
	as := v3.ASNumber(d.AS)
	node := &v3.Node{Object: object("Node", d.Name)}
	if d.Rack != "" && d.Role == fabric.RoleServer && len(e.selectors) > 0 { // the sessions of Common go by it
		node.Metadata.Labels = map[string]string{"rack": d.Rack}
	}
	node.Spec.BGP = &v3.NodeBGP{ASNumber: &as}
	if d.Role == fabric.RoleReflector {
		annotate(node, "muslin/program-routes", "Disabled")
	}
	// Its loopback, where others are to reach it by that.
	var own []string
	for _, o := range d.Originate {
		if o.Kind == fabric.OriginLoopback {
			own = append(own, o.Prefix.Addr().String())
		}
	}
	if len(own) > 0 {
		annotate(node, "muslin/announce", strings.Join(own, ","))
	}
	peers := e.peers(d)
	for i := range peers {
		if peers[i].Profile.ReflectorClient {
			node.Spec.BGP.RouteReflectorClusterID = d.Cluster().String()
		}
	}
	// What others know it by: the address of its first port, or its own where
	// ports have none.
	for _, i := range d.Interfaces {
		for _, a := range i.Addresses {
			at := &node.Spec.BGP.IPv4Address
			if a.Addr().Is6() {
				at = &node.Spec.BGP.IPv6Address
			}
			if *at == "" || i.Segment != "" && strings.HasPrefix(*at, d.Loopback(fabric.FamilyOf(a.Addr())).String()+"/") {
				*at = a.String()
			}
		}
	}
	list := []v3.Resource{node}
	for _, p := range peers {
		if !e.common(d, p) {
			list = append(list, e.bgpPeers(v3.BGPPeerSpec{Node: d.Name}, d, p)...)
		}
	}
	return e.resources(e.header(d, "#", "for muslin apply"), list)
}

func annotate(n *v3.Node, name, value string) {
	if n.Metadata.Annotations == nil {
		n.Metadata.Annotations = map[string]string{}
	}
	n.Metadata.Annotations[name] = value
}

func object(kind, name string) v3.Object {
	return v3.Object{TypeMeta: v3.TypeMeta{Kind: kind, APIVersion: v3.APIVersion}, Metadata: v3.ObjectMeta{Name: name}}
}

// bgpPeers is a session of each family, or one over an interface without
// addresses, of the nodes that of means; d is one of them.
func (e *Emitter) bgpPeers(of v3.BGPPeerSpec, d *fabric.Device, p peer) (list []v3.Resource) {
	one := func(suffix, peerIP string) *v3.BGPPeer {
		name := fmt.Sprintf("%s.%s.%s%s", d.Name, p.Name, p.Port.Name, suffix)
		if of.Node == "" {
			name = fmt.Sprintf("%s.%s%s", p.Name, p.Port.Segment, suffix)
		}
		r := &v3.BGPPeer{Object: object("BGPPeer", name), Spec: of}
		// The ports have subnets of their own, and none of them is the node's
		// address on all.
		r.Spec.PeerIP, r.Spec.ASNumber, r.Spec.SourceAddress = peerIP, v3.ASNumber(p.AS), "None"
		e.settings(r, d, p.Profile)
		switch {
		case d.Role == fabric.RoleReflector && p.AS != d.AS:
			r.Spec.NextHopMode = "Keep" // it forwards nothing: the other sends straight to the server
		case p.AS == d.AS && p.Profile.NextHopSelf == fabric.NextHopSelfNone && learnsOutside(d):
			r.Spec.NextHopMode = "Keep" // a vRouter is by itself the next hop of what it learned by eBGP
		}
		if peerIP != "" && e.x.Device(p.Name).Software == fabric.Muslin {
			// The other end has a BGPPeer of its own, and need not be known by
			// the address that it has here.
			r.Spec.ReversePeering = "Manual"
			if e.reflectsRouters(p.Name) {
				// It passes on what lies behind a router, which no node is.
				r.Metadata.Annotations["muslin/origin-guard"] = "Disabled"
			}
			if p.Profile.BFD.On() && p.Port.Segment != "" {
				r.Metadata.Annotations["muslin/bfd-multihop"] = "Disabled"
			}
		}
		if p.Profile.Export == "" && e.reflectsRouters(d.Name) {
			r.Spec.Filters = append(r.Spec.Filters, passOn)
		}
		list = append(list, r)
		return r
	}
	for _, a := range p.Address {
		r := one("."+called(a).number, a.String())
		if len(p.Address) > 1 && e.x.Device(p.Name).Software == fabric.Muslin {
			// vRouters offer both families on every session, and would tell each
			// other everything twice.
			r.Spec.Filters = slices.Insert(r.Spec.Filters, 0, onlyFamily(fabric.FamilyOf(a)))
		}
	}
	if len(p.Address) == 0 {
		r := one("", "")
		r.Spec.ASNumber, r.Spec.SourceAddress = 0, ""
		r.Metadata.Annotations["muslin/interface"] = p.Port.Name
		r.Metadata.Annotations["muslin/remote-as"] = "External"
		if p.AS == d.AS {
			r.Metadata.Annotations["muslin/remote-as"] = "Internal"
		}
	}
	return list
}

// learnsOutside tells whether a device has sessions with another AS.
func learnsOutside(d *fabric.Device) bool {
	return slices.ContainsFunc(d.Sessions, func(s fabric.Session) bool { return s.PeerAS != d.AS })
}

// end is what a session of a server with another is, seen from the server.
type end struct{ peer, segment, profile string }

func endOf(p peer) end {
	return end{p.Name, p.Port.Segment, p.Profile.Name}
}

// shared finds the ends that all servers of a rack have, or all servers there
// are: those are one BGPPeer with a selector.
func (e *Emitter) shared() map[end]string {
	count, racks := map[end]int{}, map[end]string{}
	servers, of := 0, map[string]int{}
	for i := range e.x.Devices {
		d := &e.x.Devices[i]
		if d.Role != fabric.RoleServer || d.Software != fabric.Muslin || d.Rack == "" {
			continue
		}
		servers++
		of[d.Rack]++
		for j := range d.Sessions {
			s := &d.Sessions[j]
			k := end{s.Peer, s.Segment, s.Profile}
			count[k]++
			if len(s.Address) == 0 {
				count[k] = -1 << 30 // a session over an interface is its own
			}
			racks[k] = d.Rack
		}
	}
	out := map[end]string{}
	for k, n := range count {
		switch rack := racks[k]; {
		case n == servers && servers > 1:
			out[k] = "has(rack)"
		case n == of[rack] && n > 1:
			out[k] = fmt.Sprintf("rack == '%s'", rack)
		}
	}
	return out
}

// common tells whether Common has a session of a server.
func (e *Emitter) common(d *fabric.Device, p peer) bool {
	return d.Role == fabric.RoleServer && e.selectors[endOf(p)] != ""
}

// commonPeers are the sessions that many servers have.
func (e *Emitter) commonPeers() (list []v3.Resource) {
	done := map[end]bool{}
	for i := range e.x.Devices {
		d := &e.x.Devices[i]
		if d.Role != fabric.RoleServer || d.Software != fabric.Muslin {
			continue
		}
		for j := range d.Sessions {
			s := &d.Sessions[j]
			k := end{s.Peer, s.Segment, s.Profile}
			if selector := e.selectors[k]; selector != "" && !done[k] {
				done[k] = true
				list = append(list, e.bgpPeers(v3.BGPPeerSpec{NodeSelector: selector}, d, e.peers(d)[j])...)
			}
		}
	}
	return list
}

// settings puts a device's profile into a BGPPeer. Timers that a vRouter has without being told are left out.
func (e *Emitter) settings(r *v3.BGPPeer, d *fabric.Device, p *fabric.Profile) {
	notes := map[string]string{}
	r.Metadata.Annotations = notes
	if p.BFD.On() {
		notes["muslin/bfd"], notes["muslin/bfd-interval"] = "Enabled", p.BFD.String()
	}
	if hold := time.Duration(p.Hold).Truncate(time.Second); p.Hold.On() && hold != bgp.DefaultHoldTime {
		notes["muslin/hold-time"] = hold.String()
		keepalive := v3.Duration{Duration: (hold / 3).Truncate(time.Second)}
		r.Spec.KeepaliveTime = &keepalive
	}
	if p.Role != "" {
		notes["muslin/role"] = strings.ToUpper(string(p.Role[:1])) + string(p.Role[1:])
	}
	if p.ASOverride {
		notes["muslin/as-override"] = "Enabled"
	}
	if p.RemovePrivateAS {
		notes["muslin/remove-private-as"] = "Enabled"
	}
	if p.ReflectorClient || d.Role == fabric.RoleReflector { // a vRouter that reflects sends several paths unless it is told
		notes["muslin/add-path"] = "0"
		if p.AddPath.Sends() {
			notes["muslin/add-path"] = "255"
		}
	}
	if p.Default == fabric.AlwaysDefault {
		notes["muslin/default-originate"] = "Enabled"
	}
	if p.NextHopSelf == fabric.NextHopSelfAll {
		r.Spec.NextHopMode = "Self"
	}
	if p.AllowOwnAS > 0 {
		n := int32(p.AllowOwnAS)
		r.Spec.NumAllowedLocalASNumbers = &n
	}
	if time.Duration(p.GracefulRestart) != bgp.DefaultRestartTime {
		restart := v3.Duration{Duration: max(0, time.Duration(p.GracefulRestart))} // 0 switches it off
		r.Spec.MaxRestartTime = &restart
	}
	if p.Authentication.On() {
		// The secret is a file of the server: NAME/KEY in --secrets-dir.
		r.Spec.Password = &v3.Password{SecretKeyRef: &v3.SecretKeyRef{Name: "bgp", Key: "password"}}
	}
	if filtered(p) {
		r.Spec.Filters = []string{p.Name}
	}
}

// Common writes what holds for all vRouters of the design: the pools, that each
// endpoint is announced by itself, that there is no mesh but the sessions of
// the design, filters, and the sessions that all servers of a rack or all
// servers have. It is applied before the vRouters' own files.
func (e *Emitter) Common() (string, error) {
	off := false
	configuration := &v3.BGPConfiguration{Object: object("BGPConfiguration", "default")}
	configuration.Spec.NodeToNodeMeshEnabled = &off
	if e.amongVRouters() {
		configuration.Spec.BindMode = "None" // they are called at the address of each port
	}
	list := []v3.Resource{configuration}
	block := 0
	for i := range e.x.Devices {
		for _, o := range e.x.Devices[i].Originate {
			if o.Kind == fabric.OriginBlock && block == 0 {
				block = o.Prefix.Addr().BitLen() - o.Prefix.Bits()
			}
		}
	}
	if block == 0 {
		felix := &v3.FelixConfiguration{Object: object("FelixConfiguration", "default")}
		felix.Spec.RouteSource = "WorkloadIPs"
		list = append(list, felix)
	}
	for n, p := range e.x.Pools {
		pool := &v3.IPPool{Object: object("IPPool", fmt.Sprintf("%s-%d", e.x.Metadata.Name, n))}
		pool.Spec.CIDR = p.CIDR.String()
		pool.Spec.NATOutgoing = false // at the border, if at all
		if block > 0 {
			pool.Spec.BlockSize = p.CIDR.Addr().BitLen() - block
		}
		list = append(list, pool)
	}
	for i := range e.x.Profiles {
		if p := &e.x.Profiles[i]; filtered(p) && e.ofVRouter(p) {
			list = append(list, e.bgpFilter(p))
		}
	}
	if len(e.x.Families) > 1 && e.amongVRouters() {
		for _, family := range e.x.Families {
			r := &v3.BGPFilter{Object: object("BGPFilter", onlyFamily(family))}
			none := []v3.BGPFilterRule{{Action: "Reject"}}
			if family == fabric.IPv4 {
				r.Spec.ExportV6 = none
			} else {
				r.Spec.ExportV4 = none
			}
			list = append(list, r)
		}
	}
	if slices.ContainsFunc(e.x.Devices, func(d fabric.Device) bool { return d.Software == fabric.Muslin && e.reflectsRouters(d.Name) }) {
		r := &v3.BGPFilter{Object: object("BGPFilter", passOn)}
		learned := []v3.BGPFilterRule{{Source: "RemotePeers", Action: "Accept"}}
		r.Spec.ExportV4, r.Spec.ExportV6 = learned, learned
		list = append(list, r)
	}
	list = append(list, e.commonPeers()...)
	return e.resources(fmt.Sprintf("# What all vRouters of %s have in common, design %s. Made by muslin fabric emit, for muslin apply.\n", e.x.Metadata.Name, e.hash), list)
}

// onlyFamily is the filter of a session that carries the routes of one family.
func onlyFamily(family fabric.Family) string { return "only-" + string(family) }

// passOn is the filter of reflectors that serve routers, too: by itself a vRouter passes on only what lies in a pool, and
// no default route of a border.
const passOn = "pass-on"

// amongVRouters tells whether any have sessions with each other.
func (e *Emitter) amongVRouters() bool {
	for i := range e.x.Devices {
		d := &e.x.Devices[i]
		if d.Software != fabric.Muslin {
			continue
		}
		if slices.ContainsFunc(e.peers(d), func(p peer) bool { return e.x.Device(p.Name).Software == fabric.Muslin }) {
			return true
		}
	}
	return false
}

// reflectsRouters tells whether a device reflects for one that is no vRouter.
func (e *Emitter) reflectsRouters(name string) bool {
	yes, known := e.reflects[name]
	if !known {
		peers := e.peers(e.x.Device(name))
		yes = slices.ContainsFunc(peers, func(p peer) bool { return p.Profile.ReflectorClient }) &&
			slices.ContainsFunc(peers, func(p peer) bool { return e.x.Device(p.Name).Software != fabric.Muslin })
		e.reflects[name] = yes
	}
	return yes
}

// ofVRouter tells whether a vRouter has a profile.
func (e *Emitter) ofVRouter(p *fabric.Profile) bool {
	for i := range e.x.Devices {
		d := &e.x.Devices[i]
		if d.Role != fabric.RoleServer && d.Role != fabric.RoleReflector {
			continue
		}
		for j := range d.Sessions {
			if d.Sessions[j].Profile == p.Name {
				return true
			}
		}
		for _, m := range e.x.MeshesOf(d) {
			if m.Profile == p.Name {
				return true
			}
		}
	}
	return false
}

// filtered tells whether a profile has a BGPFilter.
func filtered(p *fabric.Profile) bool { return p.Import != "" || p.Export != "" || p.OwnOnly }

// bgpFilter makes the filters of a profile one object.
func (e *Emitter) bgpFilter(p *fabric.Profile) *v3.BGPFilter {
	r := &v3.BGPFilter{Object: object("BGPFilter", p.Name)}
	rules := func(name string, family fabric.Family) (out []v3.BGPFilterRule) {
		f := e.x.Filter(name)
		if f == nil {
			return nil
		}
		for _, x := range f.Rules {
			if fabric.FamilyOf(x.Within.Addr()) != family {
				continue
			}
			low, high := x.Lengths()
			from, to := int32(low), int32(high)
			rule := v3.BGPFilterRule{CIDR: x.Within.String(), MatchOperator: "In", Action: "Reject", PrefixLength: &v3.BGPFilterLengths{Min: &from, Max: &to}}
			if x.Permit {
				rule.Action = "Accept"
			}
			out = append(out, rule)
		}
		return append(out, v3.BGPFilterRule{CIDR: family.Default().String(), MatchOperator: "In", Action: "Reject"})
	}
	r.Spec.ImportV4, r.Spec.ImportV6 = rules(p.Import, fabric.IPv4), rules(p.Import, fabric.IPv6)
	r.Spec.ExportV4, r.Spec.ExportV6 = rules(p.Export, fabric.IPv4), rules(p.Export, fabric.IPv6)
	if p.OwnOnly {
		learned := []v3.BGPFilterRule{{Source: "RemotePeers", Action: "Reject"}}
		r.Spec.ExportV4, r.Spec.ExportV6 = slices.Concat(learned, r.Spec.ExportV4), slices.Concat(learned, r.Spec.ExportV6)
	}
	return r
}

// resources writes objects as documents.
func (e *Emitter) resources(header string, list []v3.Resource) (string, error) {
	var b strings.Builder
	b.WriteString(header)
	for i, r := range list {
		if err := v3.Validate(r); err != nil {
			return "", err
		}
		text, err := yaml.Marshal(r)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteString("---\n")
		}
		b.Write(text)
	}
	return b.String(), nil
}
