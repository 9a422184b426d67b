// SPDX-License-Identifier: Apache-2.0

package bgp

import "testing"

// TestControlPlaneOnly names nothing to whoever programs the kernel while the
// node forwards nothing, and everything when it comes to forward; what it tells
// its peers is the same.
func TestControlPlaneOnly(t *testing.T) {
	a, b := pair(t, 64512, 65001, nil)
	a.originate("10.1.0.0/26", "fd00:1::/122")
	b.waitHops("10.1.0.0/26", a.cfg.NextHop4.String())
	set := func(only bool) {
		t.Helper()
		b.cfg.ControlPlaneOnly = only
		if err := b.SetConfig(b.cfg); err != nil {
			t.Fatal(err)
		}
	}
	due := func() (n int) { b.ask(func() { n = b.Speaker.pending.len() }); return n }
	set(true)
	a.originate("10.1.1.0/26", "fd00:1:1::/122")
	eventually(t, "b has the routes", func() bool { return len(b.Routes(RouteFilter{})) >= 4 })
	if n := due(); n != 0 || b.hops("10.1.1.0/26") != "" {
		t.Errorf("%d prefixes are due to nobody; next hops %q", n, b.hops("10.1.1.0/26"))
	}
	set(false)
	b.waitHops("10.1.1.0/26", a.cfg.NextHop4.String())
	b.waitHops("fd00:1:1::/122", a.cfg.NextHop6.String())
}
