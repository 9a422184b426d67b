// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
)

// TestProbe: what this kernel has is found, and without zones of connections nobody may
// send from networks of others; what the table cannot do without is an error.
func TestProbe(t *testing.T) {
	inNetns(t)
	if l, err := openTable(t).sock.probe(); l.frames != nil || l.zones != nil || err != nil {
		t.Errorf("lacks %+v, error %v", l, err)
	}
	end := refusal{"end", unix.ENOENT}
	l, err := judgeProbe(refusals{{featZones, unix.EOPNOTSUPP}, {featAnswers, unix.ENOENT}, end}, nil)
	if l.zones == nil || l.frames == nil || err != nil {
		t.Errorf("lacks %+v, error %v", l, err)
	}
	if _, err := judgeProbe(refusals{{"x", unix.ENOENT}, end}, []feature{{name: "x"}}); err == nil {
		t.Error("no error without what is needed")
	}
	tab, v := openTable(t), newView()
	text := func() string {
		o := tab.opts
		o.AnySource = true
		must(t, tab.SetOptions(o))
		return tab.Text(v)
	}
	if !strings.Contains(text(), "ct zone") {
		t.Error("no zones where there are any")
	}
	if tab.noZones = true; strings.Contains(text(), "ct zone") || tab.opts.AnySource {
		t.Error("zones where there are none")
	}
}

// TestFreshEpoch: a table that begins does not accept what flows have marks of already, in
// neither direction.
func TestFreshEpoch(t *testing.T) {
	r := newRig(t)
	for _, n := range []string{"a", "b"} {
		r.endpoint(n, r.allowAllEffective())
	}
	r.apply()
	r.expect(true, lab.UDP, "a", "b", 80)
	r.expect(true, lab.UDP, "n", "b", 80) // ingress alone
	had := r.tab.state.epoch
	must(t, r.tab.Teardown())
	must(t, r.host.Do(func() error {
		fresh := openTable(t)
		if e := fresh.freshEpoch(had); e != had.next() {
			t.Errorf("epoch %d, which flows have (%d), or not the next", e, had)
		}
		if e := fresh.freshEpoch(had.next()); e != had.next() {
			t.Errorf("epoch %d, want %d, which no flow has", e, had.next())
		}
		return nil
	}))
	// One that is changed by others while the Table is there goes on.
	must(t, r.tab.Resync(r.v))
	if e := r.tab.state.epoch; e != had.next() {
		t.Errorf("epoch %d after %d", e, had)
	}
}
