// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"context"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// listener is where the demo writes. When nobody reads it any more, as behind
// `| head`, the demo has to end in order, and not by SIGPIPE with all that it made
// left behind.
type listener struct {
	out  io.Writer
	gone context.CancelFunc
}

// listening returns the writer, and a context that ends when writing fails.
func listening(ctx context.Context, out io.Writer) (context.Context, io.Writer, func()) {
	ctx, gone := context.WithCancel(ctx)
	// Noticed rather than ignored: what is ignored would be so in the daemons, too.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, unix.SIGPIPE)
	return ctx, &listener{out, gone}, func() { signal.Stop(pipe); gone() }
}

// Write implements io.Writer.
func (l *listener) Write(b []byte) (int, error) {
	n, err := l.out.Write(b)
	if err != nil {
		l.gone()
	}
	return n, err
}
