// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// portsOfDB lets some ports of db in.
func portsOfDB(ports string) string {
	return `
kind: NetworkPolicy
metadata: {name: db, namespace: default}
spec:
  selector: app == 'db'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [` + ports + `]}}
  - {action: Allow, protocol: UDP, destination: {ports: [` + ports + `]}}
`
}

// TestFlows_CutByPolicy takes a port away under established flows, UDP with
// answers and TCP in which the server alone talks, v4 and v6, within a server
// and between two: they stop in both directions within a second, those of
// another port lose nothing, and what is allowed again goes on.
func TestFlows_CutByPolicy(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	apply(t, c, `
kind: Profile
metadata: {name: open}
spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}
`+"---"+portsOfDB("7000, 7001"))
	db := machineOf(attach(t, c.Nodes[0], "db", "--label", "app=db", "--profile", "open"))
	clients := []*machine{
		machineOf(attach(t, c.Nodes[0], "near", "--profile", "open")),
		machineOf(attach(t, c.Nodes[1], "far", "--profile", "open")),
	}
	live(t, c)
	for _, six := range []bool{false, true} {
		for _, m := range clients {
			routed(t, m.node, db.addr[six])
			routed(t, db.node, m.addr[six])
		}
	}
	ctx := t.Context()
	type stream struct {
		name string
		port uint16
		udp  *lab.Flow
		got  atomic.Int64 // bytes, of TCP
	}
	var streams []*stream
	for _, port := range []uint16{7000, 7001} {
		for _, six := range []bool{false, true} {
			dst := netip.AddrPortFrom(db.addr[six], port)
			pour(t, db.Namespace, dst)
			for _, m := range clients {
				s := &stream{name: m.Name() + " to " + dst.String(), port: port}
				streams = append(streams, s)
				conn, err := m.Dial(ctx, "tcp", dst.String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				go func() {
					b := make([]byte, 4096)
					for n, err := conn.Read(b); err == nil; n, err = conn.Read(b) {
						s.got.Add(int64(n))
					}
				}()
				if m == clients[0] { // a port has room for one receiver
					s.udp, err = lab.StartFlow(lab.FlowConfig{From: m.Namespace, To: db.Namespace, Dst: dst, Echo: true, PPS: 200})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { s.udp.Stop(0) })
				}
			}
		}
	}
	moves := func(s *stream, within time.Duration) bool {
		bytes, returned := s.got.Load(), 0
		if s.udp != nil {
			returned = s.udp.Report().Returned
		}
		for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if s.got.Load() > bytes && (s.udp == nil || s.udp.Report().Returned > returned) {
				return true
			}
		}
		return false
	}
	for _, s := range streams {
		if !moves(s, 10*time.Second) {
			t.Fatalf("%s does not flow", s.name)
		}
	}

	apply(t, c, portsOfDB("7000"))
	// What arrives of the others, in bytes and datagrams, stands still for a while.
	arrived := func() (list []int64) {
		for _, s := range streams {
			if s.port != 7001 {
				continue
			}
			list = append(list, s.got.Load())
			if s.udp != nil {
				list = append(list, int64(s.udp.Report().Delivered))
			}
		}
		return list
	}
	denied := time.Now()
	last, since := arrived(), denied
	for time.Since(since) < 500*time.Millisecond {
		if time.Since(denied) > 15*time.Second {
			t.Fatalf("flows go on that policy denies: %v", arrived())
		}
		time.Sleep(10 * time.Millisecond)
		if now := arrived(); !slices.Equal(now, last) {
			last, since = now, time.Now()
		}
	}
	t.Logf("the last packet of a flow that policy denies came after %v", since.Sub(denied))
	for _, s := range streams {
		if s.port == 7000 && !moves(s, 5*time.Second) {
			t.Errorf("%s stopped although policy allows it", s.name)
		}
	}

	apply(t, c, portsOfDB("7000, 7001"))
	for _, s := range streams {
		if !moves(s, 20*time.Second) { // TCP's next retransmission may be some seconds away
			t.Errorf("%s does not go on", s.name)
		}
		if s.udp != nil && s.port == 7000 {
			if r := s.udp.Stop(5 * time.Second); r.Lost > 0 {
				t.Errorf("%s: %v", s.name, r)
			}
		}
	}
}

// TestFlows_CutAtHosts takes ports of a server away under flows that are
// established, by policy of a host endpoint for all interfaces and by one of the
// interface alone: those stop in both directions, those that a rule keeps and the
// others lose nothing, and what is allowed again goes on.
func TestFlows_CutAtHosts(t *testing.T) {
	t.Parallel()
	const revoked, kept, allowed = 8001, 8002, 8003
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	live(t, c)
	policy := func(rules string) string {
		return "kind: GlobalNetworkPolicy\nmetadata: {name: serve}\nspec: {selector: role == 'server', types: [Ingress], ingress: [" +
			"{action: Allow, protocol: UDP, destination: {ports: [8003]}}, {action: Allow, protocol: TCP}" + rules + "]}\n"
	}
	const all = ", {action: Allow, protocol: UDP, destination: {ports: ['8001:8002']}}"
	const some = ", {action: Deny, protocol: UDP, destination: {ports: [8002]}, metadata: {annotations: {muslin/established: Keep}}}"
	for i, iface := range []string{"'*'", n1.Uplink} {
		apply(t, c, "kind: HostEndpoint\nmetadata: {name: n1, labels: {role: server}}\nspec: {node: n1, interfaceName: "+iface+"}\n---\n"+policy(all))
		live(t, c)
		flows := map[int][]*lab.Flow{}
		for _, port := range []int{revoked, kept, allowed} {
			for _, a := range []netip.Addr{n1.V4.Addr(), n1.V6.Addr()} {
				f, err := lab.StartFlow(lab.FlowConfig{From: n2.Namespace, To: n1.Namespace, Dst: netip.AddrPortFrom(a, uint16(port)), Echo: true, PPS: 200})
				if err != nil {
					t.Fatal(err)
				}
				defer f.Stop(0)
				flows[port] = append(flows[port], f)
			}
		}
		moves := func(f *lab.Flow) func() error {
			before := f.Report().Returned
			return func() error {
				if now := f.Report(); now.Returned == before {
					return fmt.Errorf("stands still: %v", now)
				}
				return nil
			}
		}
		stops := func(f *lab.Flow) func() error {
			last, since := f.Report(), time.Now()
			return func() error {
				if now := f.Report(); now.Delivered > last.Delivered || now.Returned > last.Returned {
					last, since = now, time.Now()
				}
				if time.Since(since) < 300*time.Millisecond {
					return fmt.Errorf("goes on although policy denies it: %v", last)
				}
				return nil
			}
		}
		each := func(check func(f *lab.Flow) func() error, ports ...int) {
			t.Helper()
			for _, port := range ports {
				for _, f := range flows[port] {
					ask := check(f)
					eventually(t, 15*time.Second, func() error {
						if err := ask(); err != nil {
							return fmt.Errorf("host endpoint of %s, port %d: %w", iface, port, err)
						}
						return nil
					})
				}
			}
		}
		each(moves, revoked, kept, allowed)
		apply(t, c, policy(some))
		each(stops, revoked)
		each(moves, kept, allowed)
		apply(t, c, policy(all))
		each(moves, revoked)
		for _, port := range []int{kept, allowed} {
			for _, f := range flows[port] {
				if r := f.Stop(5 * time.Second); r.Lost > 0 {
					t.Errorf("host endpoint of %s, port %d, round %d: %v", iface, port, i, r)
				}
			}
		}
		for _, f := range flows[revoked] {
			f.Stop(0)
		}
	}
}

// pour listens at an address and sends to whoever connects, slowly and without
// being asked.
func pour(t *testing.T, ns *lab.Namespace, at netip.AddrPort) {
	t.Helper()
	l, err := ns.Listen("tcp", net.JoinHostPort(at.Addr().String(), strconv.Itoa(int(at.Port()))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for ctx.Err() == nil {
					if _, err := io.WriteString(conn, "some more of it\n"); err != nil {
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
		}
	}()
}
