// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"cmp"
	"net/netip"
	"slices"
)

// Why a prefix is routed as it is. Every reason comes from the code that
// decides: import policy is asked again, the election is held again with a
// witness, and export says what it would do.

// Why is all that is known of one prefix.
type Why struct {
	Prefix netip.Prefix `json:"prefix"`
	// Paths are those that were received or originated here, the best one first.
	Paths []WhyPath `json:"paths,omitempty"`
	// Peers say who sent it and who is told of it, one of each session.
	Peers []WhyPeer `json:"peers,omitempty"`
}

// WhyPath is one path and how it fared.
type WhyPath struct {
	RouteInfo
	// Lost is how it lost the election; nil when it won, or took no part:
	// then RouteInfo.Reason says why.
	Lost *Lost `json:"lost,omitempty"`
}

// Lost is a step of the decision process that a path did not survive.
type Lost struct {
	Step  string `json:"step"`
	Value string `json:"value"` // of this path
	To    string `json:"to"`    // of the one that beat it
	Peer  string `json:"peer"`  // whose that is; empty for what is originated here
	// Used says that traffic is spread over it all the same: it is equal to the
	// best path in all that counts for that (section 9.1.2.2 up to the interior cost).
	Used bool `json:"used,omitempty"`
}

// WhyPeer is what one session has to do with the prefix.
type WhyPeer struct {
	Name  string         `json:"name"`
	Addr  netip.AddrPort `json:"address"`
	State string         `json:"state"`
	Error string         `json:"lastError,omitempty"`
	// Sent tells whether the peer sent the prefix, and Complete whether it
	// said that it sent all it has (End-of-RIB, RFC 4724 section 2).
	Sent     bool `json:"sent"`
	Complete bool `json:"complete"`
	// OverLimit tells whether prefixes of the family were turned away, of which
	// this may be one.
	OverLimit bool `json:"overLimit,omitempty"`
	// Told tells whether the peer is told of the prefix, and NotTold why not.
	Told    bool   `json:"told"`
	NotTold string `json:"notTold,omitempty"`
}

// Why explains a prefix that is in the table, and for an address, or a
// prefix that is not, the longest one that contains it; and then the next
// shorter one, until one has a best path, because that is where packets go. The
// first answer is about what was asked when nothing matches.
func (s *Speaker) Why(asked netip.Prefix) (out []Why) {
	s.ask(func() { out = s.explain(asked.Masked()) })
	return out
}

func (s *Speaker) explain(asked netip.Prefix) (out []Why) {
	for bits := asked.Bits(); bits >= 0; bits-- {
		p := netip.PrefixFrom(asked.Addr(), bits).Masked()
		head, ok := s.rib.table.Get(p)
		if !ok {
			continue
		}
		out = append(out, s.why(p, head))
		if best(head) != nil {
			break
		}
	}
	if len(out) == 0 {
		out = append(out, s.why(asked, nil))
	}
	return out
}

func (s *Speaker) why(prefix netip.Prefix, head *path) Why {
	w := Why{Prefix: prefix}
	losses := map[*path]*Lost{}
	s.rib.elect(head, func(p, to *path, by *step) {
		losses[p] = &Lost{Step: by.name, Value: by.value(&s.rib, p), To: by.value(&s.rib, to), Peer: s.info(prefix, to, ViewBest).PeerName}
	})
	for p := head; p != nil; p = p.next {
		path := WhyPath{RouteInfo: s.info(prefix, p, ViewBest), Lost: losses[p]}
		if path.Lost != nil {
			path.Lost.Used = p.flags&pathMulti != 0
		}
		w.Paths = append(w.Paths, path)
	}
	slices.SortStableFunc(w.Paths, func(a, b WhyPath) int { return standingOf(a) - standingOf(b) })
	for _, p := range s.peers {
		w.Peers = append(w.Peers, s.whyPeer(p, prefix, head))
	}
	slices.SortFunc(w.Peers, func(a, b WhyPeer) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.Addr.Compare(b.Addr)) })
	return w
}

// standingOf orders paths for people: the best, its equals, the losers, the
// unusable, the refused.
func standingOf(p WhyPath) int {
	switch {
	case p.Best:
		return 0
	case p.Multipath:
		return 1
	case p.Lost != nil:
		return 2
	case p.Accepted:
		return 3
	}
	return 4
}

func (s *Speaker) whyPeer(p *peer, prefix netip.Prefix, head *path) WhyPeer {
	w := WhyPeer{Name: p.cfg.Name, Addr: p.cfg.Addr, State: p.state.String(), Error: p.trouble()}
	for q := head; q != nil; q = q.next {
		w.Sent = w.Sent || q.peer == p.slot
	}
	f := familyOf(prefix.Addr())
	if p.est == nil {
		w.NotTold = "there is no session"
		return w
	}
	w.Complete, w.OverLimit = p.gotEOR[f], p.over[f] && p.cfg.OverLimit == LimitDiscard
	g := p.group
	told := s.desired(nil, g, prefix, head)
	for _, t := range told {
		s.rib.attrs.release(t.a)
	}
	if w.Told = len(told) > 0; !w.Told {
		// With several paths per prefix the best one speaks for them.
		a, why := s.exportRoute(g, prefix, best(head))
		s.rib.attrs.release(a)
		w.NotTold = why
	}
	g.cache = nil // it holds no references beyond this
	return w
}
