// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"log/slog"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/store"
)

// problem is an object in error: what the status shows.
type problem struct{ object, field, text string }

// problemOf makes a problem of an error about an object, which is named once.
func problemOf(object, field string, err error) problem {
	var read *store.Error
	if errors.As(err, &read) {
		err = read.Err
	}
	if f, ok := err.(*v3.FieldError); ok {
		if field == "" {
			field = f.Path
		}
		return problem{object, field, f.Problem}
	}
	return problem{object, field, err.Error()}
}

const (
	// problemPause is how long problems are left to settle before the log tells of
	// them, and problemQuiet for how long it then keeps quiet.
	problemPause = time.Second
	problemQuiet = 10 * time.Second
	// problemLines bounds the lines of one time.
	problemLines = 20
)

// problemLog tells the log of each problem that the status shows, once when it appears
// and once when it is gone. The status is asked by who suspects something; the log is
// there for who does not. To gather them costs as much as there are endpoints, so they
// are compared a while after something has changed. The zero value is ready.
type problemLog struct {
	at     <-chan time.Time // when they are to be gathered; nil: nothing has changed
	spoken time.Time
	said   map[api.Problem]bool
}

// due takes note that problems may have changed.
func (p *problemLog) due(now time.Time, known bool) {
	if known && p.at == nil {
		p.at = time.After(max(problemPause, p.spoken.Add(problemQuiet).Sub(now)))
	}
}

// say tells of what is new in a list, and of what is gone from it.
func (p *problemLog) say(log *slog.Logger, list []api.Problem, now time.Time) {
	p.at = nil
	is := make(map[api.Problem]bool, len(list))
	lines := 0
	say := func(f func(string, ...any), what string, k api.Problem) {
		if lines++; lines <= problemLines {
			f(what, "object", k.Object, "field", k.Field, "text", k.Text)
		}
	}
	for _, k := range list {
		if !is[k] && !p.said[k] {
			say(log.Warn, "problem", k)
		}
		is[k] = true
	}
	for k := range p.said {
		if !is[k] {
			say(log.Info, "problem solved", k)
		}
	}
	if lines > problemLines {
		log.Warn("problems that came or went are too many to name; `muslin status` shows them", "more", lines-problemLines, "problems", len(is))
	}
	if lines > 0 {
		p.spoken = now
	}
	p.said = is
}

// unready is the problem that the datastore says to program nothing new, which the
// status shows apart.
func (m *model) unready() []api.Problem {
	if m.cluster == nil || m.ready() {
		return nil
	}
	return []api.Problem{{Object: "ClusterInformation default", Field: "spec.datastoreReady",
		Text: "it is not true, so what is enforced stays, and nothing new is programmed"}}
}
