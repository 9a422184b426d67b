// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestT02_OwnTables flushes the ruleset again and again under an agent with
// --own-tables, while it is dead, and under the next, whose policy comes into force: no
// forbidden packet arrives and no allowed one is lost. A keeper that is killed is
// replaced; with both killed the tables stay, and the next agent claims them.
// Then teardown takes out tables and keeper.
func TestT02_OwnTables(t *testing.T) {
	labtest.Programs(t, "nftables", "/usr/sbin/nft")
	g := startGuarded(t, 2)
	n := g.Nodes[0]
	live := func() {
		t.Helper()
		if err := n.Live(context.Background(), 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	n.Kill()
	n.Args = append(n.Args, "--own-tables")
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	live()
	if strings.Contains(n.Log(), "lacks owners") {
		t.Skip("the kernel lacks owners of tables that stay")
	}
	keeper := func(not int) (pid int) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			text, err := os.ReadFile(filepath.Join(n.Dir, "keeper.lock"))
			if err == nil {
				pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
			}
			if err == nil && pid == not {
				err = os.ErrNotExist
			}
			if err == nil {
				_, err = os.Stat(filepath.Join(n.Dir, "keeper.sock"))
			}
			return err
		})
		return pid
	}
	if s, err := n.API().Status(context.Background(), 0); err != nil || !s.TablesOwned {
		t.Errorf("status does not say that the tables are owned: %v", err)
	}
	first := keeper(0)
	if i, err := os.Stat(filepath.Join(n.Dir, "keeper.sock")); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("keeper.sock: %v, %v", i, err)
	}

	allowed, forbidden := newStreams(20000), newStreams(30000)
	allowed.begin(t, g.members[0], g.members[1], 500, true)
	forbidden.begin(t, g.strangers[0], g.members[0], 500, false)
	forbidden.begin(t, g.mutes[0], g.members[2], 500, false)
	allowed.running(t)
	flush := func(times int) {
		t.Helper()
		for range times {
			if err := program(t, n.Namespace, "nft", "flush", "ruleset"); err != nil {
				t.Fatal(err)
			}
		}
	}
	flush(100)
	n.Kill()
	flush(20)
	if err := program(t, n.Namespace, "nft", "delete", "table", "inet", "muslin"); err == nil {
		t.Error("somebody else removes the table while the agent is dead")
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	live()
	if pid := keeper(0); pid != first {
		t.Errorf("keeper %d was replaced by %d", first, pid)
	}
	flush(20)

	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := keeper(first)
	n.Kill()
	flush(20)
	if err := unix.Kill(second, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	live()
	keeper(second)
	flush(20)
	if got := forbidden.delivered(); got != 0 {
		t.Errorf("%d forbidden datagrams arrived", got)
	}
	allowed.lossless(t)
	apply(t, g.Cluster, `
kind: GlobalNetworkPolicy
metadata: {name: shut}
spec: {selector: all(), order: 1, types: [Ingress], ingress: [{action: Deny}]}
`)
	if err := g.AllLive(context.Background(), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	more := newStreams(40000)
	more.begin(t, g.members[0], g.members[1], 500, false)
	time.Sleep(200 * time.Millisecond)
	if got := more.delivered(); got != 0 {
		t.Errorf("%d datagrams arrived that a new policy denies", got)
	}

	if err := n.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	out, err := teardown(n)
	if err != nil || !strings.Contains(out, "nftables tables") || !strings.Contains(out, "the keeper of these tables") {
		t.Errorf("teardown: %v\n%s", err, out)
	}
	if text, err := openNFT(t, n.Namespace).text(); err != nil || strings.Contains(text, "muslin") {
		t.Errorf("the table is left: %v\n%s", err, text)
	}
}
