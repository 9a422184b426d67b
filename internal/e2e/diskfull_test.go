// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestP13_DiskFull fills the disk below the embedded etcd until that cannot write. The agent
// goes on, with all that is enforced, and repairs it; status says what is wrong; and when there is
// space again, a change is in force within ten seconds, without a hand.
func TestP13_DiskFull(t *testing.T) {
	t.Parallel()
	c := newCluster(t, servers(1))
	n := c.Nodes[0]
	if err := os.MkdirAll(n.StateDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", n.StateDir(), "tmpfs", 0, "size=200m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(n.StateDir(), unix.MNT_DETACH) })
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, allowAll)
	a, b := attach(t, n, "a"), attach(t, n, "b")
	serve(t, b, 7, 9)
	deny := func(port int, selector string) string {
		return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: deny-%d}\nspec: {selector: %s, order: 1, types: [Ingress], "+
			"ingress: [{action: Deny, protocol: UDP, destination: {ports: [%d]}}, {action: Allow}]}\n", port, selector, port)
	}
	apply(t, c, deny(9, "all()"))
	become(t, a, b, 7, true)
	become(t, a, b, 9, false)
	pid := n.Process().Pid()

	filler := filepath.Join(n.StateDir(), "filler")
	fill(t, filler)
	// Each value is other pages of the database, until there are none.
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	large := strings.Repeat("x", 100<<10)
	for i := 0; ctx.Err() == nil; i++ {
		err := c.Apply(ctx, fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s%d, annotations: {large: %s}}\nspec: {nets: [10.99.0.0/16]}\n", i%3, large))
		if err != nil {
			t.Log(i, err)
			break
		}
	}
	problem(t, n, "etcd", "no space left on device")
	if !n.Running() || n.Process().Pid() != pid {
		t.Fatal("the agent has ended")
	}
	become(t, a, b, 7, true)
	become(t, a, b, 9, false)
	if err := openNFT(t, n.Namespace).flushRuleset(); err != nil { // it still repairs
		t.Fatal(err)
	}
	become(t, a, b, 9, false)
	become(t, a, b, 7, true)

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, 10*time.Second, func() error { return c.Apply(t.Context(), deny(7, "all()")) })
	t.Logf("written %v after there was space", time.Since(began))
	become(t, a, b, 7, false)
	noProblems(t, n)
	live(t, c)
	if !n.Running() || n.Process().Pid() != pid {
		t.Fatal("the agent has ended")
	}
}

// fill makes a file that takes all the space there is.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err = f.Write(chunk); errors.Is(err, unix.ENOSPC) {
			chunk, err = chunk[:len(chunk)/2], nil
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
