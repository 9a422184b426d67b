// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
)

// tableOf encodes n /32s, spread over the given number of attribute sets, as
// an iBGP peer sends them.
func tableOf(n, sets int) []byte {
	pack := packer{as4: true}
	all := make([]*attrs, sets)
	for i := range all {
		all[i] = &attrs{hasLocalPref: true, localPref: 100, nextHop: netip.AddrFrom4([4]byte{10, 0, 0, 9}), comms: []uint32{uint32(i)}}
	}
	for i := range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 20<<24+uint32(i))
		pack.add(pathRef{prefix: netip.PrefixFrom(netip.AddrFrom4(b), 32)}, all[i*sets/n])
	}
	var out []byte
	for _, c := range pack.finish() {
		out = append(out, c.b...)
	}
	return out
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLearn is 100,000 routes over one session, with one and with 10,000
// attribute sets: time until all are selected, and memory of the tables per
// route.
func BenchmarkLearn(b *testing.B) {
	const routes = 100_000
	for _, c := range []struct {
		name string
		sets int
	}{{"1_set", 1}, {"10000_sets", 10_000}} {
		b.Run(c.name, func(b *testing.B) {
			stream := tableOf(routes, c.sets)
			for range b.N {
				b.StopTimer()
				s := New(Options{})
				us, them := netip.MustParseAddr("127.78.0.1"), netip.MustParseAddr("127.78.0.2")
				cfg := nodeConfig(64512, us, peerTo(them, 64512))
				cfg.Peers[0].Passive = true
				done, cancel := runBench(b, s, cfg)
				r := &rawPeer{t: &testing.T{}, addr: them}
				dialBench(b, r, us)
				before := heap()
				b.StartTimer()
				start := time.Now()
				if _, err := r.nc.Write(stream); err != nil {
					b.Fatal(err)
				}
				for s.Peers()[0].Accepted < routes {
					time.Sleep(time.Millisecond)
				}
				el := time.Since(start)
				b.StopTimer()
				drain(s, routes)
				b.ReportMetric(float64(heap()-before)/routes, "B/route")
				b.ReportMetric(float64(el.Nanoseconds())/routes, "ns/route")
				cancel()
				<-done
				_ = r.nc.Close()
			}
		})
	}
}

// BenchmarkIngest is the same work without TCP, goroutines and NextBest, in the batches in which a
// reader hands it over: what decoding and the table cost, for a node that forwards
// nothing. There is an import policy, as nearly everywhere.
func BenchmarkIngest(b *testing.B) {
	const routes = 500_000
	for _, c := range []struct {
		name string
		sets int
	}{{"1_set", 1}, {"50000_sets", 50_000}} {
		b.Run(c.name, func(b *testing.B) {
			stream := tableOf(routes, c.sets)
			for b.Loop() {
				b.StopTimer()
				cfg := nodeConfig(64512, netip.MustParseAddr("10.0.0.1"))
				cfg.ControlPlaneOnly = true
				d := newDesk(b, cfg, func(o *Options) { o.TrackNextHops = true })
				p := d.add("peer", PeerConfig{
					Addr: netip.MustParseAddrPort("10.0.0.2:179"), ASN: 64512,
					Import: func(*Route) Verdict { return Verdict{} }, ImportID: "all",
				}, netip.MustParseAddr("10.0.0.2"))
				d.up(p)
				b.StartTimer()
				var decode time.Duration
				for rest := stream; len(rest) > 0; {
					var batch []message
					start := time.Now()
					for n := 0; n < maxBatchRoutes && len(batch) < maxBatch && len(rest) > 0; {
						l := int(binary.BigEndian.Uint16(rest[16:]))
						m := message{typ: msgUpdate, update: d.s.updates.Get().(*update)}
						if p.dec.decode(rest[headerLen:l], m.update) != nil {
							b.Fatal("not decoded")
						}
						n += len(m.update.reach)
						batch, rest = append(batch, m), rest[l:]
					}
					decode += time.Since(start)
					d.s.handle(input{c: p.c, msgs: batch, at: 1})
					d.s.flush()
					if d.s.rib.hops.unknown > 0 { // the daemon answers
						d.s.setNextHops([]NextHop{{Addr: netip.MustParseAddr("10.0.0.9"), Usable: true}})
						d.s.flush()
					}
				}
				if got := d.s.rib.table.Size(); got != routes {
					b.Fatalf("%d routes", got)
				}
				b.ReportMetric(float64(decode.Nanoseconds())/routes, "decode-ns/route")
			}
		})
	}
}

// BenchmarkFanOut announces 100,000 prefixes to 20 peers of one export group:
// from Originate until the last has all. bytes/peer is what a queue held at most.
func BenchmarkFanOut(b *testing.B) {
	const routes, peers = 100_000, 20
	for range b.N {
		b.StopTimer()
		us := netip.MustParseAddr("127.78.0.1")
		var pcs []PeerConfig
		for i := range peers {
			p := peerTo(netip.AddrFrom4([4]byte{127, 78, 1, byte(i)}), 64512)
			p.Passive = true
			pcs = append(pcs, p)
		}
		s := New(Options{})
		done, cancel := runBench(b, s, nodeConfig(64512, us, pcs...))
		var raws []*rawPeer
		for _, pc := range pcs {
			r := &rawPeer{t: &testing.T{}, addr: pc.Addr.Addr()}
			dialBench(b, r, us)
			raws = append(raws, r)
		}
		var add []Origination
		for i := range routes {
			var a [4]byte
			binary.BigEndian.PutUint32(a[:], 20<<24+uint32(i))
			add = append(add, Origination{Prefix: netip.PrefixFrom(netip.AddrFrom4(a), 32)})
		}
		for len(s.groupsSnapshot()) != 1 || s.groupsSnapshot()[0] != peers {
			time.Sleep(time.Millisecond)
		}
		b.StartTimer()
		s.Originate(add, nil)
		var wg sync.WaitGroup
		for _, r := range raws {
			wg.Go(func() {
				got, buf := 0, make([]byte, maxMessage)
				for got < routes {
					typ, body, err := readMessage(r.br, buf)
					if err != nil {
						b.Error(err)
						return
					}
					if typ == msgUpdate { // five octets a prefix
						alen := int(binary.BigEndian.Uint16(body[2:]))
						got += (len(body) - 4 - alen) / 5
					}
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		cancel()
		<-done
		for _, r := range raws {
			_ = r.nc.Close()
		}
	}
}

// BenchmarkDecode is the hot path of a reader: one full UPDATE of equal
// attributes after another.
func BenchmarkDecode(b *testing.B) {
	stream := tableOf(800, 1)
	l := int(binary.BigEndian.Uint16(stream[16:]))
	body := stream[headerLen:l]
	d, u := decoder{as4: true}, update{}
	b.SetBytes(int64(l))
	b.ReportAllocs()
	for b.Loop() {
		u = update{reach: u.reach[:0]}
		if d.decode(body, &u) != nil || len(u.reach) == 0 {
			b.Fatal("not decoded")
		}
	}
}

// BenchmarkBeginRefresh is what a peer with 500,000 routes costs that says BoRR and
// one route, and BoRR again (RFC 7313).
func BenchmarkBeginRefresh(b *testing.B) {
	r := rib{sources: []*source{{}, {}}}
	say := func(i uint32) {
		a := r.attrs.intern(&attrs{nextHop: netip.MustParseAddr("10.0.0.9")})
		a.refs++
		r.set(pathRef{prefix: netip.PrefixFrom(addr4(20<<24+i), 32)}, 1, a, a, Accepted)
	}
	for i := range uint32(500_000) {
		say(i)
	}
	for b.Loop() {
		r.markDue(1, v4)
		say(7)
	}
}

// BenchmarkEndOfSmall is what it costs to find the routes of a peer that has none, and of one
// that has one in the midst of 500,000 of another's.
func BenchmarkEndOfSmall(b *testing.B) {
	r := rib{sources: []*source{{}, {}, {}, {}}}
	say := func(peer uint16, i uint32) {
		a := r.attrs.intern(&attrs{nextHop: netip.MustParseAddr("10.0.0.9")})
		a.refs++
		r.set(pathRef{prefix: netip.PrefixFrom(addr4(20<<24+i), 32)}, peer, a, a, Accepted)
	}
	for i := range uint32(500_000) {
		say(1, i)
	}
	say(3, 250_000)
	for routes, peer := range []uint16{2, 3} {
		b.Run(fmt.Sprint("routes=", routes), func(b *testing.B) {
			for b.Loop() {
				if len(r.of(peer)) != routes {
					b.Fatal("not found")
				}
			}
		})
	}
}

func runBench(b *testing.B, s *Speaker, cfg Config) (done chan struct{}, cancel func()) {
	b.Helper()
	if err := s.SetConfig(cfg); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done = make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			b.Error(err)
		}
	}()
	return done, stop
}

// dialBench brings a raw session to us up.
func dialBench(b *testing.B, r *rawPeer, us netip.Addr) {
	b.Helper()
	for range 2000 {
		nc, err := defaultDial(context.Background(), r.addr, addrPort(us))
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		r.nc, r.br = nc, bufio.NewReaderSize(nc, 64<<10)
		if _, err := nc.Write(append(rawOpen(64512, r.addr), keepaliveMessage()...)); err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, maxMessage)
		for range 2 { // OPEN, KEEPALIVE
			if _, _, err := readMessage(r.br, buf); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.Fatal("no connection")
}

// drain takes n prefixes from NextBest.
func drain(s *Speaker, n int) {
	for n > 0 {
		best, err := s.NextBest(context.Background())
		if err != nil {
			return
		}
		n -= len(best)
	}
}
