// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/check"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// ruleCase is a design that a rule finds fault with, near to a good one, and what of it a lab shows.
type ruleCase struct {
	rule   string
	spec   string
	change func(g *fabric.Design)
	// down is what fails then: the fault is seen after it. Nothing: it is there from the start.
	down []string
	// shows looks for the fault; nil: packets of some pair of servers are lost, of those pairs, and in those
	// parts, that the simulation says.
	shows func(t *testing.T, l *Lab)
	short bool // also in the ordinary tests
}

const (
	perRack  = "model: as-per-rack"
	downward = "model: downward-default"
	planes   = "model: ethernet"
	oneEdge  = ", border: [{name: b1, as: 64999, default: true}], pools: {endpoints: [{cidr: 10.64.0.0/12, external: advertise}, {cidr: 'fd00:64::/48', external: advertise}]}"
)

var ruleCases = []ruleCase{
	{rule: "FAB-AS-001", spec: perRack, change: func(g *fabric.Design) { renumber(g, "r2", deviceOf(g, "r0-t0").AS) }, short: true},
	{rule: "FAB-AS-002", spec: perRack, change: func(g *fabric.Design) { renumber(g, "r2", deviceOf(g, "r1-t0").AS) }},
	{rule: "FAB-AS-005", spec: perRack, change: func(g *fabric.Design) { deviceOf(g, "spine1").Sessions[0].PeerAS++ }, down: []string{"spine0-r0-t0"}},
	{rule: "FAB-NH-001", spec: perRack, change: profileOf("tor-server", func(p *fabric.Profile) { p.NextHopSelf = "" })},
	{rule: "FAB-NH-002", spec: perRack + ", inRack: {sessions: mesh}", change: profileOf("tor-server", func(p *fabric.Profile) { p.NextHopSelf = "" })},
	{rule: "FAB-NH-005", spec: planes, change: func(g *fabric.Design) {
		d := deviceOf(g, "plane0-rr1")
		d.Interfaces = d.Interfaces[:1]
		sever(g, "plane0-rr1", true, func(s fabric.Session) bool { return s.Peer != "r0-s0" })
	}, down: []string{"plane0-rr0", "plane1"}},
	{rule: "FAB-RR-001", spec: perRack, change: profileOf("tor-server", func(p *fabric.Profile) { p.ReflectorClient = false })},
	{rule: "FAB-RR-002", spec: planes + ", routeReflectors: {perPlane: 1}", down: []string{"plane0-rr0", "plane1"}},
	{rule: "FAB-RR-003", spec: planes + ", routeReflectors: {placement: all-planes}", down: []string{"r0-s0-plane0"}},
	{rule: "FAB-RR-005", spec: planes, change: func(g *fabric.Design) {
		one := netip.MustParseAddr("1.1.1.1")
		deviceOf(g, "plane0-rr0").ClusterID, deviceOf(g, "plane0-rr1").ClusterID = one, one
		sever(g, "plane0-rr1", true, func(s fabric.Session) bool { return s.Peer == "r0-s0" })
		sever(g, "plane0-rr0", true, func(s fabric.Session) bool { return s.Peer == "r1-s0" })
	}, down: []string{"plane1"}},
	{rule: "FAB-SES-001", spec: perRack, change: func(g *fabric.Design) {
		sever(g, "spine0", false, func(s fabric.Session) bool { return s.Peer == "r1-t0" })
	}, down: []string{"spine1-r1-t0"}},
	{rule: "FAB-SES-003", spec: perRack, change: everyOf(fabric.RoleToR, func(d *fabric.Device) { d.Traditional = true })},
	{rule: "FAB-ECMP-001", spec: perRack + ", spine: {as: unique}", change: everyOf(fabric.RoleToR, func(d *fabric.Device) { d.MultipathRelax = false }), shows: oneUplink},
	{rule: "FAB-LOOP-001", spec: perRack + ", racks: {count: 2, tors: 2}, tors: {isl: true}", change: profileOf("isl", func(p *fabric.Profile) { p.LocalPref = 0 })},
	{rule: "FAB-TIM-001", spec: perRack + ", spine: {kind: l2}, bgp: {bfd: {planes: off}}", shows: noticedLate},
	{rule: "FAB-TIM-004", spec: perRack + ", bgp: {gracefulRestart: {vrouter: off}}", change: withBIRD("r0-s0", nil), shows: forgotten},
	{rule: "FAB-VR-001", spec: perRack, change: func(g *fabric.Design) {
		profileOf("tor-server", func(p *fabric.Profile) { p.Import = "" })(g)
		withBIRD("r0-s0", func(d *fabric.Device) {
			leak := netip.PrefixFrom(gateway4, 32)
			d.Interfaces[0].Addresses = append(d.Interfaces[0].Addresses, leak)
			d.Originate = append(d.Originate, fabric.Origin{Kind: fabric.OriginLoopback, Prefix: leak, Count: 1})
		})(g)
	}, shows: leaked},
	{rule: "FAB-VR-002", spec: perRack + ", anycast: [{ip: 192.168.99.1, servers: [r0/s0, r0/s1]}]", change: func(g *fabric.Design) {
		for _, name := range []string{"r0-s0", "r0-s1"} {
			withBIRD(name, func(d *fabric.Device) { d.VRouter.PreferLocal = false })(g)
		}
	}, shows: oneOfAnycast},
	{rule: "FAB-VR-003", spec: downward + ", endpoints: {perServer: 2, announce: server-block}", change: withBIRD("r1-s0", func(d *fabric.Device) { d.Discard = nil }), shows: goesRound},
	{rule: "FAB-VR-004", spec: perRack, change: withBIRD("r0-s0", func(d *fabric.Device) { d.VRouter.LocalGateway = false }), shows: deaf},
	{rule: "FAB-WI-004", spec: downward + ", bgp: {advanced: [{name: as-override, reason: anycast}]}, downwardDefault: {asOverride: true}", change: func(g *fabric.Design) {
		profileOf("tor-server", func(p *fabric.Profile) { p.Export, p.NextHopSelf = "", fabric.NextHopSelfAll })(g)
		profileOf("server-tor", func(p *fabric.Profile) { p.Import = "" })(g)
		everyOf(fabric.RoleServer, func(d *fabric.Device) { d.Software, d.VRouter.PreferLocal = fabric.BIRD, false })(g)
	}, shows: restless},
	{rule: "FAB-ADR-001", spec: perRack, change: func(g *fabric.Design) {
		withBIRD("r0-s0", nil)(g)
		withBIRD("r0-s1", func(d *fabric.Device) { d.RouterID = deviceOf(g, "r0-s0").RouterID })(g)
	}},
	{rule: "FAB-RR-006", spec: planes + ", routeReflectors: {hosts: servers}", change: func(g *fabric.Design) {
		for _, name := range []string{"plane0-rr0", "plane0-rr1"} {
			d := deviceOf(g, name)
			d.Interfaces = d.Interfaces[:1]
		}
		withBIRD("plane0-rr1", nil)(g)
	}, down: []string{"plane1"}, shows: apart},
	{rule: "FAB-RR-008", spec: planes, change: withBIRD("plane0-rr0", func(d *fabric.Device) {
		d.Interfaces[0].Addresses = append(d.Interfaces[0].Addresses, reflectorNet)
		d.Originate = append(d.Originate, fabric.Origin{Kind: fabric.OriginSubnet, Prefix: reflectorNet.Masked(), Count: 1})
	}), shows: toReflector},
	{rule: "FAB-DD-001", spec: downward + ", downwardDefault: {fallback: none}", down: []string{"spine0-r0-t0"}, short: true},
	{rule: "FAB-DD-002", spec: downward + ", racks: {count: 2, tors: 2}", change: profileOf("tor-server", func(p *fabric.Profile) { p.Default = fabric.AlwaysDefault }), down: []string{"spine0-r0-t0", "spine1-r0-t0"}},
	{rule: "FAB-DD-003", spec: downward + ", spine: {as: unique}, bgp: {roles: off}", change: func(g *fabric.Design) {
		profileOf("tor-spine", func(p *fabric.Profile) { p.Export = "" })(g)
		profileOf("spine-tor", func(p *fabric.Profile) { p.Import = "" })(g)
	}, shows: goesRound},
	{rule: "FAB-DD-006", spec: downward, change: func(g *fabric.Design) {
		profileOf("tor-server", func(p *fabric.Profile) { p.Export = "" })(g)
		profileOf("spine-tor", func(p *fabric.Profile) { p.Export = "" })(g)
	}, shows: refusedBelow},
	{rule: "FAB-BR-001", spec: perRack + oneEdge, change: func(g *fabric.Design) {
		sever(g, "b1", true, func(s fabric.Session) bool { return s.Peer == "spine1" })
	}, down: []string{"spine0"}, shows: noWayOut},
	{rule: "FAB-BR-004", spec: perRack + oneEdge, change: func(g *fabric.Design) { renumberOne(g, "b1", deviceOf(g, "r0-t0").AS) }, shows: noWayOut},
	{rule: "FAB-SEC-001", spec: perRack, change: func(g *fabric.Design) {
		profileOf("tor-server", func(p *fabric.Profile) { p.Import = "" })(g)
		for _, o := range deviceOf(g, "r1-s0").Originate {
			if o.Kind == fabric.OriginEndpoints {
				d := deviceOf(g, "r0-s1")
				d.Originate = append(d.Originate, fabric.Origin{Kind: fabric.OriginLoopback, Prefix: o.Prefix, Count: 1})
			}
		}
	}, shows: attracted},
	{rule: "FAB-SEC-004", spec: perRack + ", bgp: {maxPrefix: restart}", change: profileOf("tor-server", func(p *fabric.Profile) { p.MaxPrefix = 2 }), shows: oneTooMany},
	{rule: "FAB-ADR-002", spec: perRack, change: func(g *fabric.Design) { deviceOf(g, "r0-s1").Interfaces[1] = deviceOf(g, "r0-s0").Interfaces[1] }, shows: contested},
	{rule: "FAB-ADR-004", spec: planes, change: func(g *fabric.Design) { g.Segments[1].Switch = g.Segments[0].Switch }, down: []string{"spine0"}, shows: apart},
	{rule: "FAB-PHY-003", spec: perRack + ", racks: {count: 2, tors: 2}", change: func(g *fabric.Design) {
		sever(g, "r1-s1", true, func(s fabric.Session) bool { return s.Peer == "r1-t1" })
	}, down: []string{"r1-s0-r1-t0--rack"}},
	{rule: "FAB-WI-001", spec: downward + ", downwardDefault: {fallback: none}", down: []string{"spine1-r1-t0"}},
}

// proof is what shows that a rule which no lab is booted for speaks of something that is so.
type proof string

const (
	capacity  proof = "what devices have to hold is computed, and held against their tables"
	numbering proof = "numbers, addresses and cables of the design are compared with each other"
	hygiene   proof = "the design says it; nothing is lost for it alone"
	advice    proof = "it is told for information, or of what is slower, and not lost"
)

// computed says how each rule without a lab is proved: TestRules of package check has a design for it that it finds, and
// a near twin that passes. Of an error it says why there is no lab.
var computed = map[string]struct {
	by    proof
	noLab string
}{
	"FAB-CAP-001": {capacity, "a kernel has no table of a size, as silicon has"},
	"FAB-CAP-002": {capacity, "it takes a gigabyte of paths"},
	"FAB-CAP-003": {capacity, "a kernel has no host table of its own"},
	"FAB-CAP-004": {by: capacity}, "FAB-CAP-005": {by: capacity}, "FAB-CAP-006": {by: capacity}, "FAB-CAP-007": {by: capacity}, "FAB-CAP-009": {by: capacity}, "FAB-WI-003": {by: capacity},
	"FAB-RR-004": {by: capacity}, "FAB-SES-002": {by: capacity}, "FAB-TIM-003": {by: capacity},

	"FAB-ADR-005": {numbering, "nothing is lost until an endpoint is given the address of a router, which FAB-ADR-002 shows"},
	"FAB-AS-004":  {by: numbering}, "FAB-PHY-001": {by: numbering}, "FAB-PHY-002": {by: numbering}, "FAB-PHY-004": {by: numbering},

	"FAB-AS-006": {by: hygiene}, "FAB-AS-007": {by: hygiene}, "FAB-NH-003": {by: hygiene}, "FAB-RR-007": {by: hygiene}, "FAB-DD-005": {by: hygiene},
	"FAB-BR-003": {by: hygiene}, "FAB-VR-005": {by: hygiene}, "FAB-SEC-002": {by: hygiene}, "FAB-SIM-001": {by: hygiene},

	"FAB-NH-004": {by: advice}, "FAB-NH-006": {by: advice}, "FAB-ECMP-002": {by: advice}, "FAB-TIM-002": {by: advice}, "FAB-TIM-005": {by: advice},
	"FAB-CAP-008": {by: advice}, "FAB-DD-004": {by: advice}, "FAB-SEC-003": {by: advice}, "FAB-PHY-005": {by: advice}, "FAB-WI-005": {by: advice},
}

// TestEveryRuleIsProved: a rule is shown by a lab or computed, and not both; an error is computed for a reason.
func TestEveryRuleIsProved(t *testing.T) {
	inLab, known := map[string]bool{}, map[string]bool{}
	for _, c := range ruleCases {
		inLab[c.rule] = true
	}
	for _, r := range check.Rules {
		known[r.ID] = true
		c, isComputed := computed[r.ID]
		switch {
		case inLab[r.ID] == isComputed:
			t.Errorf("%s, %s: shown in a lab: %v, computed: %v", r.ID, r.Severity, inLab[r.ID], isComputed)
		case isComputed && (r.Severity == check.Error) != (c.noLab != ""):
			t.Errorf("%s, %s: no lab since %q", r.ID, r.Severity, c.noLab)
		case isComputed && r.Severity == check.Error && c.by == advice:
			t.Errorf("%s is an error, and said to be for information", r.ID)
		}
	}
	for _, list := range []iter.Seq[string]{maps.Keys(inLab), maps.Keys(computed)} {
		for id := range list {
			if !known[id] {
				t.Errorf("%s is no rule", id)
			}
		}
	}
}

// TestRules: what a rule says goes wrong does so in a lab, healthy or with what it names down; there the rule finds it.
func TestRules(t *testing.T) {
	for _, c := range ruleCases {
		t.Run(c.rule, func(t *testing.T) {
			if !c.short && !*full {
				t.Skip("make test-fabric boots it")
			}
			g := design(t, c.spec)
			if c.change != nil {
				c.change(g)
			}
			if !slices.ContainsFunc(check.Design(g), func(f *check.Finding) bool { return f.ID == c.rule && f.Severity == check.Error }) {
				t.Fatalf("%s does not find it", c.rule)
			}
			l := boot(t, g)
			if len(c.down) > 0 {
				bears(t, l, c.shows == nil)
				for _, x := range c.down {
					if err := l.Fail(Failed{x, ByCarrier}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.shows != nil {
				c.shows(t, l)
				return
			}
			if bears(t, l, true) == 0 {
				t.Error("nothing is lost")
			}
		})
	}
}

func deviceOf(g *fabric.Design, name string) *fabric.Device {
	return &g.Devices[slices.IndexFunc(g.Devices, func(d fabric.Device) bool { return d.Name == name })]
}

// profileOf changes a profile.
func profileOf(name string, change func(p *fabric.Profile)) func(*fabric.Design) {
	return func(g *fabric.Design) {
		change(&g.Profiles[slices.IndexFunc(g.Profiles, func(p fabric.Profile) bool { return p.Name == name })])
	}
}

// everyOf changes all devices of a role.
func everyOf(role fabric.Role, change func(d *fabric.Device)) func(*fabric.Design) {
	return func(g *fabric.Design) {
		for i := range g.Devices {
			if g.Devices[i].Role == role {
				change(&g.Devices[i])
			}
		}
	}
}

// withBIRD has a server run BIRD, as it would be without Muslin, and changes it.
func withBIRD(name string, change func(d *fabric.Device)) func(*fabric.Design) {
	return func(g *fabric.Design) {
		d := deviceOf(g, name)
		d.Software = fabric.BIRD
		if change != nil {
			change(d)
		}
	}
}

// sever removes sessions of a device, and the other ends unless they are to stay.
func sever(g *fabric.Design, from string, both bool, which func(s fabric.Session) bool) {
	d := deviceOf(g, from)
	for _, s := range d.Sessions {
		if which(s) && both {
			p := deviceOf(g, s.Peer)
			p.Sessions = slices.DeleteFunc(p.Sessions, func(o fabric.Session) bool { return o.Peer == from && o.Segment == s.Segment })
		}
	}
	d.Sessions = slices.DeleteFunc(d.Sessions, which)
}

// renumber gives a rack another AS number, and tells its neighbours.
func renumber(g *fabric.Design, rack string, as uint32) {
	for i := range g.Devices {
		if g.Devices[i].Rack == rack {
			renumberOne(g, g.Devices[i].Name, as)
		}
	}
}

func renumberOne(g *fabric.Design, name string, as uint32) {
	deviceOf(g, name).AS = as
	for i := range g.Devices {
		for j := range g.Devices[i].Sessions {
			if s := &g.Devices[i].Sessions[j]; s.Peer == name {
				s.PeerAS = as
			}
		}
	}
}

// shots is how many packets go from one server's endpoint to another's at once, each from a port of its own: where
// a way has branches, each gets some.
const (
	shots    = 32
	shotPort = 21000
)

type pair struct {
	from, to string // servers
	family   fabric.Family
}

// volley has the first endpoint of every server send to that of every other, in both families, and counts what
// arrives. Nothing is to come back, so that each direction is seen by itself.
func volley(t *testing.T, l *Lab) map[pair]int {
	t.Helper()
	var ends []Endpoint
	for _, e := range l.Endpoints() {
		if !e.Anycast && !slices.ContainsFunc(ends, func(o Endpoint) bool { return o.Server == e.Server }) {
			ends = append(ends, e)
		}
	}
	arrived, nonce := map[pair]int{}, rand.Uint64()
	var mu sync.Mutex
	var readers sync.WaitGroup
	var open []net.PacketConn
	defer func() {
		for _, c := range open {
			c.Close()
		}
		readers.Wait()
	}()
	listen := func(n *lab.Namespace, a netip.Addr, port uint16) net.PacketConn {
		c, err := n.ListenPacket("udp", netip.AddrPortFrom(a, port).String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		return c
	}
	for _, to := range ends {
		n, err := l.space(to.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range to.Addrs {
			c := listen(n, a, shotPort)
			readers.Go(func() {
				buf := make([]byte, 64)
				for {
					k, _, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					if k == 10 && binary.BigEndian.Uint64(buf) == nonce {
						mu.Lock()
						arrived[pair{ends[buf[8]].Server, to.Server, fabric.FamilyOf(a)}]++
						mu.Unlock()
					}
				}
			})
		}
	}
	for i, from := range ends {
		n, err := l.space(from.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range from.Addrs {
			for shot := range shots {
				c := listen(n, a, 0)
				for _, to := range ends {
					for _, b := range to.Addrs {
						if to.Server != from.Server && fabric.FamilyOf(a) == fabric.FamilyOf(b) {
							msg := append(binary.BigEndian.AppendUint64(nil, nonce), byte(i), byte(shot))
							_, _ = c.WriteTo(msg, net.UDPAddrFromAddrPort(netip.AddrPortFrom(b, shotPort))) // refused is lost
						}
					}
				}
			}
		}
	}
	time.Sleep(500 * time.Millisecond) // for what is on its way
	mu.Lock()
	defer mu.Unlock()
	out := map[pair]int{}
	for _, from := range ends {
		for _, to := range ends {
			for _, f := range l.Design.Families {
				if from.Server != to.Server {
					out[pair{from.Server, to.Server, f}] = arrived[pair{from.Server, to.Server, f}]
				}
			}
		}
	}
	return out
}

// bears has packets sent until those pairs, and only those, lose what the simulation says: all, a part or none. It
// returns how many lose. If the simulation is not to say anything, it waits until nothing is lost.
func bears(t *testing.T, l *Lab, simulated bool) (lossy int) {
	t.Helper()
	addr := map[pair]netip.Addr{}
	for _, e := range l.Endpoints() {
		for _, a := range e.Addrs {
			if p := (pair{"", e.Server, fabric.FamilyOf(a)}); !addr[p].IsValid() && !e.Anycast {
				addr[p] = a
			}
		}
	}
	lost := func(p pair) float64 { return 0 }
	if simulated {
		sims := map[fabric.Family]*simulation{}
		for _, f := range l.Design.Families {
			s, err := l.simulate(f)
			if err != nil {
				t.Fatal(err)
			}
			sims[f] = s
		}
		known := map[pair]float64{}
		lost = func(p pair) float64 {
			if _, ok := known[p]; !ok {
				way, err := sims[p.family].Path(p.from, addr[pair{"", p.to, p.family}], sims[p.family].down)
				if err != nil {
					t.Fatal(err)
				}
				known[p] = way.Lost
			}
			return known[p]
		}
	}
	var wrong []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		wrong, lossy = nil, 0
		for p, n := range volley(t, l) {
			x := lost(p)
			if x > 1e-9 {
				lossy++
			}
			if ok := x < 1e-9 && n == shots || x > 1-1e-9 && n == 0 || x > 1e-9 && x < 1-1e-9 && n > 0 && n < shots; !ok {
				wrong = append(wrong, fmt.Sprintf("%s to %s, %s: %d of %d packets arrive, simulated are %.0f %% lost", p.from, p.to, p.family, n, shots, 100*x))
			}
		}
		if wrong == nil {
			t.Logf("%d pairs lose packets, as simulated", lossy)
			return lossy
		}
	}
	slices.Sort(wrong)
	t.Errorf("%s", strings.Join(wrong[:min(len(wrong), 10)], "\n"))
	return lossy
}

// oneUplink: a ToR has two ways, equal but for an AS number, and uses one.
func oneUplink(t *testing.T, l *Lab) {
	settled(t, l)
	table, err := l.actual(t.Context(), l.x.Device("r0-t0"), fabric.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	e := table[netip.PrefixFrom(l.endpointsOn("r1-s0")[0].Addrs[0], 32)]
	if e == nil || len(e.Paths) != 2 || len(e.Via) != 1 {
		t.Errorf("r0-t0 has %+v for another rack", e)
	}
}

// noticedLate: when a port on a plane falls silent, packets are lost for as long as the hold time.
func noticedLate(t *testing.T, l *Lab) {
	settled(t, l)
	e, err := l.Watch(t.Context(), "r0-t0-plane0 silent", func() error { return l.Fail(Failed{"r0-t0-plane0", Silent}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Log(e.Summary())
	if list := e.Affected(); len(list) == 0 || list[0].Gap < 3*time.Second {
		t.Errorf("noticed early: %+v", list)
	}
}

// goesRound: packets to an address that nobody has use up their hop limit.
func goesRound(t *testing.T, l *Lab) {
	first := l.endpointsOn("r1-s0")[0].Addrs[0]
	for range 7 {
		first = first.Next()
	}
	n, err := l.space("r0-s0-e0")
	if err != nil {
		t.Fatal(err)
	}
	// The kernel of a router counts what it drops for its hop limit, and says so. Which of equal ways a packet takes depends on its
	// addresses, and on a key of the kernel's: not all need go round.
	expired := false
	for end := time.Now().Add(time.Minute); !expired && time.Now().Before(end); {
		nobody := first
		for i := 0; i < 32 && !expired; i++ {
			expired = timeExceeded(t, n, nobody)
			nobody = nobody.Next()
		}
	}
	if !expired {
		t.Errorf("no packet to %s, which nobody has, or to one of the 31 addresses after it goes round", first)
	}
}

// timeExceeded sends echo requests to an address and tells whether a router answers that the hop limit is used
// up (RFC 792).
func timeExceeded(t *testing.T, n *lab.Namespace, to netip.Addr) bool {
	t.Helper()
	var c *net.IPConn
	if err := n.Do(func() (err error) { c, err = net.ListenIP("ip4:1", nil); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteToIP([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return false
	}
	if err := c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	for {
		k, _, err := c.ReadFromIP(buf)
		if err != nil {
			return false
		}
		if k > 0 && buf[0] == 11 {
			return true
		}
	}
}

// refusedBelow: what spines and ToRs tell downwards is refused there, as simulated.
func refusedBelow(t *testing.T, l *Lab) {
	settled(t, l)
	s, err := l.simulate(fabric.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"r0-t0", "r0-s0"} {
		routes, err := s.RoutesByPeer(name, s.down)
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for _, r := range routes {
			for _, p := range r.Paths {
				if p.Refused != "" {
					refused++
				}
			}
		}
		if refused == 0 {
			t.Errorf("%s refuses nothing", name)
		}
	}
}

// noWayOut: endpoints do not reach the host outside, or are not reached from there, though it is connected.
func noWayOut(t *testing.T, l *Lab) {
	_, _ = l.Settle(context.Background(), 30*time.Second) // differences may be the fault itself
	c, err := l.Cross(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tries, %d wrong: %.300v", c.Tries, len(c.Wrong), c.Wrong)
	if len(c.Wrong) == 0 {
		t.Error("everybody gets out")
	}
}

// attracted: packets for an endpoint of another rack go to a server that says it has its address.
func attracted(t *testing.T, l *Lab) {
	n, err := l.space("r0-s1")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range l.x.Device("r0-s1").Originate { // a vRouter announces what it has
		if o.Kind == fabric.OriginLoopback && !slices.Contains(l.x.Device("r0-s1").Interfaces[0].Addresses, o.Prefix) {
			if err := n.AddAddr("lo", o.Prefix); err != nil {
				t.Fatal(err)
			}
		}
	}
	lossy(t, l, pair{"r0-s0", "r1-s0", fabric.IPv4}, pair{"r0-s0", "r1-s0", fabric.IPv6})
}

// forgotten: while the daemon of a server is down its endpoints are not reached, though the server forwards.
func forgotten(t *testing.T, l *Lab) {
	bears(t, l, true)
	if err := l.Fail(Failed{"r0-s0", ByDaemon}); err != nil {
		t.Fatal(err)
	}
	lossy(t, l, pair{"r1-s0", "r0-s0", fabric.IPv4}, pair{"r1-s0", "r0-s0", fabric.IPv6})
}

// leaked: a spine has a route to what each server has for itself.
func leaked(t *testing.T, l *Lab) {
	labtest.Poll(t, time.Minute, func() error {
		table, err := l.actual(t.Context(), l.x.Device("spine0"), fabric.IPv4)
		if e := table[netip.PrefixFrom(gateway4, 32)]; err == nil && (e == nil || len(e.Via) == 0) {
			err = fmt.Errorf("spine0 knows no way to %s", gateway4)
		}
		return err
	})
}

// reflectorNet is a network that a reflector is on, and nobody else.
var reflectorNet = netip.MustParsePrefix("192.0.2.1/24")

// toReflector: a server sends a reflector, which is none of its routers, what is for a network that this is on.
func toReflector(t *testing.T, l *Lab) {
	labtest.Poll(t, time.Minute, func() error {
		table, err := l.actual(t.Context(), l.x.Device("r0-s0"), fabric.IPv4)
		if e := table[reflectorNet.Masked()]; err == nil && (e == nil || !slices.Equal(e.Via, []string{live.Via("plane0-rr0", "plane0")})) {
			err = fmt.Errorf("r0-s0 has %+v to %s", e, reflectorNet.Masked())
		}
		return err
	})
}

// oneOfAnycast: of two servers that have an address one is told of, once both have heard of the other.
func oneOfAnycast(t *testing.T, l *Lab) {
	in := 0
	labtest.Poll(t, time.Minute, func() error {
		table, err := l.actual(t.Context(), l.x.Device("r0-t0"), fabric.IPv4)
		if err != nil {
			return err
		}
		e := table[netip.MustParsePrefix("192.168.99.1/32")]
		if in++; e == nil || len(e.Paths) != 1 {
			in = 0
		}
		if in < 20 {
			return fmt.Errorf("r0-t0 has %+v", e)
		}
		return nil
	})
}

// deaf: what endpoints send by IPv4 gets no further, since nobody answers for their gateway; that of IPv6 does.
func deaf(t *testing.T, l *Lab) {
	lossy(t, l, pair{"r0-s0", "r1-s0", fabric.IPv4})
	if n := volley(t, l)[pair{"r0-s0", "r1-s0", fabric.IPv6}]; n != shots {
		t.Errorf("%d of %d packets of IPv6 arrive", n, shots)
	}
}

// restless: the ToR's table changes all the time.
func restless(t *testing.T, l *Lab) {
	version := func() (v struct {
		TableVersion int `json:"tableVersion"`
	}) {
		text, err := l.vty(t.Context(), l.x.Device("r0-t0"), "bgpd", "show bgp ipv4 unicast json")
		if err == nil {
			err = json.Unmarshal(text, &v)
		}
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	time.Sleep(20 * time.Second) // for everything that would come to rest
	from := version()
	time.Sleep(6 * time.Second)
	if n := version().TableVersion - from.TableVersion; n < 50 {
		t.Errorf("%d changes in 6 s", n)
	} else {
		t.Logf("%d changes in 6 s", n)
	}
}

// oneTooMany: a server that gets one endpoint more than its ToR takes is cut off, with those that it had.
func oneTooMany(t *testing.T, l *Lab) {
	bears(t, l, false)
	for _, e := range l.endpointsOn("r0-s0") { // FRR 8.4 bears one more than the limit
		if err := l.Move(t.Context(), e.Name, "r1-s0"); err != nil {
			t.Fatal(err)
		}
	}
	lossy(t, l, pair{"r0-s1", "r1-s0", fabric.IPv4}, pair{"r0-s1", "r1-s0", fabric.IPv6})
}

// contested: of two servers with one address, one is not reached: which one, is chance.
func contested(t *testing.T, l *Lab) {
	in := 0
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		got := volley(t, l)
		in++
		for _, f := range l.Design.Families {
			if got[pair{"r1-s0", "r0-s0", f}] == shots && got[pair{"r1-s0", "r0-s1", f}] == shots {
				in = 0
			}
		}
		if in == 10 {
			return
		}
	}
	t.Error("both servers are reached")
}

// apart: with one plane down nothing passes on the other.
func apart(t *testing.T, l *Lab) {
	lossy(t, l, pair{"r0-s0", "r1-s0", fabric.IPv4}, pair{"r0-s0", "r1-s0", fabric.IPv6})
}

// lossy waits until packets of these pairs are lost, all of them, for a while.
func lossy(t *testing.T, l *Lab, pairs ...pair) {
	t.Helper()
	in := 0
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		got := volley(t, l)
		in++
		for _, p := range pairs {
			if got[p] > 0 {
				in = 0
			}
		}
		if in == 10 {
			return
		}
	}
	t.Errorf("packets of %v arrive", pairs)
}
