// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

var (
	h1v4 = netip.MustParseAddr("10.0.0.1")
	h2v4 = netip.MustParseAddr("10.0.0.2")
	h1v6 = netip.MustParseAddr("fd00::1")
	h2v6 = netip.MustParseAddr("fd00::2")
)

func twoHosts(t *testing.T) (l *lab.Lab, f *lab.Fabric, h1, h2 *lab.Host) {
	l = labtest.New(t)
	f = labtest.Fabric(t, l, "fab")
	h1 = labtest.Host(t, l, f, "h1", "10.0.0.1/24", "fd00::1/64")
	h2 = labtest.Host(t, l, f, "h2", "10.0.0.2/24", "fd00::2/64")
	return l, f, h1, h2
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return c
}

func TestNamespaceLifecycle(t *testing.T) {
	l := labtest.New(t)
	n := labtest.Namespace(t, l, "a")
	if _, err := os.Stat(n.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Namespace("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second namespace of that name: %v, want ErrExist", err)
	}
	if err := n.SetSysctl("net/ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	if v, err := n.Sysctl("net/ipv4/ip_forward"); err != nil || v != "1" {
		t.Errorf("ip_forward = %q, %v", v, err)
	}
	other := labtest.Namespace(t, l, "b")
	if v, err := other.Sysctl("net/ipv4/ip_forward"); err != nil || v != "0" {
		t.Errorf("ip_forward of the other namespace = %q, %v", v, err)
	}
	if links, err := n.Links(); err != nil || len(links) != 1 || links[0] != "lo" {
		t.Errorf("links = %v, %v, want lo alone", links, err)
	}
	for range 2 {
		if err := n.Delete(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(n.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Delete: %v, want ErrNotExist", err)
	}
	if err := n.Do(func() error { return nil }); err == nil {
		t.Error("Do in a deleted namespace succeeds")
	}
}

// The caller's own threads must never end up in a namespace.
func TestDoLeavesCallersAlone(t *testing.T) {
	l := labtest.New(t)
	n := labtest.Namespace(t, l, "a")
	self := func() string {
		s, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		return s
	}
	outside := self()
	for range 50 {
		var inside string
		if err := n.Do(func() error { inside = self(); return nil }); err != nil {
			t.Fatal(err)
		}
		if inside == outside {
			t.Fatal("Do did not enter the namespace")
		}
		done := make(chan string)
		go func() { done <- self() }()
		if s := <-done; s != outside {
			t.Fatalf("a goroutine runs in %s, want %s", s, outside)
		}
	}
}

func TestProbeVerdicts(t *testing.T) {
	_, _, h1, h2 := twoHosts(t)
	if _, err := h2.Serve(80, 81); err != nil {
		t.Fatal(err)
	}
	ll, err := linkLocal(h2.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	short := 150 * time.Millisecond
	tests := []struct {
		name string
		p    lab.Probe
		want lab.Verdict
	}{
		{"tcp4", lab.Probe{Proto: lab.TCP, Dst: h2v4, Port: 80}, lab.Reached},
		{"tcp6", lab.Probe{Proto: lab.TCP, Dst: h2v6, Port: 81}, lab.Reached},
		{"tcp4 from", lab.Probe{Proto: lab.TCP, Src: h1v4, Dst: h2v4, Port: 80}, lab.Reached},
		{"udp4", lab.Probe{Proto: lab.UDP, Dst: h2v4, Port: 80}, lab.Reached},
		{"udp6", lab.Probe{Proto: lab.UDP, Dst: h2v6, Port: 80}, lab.Reached},
		{"udp6 from", lab.Probe{Proto: lab.UDP, Src: h1v6, Dst: h2v6, Port: 80}, lab.Reached},
		{"icmp4", lab.Probe{Proto: lab.ICMP, Dst: h2v4}, lab.Reached},
		{"icmp6", lab.Probe{Proto: lab.ICMP, Dst: h2v6}, lab.Reached},
		{"icmp4 from", lab.Probe{Proto: lab.ICMP, Src: h1v4, Dst: h2v4}, lab.Reached},
		{"icmp6 from", lab.Probe{Proto: lab.ICMP, Src: h1v6, Dst: h2v6}, lab.Reached},
		{"udp link-local", lab.Probe{Proto: lab.UDP, Dst: ll.WithZone("eth0"), Port: 80}, lab.Reached},
		{"icmp link-local", lab.Probe{Proto: lab.ICMP, Dst: ll.WithZone("eth0")}, lab.Reached},
		{"tcp4 closed", lab.Probe{Proto: lab.TCP, Dst: h2v4, Port: 99}, lab.Refused},
		{"tcp6 closed", lab.Probe{Proto: lab.TCP, Dst: h2v6, Port: 99}, lab.Refused},
		{"udp4 closed", lab.Probe{Proto: lab.UDP, Dst: h2v4, Port: 99}, lab.Refused},
		{"udp6 closed", lab.Probe{Proto: lab.UDP, Dst: h2v6, Port: 99}, lab.Refused},
		{"tcp4 nobody", lab.Probe{Proto: lab.TCP, Dst: netip.MustParseAddr("10.0.0.77"), Port: 80, Timeout: short}, lab.TimedOut},
		{"icmp6 nobody", lab.Probe{Proto: lab.ICMP, Dst: netip.MustParseAddr("fd00::77"), Timeout: short}, lab.TimedOut},
		{"no route 4", lab.Probe{Proto: lab.UDP, Dst: netip.MustParseAddr("192.0.2.1"), Port: 80}, lab.Unreachable},
		{"no route 6", lab.Probe{Proto: lab.TCP, Dst: netip.MustParseAddr("2001:db8::1"), Port: 80}, lab.Unreachable},
		{"not our source", lab.Probe{Proto: lab.TCP, Src: netip.MustParseAddr("10.9.9.9"), Dst: h2v4, Port: 80}, lab.Failed},
		{"no such link", lab.Probe{Proto: lab.UDP, Dst: ll.WithZone("nope"), Port: 80}, lab.Failed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := h1.Probe(ctx(t), tt.p); got.Verdict != tt.want {
				t.Errorf("verdict %v (%v), want %v", got.Verdict, got.Err, tt.want)
			}
		})
	}
}

// TestProbesAreNewFlows: no probe has the source port of an earlier one. By chance one in
// 28,000 had, which of a thousand are many.
func TestProbesAreNewFlows(t *testing.T) {
	_, _, h1, h2 := twoHosts(t)
	c, err := h2.ListenPacket("udp", netip.AddrPortFrom(h2v6, 80).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	from := make(chan string)
	go func() {
		b := make([]byte, 100)
		for {
			n, a, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], a)
			from <- a.String()
		}
	}()
	seen := map[string]bool{}
	for range 1000 {
		if got := h1.Probe(ctx(t), lab.Probe{Proto: lab.UDP, Dst: h2v6, Port: 80}); got.Verdict != lab.Reached {
			t.Fatalf("%v (%v)", got.Verdict, got.Err)
		}
		a := <-from
		if seen[a] {
			t.Errorf("two probes from %s", a)
		}
		seen[a] = true
	}
}

func linkLocal(n *lab.Namespace) (netip.Addr, error) {
	as, err := n.Addrs("eth0")
	for _, a := range as {
		if a.Addr().IsLinkLocalUnicast() {
			return a.Addr(), err
		}
	}
	return netip.Addr{}, fmt.Errorf("no link-local address on eth0: %v, %v", as, err)
}

// A host answers from the address that was asked, although its routing would
// choose another one.
func TestServeAnswersFromTheAddressAsked(t *testing.T) {
	_, _, h1, h2 := twoHosts(t)
	for _, a := range []string{"10.0.0.3/32", "fd00::3/128"} {
		if err := h2.AddAddr("lo", netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h1.AddRoute(netip.MustParsePrefix("10.0.0.3/32"), h2v4, ""); err != nil {
		t.Fatal(err)
	}
	if err := h1.AddRoute(netip.MustParsePrefix("fd00::3/128"), h2v6, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h2.Serve(80); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.0.0.3", "fd00::3"} {
		if got := h1.Probe(ctx(t), lab.Probe{Proto: lab.UDP, Dst: netip.MustParseAddr(a), Port: 80}); got.Verdict != lab.Reached {
			t.Errorf("%s: %v (%v)", a, got.Verdict, got.Err)
		}
	}
}

func TestFabricPortDown(t *testing.T) {
	_, _, h1, h2 := twoHosts(t)
	if _, err := h2.Serve(80); err != nil {
		t.Fatal(err)
	}
	p := lab.Probe{Proto: lab.UDP, Dst: h2v4, Port: 80, Timeout: 200 * time.Millisecond}
	if got := h1.Probe(ctx(t), p); got.Verdict != lab.Reached {
		t.Fatalf("before: %v (%v)", got.Verdict, got.Err)
	}
	if err := h2.Port.Down(); err != nil {
		t.Fatal(err)
	}
	if got := h1.Probe(ctx(t), p); got.Verdict == lab.Reached {
		t.Error("reached over a pulled cable")
	}
	if err := h2.Port.Up(); err != nil {
		t.Fatal(err)
	}
	labtest.Poll(t, 5*time.Second, func() error {
		if got := h1.Probe(ctx(t), p); got.Verdict != lab.Reached {
			return fmt.Errorf("%v (%v)", got.Verdict, got.Err)
		}
		return nil
	})
}

func TestProcess(t *testing.T) {
	l := labtest.New(t)
	n := labtest.Namespace(t, l, "a")
	var out bytes.Buffer
	cmd := exec.Command("/bin/sh", "-c", "readlink /proc/self/ns/net; echo ready; sleep 600 & wait")
	cmd.Stdout = &out
	p, err := n.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(5 * time.Second); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err == nil {
		t.Error("Wait after SIGTERM returns no error")
	}
	if err := p.Stop(time.Second); err != nil {
		t.Errorf("Stop of an ended process: %v", err)
	}
	p.Kill()

	// A process that ignores SIGTERM is killed, and so is its child.
	cmd = exec.Command("/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait; sleep 600")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	p, err = n.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	var child int
	if _, err := fmt.Fscan(r, &child); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(50 * time.Millisecond); err == nil {
		t.Error("Stop reports no error although SIGTERM was ignored")
	}
	labtest.Poll(t, 5*time.Second, func() error {
		if unix.Kill(child, 0) == nil && !zombie(child) {
			return fmt.Errorf("child %d lives", child)
		}
		return nil
	})

	// Deleting the namespace ends what runs in it.
	p, err = n.Start(exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Delete(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("process outlives its namespace")
	}
	if _, err := n.Start(exec.Command("true")); err == nil {
		t.Error("Start in a deleted namespace succeeds")
	}
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

// TestProcessDiesWithParent runs itself as a parent that ends without cleaning
// up, and expects its child to be gone.
func TestProcessDiesWithParent(t *testing.T) {
	labtest.Require(t)
	const env = "LAB_TEST_PARENT"
	if prefix := os.Getenv(env); prefix != "" {
		n, err := lab.New(prefix).Namespace("a")
		if err != nil {
			t.Fatal(err)
		}
		p, err := n.Start(exec.Command("sleep", "600"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid %d\n", p.Pid())
		os.Stdout.Sync()
		time.Sleep(50 * time.Millisecond) // long enough for idle threads to be noticed, were the wrong one used
		if unix.Kill(p.Pid(), 0) != nil {
			fmt.Println("died early")
		}
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	prefix := lab.New("").Prefix()
	t.Cleanup(func() {
		if err := lab.Remove(prefix + "-a"); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcessDiesWithParent$")
	cmd.Env = append(os.Environ(), env+"="+prefix)
	out, _ := cmd.CombinedOutput() // it kills itself
	var pid int
	if _, err := fmt.Sscanf(string(out), "pid %d\n", &pid); err != nil || strings.Contains(string(out), "early") {
		t.Fatalf("parent says %q", out)
	}
	labtest.Poll(t, 5*time.Second, func() error {
		if unix.Kill(pid, 0) == nil && !zombie(pid) {
			return fmt.Errorf("child %d lives", pid)
		}
		return nil
	})
}

func TestFlowCounts(t *testing.T) {
	_, _, h1, h2 := twoHosts(t)
	for _, dst := range []netip.Addr{h2v4, h2v6} {
		t.Run(dst.String(), func(t *testing.T) {
			f, err := lab.StartFlow(lab.FlowConfig{
				From: h1.Namespace, To: h2.Namespace, Dst: netip.AddrPortFrom(dst, 7000), PPS: 500, Echo: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.WaitDelivered(ctx(t), 50); err != nil {
				t.Fatal(err)
			}
			if r := f.Stop(2 * time.Second); r.Lost != 0 || r.Delivered != r.Sent || r.Returned != r.Sent || r.Duplicates != 0 {
				t.Errorf("clean path: %v", r)
			}

			// A cut of the cable is a gap as long as the cut.
			f, err = lab.StartFlow(lab.FlowConfig{From: h1.Namespace, To: h2.Namespace, Dst: netip.AddrPortFrom(dst, 7001), PPS: 500})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.WaitDelivered(ctx(t), 20); err != nil {
				t.Fatal(err)
			}
			if err := h2.Port.Down(); err != nil {
				t.Fatal(err)
			}
			const cut = 100 * time.Millisecond
			time.Sleep(cut)
			before := f.Report()
			if err := h2.Port.Up(); err != nil {
				t.Fatal(err)
			}
			if err := f.WaitDelivered(ctx(t), before.Delivered+20); err != nil {
				t.Fatal(err)
			}
			if r := f.Stop(time.Second); r.Lost < 20 || r.MaxGap < cut {
				t.Errorf("after a cut of %v: %v", cut, r)
			}
		})
	}
	// Nothing listens on the way there: all is lost, nothing delivered.
	if err := h2.Port.Down(); err != nil {
		t.Fatal(err)
	}
	f, err := lab.StartFlow(lab.FlowConfig{From: h1.Namespace, To: h2.Namespace, Dst: netip.AddrPortFrom(h2v4, 7002)})
	if err != nil {
		t.Fatal(err)
	}
	labtest.Poll(t, 5*time.Second, func() error {
		if r := f.Report(); r.Sent < 5 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	if r := f.Stop(0); r.Delivered != 0 || r.Lost != r.Sent {
		t.Errorf("pulled cable: %v", r)
	}
}

// Spoofed packets arrive as they were written, and the capture decodes them.
func TestPacketAndCapture(t *testing.T) {
	_, _, h1, h2 := twoHosts(t)
	dst, err := h2.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	spoofed := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	for _, fam := range []struct{ src, dst netip.Addr }{
		{netip.MustParseAddr("203.0.113.7"), h2v4},
		{netip.MustParseAddr("2001:db8::7"), h2v6},
	} {
		protos := []uint8{lab.ProtoUDP, lab.ProtoTCP, lab.ProtoICMP}
		if fam.src.Is6() {
			protos[2] = lab.ProtoICMPv6
		}
		for _, proto := range protos {
			c, err := h2.Port.Capture()
			if err != nil {
				t.Fatal(err)
			}
			p := lab.Packet{SrcMAC: spoofed, DstMAC: dst, Src: fam.src, Dst: fam.dst, TTL: 9, Proto: proto,
				SrcPort: 4000, DstPort: 5000, Payload: []byte("hello")}
			if err := h1.SendPacket("eth0", p); err != nil {
				t.Fatal(err)
			}
			f, err := c.Next(ctx(t), func(f lab.Frame) bool { return f.Src == fam.src })
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if f.SrcMAC.String() != spoofed.String() || f.Dst != fam.dst || f.TTL != 9 || f.Proto != proto ||
				string(f.Payload) != "hello" || !f.Outgoing {
				t.Errorf("captured %v payload %q", f, f.Payload)
			}
			if proto != protos[2] && (f.SrcPort != 4000 || f.DstPort != 5000) {
				t.Errorf("ports of %v", f)
			}
		}
	}

	// A real host accepts the checksums: an unspoofed datagram reaches a socket.
	for _, fam := range []struct{ src, dst netip.Addr }{{h1v4, h2v4}, {h1v6, h2v6}} {
		u, err := h2.ListenPacket("udp", netip.AddrPortFrom(fam.dst, 5000).String())
		if err != nil {
			t.Fatal(err)
		}
		if err := h1.SendPacket("eth0", lab.Packet{DstMAC: dst, Src: fam.src, Dst: fam.dst, Proto: lab.ProtoUDP,
			SrcPort: 4000, DstPort: 5000, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		u.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, from, err := u.ReadFrom(make([]byte, 10)); err != nil || from.String() != netip.AddrPortFrom(fam.src, 4000).String() {
			t.Errorf("from %v, %v", from, err)
		}
		u.Close()
	}

	c, err := h1.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Next(done, func(lab.Frame) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with a cancelled context: %v", err)
	}
	h1.Probe(ctx(t), lab.Probe{Proto: lab.ICMP, Dst: h2v4})
	frames, err := c.Drain(func(f lab.Frame) bool { return f.Proto == lab.ProtoICMP })
	if err != nil || len(frames) != 2 {
		t.Errorf("an echo and its reply: captured %v, %v", frames, err)
	}
}

func FuzzDecode(f *testing.F) {
	p := lab.Packet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), Src: h1v6, Dst: h2v6, Proto: lab.ProtoTCP}
	b, err := p.Frame()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { _ = lab.Decode(b).String() })
}
