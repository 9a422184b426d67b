// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// bystander is a table of somebody else, with something of everything in it.
const bystander = "bystander"

func addBystander(t *testing.T, c *nftables.Conn) {
	t.Helper()
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: bystander})
	set := &nftables.Set{Table: table, Name: "hosts", KeyType: nftables.TypeIPAddr, Interval: true} // of which the kernel keeps the order
	var elems []nftables.SetElement
	for i := range 20 {
		elems = append(elems, nftables.SetElement{Key: []byte{10, 0, byte(i), 0}}, nftables.SetElement{Key: []byte{10, 0, byte(i), 9}, IntervalEnd: true})
	}
	must(t, c.AddSet(set, elems))
	hooked := c.AddChain(&nftables.Chain{Table: table, Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	for i := range 20 {
		c.AddRule(&nftables.Rule{Table: table, Chain: hooked, UserData: []byte{0xff, byte(i)}, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}})
	}
	must(t, c.Flush())
}

// bytesOf is all that the kernel says of the bystander, handles included.
func bytesOf(t *testing.T, s *socket) (all []string) {
	t.Helper()
	inet := byte(unix.NFPROTO_INET)
	for _, typ := range []uint16{unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETSET, unix.NFT_MSG_GETSETELEM} {
		// The name of the table is attribute 1 of each of them.
		named := func(b *buf) {
			b.str(unix.NFTA_RULE_TABLE, bystander)
			if typ == unix.NFT_MSG_GETSETELEM {
				b.str(unix.NFTA_SET_ELEM_LIST_SET, "hosts")
			}
		}
		n := len(all)
		must(t, s.dump(inet, typ, unix.NLM_F_DUMP, named, func(attrs []byte) {
			if len(attrs) > 4+len(bystander) && string(attrs[4:4+len(bystander)]) == bystander {
				all = append(all, fmt.Sprintf("%d %x", typ, attrs))
			}
		}))
		if len(all) == n {
			t.Fatalf("message %d says nothing of the bystander", typ)
		}
	}
	return all
}

// repairs are how long it took from tampering to the repair.
type repairs []time.Duration

// within holds them against what operators are promised, of all verbs together.
func (r repairs) within(t *testing.T, median, worst time.Duration) {
	t.Helper()
	slices.Sort(r)
	t.Logf("%d repairs: median %v, worst %v", len(r), r[len(r)/2], r[len(r)-1])
	if r[len(r)/2] > median || r[len(r)-1] > worst {
		t.Errorf("repaired after a median of %v, at worst %v: want %v and %v", r[len(r)/2], r[len(r)-1], median, worst)
	}
}
