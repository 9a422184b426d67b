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

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// settle waits until every daemon is live and every server routes to every
// workload.
func settle(t *testing.T, c *cluster.Cluster, ws ...*cluster.Workload) {
	t.Helper()
	ctx := context.Background()
	if err := c.AllLive(ctx, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		for _, w := range ws {
			if err := n.Routed(ctx, 30*time.Second, w.Addrs...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// families runs f for each of a workload's first addresses.
func families(w *cluster.Workload) map[string]netip.Addr {
	return map[string]netip.Addr{"IPv4": w.V4, "IPv6": w.V6}
}

// streams are flows with what they stand for, received on ports from one on.
type streams struct {
	port  uint16
	flows map[string]*lab.Flow
}

func newStreams(port uint16) *streams { return &streams{port, map[string]*lab.Flow{}} }

// begin starts a flow of each family from one workload to another.
func (s *streams) begin(t *testing.T, from, to *cluster.Workload, pps int, echo bool) {
	t.Helper()
	for family, dst := range families(to) {
		f, err := lab.StartFlow(lab.FlowConfig{From: from.Namespace, To: to.Namespace, Dst: netip.AddrPortFrom(dst, s.port), PPS: pps, Echo: echo})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Stop(0) })
		s.flows[from.Name+" to "+to.Name+" "+family] = f
		s.port++
	}
}

// running waits until every flow has delivered something.
func (s *streams) running(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	for name, f := range s.flows {
		if err := f.WaitDelivered(ctx, 3); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// lossless ends the flows and fails the test if one lost a datagram.
func (s *streams) lossless(t *testing.T) {
	t.Helper()
	sent, gap := 0, time.Duration(0)
	for name, f := range s.flows {
		r := f.Stop(3 * time.Second)
		sent, gap = sent+r.Sent, max(gap, r.MaxGap)
		if r.Lost > 0 || r.SendErrors > 0 {
			t.Errorf("%s: %v", name, r)
		}
	}
	t.Logf("%d datagrams on %d allowed flows, longest gap %v", sent, len(s.flows), gap.Round(time.Millisecond))
}

// silent ends the flows and fails the test if one delivered a datagram.
func (s *streams) silent(t *testing.T) {
	t.Helper()
	sent := 0
	for name, f := range s.flows {
		r := f.Stop(0)
		sent += r.Sent
		if r.Delivered > 0 || r.Sent == 0 {
			t.Errorf("forbidden, %s: %v", name, r)
		}
	}
	t.Logf("%d datagrams on %d forbidden flows", sent, len(s.flows))
}

// TestFabricCarriesTheWorkloadsOwnPacket follows a datagram from one workload
// to another: in between it is seen with the workloads' own addresses and
// ports, in no tunnel, and one hop older after each server.
func TestFabricCarriesTheWorkloadsOwnPacket(t *testing.T) {
	c := startCluster(t, 2)
	a, b := attach(t, c.Nodes[0], "a"), attach(t, c.Nodes[1], "b")
	apply(t, c, allowAll)
	settle(t, c, a, b)

	leave, err := a.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer leave.Close()
	link, err := c.Nodes[1].Port.Capture()
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	arrive, err := b.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer arrive.Close()

	const port = 7000
	flows := newStreams(port)
	flows.begin(t, a, b, 100, true)
	flows.running(t)
	flows.lossless(t)
	for family, dst := range families(b) {
		src := families(a)[family]
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		there := func(f lab.Frame) bool { return f.Proto == lab.ProtoUDP && f.Dst == dst && f.DstPort-port < 2 }
		var frames []lab.Frame
		for _, at := range []*lab.Capture{leave, link, arrive} {
			g, err := at.Next(ctx, there)
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, g)
		}
		for i, g := range frames {
			if g.Src != src || g.SrcPort != frames[0].SrcPort || string(g.Payload) != string(frames[0].Payload) || len(g.Data) != len(frames[0].Data) {
				t.Errorf("%s after %d servers: %v, was %v", family, i, g, frames[0])
			}
			if want := frames[0].TTL - uint8(i); g.TTL != want {
				t.Errorf("%s after %d servers: TTL %d, want %d", family, i, g.TTL, want)
			}
		}
		t.Logf("%s: TTL %d, %d, %d", family, frames[0].TTL, frames[1].TTL, frames[2].TTL)
	}

	// Whatever else is on the cable belongs to the servers: sessions over TCP,
	// neighbour discovery, and the reports of multicast listeners, which come some
	// time after a link is up (RFC 3810) and whose ICMPv6 is behind an option.
	listeners := netip.MustParseAddr("ff02::16")
	server := func(p netip.Addr) bool {
		return c.Nodes[0].V4.Masked().Contains(p) || c.Nodes[0].V6.Masked().Contains(p)
	}
	rest, err := link.Drain(func(f lab.Frame) bool { return f.EtherType != lab.EtherARP && f.Proto != lab.ProtoICMPv6 })
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range rest {
		own := slices.Contains(a.Addrs, f.Src) && slices.Contains(b.Addrs, f.Dst) || slices.Contains(b.Addrs, f.Src) && slices.Contains(a.Addrs, f.Dst)
		session := server(f.Src) && server(f.Dst) && f.Proto == lab.ProtoTCP
		report := f.Src.IsLinkLocalUnicast() && f.Dst == listeners
		if !own && !session && !report {
			t.Errorf("on the fabric link: %v", f)
		}
	}
	for _, n := range c.Nodes {
		plainLinks(t, n)
	}
}

// plainLinks fails the test if a server has more than its uplink and the
// workloads' interfaces: a bridge, a virtual switch, a tunnel.
func plainLinks(t *testing.T, n *cluster.Node) {
	t.Helper()
	h, err := n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		at := l.Attrs()
		// A kernel with tunnel modules gives every namespace a device of each,
		// which is down and passes nothing.
		idle := at.RawFlags&unix.IFF_UP == 0 && slices.Contains([]string{"ipip", "sit", "gre", "gretap", "erspan", "ip6tnl", "ip6gre", "vti", "vti6"}, l.Type())
		if at.Name != "lo" && l.Type() != "veth" && !idle {
			t.Errorf("%s has %s of type %s", n.Server.Name, at.Name, l.Type())
		}
	}
}

// TestFabricCutOff pulls the cable of a server: the others take its routes
// away within the hold time, and among them nothing is lost. It is plugged in
// again, and all is as before.
func TestFabricCutOff(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"ServerWithEtcd", "AnotherServer"} {
		cut := []int{0, 2}[i]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cutOff(t, cut)
		})
	}
}

func cutOff(t *testing.T, cut int) {
	const hold, margin = 9 * time.Second, 4 * time.Second
	c := startCluster(t, 3)
	apply(t, c, allowAll)
	var ws []*cluster.Workload
	for i, n := range c.Nodes {
		ws = append(ws, attach(t, n, fmt.Sprint("w", i+1)))
	}
	lost := ws[cut]
	neighbour := attach(t, lost.Node, "neighbour")
	settle(t, c, append(ws, neighbour)...)

	var rest []*cluster.Workload
	for _, w := range ws {
		if w != lost {
			rest = append(rest, w)
		}
	}
	kept := newStreams(20000)
	kept.begin(t, rest[0], rest[1], 100, true)
	kept.begin(t, rest[1], rest[0], 100, true)
	kept.begin(t, lost, neighbour, 100, true) // on the lonely server life goes on too
	kept.running(t)
	before := map[*cluster.Node][]string{}
	for _, n := range c.Nodes {
		before[n] = routesText(t, n.Namespace)
	}

	down := time.Now()
	if err := lost.Node.Port.Down(); err != nil {
		t.Fatal(err)
	}
	eventually(t, hold+margin, func() error {
		for _, w := range rest {
			for _, a := range lost.Addrs {
				if inKernel(t, w.Node.Namespace, a) {
					return fmt.Errorf("%s still has a route to %v", w.Node.Server.Name, a)
				}
			}
		}
		return nil
	})
	withdrawn := time.Since(down)
	t.Logf("withdrawn %v after the cable was pulled", withdrawn.Round(time.Millisecond))
	// A hold timer that is shorter than agreed would tear sessions for nothing.
	if withdrawn < 5*time.Second {
		t.Errorf("withdrawn after %v, before the hold time of %v could be over", withdrawn, hold)
	}
	for i, w := range rest {
		for _, a := range rest[1-i].Addrs {
			if !inKernel(t, w.Node.Namespace, a) {
				t.Errorf("%s lost its route to %v, whose server is connected", w.Node.Server.Name, a)
			}
		}
	}
	// Some more seconds alone, so that whatever retries in vain does so.
	if o := rest[0].Probe(context.Background(), lab.Probe{Proto: lab.ICMP, Dst: lost.V4, Timeout: 2 * time.Second}); o.Verdict == lab.Reached {
		t.Errorf("a cable that is pulled carries packets")
	}

	up := time.Now()
	if err := lost.Node.Port.Up(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error {
		for n, want := range before {
			if got := routesText(t, n.Namespace); !slices.Equal(got, want) {
				return fmt.Errorf("%s has routes\n%s\nwant\n%s", n.Server.Name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		return nil
	})
	t.Logf("routes are back %v after the cable was plugged in", time.Since(up).Round(time.Millisecond))
	if err := c.AllLive(context.Background(), 30*time.Second); err != nil {
		t.Error(err)
	}
	t.Logf("all is live %v after the cable was plugged in", time.Since(up).Round(time.Millisecond))
	again := newStreams(21000)
	for _, w := range rest {
		again.begin(t, w, lost, 100, true)
		again.begin(t, lost, w, 100, true)
	}
	again.running(t)
	again.lossless(t)
	kept.lossless(t)
}

// TestFabricDeadAgent kills an agent and does not start it again: packets to
// its workloads go on, until the restart time ends and its routes go.
func TestFabricDeadAgent(t *testing.T) {
	t.Parallel()
	const restart = 5 * time.Second
	c := startCluster(t, 3)
	apply(t, c, allowAll+`---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeMeshMaxRestartTime: 5s}
`)
	a, b, dead := attach(t, c.Nodes[0], "a"), attach(t, c.Nodes[1], "b"), attach(t, c.Nodes[2], "dead")
	settle(t, c, a, b, dead)
	flows, kept := newStreams(20000), newStreams(21000)
	flows.begin(t, a, dead, 100, true)
	flows.begin(t, dead, b, 100, true)
	kept.begin(t, a, b, 100, true)
	flows.running(t)
	kept.running(t)

	killed := time.Now()
	dead.Node.Kill()
	gone := func() error {
		for _, n := range []*cluster.Node{a.Node, b.Node} {
			for _, x := range dead.Addrs {
				if inKernel(t, n.Namespace, x) {
					return fmt.Errorf("%s still has a route to %v", n.Server.Name, x)
				}
			}
		}
		return nil
	}
	// Until shortly before the end nothing is lost.
	for time.Since(killed) < restart-time.Second {
		if gone() == nil {
			t.Fatalf("routes went %v after the agent's death, before the restart time of %v", time.Since(killed), restart)
		}
		time.Sleep(50 * time.Millisecond)
	}
	flows.lossless(t)
	eventually(t, restart+5*time.Second-time.Since(killed), gone)
	t.Logf("routes went %v after the agent's death, restart time %v", time.Since(killed).Round(time.Millisecond), restart)

	// What the dead agent has programmed stays, and so does everybody else.
	for _, x := range append(a.Addrs, b.Addrs...) {
		if !inKernel(t, dead.Node.Namespace, x) {
			t.Errorf("the server without an agent lost its route to %v", x)
		}
	}
	if err := dead.Node.Start(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	settle(t, c, a, b, dead)
	t.Logf("routes are back %v after the agent was started", time.Since(started).Round(time.Millisecond))
	flows = newStreams(22000)
	flows.begin(t, a, dead, 100, true)
	flows.begin(t, dead, b, 100, true)
	flows.running(t)
	flows.lossless(t)
	kept.lossless(t)
}
