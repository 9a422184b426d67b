// SPDX-License-Identifier: Apache-2.0

package live

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestOneFamilyDown: that a session of IPv6 is down is no reason why a path of IPv4 is missing.
func TestOneFamilyDown(t *testing.T) {
	g := designOf(t, "model: as-per-rack")
	doc := perfect(t, g)
	far := netip.MustParsePrefix("10.64.16.0/32") // of r1-s0
	edit(doc, "r0-s0", func(s *Seen) {
		i := slices.IndexFunc(s.Peers.Peers, func(p Peer) bool { return p.Addr.Addr().Is6() })
		s.Peers.Peers[i].State, s.Peers.Peers[i].LastError = "Active", "connection refused"
		name := s.Peers.Peers[i].Name
		s.Paths.Routes = slices.DeleteFunc(s.Paths.Routes, func(r BGPRoute) bool { return r.Peer == name || r.Prefix == far })
		s.Routes = slices.DeleteFunc(s.Routes, func(r Route) bool { return r.Kind == "bgp" && r.Prefix.Addr().Is6() || r.Prefix == far })
	})
	a, err := Check(g, doc)
	if err != nil {
		t.Fatal(err)
	}
	var session, path bool
	for _, f := range a.Findings {
		switch {
		case f.Kind == Session && !f.Follows:
			session = true
		case f.Kind == Prefix && f.Prefix == far:
			path = !f.Follows && !strings.Contains(f.Cause, "session")
		case f.Family == fabric.IPv4 || !f.Follows:
			t.Errorf("beside: %+v", f)
		}
	}
	if !session || !path {
		t.Errorf("session found: %v; path found: %v; %+v", session, path, a.Findings)
	}
}

// TestAnnouncedByAnother: a server announces an endpoint of another one, and what the others have of it follows.
func TestAnnouncedByAnother(t *testing.T) {
	g := designOf(t, "model: as-per-rack")
	doc := perfect(t, g)
	far := netip.MustParsePrefix("10.64.16.0/32") // of r1-s0
	edit(doc, "r0-s0", func(s *Seen) {
		s.Paths.Routes = append(s.Paths.Routes, BGPRoute{Prefix: far})
	})
	edit(doc, "r0-s1", func(s *Seen) { // its ToR reflects it, and sends no other
		for i := range s.Paths.Routes {
			if r := &s.Paths.Routes[i]; r.Prefix == far {
				r.NextHop, r.ASPath = g.Index().Device("r0-s0").Interface("r0-t0--rack").Addresses[0].Addr(), nil
			}
		}
	})
	edit(doc, "r1-s0", func(s *Seen) { // and has a path to its own endpoint
		i := slices.IndexFunc(s.Peers.Peers, func(p Peer) bool { return p.Addr.Addr().Is4() })
		s.Paths.Routes = append(s.Paths.Routes, BGPRoute{Prefix: far, Peer: s.Peers.Peers[i].Name, NextHop: s.Peers.Peers[i].Addr.Addr(), ASPath: []uint32{4200000000, 4200001000}})
	})
	a, err := Check(g, doc)
	if err != nil {
		t.Fatal(err)
	}
	first := false
	for _, f := range a.Findings {
		switch {
		case f.Device == "r0-s0" && f.Prefix == far && f.Seen == "announced" && !f.Follows && strings.Contains(f.Cause, "r1-s0"):
			first = true
		case !f.Follows || !strings.Contains(f.Cause, "r0-s0 announces it"):
			t.Errorf("beside it: %+v", f)
		}
	}
	if !first || len(a.Findings) < 4 {
		t.Errorf("%+v", a.Findings)
	}
}

// TestMute: a daemon that does not answer is told of once, what others lack for it follows, and the others are compared.
func TestMute(t *testing.T) {
	g := designOf(t, "model: as-per-rack")
	doc := perfect(t, g)
	own := netip.MustParsePrefix("10.64.0.0/32") // of r0-s0
	doc.VRouters = slices.DeleteFunc(doc.VRouters, func(s Seen) bool { return s.Peers.Node == "r0-s0" })
	doc.Mute = []Mute{{"/run/muslin-lab/x/r0-s0", "refused"}, {"/elsewhere/r0-s0", "refused"}, {"/run/muslin", "gone"}}
	edit(doc, "r1-s0", func(s *Seen) {
		n := len(s.Paths.Routes)
		s.Paths.Routes = slices.DeleteFunc(s.Paths.Routes, func(r BGPRoute) bool { return r.Prefix == own })
		if len(s.Paths.Routes) == n {
			t.Fatalf("r1-s0 has no path to %v", own)
		}
	})
	a, err := Check(g, doc)
	if err != nil {
		t.Fatal(err)
	}
	var first []string
	for _, f := range a.Findings {
		switch {
		case !f.Follows && f.Kind == Device:
			first = append(first, f.Device+": "+f.Seen)
		case f.Device != "r1-s0" || f.Prefix != own || f.Kind == Prefix && !(f.Follows && strings.Contains(f.Cause, "r0-s0 does not answer")):
			t.Errorf("beside: %+v", f)
		}
	}
	if want := []string{"r0-s0: refused", "/run/muslin: gone"}; !slices.Equal(first, want) || len(a.Findings) < 3 {
		t.Errorf("%q, want %q; %+v", first, want, a.Findings)
	}
	if slices.Contains(a.VRouters, "r0-s0") {
		t.Errorf("asked: %v", a.VRouters)
	}
}
