// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestNobodyReads: a process whose output nobody reads any more goes on to what it has
// to clean up. It is the test's own program, because SIGPIPE is about standard output.
func TestNobodyReads(t *testing.T) {
	if os.Getenv("MUSLIN_TEST_WRITER") != "" {
		ctx, out, stop := listening(context.Background(), os.Stdout)
		fmt.Fprintln(out, "laying the fabric")
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Second):
			os.Exit(1)
		}
		fmt.Fprintln(out, "tearing down")
		fmt.Fprintln(os.Stderr, "torn down")
		stop()
		os.Exit(7)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestNobodyReads$")
	cmd.Env = append(os.Environ(), "MUSLIN_TEST_WRITER=1")
	cmd.Stdout = write
	err = cmd.Run()
	write.Close()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("ended with %v; want what it does when all is taken down", err)
	}
}
