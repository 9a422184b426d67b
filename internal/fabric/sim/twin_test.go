// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/fabric"
)

// twin is the slow and obvious simulator: every device, every session and every
// prefix, in rounds in which all devices decide and then all tell their peers, until a round changes
// nothing. It shares with the fast one the speaker's decisions, and nothing else.
type twin struct {
	d        *fabric.Design
	family   fabric.Family
	device   map[string]*fabric.Device
	segment  map[string]*fabric.Segment
	profile  map[string]*fabric.Profile
	filter   map[string]*fabric.Filter
	down     map[string]bool // devices, segments, and "device@segment"
	sessions map[string][]twinSession
	rules    map[string]*bgp.Rules
	owner    map[netip.Addr][2]string // of an address: device and segment
}

type twinSession struct {
	peer, seg     string
	mine, theirs  *fabric.Profile
	local, remote netip.Addr
	subnet        netip.Prefix
}

// twinRIB is what a device has of a prefix: what each session brought, and how it fared.
type twinRIB struct {
	own    bool
	served bool         // by this vRouter alone
	shared bool         // by this vRouter, and others
	in     [][]twinPath // by session
	usable int
	via    []string // device@segment
	paths  []bgp.Candidate
	chosen int
}

type twinPath struct{ got, ok bgp.Attributes }

func newTwin(d *fabric.Design, family fabric.Family, down ...string) *twin {
	w := &twin{d: d, family: family, device: map[string]*fabric.Device{}, segment: map[string]*fabric.Segment{}, profile: map[string]*fabric.Profile{},
		filter: map[string]*fabric.Filter{}, down: map[string]bool{}, sessions: map[string][]twinSession{}, rules: map[string]*bgp.Rules{}, owner: map[netip.Addr][2]string{}}
	for i := range d.Devices {
		w.device[d.Devices[i].Name] = &d.Devices[i]
	}
	for i := range d.Segments {
		w.segment[d.Segments[i].Name] = &d.Segments[i]
	}
	for i := range d.Profiles {
		w.profile[d.Profiles[i].Name] = &d.Profiles[i]
	}
	for i := range d.Filters {
		w.filter[d.Filters[i].Name] = &d.Filters[i]
	}
	for _, x := range down {
		w.down[x] = true
	}
	for name := range w.device {
		for _, f := range w.device[name].Interfaces {
			if f.Segment == "" {
				continue
			}
			w.owner[w.addr(name, f.Segment)] = [2]string{name, f.Segment}
		}
	}
	for name, x := range w.device {
		for _, s := range x.Sessions {
			for _, back := range w.device[s.Peer].Sessions {
				if back.Peer == name && back.Segment == s.Segment && s.PeerAS == w.device[s.Peer].AS && back.PeerAS == x.AS {
					w.session(name, s.Peer, s.Segment, w.profile[s.Profile], w.profile[back.Profile])
				}
			}
		}
	}
	for _, m := range d.Meshes {
		for _, a := range m.Members {
			for _, b := range m.Members {
				if a != b && (w.device[a].AS == w.device[b].AS) == (m.Kind == fabric.MeshIBGP) {
					w.session(a, b, m.Segment, w.profile[m.Profile], w.profile[m.Profile])
				}
			}
		}
	}
	for name, x := range w.device {
		c := bgp.Config{ASN: x.AS, RouterID: x.RouterID}
		var ids []netip.Addr
		for _, s := range w.sessions[name] {
			y := w.device[s.peer]
			p := bgp.PeerConfig{Addr: netip.AddrPortFrom(s.remote, 179), LocalAddr: s.local, ASN: y.AS, Client: s.mine.ReflectorClient,
				Role:   map[fabric.PeerRole]bgp.Role{fabric.Provider: bgp.RoleProvider, fabric.Customer: bgp.RoleCustomer, fabric.PeerPeer: bgp.RolePeer}[s.mine.Role],
				Import: w.policy(s.mine.Import, s.mine.LocalPref), Export: w.exports(s.mine), AllowLocalAS: uint8(s.mine.AllowOwnAS)}
			p.Rewrite.ASOverride, p.Rewrite.DefaultRoute = s.mine.ASOverride, s.mine.Default == fabric.AlwaysDefault
			switch {
			case x.Role == fabric.RoleReflector && x.Software == fabric.Muslin && x.AS != y.AS:
				p.NextHopMode = bgp.NextHopKeep
			case s.mine.NextHopSelf == fabric.NextHopSelfAll:
				p.NextHopMode = bgp.NextHopSelf
			case x.AS == y.AS && s.mine.NextHopSelf == fabric.NextHopSelfNone:
				p.NextHopMode = bgp.NextHopKeep
			case x.AS != y.AS:
				p.NextHopMode = bgp.NextHopThirdParty
			}
			p.Rewrite.Shared4, p.Rewrite.Shared6 = s.subnet, s.subnet
			if s.mine.ReflectorClient {
				c.ClusterID = x.RouterID
			}
			c.Peers = append(c.Peers, p)
			ids = append(ids, y.RouterID)
		}
		w.rules[name] = bgp.NewRules(c, ids)
	}
	return w
}

// binds tells whether a vRouter takes from another what that one has itself, and nothing else.
func (w *twin) binds(from, to string) bool {
	x := w.device[from]
	return x.Software == fabric.Muslin && x.Role == fabric.RoleServer && w.device[to].Software == fabric.Muslin &&
		!slices.ContainsFunc(w.sessions[from], func(s twinSession) bool { return s.mine.ReflectorClient })
}

// trusted tells whether a vRouter reflects for routers, whether they are there or not.
func (w *twin) trusted(name string) bool {
	client, router := false, false
	for _, s := range w.device[name].Sessions {
		client = client || w.profile[s.Profile].ReflectorClient
		router = router || w.device[s.Peer].Software != fabric.Muslin
	}
	return w.device[name].Software == fabric.Muslin && client && router
}

// exports is the policy of what a peer is told.
func (w *twin) exports(p *fabric.Profile) bgp.Policy {
	listed := w.policy(p.Export, 0)
	return func(r *bgp.Route) bgp.Verdict {
		if p.OwnOnly && r.Peer.IsValid() {
			return bgp.Verdict{Refused: bgp.RefusedFilter}
		}
		return listed(r)
	}
}

// addr is the address of a device on a segment.
func (w *twin) addr(device, seg string) netip.Addr {
	for _, f := range w.device[device].Interfaces {
		for _, a := range f.Addresses {
			if f.Segment == seg && a.Addr().Is4() == (w.family == fabric.IPv4) {
				return a.Addr()
			}
		}
	}
	return netip.Addr{}
}

// works tells whether a device can send and receive on a segment.
func (w *twin) works(device, seg string) bool {
	s := w.segment[seg]
	if h := w.device[device].Host; h != "" && w.down[h] {
		return false
	}
	return !w.down[device] && !w.down[seg] && !w.down[device+"@"+seg] && !w.down[s.Switch] && w.addr(device, seg).IsValid()
}

func (w *twin) session(a, b, seg string, mine, theirs *fabric.Profile) {
	if !w.works(a, seg) || !w.works(b, seg) {
		return
	}
	s := twinSession{peer: b, seg: seg, mine: mine, theirs: theirs, local: w.addr(a, seg), remote: w.addr(b, seg)}
	for _, f := range w.device[a].Interfaces {
		for _, p := range f.Addresses {
			if f.Segment == seg && p.Addr() == s.local {
				s.subnet = p.Masked()
			}
		}
	}
	w.sessions[a] = append(w.sessions[a], s)
}

func (w *twin) policy(name string, pref uint32) bgp.Policy {
	f := w.filter[name]
	return func(r *bgp.Route) (v bgp.Verdict) {
		if f != nil {
			v.Refused = bgp.RefusedFilter
			for _, x := range slices.Backward(f.Rules) { // the first that matches is the last to say
				most := x.Max
				if most == 0 && x.Min > 0 {
					most = 128
				} else if most == 0 {
					most = x.Within.Bits()
				}
				if x.Within.Contains(r.Prefix.Addr()) && x.Within.Bits() <= r.Prefix.Bits() && x.Min <= r.Prefix.Bits() && r.Prefix.Bits() <= most {
					v.Refused = bgp.RefusedFilter
					if x.Permit {
						v.Refused = bgp.Accepted
					}
				}
			}
		}
		if v.Refused == bgp.Accepted && pref != 0 {
			v.Edit = &bgp.Edit{SetLocalPref: true, LocalPref: pref}
		}
		return v
	}
}

// run lets a prefix spread; ok is false if it does not come to rest.
func (w *twin) run(prefix netip.Prefix) (ribs map[string]*twinRIB, ok bool) {
	ribs = map[string]*twinRIB{}
	for name, x := range w.device {
		r := &twinRIB{in: make([][]twinPath, len(w.sessions[name]))}
		for _, o := range x.Originate {
			for i := range o.Count {
				if !w.down[name] && fabric.Nth(o.Prefix, i) == prefix && (o.Kind != fabric.OriginStatic || w.leads(name, prefix)) {
					r.own = true
					r.served = x.Software == fabric.Muslin && (o.Kind == fabric.OriginEndpoints || o.Kind == fabric.OriginMoved)
					r.shared = x.Software == fabric.Muslin && o.Kind == fabric.OriginAnycast
				}
			}
		}
		ribs[name] = r
	}
	for range 100 {
		for name := range w.device {
			w.decide(name, ribs[name])
		}
		news := map[string][][]twinPath{}
		for name := range w.device {
			news[name] = make([][]twinPath, len(w.sessions[name]))
		}
		for name := range w.device {
			for k, s := range w.sessions[name] {
				for j, back := range w.sessions[s.peer] {
					if back.peer == name && back.seg == s.seg {
						told := w.tell(name, k, prefix, ribs[name], s.peer, j)
						for i := range told {
							shared := ribs[s.peer].shared && (w.trusted(name) || ribs[w.owner[told[i].got.NextHop()][0]] == nil || !ribs[w.owner[told[i].got.NextHop()][0]].own)
							if ribs[s.peer].served || shared || !ribs[name].own && w.binds(name, s.peer) { // the origin guard
								told[i].ok = bgp.Attributes{}
							}
						}
						news[s.peer][j] = told
					}
				}
			}
		}
		changed := false
		for name, r := range ribs {
			for k := range r.in {
				same := slices.EqualFunc(r.in[k], news[name][k], func(a, b twinPath) bool { return a.got.Key() == b.got.Key() })
				changed = changed || !same
			}
			r.in = news[name]
		}
		if !changed {
			return ribs, true
		}
	}
	return ribs, false
}

// leads tells whether a static route to a prefix is by a port that works.
func (w *twin) leads(name string, prefix netip.Prefix) bool {
	for _, r := range w.device[name].Static {
		for i := range r.Count {
			for _, f := range w.device[name].Interfaces {
				if f.Segment != "" && fabric.Nth(r.Prefix, i) == prefix && w.works(name, f.Segment) && slices.ContainsFunc(f.Addresses, func(a netip.Prefix) bool { return a.Contains(r.Via) }) {
					return true
				}
			}
		}
	}
	return false
}

func (w *twin) decide(name string, r *twinRIB) {
	x := w.device[name]
	r.paths, r.usable, r.via = nil, 0, nil
	for k := range r.in {
		for i, p := range r.in[k] {
			if !p.ok.Valid() || w.onLink(name, p.ok.NextHop()) == "" {
				continue
			}
			r.paths = append(r.paths, bgp.Candidate{Peer: k, ID: uint32(i), Attributes: p.ok})
		}
	}
	if r.own {
		r.paths = append(r.paths, bgp.Candidate{Peer: bgp.Own, Attributes: bgp.Originate(0)})
	}
	r.usable = len(r.paths)
	best, equal := w.rules[name].Select(r.paths, nil)
	if r.chosen = best; best < 0 || r.paths[best].Peer == bgp.Own {
		return
	}
	for i, p := range r.paths {
		same := x.MultipathRelax || slices.Equal(p.Path(), r.paths[best].Path())
		if i == best || equal[i] && x.Multipath > 1 && same {
			to := w.onLink(name, p.NextHop())
			if s := w.sessions[name][p.Peer]; w.family == fabric.IPv6 && s.seg != "" && w.device[s.peer].AS != x.AS &&
				x.Software == fabric.FRR && w.device[s.peer].Software == fabric.FRR {
				to = s.peer + "@" + s.seg // by its link-local address
			}
			if !slices.Contains(r.via, to) {
				r.via = append(r.via, to)
			}
		}
	}
	slices.Sort(r.via)
}

// onLink is the device and segment of a next hop, if the device has a working port there.
func (w *twin) onLink(name string, a netip.Addr) string {
	o, ok := w.owner[a]
	if !ok || !w.works(name, o[1]) {
		return ""
	}
	return o[0] + "@" + o[1]
}

func (w *twin) tell(name string, k int, prefix netip.Prefix, r *twinRIB, peer string, j int) (list []twinPath) {
	rules, s := w.rules[name], w.sessions[name][k]
	soft := w.device[name].Software
	var told []bgp.Attributes
	switch {
	case s.mine.Default == fabric.AlwaysDefault && prefix.Bits() == 0:
		told = append(told, rules.Default(k, prefix))
	case r.chosen < 0:
	case w.summed(name, peer, prefix):
	default:
		candidates := []bgp.Candidate{r.paths[r.chosen]}
		if s.mine.AddPath == fabric.AddPathBoth && s.theirs.AddPath == fabric.AddPathBoth {
			candidates = r.paths
		}
		for _, c := range candidates {
			if c.Peer == k && soft == fabric.BIRD || rules.Loops(k, c) && soft == fabric.Muslin {
				continue
			}
			if a, _ := rules.Export(k, prefix, c); a.Valid() {
				told = append(told, a)
			}
		}
	}
	for _, a := range told {
		p := twinPath{got: a}
		p.ok, _ = w.rules[peer].Import(j, prefix, a)
		list = append(list, p)
	}
	return list
}

// summed: a ToR with a prefix for its rack tells others of that only.
func (w *twin) summed(name, peer string, prefix netip.Prefix) bool {
	for _, o := range w.device[name].Originate {
		if o.Kind == fabric.OriginRack && w.device[peer].Rack != w.device[name].Rack && o.Prefix.Bits() < prefix.Bits() && o.Prefix.Contains(prefix.Addr()) {
			return true
		}
	}
	return false
}

// lost is the share of flows from a device to an address that do not arrive; what loops is lost.
func (w *twin) lost(from string, dst netip.Addr, tables []twinTable, way []string) float64 {
	if slices.Contains(way, from) {
		return 1
	}
	for _, t := range tables {
		for _, p := range w.device[from].Discard {
			if p.Bits() > t.prefix.Bits() && p.Contains(dst) {
				return 1
			}
		}
		r := t.ribs[from]
		switch {
		case r.own && t.prefix == tables[0].prefix:
			return 0
		case r.own:
			return 1
		case len(r.via) == 0:
			continue
		}
		sum := 0.0
		for _, v := range r.via {
			next, seg, _ := strings.Cut(v, "@")
			if !w.works(next, seg) {
				sum++
				continue
			}
			sum += w.lost(next, dst, tables, append(slices.Clone(way), from))
		}
		return sum / float64(len(r.via))
	}
	return 1
}

type twinTable struct {
	prefix netip.Prefix
	ribs   map[string]*twinRIB
}

// linked are the devices that one can reach through routers and switches that are up.
func (w *twin) linked(a string) map[string]bool {
	on := map[string][]string{}
	for name, x := range w.device {
		for _, f := range x.Interfaces {
			if f.Segment != "" && w.works(name, f.Segment) {
				on[f.Segment] = append(on[f.Segment], name)
			}
		}
	}
	seen := map[string]bool{a: true}
	for queue := []string{a}; len(queue) > 0; queue = queue[1:] {
		x := w.device[queue[0]]
		if x.Name != a && x.Role != fabric.RoleToR && x.Role != fabric.RoleSpine && x.Role != fabric.RoleBorder {
			continue
		}
		for _, f := range x.Interfaces {
			for _, name := range on[f.Segment] {
				if f.Segment != "" && w.works(x.Name, f.Segment) && !seen[name] {
					seen[name] = true
					queue = append(queue, name)
				}
			}
		}
	}
	return seen
}

// compare holds the fast simulator against the twin: every table of every device,
// all pairs, and for some devices every single route.
func compare(t *testing.T, d *fabric.Design, family fabric.Family, fail []string, down ...string) {
	t.Helper()
	fast, err := New(d, family)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fast.Failure(fail...)
	if err != nil {
		t.Fatal(err)
	}
	slow := newTwin(d, family, down...)
	results := make([]map[string]*twinRIB, len(fast.g.classes))
	for i := range fast.g.classes {
		ribs, ok := slow.run(fast.g.classes[i].prefix)
		if !ok {
			t.Fatalf("%s does not come to rest", fast.g.classes[i].prefix)
		}
		results[i] = ribs
	}
	compareTables(t, fast, f, slow, results)
	compareReach(t, fast, f, slow, results)
	rng := rand.New(rand.NewPCG(1, uint64(len(d.Devices))))
	devices := 1
	if *full {
		devices = 4
	}
	for range devices {
		compareRoutes(t, fast, f, slow, results, d.Devices[rng.IntN(len(d.Devices))].Name)
	}
}

func compareTables(t *testing.T, fast *Sim, f Failure, slow *twin, results []map[string]*twinRIB) {
	t.Helper()
	var tables *Tables
	var placed map[orbit]string
	err := fast.g.run(func(pins []int) (err error) {
		if tables, err = fast.g.tables(f, pins); err != nil {
			return err
		}
		base := fast.g.scene(f, pins)
		placed = map[orbit]string{}
		_, of := base.places()
		for o, p := range of {
			placed[o] = fast.g.devices[p.device].Name
		}
		for i := range fast.g.devices {
			x := &fast.g.devices[i]
			at := slices.IndexFunc(tables.Devices, func(t Table) bool { return t.Device == placed[base.orbitOf(i)] })
			got := tables.Devices[at]
			want := Table{Peers: len(slow.sessions[x.Name])}
			for c := range fast.g.classes {
				n, r := fast.g.classes[c].count, results[c][x.Name]
				want.Paths += n * r.usable
				if r.own {
					want.Local += n
				}
				if len(r.via) > 0 {
					want.FIB += n
				}
				want.Width = max(want.Width, len(r.via))
			}
			if got.Peers != want.Peers || got.Paths != want.Paths || got.Local != want.Local || got.FIB != want.FIB || got.Width != want.Width {
				t.Errorf("%s: peers %d paths %d local %d fib %d width %d, the twin has %d %d %d %d %d", x.Name,
					got.Peers, got.Paths, got.Local, got.FIB, got.Width, want.Peers, want.Paths, want.Local, want.FIB, want.Width)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func compareReach(t *testing.T, fast *Sim, f Failure, slow *twin, results []map[string]*twinRIB) {
	t.Helper()
	got, err := fast.Reach(f)
	if err != nil {
		t.Fatal(err)
	}
	want := Reach{}
	g := fast.g
	for to := range g.devices {
		class := g.served(to)
		if class < 0 || slow.down[g.devices[to].Name] {
			continue
		}
		dst := g.classes[class].prefix
		var tables []twinTable
		for c := range g.classes {
			if p := g.classes[c].prefix; c == class || p.Bits() < dst.Bits() && p.Contains(dst.Addr()) {
				tables = append(tables, twinTable{p, results[c]})
			}
		}
		slices.SortFunc(tables, func(a, b twinTable) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
		linked := slow.linked(g.devices[to].Name)
		for from := range g.devices {
			if from == to || g.served(from) < 0 || slow.down[g.devices[from].Name] {
				continue
			}
			if !linked[g.devices[from].Name] {
				want.Apart++
				continue
			}
			want.Pairs++
			switch lost := slow.lost(g.devices[from].Name, dst.Addr(), tables, nil); {
			case lost > 1-1e-9:
				want.Cut++
				want.Worst = 1
			case lost > 1e-9:
				want.Partly++
				want.Worst = max(want.Worst, lost)
			}
		}
	}
	if got.Pairs != want.Pairs || got.Cut != want.Cut || got.Partly != want.Partly || got.Apart != want.Apart || math.Abs(got.Worst-want.Worst) > 1e-6 {
		t.Errorf("pairs %d cut %d partly %d apart %d worst %.3f, the twin has %d %d %d %d %.3f",
			got.Pairs, got.Cut, got.Partly, got.Apart, got.Worst, want.Pairs, want.Cut, want.Partly, want.Apart, want.Worst)
	}
}

// compareRoutes looks at the very next hops and paths of one device.
func compareRoutes(t *testing.T, fast *Sim, f Failure, slow *twin, results []map[string]*twinRIB, device string) {
	t.Helper()
	routes, err := fast.Routes(device, f)
	if err != nil {
		t.Fatal(err)
	}
	for c := range fast.g.classes {
		prefix, r := fast.g.classes[c].prefix, results[c][device]
		at := slices.IndexFunc(routes, func(x Route) bool { return x.Prefix == prefix })
		if at < 0 {
			if r.own || r.usable > 0 {
				t.Errorf("%s: %s is missing", device, prefix)
			}
			continue
		}
		got := routes[at]
		// Of those that are many, one is named: compare how many there are, and that the
		// named ones are among them.
		n := 0
		for _, v := range got.Via {
			n += v.Many
			if !slices.Contains(r.via, v.Device+"@"+v.Segment) {
				t.Errorf("%s: %s via %s, the twin has %v", device, prefix, v.Device, r.via)
			}
		}
		if n != len(r.via) {
			t.Errorf("%s: %s via %+v, the twin has %v", device, prefix, got.Via, r.via)
		}
		var want, have []string
		for k := range r.in {
			for i, p := range r.in[k] {
				if j := slices.IndexFunc(r.paths, func(x bgp.Candidate) bool { return x.Peer == k && int(x.ID) == i }); j >= 0 && j == r.chosen {
					want = append(want, fmt.Sprint(slow.sessions[device][k].peer, p.ok.Path(), p.ok.NextHop()))
				}
			}
		}
		for _, p := range got.Paths {
			if p.Best {
				have = append(have, fmt.Sprint(p.From, p.ASPath, p.NextHop))
			}
		}
		if !slices.Equal(want, have) {
			t.Errorf("%s: %s: best %v, the twin has %v", device, prefix, have, want)
		}
	}
}
