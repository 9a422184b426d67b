// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/fabric"
)

// written is what vRouters have in common, and the documents of some of them.
func written(t *testing.T, g *fabric.Design, names ...string) (e *Emitter, common, own string) {
	t.Helper()
	e, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	if common, err = e.Common(); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		text, err := e.Device(g.Index().Device(name), VRouter)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			own += "---\n"
		}
		own += text
	}
	return e, common, own
}

// TestOwnOnly: who is in a full mesh tells a border of its own routes only, whatever runs there, and the others keep
// the border's next hop; reflectors tell of all.
func TestOwnOnly(t *testing.T) {
	g := design(t, specs["ethernet mesh"], "ipv4, ipv6")
	e, common, own := written(t, g, "r0-s0")
	list, err := v3.Decode([]byte(common + "---\n" + own))
	if err != nil {
		t.Fatal(err)
	}
	filters, borders, mesh := 0, 0, 0
	for _, r := range list {
		switch r := r.(type) {
		case *v3.BGPFilter:
			if r.Metadata.Name == "to-border" {
				filters++
				want := []v3.BGPFilterRule{{Source: "RemotePeers", Action: "Reject"}}
				if s := r.Spec; fmt.Sprint(s.ExportV4, s.ExportV6, len(s.ImportV4)+len(s.ImportV6)) != fmt.Sprint(want, want, 0) {
					t.Errorf("%+v", s)
				}
			}
		case *v3.BGPPeer:
			mode, want := r.Spec.NextHopMode, ""
			if r.Spec.ASNumber == 64999 {
				borders++
				if len(r.Spec.Filters) != 1 || r.Spec.Filters[0] != "to-border" {
					t.Errorf("%s: %v", r.Metadata.Name, r.Spec.Filters)
				}
			} else {
				mesh++
				want = "Keep"
			}
			if mode != want {
				t.Errorf("%s: nextHopMode %q, want %q", r.Metadata.Name, mode, want)
			}
		}
	}
	if filters != 1 || borders != 4 || mesh != 5*4 { // two planes, two families
		t.Errorf("%d filters, %d sessions with the border, %d in the mesh:\n%s%s", filters, borders, mesh, common, own)
	}

	db := g.Index().Device("db")
	text, err := e.Device(db, FRR)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, o := range db.Originate {
		for p := range o.Each() {
			n++
			if line := fmt.Sprintf("%s prefix-list own-to-border seq %d permit %s\n", called(p.Addr()).ip, 5*n, p); fabric.FamilyOf(p.Addr()) == fabric.IPv4 && !strings.Contains(text, line) {
				t.Errorf("no %q", line)
			}
		}
	}
	if c := strings.Count(text, "prefix-list own-to-border seq "); n == 0 || c != n+2 || strings.Count(text, " neighbor to-border-4 prefix-list own-to-border out\n") != 1 {
		t.Errorf("%d lines for %d prefixes:\n%s", c, n, text)
	}
	text, err = e.Device(g.Index().Device("lb"), BIRD)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(text, "export filter { if (own4()) then accept; reject; };") != 2 || !strings.Contains(text, "if (source = RTS_BGP || own4()) then") {
		t.Error(text)
	}
	if _, err := e.Device(db, EOS); err == nil || !strings.Contains(err.Error(), "ownOnly") {
		t.Errorf("EOS: %v", err)
	}

	g = design(t, specs["ethernet"], "ipv4")
	_, common, rr := written(t, g, "plane0-rr0")
	if strings.Contains(common, "Reject") || strings.Count(rr, "nextHopMode: Keep") != strings.Count(rr, "kind: BGPPeer") {
		t.Error(rr)
	}
}

// TestPassOn: a reflector that serves a border or a ToR passes on whatever it learned, in the family of the session; one
// that serves vRouters alone needs no filter for it, and neither does a server.
func TestPassOn(t *testing.T) {
	for spec, want := range map[string]string{
		"model: ethernet, border: [{name: b1, as: 64999, default: true}]": "plane0-rr0",
		"model: as-per-rack, inRack: {reflector: standalone}":             "r0-rr0",
		"model: as-per-rack, inRack: {reflector: server}":                 "r0-s0",
		"model: ethernet":    "",
		"model: as-per-rack": "",
	} {
		g := design(t, spec, "ipv4, ipv6")
		var servers []string
		for i := range g.Devices {
			if d := &g.Devices[i]; d.Software == fabric.Muslin {
				servers = append(servers, d.Name)
			}
		}
		_, common, own := written(t, g, servers...)
		list, err := v3.Decode([]byte(common + "---\n" + own))
		if err != nil {
			t.Fatal(err)
		}
		filters, sessions := 0, 0
		for _, r := range list {
			switch r := r.(type) {
			case *v3.BGPFilter:
				if r.Metadata.Name == passOn {
					filters++
					if rules := []v3.BGPFilterRule{{Source: "RemotePeers", Action: "Accept"}}; fmt.Sprint(r.Spec.ExportV4, r.Spec.ExportV6) != fmt.Sprint(rules, rules) {
						t.Errorf("%s: %+v", spec, r.Spec)
					}
				}
			case *v3.BGPPeer:
				if n := len(r.Spec.Filters); n > 0 && r.Spec.Filters[n-1] == passOn { // after the family's, or that would not be asked
					sessions++
				} else if want != "" && r.Spec.Node == want {
					t.Errorf("%s: %s: %v", spec, r.Metadata.Name, r.Spec.Filters)
				}
			}
		}
		if yes := want != ""; filters > 1 || (filters == 1) != yes || (sessions > 0) != yes {
			t.Errorf("%s: %d filters, on %d sessions", spec, filters, sessions)
		}
	}
}

// TestAlone: the session of the only server of a rack is its own, and in its own file.
func TestAlone(t *testing.T) {
	for _, racks := range []string{"1", "2"} {
		g := design(t, "model: as-per-rack, servers: {perRack: 1}, racks: {count: "+racks+"}", "ipv4")
		_, common, own := written(t, g, "r0-s0")
		if strings.Contains(common, "kind: BGPPeer") || strings.Count(own, "kind: BGPPeer") != 1 {
			t.Errorf("%s racks:\n%s\n%s", racks, common, own)
		}
	}
}

// TestNextHopOfBIRD: next hop self is for iBGP if it is to be for what eBGP brought, and on eBGP for all there is.
func TestNextHopOfBIRD(t *testing.T) {
	g := design(t, "model: as-per-rack", "ipv4")
	e, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	d := g.Index().Device("r0-t0")
	for _, c := range []struct {
		self fabric.NextHopSelf
		as   uint32
		want string
	}{
		{fabric.NextHopSelfNone, d.AS, ""}, {fabric.NextHopSelfNone, d.AS + 1, ""},
		{fabric.NextHopSelfEBGP, d.AS, "next hop self ebgp;"}, {fabric.NextHopSelfEBGP, d.AS + 1, "next hop self;"},
		{fabric.NextHopSelfAll, d.AS, "next hop self;"}, {fabric.NextHopSelfAll, d.AS + 1, "next hop self;"},
	} {
		got := ""
		for line := range strings.Lines(e.birdChannel(&fabric.Profile{NextHopSelf: c.self}, fabric.IPv4, d, c.as, false)) {
			if strings.Contains(line, "next hop") {
				got += strings.TrimSpace(line)
			}
		}
		if got != c.want {
			t.Errorf("%q with AS %d: %q, want %q", c.self, c.as, got, c.want)
		}
	}
}
