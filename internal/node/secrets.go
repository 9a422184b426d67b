// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/secret"
)

// secretsEvery is how often files are looked at: there are few, and a new
// password is to be in force within seconds.
const secretsEvery = 2 * time.Second

// secrets reads what objects refer to, and remembers what was asked for, so
// that a file that comes, goes or changes is noticed.
type secrets struct {
	dir string

	mu    sync.Mutex
	asked map[v3.SecretKeyRef]outcome // without Optional
}

// outcome is what came of reading a file.
type outcome struct {
	text secret.Text
	err  string
}

// read returns the secret that ref names.
func (s *secrets) read(ref *v3.SecretKeyRef) (secret.Text, error) {
	if ref == nil {
		return secret.Text{}, errors.New("names no secret: give secretKeyRef with a name and a key")
	}
	text, err := readSecret(s.dir, ref.Name, ref.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[v3.SecretKeyRef]outcome{}
	}
	s.asked[v3.SecretKeyRef{Name: ref.Name, Key: ref.Key}] = outcomeOf(text, err)
	return text, err
}

// forget begins anew: what is not asked for again is not watched.
func (s *secrets) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = nil
}

func outcomeOf(text secret.Text, err error) outcome {
	if err != nil {
		return outcome{err: err.Error()}
	}
	return outcome{text: text}
}

// watch calls changed when a file that was asked for reads differently now.
func (s *secrets) watch(ctx context.Context, changed func()) {
	tick := time.NewTicker(secretsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if s.differ() {
				changed()
			}
		}
	}
}

func (s *secrets) differ() bool {
	s.mu.Lock()
	was := maps.Clone(s.asked)
	s.mu.Unlock()
	for ref, o := range was {
		now := outcomeOf(readSecret(s.dir, ref.Name, ref.Key))
		if now.err != o.err || now.text.Reveal() != o.text.Reveal() {
			return true
		}
	}
	return false
}
