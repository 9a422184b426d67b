// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package labtest connects package lab to tests: a test that needs namespaces
// says so in its first line, and what it made is gone when it ends.
package labtest

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// RequireEnv is the variable that turns a skip for lack of rights into a
// failure, so that a machine meant to run everything cannot skip in silence.
const RequireEnv = "MUSLIN_REQUIRE_ROOT"

// Require skips the test unless it may make network namespaces.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "needs root, to make network namespaces"
	if os.Getenv(RequireEnv) == "1" {
		t.Fatal(why + " (" + RequireEnv + "=1)")
	}
	t.Skip(why)
}

// Programs skips the test unless these files of a Debian package are there, or
// fails it where everything must be.
func Programs(t testing.TB, pkg string, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			continue
		}
		missing := p + " is not installed (Debian package " + pkg + ")"
		if os.Getenv(RequireEnv) == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
}

// Build builds the program under test into dir and returns its path.
func Build(dir string) (binary string, err error) {
	binary = filepath.Join(dir, "muslin")
	build := exec.Command("go", "build", "-o", binary, "github.com/muslin-net/muslin/cmd/muslin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}

// New returns an empty lab with a unique prefix that is closed with the test.
func New(t testing.TB) *lab.Lab {
	t.Helper()
	Require(t)
	l := lab.New("")
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return l
}

// Namespace makes a namespace in the lab or ends the test.
func Namespace(t testing.TB, l *lab.Lab, name string) *lab.Namespace {
	t.Helper()
	n, err := l.Namespace(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Fabric makes an Ethernet segment in the lab or ends the test.
func Fabric(t testing.TB, l *lab.Lab, name string) *lab.Fabric {
	t.Helper()
	f, err := l.Fabric(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Host makes a compute server in the lab or ends the test.
func Host(t testing.TB, l *lab.Lab, f *lab.Fabric, name string, addrs ...string) *lab.Host {
	t.Helper()
	var ps []netip.Prefix
	for _, a := range addrs {
		ps = append(ps, netip.MustParsePrefix(a))
	}
	h, err := l.Host(f, name, ps...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Poll calls cond every few milliseconds until it returns nil, and fails the
// test with the last error when that takes longer than limit.
func Poll(t testing.TB, limit time.Duration, cond func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %v", limit, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
