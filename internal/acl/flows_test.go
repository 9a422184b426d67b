// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/policy/policytest"
)

// crowd is two workloads on wires, each with an address of each family, and a
// policy of the second one's ingress. Everything may leave.
type crowd struct {
	*wires
	t     testing.TB
	x     *policy.Index
	tab   *Table
	flows *Flows
}

func newCrowd(t testing.TB) *crowd {
	c := &crowd{wires: newWires(t), t: t, x: policy.NewIndex("alpha")}
	c.tab = c.table(t)
	var err error
	c.flows, err = OpenFlows(c.tab.opts.NetNS)
	must(t, err)
	t.Cleanup(func() { c.flows.Close() })
	for i, name := range []string{"client", "server"} {
		w := &v3.WorkloadEndpoint{Object: v3.Object{Metadata: v3.ObjectMeta{Name: name, Namespace: "red", Labels: map[string]string{"is": name}}}}
		w.Spec.Node, w.Spec.InterfaceName = "alpha", policytest.Interfaces[i]
		w.Spec.IPNetworks = []string{policytest.Addr(true, i).String(), policytest.Addr(false, i).String()}
		c.x.Set(policy.Key{Kind: "WorkloadEndpoint", Namespace: "red", Name: name}, w, nil)
	}
	for _, v4 := range []bool{true, false} {
		for i := range 2 {
			must(t, c.replace(policytest.Addr(v4, i), netip.Addr{}, policytest.Interfaces[i]))
		}
	}
	return c
}

// allow lets UDP to these ports of the server in, and nothing else, and all out.
func (c *crowd) allow(keep bool, ports ...v3.Port) {
	c.t.Helper()
	udp := v3.ProtocolName("UDP")
	p := &v3.GlobalNetworkPolicy{}
	p.Spec.Selector = "all()"
	p.Spec.Ingress = []v3.Rule{{Action: "Allow", Protocol: &udp, Destination: v3.EntityRule{Ports: ports}}}
	if keep {
		p.Spec.Ingress = append(p.Spec.Ingress, v3.Rule{Action: "Deny", Metadata: &v3.RuleMetadata{Annotations: map[string]string{"muslin/established": "Keep"}}})
	}
	p.Spec.Egress = []v3.Rule{{Action: "Allow"}}
	c.x.Set(policy.Key{Kind: "GlobalNetworkPolicy", Name: "p"}, p, nil)
	must(c.t, c.tab.Apply(c.x, c.x.Flush()))
}

func (c *crowd) review() Reviewed {
	c.t.Helper()
	done, err := c.flows.Review(func(flows []Flow) error {
		for i := range flows {
			f := &flows[i]
			if e := c.x.LocalAt(f.Dst); e != nil {
				f.Fate = Keep
				if r := c.x.Judge(e, policy.Ingress, &f.Packet); !r.Allowed && !r.KeepsEstablished() {
					f.Fate = Cut
				}
			}
		}
		return nil
	}, false)
	must(c.t, err)
	return done
}

// 10,000 flows, half of them IPv4.
const firstPort, lastPort = 5000, 9999 // no VXLAN among them

// expect sends a packet of each flow in both directions, to the server first,
// and says for which ports none may pass.
func (c *crowd) expect(what string, cut func(port uint16) bool) {
	c.t.Helper()
	var there, back []*shot
	for _, v4 := range []bool{true, false} {
		for port := uint16(firstPort); port <= lastPort; port++ {
			p := policy.Packet{Src: policytest.Addr(v4, 0), Dst: policytest.Addr(v4, 1), Proto: udp, SrcPort: port + 20000, DstPort: port}
			q := policy.Packet{Src: p.Dst, Dst: p.Src, Proto: udp, SrcPort: p.DstPort, DstPort: p.SrcPort}
			there = append(there, &shot{Packet: p, in: 0, out: 1})
			back = append(back, &shot{Packet: q, in: 1, out: 0})
		}
	}
	c.fire(c.t, there)
	c.fire(c.t, back)
	for _, s := range slices.Concat(there, back) {
		want := []int{s.out}
		if cut(max(s.SrcPort, s.DstPort) - 20000) {
			want = nil
		}
		if !slices.Equal(s.came, want) {
			c.t.Fatalf("%s: %+v came out on %v, want %v", what, s.Packet, c.names(s.came), c.names(want))
		}
	}
}

// TestFlowsAreCut takes permission away from some of many established flows,
// v4 and v6: these pass nothing more in either direction, whoever sends first,
// the others lose nothing, and all go on when they are allowed again.
func TestFlowsAreCut(t *testing.T) {
	c := newCrowd(t)
	none := func(uint16) bool { return false }
	middle := func(port uint16) bool { return port >= 5050 && port < 5100 }
	all := v3.Port{Min: firstPort, Max: lastPort}
	c.allow(false, all)
	c.expect("allowed", none)
	if done := c.review(); done.Cut+done.Restored+done.Ended != 0 || done.Seen < 10_000 {
		t.Fatalf("a review without a change: %+v", done)
	}
	began := time.Now()
	c.allow(false, v3.Port{Min: firstPort, Max: 5049}, v3.Port{Min: 5100, Max: lastPort})
	took := time.Since(began)
	c.expect("before the review", none)
	began = time.Now()
	if done := c.review(); done.Cut != 100 {
		t.Fatalf("reviewed: %+v, want 100 cut", done)
	}
	took += time.Since(began)
	t.Logf("100 of 10,000 flows were cut %v after the change", took)
	if took > time.Second { // the agent reviews at once
		t.Errorf("100 of 10,000 flows were cut %v after the change, want a second at most", took)
	}
	c.expect("cut", middle)
	if done := c.review(); done.Cut+done.Restored != 0 {
		t.Fatalf("reviewed again: %+v", done)
	}
	c.allow(false, all)
	if done := c.review(); done.Restored != 100 {
		t.Fatalf("allowed again: %+v, want 100 restored", done)
	}
	c.expect("restored", none)

	// A rule may ask that what is established stays.
	c.allow(true, v3.SinglePort(firstPort))
	if done := c.review(); done.Cut != 0 {
		t.Fatalf("kept by the rule: %+v", done)
	}
	c.expect("kept", none)
	c.allow(false, v3.SinglePort(firstPort))
	c.review()
	c.expect("all but one", func(port uint16) bool { return port != firstPort })
}

// TestFlowsEnd leaves no entry of an address that is gone.
func TestFlowsEnd(t *testing.T) {
	c := newCrowd(t)
	c.allow(false, v3.Port{Min: firstPort, Max: lastPort})
	c.expect("allowed", func(uint16) bool { return false })
	gone := policytest.Addr(false, 1)
	end := func(flows []Flow) error {
		for i := range flows {
			if f := &flows[i]; f.Src == gone || f.Dst == gone {
				f.Fate = End
			}
		}
		return nil
	}
	done, err := c.flows.Review(end, false)
	must(t, err)
	if done.Ended != lastPort-firstPort+1 {
		t.Fatalf("%+v, want %d ended", done, lastPort-firstPort+1)
	}
	if done, err = c.flows.Review(end, false); err != nil || done.Ended != 0 {
		t.Fatalf("%+v, %v: entries remain", done, err)
	}
	// An error in the middle leaves the next review able.
	if _, err := c.flows.Review(func([]Flow) error { return fmt.Errorf("no") }, false); err == nil {
		t.Fatal("the error of judge is lost")
	}
	if _, err := c.flows.Review(end, false); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkReview is one look at 10,000 flows, of which none has to change.
func BenchmarkReview(b *testing.B) {
	c := newCrowd(b)
	c.allow(false, v3.Port{Min: firstPort, Max: lastPort})
	c.expect("allowed", func(uint16) bool { return false })
	for b.Loop() {
		c.review()
	}
}
