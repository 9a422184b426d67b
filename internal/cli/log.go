// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"slices"
	"strings"
	"sync"
)

var logLevels = []string{"debug", "info", "warn", "error"}

// logConfig says where the daemon's logs go and which.
type logConfig struct{ to, level string }

func (c logConfig) check() error {
	var errs []error
	if c.to != "stderr" && c.to != "syslog" {
		errs = append(errs, fmt.Errorf("--log %s: want stderr or syslog", c.to))
	}
	if !slices.Contains(logLevels, c.level) {
		errs = append(errs, fmt.Errorf("--log-level %s: want one of %s", c.level, strings.Join(logLevels, ", ")))
	}
	return errors.Join(errs...)
}

// openLog returns the logger that a checked configuration asks for.
func openLog(c logConfig, stderr io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.level)); err != nil {
		return nil, err
	}
	if c.to == "syslog" {
		to := &syslogOrElse{stderr: stderr, dial: func() (severities, error) {
			return syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "muslin")
		}}
		return slog.New(newSyslogHandler(to, level)), nil
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})), nil
}

// severities is what a syslog writer offers.
type severities interface {
	Err(string) error
	Warning(string) error
	Info(string) error
	Debug(string) error
}

// syslogHandler sends each record with its severity. Time and level are
// syslog's own, and not repeated in the text.
type syslogHandler struct {
	to   severities
	line *sharedLine
	text slog.Handler // writes into line
}

// sharedLine is where handlers derived from one another render a record.
type sharedLine struct {
	sync.Mutex
	bytes.Buffer
}

func newSyslogHandler(to severities, level slog.Level) *syslogHandler {
	line := &sharedLine{}
	return &syslogHandler{to, line, slog.NewTextHandler(line, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

func (h *syslogHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.text.Enabled(ctx, l)
}

func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	h.line.Lock()
	defer h.line.Unlock()
	h.line.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	text := strings.TrimSuffix(h.line.String(), "\n")
	switch {
	case r.Level >= slog.LevelError:
		return h.to.Err(text)
	case r.Level >= slog.LevelWarn:
		return h.to.Warning(text)
	case r.Level >= slog.LevelInfo:
		return h.to.Info(text)
	}
	return h.to.Debug(text)
}

func (h *syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &syslogHandler{h.to, h.line, h.text.WithAttrs(attrs)}
}

func (h *syslogHandler) WithGroup(name string) slog.Handler {
	return &syslogHandler{h.to, h.line, h.text.WithGroup(name)}
}
