// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

// crosses: the host outside sees a public address as it is, and in place of a private one that of a
// border; it reaches public endpoints, which see it as it is, and no private one.
func crosses(t *testing.T, l *Lab, endpoints int) {
	t.Helper()
	c, err := l.Cross(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range c.Wrong {
		t.Error(w)
	}
	// Of the two families one is public: it is called from outside, too.
	if c.Tries != 3*endpoints || c.Inward != endpoints || c.Translated != endpoints {
		t.Errorf("%s; want %d", c.Summary(), 3*endpoints)
	}
	host, err := l.space(outside)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range l.Endpoints()[0].Addrs {
		want := lab.Unreachable
		if l.public(a) {
			want = lab.Reached
		}
		if o := host.Probe(t.Context(), lab.Probe{Proto: lab.ICMP, Dst: a}); o.Verdict != want {
			t.Errorf("from outside %s is %s, want %s: %v", a, o.Verdict, want, o.Err)
		}
	}
}

// edgeFails: with a border down, and its port to the outside with it, the others carry everything; with a cable to it, the
// other spines.
func edgeFails(t *testing.T, l *Lab, endpoints int, what string) {
	t.Helper()
	down := Failed{what, ByCarrier}
	if err := l.Fail(down); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	crosses(t, l, endpoints)
	if err := l.Heal(t.Context(), down.What); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	crosses(t, l, endpoints)
}

// withdraws: of two servers with an address one gives it up, and the other serves all; then it is back.
func withdraws(t *testing.T, l *Lab) {
	t.Helper()
	var gone []Endpoint
	for _, e := range l.Endpoints() {
		if e.Anycast && e.Server == "r0-s0" {
			gone = append(gone, e)
		}
	}
	if len(gone) != 2 {
		t.Fatalf("%d anycast endpoints on r0-s0", len(gone))
	}
	probe := func() {
		t.Helper()
		settled(t, l)
		for _, from := range l.Endpoints() {
			if from.Anycast {
				continue
			}
			n, err := l.space(from.Name)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range gone {
				if o := n.Probe(t.Context(), lab.Probe{Proto: lab.ICMP, Dst: e.Addrs[0]}); o.Verdict != lab.Reached {
					t.Errorf("%s to %s: %s %v", from.Name, e.Addrs[0], o.Verdict, o.Err)
				}
			}
		}
	}
	for _, e := range gone {
		if err := l.Move(t.Context(), e.Name, ""); err != nil {
			t.Fatal(err)
		}
	}
	probe()
	for _, e := range gone {
		if err := l.Move(t.Context(), e.Name, e.Server); err != nil {
			t.Fatal(err)
		}
	}
	probe()
}

// TestWithout: an address taken out of a range leaves what is before and behind it.
func TestWithout(t *testing.T) {
	d := design(t, "model: as-per-rack, endpoints: {perServer: 5}").Index().Device("r0-s0")
	of := func(n int) netip.Addr { return endpointsOf(d)[n].Addrs[0] }
	for n := range 5 {
		left := *d
		left.Originate = without(d.Originate, of(n))
		var have []netip.Addr
		for _, o := range left.Originate {
			if o.Prefix.Addr().Is4() && o.Kind == "endpoints" {
				for i := range o.Count {
					have = append(have, fabric.Nth(o.Prefix, i).Addr())
				}
			}
		}
		var want []netip.Addr
		for i := range 5 {
			if i != n {
				want = append(want, of(i))
			}
		}
		if !slices.Equal(have, want) {
			t.Errorf("without %s: %v, want %v", of(n), have, want)
		}
	}
}
