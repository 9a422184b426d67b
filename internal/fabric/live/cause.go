// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/fabric"
)

// unmade is why a vRouter has no session that the design has.
func (c *checker) unmade(d *fabric.Device, peer string) string {
	if n := c.nodes[d.Name]; c.doc.Nodes != nil && n == nil {
		return "there is no Node for it in the datastore"
	}
	return fmt.Sprintf("no BGPPeer selects it for %s: `muslin apply` common.yaml and %s/vrouter.yaml of what emit writes", peer, d.Name)
}

// unasked is why a vRouter has a session that the design has not.
func (c *checker) unasked(p *Peer) string {
	if p.Addr.IsValid() && c.names.Device(p.Addr.Addr(), "") == "" {
		return "nobody in the design has that address"
	}
	return "a BGPPeer that is not of the design, or the mesh of all nodes: common.yaml of what emit writes turns it off"
}

// notUp is why a session does not come up, and whether another finding says so.
func (c *checker) notUp(d *fabric.Device, peer string, p *Peer, wrong bool) (cause string, follows bool) {
	if c.mute[peer] {
		return "the daemon of " + peer + " does not answer", true
	}
	text := strings.ToLower(p.LastError)
	switch {
	case wrong:
		return peer + " expects another AS number of this server", true
	case strings.Contains(text, "peer as"):
		return fmt.Sprintf("%s refuses the AS number of %s, or has another itself: its configuration is not that of the design", peer, d.Name), false
	case strings.Contains(text, "peer says as"):
		return peer + " has another AS number than in the design", false
	case strings.Contains(text, "md5") || strings.Contains(text, "auth"):
		return "the two ends have different keys", false
	case strings.Contains(text, "bfd"):
		return "no packets pass between the two: the cable, the port, or the kernel of the other", false
	case strings.Contains(text, "hold"):
		return peer + " fell silent: its daemon, or the way to it", false
	case strings.Contains(text, "refused"):
		return "no BGP daemon listens at " + peer, false
	case strings.Contains(text, "route to host") || strings.Contains(text, "unreachable") || strings.Contains(text, "timeout") || strings.Contains(text, "timed out"):
		return peer + " does not answer: the cable, a port at either end, or its address", false
	}
	return "", false
}

// span is consecutive prefixes of one length that a device announces.
type span struct {
	first, last netip.Addr
	bits        int
	device      string
	kind        fabric.OriginKind
}

// spans are those of a design, in the order of their first addresses.
func spans(x *fabric.Index) (list []span) {
	for i := range x.Devices {
		for _, o := range x.Devices[i].Originate {
			list = append(list, span{o.Prefix.Addr(), o.Last(), o.Prefix.Bits(), x.Devices[i].Name, o.Kind})
		}
	}
	slices.SortStableFunc(list, func(a, b span) int { return cmp.Or(a.first.Compare(b.first), a.bits-b.bits) })
	return list
}

// origin is who announces a prefix by the design, of several the first, and as what.
func (c *checker) origin(p netip.Prefix) (device string, kind fabric.OriginKind) {
	// Spans of one length do not overlap, but for those of one prefix.
	after, _ := slices.BinarySearchFunc(c.origins, p.Addr(), func(s span, a netip.Addr) int {
		return cmp.Or(s.first.Compare(a), -1)
	})
	for i := after - 1; i >= 0; i-- {
		s := &c.origins[i]
		if s.bits != p.Bits() || s.first.BitLen() != p.Addr().BitLen() {
			continue
		}
		if s.last.Less(p.Addr()) {
			break
		}
		device, kind = s.device, s.kind
	}
	return device, kind
}

// unannounced is why a vRouter does not announce what it should.
func (c *checker) unannounced(d *fabric.Device, p netip.Prefix) string {
	switch _, kind := c.origin(p); kind {
	case fabric.OriginLoopback:
		return "the annotation muslin/announce of its Node: `muslin apply -f " + d.Name + "/vrouter.yaml` of what emit writes sets it"
	case fabric.OriginBlock:
		return "it has no such block, or announces endpoints one by one: routeSource of common.yaml"
	}
	if c.doc.Nodes == nil {
		return "there is no such endpoint on it"
	}
	return "its interface is missing or down, or its pool is not exported: `muslin bgp why " + p.Addr().String() + "` there says"
}

// announced is why a vRouter announces what it should not.
func (c *checker) announced(d *fabric.Device, p netip.Prefix) string {
	if o, _ := c.origin(p); o != "" {
		return "by the design it is " + o + "'s"
	}
	inside := slices.ContainsFunc(c.x.Pools, func(pool fabric.EndpointPool) bool { return pool.CIDR.Contains(p.Addr()) })
	switch {
	case !inside:
		return "it lies in no endpoint pool of the design"
	case !p.IsSingleIP():
		return "blocks are announced where the design announces endpoints one by one: routeSource of common.yaml"
	}
	return "no endpoint in the datastore has it"
}

// missing says what there is instead of a path, why, and whether another finding says so.
func (c *checker) missing(d *fabric.Device, p netip.Prefix, w Path) (seen, cause string, follows bool) {
	seen = "not received"
	if c.down[carries{d.Name, w.From, fabric.FamilyOf(p.Addr())}] {
		return seen, "the session with " + w.From + " is not up", true
	}
	s := c.seen[d.Name]
	of := s.from(c.names, d)
	for _, r := range s.Refused.Routes {
		if r.Prefix == p && of[r.Peer] == w.From {
			return "refused: " + r.Reason, "its BGPPeer or filter is not that of the design, or what " + w.From + " sends is not", false
		}
	}
	from, _ := c.origin(p)
	for _, name := range []string{from, w.From} {
		if c.mute[name] {
			return seen, "the daemon of " + name + " does not answer", true
		}
	}
	if from != "" && c.idle[from] {
		return seen, from + " announces it to nobody: none of its sessions is up", true
	}
	if from != "" && c.down[carries{from, w.From, fabric.FamilyOf(p.Addr())}] {
		return seen, "the session of " + from + " with " + w.From + " is not up", true
	}
	for _, name := range []string{from, w.From} {
		if o := c.seen[name]; o != nil && !slices.ContainsFunc(o.Paths.Routes, func(r BGPRoute) bool { return r.Prefix == p }) {
			return seen, name + " has no path itself", true
		}
	}
	cause = fmt.Sprintf("%s does not send it: `muslin fabric explain FILE %s --at %s` says by which way it should have it", w.From, p.Addr(), w.From)
	if o := c.x.Device(from); o != nil && o.Software == fabric.Muslin && c.seen[from] == nil {
		cause = from + ", which was not asked, does not announce it, or " + cause
	}
	return seen, cause, false
}

// unexpected is why a path is there that should not be.
func (c *checker) unexpected(p netip.Prefix, g Path) string {
	switch from, _ := c.origin(p); {
	case c.x.Device(g.From) == nil:
		return "the session is not of the design"
	case from == "":
		return "nobody announces it by the design, and no endpoint in the datastore has it"
	default:
		return fmt.Sprintf("%s sends on what it should keep: its filter or role is not that of the design", g.From)
	}
}

// hopCause is why a next hop is another.
func hopCause(d *fabric.Device, want, got Path) string {
	switch {
	case got.Unusable:
		return fmt.Sprintf("%s passes the next hop on: next-hop-self is missing on its session with %s", want.From, d.Name)
	case got.NextHop == got.From:
		return fmt.Sprintf("%s sets the next hop to itself for all routes, and should for those learned by eBGP only", got.From)
	}
	return fmt.Sprintf("next-hop-self of %s is not as in the design", got.From)
}

// pathCause is why an AS path is another: the first number that differs, counted from the origin.
func (c *checker) pathCause(want, got Path) string {
	for i := 1; i <= min(len(want.ASPath), len(got.ASPath)); i++ {
		w, g := want.ASPath[len(want.ASPath)-i], got.ASPath[len(got.ASPath)-i]
		if w == g {
			continue
		}
		var who []string
		for j := range c.x.Devices {
			if d := &c.x.Devices[j]; d.AS == w && len(who) < 3 {
				who = append(who, d.Name)
			}
		}
		return fmt.Sprintf("AS %d where the design has %d (%s)", g, w, strings.Join(who, ", "))
	}
	return "it took another way: the session that the design has it take is down, or a role or filter is not that of the design"
}

// kernel is what a vRouter says of a route that its kernel has not as BGP wants it.
func (s *Seen) kernel(p netip.Prefix) string {
	i := slices.IndexFunc(s.Routes, func(r Route) bool { return r.Prefix == p })
	if i < 0 || s.Routes[i].State == "installed" && s.Routes[i].Text == "" {
		return ""
	}
	return strings.TrimSuffix(fmt.Sprintf("%s: %s", s.Routes[i].State, s.Routes[i].Text), ": ")
}
