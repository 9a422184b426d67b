// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// rack is a server with two routers, both FRR's bgpd and bfdd, and a host behind
// both that has several addresses of each family. The server has the way to them
// over both, watched by BFD at 100 ms × 3.
type rack struct {
	n       *cluster.Node
	w       *cluster.Workload
	routers []*lab.Host
	far     *lab.Namespace
	there   []netip.Addr // addresses of far
}

const farNet4, farNet6 = "203.0.113.0/24", "2001:db8:fa::/64"

func newRack(t *testing.T) *rack {
	t.Helper()
	c := startCluster(t, 1)
	r := &rack{n: c.Nodes[0]}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r.far, err = c.Lab.Namespace("far")
	must(err)
	for i := 1; i <= 6; i++ {
		r.there = append(r.there, netip.MustParseAddr(fmt.Sprint("203.0.113.", i)), netip.MustParseAddr(fmt.Sprint("2001:db8:fa::", i)))
	}
	for _, a := range r.there {
		must(r.far.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())))
	}
	docs := allowAll
	for i := 1; i <= 2; i++ {
		name := fmt.Sprint("tor", i)
		h, err := c.Lab.Host(c.Fabric, name, netip.MustParsePrefix(fmt.Sprintf("10.0.0.1%d/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00::1%d/64", i)))
		must(err)
		r.routers = append(r.routers, h)
		for _, s := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			must(h.SetSysctl(s, "1"))
		}
		must(lab.Veth(lab.End{NS: h.Namespace, Name: "down"}, lab.End{NS: r.far, Name: name}))
		for j, e := range []lab.End{{NS: h.Namespace, Name: "down"}, {NS: r.far, Name: name}} {
			must(e.NS.AddAddr(e.Name, netip.MustParsePrefix(fmt.Sprintf("10.%d.0.%d/24", i, j+1))))
			must(e.NS.AddAddr(e.Name, netip.MustParsePrefix(fmt.Sprintf("fd0%d::%d/64", i, j+1))))
		}
		must(h.AddRoute(netip.MustParsePrefix(farNet4), netip.MustParseAddr(fmt.Sprintf("10.%d.0.2", i)), "down"))
		must(h.AddRoute(netip.MustParsePrefix(farNet6), netip.MustParseAddr(fmt.Sprintf("fd0%d::2", i)), "down"))
		startFRR(t, h.Namespace, map[string]string{"bfdd": "", "bgpd": fmt.Sprintf(`route-map six permit 10
 set ipv6 next-hop global fd00::1%d
exit
router bgp 65010
 bgp router-id 10.0.0.1%[1]d
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.0.0.1 remote-as 64512
 neighbor 10.0.0.1 timers connect 1
 neighbor 10.0.0.1 bfd 3 100 100
 address-family ipv4 unicast
  network %[2]s
 exit-address-family
 address-family ipv6 unicast
  network %[3]s
  neighbor 10.0.0.1 activate
  neighbor 10.0.0.1 route-map six out
 exit-address-family
`, i, farNet4, farNet6)})
		docs += fmt.Sprintf("---\nkind: BGPPeer\nmetadata: {name: %s, annotations: {muslin/bfd: Enabled, muslin/bfd-interval: 100ms}}\nspec: {peerIP: 10.0.0.1%d, asNumber: 65010}\n", name, i)
	}
	apply(t, c, docs)
	r.w = attach(t, r.n, "w")
	// The way back is the first router, for both families.
	must(r.far.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.1.0.1"), "tor1"))
	must(r.far.AddRoute(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd01::1"), "tor1"))
	r.ways(t, 2)
	watching(t, r.n, 2)
	return r
}

// ways polls until the server's kernel has so many next hops to the far host.
func (r *rack) ways(t *testing.T, want int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		found := 0
		for _, route := range routesOf(t, r.n) {
			if (route.Prefix == farNet4 || route.Prefix == farNet6) && route.State == "installed" && len(route.NextHops) == want {
				found++
			}
		}
		if found != 2 {
			return fmt.Errorf("want %d next hops to both networks: %+v", want, routesOf(t, r.n))
		}
		return nil
	})
}

// flows starts a stream to each address of the far host, or from each.
func (r *rack) flows(t *testing.T, pps int, back bool) (list []*lab.Flow) {
	t.Helper()
	for i, a := range r.there {
		own := r.w.V4
		if a.Is6() {
			own = r.w.V6
		}
		cfg := lab.FlowConfig{From: r.w.Namespace, Src: own, To: r.far, Dst: netip.AddrPortFrom(a, 9000), PPS: pps}
		if back {
			cfg = lab.FlowConfig{From: r.far, Src: a, To: r.w.Namespace, Dst: netip.AddrPortFrom(own, uint16(9100+i)), PPS: pps}
		}
		f, err := lab.StartFlow(cfg)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := f.WaitDelivered(ctx, 10); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// TestB15_BFDWithFRR: an agent that is killed loses nothing in either direction
// while BFD watches its sessions with FRR: the paths stay up, and FRR keeps its
// routes. Then a router is cut off without a link going down: the streams that went
// over it go over the other. How long that took is printed; the limit is generous,
// because the machine may be busy, and far below the hold time. No other test runs
// beside it: FRR's bfdd has to be scheduled within 300 ms, all along.
func TestB15_BFDWithFRR(t *testing.T) {
	labtest.Programs(t, "frr", "/usr/lib/frr/bgpd", "/usr/lib/frr/bfdd", "/usr/bin/vtysh")
	r := newRack(t)
	there, back := r.flows(t, 100, false), r.flows(t, 100, true)
	before := watching(t, r.n, 2)
	r.n.Kill()
	heard := watching(t, r.n, 2).Sessions[0].PacketsIn
	eventually(t, 20*time.Second, func() error {
		if now := watching(t, r.n, 2).Sessions[0].PacketsIn; now < heard+20 {
			return fmt.Errorf("%d packets were heard, then %d", heard, now)
		}
		return nil
	})
	if err := r.n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := r.n.Live(t.Context(), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error {
		out, err := r.n.Muslin(t.Context(), "bgp", "peers")
		if err == nil && strings.Count(out, "Established") != 2 {
			err = fmt.Errorf("bgp peers: %s", out)
		}
		return err
	})
	r.ways(t, 2)
	if after := watching(t, r.n, 2); after.PID != before.PID {
		t.Errorf("the BFD process is %d, was %d", after.PID, before.PID)
	}
	for _, s := range watching(t, r.n, 2).Sessions {
		if s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	}
	for _, f := range slices.Concat(there, back) {
		if report := f.Stop(2 * time.Second); report.Lost > 0 {
			t.Errorf("while the agent was away: %v", report)
		}
	}

	there = r.flows(t, 500, false)
	cut := time.Now()
	if err := r.routers[0].Port.Isolate(); err != nil {
		t.Fatal(err)
	}
	r.ways(t, 1)
	moved := time.Since(cut)
	// All of them arrive again.
	for _, f := range there {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := f.WaitDelivered(ctx, f.Report().Delivered+100); err != nil {
			t.Error(err)
		}
		cancel()
	}
	var worst time.Duration
	hit := 0
	for _, f := range there {
		report := f.Stop(time.Second)
		if report.Lost > 0 {
			hit++
		}
		worst = max(worst, report.MaxGap)
	}
	t.Logf("a router of two is cut off, BFD 100 ms × 3: %d of %d streams went over it and were silent for %v at most; its next hops were gone after %v (seen by polling)",
		hit, len(there), worst.Round(time.Millisecond), moved.Round(time.Millisecond))
	if hit == 0 {
		t.Error("no stream went over the router that was cut off")
	}
	if worst > 5*time.Second {
		t.Errorf("streams were silent for %v", worst)
	}
}
