// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestOrphan: a command that writes into the datastore dies with the one that asked it to. It outlived an up that was killed, and down.
func TestOrphan(t *testing.T) {
	program := os.Getenv("MUSLIN_TEST_ORPHAN")
	if program != "" { // the one that is killed
		t.Fatal((&Lab{Binary: program, Name: "t-orphan"}).muslin(t.Context(), ""))
	}
	dir := t.TempDir()
	program = filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho $$ > "+dir+"/new\nmv "+dir+"/new "+dir+"/pid\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestOrphan$")
	cmd.Env = append(os.Environ(), "MUSLIN_TEST_ORPHAN="+program)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	labtest.Poll(t, 2*time.Minute, func() error { // it builds muslin first
		text, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err == nil {
			pid, err = strconv.Atoi(string(text[:len(text)-1]))
		}
		return err
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	labtest.Poll(t, 5*time.Second, func() error {
		if len(commandLine(pid)) > 0 {
			return fmt.Errorf("process %d is still there", pid)
		}
		return nil
	})
}
