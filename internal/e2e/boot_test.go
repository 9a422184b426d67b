// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// booting is a server with two members of the guarded policy and a stranger, whose
// agent has ended and whose packet filter is gone, while interfaces, routes and
// forwarding are there: what a boot may come by before the agent runs.
type booting struct {
	*cluster.Node
	ds             *datastore
	a, b, stranger *cluster.Workload
}

func newBooting(t *testing.T) *booting {
	t.Helper()
	ds := newDatastore(t)
	c := newClusterOn(t, ds.url, servers(1))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, pools+guarded)
	h := &booting{Node: c.Nodes[0], ds: ds}
	h.a, h.b = attach(t, h.Node, "a", "--label", "member=yes"), attach(t, h.Node, "b", "--label", "member=yes")
	h.stranger = attach(t, h.Node, "stranger")
	for _, w := range []*cluster.Workload{h.a, h.b, h.stranger} {
		serve(t, w, 7)
	}
	passes(t, h.a, h.b, 15*time.Second)
	h.ends(t)
	return h
}

// ends ends the agent as a crash does, and takes the packet filter away.
func (h *booting) ends(t *testing.T) {
	t.Helper()
	h.Kill()
	if err := openNFT(t, h.Namespace).flushRuleset(); err != nil {
		t.Fatal(err)
	}
}

// closed fails the test if anything passes between any two workloads.
func (h *booting) closed(t *testing.T, when string) {
	t.Helper()
	for _, p := range [][2]*cluster.Workload{{h.a, h.b}, {h.stranger, h.a}, {h.b, h.stranger}} {
		for family, dst := range families(p[1]) {
			if o := p[0].Probe(t.Context(), lab.Probe{Proto: lab.UDP, Dst: dst, Port: 7, Timeout: 200 * time.Millisecond}); o.Verdict == lab.Reached {
				t.Errorf("%s: %s reaches %s, %s", when, p[0].Name, p[1].Name, family)
			}
		}
	}
}

// guard runs `muslin guard` on the server, and returns what it said.
func (h *booting) guard(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(binary, "guard", "--run-dir", h.Dir, "--state-dir", h.StateDir())
	cmd.Env = lab.CleanEnv()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := h.Host.Start(cmd)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		t.Fatalf("muslin guard: %v: %s", err, out.String())
	}
	return out.String()
}

// TestP05_BootGuard: without the guard a server forwards for workloads before its
// agent runs; with it nothing passes, with the datastore away neither, and when the
// agent knows the policy that alone passes. What is forbidden never does.
func TestP05_BootGuard(t *testing.T) {
	t.Parallel()
	h := newBooting(t)
	passes(t, h.stranger, h.a, 10*time.Second) // nothing guards: the test would notice
	if said := h.guard(t); !strings.Contains(said, "nothing passes") {
		t.Errorf("muslin guard said %q", said)
	}
	forbidden := newStreams(30000)
	forbidden.begin(t, h.stranger, h.a, 300, false)
	forbidden.begin(t, h.stranger, h.b, 300, false)
	h.closed(t, "guarded")

	h.ds.stop()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() error { _, err := h.API().Status(t.Context(), 0); return err })
	h.closed(t, "without a datastore")
	h.ds.start()
	passes(t, h.a, h.b, 30*time.Second)

	if said := h.guard(t); !strings.Contains(said, "nothing to do") {
		t.Errorf("muslin guard beside an agent said %q", said)
	}
	h.Kill()
	if said := h.guard(t); !strings.Contains(said, "nothing to do") {
		t.Errorf("muslin guard on the last policy said %q", said)
	}
	passes(t, h.a, h.b, 10*time.Second)
	forbidden.silent(t)
}
