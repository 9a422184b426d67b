// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"time"
)

// linger is for how long an address is announced on its own, inside of a block that is announced, after another node
// has given it up: longer than it takes for that to reach everybody. Only neighbours hear of it then: they have told
// others of the address, who may have told them, and without a better way each would believe that for a moment.
const linger = 2 * time.Second

// sharing is whether an address of a local endpoint is an endpoint's of another node, too.
type sharing uint8

const (
	alone      sharing = iota
	together           // another node has it, too
	aloneAgain         // one had it a moment ago
)

// shared are the local addresses that other nodes have, too, or had a moment ago, with the time until which that
// counts; zero for the others.
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

func (s *shared) of(a netip.Addr) sharing {
	switch until, counted := s.until[a]; {
	case !counted:
		return alone
	case until.IsZero():
		return together
	}
	return aloneAgain
}
