// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// undisturbed fails the test unless every table is as simulated and everybody reaches everybody.
func (l *Lab) undisturbed(t *testing.T) {
	t.Helper()
	settled(t, l)
	if r, err := l.Probe(t.Context()); err != nil || len(r.Unreached) > 0 || r.Probes == 0 {
		t.Errorf("%s: %v, %+v", l.Name, err, r)
	}
}

// TestSeveral: two labs of one design are up side by side, of which the name of one begins with that of the other; addresses
// and AS numbers are the same in both. A third one crashes: the command that boots it is killed halfway, and once it was up
// the datastore of all and a daemon. It is refused while there is anything of it; down leaves nothing of it, neither a
// process, nor a namespace, nor a file, and nothing of the other two is missing.
func TestSeveral(t *testing.T) {
	a := design(t, "model: as-per-rack, racks: {count: 2}")
	b, c := *a, *a
	b.Metadata.Name += "-b"
	c.Metadata.Name += "-c"
	labs := []*Lab{boot(t, a), boot(t, &b)}
	both := func() {
		t.Helper()
		for _, l := range labs {
			l.undisturbed(t)
		}
	}
	both()
	t.Cleanup(func() {
		if _, err := Down(c.Metadata.Name); err != nil {
			t.Error(err)
		}
	})

	cmd, out := upCommand(t, &c)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	booting := func() error {
		names, err := left(c.Metadata.Name)
		if err == nil && len(daemonsOf(t, c.Metadata.Name)) < 3 {
			err = fmt.Errorf("%d namespaces, and hardly a daemon: %s", len(names), out)
		}
		return err
	}
	labtest.Poll(t, 30*time.Second, booting)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	cleared(t, &c)

	cmd, out = upCommand(t, &c, "-o", "json")
	text, err := cmd.Output()
	var answer struct {
		Name                              string
		Devices, Paths, Routes, Endpoints int
		Differences                       []any
	}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil || answer.Name != c.Metadata.Name || answer.Devices != 8 || answer.Endpoints != 8 || answer.Paths < 50 || answer.Routes < 50 || answer.Differences == nil || len(answer.Differences) > 0 {
		t.Fatalf("up: %v: %s%s", err, text, out)
	}
	for _, name := range []string{management, "r0-t0"} {
		for _, pid := range daemonsOf(t, c.Metadata.Name, name) {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	cleared(t, &c)
	both()
}

// upCommand boots a design as a person does; what it says beside its answer is collected.
func upCommand(t *testing.T, g *fabric.Design, more ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "design.json")
	text, err := json.Marshal(g)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := &strings.Builder{}
	cmd := exec.CommandContext(t.Context(), muslin, append([]string{"fabric", "lab", "up", file}, more...)...)
	cmd.Stderr = out
	return cmd, out
}

// daemonsOf are the processes in a lab's namespaces: in all of them, or in those of some devices.
func daemonsOf(t *testing.T, name string, devices ...string) []int {
	t.Helper()
	spaces, err := left(name)
	if len(devices) > 0 {
		spaces = nil
		for _, d := range devices {
			spaces = append(spaces, prefix(name)+d)
		}
	}
	var pids []int
	if err == nil {
		pids, err = lab.Inside(spaces...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// cleared fails the test unless there is something of a lab, which is not booted again, and down removes all of it.
func cleared(t *testing.T, g *fabric.Design) {
	t.Helper()
	name := g.Metadata.Name
	// A program that was just being started has what its parent had for a moment longer, the lock of the lab among that.
	labtest.Poll(t, 5*time.Second, func() error {
		_, err := Up(t.Context(), g, Options{Binary: muslin, Say: t.Logf})
		if err == nil {
			t.Fatal("booted over what a crash left")
		}
		if strings.Contains(err.Error(), "`muslin fabric lab down "+name+"` removes it") {
			return nil
		}
		return err
	})
	pids := daemonsOf(t, name)
	if found, err := Down(name); err != nil || !found {
		t.Errorf("down: found %v, %v", found, err)
	}
	if names, err := left(name); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
	for _, file := range []string{filepath.Join(root, name), filepath.Join(root, name+".lock")} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is left", file)
		}
	}
	for _, pid := range pids {
		if words := commandLine(pid); strings.Contains(strings.Join(words, " "), filepath.Join(root, name)+"/") {
			t.Errorf("process %d is left: %q", pid, words)
		}
	}
	if len(pids) == 0 {
		t.Error("the crash left no process: nothing was shown")
	}
}
