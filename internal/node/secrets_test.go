// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// B13: a secret that comes, changes or goes is noticed, as long as somebody asks for it.
func TestB13_SecretsAreWatched(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bgp"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bgp", "tor")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &secrets{dir: dir}
	ref := &v3.SecretKeyRef{Name: "bgp", Key: "tor"}
	read := func(want string) {
		t.Helper()
		s.forget()
		if text, err := s.read(ref); text.Reveal() != want || (err == nil) != (want != "") {
			t.Errorf("%q, %v; want %q", text.Reveal(), err, want)
		}
		if s.differ() {
			t.Error("something differs, and nothing was changed")
		}
	}
	changes := func(what string) {
		t.Helper()
		if !s.differ() {
			t.Errorf("%s is not noticed", what)
		}
	}
	read("")
	put("one")
	changes("a new file")
	read("one")
	put("two")
	changes("a new password")
	read("two")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	changes("a file that others can read")
	read("")
	s.forget()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if s.differ() {
		t.Error("what nobody asks for is watched")
	}
	if _, err := s.read(nil); err == nil {
		t.Error("a reference to nothing is read")
	}
}
