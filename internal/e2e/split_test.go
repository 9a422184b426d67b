// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// B19: the fabric is cut in two. The half without the datastore allocates nothing, and
// what it has goes on; the other half does. Healed, no address is there twice, all
// reach all, and the half that was alone allocates again.
func TestB19_SplitBrain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	apply(t, c, allowAll)
	major, other, minor := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	ws := []*cluster.Workload{attach(t, major, "w1"), attach(t, other, "w2"), attach(t, minor, "w3"), attach(t, minor, "w4")}
	settle(t, c, ws...)
	alone := newStreams(20000)
	alone.begin(t, ws[2], ws[3], 100, true)
	alone.begin(t, ws[3], ws[2], 100, true)
	alone.running(t)

	if err := minor.Port.Down(); err != nil {
		t.Fatal(err)
	}
	for i, n := range []*cluster.Node{major, other} {
		ws = append(ws, attach(t, n, fmt.Sprint("major", i)))
	}
	if w, err := minor.Attach(t.Context(), "early", "--timeout", "3s"); err == nil {
		t.Errorf("the half without a datastore gave %v to a workload", w.Addrs)
	}
	eventually(t, 20*time.Second, func() error { // the hold time is over
		for _, a := range ws[2].Addrs {
			if inKernel(t, major.Namespace, a) {
				return fmt.Errorf("%s still has a route to %v", major.Server.Name, a)
			}
		}
		return nil
	})
	if err := minor.Port.Up(); err != nil {
		t.Fatal(err)
	}
	healed := time.Now()
	settle(t, c, ws...)
	t.Logf("all reach all %v after the halves met", time.Since(healed).Round(time.Millisecond))
	ws = append(ws, attach(t, minor, "late"))
	settle(t, c, ws...)
	owner := map[netip.Addr]string{}
	for _, w := range ws {
		for _, a := range w.Addrs {
			if owner[a] != "" {
				t.Errorf("%v belongs to %s and to %s", a, owner[a], w.Name)
			}
			owner[a] = w.Name
		}
	}
	if err := c.AllLive(context.Background(), 30*time.Second); err != nil {
		t.Error(err)
	}
	alone.lossless(t)
}
