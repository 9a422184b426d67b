// SPDX-License-Identifier: Apache-2.0

package bfdd

import (
	"context"
	"log/slog"
)

// queueHandler hands records to another goroutine and drops them when that
// one does not keep up.
type queueHandler struct {
	next  slog.Handler
	queue chan<- func()
}

// queued returns a logger that never waits, and what runs its records.
func queued(log *slog.Logger) (*slog.Logger, <-chan func()) {
	q := make(chan func(), 256)
	return slog.New(queueHandler{log.Handler(), q}), q
}

func (h queueHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h queueHandler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	select {
	case h.queue <- func() { _ = h.next.Handle(context.WithoutCancel(ctx), r) }:
	default:
	}
	return nil
}

func (h queueHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queueHandler{h.next.WithAttrs(attrs), h.queue}
}

func (h queueHandler) WithGroup(name string) slog.Handler {
	return queueHandler{h.next.WithGroup(name), h.queue}
}
