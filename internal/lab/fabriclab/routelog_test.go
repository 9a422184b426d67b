// SPDX-License-Identifier: Apache-2.0

package fabriclab

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
)

// routeLog is every change of a kernel's route to an endpoint, on every device, as the kernel tells of it: what a move
// did, hop by hop, and how many exceptions a ToR has at every moment.
type routeLog struct {
	lab       *Lab
	budget    int
	endpoints map[netip.Addr]bool

	mu     sync.Mutex
	events []routeEvent
	up     map[table]map[routeKey]bool
	most   map[table]int
	faults []string // more exceptions than planned for, and what kept the log from being complete
}

// table is one of a ToR, whose budget it is.
type table struct {
	device string
	v6     bool
}

// routeKey is what the kernel tells routes of one table apart by.
type routeKey struct {
	addr     netip.Addr
	priority int
}

type routeEvent struct {
	at   time.Time
	addr netip.Addr // invalid: of all
	text string
}

// followRoutes begins to listen, until the test ends.
func followRoutes(t *testing.T, l *Lab, budget int) *routeLog {
	t.Helper()
	r := &routeLog{lab: l, budget: budget, endpoints: map[netip.Addr]bool{}, up: map[table]map[routeKey]bool{}, most: map[table]int{}}
	for _, e := range l.Endpoints() {
		for _, a := range e.Addrs {
			r.endpoints[a] = true
		}
	}
	done := make(chan struct{})
	var wait sync.WaitGroup
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		var ports map[int]bool
		if d.Role == fabric.RoleToR {
			var err error
			if ports, err = l.uplinks(d); err != nil {
				t.Fatal(err)
			}
		}
		n, err := l.space(d.Name)
		if err != nil {
			t.Fatal(err)
		}
		updates := make(chan netlink.RouteUpdate, 1<<12)
		err = n.Do(func() error {
			return netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{
				ListExisting: true, ReceiveBufferSize: 4 << 20, ReceiveBufferForceSize: true,
				ErrorCallback: func(err error) {
					select {
					case <-done:
					default:
						r.fault("%s: %v", d.Name, err)
					}
				},
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			for u := range updates {
				r.take(d, ports, u)
			}
		})
	}
	wait.Go(func() { r.pauses(done) })
	t.Cleanup(func() {
		close(done)
		wait.Wait()
	})
	return r
}

func (r *routeLog) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// take is what a kernel says of a route.
func (r *routeLog) take(d *fabric.Device, ports map[int]bool, u netlink.RouteUpdate) {
	if u.Table != unix.RT_TABLE_MAIN || u.Dst == nil {
		return
	}
	now := time.Now()
	a, _ := netip.AddrFromSlice(u.Dst.IP)
	a = a.Unmap()
	if ones, bits := u.Dst.Mask.Size(); ones != bits || !r.endpoints[a] {
		return
	}
	_, up := exception(u.Route, ports)
	up = up && u.Type == unix.RTM_NEWROUTE
	what := map[uint16]string{unix.RTM_NEWROUTE: "to", unix.RTM_DELROUTE: "no more to"}[u.Type]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, routeEvent{now, a, fmt.Sprintf("%s %s %s", d.Name, what, r.lab.hops(d, u.Route))})
	if ports == nil {
		return
	}
	at := table{d.Name, a.Is6()}
	if r.up[at] == nil {
		r.up[at] = map[routeKey]bool{}
	}
	if !up {
		delete(r.up[at], routeKey{a, u.Priority})
		return
	}
	r.up[at][routeKey{a, u.Priority}] = true
	if n := len(r.up[at]); n > r.most[at] {
		r.most[at] = n
		if n > r.budget {
			r.faults = append(r.faults, fmt.Sprintf("%s %s has a route to %s upwards, its number %d of %d", now.Format("15:04:05.000"), d.Name, a, n, r.budget))
		}
	}
}

// hops are the devices that a route leads to.
func (l *Lab) hops(d *fabric.Device, r netlink.Route) string {
	n, err := l.space(d.Name)
	if err != nil {
		return err.Error()
	}
	h, err := n.Handle()
	if err != nil {
		return err.Error()
	}
	all := []int{r.LinkIndex}
	for _, p := range r.MultiPath {
		all = append(all, p.LinkIndex)
	}
	var words []string
	for _, index := range all {
		if index == 0 {
			continue
		}
		word := fmt.Sprintf("port %d", index)
		if link, err := h.LinkByIndex(index); err == nil {
			word = link.Attrs().Name
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// pauses writes down when this program, and so perhaps everything, was not let run.
func (r *routeLog) pauses(done chan struct{}) {
	const each = 5 * time.Millisecond
	for last := time.Now(); ; {
		select {
		case <-done:
			return
		case <-time.After(each):
		}
		now := time.Now()
		if late := now.Sub(last) - each; late > 30*time.Millisecond {
			r.mu.Lock()
			r.events = append(r.events, routeEvent{now, netip.Addr{}, fmt.Sprintf("the test was not let run for %v", late.Round(time.Millisecond))})
			r.mu.Unlock()
		}
		last = now
	}
}

// around is what was written down of an address from a second before a gap until half of one after it.
func (r *routeLog) around(g Gap) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	start := g.End.Add(-g.Gap)
	var b strings.Builder
	for _, e := range r.events {
		if (e.addr == g.Addr || !e.addr.IsValid()) && e.at.After(start.Add(-time.Second)) && e.at.Before(g.End.Add(time.Second/2)) {
			fmt.Fprintf(&b, "\n\t%+5d ms %s", e.at.Sub(start).Milliseconds(), e.text)
		}
	}
	return b.String()
}

// check reports what went wrong, and returns the most exceptions that a ToR had.
func (r *routeLog) check(t *testing.T) (most int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		t.Error(f)
	}
	r.faults = nil
	for at, n := range r.most {
		family := "IPv4"
		if at.v6 {
			family = "IPv6"
		}
		t.Logf("%s, %s: %d exceptions at most, %d now", at.device, family, n, len(r.up[at]))
		most = max(most, n)
	}
	return most
}

// now are the exceptions that a ToR has by what the kernel said.
func (r *routeLog) now() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for m := range maps.Values(r.up) {
		n += len(m)
	}
	return n
}

// warnings are what daemons of ToRs said of more routes than planned for, those that they send no packets by among them.
func warnings(t *testing.T, l *Lab) (list []string) {
	t.Helper()
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		if d.Role != fabric.RoleToR {
			continue
		}
		logs, err := filepath.Glob(filepath.Join(l.dir(d.Name), "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range logs {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(text), "\n")
			list = append(list, slices.DeleteFunc(lines, func(s string) bool {
				return !strings.Contains(s, "exceed, limit") && !strings.Contains(s, "import limit")
			})...)
		}
	}
	return list
}

// uplinks are the ports of a ToR to spines, by their indexes in its namespace.
func (l *Lab) uplinks(d *fabric.Device) (map[int]bool, error) {
	n, err := l.space(d.Name)
	if err != nil {
		return nil, err
	}
	h, err := n.Handle()
	if err != nil {
		return nil, err
	}
	ports := map[int]bool{}
	for _, p := range d.Interfaces {
		if !slices.ContainsFunc(l.x.On(p.Segment), func(a fabric.Attached) bool { return a.Device.Role == fabric.RoleSpine }) {
			continue
		}
		link, err := h.LinkByName(p.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", d.Name, p.Name, err)
		}
		ports[link.Attrs().Index] = true
	}
	return ports, nil
}

// exception is the single address that a route leads to by one of these ports.
func exception(r netlink.Route, ports map[int]bool) (netip.Addr, bool) {
	if r.Dst == nil || r.Type != unix.RTN_UNICAST {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	ones, bits := r.Dst.Mask.Size()
	up := ports[r.LinkIndex] || slices.ContainsFunc(r.MultiPath, func(p *netlink.NexthopInfo) bool { return ports[p.LinkIndex] })
	return a.Unmap(), ok && ones == bits && up
}
