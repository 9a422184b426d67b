// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
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
