// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/secret"
)

// defaultSecrets is where this node's secrets are: a secret is a directory
// there, a key of it is a file in that. The datastore only names them.
const defaultSecrets = "/etc/muslin/secrets"

// maxSecret bounds what is read of a file.
const maxSecret = 4096

// readSecret reads a key of a secret. What others could read is no secret, and
// is refused. One newline at the end, as editors leave it, is not part of it.
func readSecret(dir, name, key string) (secret.Text, error) {
	if dir == "" {
		dir = defaultSecrets
	}
	for _, part := range []string{name, key} {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/\x00") {
			return secret.Text{}, fmt.Errorf("secret %q, key %q: not names of a directory and a file", name, key)
		}
	}
	path := filepath.Join(dir, name, key)
	f, err := os.Open(path)
	if err != nil {
		return secret.Text{}, fmt.Errorf("secret %s/%s: %w", name, key, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Text{}, fmt.Errorf("secret %s/%s: %w", name, key, err)
	}
	fail := func(format string, args ...any) (secret.Text, error) {
		return secret.Text{}, fmt.Errorf("secret %s/%s: %s: %s", name, key, path, fmt.Sprintf(format, args...))
	}
	if !info.Mode().IsRegular() {
		return fail("is not a file")
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return fail("others may use it (mode %04o): chmod 600 it", m)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fail("belongs to user %d: chown it to root", st.Uid)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch text := strings.TrimSuffix(string(b), "\n"); {
	case err != nil:
		return fail("%v", err)
	case len(b) > maxSecret:
		return fail("is longer than %d bytes", maxSecret)
	case text == "":
		return fail("is empty")
	default:
		return secret.New(text), nil
	}
}

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
