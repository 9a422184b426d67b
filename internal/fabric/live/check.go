// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// Kind is what differs.
type Kind string

// The kinds of Finding.
const (
	Device  Kind = "device"   // a server that is in the design or in the datastore alone, or whose daemon does not answer
	AS      Kind = "as"       // an AS number, of a vRouter or of its peer
	Session Kind = "session"  // one that is not there, not up, or not in the design
	Prefix  Kind = "prefix"   // one that is not received or announced, or should not be
	NextHop Kind = "next hop" // of a path
	ASPath  Kind = "path"     // of a path
	FIB     Kind = "route"    // of the kernel, where BGP is as it should be
)

// Finding is one thing that is not as designed; of prefixes that differ alike, the first and how many.
type Finding struct {
	Device   string        `json:"device"`
	Kind     Kind          `json:"kind"`
	Peer     string        `json:"peer,omitempty"`
	Family   fabric.Family `json:"family,omitempty"`
	Prefix   netip.Prefix  `json:"prefix,omitzero"`
	Count    int           `json:"count,omitempty"` // of prefixes
	Expected string        `json:"expected"`
	Seen     string        `json:"seen"`
	Cause    string        `json:"cause,omitempty"` // what probably made it so
	// Follows: another finding made it so, and will take it along.
	Follows bool `json:"follows,omitempty"`
}

// Answer is how a fabric and its design agree.
type Answer struct {
	Name     string    `json:"name"`
	VRouters []string  `json:"vrouters"` // that were asked
	Sessions int       `json:"sessions"` // compared
	Paths    int       `json:"paths"`
	Routes   int       `json:"routes"`
	Findings []Finding `json:"findings"`
}

// carries is what a session of a device does: routes of a family, from a peer.
type carries struct {
	device, peer string
	family       fabric.Family
}

// checker is one comparison.
type checker struct {
	x     *fabric.Index
	names *Names
	// origins are who announces what by the design.
	origins []span
	doc     *Document
	seen    map[string]*Seen // by device
	nodes   map[string]*Node
	// down are the sessions of a device that are not up; idle are devices without any.
	down map[carries]bool
	idle map[string]bool
	// mute are devices whose daemon does not answer.
	mute map[string]bool
	// too are the vRouters that announce what another one has, or nobody, by prefix.
	too map[netip.Prefix]string
	out *Answer
}

// Check holds what was seen against a design. An error is that the two cannot be compared.
func Check(g *fabric.Design, doc *Document) (*Answer, error) {
	if len(doc.VRouters) == 0 {
		return nil, fmt.Errorf("no vRouter was asked")
	}
	placed, again := place(g, doc.Nodes)
	c := &checker{x: placed.Index(), doc: doc, seen: map[string]*Seen{}, nodes: map[string]*Node{}, down: map[carries]bool{}, too: map[netip.Prefix]string{}, idle: map[string]bool{}, mute: map[string]bool{},
		out: &Answer{Name: g.Metadata.Name, VRouters: []string{}, Findings: []Finding{}}}
	c.names, c.origins = NewNames(c.x), spans(c.x)
	for i := range doc.VRouters {
		s := &doc.VRouters[i]
		if len(s.Peers.Peers) == 0 && len(doc.VRouters) > 1 && c.x.Device(s.Peers.Node) == nil {
			continue // a daemon for something else
		}
		d, err := s.device(c.x)
		if err != nil {
			return nil, err
		}
		if c.seen[d.Name] != nil {
			return nil, fmt.Errorf("%s answered twice", d.Name)
		}
		c.seen[d.Name] = s
		c.out.VRouters = append(c.out.VRouters, d.Name)
	}
	c.datastore(again)
	c.answered()
	for _, name := range c.out.VRouters {
		c.sessions(c.x.Device(name), c.seen[name])
	}
	for _, name := range c.out.VRouters {
		c.announces(c.x.Device(name), c.seen[name])
	}
	for _, family := range placed.Families {
		s, err := sim.New(placed, family)
		if err != nil {
			return nil, err
		}
		for _, name := range c.out.VRouters {
			if err := c.tables(s, c.x.Device(name), family); err != nil {
				return nil, err
			}
		}
	}
	c.out.Findings = alike(c.out.Findings)
	return c.out, nil
}

func (c *checker) find(f Finding) { c.out.Findings = append(c.out.Findings, f) }

// datastore compares which servers there are, and what they are configured to be.
func (c *checker) datastore(again []twice) {
	if c.doc.Nodes == nil {
		return
	}
	for i := range c.doc.Nodes {
		n := &c.doc.Nodes[i]
		c.nodes[n.Name] = n
		d := c.x.Device(n.Name)
		switch {
		case d == nil && len(n.Endpoints) == 0 && !slices.ContainsFunc(n.Addresses, c.inside):
			// Something else that uses the datastore.
		case d == nil || d.Software != fabric.Muslin:
			c.find(Finding{Device: n.Name, Kind: Device, Expected: "no such server", Seen: "a Node in the datastore",
				Cause: "a server that the file does not know, or one that is called otherwise: `muslin run --node` names it"})
		case n.AS != d.AS:
			c.find(Finding{Device: n.Name, Kind: AS, Expected: asNumber(d.AS), Seen: asNumber(n.AS),
				Cause: fmt.Sprintf("spec.bgp.asNumber of its Node: `muslin apply -f %s/vrouter.yaml` of what emit writes sets it", n.Name)})
			c.idle[n.Name] = true
		}
	}
	for i := range c.x.Devices {
		if d := &c.x.Devices[i]; d.Software == fabric.Muslin && c.nodes[d.Name] == nil {
			c.find(Finding{Device: d.Name, Kind: Device, Expected: string(d.Role), Seen: "no Node in the datastore",
				Cause: "muslin run has never been up there under this name"})
			c.idle[d.Name] = true
		}
	}
	for _, t := range again {
		c.find(Finding{Device: t.too, Kind: Prefix, Family: fabric.FamilyOf(t.addr), Prefix: netip.PrefixFrom(t.addr, t.addr.BitLen()), Expected: "not here", Seen: "an endpoint of it",
			Cause: t.first + " has an endpoint with this address, too: an address on several servers belongs in the file, under anycast"})
	}
}

// answered tells of the vRouters that did not answer.
func (c *checker) answered() {
	for _, m := range c.doc.Mute {
		name := filepath.Base(m.Dir)
		switch d := c.x.Device(name); {
		case d == nil || d.Software != fabric.Muslin:
			name = m.Dir
		case c.seen[name] != nil || c.mute[name]: // by another directory, or recorded twice
			continue
		default:
			c.mute[name] = true
		}
		c.find(Finding{Device: name, Kind: Device, Expected: "a daemon that answers", Seen: m.Why})
	}
}

// inside tells whether an address is in a subnet of the design.
func (c *checker) inside(a netip.Addr) bool {
	return slices.ContainsFunc(c.x.Segments, func(s fabric.Segment) bool {
		return slices.ContainsFunc(s.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

func asNumber(n uint32) string { return fmt.Sprintf("AS %d", n) }

// connection is a session as both sides call it: an address of the peer, or the port towards it.
func connection(a netip.Addr, port string) string {
	if a.IsValid() && a.Zone() == "" {
		return a.String()
	}
	return port
}

// sessions compares those of a device.
func (c *checker) sessions(d *fabric.Device, s *Seen) {
	node := c.nodes[d.Name]
	if s.Peers.ASN != d.AS && (node == nil || node.AS == d.AS) { // else it is told of the datastore
		c.find(Finding{Device: d.Name, Kind: AS, Expected: asNumber(d.AS), Seen: asNumber(s.Peers.ASN),
			Cause: fmt.Sprintf("spec.bgp.asNumber of its Node: `muslin apply -f %s/vrouter.yaml` of what emit writes sets it", d.Name)})
	}
	wrong := s.Peers.ASN != d.AS
	has := map[string]*Peer{}
	for i := range s.Peers.Peers {
		p := &s.Peers.Peers[i]
		has[connection(p.Addr.Addr(), p.Interface)] = p
	}
	up := 0
	for _, n := range c.x.Neighbours(d) {
		at := []string{n.Port.Name}
		if len(n.Address) > 0 {
			at = at[:0]
			for _, a := range n.Address {
				at = append(at, a.String())
			}
		}
		for _, key := range at {
			c.out.Sessions++
			p := has[key]
			delete(has, key)
			f := Finding{Device: d.Name, Kind: Session, Peer: n.Name, Expected: fmt.Sprintf("one with %s at %s", asNumber(n.AS), key), Seen: "none"}
			switch {
			case p == nil:
				f.Cause = c.unmade(d, n.Name)
			case p.ASN != 0 && p.ASN != n.AS:
				f.Kind, f.Expected, f.Seen = AS, fmt.Sprintf("%s at %s", asNumber(n.AS), key), asNumber(p.ASN)
				f.Cause = "the BGPPeer " + p.Name + " has it: `muslin apply` of what emit writes sets it"
				if p.State == established {
					up++
					c.find(f)
					continue
				}
			case p.State != established:
				f.Expected, f.Seen = "up, "+asNumber(n.AS)+" at "+key, p.State
				if p.LastError != "" {
					f.Seen += ": " + p.LastError
				}
				f.Cause, f.Follows = c.notUp(d, n.Name, p, wrong)
			default:
				up++
				continue
			}
			c.find(f)
			families := c.x.Families
			if a, err := netip.ParseAddr(key); err == nil {
				families = []fabric.Family{fabric.FamilyOf(a)}
			}
			for _, family := range families {
				c.down[carries{d.Name, n.Name, family}] = true
			}
		}
	}
	c.idle[d.Name] = c.idle[d.Name] || up == 0
	for _, key := range slices.Sorted(maps.Keys(has)) {
		p := has[key]
		c.find(Finding{Device: d.Name, Kind: Session, Peer: c.names.Device(p.Addr.Addr(), p.Name), Expected: "none", Seen: fmt.Sprintf("one with %s at %s, %s", asNumber(p.ASN), key, p.State), Cause: c.unasked(p)})
	}
}

// announces notes what a vRouter announces and should not: others have paths to it.
func (c *checker) announces(d *fabric.Device, s *Seen) {
	for _, r := range s.Paths.Routes {
		if r.Peer == "" && c.too[r.Prefix] == "" && !originates(d, r.Prefix) {
			c.too[r.Prefix] = d.Name
		}
	}
}

// originates tells whether a prefix is among what a device originates by the design.
func originates(d *fabric.Device, p netip.Prefix) bool {
	return slices.ContainsFunc(d.Originate, func(o fabric.Origin) bool {
		last := fabric.Nth(o.Prefix, max(o.Count, 1)-1)
		return o.Prefix.Bits() == p.Bits() && !p.Addr().Less(o.Prefix.Addr()) && !last.Addr().Less(p.Addr())
	})
}

// tables compares what a device has of every prefix.
func (c *checker) tables(s *sim.Sim, d *fabric.Device, family fabric.Family) error {
	routes, err := s.RoutesByPeer(d.Name, sim.Failure{})
	if err != nil {
		return err
	}
	want := Expect(routes, c.names, d, family)
	if n := c.nodes[d.Name]; n != nil { // endpoints in blocks
		for _, a := range n.Endpoints {
			if p := netip.PrefixFrom(a, a.BitLen()); fabric.FamilyOf(a) == family {
				e := *want.At(p)
				e.Delivered = true
				want[p] = &e
			}
		}
	}
	seen, got := c.seen[d.Name], Table{}
	seen.AddPaths(got, c.names, d, family)
	seen.addRoutes(got, c.names, d, family)
	k := Compare(d.Name, want, got)
	c.out.Paths, c.out.Routes = c.out.Paths+k.Paths, c.out.Routes+k.Routes
	for i := 0; i < len(k.Differences); i++ {
		p := k.Differences[i].Prefix
		w, g := entries(want, got, p)
		if k.Differences[i].Table == "FIB" {
			c.find(Finding{Device: d.Name, Kind: FIB, Family: family, Prefix: p, Expected: words(w.FIB(), "none"), Seen: words(g.FIB(), "none"), Cause: seen.kernel(p)})
			continue
		}
		if i+1 < len(k.Differences) && k.Differences[i+1].Prefix == p {
			i++ // the kernel follows
		}
		c.paths(d, family, p, w, g)
	}
	return nil
}

// words are those of an entry in one line, or others if there are none.
func words(list []string, none string) string { return cmp.Or(strings.Join(list, "; "), none) }

// paths compares those of a prefix.
func (c *checker) paths(d *fabric.Device, family fabric.Family, p netip.Prefix, want, got *Entry) {
	f := Finding{Device: d.Name, Family: family, Prefix: p}
	switch {
	case want.Own && !got.Own:
		f.Kind, f.Expected, f.Seen = Prefix, "announced", "not announced"
		f.Cause = c.unannounced(d, p)
		c.find(f)
	case got.Own && !want.Own:
		f.Kind, f.Expected, f.Seen = Prefix, "not announced", "announced"
		f.Cause = c.announced(d, p)
		c.find(f)
	}
	find := c.find
	if by := c.too[p]; by != "" && by != d.Name {
		find = func(f Finding) {
			f.Cause, f.Follows = by+" announces it, and should not", true
			c.find(f)
		}
	}
	missing, more := without(want.Paths, got.Paths), without(got.Paths, want.Paths)
	for _, w := range missing {
		f := Finding{Device: d.Name, Family: family, Prefix: p, Peer: w.From, Kind: Prefix, Expected: w.String(), Seen: "not received"}
		at := slices.IndexFunc(more, func(g Path) bool { return g.From == w.From })
		if at < 0 {
			f.Expected = fmt.Sprintf("received with path %v", w.ASPath)
			f.Seen, f.Cause, f.Follows = c.missing(d, p, w)
			find(f)
			continue
		}
		g := more[at]
		more = slices.Delete(more, at, at+1)
		if g.NextHop != w.NextHop || g.Unusable != w.Unusable {
			f.Kind, f.Expected, f.Seen = NextHop, hopText(w), hopText(g)
			f.Cause = hopCause(d, w, g)
			find(f)
		}
		if !slices.Equal(g.ASPath, w.ASPath) {
			f.Kind, f.Expected, f.Seen = ASPath, fmt.Sprint(w.ASPath), fmt.Sprint(g.ASPath)
			f.Cause = c.pathCause(w, g)
			find(f)
		}
	}
	for _, g := range more {
		f := Finding{Device: d.Name, Family: family, Prefix: p, Peer: g.From, Kind: Prefix, Expected: "not received", Seen: fmt.Sprintf("received with path %v", g.ASPath)}
		f.Cause = c.unexpected(p, g)
		find(f)
	}
}

func hopText(p Path) string {
	if p.Unusable {
		return p.NextHop + ", on no segment of the device"
	}
	return p.NextHop
}

// without are the paths of one list that are not in another.
func without(a, b []Path) (list []Path) {
	rest := map[string]int{}
	for _, p := range b {
		rest[p.String()]++
	}
	for _, p := range a {
		if rest[p.String()]--; rest[p.String()] < 0 {
			list = append(list, p)
		}
	}
	return list
}

// alike makes findings that differ in their prefix only one, and puts what follows from others last.
func alike(list []Finding) []Finding {
	out, at := []Finding{}, map[Finding]int{}
	for _, f := range list {
		key := f
		key.Prefix, key.Count = netip.Prefix{}, 0
		if i, ok := at[key]; ok && f.Prefix.IsValid() {
			out[i].Count++
			continue
		}
		if f.Prefix.IsValid() {
			f.Count = 1
		}
		at[key] = len(out)
		out = append(out, f)
	}
	order := map[Kind]int{Device: 1, AS: 2, Session: 3, Prefix: 4, NextHop: 5, ASPath: 6, FIB: 7}
	slices.SortStableFunc(out, func(a, b Finding) int {
		if a.Follows != b.Follows {
			if a.Follows {
				return 1
			}
			return -1
		}
		return cmp.Compare(order[a.Kind], order[b.Kind])
	})
	return out
}
