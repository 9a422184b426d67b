// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/node/api"
)

// guarded lets members talk to each other and to nobody else: who is no
// member is kept out on arrival, and a mute member when it sends.
const guarded = `
kind: GlobalNetworkPolicy
metadata: {name: mute}
spec: {selector: has(mute), order: 50, types: [Egress], egress: [{action: Deny}]}
---
kind: GlobalNetworkPolicy
metadata: {name: members}
spec:
  selector: all()
  order: 100
  types: [Ingress, Egress]
  ingress: [{action: Allow, source: {selector: has(member)}}]
  egress: [{action: Allow}]
`

// guardedServers is a cluster under the guarded policy, with two members, a
// stranger and a mute member on each server.
type guardedServers struct {
	*cluster.Cluster
	members, strangers, mutes []*cluster.Workload // two members for each server
}

func startGuarded(t *testing.T, n int) *guardedServers {
	t.Helper()
	g := &guardedServers{Cluster: startCluster(t, n)}
	apply(t, g.Cluster, guarded)
	for i, n := range g.Nodes {
		for _, x := range []string{"a", "b"} {
			g.members = append(g.members, attach(t, n, fmt.Sprint(x, i+1), "--label", "member=yes"))
		}
		g.strangers = append(g.strangers, attach(t, n, fmt.Sprint("stranger", i+1)))
		g.mutes = append(g.mutes, attach(t, n, fmt.Sprint("mute", i+1), "--label", "member=yes", "--label", "mute=yes"))
	}
	settle(t, g.Cluster, slices.Concat(g.members, g.strangers, g.mutes)...)
	return g
}

// traffic starts flows between the members of the first two servers, on the
// same and across, and those that must not arrive.
func (g *guardedServers) traffic(t *testing.T, allowedPPS, forbiddenPPS int) (allowed, forbidden *streams) {
	t.Helper()
	allowed, forbidden = newStreams(20000), newStreams(30000)
	a1, b1, a2, b2 := g.members[0], g.members[1], g.members[2], g.members[3]
	for _, p := range [][2]*cluster.Workload{{a1, b1}, {b2, a2}, {a1, a2}, {b2, b1}} {
		allowed.begin(t, p[0], p[1], allowedPPS, true)
	}
	for i := range 2 {
		for _, to := range []*cluster.Workload{a1, a2} {
			forbidden.begin(t, g.strangers[i], to, forbiddenPPS, false)
			forbidden.begin(t, g.mutes[i], to, forbiddenPPS, false)
		}
	}
	allowed.running(t)
	return allowed, forbidden
}

// exchanged waits until every session between the servers is up and both ends
// have heard everything the other had to say.
func exchanged(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		for _, n := range c.Nodes {
			var p api.Peers
			if err := n.API().Get(context.Background(), "/v1/bgp/peers", nil, &p); err != nil {
				return err
			}
			if len(p.Peers) != len(c.Nodes)-1 {
				return fmt.Errorf("%s has %d peers", n.Server.Name, len(p.Peers))
			}
			for _, s := range p.Peers {
				if s.State != "Established" || len(s.EndOfRIB) != 2 || s.Stale > 0 {
					return fmt.Errorf("%s: peer %s is %s, heard the end of %v, %d stale", n.Server.Name, s.Name, s.State, s.EndOfRIB, s.Stale)
				}
			}
		}
		return nil
	})
}

// aftermath is how long a daemon that says it is live is watched for
// writing to the kernel after all.
const aftermath = 500 * time.Millisecond

var crashes = flag.Int("crashes", 3, "how often TestRestartIsInvisible kills a daemon a second after its start")

// restartLimit is how long half of the restarts may take at most.
const restartLimit = 2 * time.Second

// TestRestartIsInvisible ends the agent of each server, by a crash, by
// request, and by one crash after the other (P03), and starts it again: under traffic on the same server and across
// nothing is lost, nothing forbidden arrives, and on no server is any kernel
// object written. Nothing of the lives before is left.
func TestRestartIsInvisible(t *testing.T) {
	g := startGuarded(t, 2)
	exchanged(t, g.Cluster)
	allowed, forbidden := g.traffic(t, 200, 100)

	var monitors []*monitor
	var tables []*nft
	var generations []uint32
	for _, n := range g.Nodes {
		monitors = append(monitors, watchKernel(t, n.Namespace))
		table := openNFT(t, n.Namespace)
		tables, generations = append(tables, table), append(generations, table.generation(t))
	}
	hears(t, g.Nodes[1], monitors[1])
	var starts spans
	round := func(name string, end func() error, nodes ...*cluster.Node) {
		t.Helper()
		if err := end(); err != nil {
			t.Fatal(err)
		}
		ended := time.Now()
		for _, n := range nodes {
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.AllLive(context.Background(), 30*time.Second); err != nil {
			t.Fatal(err)
		}
		live := time.Since(ended)
		starts = append(starts, live)
		exchanged(t, g.Cluster)
		t.Logf("%s: live %v after the start, routes exchanged %v after it", name, live.Round(time.Millisecond), time.Since(ended).Round(time.Millisecond))
		time.Sleep(aftermath)
		quiet(t, name, monitors...)
		for i, table := range tables {
			if got := table.generation(t); got != generations[i] {
				t.Errorf("%s: %d nftables commits on %s", name, got-generations[i], g.Nodes[i].Server.Name)
				generations[i] = got
			}
		}
	}
	for range 3 {
		for _, n := range g.Nodes {
			round("SIGKILL of "+n.Server.Name, func() error { n.Kill(); return nil }, n)
			round("SIGTERM of "+n.Server.Name, func() error { return n.Stop(10 * time.Second) }, n)
		}
		round("SIGKILL of all", func() error { g.Nodes[0].Kill(); g.Nodes[1].Kill(); return nil }, g.Nodes...)
	}
	last := g.Nodes[1]
	left := leftovers(t, last)
	round(fmt.Sprint(*crashes, " crashes of ", last.Server.Name), func() error {
		last.Kill()
		for range *crashes {
			if err := last.Start(); err != nil {
				return err
			}
			time.Sleep(time.Second)
			last.Kill()
		}
		return nil
	}, last)
	if now := leftovers(t, last); now != left {
		t.Errorf("after crashes there is\n%s\nand was\n%s", now, left)
	}
	t.Logf("live: %v", starts)
	if slices.Sort(starts); starts[len(starts)/2] > restartLimit {
		t.Errorf("live after %v", starts)
	}
	allowed.lossless(t)
	for name, f := range forbidden.flows {
		if r := f.Report(); r.Delivered > 0 {
			t.Errorf("forbidden, %s: %v", name, r)
		}
	}
	// They were kept out by the policy and by nothing else.
	apply(t, g.Cluster, allowAllFirst)
	forbidden.running(t)
}

// leftovers is what a daemon could leave behind with each of its lives: sockets in its network namespace, and files.
func leftovers(t *testing.T, n *cluster.Node) string {
	t.Helper()
	var text strings.Builder
	err := n.Do(func() error {
		for _, kind := range []string{"netlink", "unix", "packet", "raw", "raw6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + kind)
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "%d sockets: %s\n", strings.Count(string(b), "\n"), kind)
		}
		return filepath.WalkDir(n.Dir, func(path string, _ fs.DirEntry, err error) error {
			if path == n.StateDir() { // what is saved of the datastore comes a second after a start
				return fs.SkipDir
			}
			fmt.Fprintln(&text, path)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestRestartCatchesUp changes policy and takes an endpoint away while the
// agent of their server is dead. Its successor applies just that.
func TestRestartCatchesUp(t *testing.T) {
	g := startGuarded(t, 2)
	exchanged(t, g.Cluster)
	ctx := context.Background()
	n, a2, b2, stranger := g.Nodes[1], g.members[2], g.members[3], g.strangers[0]
	allowed, opened := newStreams(20000), newStreams(21000)
	allowed.begin(t, g.members[0], a2, 100, true)
	opened.begin(t, stranger, a2, 100, false)
	allowed.running(t)
	n.Kill()
	apply(t, g.Cluster, allowAllFirst)
	if out, err := g.Nodes[0].Muslin(ctx, "delete", "workloadendpoint", "n2-muslin-b2-eth0"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	time.Sleep(aftermath)
	if d := opened.delivered(); d > 0 {
		t.Errorf("%d datagrams passed a server whose agent is dead", d)
	}
	if reached := g.members[0].Probe(ctx, lab.Probe{Proto: lab.ICMP, Dst: b2.V4}); reached.Verdict != lab.Reached {
		t.Errorf("an endpoint went before anybody could take it away: %v", reached.Verdict)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.AllLive(ctx, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	opened.running(t)
	for _, x := range b2.Addrs {
		if r, ok := ourRoute(t, n.Namespace, func(r netlink.Route) bool { return r.Dst.IP.Equal(x.AsSlice()) && isHost(r) }); ok {
			t.Errorf("the route of an endpoint that was deleted is there: %s", routeText(r))
		}
		if o := g.members[0].Probe(ctx, lab.Probe{Proto: lab.ICMP, Dst: x, Timeout: 200 * time.Millisecond}); o.Verdict == lab.Reached {
			t.Errorf("%v answers, whose endpoint was deleted", x)
		}
	}
	if hasGateway(t, n, b2.Interface) {
		t.Errorf("%s of an endpoint that was deleted has gateway addresses", b2.Interface)
	}
	allowed.lossless(t)
}

// hears makes sure that a monitor would notice.
func hears(t *testing.T, n *cluster.Node, m *monitor) {
	t.Helper()
	p := netip.MustParsePrefix("198.51.100.0/24")
	if err := n.AddRoute(p, netip.Addr{}, n.Uplink); err != nil {
		t.Fatal(err)
	}
	if err := n.DelRoute(p, n.Uplink); err != nil {
		t.Fatal(err)
	}
	if got := m.changes(t); len(got) != 2 {
		t.Fatalf("the monitor noticed %v, want a new and a deleted route", got)
	}
}
