// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
)

// RFC 5082 with BIRD, whoever connects: what one of both sends is near enough for the
// other, the SYN-ACK of a listening socket included.
func TestInterop_BIRD_RFC5082(t *testing.T) {
	needBird(t)
	for _, tr := range []struct{ name, ours, theirs string }{
		{"v4", "10.99.0.1", "10.99.0.2"},
		{"v6", "fd99::1", "fd99::2"},
	} {
		for _, weDial := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/weDial=%v", tr.name, weDial), func(t *testing.T) {
				t.Parallel()
				sp := newSpace(t, "10.99.0.1/32", "10.99.0.2/32", "fd99::1/128", "fd99::2/128")
				dir, err := os.MkdirTemp("", "bird")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.RemoveAll(dir) })
				passive := "off"
				if weDial {
					passive = "on"
				}
				b := &bird{t: t, sp: sp, dir: dir, conf: fmt.Sprintf(`
router id 10.99.0.2;
protocol device {}
protocol bgp muslin {
	local %s port 1790 as 64512;
	neighbor %s port 1790 as 64512;
	multihop 2; ttl security on; passive %s; strict bind on;
	connect delay time 1; connect retry time 1; error wait time 1, 2;
	ipv4; ipv6;
}
`, tr.theirs, tr.ours, passive)}
				b.start()
				local, addr := netip.MustParseAddr(tr.ours), netip.MustParseAddr(tr.theirs)
				pc := PeerConfig{Name: "bird", Addr: netip.AddrPortFrom(addr, 1790), LocalAddr: local, ASN: 64512, TTLSecurity: 2, Passive: !weDial}
				n := startNode(t, Config{
					ASN: 64512, RouterID: netip.MustParseAddr("10.99.0.1"),
					Listen:   []netip.AddrPort{netip.AddrPortFrom(local, 1790)},
					NextHop4: netip.MustParseAddr("10.99.0.1"), NextHop6: netip.MustParseAddr("fd99::1"),
					Peers: []PeerConfig{pc},
				}, sp.options())
				n.waitUp(addr)
			})
		}
	}
}
