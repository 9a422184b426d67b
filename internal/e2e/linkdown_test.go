// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/node/api"
)

// TestLinkDown: sessions with another AS end with the link that the neighbour is on, long before the hold time, and although the neighbour
// has announced graceful restart; they are back as soon as the link is. It is lost at the other end, by carrier, and set down here.
func TestLinkDown(t *testing.T) {
	t.Parallel()
	labtest.Require(t)
	labtest.Programs(t, "frr", "/usr/lib/frr/bgpd", "/usr/bin/vtysh")
	labtest.Programs(t, "iproute2", "/usr/sbin/ip")
	c := newCluster(t, unnumberedServers())
	n := c.Nodes[0]
	tor := newLinkTor(t, c, 1)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct{ tor, srv string }{{"10.9.1.1/24", "10.9.1.2/24"}, {"fd09:1::1/64", "fd09:1::2/64"}} {
		must(tor.AddAddr("srv", netip.MustParsePrefix(x.tor)))
		must(n.AddAddr(tor.name, netip.MustParsePrefix(x.srv)))
	}
	startFRR(t, tor.Namespace, map[string]string{"bgpd": fmt.Sprintf(`router bgp 65001
 bgp router-id 192.0.2.1
 bgp graceful-restart
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.9.1.2 remote-as 64512
 neighbor 10.9.1.2 timers 30 90
 neighbor 10.9.1.2 timers connect 1
 neighbor fd09:1::2 remote-as 64512
 neighbor fd09:1::2 timers 30 90
 neighbor fd09:1::2 timers connect 1
 address-family ipv4 unicast
  network %s
 exit-address-family
 address-family ipv6 unicast
  neighbor fd09:1::2 activate
  network %s
 exit-address-family
`, farNet4, farNet6)})
	must(c.StartAll(t.Context()))
	apply(t, c, allowAll+`---
kind: BGPPeer
metadata: {name: tor4, annotations: {muslin/hold-time: 90s}}
spec: {peerIP: 10.9.1.1, asNumber: 65001, sourceAddress: None}
---
kind: BGPPeer
metadata: {name: tor6, annotations: {muslin/hold-time: 90s}}
spec: {peerIP: "fd09:1::1", asNumber: 65001, sourceAddress: None}
`)
	live(t, c)
	state := func() map[string]api.Peer {
		t.Helper()
		var p api.Peers
		must(n.API().Get(t.Context(), "/v1/bgp/peers", nil, &p))
		m := map[string]api.Peer{}
		for _, s := range p.Peers {
			m[s.Name] = s
		}
		return m
	}
	established := func(want bool, times uint64, within time.Duration) {
		t.Helper()
		eventually(t, within, func() error {
			peers := state()
			for name, s := range peers {
				if (s.State == "Established") != want || s.Established != times {
					return fmt.Errorf("%s is %s, and was Established %d times: %s", name, s.State, s.Established, s.LastError)
				}
			}
			if len(peers) != 2 {
				return fmt.Errorf("peers: %v", peers)
			}
			return nil
		})
	}
	established(true, 1, 30*time.Second)
	for i, x := range []struct {
		name     string
		down, up func() error
	}{
		{"no carrier", func() error { return tor.LinkDown("srv") }, func() error {
			return errors.Join(tor.LinkUp("srv"), tor.AddAddr("srv", netip.MustParsePrefix("fd09:1::1/64"))) // the kernel has taken it
		}},
		{"set down here", func() error { return n.LinkDown(tor.name) }, func() error {
			return errors.Join(n.LinkUp(tor.name), n.AddAddr(tor.name, netip.MustParsePrefix("fd09:1::2/64")))
		}},
	} {
		must(x.down())
		established(false, uint64(i+1), 2*time.Second)
		for name, s := range state() {
			if s.Stale > 0 || s.Received > 0 {
				t.Errorf("%s: %s has %+v", x.name, name, s)
			}
		}
		if out, err := n.Muslin(t.Context(), "bgp", "peers"); err != nil || strings.Contains(out, "Established") || !strings.Contains(out, "interface tor1 is down or has no carrier") {
			t.Errorf("%s: %v\n%s", x.name, err, out)
		}
		must(x.up())
		established(true, uint64(i+2), 10*time.Second)
	}
}
