// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"sync"

	"github.com/muslin-net/muslin/internal/node/api"
)

// board is where the loop publishes its status and others read it or wait for
// it. Safe for concurrent use.
type board struct {
	mu      sync.Mutex
	status  api.Status
	changed chan struct{} // closed and replaced at every publication
}

func newBoard(s api.Status) *board {
	return &board{status: s, changed: make(chan struct{})}
}

// publish replaces the status; its slices and maps must not be changed after.
func (b *board) publish(s api.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status = s
	close(b.changed)
	b.changed = make(chan struct{})
}

// read returns the status, and a channel that is closed by the next one.
func (b *board) read() (api.Status, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status, b.changed
}

// wait blocks until ok holds for the status, or the context ends, and returns
// the last status seen with what ok said of it.
func (b *board) wait(ctx context.Context, ok func(*api.Status) bool) (api.Status, bool) {
	for {
		s, changed := b.read()
		if ok(&s) {
			return s, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, false
		}
	}
}

// liveAt tells whether everything up to a revision is in the kernel.
func liveAt(revision int64) func(*api.Status) bool {
	return func(s *api.Status) bool { return s.Live && s.LiveRevision >= revision }
}
