// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestInstall: what is missing is named once, and apt-get is asked for just that, anew after it has fetched its lists; what
// it says is told if it fails. The apt-get is a script that writes down how it was called: nothing is installed by a test.
func TestInstall(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent")
	old := programs[fabric.BIRD]
	t.Cleanup(func() { programs[fabric.BIRD] = old })
	gone := old
	gone.files = []string{absent, absent + "-too"}
	programs[fabric.BIRD] = gone

	g := &fabric.Design{Devices: []fabric.Device{
		{Name: "t1", Software: fabric.BIRD}, {Name: "t0", Software: fabric.BIRD}, {Name: "s0", Software: fabric.Muslin},
	}}
	missing, err := Missing(g)
	if err != nil || len(missing) != 1 || missing[0] != "bird2" {
		t.Fatalf("missing: %v, %v; want bird2 once", missing, err)
	}
	if err := checkPrograms(g); err == nil || !strings.Contains(err.Error(), "apt-get install bird2") {
		t.Errorf("a lab without its daemons: %v, want the command that installs them", err)
	}

	calls := filepath.Join(dir, "calls")
	apt := func(script string) {
		os.Remove(calls)
		text := "#!/bin/sh\necho \"$1 services=$(test -e " + policyFile + " && echo held)\" >>" + calls + "\n" + script
		if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, before := os.Stat(policyFile)
	for _, c := range []struct{ name, script, calls, fails string }{
		{"at once", "exit 0", "install", ""},
		{"with new lists", "[ $1 = update ] || grep -q update " + calls, "install update install", ""},
		{"without the network", "echo no route to the mirror; exit 100", "install update", "no route to the mirror"},
	} {
		apt(c.script)
		err := Install(t.Context(), missing)
		if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %v, want %q", c.name, err, c.fails)
		}
		said, _ := os.ReadFile(calls)
		var verbs []string
		for line := range strings.Lines(string(said)) {
			verb, services, _ := strings.Cut(strings.TrimSpace(line), " ")
			verbs = append(verbs, verb)
			if services != "services=held" {
				t.Errorf("%s: %s could start services on the host", c.name, verb)
			}
		}
		if got := strings.Join(verbs, " "); got != c.calls {
			t.Errorf("%s: apt-get was asked to %s, want %s", c.name, got, c.calls)
		}
		if _, after := os.Stat(policyFile); os.IsNotExist(before) != os.IsNotExist(after) {
			t.Errorf("%s: %s is not as it was", c.name, policyFile)
		}
	}
	// Who does not want to wait lets apt-get end what it has begun.
	ended := filepath.Join(dir, "ended")
	apt("trap 'touch " + ended + "; exit 1' TERM; touch " + ended + "-began; while :; do sleep 0.01; done")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(ended + "-began"); err == nil {
				cancel()
			}
		}
	}()
	if err := Install(ctx, missing); err == nil {
		t.Error("installed, although it was called off")
	}
	if _, err := os.Stat(ended); err != nil {
		t.Errorf("apt-get could not end by itself: %v", err)
	}
	cancel()
	t.Setenv("PATH", dir+"/none")
	if err := Install(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "no apt-get") {
		t.Errorf("without apt-get: %v", err)
	}
}
