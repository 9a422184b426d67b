// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab/cluster"
)

var failpoints = flag.Int("failpoints", 20, "at how many of its writes and calls TestP09_DeathAtEveryWrite kills the daemon, and has half of them fail; 0 for all")

// step is one direction of a change, through the datastore or the daemon's API. The
// other is beside it.
type step struct {
	name string
	do   func() error
}

// steps are changes that the second server takes part in. With each pair of them all is as before.
func (g *guardedServers) steps(t *testing.T) []step {
	t.Helper()
	ctx := t.Context()
	n1, n2 := g.Nodes[0], g.Nodes[1]
	run := func(verb, docs string) func() error {
		docs = strings.ReplaceAll("\n"+docs, "\nkind:", "\napiVersion: projectcalico.org/v3\nkind:")
		return func() error { _, err := n1.MuslinIn(ctx, docs, verb, "-f", "-"); return err }
	}
	document := func(name, docs string) []step {
		return []step{{name, run("apply", docs)}, {"no " + name, run("delete", docs)}}
	}
	attached := func(name string, n *cluster.Node, more ...string) []step {
		ns, err := g.Lab.Workload(name)
		if err != nil {
			t.Fatal(err)
		}
		more = append(more, "--label", "member=yes")
		return []step{
			{"attach " + name, func() error { _, err := n.AttachNamespace(ctx, ns, name, more...); return err }},
			{"detach " + name, func() error { _, err := n.Muslin(ctx, "endpoint", "detach", name); return err }},
		}
	}
	// An endpoint in a pool of its own, whose block the first server announces or does not.
	pool := func(hidden bool) func() error {
		return run("apply", fmt.Sprintf("kind: IPPool\nmetadata: {name: p9}\nspec: {cidr: 10.99.0.0/24, disableBGPExport: %v}\n", hidden))
	}
	far := attached("far", n1, "--ip", "10.99.0.5")
	// A set that has had networks stays one of networks while it is in use, so it has one from the start.
	nets := run("apply", "kind: GlobalNetworkSet\nmetadata: {name: always, labels: {member: \"yes\"}}\nspec: {nets: [198.51.100.0/24, \"2001:db8:51::/64\"]}\n")
	for _, do := range []func() error{nets, pool(false), far[0].do} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	var own []string // always the same addresses
	for _, p := range blocksOf(t, n2) {
		a := p.Addr().AsSlice()
		a[len(a)-1] += 50
		at, _ := netip.AddrFromSlice(a)
		own = append(own, "--ip", at.String())
	}
	return slices.Concat(
		document("a policy", `
kind: GlobalNetworkPolicy
metadata: {name: more}
spec:
  selector: has(member)
  order: 10
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [99]}, source: {nets: [192.0.2.0/24]}}
  - {action: Allow, protocol: UDP, destination: {ports: [99]}, source: {nets: ["2001:db8::/64"]}}
`),
		document("a set", `
kind: GlobalNetworkSet
metadata: {name: others, labels: {member: "yes"}}
spec: {nets: [203.0.113.0/24, "2001:db8:113::/64"]}
`),
		document("translation", `
kind: IPPool
metadata: {name: p8}
spec: {cidr: 10.98.0.0/24, natOutgoing: true}
`),
		[]step{{"withdraw", pool(true)}, {"announce", pool(false)}},
		attached("here", n2, own...))
}

// failpoint is one write of a step, or one call to the datastore.
type failpoint struct {
	step  int
	class class
	at    int // within its class, counted from 1
	what  string
}

// class is what failpoints are counted in: which files are written depends on when the datastore was
// saved last, and what is written to the kernel does not.
type class int

const (
	toKernel class = iota
	toFiles
	toEtcd
	classes
)

// TestP09_DeathAtEveryWrite kills a daemon before each write to the kernel or to its files and each
// call to the datastore that a change, or a restart, takes, and behind such calls, and starts it again;
// then it has them fail once. What both models forbid never arrives, what both allow is never lost,
// and the kernel ends as it does undisturbed.
func TestP09_DeathAtEveryWrite(t *testing.T) {
	g := startGuarded(t, 2)
	exchanged(t, g.Cluster)
	n1, n2 := g.Nodes[0], g.Nodes[1]
	r := &failing{T: t, n: n2, table: openNFT(t, n2.Namespace)}
	way := newGate(t, &r.counters[toEtcd], func() int { return n2.Process().Pid() },
		func(ctx context.Context) (net.Conn, error) { return n1.Dial(ctx, "tcp", "127.0.0.1:2379") })
	n2.Args = append(n2.Args, "--etcd", way.url) // the last one counts
	r.steps = append(g.steps(t), step{"restart", r.restart}, step{"nothing", func() error { return nil }})
	r.n.Kill()
	r.live()
	allowed, forbidden := g.traffic(t, 100, 100)
	points := r.undisturbed()
	if len(points) < 30 {
		t.Errorf("%d failpoints, want 30 or more: %v", len(points), points)
	}
	t.Logf("%d failpoints: %d writes to the kernel, %d to files, %d calls to the datastore", len(points),
		of(points, toKernel), of(points, toFiles), of(points, toEtcd))
	for i, f := range []fate{fateKilled, fateForgotten, fateFails} {
		some := points
		if f == fateForgotten { // of a write nobody waits for an answer
			some = slices.DeleteFunc(slices.Clone(points), func(p failpoint) bool { return p.class != toEtcd })
		}
		if n := *failpoints >> i; *failpoints > 0 {
			some = spread(some, n)
		}
		r.all(some, f)
	}
	allowed.lossless(t)
	forbidden.silent(t)
}

func of(points []failpoint, c class) (n int) {
	for _, p := range points {
		if p.class == c {
			n++
		}
	}
	return n
}

// spread takes n of the points, from all of them.
func spread(points []failpoint, n int) (some []failpoint) {
	n = min(n, len(points))
	for i := range n {
		some = append(some, points[i*len(points)/n])
	}
	return some
}

// all has one fate meet the daemon at each of the points.
func (r *failing) all(points []failpoint, f fate) {
	r.Helper()
	start, reached := time.Now(), 0
	for i := range r.steps {
		for _, p := range points {
			if p.step != i {
				continue
			}
			if r.meet(p, f) {
				reached++
			} else {
				r.Logf("%s, %s: not reached", p.what, f)
			}
		}
		r.pass(i)
	}
	r.Logf("%s: at %d of %d points, in %v", f, reached, len(points), time.Since(start).Round(time.Millisecond))
	if missed := len(points) - reached; missed > max(1, len(points)/8) {
		r.Errorf("%s: too few of the points were there again", f)
	}
}

// failing is a daemon whose writes and calls fail.
type failing struct {
	*testing.T
	n        *cluster.Node
	table    *nft
	steps    []step
	want     []string // the kernel before each step, and after the last
	counters [classes]counter
}

// live waits until the daemon is, and starts it again if it has been ended.
func (r *failing) live() {
	r.Helper()
	for range 2 {
		if !r.n.Running() {
			startTraced(r.T, r.n, &r.counters[toKernel], &r.counters[toFiles])
		}
		err := r.n.Live(r.Context(), 15*time.Second)
		if err == nil {
			return
		}
		if r.n.Running() {
			r.Fatal(err)
		}
	}
	r.Fatal("the daemon ends again and again: ", r.n.Log())
}

// restart ends the daemon in order, and starts it.
func (r *failing) restart() error {
	_ = r.n.Stop(10 * time.Second) // it may be killed at that
	startTraced(r.T, r.n, &r.counters[toKernel], &r.counters[toFiles])
	return nil
}

// saved tells whether the daemon has saved what the datastore holds, and writes down what changes.
func (r *failing) saved() bool {
	_, err := os.Stat(filepath.Join(r.n.StateDir(), "datastore.journal"))
	return err == nil
}

// ready waits until it has: it does so within 1.5 s of a start, and then not for a minute.
func (r *failing) ready() {
	r.Helper()
	for end := time.Now().Add(2 * time.Second); !r.saved() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if !r.saved() {
		r.n.Kill()
		r.live()
	}
	eventually(r.T, 10*time.Second, func() error {
		if !r.saved() {
			return errors.New("the datastore has not been saved")
		}
		return nil
	})
}

// state is what the kernel has of the daemon; interfaces that come again have another number.
func (r *failing) state() string {
	r.Helper()
	text := r.table.ruleset(r.T)
	for _, family := range []string{"-4", "-6"} {
		routes, err := output(r.n.Namespace, "ip", family, "route", "show")
		if err != nil {
			r.Fatal(err)
		}
		text += "\n" + routes
	}
	return text
}

// is waits until the kernel has what it had undisturbed.
func (r *failing) is(what, want string) {
	r.Helper()
	eventually(r.T, 15*time.Second, func() error {
		if got := r.state(); got != want {
			return fmt.Errorf("%s: the kernel has\n%s\nnot\n%s", what, got, want)
		}
		return nil
	})
}

// pass takes a step undisturbed.
func (r *failing) pass(i int) {
	r.Helper()
	for c := range r.counters {
		r.counters[c].arm(0, fateNone)
	}
	if err := r.steps[i].do(); err != nil {
		r.Fatalf("%s: %v", r.steps[i].name, err)
	}
	r.live()
	if len(r.want) > i+1 {
		r.is(r.steps[i].name, r.want[i+1])
	}
}

// undisturbed takes all steps, and returns what is written and asked by them.
func (r *failing) undisturbed() (points []failpoint) {
	r.Helper()
	want := []string{r.state()}
	for i, s := range r.steps {
		r.ready()
		r.pass(i)
		last := want[len(want)-1]
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if now := r.state(); now != last || !r.saved() { // a route that another server announces may come later
				last, end = now, time.Now().Add(300*time.Millisecond)
			}
		}
		want = append(want, last)
		for c := range r.counters {
			for at, what := range r.counters[c].counted() {
				points = append(points, failpoint{i, class(c), at + 1, s.name + ": " + what})
			}
		}
	}
	r.want = want
	return points
}

// meet takes a step, in which one point meets its fate, and takes it back. It returns false
// if it did not come to that.
func (r *failing) meet(p failpoint, f fate) bool {
	r.Helper()
	if p.class != toKernel {
		r.ready()
	}
	s, back, at := r.steps[p.step], r.steps[p.step^1], &r.counters[p.class]
	at.arm(p.at, f)
	err := s.do()
	reached := at.reached(func() bool {
		return r.n.Live(r.Context(), 50*time.Millisecond) == nil && r.state() == r.want[p.step+1] && (p.class == toKernel || r.saved())
	})
	at.arm(0, fateNone)
	if reached && f != fateFails {
		eventually(r.T, 5*time.Second, func() error {
			if r.n.Running() && s.name != "restart" {
				return errors.New("it has not been ended")
			}
			return nil
		})
	}
	r.live()
	if err != nil { // it has been taken in part: as it is asked for, it is finished
		if err = s.do(); err != nil {
			r.Logf("%s: once more: %v", p.what, err)
			err = errors.Join(back.do(), s.do())
		}
		if err != nil {
			r.Errorf("%s: %v", p.what, err)
		}
		r.live()
	}
	r.is(p.what, r.want[p.step+1])
	if err := back.do(); err != nil {
		r.Errorf("%s: back: %v", p.what, err)
	}
	r.live()
	r.is(p.what+", taken back", r.want[p.step])
	return reached
}
