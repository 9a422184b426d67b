// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestN08_PeerMovesAway: somebody takes a workload's end of its interface into another namespace. The endpoint is shown as
// down, nothing goes there, and the server is live and does what it is told. When the namespace goes, and the interface with it,
// the endpoint has none, and can be detached.
func TestN08_PeerMovesAway(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	apply(t, c, pools+guarded)
	n := c.Nodes[0]
	a, b := attach(t, n, "a", "--label", "member=yes"), attach(t, n, "b", "--label", "member=yes")
	serve(t, b, 7)
	passes(t, a, b, 15*time.Second)

	elsewhere := labtest.Namespace(t, c.Lab, "elsewhere")
	if err := program(t, b.Namespace, "ip", "link", "set", "eth0", "netns", elsewhere.Name()); err != nil {
		t.Fatal(err)
	}
	pending := func(state string) {
		t.Helper()
		eventually(t, 5*time.Second, func() error {
			s, err := n.API().Status(t.Context(), 0)
			if err != nil {
				return err
			}
			of := func(p string) bool { return strings.Contains(p, b.Interface) && strings.HasSuffix(p, ": "+state) }
			if !s.Live || !slices.ContainsFunc(s.Pending, of) {
				return fmt.Errorf("live %v, pending %q, want b there: %s", s.Live, s.Pending, state)
			}
			return nil
		})
		for family, dst := range families(b) {
			if o := a.Probe(t.Context(), lab.Probe{Proto: lab.UDP, Dst: dst, Port: 7, Timeout: 200 * time.Millisecond}); o.Verdict == lab.Reached {
				t.Errorf("%s: b answers by %s", state, family)
			}
		}
	}
	pending("down")
	d := attach(t, n, "d", "--label", "member=yes")
	serve(t, d, 7)
	passes(t, a, d, 5*time.Second)

	if err := elsewhere.Delete(); err != nil {
		t.Fatal(err)
	}
	pending("no interface")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if out, err := n.Muslin(ctx, "endpoint", "detach", "b"); err != nil {
		t.Errorf("detach: %v\n%s", err, out)
	}
}
