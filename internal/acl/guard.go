// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import "github.com/muslin-net/muslin/internal/policy"

// Guard closes all workloads, before anybody knows what they may do: the table of
// a node without endpoints, in which every interface with a prefix of ours is
// unknown. Whoever opens the table next takes it over as it does at any start, in
// one transaction. A table that is there already is left alone: it is this one, or
// the last policy.
func (t *Table) Guard() (made bool, err error) {
	a, err := t.read()
	if err != nil || a.tables[inetTable] != nil {
		return false, err
	}
	return true, t.Resync(policy.NewIndex(""))
}

// Exists tells whether the kernel has any of the tables.
func (t *Table) Exists() (bool, error) {
	a, err := t.read()
	if err != nil {
		return false, err
	}
	return len(a.tables) > 0, nil
}
