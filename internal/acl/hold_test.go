// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// hold is a place on the way of packets to forbiddenPort where they wait, in the queue
// of the kernel for programs (linux/netfilter/nfnetlink_queue.h), until they are let go.
type hold struct {
	sock    *socket
	waiting []uint32 // numbers of packets
}

const (
	queuePacket  = unix.NFNL_SUBSYS_QUEUE << 8
	queueVerdict = unix.NFNL_SUBSYS_QUEUE<<8 | 1
	queueConfig  = unix.NFNL_SUBSYS_QUEUE<<8 | 2
)

func newHold(tb testing.TB, ns *lab.Namespace, hook *nftables.ChainHook, priority int32) *hold {
	tb.Helper()
	h := &hold{}
	var c *nftables.Conn
	must(tb, ns.Do(func() error {
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer f.Close()
		if h.sock, err = openSocket(int(f.Fd())); err != nil {
			return err
		}
		c, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(f.Fd())))
		return err
	}))
	tb.Cleanup(func() { h.sock.close(); c.CloseLasting() })
	h.send(tb, queueConfig, 1, []byte{1, 0, 0, 0})             // NFQA_CFG_CMD: bind
	h.send(tb, queueConfig, 2, []byte{0, 0, 0xff, 0xff, 2, 0}) // NFQA_CFG_PARAMS: packets as a whole
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "hold"})
	ch := c.AddChain(&nftables.Chain{Table: t, Name: "hold", Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority))})
	c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{udp}},
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, forbiddenPort)},
		// What nf_tables knows of queues is not in every kernel, what iptables does is.
		&expr.Target{Name: "NFQUEUE", Info: new(xt.Unknown([]byte{0, 0}))}}})
	if err := c.Flush(); errors.Is(err, unix.ENOENT) {
		tb.Skip("the kernel has no queue for packets (module xt_NFQUEUE)")
	} else if err != nil {
		tb.Fatal(err)
	}
	return h
}

// send sends a message with one attribute.
func (h *hold) send(tb testing.TB, typ, attr uint16, value []byte) {
	tb.Helper()
	ne := binary.NativeEndian
	b := ne.AppendUint16(make([]byte, 4, 64), typ)
	b = append(ne.AppendUint16(b, unix.NLM_F_REQUEST), make([]byte, 8+4)...)
	b = ne.AppendUint16(ne.AppendUint16(b, uint16(4+len(value))), attr)
	b = append(b, value...)
	b = append(b, make([]byte, -len(b)&3)...)
	ne.PutUint32(b, uint32(len(b)))
	must(tb, h.sock.send(b))
}

// await waits until n packets wait here.
func (h *hold) await(n int) error {
	for len(h.waiting) < n {
		h.sock.file.SetDeadline(time.Now().Add(5 * time.Second))
		err := h.sock.receive(func(typ, _ uint16, _, _ uint32, data []byte) error {
			switch {
			case typ == unix.NLMSG_ERROR:
				return errnoOf(data)
			case typ == queuePacket && len(data) > 4:
				attrs(data[4:], func(typ uint16, v []byte) bool {
					if typ == 1 { // NFQA_PACKET_HDR
						h.waiting = append(h.waiting, beU32(v))
					}
					return true
				})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%d of %d packets wait: %w", len(h.waiting), n, err)
		}
	}
	return nil
}

// letGo sends all on their way.
func (h *hold) letGo(tb testing.TB) {
	for _, n := range h.waiting {
		verdict := binary.BigEndian.AppendUint32(nil, 1) // NF_ACCEPT
		h.send(tb, queueVerdict, 2, binary.BigEndian.AppendUint32(verdict, n))
	}
	h.waiting = nil
}

// TestI4_OnTheWay stops packets between egress and ingress, while a transaction closes the
// one, by which they have come, and opens the other. Neither model lets them pass, and
// none does, whichever of the two is a process of this host.
func TestI4_OnTheWay(t *testing.T) {
	local, forward, out := nftables.ChainHookInput, nftables.ChainHookForward, nftables.ChainHookPostrouting
	for _, way := range []struct {
		from, to string
		hook     *nftables.ChainHook
		priority int32
	}{
		{"a", "b", forward, priorityFilter - 1},
		{"a", "p", local, priorityFilter - 1},
		{"q", "p", local, priorityFilter - 1},
		{"p", "a", out, priorityMangle + 1}, // before what has the same priority and came earlier
	} {
		for _, how := range []string{"rules", "policies that are new"} {
			t.Run(fmt.Sprintf("%s to %s by %s", way.from, way.to, how), func(t *testing.T) {
				r := processRig(t)
				was := map[string]string{}
				have := func(name, version string, ingress, egress []policy.Rule) {
					p := r.v.policy(gnp(name+version, ingress, egress))
					e := r.v.effective(&policy.Effective{ID: strings.Repeat(name+version, 8), Tiers: both(tier("default", false, p))})
					if id := was[name]; id != "" && id != e.ID {
						delete(r.v.effectives, id)
						r.v.ch.Effectives[id] = nil
					}
					was[name] = e.ID
					if processAddr[name] == nil {
						r.endpoint(name, e)
					} else {
						r.process(name, p)
						ep := *r.v.endpoints[policy.EndpointID{Namespace: "ns", Name: name}]
						ep.Effective = e
						r.v.endpoint(&ep)
					}
				}
				put := func(version string, egress, ingress []policy.Rule) {
					have(way.from, version, nil, egress)
					have(way.to, version, ingress, nil)
					r.apply()
				}
				open, closed := []policy.Rule{allow(toBoth)}, []policy.Rule{allow(toAllowed)}
				put("0", open, closed)
				h := newHold(t, r.host, way.hook, way.priority)
				at := func(name string) *lab.Namespace {
					if processAddr[name] != nil {
						return r.host
					}
					return r.ns(name)
				}
				in := newHears(r, at(way.to), forbiddenPort)
				for _, v := range []int{4, 6} {
					c, err := at(way.from).ListenPacket("udp", netip.AddrPortFrom(placed(v, way.from), 0).String())
					must(t, err)
					defer c.Close()
					send := func(text string) {
						t.Helper()
						_, err := c.WriteTo([]byte(text), net.UDPAddrFromAddrPort(netip.AddrPortFrom(placed(v, way.to), forbiddenPort)))
						must(t, err)
						must(t, h.await(1))
					}
					send("on its way")
					n := 0
					r.tab.refuse = func(*msgs) error {
						if n++; n == map[string]int{"rules": 2, "policies that are new": 3}[how] { // the change is in force
							h.letGo(t)
							time.Sleep(10 * time.Millisecond)
						}
						return nil
					}
					version := "0"
					if how != "rules" {
						version = fmt.Sprint(v)
					}
					put(version, closed, open)
					r.tab.refuse = nil
					if len(h.waiting) > 0 {
						t.Fatalf("%d transactions, and the packet still waits", n)
					}
					put(version, open, open)
					send("allowed")
					h.letGo(t)
					if got := in.until("allowed"); len(got) > 0 {
						t.Errorf("IPv%d: %q arrived, which neither model allows", v, got)
					}
					put("0", open, closed)
					quiet(t, r.tab, r.v)
				}
			})
		}
	}
}
