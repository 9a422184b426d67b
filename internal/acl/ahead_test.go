// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
)

// TestReadAhead reads the table before it is asked for: what is right is not
// written again, and what somebody changed since is seen all the same.
func TestReadAhead(t *testing.T) {
	inNetns(t)
	v := smallView()
	first := openTable(t)
	must(t, first.Resync(v))

	again := openTable(t)
	again.ReadAhead()
	must(t, again.Resync(v))
	if n := again.Stats().Commits; n != 0 {
		t.Errorf("%d commits for a table that is right, want none", n)
	}

	late := openTable(t)
	late.ReadAhead()
	ahead := <-late.ahead // it has read all
	if ahead == nil || len(ahead.chains) == 0 {
		t.Fatalf("read ahead: %+v", ahead)
	}
	back := make(chan *actual, 1)
	back <- ahead
	late.ahead = back
	c := foreign(t)
	c.FlushChain(&nftables.Chain{Table: inet, Name: effectiveChain(slices.Collect(v.Effectives())[0].ID, 0)})
	must(t, c.Flush())
	must(t, late.Resync(v))
	if n := late.Stats().Commits; n != 1 {
		t.Errorf("%d commits for what was changed after the table was read, want 1", n)
	}
	quiet(t, first, v)

	unused := openTable(t)
	unused.ReadAhead()
	must(t, unused.Close())
}

// TestCommitAfter holds a table up that is made: workloads are closed, and stay so.
// Then it holds up a change.
func TestCommitAfter(t *testing.T) {
	inNetns(t)
	v := smallView()
	tab := openTable(t)
	held := func(what string, change func() error, wrong func() bool) {
		t.Helper()
		ready, done := make(chan struct{}), make(chan error)
		tab.CommitAfter(ready)
		go func() { done <- change() }()
		select {
		case err := <-done:
			t.Fatalf("%s: it did not wait: %v", what, err)
		case <-time.After(100 * time.Millisecond):
		}
		if wrong() {
			t.Errorf("%s: it is in force", what)
		}
		close(ready)
		must(t, <-done)
		tab.CommitAfter(nil)
		quiet(t, tab, v)
	}
	other := openTable(t)
	held("a new table", func() error { return tab.Resync(v) }, func() bool {
		a := mustRead(t, other)
		return a.chains[chainEgressWl] == nil || len(a.sets[setInterfaces].elems)+len(a.sets[setFrom].elems)+len(a.sets[setTo].elems) > 0
	})
	before := generation(t, other)
	v.flush()
	v.policy(gnp("default.web", nil, nil))
	held("a change", func() error { return tab.Apply(v, v.flush()) }, func() bool { return generation(t, other) != before })
}

// TestUnchanged: only what was compared as a whole, and what nobody has
// committed anything to since, is certain to be right.
func TestUnchanged(t *testing.T) {
	inNetns(t)
	v := smallView()
	tab := openTable(t)
	want := func(when string, unchanged bool) {
		t.Helper()
		if got := tab.Unchanged(); got != unchanged {
			t.Errorf("%s: unchanged is %v", when, got)
		}
	}
	want("before the first comparison", false)
	must(t, tab.Resync(v))
	want("after a commit", false)
	must(t, tab.Resync(v))
	want("after a comparison", true)
	c := foreign(t)
	c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "other"})
	must(t, c.Flush())
	want("after somebody's commit", false)
	must(t, tab.Resync(v))
	want("after another comparison", true)
	for _, p := range v.policies {
		q := *p
		q.Ingress = nil
		v.policy(&q)
	}
	must(t, tab.Apply(v, v.flush()))
	want("after a change", false)
	must(t, tab.Resync(v))
	must(t, tab.SetOptions(Options{Prefixes: []string{"cali", "tap"}}))
	want("after other options", false)
}
