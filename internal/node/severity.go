// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"math"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// severity is the handler of what BGP logs: its least level follows
// logSeverityScreen of the model, while the rest of the daemon keeps that of the
// command line.
type severity struct {
	slog.Handler
	least *slog.LevelVar
}

// Levels that are none of a record's.
const (
	asGiven slog.Level = math.MinInt32 // that of the command line
	nothing slog.Level = math.MaxInt32
)

func newSeverity(h slog.Handler) severity {
	s := severity{h, new(slog.LevelVar)}
	s.least.Set(asGiven)
	return s
}

// Enabled implements slog.Handler.
func (s severity) Enabled(ctx context.Context, l slog.Level) bool {
	if least := s.least.Level(); least != asGiven {
		return l >= least
	}
	return s.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (s severity) WithAttrs(attrs []slog.Attr) slog.Handler {
	return severity{s.Handler.WithAttrs(attrs), s.least}
}

// WithGroup implements slog.Handler.
func (s severity) WithGroup(name string) slog.Handler {
	return severity{s.Handler.WithGroup(name), s.least}
}

// bgpSeverity is the least level that the configurations ask for; the node's own
// wins. Info is stored wherever the author said nothing, so it leaves the level to the
// command line.
func bgpSeverity(global, own *v3.BGPConfiguration) slog.Level {
	for _, c := range []*v3.BGPConfiguration{own, global} {
		if c == nil {
			continue
		}
		switch strings.ToLower(c.Spec.LogSeverityScreen) {
		case "trace", "debug":
			return slog.LevelDebug
		case "warning":
			return slog.LevelWarn
		case "error", "fatal":
			return slog.LevelError
		case "none":
			return nothing
		case "info":
			return asGiven
		}
	}
	return asGiven
}
