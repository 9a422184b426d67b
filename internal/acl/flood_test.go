// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
	batch "golang.org/x/net/ipv4"
)

const (
	forbiddenPort = 6661
	allowedPort   = 6662

	forbiddenRate = 80_000 // packets a second of each family
)

// arrivals counts UDP packets by destination port as they enter a namespace.
type arrivals struct {
	conn  *nftables.Conn
	chain *nftables.Chain
}

func newArrivals(tb testing.TB, ns *lab.Namespace, ports ...uint16) *arrivals {
	tb.Helper()
	a := &arrivals{}
	must(tb, ns.Do(func() (err error) {
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer f.Close()
		a.conn, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(f.Fd())))
		return err
	}))
	tb.Cleanup(func() { a.conn.CloseLasting() })
	t := a.conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "arrivals"})
	a.chain = a.conn.AddChain(&nftables.Chain{Table: t, Name: "arrivals", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw})
	for _, p := range ports {
		a.conn.AddRule(&nftables.Rule{Table: t, Chain: a.chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{udp}},
			&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p)}, &expr.Counter{}}})
	}
	must(tb, a.conn.Flush())
	return a
}

// dropAll drops what was counted.
func (a *arrivals) dropAll(tb testing.TB) {
	a.conn.AddRule(&nftables.Rule{Table: a.chain.Table, Chain: a.chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{udp}}, &expr.Verdict{Kind: expr.VerdictDrop}}})
	must(tb, a.conn.Flush())
}

func (a *arrivals) count(tb testing.TB, i int) uint64 {
	rs, err := a.conn.GetRules(a.chain.Table, a.chain)
	must(tb, err)
	return rs[i].Exprs[len(rs[i].Exprs)-1].(*expr.Counter).Packets
}

// sender changes the endpoint a.
func (r *rig) sender(e *policy.Effective, change func(*policy.Endpoint)) {
	r.endpoint("a", e)
	ep := *r.v.endpoints[policy.EndpointID{Namespace: "ns", Name: "a"}]
	change(&ep)
	r.v.endpoint(&ep)
}

// TestT14_AtomicCommits floods b with forbidden and allowed packets while
// every kind of commit is made, each for half a second or longer.
func TestT14_AtomicCommits(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Log = slog.New(slog.DiscardHandler) }) // which says each time that it replaces the table
	everyone := r.allowAllEffective()
	r.v.set("from", policy.SetNets, netMembers("10.65.0.1/32", "fd65::1/128")...)
	r.v.set("other", policy.SetNets, netMembers("10.65.0.9/32", "fd65::9/128")...)
	rules := func(n int) []policy.Rule {
		return []policy.Rule{
			allow(func(r *policy.Rule) { toPort(tcp, port(uint16(1+n)))(r) }),
			allow(func(r *policy.Rule) { r.Src.Sets = []policy.SetID{"other"} }),
			allow(func(r *policy.Rule) { r.Src.Sets = []policy.SetID{"from"}; toPort(udp, port(allowedPort))(r) }),
		}
	}
	p := r.v.policy(gnp("p", rules(0), nil))
	q := r.v.policy(gnp("q", []policy.Rule{allow(toPort(udp, port(allowedPort)))}, nil))
	effs := []*policy.Effective{
		r.v.effective(&policy.Effective{ID: "firstfirstfirst1", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}}),
		r.v.effective(&policy.Effective{ID: "secondsecondsec2", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, q, p)}}}),
	}
	r.endpoint("a", everyone)
	r.endpoint("b", effs[0])
	r.apply()
	in := newArrivals(t, r.wl["b"], forbiddenPort, allowedPort)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var work sync.WaitGroup
	var sent [2]atomic.Uint64
	var gate sync.RWMutex           // locked, it stops the flood
	for _, v := range []int{4, 6} { // neighbours known
		r.expect(false, lab.UDP, "a", "b", 80, v)
	}
	for i, p := range []uint16{forbiddenPort, allowedPort} {
		rate := []int{forbiddenRate, 10_000}[i]
		for _, v := range []int{4, 6} {
			c, err := r.wl["a"].Dial(ctx, "udp", netip.AddrPortFrom(addrOf(v, "b"), p).String())
			must(t, err)
			defer c.Close()
			work.Go(func() { flood(ctx, c, &gate, &sent[i], rate) })
		}
	}
	const replace, replaceNets = "replace the table", "replace the table, a denial of networks in it"
	again := func() {
		var m msgs
		m.begin("", inetTable, 18 /* NFT_MSG_NEWOBJ */, 0x400)
		m.data.str(1, TableName)
		m.data.str(2, "foreign")
		m.data.u32(3, 1) // counter
		at := m.data.begin(4)
		m.data.end(at)
		m.end()
		must(t, r.tab.sock.transact(&m))
		must(t, r.tab.Resync(r.v))
	}
	kinds := []struct {
		name string
		do   func(i int)
	}{
		{"no change", func(int) { time.Sleep(time.Millisecond) }},
		{"policy", func(i int) { r.v.policy(gnp("p", rules(i%50), nil)) }},
		{"set", func(i int) {
			r.v.set("other", policy.SetNets, netMembers(fmt.Sprintf("10.66.%d.1/32", i%250), "fd66::1/128")...)
		}},
		{"hash to interval", func(i int) {
			if i%2 == 0 {
				r.v.set("from", policy.SetNets, netMembers("10.65.0.0/31", "fd65::/127")...)
			} else {
				r.v.set("from", policy.SetNets, netMembers("10.65.0.1/32", "fd65::1/128")...)
			}
		}},
		{"effective policy of the endpoint", func(i int) { r.endpoint("b", effs[i%2]) }},
		{"addresses of the sender", func(i int) {
			r.sender(everyone, func(e *policy.Endpoint) { e.Addrs = append(e.Addrs, addrs("10.65.7.7", "fd65::7:7")[:i%3]...) })
		}},
		{"MAC address of the sender known or not", func(i int) { r.sender(everyone, func(e *policy.Endpoint) { e.HasMAC = i%2 == 1 }) }},
		{"sender a guest or not", func(i int) { r.sender(everyone, func(e *policy.Endpoint) { e.Guest = i%2 == 0 }) }},
		{replace, func(int) { again() }},
		{replaceNets, func(i int) {
			if i == 0 {
				r.v.set("nets", policy.SetNets, netMembers("10.65.0.0/30", "10.67.0.0/16", "fd65::/126", "fd67::/64")...)
				r.v.policy(gnp("p", []policy.Rule{
					deny(func(r *policy.Rule) { r.Src.Sets = []policy.SetID{"nets"}; toPort(udp, port(forbiddenPort))(r) }),
					allow(),
				}, nil))
				r.apply()
			}
			again()
		}},
	}
	for _, k := range kinds {
		gate.Lock()
		before := [2]uint64{sent[0].Load(), sent[1].Load()}
		arrived := [2]uint64{in.count(t, 0), in.count(t, 1)}
		commits := r.tab.Stats().Commits
		gate.Unlock()
		begin := time.Now()
		for n := 0; n < *floodCommits || time.Since(begin) < 500*time.Millisecond; n++ {
			k.do(n)
			r.apply()
		}
		gate.Lock()
		took := time.Since(begin).Seconds()
		forbidden, allowed := sent[0].Load()-before[0], sent[1].Load()-before[1]
		var passed, got uint64
		for range 100 { // until all that was under way has arrived
			passed, got = in.count(t, 0)-arrived[0], in.count(t, 1)-arrived[1]
			if got == allowed {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
		t.Logf("%s: %d commits, %d of %d forbidden packets passed, %d of %d allowed lost; %.0f packets a second",
			k.name, r.tab.Stats().Commits-commits, passed, forbidden, int64(allowed)-int64(got), allowed, float64(forbidden+allowed)/took)
		// A packet within the old table while it goes finds its maps empty and
		// is dropped. That table is replaced only after tampering.
		if passed != 0 || got != allowed && k.name != replace && k.name != replaceNets {
			t.Errorf("%s: forbidden packets passed, or allowed ones were lost", k.name)
		}
		gate.Unlock()
	}
	stop()
	work.Wait()
}

// flood sends rate packets a second until the context ends, many of them with
// one call. It gives up what it is late with rather than send more than
// mostAtOnce: what the kernel drops because its queues are full says nothing
// about rules.
func flood(ctx context.Context, c net.Conn, gate *sync.RWMutex, sent *atomic.Uint64, rate int) {
	const mostAtOnce = 64
	// IPv6 sockets take the same messages; only control messages differ.
	conn := batch.NewPacketConn(c.(net.PacketConn))
	ms := make([]batch.Message, mostAtOnce)
	for i := range ms {
		ms[i].Buffers = [][]byte{[]byte("flood")}
	}
	pause := time.NewTicker(200 * time.Microsecond)
	defer pause.Stop()
	last := time.Now()
	for ctx.Err() == nil {
		<-pause.C
		due := int(time.Since(last) * time.Duration(rate) / time.Second)
		if due == 0 {
			continue
		}
		last = time.Now()
		gate.RLock()
		for due = min(due, mostAtOnce); due > 0; {
			n, err := conn.WriteBatch(ms[:due], 0)
			sent.Add(uint64(max(n, 0)))
			due -= max(n, 0)
			if err != nil {
				due-- // an answer that nobody listens there fails one message; it was not sent
			}
		}
		gate.RUnlock()
	}
}
