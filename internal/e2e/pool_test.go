// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"github.com/muslin-net/muslin/internal/lab"
)

// TestPoolDeletedInUse: the addresses of a pool that goes stay with their
// endpoints, and each is announced on its own.
func TestPoolDeletedInUse(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	apply(t, c, allowAll)
	a, b := machineOf(attach(t, c.Nodes[0], "a")), machineOf(attach(t, c.Nodes[1], "b"))
	serve(t, a, 80)
	exampleReady(t, c, a, b)
	for _, pool := range []string{"default-ipv4-ippool", "default-ipv6-ippool"} {
		out, text, code := command(t, "", "delete", "ippool", pool, "--run-dir", c.Nodes[0].Dir)
		if code != 0 || !containsAll(text, []string{"warning", pool, "in use, 2 of them"}) {
			t.Errorf("delete %s: exit code %d, want a warning:\n%s%s", pool, code, out, text)
		}
	}
	live(t, c)
	for _, addr := range a.addr {
		wantVia(t, c.Nodes[1].Namespace, addr.String()+"/"+map[bool]string{true: "128", false: "32"}[addr.Is6()], map[bool]string{true: "fd00::1", false: "10.0.0.1"}[addr.Is6()])
	}
	judge(t, b.asks("after its pool is gone", a, lab.TCP, 80, true))
}
