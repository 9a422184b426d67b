// SPDX-License-Identifier: Apache-2.0

package route

// counted is a tally with how often the kernel lost notifications.
type counted struct {
	tally
	overruns uint64
}

// counted returns what was done since Open.
func (t *Table) counted() counted {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events.mu.Lock()
	defer t.events.mu.Unlock()
	return counted{t.done, t.events.overruns}
}

// synced tells whether the kernel was equal to what is wanted when last looked
// at, and nothing has been heard since. Pending, conflicting and refused
// routes do not count against it.
func (t *Table) synced() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events.mu.Lock()
	heard := len(t.events.facts) > 0 || t.events.overflow
	t.events.mu.Unlock()
	return !t.stale && !t.relink && !heard && t.v4.settled() && t.v6.settled()
}

func (f *fib[K]) settled() bool { return !f.dirtyAll && len(f.dirty) == 0 }
