// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/bench/datastore"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestMain is also the etcd that the benchmark starts in a process of its own.
func TestMain(m *testing.M) {
	if yes, err := datastore.Serving(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	} else if yes {
		return
	}
	os.Exit(m.Run())
}

// TestBenchmarkRuns keeps the benchmark working. It judges no figure: what a
// busy machine shows says nothing.
func TestBenchmarkRuns(t *testing.T) {
	labtest.Require(t)
	binary, err := labtest.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	err = run(t.Context(), []string{
		"-binary", binary, "-etcd", datastore.Own, "-local", "3", "-remote", "20", "-policies", "95", "-rules", "3",
		"-rounds", "2", "-starts", "1", "-rest", "1ms", "-idle", "0", "-interval", "1ms",
	}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	for _, want := range []string{"policy opened", "new endpoint", "memory", "start to live", "budget", "20 remote, 95 policies", "40 remote, 190 policies"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
}

// TestListens reads the kernel's list of netlink sockets.
func TestListens(t *testing.T) {
	const head = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
	for _, x := range []struct {
		socket string
		want   bool
	}{
		{"000000001ba0a869 12  2773108674 00000040 0        0        0     2        0        21774307\n", true},
		{"000000001ba0a869 12  2773108674 000000c1 0        0        0     2        0        21774307\n", true},
		{"0000000037876622 12  0          00000000 0        0        0     2        0        21772230\n", false},
		{"0000000037876622 12  77         00000007 0        0        0     2        0        21772230\n", false},
		{"0000000037876622 0   77         00000040 0        0        0     2        0        21772230\n", false},
	} {
		if got := listens(head + x.socket); got != x.want {
			t.Errorf("%q: listens is %v", x.socket, got)
		}
	}
}
