// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestMACs_ComeAndGo: an endpoint sends from each MAC address that it has and from no other;
// while one comes and goes hundreds of times, no packet under the others is lost.
func TestMACs_ComeAndGo(t *testing.T) {
	r := newRig(t, func(o *Options) { o.HostAction = HostAccept })
	r.endpoint("a", r.allowAllEffective())
	id := policy.EndpointID{Namespace: "ns", Name: "a"}
	first, second, third := [6]byte(wlMAC("a")), [6]byte{2, 1}, [6]byte{2, 2}
	have := func(mac [6]byte, more ...[6]byte) {
		t.Helper()
		ep := *r.v.endpoints[id]
		ep.MAC, ep.MACs = mac, more
		r.v.endpoint(&ep)
		r.apply()
	}
	have(first)
	h := newHears(r, r.host, 9000)
	send := func(v int, mac [6]byte, text string) {
		t.Helper()
		must(t, r.wl["a"].SendPacket("eth0", lab.Packet{SrcMAC: net.HardwareAddr(mac[:]), DstMAC: hostMAC, Src: addrOf(v, "a"), Dst: addrOf(v, "host"),
			Proto: lab.ProtoUDP, SrcPort: 7, DstPort: 9000, Payload: []byte(text)}))
	}
	n := 0
	check := func(mac [6]byte, want bool) {
		t.Helper()
		for _, v := range []int{4, 6} {
			n++
			send(v, mac, fmt.Sprint("mac ", n))
			send(v, first, fmt.Sprint("last ", n))
			if got := len(h.until(fmt.Sprint("last ", n))) == 1; got != want {
				t.Errorf("IPv%d from %x: arrived %v, want %v", v, mac, got, want)
			}
		}
	}
	check(second, false)
	have(first, second)
	quiet(t, r.tab, r.v)
	check(second, true)
	check(third, false)

	arrived := make(chan int, 1)
	go func() { // until the end of both families
		got, ends := 0, 0
		for limit := time.After(time.Minute); ends < 2; {
			select {
			case text := <-h.from:
				if text == "flow" {
					got++
				} else {
					ends++
				}
			case <-limit:
				ends = 2
			}
		}
		arrived <- got
	}()
	var under atomic.Int64
	stop, sent := make(chan struct{}), make(chan int)
	go func() {
		k := 0
		defer func() { sent <- k }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			for _, mac := range [][6]byte{first, second} {
				if err := r.wl["a"].SendPacket("eth0", lab.Packet{SrcMAC: net.HardwareAddr(mac[:]), DstMAC: hostMAC, Src: addrOf(4+k%2*2, "a"), Dst: addrOf(4+k%2*2, "host"),
					Proto: lab.ProtoUDP, SrcPort: 8, DstPort: 9000, Payload: []byte("flow")}); err == nil {
					k++
					under.Add(1)
				}
			}
		}
	}()
	for i := 0; i < 100 || i < 5000 && under.Load() < 100; i++ {
		if i >= 100 {
			time.Sleep(time.Millisecond)
		}
		switch i % 3 {
		case 0:
			have(first, second, third)
		case 1:
			have(second, first) // it is the one that packets go to now
		default:
			have(first, second)
		}
	}
	close(stop)
	want := <-sent
	for _, v := range []int{4, 6} {
		send(v, second, fmt.Sprint("end ", v))
	}
	if got := <-arrived; want < 100 || got != want {
		t.Errorf("%d of %d packets arrived", got, want)
	}
	have(first)
	quiet(t, r.tab, r.v)
	check(second, false)
}
