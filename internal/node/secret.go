// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/muslin-net/muslin/internal/store"
)

// defaultSecrets is where this node's secrets are: a secret is a directory
// there, a key of it is a file in that. The datastore only names them.
const defaultSecrets = "/etc/muslin/secrets"

// maxSecret bounds what is read of a file.
const maxSecret = 4096

// readSecret reads a key of a secret. What others could read is no secret, and
// is refused. One newline at the end, as editors leave it, is not part of it.
func readSecret(dir, name, key string) (store.Secret, error) {
	if dir == "" {
		dir = defaultSecrets
	}
	for _, part := range []string{name, key} {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/\x00") {
			return store.Secret{}, fmt.Errorf("secret %q, key %q: not names of a directory and a file", name, key)
		}
	}
	path := filepath.Join(dir, name, key)
	f, err := os.Open(path)
	if err != nil {
		return store.Secret{}, fmt.Errorf("secret %s/%s: %w", name, key, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return store.Secret{}, fmt.Errorf("secret %s/%s: %w", name, key, err)
	}
	fail := func(format string, args ...any) (store.Secret, error) {
		return store.Secret{}, fmt.Errorf("secret %s/%s: %s: %s", name, key, path, fmt.Sprintf(format, args...))
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
		return store.NewSecret(text), nil
	}
}
