// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"net"
	"net/netip"
	"slices"
)

// Peers of listen ranges over a restart of ours. They are in no configuration,
// so a process that restarts would wait for none of them, and what its
// predecessor learned from them would leave the kernel before they are back. The
// daemon is told who they are, remembers it, and tells the next process.

// dynamicPeers is what DynamicPeers answers. It belongs to the loop.
type dynamicPeers struct {
	news   bool
	asking []chan<- []netip.Addr
	bound  timer // of the wait for those that are expected
}

// expect makes peers of those that Options.Expected names, if a range still has
// them. They are dynamic peers like others, but waited for, for the restart time at most.
func (s *Speaker) expect() {
	list := s.opt.Expected
	s.opt.Expected = nil
	for _, a := range list {
		if p, err := s.dynamic(a); err == nil {
			p.expected = true
		}
	}
	if len(list) > 0 {
		s.dynamics.bound.set(s, s.restartTime(), func() {
			for _, p := range s.peers {
				if p.expected {
					p.expected = false
					s.forgetLater(p)
				}
			}
			s.checkConverged()
			s.releaseEOR()
		})
	}
	s.dynamics.news = true
}

// DynamicPeers waits until the peers that came from listen ranges have changed,
// and returns all there are; the first call, once there is a configuration. It
// returns ctx's error, or net.ErrClosed when Run has ended. Meant for one consumer.
func (s *Speaker) DynamicPeers(ctx context.Context) ([]netip.Addr, error) {
	ch := make(chan []netip.Addr, 1)
	s.post(func() { s.dynamics.asking = append(s.dynamics.asking, ch) })
	select {
	case list := <-ch:
		return list, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// answerDynamic gives what is new to whoever asked; the loop calls it after each
// batch of input. Who never had a session is not worth remembering.
func (s *Speaker) answerDynamic() {
	d := &s.dynamics
	if !d.news || len(d.asking) == 0 {
		return
	}
	var list []netip.Addr
	for _, p := range s.peers {
		if p.dynamic && (p.hadUp || p.expected) {
			list = append(list, p.cfg.Addr.Addr())
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	d.asking[0] <- list
	d.asking, d.news = d.asking[1:], false
}
