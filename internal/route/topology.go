// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"
)

// topology is what next hops and devices are resolved with: the interfaces,
// and the routes of the kernel's main table that are not ours. Subnets are
// read from routes, not from addresses, because the kernel resolves a gateway
// by routes too. Our own routes do not count: a next hop that is reached
// only through what BGP brought would be resolved in a circle.
type topology struct {
	byName  map[string]uint32 // up only
	names   map[uint32]string // of those
	running map[uint32]bool   // every interface, by number: up and with a carrier
	read    bool              // once
	foreign bart.Table[[]foreignRoute]
	objects map[uint32]int // of foreign routes, how many use each next-hop object

	workload     func(device string) bool // through these no next hop is reached
	workloads    map[uint32]bool          // … by number
	allowDefault bool                     // a default route may lead to next hops
	near         map[netip.Addr]string    // see Table.Near

	hops  map[netip.Addr]*nextHop
	under bart.Table[*nextHop] // those without zone, as host prefixes
	moved []*nextHop           // resolved differently than before
	news  []*nextHop           // watched, and perhaps other than last told
}

// nextHop is an address that routes are wanted through, or that somebody wants
// to know about, and how it is reached.
type nextHop struct {
	addr netip.Addr
	refs int // actions and watchers

	out     []hop  // in order; none: not reachable
	onLink  bool   // on a connected subnet, not through a router
	cost    uint32 // the metric of the route to it, 0 when onLink
	why     string // it is not reachable
	changed bool   // it is in moved

	watched bool
	fresh   bool      // it is in news
	known   bool      // told is valid
	told    Reach     // what Table.Reached said last
	lost    time.Time // since when it is lost, until that is said
}

// take returns the next hop for an address, resolved.
func (t *topology) take(a netip.Addr) *nextHop {
	h := t.hops[a]
	if h == nil {
		h = &nextHop{addr: a}
		if t.hops == nil {
			t.hops = map[netip.Addr]*nextHop{}
		}
		t.hops[a] = h
		if a.Zone() == "" {
			t.under.Insert(netip.PrefixFrom(a, a.BitLen()), h)
		}
		t.resolve(h)
	}
	h.refs++
	return h
}

func (t *topology) give(h *nextHop) {
	if h.refs--; h.refs > 0 {
		return
	}
	delete(t.hops, h.addr)
	if h.addr.Zone() == "" {
		t.under.Delete(netip.PrefixFrom(h.addr, h.addr.BitLen()))
	}
}

// follow resolves anew what a foreign route to p may have been resolved with:
// the next hops inside of it, however many others there are.
func (t *topology) follow(p netip.Prefix) {
	for _, h := range t.under.Subnets(p) {
		t.again(h)
	}
}

// followAll resolves everything anew, after a change of interfaces.
func (t *topology) followAll() {
	for _, h := range t.hops {
		t.again(h)
	}
}

func (t *topology) again(h *nextHop) {
	if t.resolve(h) && !h.changed {
		h.changed = true
		t.moved = append(t.moved, h)
		t.tell(h)
	}
}

// tell has Reached look at a next hop.
func (t *topology) tell(h *nextHop) {
	if h.watched && !h.fresh {
		h.fresh = true
		t.news = append(t.news, h)
	}
}

// settleMoved forgets what moved, when it has been followed.
func (t *topology) settleMoved() {
	for _, h := range t.moved {
		h.changed = false
	}
	t.moved = t.moved[:0]
}

// count keeps book of next-hop objects that foreign routes use.
func (t *topology) count(object uint32, d int) {
	if object == 0 {
		return
	}
	if t.objects == nil {
		t.objects = map[uint32]int{}
	}
	if t.objects[object] += d; t.objects[object] == 0 {
		delete(t.objects, object)
	}
}

// resolve finds out how an address is reached, or why it is not, and tells
// whether that changed.
// The longest foreign route that covers it decides, as it would in the kernel;
// the kernel keeps gateways resolved to one that is on-link, so that one step is
// enough however deep the recursion is.
func (t *topology) resolve(h *nextHop) (changed bool) {
	out, onLink, cost, why := t.lookup(h.addr)
	changed = onLink != h.onLink || cost != h.cost || why != h.why || !slices.Equal(out, h.out)
	h.out, h.onLink, h.cost, h.why = out, onLink, cost, why
	return changed
}

func (t *topology) lookup(a netip.Addr) (out []hop, onLink bool, cost uint32, why string) {
	if z := a.Zone(); z != "" {
		oif := t.byName[z]
		if oif == 0 || !t.running[oif] {
			return nil, false, 0, whyNoInterface(z)
		}
		return []hop{{oif: oif, gw: a.WithZone("")}}, true, 0, ""
	}
	if device, near := t.near[a]; near {
		oif := t.byName[device]
		if oif == 0 || !t.running[oif] {
			return nil, false, 0, whyNoInterface(device)
		}
		return []hop{{oif: oif, gw: a, flags: unix.RTNH_F_ONLINK}}, true, 0, ""
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		return nil, false, 0, whyNoZone(a)
	}
	for p, rs := range t.foreign.Supernets(netip.PrefixFrom(a, a.BitLen())) {
		r := t.usable(rs)
		switch {
		case r == nil:
			continue // its interfaces are down: the kernel looks further, too
		case p.Bits() == 0 && !t.allowDefault:
			return nil, false, 0, whyDefaultOnly(a)
		case r.drops:
			return nil, false, 0, whyDropped(a, p)
		}
		for _, o := range r.hops {
			switch {
			case !t.running[o.oif]:
				continue
			case t.workloads[o.oif]:
				return nil, false, 0, whyWorkload(a)
			case !o.gw.IsValid():
				o.gw, onLink = a, true
			default:
				cost = max(r.metric, 1)
			}
			o.flags &= unix.RTNH_F_ONLINK
			if o.gw.Is6() && !o.gw.IsLinkLocalUnicast() {
				// Of IPv6 the kernel takes no gateway that a route with a gateway covers, and
				// BGP may bring one, as a router's own address does. That it is on the link is
				// known from the routes that count here.
				o.flags = unix.RTNH_F_ONLINK
			}
			out = append(out, hop{oif: o.oif, gw: o.gw, flags: o.flags})
		}
		sortHops(out)
		return slices.Compact(out), onLink, cost, ""
	}
	return nil, false, 0, whyNowhere(a)
}

// link is Table.Link.
func (t *topology) link(a netip.Addr, before string) (device string, carries bool) {
	if out, onLink, _, _ := t.lookup(a); onLink {
		return t.names[out[0].oif], true
	}
	if before != "" {
		if t.running[t.byName[before]] {
			return "", false // the address is elsewhere now
		}
		return before, false
	}
	for _, rs := range t.foreign.Supernets(netip.PrefixFrom(a, a.BitLen())) {
		for _, r := range rs {
			for _, h := range r.hops {
				if !h.gw.IsValid() && !t.running[h.oif] && t.names[h.oif] != "" {
					return t.names[h.oif], false
				}
			}
		}
		break
	}
	return "", false
}

// device is the name of the first interface towards a next hop.
func (t *topology) device(h *nextHop) string {
	if len(h.out) == 0 {
		return ""
	}
	return t.names[h.out[0].oif]
}

// usable picks the route of lowest metric that leads anywhere at the moment.
func (t *topology) usable(rs []foreignRoute) (best *foreignRoute) {
	for i := range rs {
		r := &rs[i]
		alive := r.drops || slices.ContainsFunc(r.hops, func(h hop) bool { return t.running[h.oif] })
		if r.tos == 0 && alive && (best == nil || r.metric < best.metric) {
			best = r
		}
	}
	return best
}

// setLinks takes the interfaces over.
func (t *topology) setLinks(byName map[string]uint32, running map[uint32]bool) {
	t.byName, t.running, t.workloads, t.read = make(map[string]uint32, len(byName)), running, map[uint32]bool{}, true
	t.names = make(map[uint32]string, len(byName))
	for name, index := range byName {
		t.addLink(index, name)
	}
}

// linkState is what is known of an interface; the zero one of one that is gone.
type linkState struct {
	name        string
	up, running bool // with a carrier, too
}

// observeLink takes in what a notification says of one interface, and tells whether
// anything may lead elsewhere now.
func (t *topology) observeLink(index uint32, is linkState) (changed bool) {
	if was := t.names[index]; was != "" && (was != is.name || !is.up) {
		if t.byName[was] == index { // and not another one's by now
			delete(t.byName, was)
		}
		delete(t.names, index)
		delete(t.workloads, index)
		changed = true
	}
	// What is older than the last listing may come after it, and take the name away
	// from who has it now.
	if is.up && (t.names[index] == "" || t.byName[is.name] != index) {
		t.addLink(index, is.name)
		changed = true
	}
	if t.running[index] != is.running {
		changed = true
	}
	if is == (linkState{}) {
		delete(t.running, index)
	} else {
		t.running[index] = is.running
	}
	return changed
}

func (t *topology) addLink(index uint32, name string) {
	t.byName[name], t.names[index] = index, name
	if t.workload != nil && t.workload(name) {
		t.workloads[index] = true
	}
}

// readLinks lists the interfaces.
func readLinks(c *conn) (byName map[string]uint32, running map[uint32]bool, err error) {
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS: they are most of the answer
	body := appendAttr32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, skipStats)
	for range dumpTries {
		byName, running = map[string]uint32{}, map[uint32]bool{}
		err = c.dump(unix.RTM_GETLINK, body, func(m message) {
			index, is := parseLink(m.data)
			if m.typ != unix.RTM_NEWLINK || index == 0 {
				return
			}
			running[index] = is.running
			if is.up {
				byName[is.name] = index
			}
		})
		if err != errInterrupted {
			break
		}
	}
	return byName, running, err
}

// parseLink reads the payload of an RTM_NEWLINK; index is 0 if it is none.
func parseLink(b []byte) (index uint32, is linkState) {
	if len(b) < unix.SizeofIfInfomsg {
		return 0, is
	}
	index = ne.Uint32(b[4:])
	flags := ne.Uint32(b[8:])
	is.up = flags&unix.IFF_UP != 0
	is.running = is.up && flags&unix.IFF_RUNNING != 0
	for b = b[unix.SizeofIfInfomsg:]; ; {
		typ, data, rest, ok := nextAttr(b)
		if !ok {
			return index, is
		}
		if b = rest; typ == unix.IFLA_IFNAME {
			is.name = string(bytes.TrimRight(data, "\x00"))
		}
	}
}
