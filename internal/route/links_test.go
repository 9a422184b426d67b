// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestLinks_FollowNotifications makes, renames, sets up and down and removes
// interfaces at random. What is known of them is what the kernel lists, and they are
// listed no more: with a thousand workloads that takes longer than all else that one
// more of them takes.
func TestLinks_FollowNotifications(t *testing.T) {
	h := newHost(t)
	h.tab.topo.workload = func(device string) bool { return device[0] == 'w' }
	h.apply()
	h.watch()
	before := h.tab.counted()
	r := rand.New(rand.NewPCG(7, 11))
	names := []string{"wa", "wb", "wc", "xa", "xb"}
	there := map[string]bool{}
	pick := func(is bool) string {
		var of []string
		for _, n := range names {
			if there[n] == is {
				of = append(of, n)
			}
		}
		if len(of) == 0 {
			return ""
		}
		return of[r.IntN(len(of))]
	}
	for step := range 120 {
		old, free := pick(true), pick(false)
		var err error
		switch op := r.IntN(6); {
		case (op == 0 || old == "") && free != "":
			err = lab.Veth(lab.End{NS: h.ns, Name: free}, lab.End{NS: h.far, Name: free})
			there[free] = true
		case op == 1:
			err = h.ns.DeleteLink(old)
			delete(there, old)
		case op == 2 && free != "":
			if err = h.far.RenameLink(old, free); err == nil {
				err = h.ns.RenameLink(old, free)
			}
			delete(there, old)
			there[free] = true
		case op == 3:
			err = h.far.LinkDown(old) // the other end loses its carrier
		case op == 4:
			err = h.ns.LinkDown(old)
		default:
			if err = h.far.LinkUp(old); err == nil {
				err = h.ns.LinkUp(old)
			}
		}
		h.must(err)
		if step%4 != 0 {
			continue // several at once
		}
		labtest.Poll(t, 5*time.Second, func() error {
			want, got := h.listed(), h.known()
			if !slices.Equal(want, got) {
				return fmt.Errorf("step %d: known of interfaces:\n%q\nlisted by the kernel:\n%q", step, got, want)
			}
			return nil
		})
	}
	if after := h.tab.counted(); after.listings != before.listings || after.resyncs != before.resyncs {
		t.Errorf("interfaces were listed %d times and the table read %d times", after.listings-before.listings, after.resyncs-before.resyncs)
	}
}

// TestLinks_Replayed: what is older than the last listing comes after it, of an
// interface that had the name before.
func TestLinks_Replayed(t *testing.T) {
	var topo topology
	topo.setLinks(map[string]uint32{"a": 5}, map[uint32]bool{5: true})
	up := linkState{name: "a", up: true, running: true}
	topo.observeLink(3, up)
	topo.observeLink(3, linkState{})
	topo.observeLink(5, up)
	if topo.byName["a"] != 5 || topo.names[5] != "a" || topo.names[3] != "" || !topo.running[5] {
		t.Errorf("by name %v, names %v", topo.byName, topo.names)
	}
}

// listed are the interfaces by the kernel's list.
func (h *host) listed() (lines []string) {
	links, err := h.nl.LinkList()
	h.must(err)
	for _, l := range links {
		a := l.Attrs()
		up := a.Flags&net.FlagUp != 0
		line := fmt.Sprintf("%d running=%t", a.Index, up && a.RawFlags&unix.IFF_RUNNING != 0)
		if up {
			line += fmt.Sprintf(" %s workload=%t", a.Name, a.Name[0] == 'w')
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// known are the interfaces as the table has them, in the same words.
func (h *host) known() (lines []string) {
	h.tab.mu.Lock()
	defer h.tab.mu.Unlock()
	t := &h.tab.topo
	for index := range maps.Keys(t.running) {
		line := fmt.Sprintf("%d running=%t", index, t.running[index])
		if name := t.names[index]; name != "" {
			line += fmt.Sprintf(" %s workload=%t", name, t.workloads[index])
		}
		lines = append(lines, line)
	}
	for name, index := range t.byName {
		if t.names[index] != name {
			lines = append(lines, fmt.Sprintf("%d is by name %s", index, name))
		}
	}
	if len(t.byName) != len(t.names) {
		lines = append(lines, fmt.Sprintf("%d names of %d interfaces", len(t.byName), len(t.names)))
	}
	slices.Sort(lines)
	return lines
}

// TestLinks_OfAnAddress: an address is on the link that it has a connected route to, by whatever name; it stays on that of an interface
// that is down, and leaves when the subnet goes from one that is up.
func TestLinks_OfAnAddress(t *testing.T) {
	var topo topology
	a, far := netip.MustParseAddr("10.9.1.1"), netip.MustParseAddr("192.0.2.1")
	subnet, all := netip.MustParsePrefix("10.9.1.0/24"), netip.MustParsePrefix("0.0.0.0/0")
	connected := []foreignRoute{{hops: []hop{{oif: 5}}}}
	topo.foreign.Insert(subnet, connected)
	topo.foreign.Insert(all, []foreignRoute{{hops: []hop{{oif: 6, gw: netip.MustParseAddr("10.8.0.1")}}}})
	topo.allowDefault = true
	up := func(name string) linkState { return linkState{name: name, up: true, running: true} }
	topo.setLinks(map[string]uint32{"eth1": 5, "eth0": 6}, map[uint32]bool{5: true, 6: true})
	check := func(what string, of netip.Addr, before, device string, carries bool) {
		t.Helper()
		if d, c := topo.link(of, before); d != device || c != carries {
			t.Errorf("%s: %s is on %q, carries %t, want %q, %t", what, of, d, c, device, carries)
		}
	}
	check("up", a, "", "eth1", true)
	check("behind a router", far, "", "", false)
	topo.observeLink(5, linkState{name: "eth1", up: true})
	check("without a carrier, at the start", a, "", "eth1", false)
	check("without a carrier", a, "eth1", "eth1", false)
	topo.observeLink(5, linkState{})
	topo.foreign.Delete(subnet)
	check("gone", a, "eth1", "eth1", false)
	check("gone, at the start", a, "", "", false)
	topo.observeLink(5, up("eth1"))
	check("up without the subnet", a, "eth1", "", false)
	topo.foreign.Insert(subnet, connected)
	topo.observeLink(6, up("x"))
	topo.observeLink(5, up("eth0"))
	topo.observeLink(6, up("eth1"))
	check("names are swapped", a, "eth1", "eth0", true)
}
