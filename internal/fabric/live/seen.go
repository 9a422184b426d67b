// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Document is what was seen of a fabric: by its vRouters, as far as they were asked, and in the datastore.
type Document struct {
	VRouters []Seen `json:"vrouters"`
	// Mute are those that were asked and did not answer.
	Mute []Mute `json:"mute,omitempty"`
	// Nodes of the datastore; none if it was not asked.
	Nodes []Node `json:"nodes,omitempty"`
}

// Mute is a vRouter that did not answer. Of its name only its run directory is known, which in a lab has it.
type Mute struct {
	Dir string `json:"dir"`
	Why string `json:"why"`
}

// Node is a server as the datastore has it.
type Node struct {
	Name      string       `json:"name"`
	AS        uint32       `json:"asNumber"`
	Addresses []netip.Addr `json:"addresses,omitempty"` // its own
	Endpoints []netip.Addr `json:"endpoints,omitempty"` // of its workloads
}

// Seen is what one vRouter sees: the answers of its local API, of which the
// members here are a part.
type Seen struct {
	Peers   Peers   `json:"peers"`   // GET /v1/bgp/peers
	Paths   Paths   `json:"paths"`   // GET /v1/bgp/routes?view=accepted
	Refused Paths   `json:"refused"` // GET /v1/bgp/routes?view=rejected
	Routes  []Route `json:"routes"`  // GET /v1/routes
}

// Peers are the sessions of a vRouter.
type Peers struct {
	Node  string `json:"node"`
	ASN   uint32 `json:"asNumber"`
	Peers []Peer `json:"peers"`
}

// Peer is a session. On an Interface there may be none yet: then it has no address.
type Peer struct {
	Name      string         `json:"name"`
	Addr      netip.AddrPort `json:"address"`
	ASN       uint32         `json:"asNumber"` // 0: it has not said which of several
	State     string         `json:"state"`
	LastError string         `json:"lastError,omitempty"`
	Interface string         `json:"interface,omitempty"`
}

const established = "Established"

// Paths are some of a vRouter's.
type Paths struct {
	Routes []BGPRoute `json:"routes"`
}

// BGPRoute is one path.
type BGPRoute struct {
	Prefix  netip.Prefix `json:"prefix"`
	NextHop netip.Addr   `json:"nextHop"`
	Peer    string       `json:"peer,omitempty"` // empty: originated here
	ASPath  []uint32     `json:"asPath,omitempty"`
	Reason  string       `json:"reason,omitempty"` // why it is refused
}

// Route is one of the kernel's.
type Route struct {
	Prefix   netip.Prefix `json:"prefix"`
	Kind     string       `json:"kind"` // endpoint, blackhole, bgp
	NextHops []netip.Addr `json:"nextHops,omitempty"`
	State    string       `json:"state"`
	Text     string       `json:"text,omitempty"`
}

// from is the device that a peer of a vRouter is, by the name that its paths give.
func (s *Seen) from(n *Names, d *fabric.Device) map[string]string {
	of := map[string]string{}
	for _, p := range s.Peers.Peers {
		of[p.Name] = p.Name
		if p.Interface != "" {
			device, _ := n.behind(d, p.Interface)
			of[p.Name] = cmp.Or(device, p.Name)
		} else if p.Addr.IsValid() {
			of[p.Name] = n.Device(p.Addr.Addr(), p.Name)
		}
	}
	return of
}

// AddPaths puts what a vRouter has accepted, and what it originates, into a table.
func (s *Seen) AddPaths(t Table, n *Names, d *fabric.Device, family fabric.Family) {
	of := s.from(n, d)
	for _, r := range s.Paths.Routes {
		switch {
		case fabric.FamilyOf(r.Prefix.Addr()) != family:
		case r.Peer == "":
			t.At(r.Prefix).Own = true
		default:
			p := r.path(n, d, of)
			t.At(r.Prefix).Paths = append(t.At(r.Prefix).Paths, p)
		}
	}
}

func (r *BGPRoute) path(n *Names, d *fabric.Device, of map[string]string) Path {
	p := Path{From: cmp.Or(of[r.Peer], r.Peer), ASPath: r.ASPath, Unusable: !onLink(d, r.NextHop)}
	p.NextHop = p.From
	if r.NextHop.IsValid() && !r.NextHop.IsLinkLocalUnicast() {
		p.NextHop = n.Device(r.NextHop, p.From)
	}
	return p
}

// attached tells whether a prefix is the subnet of an interface of the device.
func attached(d *fabric.Device, p netip.Prefix) bool {
	return slices.ContainsFunc(d.Interfaces, func(i fabric.Interface) bool {
		return slices.ContainsFunc(i.Addresses, func(a netip.Prefix) bool { return a.Masked() == p })
	})
}

// addRoutes puts the kernel's routes into a table, those that it has. What a peer tells of a subnet that the device is on
// itself has to lose against the route that the kernel makes, and is reported as a conflict.
func (s *Seen) addRoutes(t Table, n *Names, d *fabric.Device, family fabric.Family) {
	for _, r := range s.Routes {
		if fabric.FamilyOf(r.Prefix.Addr()) != family || r.State != "installed" && !attached(d, r.Prefix) {
			continue
		}
		switch r.Kind {
		case "endpoint":
			t.At(r.Prefix).Delivered = true
		case "bgp":
			for _, a := range r.NextHops {
				t.At(r.Prefix).Via = append(t.At(r.Prefix).Via, n.hop(d, a))
			}
		}
	}
}

// device is the one of the design that a vRouter is.
func (s *Seen) device(x *fabric.Index) (*fabric.Device, error) {
	d := x.Device(s.Peers.Node)
	switch {
	case s.Peers.Node == "":
		return nil, fmt.Errorf("a vRouter does not say its name: peers.node is empty")
	case d == nil:
		return nil, fmt.Errorf("%s is no device of the design: a server's node name is that of its device, as `muslin fabric design` lists them; `muslin run --node` sets it", s.Peers.Node)
	case d.Software != fabric.Muslin:
		return nil, fmt.Errorf("%s runs %s by the design, and answered as a vRouter", d.Name, d.Software)
	}
	return d, nil
}
