// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"bytes"
	"errors"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// TestAgainInComparison: a change of egress and ingress that is put in force by comparing
// the whole, because it was refused as a change, asks packets on their way again, as the
// change would have. One of egress alone, and one of nothing, does not.
func TestAgainInComparison(t *testing.T) {
	inNetns(t)
	tab, v := openTable(t), newView()
	open, shut := []policy.Rule{allow()}, []policy.Rule{allow(toPort(tcp, port(80)))}
	p := v.policy(gnp("p", open, shut))
	e := v.effective(&policy.Effective{ID: "everyoneeveryone", Tiers: both(tier("default", false, p))})
	v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: "a"}, Interface: "calia", Addrs: addrs("10.65.0.1", "fd65::1"), Effective: e})
	must(t, tab.Resync(v))
	v.flush()
	for _, x := range []struct {
		what            string
		ingress, egress []policy.Rule
		again           bool
	}{{"both", shut, open, true}, {"egress alone", shut, shut, false}, {"nothing", shut, shut, false}} {
		refused, seen := false, 0
		tab.refuse = func(m *msgs) error {
			if !refused {
				refused = true
				return errors.New("a change that the kernel does not take")
			}
			if bytes.Contains(m.data, []byte("\x00"+chainAgain+"\x00")) {
				seen++
			}
			return nil
		}
		v.policy(gnp("p", x.ingress, x.egress))
		must(t, tab.Apply(v, v.flush()))
		tab.refuse = nil
		if want := map[bool]int{true: 2}[x.again]; seen != want { // it comes, and goes
			t.Errorf("%s: %d transactions are about the chain %s, want %d", x.what, seen, chainAgain, want)
		}
		if mustRead(t, tab).chains[chainAgain] != nil {
			t.Errorf("%s: the chain %s is left", x.what, chainAgain)
		}
		quiet(t, tab, v)
	}
}

// TestAgainWhereOnePasses: the rules of a policy that passes stand in the chains of the
// effective policies that list it. A change of both directions there asks packets on
// their way again, as one in a chain of the policy's own; one of egress alone does not.
func TestAgainWhereOnePasses(t *testing.T) {
	inNetns(t)
	tab, v := openTable(t), newView()
	open, shut := []policy.Rule{allow(), with(policy.Pass)}, []policy.Rule{allow(toPort(tcp, port(80))), with(policy.Pass)}
	first, last := v.policy(gnp("p", open, shut)), v.policy(gnp("last", nil, nil))
	e := v.effective(&policy.Effective{ID: "everyoneeveryone", Tiers: both(tier("first", false, first), tier("default", false, last))})
	v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: "a"}, Interface: "calia", Addrs: addrs("10.65.0.1", "fd65::1"), Effective: e})
	must(t, tab.Resync(v))
	v.flush()
	for _, x := range []struct {
		what            string
		ingress, egress []policy.Rule
		want            int // it comes, and goes
	}{{"both", shut, open, 2}, {"egress alone", shut, shut, 0}} {
		seen := 0
		tab.refuse = func(m *msgs) error {
			if bytes.Contains(m.data, []byte("\x00"+chainAgain+"\x00")) {
				seen++
			}
			return nil
		}
		v.policy(gnp("p", x.ingress, x.egress))
		state := tab.state
		must(t, tab.Apply(v, v.flush()))
		tab.refuse = nil
		if seen != x.want || tab.state != state {
			t.Errorf("%s: %d transactions are about the chain %s, want %d", x.what, seen, chainAgain, x.want)
		}
		quiet(t, tab, v)
	}
}

// TestAgainNotAsleep: with a change of both directions and a table that somebody has put to
// sleep, the table is woken without the chain: the kernel would refuse both at once.
func TestAgainNotAsleep(t *testing.T) {
	inNetns(t)
	tab, v := openTable(t), newView()
	p := v.policy(gnp("p", []policy.Rule{allow()}, []policy.Rule{allow()}))
	e := v.effective(&policy.Effective{ID: "everyoneeveryone", Tiers: both(tier("default", false, p))})
	v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Namespace: "ns", Name: "a"}, Interface: "calia", Addrs: addrs("10.65.0.1", "fd65::1"), Effective: e})
	must(t, tab.Resync(v))
	v.flush()
	var m msgs
	m.begin("", inetTable, unix.NFT_MSG_NEWTABLE, 0)
	m.data.str(unix.NFTA_TABLE_NAME, TableName)
	m.data.u32(unix.NFTA_TABLE_FLAGS, 1) // dormant
	m.end()
	must(t, tab.sock.transact(&m))
	v.policy(gnp("p", []policy.Rule{allow(toPort(tcp, port(80)))}, []policy.Rule{allow(toPort(tcp, port(81)))}))
	v.flush()
	must(t, tab.Resync(v))
	if n := tab.Stats().Failed; n > 0 {
		t.Errorf("the kernel refused %d transactions", n)
	}
	quiet(t, tab, v)
}
