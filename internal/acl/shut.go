// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"errors"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A table of our name may belong to another process, who has in it what it likes and lets
// nobody change it. Workloads are shut out by a table of another name then, for as long
// as that lasts. What an agent of ours has left in it, whose keeper still runs, is the last policy and
// remains in force.

// shutName is that table.
const shutName = TableName + "-shut"

// shut drops what comes from workloads and what goes to them.
func (s *socket) shut(prefixes []string) error {
	m := msgs{table: shutName}
	m.begin("", inetTable, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	m.data.str(tableAttr, shutName)
	m.end()
	for _, c := range []struct {
		chain
		key expr.MetaKey
	}{
		{chain{name: "from", hook: &hook{num: unix.NF_INET_PRE_ROUTING, priority: priorityRaw - 1}}, expr.MetaKeyIIFNAME},
		{chain{name: "to", hook: &hook{num: unix.NF_INET_POST_ROUTING, priority: priorityFilter}}, expr.MetaKeyOIFNAME},
	} {
		m.addChain(&c.chain)
		m.flushChain("", c.name) // it may be there
		for _, p := range prefixes {
			m.addRule("", c.name, (&rb{}).prefixed(c.key, p).counter().drop().done("table "+TableName+" belongs to another process"))
		}
	}
	return s.transact(&m)
}

// unshut removes that table, if it is there.
func (s *socket) unshut() error {
	err := s.dump(inetTable, unix.NFT_MSG_GETTABLE, 0, func(b *buf) { b.str(tableAttr, shutName) }, func([]byte) {})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	var m msgs
	m.begin("", inetTable, unix.NFT_MSG_DELTABLE, 0)
	m.data.str(tableAttr, shutName)
	m.end()
	return s.transact(&m)
}

// lastPolicy tells whether the tables look like what an agent has left.
func (a *actual) lastPolicy() bool {
	c := a.chains[chainAntispoof]
	return c != nil && c.hook.at(&hook{num: unix.NF_INET_PRE_ROUTING, priority: priorityRaw}) && len(c.rules) > 0
}
