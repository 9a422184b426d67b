// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// hasCarrier tells whether a port of a device sees its cable.
func hasCarrier(t *testing.T, l *Lab, p Plug) bool {
	t.Helper()
	n, err := l.space(p.Space)
	if err != nil {
		t.Fatal(err)
	}
	h, err := n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	link, err := h.LinkByName(p.Link)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
}

// TestFailedTwice: a cable that two failures take, each in its way, fails in the way of the one that is left, and is whole when both are
// healed.
func TestFailedTwice(t *testing.T) {
	l := boot(t, design(t, "model: as-per-rack, racks: {count: 2}, servers: {perRack: 1}"))
	names := []string{"spine0-r0-t0", "r0-t0-spine0"}
	for _, hows := range [][2]How{{ByCarrier, Silent}, {Silent, ByCarrier}} {
		for healed := range names {
			settled(t, l)
			for i, name := range names {
				if err := l.Fail(Failed{name, hows[i]}); err != nil {
					t.Fatal(err)
				}
			}
			for _, i := range []int{healed, 1 - healed} {
				if err := l.Heal(t.Context(), names[i]); err != nil {
					t.Fatal(err)
				}
				want := len(l.Failed) == 0 || l.Failed[0].How == Silent
				for _, c := range l.cut(names[0]) {
					labtest.Poll(t, 5*time.Second, func() error { // the other end of a cable is told
						if has := hasCarrier(t, l, c.Port); has != want {
							return fmt.Errorf("%v, %s healed, %v failed: carrier of %s is %v", hows, names[i], l.Failed, c.Port, has)
						}
						return nil
					})
				}
			}
		}
	}
	settled(t, l)
}

// TestForgottenDaemon: a daemon is healed although flows to its server do not arrive, as when it was dead for longer than its peers wait;
// that one did not start is not forgotten.
func TestForgottenDaemon(t *testing.T) {
	l := boot(t, design(t, "model: as-per-rack, racks: {count: 2}, servers: {perRack: 1}"))
	settled(t, l)
	if err := l.Fail(Failed{"r0-s0", ByDaemon}); err != nil {
		t.Fatal(err)
	}
	to := l.Endpoints()[0]
	n, err := l.space(to.Server)
	if err != nil {
		t.Fatal(err)
	}
	h, err := n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	routes, err := h.RouteList(nil, unix.AF_UNSPEC)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for _, r := range routes { // the daemon that is healed installs them again
		if r.Dst == nil || !slices.ContainsFunc(to.Addrs, func(a netip.Addr) bool { return r.Dst.String() == netip.PrefixFrom(a, a.BitLen()).String() }) {
			continue
		}
		if err := h.RouteDel(&r); err != nil {
			t.Fatal(err)
		}
		gone++
	}
	if gone != 2 {
		t.Fatalf("%d routes to %v, want 2", gone, to.Addrs)
	}
	binary := l.Binary
	l.Binary = "/nonexistent"
	if err := l.Heal(t.Context(), "r0-s0"); err == nil || len(l.Failed) != 1 {
		t.Errorf("healed without a program: %v, %v has failed", err, l.Failed)
	}
	l.Binary = binary
	e, err := l.Watch(t.Context(), "r0-s0 up", func() error { return l.Heal(t.Context(), "r0-s0") })
	if err != nil {
		t.Fatal(err)
	}
	before := 0
	for _, g := range e.Flows {
		if g.Before != (g.To == to.Name) && g.From != to.Name {
			t.Errorf("before: %+v", g)
		}
		if g.Before {
			before++
		}
	}
	if before == 0 || len(e.Differences) > 0 || !strings.Contains(e.Summary(), "had arrived before") {
		t.Errorf("%d flows without a way before; %s, %v", before, e.Summary(), e.Differences)
	}
	l.undisturbed(t)
}

// TestNotWrittenDown: what could not be written down does not fail, since nothing would heal it.
func TestNotWrittenDown(t *testing.T) {
	l := boot(t, design(t, "model: as-per-rack, racks: {count: 2}, servers: {perRack: 1}"))
	settled(t, l)
	in := stateFile(l.Name) + ".new" // nothing can be written there
	if err := os.Mkdir(in, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Failed{{"spine0", ByCarrier}, {"spine1-r0-t0", Silent}, {"r0-s0", ByDaemon}} {
		if err := l.Fail(f); err == nil {
			t.Errorf("%s failed", f.What)
		}
	}
	if err := os.Remove(in); err != nil {
		t.Fatal(err)
	}
	if len(l.Failed) > 0 {
		t.Errorf("%v has failed", l.Failed)
	}
	if running, err := l.daemons(); err != nil || running["r0-s0"] == 0 {
		t.Errorf("the daemon of r0-s0 does not run: %v", err)
	}
	settled(t, l)
}

// TestClaim: one command at a time is at work on a lab, while others find that it is not up, and remove what they made to see.
func TestClaim(t *testing.T) {
	labtest.Require(t)
	name := "t-claim"
	var wait sync.WaitGroup
	var inside, twice atomic.Int32
	for range 16 {
		wait.Go(func() {
			for range 2000 {
				lock, err := claim(name)
				if err != nil {
					continue
				}
				if inside.Add(1) > 1 {
					twice.Add(1)
				}
				time.Sleep(10 * time.Microsecond)
				inside.Add(-1)
				_ = os.Remove(lock.Name()) // as down does in the end
				lock.Close()
			}
		})
	}
	wait.Wait()
	_ = os.Remove(filepath.Join(root, name+".lock"))
	if n := twice.Load(); n > 0 {
		t.Errorf("%d times two had the lab", n)
	}
}
