// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/cluster"
)

var failpoints = flag.Int("failpoints", 48, "at how many of its writes TestP09_DeathAtEveryWrite kills the daemon, and has half of them fail; 0 for all")

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
		attached("here", n2, own...),
		[]step{{"stop", func() error { return n2.Stop(10 * time.Second) }}, {"start", func() error { return nil }}})
}

// failpoint is one write of a step.
type failpoint struct {
	step, at int
	what     string
}

// TestP09_DeathAtEveryWrite kills a daemon before each write to the kernel or to its files
// that a change, or its end, takes, and starts it again; then it has writes fail once.
// What both models forbid never arrives, what both allow is never lost, and the
// kernel ends as it does undisturbed.
func TestP09_DeathAtEveryWrite(t *testing.T) {
	g := startGuarded(t, 2)
	exchanged(t, g.Cluster)
	r := &failing{T: t, n: g.Nodes[1], table: openNFT(t, g.Nodes[1].Namespace)}
	r.steps = g.steps(t)
	r.n.Kill()
	r.start()
	allowed, forbidden := g.traffic(t, 100, 100)
	points := r.undisturbed()
	if len(points) < 30 {
		t.Errorf("%d failpoints, want 30 or more: %v", len(points), points)
	}
	t.Logf("%d failpoints", len(points))
	if n := *failpoints; n > 0 && n < len(points) {
		some := make([]failpoint, n)
		for i := range some {
			some[i] = points[i*len(points)/n]
		}
		points = some
	}
	for _, fail := range []bool{false, true} {
		start, tried, reached := time.Now(), 0, 0
		for i := range r.steps {
			for k, p := range points {
				if p.step != i || fail && k%2 > 0 && *failpoints > 0 {
					continue
				}
				if tried++; r.at(p, fail) {
					reached++
				}
			}
			r.pass(i)
		}
		t.Logf("failing %v: at %d of %d writes, in %v", fail, reached, tried, time.Since(start).Round(time.Millisecond))
		if reached*2 < tried { // when a snapshot is saved, and with it which writes there are, is up to the daemon
			t.Errorf("failing %v: too few of the writes were there again", fail)
		}
	}
	allowed.lossless(t)
	forbidden.silent(t)
}

// failing is a daemon whose writes fail.
type failing struct {
	*testing.T
	n     *cluster.Node
	table *nft
	steps []step
	want  []string // the kernel before each step, and after the last
	tr    *tracer
}

func (r *failing) start() {
	r.Helper()
	r.tr = startTraced(r.T, r.n)
	r.live()
}

func (r *failing) live() {
	r.Helper()
	if !r.n.Running() { // it has been ended
		r.start()
		return
	}
	err := r.n.Live(r.Context(), 15*time.Second)
	if err != nil && !r.n.Running() && strings.Contains(err.Error(), "signal: killed") { // it came to the write just now
		r.start()
		return
	}
	if err != nil {
		r.Fatal(err)
	}
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
	r.tr.arm(0, 0)
	if err := r.steps[i].do(); err != nil {
		r.Fatalf("%s: %v", r.steps[i].name, err)
	}
	r.live()
	if len(r.want) > i+1 {
		r.is(r.steps[i].name, r.want[i+1])
	}
}

// undisturbed takes all steps, and returns what is written by them.
func (r *failing) undisturbed() (points []failpoint) {
	r.Helper()
	want := []string{r.state()}
	for i, s := range r.steps {
		tr := r.tr
		r.pass(i)
		last := want[len(want)-1]
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if now := r.state(); now != last { // a route that another server announces may come later
				last, end = now, time.Now().Add(300*time.Millisecond)
			}
		}
		want = append(want, last)
		for at, what := range tr.writes() {
			points = append(points, failpoint{i, at + 1, s.name + ": " + what})
		}
	}
	r.want = want
	return points
}

// at takes a step, in which the daemon is killed at a write, or that fails, and takes it
// back. It returns false if it did not come to the write.
func (r *failing) at(p failpoint, fail bool) bool {
	r.Helper()
	s, back := r.steps[p.step], r.steps[p.step^1]
	errno := unix.Errno(0)
	if fail {
		errno = unix.ENOBUFS
		if strings.Contains(p.what, "state/") || strings.Contains(p.what, "datastore.") {
			errno = unix.ENOSPC
		}
	}
	tr := r.tr
	tr.arm(p.at, errno)
	err := s.do()
	reached := tr.reached(func() bool {
		return r.n.Live(r.Context(), 50*time.Millisecond) == nil && r.state() == r.want[p.step+1]
	})
	if reached && !fail {
		<-r.n.Process().Done()
	}
	tr.arm(0, 0)
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
