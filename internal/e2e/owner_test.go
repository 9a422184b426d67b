// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
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

// TestT12_StolenTable takes our table away and makes another of its name, which nobody but its owner can change: what
// is forbidden passes for less than a second, and then nothing does, under the next agent neither. When the
// thief has gone, all is as before.
func TestT12_StolenTable(t *testing.T) {
	g := startGuarded(t, 2)
	n := g.Nodes[0]
	const pps = 200
	forbidden := newStreams(30000)
	forbidden.begin(t, g.strangers[0], g.members[0], pps, false)
	forbidden.begin(t, g.strangers[1], g.members[0], pps, false)
	forbidden.begin(t, g.mutes[0], g.members[2], pps, false)
	table, thief := openNFT(t, n.Namespace), openNFT(t, n.Namespace)
	want := table.ruleset(t)
	thief.steal(t)
	closed := func(when string) {
		t.Helper()
		eventually(t, 5*time.Second, func() error {
			s, err := n.API().Status(t.Context(), 0)
			if err == nil && (s.Live || !strings.Contains(strings.Join(s.Missing, " "), "belongs to another process")) {
				err = fmt.Errorf("live %v, missing %q", s.Live, s.Missing)
			}
			return err
		})
		for family, dst := range families(g.members[1]) {
			if o := g.members[0].Probe(t.Context(), lab.Probe{Proto: lab.ICMP, Dst: dst, Timeout: 200 * time.Millisecond}); o.Verdict == lab.Reached {
				t.Errorf("%s: a member reaches another by %s", when, family)
			}
		}
		before := forbidden.delivered()
		time.Sleep(300 * time.Millisecond)
		if more := forbidden.delivered() - before; more > 0 {
			t.Errorf("%s: %d forbidden datagrams arrive", when, more)
		}
	}
	closed("stolen")
	if let := forbidden.delivered(); let > pps*len(forbidden.flows) {
		t.Errorf("%d forbidden datagrams arrived, a second's worth is %d", let, pps*len(forbidden.flows))
	}
	n.Kill()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	// It cannot open the tables, says so and ends.
	if err := n.Process().Wait(); err == nil || !strings.Contains(n.Log(), "may belong to another process") {
		t.Errorf("the next agent: %v", err)
	}
	let := forbidden.delivered()
	if err := thief.gen.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	live(t, g.Cluster)
	for _, a := range g.members[1].Addrs {
		reaches(t, g.members[0].Namespace, a)
	}
	if got := table.ruleset(t); got != want {
		t.Errorf("the ruleset is\n%s\nand was\n%s", got, want)
	}
	if more := forbidden.delivered() - let; more > 0 {
		t.Errorf("%d forbidden datagrams arrived after that", more)
	}
	if others := rulesOfOthers(t, n.Namespace); others != "" {
		t.Errorf("left: %s", others)
	}
}

// steal takes table inet muslin away and makes another of its name, which belongs to the connection, in one transaction.
func (n *nft) steal(t *testing.T) {
	t.Helper()
	message := func(typ, flags mdnetlink.HeaderFlags, family, resource byte, more ...mdnetlink.Attribute) mdnetlink.Message {
		data, err := mdnetlink.MarshalAttributes(more)
		if err != nil {
			t.Fatal(err)
		}
		return mdnetlink.Message{
			Header: mdnetlink.Header{Type: mdnetlink.HeaderType(typ), Flags: mdnetlink.Request | flags},
			Data:   append([]byte{family, unix.NFNETLINK_V0, 0, resource}, data...),
		}
	}
	const nftables, inet = unix.NFNL_SUBSYS_NFTABLES << 8, byte(unix.NFPROTO_INET)
	name := mdnetlink.Attribute{Type: unix.NFTA_TABLE_NAME, Data: []byte("muslin\x00")}
	owned := mdnetlink.Attribute{Type: unix.NFTA_TABLE_FLAGS, Data: []byte{0, 0, 0, 2}} // NFT_TABLE_F_OWNER
	if _, err := n.gen.SendMessages([]mdnetlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES),
		message(nftables|unix.NFT_MSG_DELTABLE, 0, inet, 0, name),
		message(nftables|unix.NFT_MSG_NEWTABLE, mdnetlink.Create|mdnetlink.Acknowledge, inet, 0, name, owned),
		message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.gen.Receive(); err != nil {
		t.Fatal(err)
	}
}
