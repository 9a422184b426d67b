// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

func owned(o *Options) { o.Own = true }

// needOwned skips where the kernel lacks owners.
func needOwned(tb testing.TB, tab *Table) {
	tb.Helper()
	if tab.flags == 0 {
		tb.Skip("the kernel lacks owners of tables that stay")
	}
}

// socketOf is what a keeper has of the table.
func socketOf(tb testing.TB, tab *Table) *os.File {
	tb.Helper()
	f, err := tab.Socket()
	must(tb, err)
	return f
}

// flushAll is `nft flush ruleset`.
func flushAll(tb testing.TB, c *nftables.Conn) {
	tb.Helper()
	c.FlushRuleset()
	must(tb, c.Flush())
}

// TestT01_Owned floods b with forbidden and allowed packets while others flush the
// ruleset: with a Table, with its socket alone, and with the Table after it.
func TestT01_Owned(t *testing.T) {
	r := newRig(t, owned)
	needOwned(t, r.tab)
	p := r.v.policy(gnp("p", []policy.Rule{allow(toPort(udp, port(allowedPort)))}, nil))
	r.endpoint("a", r.allowAllEffective())
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "firstfirstfirst1", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}}))
	r.apply()
	for _, v := range []int{4, 6} { // neighbours known
		r.expect(false, lab.UDP, "a", "b", 80, v)
	}
	in := newArrivals(t, r.wl["b"], forbiddenPort, allowedPort)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var work sync.WaitGroup
	var sent [2]atomic.Uint64
	var gate sync.RWMutex
	for i, p := range []uint16{forbiddenPort, allowedPort} {
		for _, v := range []int{4, 6} {
			c, err := r.wl["a"].Dial(ctx, "udp", netip.AddrPortFrom(addrOf(v, "b"), p).String())
			must(t, err)
			defer c.Close()
			work.Go(func() { flood(ctx, c, &gate, &sent[i], 10_000) })
		}
	}
	var other *nftables.Conn
	must(t, r.host.Do(func() error { other = foreign(t); return nil }))
	flushes := func(n int) {
		for range n {
			flushAll(t, other)
			other.DelTable(inet)
			if err := other.Flush(); !errors.Is(err, unix.EPERM) {
				t.Fatalf("somebody else removes the table: %v", err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	next := func(f *os.File, change ...func(*Options)) {
		change = append(change, func(o *Options) { o.Socket = f })
		must(t, r.host.Do(func() error { r.tab = openTable(t, change...); return nil }))
	}
	flushes(100)
	keeps := socketOf(t, r.tab)
	must(t, r.tab.sock.send(dumpOfAll().data)) // which it does not read to its end
	must(t, r.tab.Close())
	flushes(20)
	next(keeps, owned)
	quiet(t, r.tab, r.v)
	r.v.policy(gnp("p", []policy.Rule{allow(toPort(udp, port(allowedPort))), allow(toPort(tcp, port(80)))}, nil))
	must(t, r.tab.Apply(r.v, r.v.flush()))
	r.expect(true, lab.TCP, "a", "b", 80)
	flushes(20)

	must(t, r.tab.Close()) // an orphan, which stays
	next(nil, owned)
	must(t, r.tab.Resync(r.v))
	flushes(20)
	stop()
	work.Wait()
	allowed := sent[1].Load()
	for range 100 { // until all that was under way has arrived
		if in.count(t, 1) == allowed {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Logf("%d of %d forbidden packets passed, %d of %d allowed arrived", in.count(t, 0), sent[0].Load(), in.count(t, 1), allowed)
	if in.count(t, 0) != 0 || in.count(t, 1) != allowed {
		t.Error("forbidden packets passed, or allowed ones were lost")
	}
}

// dumpOfAll asks for all rules.
func dumpOfAll() *msgs {
	var m msgs
	m.begin("", inetTable, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	ours(&m.data)
	m.end()
	return &m
}

// TestOwnedOrNot takes tables over that have other flags, and removes them.
func TestOwnedOrNot(t *testing.T) {
	inNetns(t)
	v := smallView()
	tab := openTable(t)
	must(t, tab.Apply(v, v.flush()))
	must(t, tab.Close())
	other := foreign(t)
	for i, own := range []bool{true, false, true, true} {
		tab = openTable(t, func(o *Options) { o.Own = own })
		if own {
			needOwned(t, tab)
		}
		must(t, tab.Resync(v))
		quiet(t, tab, v)
		flushAll(t, other)
		there, err := tab.Exists()
		must(t, err)
		if there != own {
			t.Fatalf("%d: after a flush the table is there: %v", i, there)
		}
		must(t, tab.Close())
	}
	must(t, openTable(t).Teardown()) // of an orphan
	tab = openTable(t, owned)
	must(t, tab.Resync(v))
	must(t, tab.Teardown())
	if there, err := tab.Exists(); err != nil || there {
		t.Fatalf("after teardown: there %v, %v", there, err)
	}
}
