// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestS01_Counter sends from sources and MAC addresses that are not the
// workload's, and reads how many of each the tables have counted, by interface.
func TestS01_Counter(t *testing.T) {
	r := spoofRig(t)
	counted := func() map[string]Hits {
		t.Helper()
		got, err := Spoofed(int(r.nsFile.Fd()))
		must(t, err)
		return got
	}
	if got := counted(); len(got) > 0 {
		t.Errorf("counted before anything was sent: %v", got)
	}
	type spoof struct {
		from string
		p    lab.Packet
	}
	list := []spoof{
		{"a", lab.Packet{SrcMAC: wlMAC("b"), Src: addr4["a"], Dst: addr4["n"]}},
		{"b", lab.Packet{SrcMAC: wlMAC("b"), Src: ip("224.0.0.1"), Dst: addr4["n"]}},
	}
	for v, sources := range map[int][]string{4: spoof4, 6: spoof6} {
		for _, src := range sources {
			if src == "::1" || src == "ff02::1" { // the kernel drops it before anybody is asked
				continue
			}
			list = append(list, spoof{"a", lab.Packet{SrcMAC: wlMAC("a"), Src: ip(src), Dst: addrOf(v, "n")}})
		}
	}
	const each = 10_000
	for _, x := range list {
		x.p.DstMAC, x.p.Proto, x.p.DstPort = hostMAC, lab.ProtoUDP, spoofPort
		f, err := x.p.Frame()
		must(t, err)
		flood := make([][]byte, each)
		for i := range flood {
			flood[i] = f
		}
		iface := "cali" + x.from
		want := counted()[iface].plus(Hits{each, uint64(each * (len(f) - 14))})
		c, err := r.n.Capture("eth0")
		must(t, err)
		r.pour(x.from, flood)
		labtest.Poll(t, 10*time.Second, func() error {
			if got := counted()[iface]; got != want {
				return fmt.Errorf("%s from %s: counted %v, want %v", x.p.Src, iface, got, want)
			}
			return nil
		})
		leaked, err := c.Drain(func(f lab.Frame) bool { return f.DstPort == spoofPort })
		must(t, err)
		if len(leaked) > 0 {
			t.Errorf("%d of %d leaked from %s", len(leaked), each, iface)
		}
		must(t, c.Close())
	}
	quiet(t, r.tab, r.v)
	r.expect(true, lab.UDP, "a", "b", 80)
	if got := counted(); len(got) != 2 || got["calic"] != (Hits{}) {
		t.Errorf("counted for c, which has spoofed nobody: %v", got)
	}
	// The counters are the kernel's, and stay when the tables are compared.
	before := counted()
	must(t, r.tab.Resync(r.v))
	if got := counted(); got["calia"] != before["calia"] {
		t.Errorf("after a comparison %v, before %v", got, before)
	}
}

// TestS03_Cost floods the host with ARP of an address that is not the sender's: 10,000 in a second would take
// it a tenth of a processor at most.
func TestS03_Cost(t *testing.T) {
	r := spoofRig(t)
	flood := make([][]byte, 20_000)
	for i := range flood {
		flood[i] = arpFrame(wlMAC("a"), arpRequest, wlMAC("a"), addr4["b"], gateway4)
	}
	least := time.Hour
	for range 3 { // the machine may be busy
		start := time.Now()
		r.pour("a", flood)
		r.answers("a")
		least = min(least, time.Since(start))
	}
	each := least / time.Duration(len(flood))
	t.Logf("%v for each, from the sender's call on: %.1f %% of a processor at 10,000 a second", each, each.Seconds()*10_000*100)
	if each > 10*time.Microsecond {
		t.Errorf("a message takes %v", each)
	}
}

// TestS03_Rate floods the host with ARP that is right in every respect: it takes
// so much in a second, answers no more, and others are not concerned.
func TestS03_Rate(t *testing.T) {
	r := spoofRig(t)
	answers := func(name string, n int) int {
		t.Helper()
		c, err := r.wl[name].Capture("eth0")
		must(t, err)
		defer c.Close()
		flood := make([][]byte, n)
		for i := range flood {
			flood[i] = arpFrame(wlMAC(name), arpRequest, wlMAC(name), addr4[name], gateway4)
		}
		start := time.Now()
		r.pour(name, flood)
		r.expect(true, lab.UDP, name, "n", 80, 6) // whatever was answered is there
		got, err := c.Drain(func(f lab.Frame) bool { return !f.Outgoing && f.EtherType == 0x0806 })
		must(t, err)
		if most := int(arpRate.Burst) + int(time.Since(start).Seconds()+1)*int(arpRate.Packets); len(got) > most {
			t.Errorf("%d answers to %d questions of %s, want at most %d", len(got), n, name, most)
		}
		return len(got)
	}
	for _, name := range []string{"a", "c"} { // with its MAC address in the model and without
		if n := answers(name, 5000); n == 0 {
			t.Errorf("%s got no answer at all", name)
		}
	}
	if n := answers("b", 10); n != 10 {
		t.Errorf("%d answers to 10 questions of b, while others flood", n)
	}
	labtest.Poll(t, 10*time.Second, func() error { // a bucket fills again
		if n := answers("a", 1); n != 1 {
			return fmt.Errorf("a is still not answered after the flood")
		}
		return nil
	})
	quiet(t, r.tab, r.v)
}
