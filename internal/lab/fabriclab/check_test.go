// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/emit"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// check runs muslin fabric check against a lab that is up.
func (l *Lab) check(t *testing.T, more ...string) (a live.Answer, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "design.json")
	text, err := json.Marshal(l.Design)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"fabric", "check", file, "-o", "json"}, more...)
	cmd := exec.CommandContext(t.Context(), muslin, args...)
	out, err := cmd.Output()
	if err != nil && (cmd.ProcessState == nil || len(out) == 0) {
		t.Fatalf("%v: %v: %s", args, err, err.(*exec.ExitError).Stderr)
	}
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return a, cmd.ProcessState.ExitCode()
}

// polled checks until ok has nothing to say against the answer.
func (l *Lab) polled(t *testing.T, ok func(a live.Answer, code int) error, more ...string) (a live.Answer) {
	t.Helper()
	labtest.Poll(t, 45*time.Second, func() error {
		var code int
		a, code = l.check(t, more...)
		return ok(a, code)
	})
	return a
}

// until checks until a finding is there that is wanted.
func (l *Lab) until(t *testing.T, what string, wanted func(live.Finding) bool, more ...string) live.Answer {
	t.Helper()
	return l.polled(t, func(a live.Answer, code int) error {
		if !slices.ContainsFunc(a.Findings, wanted) || code != 1 {
			return fmt.Errorf("%s is not found, exit code %d; there are %+v", what, code, a.Findings)
		}
		return nil
	}, more...)
}

// whole checks until nothing differs.
func (l *Lab) whole(t *testing.T, more ...string) live.Answer {
	t.Helper()
	return l.polled(t, func(a live.Answer, code int) error {
		if len(a.Findings) > 0 || code != 0 {
			return fmt.Errorf("exit code %d, differences in a healthy fabric: %+v", code, a.Findings)
		}
		return nil
	}, more...)
}

// TestCheckLive: a fabric that runs as designed has no difference; a server with another AS number, one without
// a session, and an endpoint that is not announced are each named, with the device and why.
func TestCheckLive(t *testing.T) {
	l := boot(t, design(t, "model: as-per-server, racks: {count: 2}"))
	settled(t, l)
	all := []string{"--live", "--run-dirs", l.dir("")}
	a := l.whole(t, all...)
	if len(a.VRouters) != 4 || a.Sessions != 8 || a.Paths < 4*2*8 || a.Routes < 4*2*8 {
		t.Errorf("compared: %+v", a)
	}
	// The daemon of one server alone, and what was recorded of it.
	record := filepath.Join(t.TempDir(), "seen.json")
	one := []string{"--live", "--run-dirs", l.dir("r0-s0"), "--record", record}
	if a := l.whole(t, one...); !slices.Equal(a.VRouters, []string{"r0-s0"}) {
		t.Errorf("asked: %v", a.VRouters)
	}
	if a := l.whole(t, "--seen", record); a.Sessions != 2 {
		t.Errorf("recorded: %+v", a)
	}

	e, err := emit.New(l.Design)
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.Device(l.x.Device("r1-s0"), emit.VRouter)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(text string) {
		t.Helper()
		if err := l.muslin(t.Context(), text, "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	number := fmt.Sprintf("asNumber: %d\n", l.x.Device("r1-s0").AS)
	if strings.Count(text, number) != 1 {
		t.Fatalf("%q is not once in %s", number, text)
	}

	apply(strings.Replace(text, number, "asNumber: 4200999999\n", 1))
	a = l.until(t, "a wrong AS number", func(f live.Finding) bool {
		return f.Device == "r1-s0" && f.Kind == live.AS && f.Expected != f.Seen && f.Seen == "AS 4200999999" && strings.Contains(f.Cause, "asNumber")
	}, all...)
	// What the others miss for it follows from that.
	for _, f := range a.Findings {
		if !f.Follows && f.Device != "r1-s0" {
			t.Errorf("beside a wrong AS number: %+v", f)
		}
	}
	apply(text)
	l.whole(t, all...)

	session := func(number string) string {
		return "r1-s0.r1-t0." + l.x.Device("r1-s0").Interfaces[1].Name + "." + number
	}
	if err := l.muslin(t.Context(), "", "delete", "bgppeer", session("6")); err != nil {
		t.Fatal(err)
	}
	for _, f := range l.until(t, "a missing session", func(f live.Finding) bool {
		return f.Device == "r1-s0" && f.Kind == live.Session && f.Peer == "r1-t0" && f.Seen == "none" && strings.Contains(f.Cause, "vrouter.yaml")
	}, all...).Findings {
		if !f.Follows && f.Kind != live.Session && f.Device == "r1-s0" || f.Family == fabric.IPv4 {
			t.Errorf("beside a missing session of IPv6: %+v", f)
		}
	}
	apply(text)
	l.whole(t, all...)

	// A daemon that is dead is named, that of the first directory, too, and the others are compared.
	if err := l.Fail(Failed{"r0-s0", ByDaemon}); err != nil {
		t.Fatal(err)
	}
	a = l.until(t, "a dead daemon", func(f live.Finding) bool {
		return f.Device == "r0-s0" && f.Kind == live.Device && strings.Contains(f.Seen, "is not running")
	}, all...)
	if len(a.VRouters) != 3 || a.Sessions != 6 {
		t.Errorf("beside a dead daemon: %v, %d sessions", a.VRouters, a.Sessions)
	}
	if err := l.Heal(t.Context(), "r0-s0"); err != nil {
		t.Fatal(err)
	}
	l.whole(t, all...)

	// An endpoint whose interface is gone is announced in neither family.
	gone := l.Endpoints()[0]
	n, err := l.space(gone.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.DeleteLink("eth0"); err != nil {
		t.Fatal(err)
	}
	found := map[netip.Addr]bool{}
	a = l.until(t, "an endpoint that is not announced", func(f live.Finding) bool {
		if f.Kind == live.Prefix && f.Device == gone.Server && f.Expected == "announced" && strings.Contains(f.Cause, "interface") {
			found[f.Prefix.Addr()] = true
		}
		return len(found) == 2
	}, all...)
	if !found[gone.Addrs[0]] || !found[gone.Addrs[1]] {
		t.Errorf("found %v of an endpoint without interface, %v", found, gone.Addrs)
	}
	for _, f := range a.Findings {
		if !f.Follows && f.Kind != live.Prefix && f.Kind != live.FIB {
			t.Errorf("beside prefixes: %+v", f)
		}
	}
}
