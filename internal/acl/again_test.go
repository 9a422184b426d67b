// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"bytes"
	"errors"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
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
