// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"slices"
)

// slowly is Count and Problems of one family by a walk through all of its table.
func slowly[K key[K]](f *fib[K], c *Count) (list []Problem) {
	conflicts := f.conflicts()
	for k, e := range f.table.all() {
		switch {
		case e.want == wantNone:
			c.Kept++
		case e.want == wantGone:
			c.Other++
		default:
			c.Wanted++
			switch f.outcome(e) {
			case 0:
				c.Pending++
			case e.have:
				c.Installed++
			default:
				c.Other++
			}
		}
		if e.want < firstAction {
			if why := f.problems[k]; why != "" {
				list = append(list, Problem{k.prefix(), Failed, why})
			}
		} else if s, why := f.state(k, e, conflicts); s != Installed && s != Waiting {
			list = append(list, Problem{k.prefix(), s, why})
		}
	}
	return list
}

// statusAgrees holds what is kept of the table, so that it need not be walked,
// against a walk.
func (t *Table) statusAgrees() error {
	var c Count
	list := append(slowly(t.v4, &c), slowly(t.v6, &c)...)
	if got := t.Count(); got != c {
		return fmt.Errorf("counted %+v, want %+v", got, c)
	}
	if got := t.Problems(); !slices.Equal(got, list) {
		return fmt.Errorf("problems %v, want %v", got, list)
	}
	return nil
}
