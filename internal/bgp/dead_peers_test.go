// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// deadPeers are the ways of being dead: each makes the neighbour at addr so for
// the node that is returned by start.
var deadPeers = []struct {
	name string
	play func(t *testing.T, addr netip.Addr, asn uint32, start func() *node) *node
}{
	{"nobody at the address", func(_ *testing.T, _ netip.Addr, _ uint32, start func() *node) *node { return start() }},
	{"TCP without OPEN", func(t *testing.T, addr netip.Addr, _ uint32, start func() *node) *node {
		l, err := defaultListen(t.Context(), addrPort(addr), nil) // accepts, and says nothing
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return start()
	}},
	{"Established without End-of-RIB", func(t *testing.T, addr netip.Addr, asn uint32, start func() *node) *node {
		n := start()
		r := &rawPeer{t: t, addr: addr}
		r.connect(n)
		b, err := openParams{asn: asn, id: addr, hold: 0, families: familySet{true, true}, restartTime: 100 * time.Second}.marshal()
		if err != nil {
			t.Fatal(err)
		}
		r.write(cat(b, keepaliveMessage()))
		n.waitUp(addr)
		return n
	}},
}

// B15: a restart beside a peer that is dead, in each way, inside the AS and
// outside. The routes of the living are usable and ours are announced to them
// although the restart time has hardly begun; at the living nothing was gone for
// a moment. What the predecessor announced and we do not is swept there: at once
// where only an iBGP peer is dead, with the end of the restart time where one is
// that we pass routes on from. Until then we have not converged, which is what
// keeps the dead one's routes in the kernel.
func TestB15_RFC4724_RestartBesideTheDead(t *testing.T) {
	t.Parallel()
	for _, dead := range deadPeers {
		for _, outside := range []bool{false, true} {
			for _, long := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/outside=%v/long=%v", dead.name, outside, long), func(t *testing.T) {
					t.Parallel()
					restartTime, asn := 100*time.Second, uint32(64512)
					if !long {
						restartTime = 2 * time.Second
					}
					if outside {
						asn = 65009
					}
					us, in, tor, gone := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
					cfg := nodeConfig(64512, us, peerTo(in, 64512), peerTo(tor, 65001), peerTo(gone, asn))
					cfg.RestartTime = restartTime
					inside := startNode(t, nodeConfig(64512, in, peerTo(us, 64512)), Options{})
					router := startNode(t, nodeConfig(65001, tor, peerTo(us, 64512)), Options{})
					inside.originate("10.2.0.0/26", "fd00:2::/122")
					router.originate("203.0.113.0/24", "2001:db8::/48")
					inside.OriginationsComplete()
					router.OriginationsComplete()

					before := startNode(t, cfg, Options{})
					before.originate("10.1.0.0/26", "fd00:1::/122", "10.66.0.0/26")
					before.OriginationsComplete()
					for _, p := range []string{"10.1.0.0/26", "fd00:1::/122", "10.66.0.0/26"} {
						eventually(t, p, func() bool { return inside.hops(p) != "" && router.hops(p) != "" })
					}
					inside.waitHops("203.0.113.0/24", us.String())
					kept := []func() bool{always(inside, "10.1.0.0/26"), always(inside, "fd00:1::/122"), always(router, "10.1.0.0/26"), always(router, "fd00:1::/122")}
					before.stop()

					n := dead.play(t, gone, asn, func() *node {
						n := startNode(t, cfg, Options{Restarting: true})
						n.originate("10.1.0.0/26", "fd00:1::/122")
						n.OriginationsComplete()
						return n
					})
					n.waitHops("10.2.0.0/26", in.String())
					n.waitHops("fd00:2::/122", inside.cfg.NextHop6.String())
					n.waitHops("203.0.113.0/24", tor.String())
					n.waitHops("2001:db8::/48", router.cfg.NextHop6.String())
					for _, far := range []*node{inside, router} {
						eventually(t, "ours are announced again", func() bool {
							for _, p := range []string{"10.1.0.0/26", "fd00:1::/122"} {
								r := far.Routes(RouteFilter{View: ViewReceived, Peer: us, Prefix: netip.MustParsePrefix(p)})
								if len(r) != 1 || r[0].Stale {
									return false
								}
							}
							return true
						})
					}
					inside.waitHops("203.0.113.0/24", us.String())
					swept := func() {
						for _, far := range []*node{inside, router} {
							eventually(t, "what is not announced again is swept", func() bool {
								p := far.peer(us)
								return far.hops("10.66.0.0/26") == "" && p.Stale == 0 && len(p.EndOfRIB) == 2
							})
						}
					}
					if !long {
						<-n.Converged()
						swept()
					} else {
						if !outside {
							swept()
						} else if inside.hops("10.66.0.0/26") == "" {
							t.Error("End-of-RIB did not wait for a peer whose routes we pass on")
						}
						select {
						case <-n.Converged():
							t.Error("converged without the dead one: its routes would leave the kernel")
						default:
						}
					}
					for i, ok := range kept {
						if !ok() && long { // two seconds are nothing on a busy machine
							t.Errorf("a route was gone for a moment (%d)", i)
						}
					}
				})
			}
		}
	}
}
