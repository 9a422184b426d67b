// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/bfdd"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// meshBFD has the sessions between servers watched.
const meshBFD = `
kind: BGPConfiguration
metadata: {name: default, annotations: {muslin/bfd: Enabled, muslin/bfd-interval: 100ms}}
spec: {}
`

// watching polls until a server has so many BFD sessions and all are Up.
func watching(t *testing.T, n *cluster.Node, sessions int) (r bfdd.Report) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		out, err := n.Muslin(t.Context(), "bfd", "sessions", "-o", "json")
		if err != nil {
			return err
		}
		r = bfdd.Report{}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return err
		}
		for _, s := range r.Sessions {
			if s.State != "Up" {
				return fmt.Errorf("%s: %s is %s: %v", n.Server.Name, s.Peer, s.State, r.Problems)
			}
		}
		if len(r.Sessions) != sessions {
			return fmt.Errorf("%s: %d BFD sessions, want %d", n.Server.Name, len(r.Sessions), sessions)
		}
		return nil
	})
	return r
}

// TestB15_BFDAndGracefulRestart: with BFD at 100 ms × 3, agents are killed and
// stay away for longer than it takes to detect a dead path. BFD does not fail, no
// datagram is lost, and the process is the same one afterwards. Then a path
// dies without a link going down, and its routes go long before the hold time is over.
func TestB15_BFDAndGracefulRestart(t *testing.T) {
	c := startCluster(t, 2)
	ctx := context.Background()
	apply(t, c, allowAll+"---"+meshBFD)
	a, b := attach(t, c.Nodes[0], "a"), attach(t, c.Nodes[1], "b")
	live(t, c)
	exchanged(t, c)
	before := []bfdd.Report{watching(t, c.Nodes[0], 1), watching(t, c.Nodes[1], 1)}
	flows := newStreams(20000)
	flows.begin(t, a, b, 200, true)
	flows.begin(t, b, a, 200, true)
	flows.running(t)
	for i, n := range c.Nodes {
		n.Kill()
		heard := watching(t, n, 1).Sessions[0].PacketsIn
		eventually(t, 20*time.Second, func() error {
			// For five detection times.
			if now := watching(t, n, 1).Sessions[0].PacketsIn; now < heard+15 {
				return fmt.Errorf("%d packets were heard, then %d", heard, now)
			}
			return nil
		})
		if out, err := n.Muslin(ctx, "bfd", "sessions"); err != nil || !strings.Contains(out, "no agent is connected") {
			t.Errorf("without an agent: %v: %s", err, out)
		}
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		if err := c.AllLive(ctx, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		exchanged(t, c)
		after := watching(t, n, 1)
		if after.PID != before[i].PID || after.Sessions[0].Discriminator != before[i].Sessions[0].Discriminator {
			t.Errorf("%s: another process or session: %+v, was %+v", n.Server.Name, after, before[i])
		}
	}
	for _, n := range c.Nodes {
		if s := watching(t, n, 1).Sessions[0]; s.Failures != 0 || !s.Independent {
			t.Errorf("%s: %+v", n.Server.Name, s)
		}
	}
	flows.lossless(t)

	out, err := c.Nodes[0].Muslin(ctx, "bgp", "peers")
	if err != nil || !strings.Contains(out, " Up ") {
		t.Errorf("bgp peers: %v: %s", err, out)
	}
	// The path dies with 300 ms × 3, the default, to which the sessions change as they are.
	apply(t, c, strings.ReplaceAll(meshBFD, ", muslin/bfd-interval: 100ms", ""))
	for _, n := range c.Nodes {
		eventually(t, 20*time.Second, func() error {
			if s := watching(t, n, 1).Sessions[0]; s.Detect != 900*time.Millisecond || s.Failures != 0 {
				return fmt.Errorf("%s: %+v", n.Server.Name, s)
			}
			return nil
		})
	}
	routes := func() []netip.Addr { return unroutedBy(t, c.Nodes[0], b.Addrs) }
	if missing := routes(); len(missing) > 0 {
		t.Fatalf("no route to %v", missing)
	}
	cut := time.Now()
	if err := c.Nodes[1].Port.Isolate(); err != nil {
		t.Fatal(err)
	}
	// The hold time is 9 s, so what happens before was BFD.
	eventually(t, 5*time.Second, func() error {
		if missing := routes(); len(missing) < len(b.Addrs) {
			return fmt.Errorf("the routes to %v are there, without %v", b.Addrs, missing)
		}
		return nil
	})
	t.Logf("the routes over a dead path went after %v", time.Since(cut).Round(time.Millisecond))
	if err := c.Nodes[1].Port.Join(); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[0].Routed(ctx, 30*time.Second, b.Addrs...); err != nil {
		t.Fatal(err)
	}
	// The path dies while the agent is away: the next one does not wait for who is
	// behind it, whose routes would stay for the rest of the restart time.
	n := c.Nodes[0]
	var behind []string
	for _, r := range routesOf(t, n) {
		if p, err := netip.ParsePrefix(r.Prefix); err == nil && r.Kind == "bgp" && slices.ContainsFunc(b.Addrs, p.Contains) {
			behind = append(behind, r.Prefix)
		}
	}
	if len(behind) != 2 {
		t.Errorf("routes to %v: %v", b.Addrs, behind)
	}
	failures := watching(t, n, 1).Sessions[0].Failures
	n.Kill()
	if err := c.Nodes[1].Port.Isolate(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		r, err := bfdd.Ask(ctx, n.Dir)
		if err == nil && (len(r.Sessions) != 1 || r.Sessions[0].Failures == failures) {
			err = fmt.Errorf("%+v", r.Sessions)
		}
		return err
	})
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	for _, p := range behind {
		wantVia(t, n.Namespace, p, "")
	}
	if err := c.Nodes[1].Port.Join(); err != nil {
		t.Fatal(err)
	}
	if err := n.Routed(ctx, 30*time.Second, b.Addrs...); err != nil {
		t.Fatal(err)
	}
	// What nobody wants any more ends.
	apply(t, c, "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {}\n")
	eventually(t, 20*time.Second, func() error {
		if _, err := bfdd.Ask(ctx, c.Nodes[0].Dir); !bfdd.NotRunning(err) {
			return fmt.Errorf("the process answers: %v", err)
		}
		return nil
	})
	exchanged(t, c)
}

// unroutedBy lists the addresses that a server's kernel has no route of ours to.
func unroutedBy(t *testing.T, n *cluster.Node, addrs []netip.Addr) (missing []netip.Addr) {
	t.Helper()
	list := routesOf(t, n)
	for _, a := range addrs {
		found := false
		for _, r := range list {
			p, err := netip.ParsePrefix(r.Prefix)
			found = found || err == nil && p.Contains(a) && r.Kind == "bgp" && r.State == "installed"
		}
		if !found {
			missing = append(missing, a)
		}
	}
	return missing
}

// TestInterop_BFD_BIRD: BIRD 2 watches the path of its sessions with us, over
// one hop and over several, IPv4 and IPv6, and a path that dies ends them.
func TestInterop_BFD_BIRD(t *testing.T) {
	for _, hops := range []string{"direct", "multihop"} {
		t.Run(hops, func(t *testing.T) {
			needBird(t)
			c := startCluster(t, 1)
			n := c.Nodes[0]
			b := startBird(t, c, strings.ReplaceAll(`
protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; multihop { interval 100 ms; multiplier 3; }; }
protocol bgp b4 from server { local `+bird4+` as 65009; neighbor 10.0.0.1 as 64512; HOPS; bfd on; ipv4 { import all; export where source = RTS_STATIC; }; }
protocol bgp b6 from server { local `+bird6+` as 65009; neighbor fd00::1 as 64512; HOPS; bfd on; ipv6 { import all; export where source = RTS_STATIC; }; }
`, "HOPS", hops))
			multihop := map[string]string{"direct": "Disabled", "multihop": "Enabled"}[hops]
			docs := ""
			for i, p := range []string{bird4, bird6} {
				docs += fmt.Sprintf("---\nkind: BGPPeer\nmetadata: {name: bird-%d, annotations: {muslin/bfd: Enabled, muslin/bfd-interval: 100ms, muslin/bfd-multihop: %s}}\nspec: {peerIP: \"%s\", asNumber: 65009}\n", i, multihop, p)
			}
			apply(t, c, allowAll+docs)
			w := attach(t, n, "w")
			wantVia(t, n.Namespace, birdNet4, bird4)
			wantVia(t, n.Namespace, birdNet6, bird6)
			for _, s := range watching(t, n, 2).Sessions {
				if s.Multihop != (hops == "multihop") {
					t.Errorf("%+v", s)
				}
			}
			if out := b.ask("show", "bfd", "sessions"); strings.Count(out, "Up") != 2 {
				t.Errorf("BIRD: %s", out)
			}
			agentKilled(t, n, w, b)
			cut := time.Now()
			if err := b.host.Port.Isolate(); err != nil {
				t.Fatal(err)
			}
			wantVia(t, n.Namespace, birdNet4, "")
			wantVia(t, n.Namespace, birdNet6, "")
			gone := time.Since(cut)
			t.Logf("routes went after %v", gone.Round(time.Millisecond))
			if out, err := n.Muslin(t.Context(), "bgp", "peers"); err != nil || strings.Count(out, "BFD: the path is down") != 2 {
				t.Errorf("bgp peers: %v: %s", err, out)
			}
			if err := b.host.Port.Join(); err != nil {
				t.Fatal(err)
			}
			wantVia(t, n.Namespace, birdNet4, bird4)
			wantVia(t, n.Namespace, birdNet6, bird6)
			watching(t, n, 2)
		})
	}
}

// agentKilled kills a server's agent for several detection times of BFD, and
// starts it again: streams between a workload and BIRD's network lose nothing, in
// either direction.
func agentKilled(t *testing.T, n *cluster.Node, w *cluster.Workload, b *bird) {
	t.Helper()
	var flows []*lab.Flow
	for six, own := range map[bool]netip.Addr{false: w.V4, true: w.V6} {
		f, err := lab.StartFlow(lab.FlowConfig{From: w.Namespace, Src: own, To: b.host.Namespace, Dst: netip.AddrPortFrom(b.net.addr[six], 9000), PPS: 200, Echo: true})
		if err != nil {
			t.Fatal(err)
		}
		flows = append(flows, f)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := f.WaitDelivered(ctx, 20); err != nil {
			t.Fatal(err)
		}
	}
	early := make([]int, len(flows)) // lost before there was a way
	for i, f := range flows {
		early[i] = f.Report().Lost
	}
	n.Kill()
	heard := watching(t, n, 2).Sessions[0].PacketsIn
	eventually(t, 20*time.Second, func() error {
		if now := watching(t, n, 2).Sessions[0].PacketsIn; now < heard+20 {
			return fmt.Errorf("%d packets were heard, then %d", heard, now)
		}
		return nil
	})
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.Live(t.Context(), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	wantVia(t, n.Namespace, birdNet4, bird4)
	wantVia(t, n.Namespace, birdNet6, bird6)
	for i, f := range flows {
		if r := f.Stop(2 * time.Second); r.Lost > early[i] {
			t.Errorf("while the agent was away: %v", r)
		}
	}
	eventually(t, 30*time.Second, func() error {
		out, err := n.Muslin(t.Context(), "bgp", "peers")
		if err == nil && strings.Count(out, "Established") != 2 {
			err = fmt.Errorf("bgp peers: %s", out)
		}
		return err
	})
	for _, s := range watching(t, n, 2).Sessions {
		if s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	}
}
