// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestRoutesInPages lists more than fits into a page, received and advertised,
// while what lies behind comes and goes: what stays is there once, in order.
func TestRoutesInPages(t *testing.T) {
	a, b := pair(t, 64512, 65001, nil)
	var stay []string
	for i := range 3 * viewPage {
		stay = append(stay, fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255))
	}
	stay = append(stay, "fd00:1::/122")
	a.originate(stay...)
	b.waitHops("fd00:1::/122", a.cfg.NextHop6.String())
	eventually(t, "b has all", func() bool { v4, v6 := b.Count(RouteFilter{}); return v4 == 3*viewPage && v6 == 1 })
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			time.Sleep(time.Millisecond) // or the queue of changes would grow without end
			p := []Origination{{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.200.0.%d/32", i%250))}}
			a.Originate(p, nil)
			a.Originate(nil, []netip.Prefix{p[0].Prefix})
		}
	}()
	for name, list := range map[string][]RouteInfo{
		"received":   b.Routes(RouteFilter{}),
		"best":       b.Routes(RouteFilter{View: ViewBest}),
		"advertised": a.Routes(RouteFilter{View: ViewAdvertised}),
	} {
		var got []string
		for _, r := range list {
			if !netip.MustParsePrefix("10.200.0.0/24").Contains(r.Prefix.Addr()) {
				got = append(got, r.Prefix.String())
			}
		}
		if !slices.Equal(got, stay) {
			t.Errorf("%s: %d routes, want %d in their order", name, len(got), len(stay))
		}
	}
	close(stop)
	<-done
	in := netip.MustParsePrefix("10.0.1.0/24")
	if got := b.Routes(RouteFilter{Prefix: in}); len(got) != 256 {
		t.Errorf("%d routes inside %v", len(got), in)
	}
	if v4, v6 := a.Count(RouteFilter{View: ViewAdvertised, Prefix: in}); v4 != 256 || v6 != 0 {
		t.Errorf("%d and %d are advertised inside %v", v4, v6, in)
	}
	for _, prefix := range []string{"0.0.0.0/0", "10.0.1.0/24", "10.0.1.7/32", "fd00:1::/122", "::/0"} {
		f := RouteFilter{Prefix: netip.MustParsePrefix(prefix), Exact: true}
		want := map[string]int{"10.0.1.7/32": 1, "fd00:1::/122": 1}[prefix]
		v4, v6 := b.Count(f)
		f.View = ViewAdvertised
		if told := a.Routes(f); v4+v6 != want || len(told) != want || want == 1 && told[0].Prefix != f.Prefix {
			t.Errorf("exactly %s: %d, advertised %v; want %d", prefix, v4+v6, told, want)
		}
	}
	if got := b.Routes(RouteFilter{Limit: 10}); len(got) != 10 {
		t.Errorf("%d routes, want 10", len(got))
	}
}
