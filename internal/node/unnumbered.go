// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/neighbour"
	"github.com/muslin-net/muslin/internal/node/api"
)

// Sessions with the router at the other end of an interface, which needs no
// address of its own ("unnumbered"): BGPPeers with muslin/interface. The finder
// is told which interfaces these are and how they are; whom it finds there
// becomes a peer. When the interface goes, so does the peer, at once.

// linkPeer is one interface of a BGPPeer.
type linkPeer struct {
	by   *v3.BGPPeer
	set  v3.PeerSettings
	name string // of the interface
}

// peerName is what the session on an interface is called.
func (p linkPeer) peerName() string { return p.by.Metadata.Name + "/" + p.name }

// onLinks are the BGPPeers with interfaces that concern this node, an interface
// each; the first to name one has it.
func (in *peeringInput) onLinks(self nodeAddr) (list []linkPeer, problems []problem) {
	taken := map[string]string{}
	for _, name := range in.inOrder() {
		p := in.peers[name]
		if p.Metadata.Annotations[v3.AnnotationPrefix+"interface"] == "" {
			continue
		}
		bad := func(field, format string, args ...any) {
			problems = append(problems, problem{object: "BGPPeer " + name, field: field, text: fmt.Sprintf(format, args...)})
		}
		local, err := in.selects(p.Spec.Node, p.Spec.NodeSelector, in.self, self.labels)
		if err != nil {
			bad("spec.nodeSelector", "%v", err)
		}
		if !local {
			continue
		}
		set, errs := p.Settings()
		if len(set.Interfaces) == 0 {
			problems = append(problems, annotationProblems(errs)...)
		}
		for _, dev := range set.Interfaces {
			switch {
			case taken[dev] != "":
				bad(fieldInterface, "%s is that of BGPPeer %s already", dev, taken[dev])
			case isWorkload(in.prefixes, dev):
				bad(fieldInterface, "%s is a workload's by its name: there is localWorkloadSelector for those", dev)
			default:
				taken[dev] = name
				list = append(list, linkPeer{p, set, dev})
			}
		}
	}
	return list, problems
}

const fieldInterface = `metadata.annotations["muslin/interface"]`

// unnumbered adds the sessions with neighbours that were found. unknown says that there
// are interfaces which are up, and on which none was heard yet.
func (in *peeringInput) unnumbered(self nodeAddr, add func(bgp.PeerConfig, *v3.BGPPeer)) (unknown bool, problems []problem) {
	list, problems := in.onLinks(self)
	for _, l := range list {
		f, known := in.found[l.name]
		switch {
		case !known:
			unknown = true // it was not looked at yet
			continue
		case f.Missing:
			problems = append(problems, problem{object: "BGPPeer " + l.by.Metadata.Name, field: fieldInterface,
				text: f.Down + " on this node: name the right one, or select the nodes that have it with spec.nodeSelector"})
			continue
		case f.Second.IsValid():
			problems = append(problems, problem{object: "BGPPeer " + l.by.Metadata.Name, field: fieldInterface,
				text: fmt.Sprintf("there are several routers on %s: the session is with %s, which was heard first, and %s is left alone; give each a BGPPeer with spec.peerIP, or have one alone on the link", l.name, f.Neighbour, f.Second)})
		}
		if !f.Neighbour.IsValid() {
			unknown = unknown || f.Down == ""
			continue
		}
		c := bgp.PeerConfig{Name: l.peerName(), Addr: netip.AddrPortFrom(f.Neighbour, defaultPort)}
		options(l.by, &c)
		c.LocalAddr = f.Addr.WithZone(l.name)
		own := cmp.Or(c.LocalASN, self.asn)
		switch l.set.RemoteAS {
		case "External":
			c.ASNs = external(own)
			c.ASN = c.ASNs[0][0]
		case "Internal":
			c.ASN = own
		default:
			c.ASN = uint32(l.by.Spec.ASNumber)
		}
		if c.ASN == 0 {
			problems = append(problems, problem{object: "BGPPeer " + l.by.Metadata.Name, field: "spec.asNumber", text: "is missing: give the neighbour's AS number, or muslin/remote-as: External or Internal"})
			continue
		}
		add(c, l.by)
	}
	return unknown, problems
}

// external are the AS numbers that are not our own.
func external(own uint32) (rows [][2]uint32) {
	const last = 1<<32 - 2
	if own > 1 {
		rows = append(rows, [2]uint32{1, own - 1})
	}
	if own < last {
		rows = append(rows, [2]uint32{own + 1, last})
	}
	return rows
}

// listenOnLinks is where neighbours on interfaces are waited for, unless every
// address is listened on already.
func listenOnLinks(sessions map[netip.AddrPort]bgp.PeerConfig, have []netip.AddrPort, port uint16) (list []netip.AddrPort) {
	if slices.Contains(have, netip.AddrPortFrom(netip.IPv6Unspecified(), port)) {
		return nil
	}
	for _, s := range sessions {
		if at := netip.AddrPortFrom(s.LocalAddr, port); s.LocalAddr.Zone() != "" && !slices.Contains(list, at) {
			list = append(list, at)
		}
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return list
}

// linkFound is what is known of an interface, and of who is there.
type linkFound struct {
	neighbour.Found
	Missing bool // there is no such interface
}

// waiting are the interfaces of BGPPeers on which there is no session, as peers
// without an address, with the reason.
func (in *peeringInput) waiting() (list []api.Peer) {
	self, err := in.node(in.self)
	if err != nil {
		return nil
	}
	links, _ := in.onLinks(self)
	for _, l := range links {
		f := in.found[l.name]
		if f.Neighbour.IsValid() {
			continue
		}
		p := api.Peer{Interface: l.name}
		p.Name, p.State, p.ASN = l.peerName(), bgp.Idle.String(), uint32(l.by.Spec.ASNumber)
		p.LocalASN = self.asn
		if l.by.Spec.LocalASNumber != nil {
			p.LocalASN = uint32(*l.by.Spec.LocalASNumber)
		}
		p.EBGP = l.set.RemoteAS == "External" || p.ASN != 0 && p.ASN != p.LocalASN
		p.LastError = cmp.Or(f.Down, "no router advertisement was heard on "+l.name+": the other end must send them (RFC 4861)")
		list = append(list, p)
	}
	return list
}

// lookAtLinks tells the finder how the interfaces are on which it is to look for neighbours.
func (l *loop) lookAtLinks() error {
	if !l.linksDue {
		return nil
	}
	in := l.peeringInput()
	self, bad := in.node(l.d.cfg.Node)
	var links []neighbour.Link
	missing := map[string]bool{}
	var errs []error
	if bad == nil {
		list, _ := in.onLinks(self) // with a problem there, there is one in peering
		for _, p := range list {
			h, err := endpoint.HostLinkOf(p.name)
			errs = append(errs, err)
			if err == nil {
				missing[p.name] = h.Missing
				links = append(links, neighbour.Link{Name: h.Name, Index: h.Index, Addr: h.LinkLocal, MAC: h.MAC, Down: h.Down})
			}
		}
	}
	l.missingLinks = missing
	l.d.finder.Set(links)
	err := errors.Join(errs...)
	l.linksDue = err != nil
	return err
}

// neighbours are what the finder has found, by interface.
func (l *loop) neighbours() map[string]linkFound {
	m := map[string]linkFound{}
	for _, f := range l.d.finder.Found() {
		m[f.Name] = linkFound{f, l.missingLinks[f.Name]}
	}
	return m
}

// followHostLinks has the loop look at interfaces when one has changed.
func (d *Daemon) followHostLinks(ctx context.Context) error {
	for {
		err := endpoint.WatchHostLinks(ctx, d.loop.hostLinks.notify)
		if ctx.Err() != nil {
			return nil
		}
		d.log.Error("interfaces of this host are watched anew", "err", err)
		if !pause(ctx, retryMax) {
			return nil
		}
		d.loop.hostLinks.notify()
	}
}
