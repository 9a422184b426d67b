// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestOneDirectory: what uses one directory for two purposes is not in its own
// way, and is in that of others.
func TestOneDirectory(t *testing.T) {
	dir := t.TempDir()
	kind := Kind{What: "test", Socket: fmt.Sprintf("@muslin-lock-test-%d", os.Getpid()), File: "test.lock"}
	l, err := Take(kind, dir, filepath.Join(dir, "."), dir+"/../"+filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	other := kind
	other.Socket += "-other"
	var held *ErrHeld
	if _, err := Take(other, t.TempDir(), dir); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("a second one: %v, want it held by pid %d", err, os.Getpid())
	}
	l.Release()
	l, err = Take(other, dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}
