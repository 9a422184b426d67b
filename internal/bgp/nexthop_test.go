// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// oracle stands in for a routing table: it answers the speaker from a map.
type oracle struct {
	n  *node
	mu sync.Mutex
	is map[netip.Addr]NextHop
	in map[netip.Addr]bool // in use
}

func startOracle(t *testing.T, n *node) *oracle {
	o := &oracle{n: n, is: map[netip.Addr]NextHop{}, in: map[netip.Addr]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			used, unused, err := n.NextHops(ctx)
			if err != nil {
				return
			}
			o.mu.Lock()
			var states []NextHop
			for _, a := range used {
				o.in[a] = true
				if s, ok := o.is[a]; ok {
					states = append(states, s)
				}
			}
			for _, a := range unused {
				delete(o.in, a)
			}
			o.mu.Unlock()
			n.SetNextHops(states)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return o
}

func (o *oracle) say(h NextHop) {
	o.mu.Lock()
	o.is[h.Addr] = h
	o.mu.Unlock()
	o.n.SetNextHops([]NextHop{h})
}

func (o *oracle) uses(a netip.Addr) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.in[a]
}

// RFC 4271 section 9.1.2.1: a path whose next hop is not known to be reachable
// is no candidate, one whose next hop goes loses, and of equal paths the
// nearer next hop wins (section 9.1.2.2 e), for both families. What is
// selected is what is passed on.
func TestRFC4271_9_1_2_1_NextHopTracking(t *testing.T) {
	mid, a, b, out := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	nm := startNode(t, nodeConfig(64512, mid, peerTo(a, 64512), peerTo(b, 64512), peerTo(out, 65000)), Options{TrackNextHops: true})
	na := startNode(t, nodeConfig(64512, a, peerTo(mid, 64512)), Options{})
	nb := startNode(t, nodeConfig(64512, b, peerTo(mid, 64512)), Options{})
	startNode(t, nodeConfig(65000, out, peerTo(mid, 64512)), Options{}).OriginationsComplete()
	o := startOracle(t, nm)
	for _, n := range []*node{nm, na, nb} {
		n.OriginationsComplete()
	}
	for _, c := range []struct {
		prefix string
		a, b   netip.Addr
	}{
		{"10.7.0.0/24", na.cfg.NextHop4, nb.cfg.NextHop4},
		{"fd07::/64", na.cfg.NextHop6, nb.cfg.NextHop6},
	} {
		na.originate(c.prefix)
		nb.originate(c.prefix)
		prefix := netip.MustParsePrefix(c.prefix)
		received := RouteFilter{View: ViewReceived, Prefix: prefix}
		eventually(t, "both paths are there", func() bool { v4, v6 := nm.Count(received); return v4+v6 == 2 })
		eventually(t, "both next hops are asked for", func() bool { return o.uses(c.a) && o.uses(c.b) })
		if h := nm.hops(c.prefix); h != "" {
			t.Errorf("%s: selected %q before anything is known of the next hops", c.prefix, h)
		}
		for _, r := range nm.Routes(received) {
			if !r.Accepted || r.Best || !strings.Contains(r.Reason, "not known yet") {
				t.Errorf("%s: shown as %+v", c.prefix, r)
			}
		}
		o.say(NextHop{Addr: c.a, Usable: true, Cost: 20})
		nm.waitHops(c.prefix, c.a.String())
		eventually(t, "passed on", func() bool { return strings.Contains(strings.Join(nm.advertised(out), " "), c.prefix) })
		o.say(NextHop{Addr: c.b, Usable: true, Cost: 20})
		nm.waitHops(c.prefix, c.a.String()+" "+c.b.String())
		o.say(NextHop{Addr: c.b, Usable: true, Cost: 10})
		nm.waitHops(c.prefix, c.b.String())
		o.say(NextHop{Addr: c.b, Why: "no route"})
		nm.waitHops(c.prefix, c.a.String())
		o.say(NextHop{Addr: c.a, Why: "no route"})
		nm.waitHops(c.prefix, "")
		eventually(t, "withdrawn", func() bool { return !strings.Contains(strings.Join(nm.advertised(out), " "), c.prefix) })
		for _, r := range nm.Routes(received) {
			if r.Reason != "next hop "+r.NextHop.String()+" is not usable: no route" {
				t.Errorf("%s: shown as %+v", c.prefix, r)
			}
		}
		o.say(NextHop{Addr: c.a, Usable: true})
		nm.waitHops(c.prefix, c.a.String())
		na.withdraw(c.prefix)
		nb.withdraw(c.prefix)
		eventually(t, "gone", func() bool { v4, v6 := nm.Count(received); return v4+v6 == 0 })
	}
}

// What was learned is complete only when something is known of every next hop:
// otherwise the routes of an earlier process would be removed while the paths
// that confirm them wait for an answer.
func TestConvergedWaitsForNextHops(t *testing.T) {
	a, b := freeAddr(t), freeAddr(t)
	na := startNode(t, nodeConfig(64512, a, peerTo(b, 64512)), Options{})
	na.originate("10.8.0.0/24", "fd08::/64")
	na.OriginationsComplete()
	nb := startNode(t, nodeConfig(64512, b, peerTo(a, 64512)), Options{TrackNextHops: true, Restarting: true})
	nb.OriginationsComplete()
	eventually(t, "End-of-RIB has come", func() bool { return len(nb.peer(a).EndOfRIB) == 2 })
	select {
	case <-nb.Converged():
		t.Fatal("converged although no next hop is known")
	default:
	}
	startOracle(t, nb).say(NextHop{Addr: na.cfg.NextHop4, Usable: true})
	nb.waitHops("10.8.0.0/24", na.cfg.NextHop4.String())
	select {
	case <-nb.Converged():
		t.Fatal("converged although one next hop is not known")
	default:
	}
	nb.SetNextHops([]NextHop{{Addr: na.cfg.NextHop6, Why: "no route"}})
	eventually(t, "converged", func() bool {
		select {
		case <-nb.Converged():
			return true
		default:
			return false
		}
	})
}

// A next hop of which nothing was said is not waited for any more when its last path is
// withdrawn.
func TestConvergedWithoutWithdrawnNextHop(t *testing.T) {
	a, b := freeAddr(t), freeAddr(t)
	na := startNode(t, nodeConfig(64512, a, peerTo(b, 64512)), Options{})
	na.originate("10.8.0.0/24", "fd08::/64")
	na.OriginationsComplete()
	nb := startNode(t, nodeConfig(64512, b, peerTo(a, 64512)), Options{TrackNextHops: true, Restarting: true})
	nb.OriginationsComplete()
	startOracle(t, nb).say(NextHop{Addr: na.cfg.NextHop4, Usable: true})
	nb.waitHops("10.8.0.0/24", na.cfg.NextHop4.String())
	eventually(t, "End-of-RIB has come", func() bool { return len(nb.peer(a).EndOfRIB) == 2 })
	select {
	case <-nb.Converged():
		t.Fatal("converged although one next hop is not known")
	default:
	}
	na.withdraw("fd08::/64")
	select {
	case <-nb.Converged():
	case <-time.After(5 * time.Second):
		t.Error("does not converge")
	}
}

// What a policy for sending is told of the interface that a learned route leads
// through follows its next hop, of both families, and what was sent with it.
func TestInterfaceOfLearnedRoutes(t *testing.T) {
	mid, a, out := freeAddr(t), freeAddr(t), freeAddr(t)
	toOut := peerTo(out, 65000)
	toOut.ExportID = "not over backup"
	toOut.Export = func(r *Route) Verdict {
		if r.Interface == "backup" {
			return Verdict{Refused: RefusedFilter, Detail: "backup"}
		}
		return Verdict{}
	}
	nm := startNode(t, nodeConfig(64512, mid, peerTo(a, 64512), toOut), Options{TrackNextHops: true})
	na := startNode(t, nodeConfig(64512, a, peerTo(mid, 64512)), Options{})
	startNode(t, nodeConfig(65000, out, peerTo(mid, 64512)), Options{}).OriginationsComplete()
	o := startOracle(t, nm)
	nm.OriginationsComplete()
	na.OriginationsComplete()
	na.originate("10.7.0.0/24", "fd07::/64")
	for prefix, hop := range map[string]netip.Addr{"10.7.0.0/24": na.cfg.NextHop4, "fd07::/64": na.cfg.NextHop6} {
		for _, device := range []string{"eth0", "backup", "eth0"} {
			o.say(NextHop{Addr: hop, Usable: true, Device: device})
			nm.waitHops(prefix, hop.String())
			eventually(t, prefix+" is sent unless it leads through backup: "+device, func() bool {
				return strings.Contains(strings.Join(nm.advertised(out), " "), prefix) == (device != "backup")
			})
		}
	}
}

// SessionNextHop: a node is the next hop in each of the subnets in which it has sessions,
// for routes of their family, and towards the others as it is known to all.
func TestSessionNextHop(t *testing.T) {
	t.Parallel()
	us, x, y := freeAddr(t), freeAddr(t), freeAddr(t)
	cfg := nodeConfig(64512, us, peerTo(x, 65001), peerTo(y, 65002))
	known := netip.MustParseAddr("10.255.0.1")
	cfg.NextHop4 = known
	cfg.Peers[0].SessionNextHop = true
	at, elsewhere := startNode(t, nodeConfig(65001, x, peerTo(us, 64512)), Options{}), startNode(t, nodeConfig(65002, y, peerTo(us, 64512)), Options{})
	n := startNode(t, cfg, Options{})
	n.originate("10.1.0.0/26", "fd00:1::/122")
	n.OriginationsComplete()
	at.waitHops("10.1.0.0/26", us.String())
	elsewhere.waitHops("10.1.0.0/26", known.String())
	for _, far := range []*node{at, elsewhere} {
		far.waitHops("fd00:1::/122", cfg.NextHop6.String())
	}
	cfg.Peers[0].SessionNextHop, cfg.Peers[1].SessionNextHop = false, true // and while it is up
	if err := n.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	at.waitHops("10.1.0.0/26", known.String())
	elsewhere.waitHops("10.1.0.0/26", us.String())
	if e := n.peer(x).Established + n.peer(y).Established; e != 2 {
		t.Errorf("%d sessions came up, want two that stay", e)
	}
}
