// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// B15: a process whose datastore is away for longer than the restart time has
// heard no peer when it gets its first configuration, and has not converged: what
// its predecessor learned stays for the whole restart time from there on.
func TestB15_RestartTimeCountsFromFirstConfig(t *testing.T) {
	us, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for _, c := range []struct {
		name    string
		peers   []PeerConfig
		unknown bool
		after   time.Duration // from the configuration to convergence
	}{
		{"a peer that does not answer", []PeerConfig{peerTo(other, 64512)}, false, DefaultRestartTime},
		{"a peer that is not found", nil, true, DefaultRestartTime},
		{"no peers", nil, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{
					Restarting: true,
					Dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
						return nil, errors.New("nobody there")
					},
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { _ = s.Run(ctx) }()
				go func() { _, _ = s.NextBest(ctx) }()
				converged := func() bool {
					synctest.Wait()
					select {
					case <-s.Converged():
						return true
					default:
						return false
					}
				}
				time.Sleep(DefaultRestartTime + time.Hour)
				if converged() {
					t.Fatal("converged without a configuration")
				}
				cfg := nodeConfig(64512, us, c.peers...)
				cfg.Listen, cfg.PeersUnknown = nil, c.unknown
				if err := s.SetConfig(cfg); err != nil {
					t.Fatal(err)
				}
				if c.after > 0 {
					time.Sleep(c.after - time.Second)
					if converged() {
						t.Fatal("converged before the restart time was over")
					}
					time.Sleep(2 * time.Second)
				}
				if !converged() {
					t.Error("not converged")
				}
			})
		})
	}
}
