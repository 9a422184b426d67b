// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// TestEnslavedInterface puts the interface of a workload into a bridge, which forwards for
// whoever is in it and asks no policy. It is closed both ways, the status says why,
// and the others stay as they were; out of the bridge it is as before. It is closed from the
// start for an agent that starts meanwhile.
func TestEnslavedInterface(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.Nodes[0]
	apply(t, c, allowAll)
	a, b := attach(t, n, "a"), attach(t, n, "b")
	third := attach(t, n, "third")
	for _, w := range []*cluster.Workload{a, b, third} {
		serve(t, w, 7)
	}
	passes(t, a, b, 15*time.Second)
	passes(t, a, third, 15*time.Second)

	outside, err := c.Lab.Workload("outside")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		lab.Veth(lab.End{NS: n.Namespace, Name: "wire"}, lab.End{NS: outside, Name: "eth0"}),
		n.AddBridge("br0"), n.Enslave("wire", "br0"), n.Enslave(a.Interface, "br0"),
	); err != nil {
		t.Fatal(err)
	}
	problem(t, n, "WorkloadEndpoint", "a-eth0", a.Interface, "bridge")
	closed := func(when string) {
		t.Helper()
		for _, x := range [][2]*lab.Namespace{{a.Namespace, outside}, {outside, a.Namespace}} {
			if got := bridged(t, x[0], x[1]); got > 0 {
				t.Errorf("%s: %d frames from %s reach %s through the bridge", when, got, x[0].Name(), x[1].Name())
			}
		}
	}
	closed("in the bridge")
	passes(t, b, third, 5*time.Second)
	live(t, c)

	n.Kill()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	live(t, c)
	closed("started again")

	if err := n.Release(a.Interface); err != nil {
		t.Fatal(err)
	}
	noProblems(t, n)
	passes(t, a, b, 10*time.Second)
	passes(t, third, a, 10*time.Second)
	if err := n.Enslave(b.Interface, "br0"); err != nil {
		t.Fatal(err)
	}
	problem(t, n, "WorkloadEndpoint", "b-eth0", "bridge")
	passes(t, a, third, 5*time.Second)
}

// bridged sends frames between two namespaces of one bridge, and counts what arrives: IP in
// both families, and what is told to all.
func bridged(t *testing.T, from, to *lab.Namespace) int {
	t.Helper()
	c, err := to.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src, err1 := from.MAC("eth0")
	dst, err2 := to.MAC("eth0")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	const port = 4242
	for _, mac := range []net.HardwareAddr{dst, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}} {
		for _, addrs := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
			p := lab.Packet{SrcMAC: src, DstMAC: mac, Src: netip.MustParseAddr(addrs[0]), Dst: netip.MustParseAddr(addrs[1]), Proto: lab.ProtoUDP, SrcPort: port, DstPort: port}
			f, err := p.Frame()
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				if err := from.SendFrame("eth0", f); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for got := 0; ; got++ {
		_, err := c.Next(ctx, func(f lab.Frame) bool { return !f.Outgoing && f.Proto == lab.ProtoUDP && f.DstPort == port })
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return got
		case err != nil:
			t.Fatal(fmt.Errorf("frames to %s: %w", to.Name(), err))
		}
	}
}
