// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCreateInParts looks at the kernel between the transactions that make the
// tables: workloads are closed from the first on, and nothing leads into policy
// before all else is there. Wherever it is interrupted, that stays so, and another
// process finds what is missing.
func TestCreateInParts(t *testing.T) {
	inNetns(t)
	v := scale(20, 2*partOf, 3, 2, 10)
	other := openTable(t)
	leads := func(a *actual) int { return len(a.sets[setFrom].elems) + len(a.sets[setTo].elems) }
	// made makes the tables and returns after how many transactions; that with the
	// number stop is refused, and what comes behind it.
	made := func(tab *Table, stop int) (n int, err error) {
		before := 0 // chains
		tab.refuse = func(*msgs) error {
			if n == stop {
				return errors.New("this one is not taken")
			}
			if n++; n == 1 {
				return nil
			}
			a := mustRead(t, other)
			if a.chains[chainEgress] == nil || a.chains[chainIngress] == nil || a.chains[chainAntispoof] == nil || a.chains[chainEgressWl] == nil {
				t.Errorf("before transaction %d: workloads are not closed", n)
			}
			if leads(a) > 0 {
				t.Errorf("before transaction %d: something leads into policy", n)
			}
			if len(a.chains) < before {
				t.Errorf("before transaction %d: %d chains, %d before that", n, len(a.chains), before)
			}
			before = len(a.chains)
			return nil
		}
		err = tab.Resync(v)
		tab.refuse = nil
		return n, err
	}
	tab := openTable(t)
	n, err := made(tab, -1)
	must(t, err)
	// 128 policies with two directions each, and before and after them the tables'
	// own chains, the rest, and what leads into it.
	if want := 2 + 2*2*partOf/partOf; n != want {
		t.Errorf("%d transactions, want %d", n, want)
	}
	whole := mustRead(t, other)
	if leads(whole) == 0 {
		t.Error("nothing leads into policy")
	}
	quiet(t, tab, v)
	for stop := range n {
		must(t, tab.Teardown())
		if done, err := made(openTable(t), stop); err == nil || done != stop {
			t.Fatalf("transaction %d of %d was refused: %v", done, n, err)
		}
		if stop > 0 {
			if a := mustRead(t, other); leads(a) > 0 {
				t.Errorf("interrupted at transaction %d: something leads into policy", stop)
			}
		}
		next := openTable(t)
		must(t, next.Resync(v))
		if a := mustRead(t, other); len(a.chains) != len(whole.chains) || len(a.sets) != len(whole.sets) {
			t.Errorf("after transaction %d: %d chains and %d sets, want %d and %d", stop, len(a.chains), len(a.sets), len(whole.chains), len(whole.sets))
		}
		quiet(t, next, v)
	}
}

// TestCreateRefused has the kernel refuse one policy in the middle of it: that is
// closed, the others are in force.
func TestCreateRefused(t *testing.T) {
	inNetns(t)
	v := scale(20, 2*partOf, 3, 2, 10)
	tab := openTable(t)
	culprit := "GlobalNetworkPolicy policy70"
	tab.refuse = func(m *msgs) error {
		for i, o := range m.owners {
			if o == culprit && m.data[m.starts[i]+4] == unix.NFT_MSG_NEWRULE && tab.bad[culprit] == nil {
				return refusals{{owner: o, errno: unix.EINVAL}}
			}
		}
		return nil
	}
	must(t, tab.Resync(v))
	tab.refuse = nil
	if ps := tab.Problems(); len(ps) != 1 || ps[0].Object != culprit {
		t.Fatalf("problems %v, want %s alone", ps, culprit)
	}
	must(t, tab.Resync(v)) // which tries it again
	if ps := tab.Problems(); len(ps) != 0 {
		t.Errorf("problems %v", ps)
	}
	quiet(t, tab, v)
}
