// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// B15: a restart beside a peer that is dead, in each way, by the clock: within two seconds
// the routes of the living are usable and they have ours again, though the restart time
// is minutes. The clock is a synctest bubble's, which shows what is waited for and
// not how fast the machine is.
func TestB15_RestartBesideTheDeadTakesTwoSeconds(t *testing.T) {
	addr := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }
	us, in, tor, gone := addr(1), addr(2), addr(3), addr(4)
	ours, theirs := []string{"10.1.0.0/26", "fd00:1::/122"}, []string{"10.2.0.0/26", "fd00:2::/122", "203.0.113.0/24", "2001:db8::/48"}
	open := func(asn uint32) []byte {
		b, err := openParams{asn: asn, id: gone, families: familySet{true, true}, restartTime: 100 * time.Second}.marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, dead := range []struct {
		name string
		play func(w *wires, asn uint32) (stop func())
	}{
		{"nobody at the address", func(*wires, uint32) func() { return func() {} }},
		{"TCP without OPEN", func(w *wires, _ uint32) func() { return w.answer(addrPort(gone), nil) }},
		{"OPEN without KEEPALIVE", func(w *wires, asn uint32) func() { return w.answer(addrPort(gone), open(asn)) }},
		{"Established without End-of-RIB", func(w *wires, asn uint32) func() {
			return w.answer(addrPort(gone), cat(open(asn), keepaliveMessage()))
		}},
	} {
		for _, asn := range []uint32{64512, 65009} {
			t.Run(fmt.Sprintf("%s/AS %d", dead.name, asn), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var w wires
					start := func(cfg Config, restarting bool, prefixes ...string) *node {
						opt := w.options()
						opt.Restarting = restarting
						n := startNode(t, cfg, opt)
						n.originate(prefixes...)
						n.OriginationsComplete()
						return n
					}
					cfg := nodeConfig(64512, us, peerTo(in, 64512), peerTo(tor, 65001), peerTo(gone, asn))
					living := []*node{
						start(nodeConfig(64512, in, peerTo(us, 64512)), false, theirs[:2]...),
						start(nodeConfig(65001, tor, peerTo(us, 64512)), false, theirs[2:]...),
					}
					// whole tells whether everybody has all of it, told by the process that runs now.
					whole := func(n *node) bool {
						for _, p := range theirs {
							if n.hops(p) == "" {
								return false
							}
						}
						for _, far := range living {
							for _, p := range ours {
								r := far.Routes(RouteFilter{View: ViewReceived, Peer: us, Prefix: netip.MustParsePrefix(p)})
								if len(r) != 1 || r[0].Stale {
									return false
								}
							}
						}
						return true
					}
					stop := dead.play(&w, asn)
					defer stop()
					before := start(cfg, false, ours...)
					eventually(t, "routes are exchanged", func() bool { return whole(before) })
					var kept []func() bool
					for _, far := range living {
						kept = append(kept, always(far, ours[0]), always(far, ours[1]))
					}
					before.stop()

					began := time.Now()
					n := start(cfg, true, ours...)
					eventually(t, "all is as it was", func() bool { return whole(n) })
					took := time.Since(began)
					t.Logf("routes were exchanged again after %v", took)
					if took > 2*time.Second {
						t.Errorf("routes were exchanged again after %v", took)
					}
					select {
					case <-n.Converged():
						t.Error("converged without the dead one: its routes would leave the kernel")
					default:
					}
					for i, ok := range kept {
						if !ok() {
							t.Errorf("a route was gone for a moment (%d)", i)
						}
					}
				})
			})
		}
	}
}
