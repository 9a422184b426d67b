// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// slogCore routes what the embedded server logs to slog: warnings and errors
// while it runs, only errors while it starts (it warns about its defaults), and
// nothing while it closes (it calls its closed listeners errors).
type slogCore struct {
	log    *slog.Logger
	phase  *phase
	fields []zapcore.Field
}

func (c *slogCore) Enabled(l zapcore.Level) bool {
	switch c.phase.Load() {
	case starting:
		if c.phase.dying != nil {
			return l >= zapcore.DPanicLevel // it is started every few seconds until it can be, and says why it cannot
		}
		return l >= zapcore.ErrorLevel
	case closing:
		return l >= zapcore.DPanicLevel
	}
	return l >= zapcore.WarnLevel
}

func (c *slogCore) With(f []zapcore.Field) zapcore.Core {
	return &slogCore{log: c.log, phase: c.phase, fields: append(c.fields[:len(c.fields):len(c.fields)], f...)}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// newborn is in the errors of a server whose data directory was made just now: it
// has no term yet, from which it could tell the version of its own layout.
const newborn = "missing term information"

func (c *slogCore) Write(e zapcore.Entry, f []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, fields := range [][]zapcore.Field{c.fields, f} {
		for _, x := range fields {
			x.AddTo(enc)
		}
	}
	why := fmt.Sprint(enc.Fields["error"])
	if strings.Contains(why, newborn) {
		return nil
	}
	if c.phase.dying != nil && e.Level > zapcore.DPanicLevel && c.phase.Load() != closing {
		c.phase.dying(e.Message + ": " + why)
		return nil // who is told puts it into the log
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.log.LogAttrs(context.Background(), level, "etcd: "+e.Message, attrs...)
	return nil
}

func (c *slogCore) Sync() error { return nil }

// phase is where the embedded server is in its life: starting, running or
// closing. As zap's hook it decides what a fatal message does.
type phase struct {
	atomic.Int32
	dying func(string) // in a process of its own: is told what ends that
}

const (
	starting int32 = iota
	running
	closing
)

// OnWrite makes a fatal message an error of StartEmbedded while the server
// starts, unless it has a process of its own; afterwards the process ends, as a
// datastore that met the impossible must not answer on.
func (p *phase) OnWrite(e *zapcore.CheckedEntry, _ []zapcore.Field) {
	if p.Load() == starting && p.dying == nil {
		panic(e.Message)
	}
	os.Exit(1)
}

func serverLogger(log *slog.Logger, p *phase) *zap.Logger {
	return zap.New(&slogCore{log: log, phase: p}, zap.WithFatalHook(p), zap.ErrorOutput(zapcore.AddSync(io.Discard)))
}
