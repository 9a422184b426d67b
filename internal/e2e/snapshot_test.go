// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// TestLastKnown boots a server without its datastore. It goes on with what that held when
// the server went down: what was allowed passes, and what was not never does. What has
// changed meanwhile is in force when the datastore is back. A file that is not whole
// opens nothing, and neither does one that is too old.
func TestLastKnown(t *testing.T) {
	t.Parallel()
	h := newBooting(t)
	ctx := t.Context()
	down := func() { // a reboot that was announced
		t.Helper()
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		if err := h.Live(ctx, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := h.Stop(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		h.ends(t)
	}
	down()
	h.ds.object("GlobalNetworkPolicy", "", "closed", "", `"selector":"all()","order":1,"types":["Ingress"],"ingress":[{"action":"Deny"}]`)
	h.ds.stop()
	h.guard(t)
	h.closed(t, "guarded")
	forbidden := newStreams(31000)
	forbidden.begin(t, h.stranger, h.a, 300, false)
	forbidden.begin(t, h.stranger, h.b, 300, false)

	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	passes(t, h.a, h.b, 30*time.Second)
	s, err := h.API().Status(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.Live || s.Datastore.SavedAt == nil || !strings.Contains(strings.Join(s.Missing, " "), "has not answered") {
		t.Errorf("live %v, saved at %v, missing %q", s.Live, s.Datastore.SavedAt, s.Missing)
	}

	h.ds.start()
	eventually(t, 30*time.Second, func() error {
		for family, dst := range families(h.b) {
			if o := h.a.Probe(ctx, lab.Probe{Proto: lab.UDP, Dst: dst, Port: 7, Timeout: 200 * time.Millisecond}); o.Verdict == lab.Reached {
				return fmt.Errorf("a reaches b by %s: what was written meanwhile is not in force", family)
			}
		}
		return nil
	})
	if err := h.Live(ctx, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if s, err := h.API().Status(ctx, 0); err != nil || s.Datastore.SavedAt != nil {
		t.Errorf("still going by what was saved: %v, %v", s.Datastore.SavedAt, err)
	}
	if _, err := h.Muslin(ctx, "delete", "globalnetworkpolicy", "closed"); err != nil {
		t.Fatal(err)
	}
	passes(t, h.a, h.b, 10*time.Second)
	forbidden.silent(t)

	h.ends(t)
	down()
	path := filepath.Join(h.StateDir(), "datastore.snapshot")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(word, when string) {
		t.Helper()
		h.ds.stop()
		h.guard(t)
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, func() error {
			if !strings.Contains(h.Log(), word) {
				return fmt.Errorf("the log does not name %s", word)
			}
			return nil
		})
		h.closed(t, when)
		h.ds.start()
		passes(t, h.a, h.b, 30*time.Second)
	}
	refused(path, "with a file that is not whole")

	h.ends(t)
	down()
	for _, family := range []string{"-4", "-6"} { // what an earlier daemon has in force goes on at any age
		if err := program(t, h.Namespace, "ip", family, "route", "flush", "proto", "177"); err != nil {
			t.Fatal(err)
		}
	}
	h.Args = append(h.Args, "--snapshot-max-age", "1ns")
	refused("older than --snapshot-max-age", "with what is too old")
}
