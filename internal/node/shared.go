// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"time"
)

// linger is for how long an address is announced on its own, inside of a block that is announced, after another node
// has given it up: longer than it takes for that to reach everybody. Who hears of both at once has nowhere to send
// packets to but the node that has it no more, until that is withdrawn, too.
const linger = 2 * time.Second

// shared are the local addresses that an endpoint of another node has, too, or had a moment ago, with the time until
// which these count; zero for the others.
type shared struct {
	until map[netip.Addr]time.Time
	at    <-chan time.Time // look again
}

// look takes the addresses that there are here now.
func (s *shared) look(local []netip.Addr, elsewhere func(netip.Addr) bool, now time.Time) {
	was := s.until
	s.until = map[netip.Addr]time.Time{}
	for _, a := range local {
		until, counted := was[a]
		switch {
		case elsewhere(a):
			s.until[a] = time.Time{}
		case counted && until.IsZero():
			s.until[a], s.at = now.Add(linger), time.After(linger)
		case counted && now.Before(until):
			s.until[a] = until
		}
	}
}

func (s *shared) has(a netip.Addr) bool {
	_, yes := s.until[a]
	return yes
}
