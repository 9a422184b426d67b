// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/policy"
)

const fragAllowed, fragForbidden = 5500, 5501

// cut is a piece of a packet: from byte off of the whole on, more says that others
// follow.
type cut struct {
	off  int
	body []byte
	more bool
}

// pieces cuts the body at the places, which are multiples of 8.
func pieces(body []byte, at ...int) (out []cut) {
	for i, off := range append([]int{0}, at...) {
		end := len(body)
		if i < len(at) {
			end = at[i]
		}
		out = append(out, cut{off, body[off:end], i < len(at)})
	}
	return out
}

// options6 is an extension header of IPv6 with n times 8 bytes of padding (RFC 8200
// section 4.2), before what next says.
func options6(next byte, n int) []byte {
	return append([]byte{next, byte(n - 1), 1, byte(8*n - 4)}, make([]byte, 8*n-4)...)
}

// TestS13_Fragments sends datagrams to a port that policy denies, cut and covered in
// every way, and the same to one that it allows where that is not malformed.
func TestS13_Fragments(t *testing.T) {
	r := spoofRig(t)
	only := r.v.policy(gnp("only", []policy.Rule{allow(toPort(udp, port(fragAllowed)))}, nil))
	r.endpoint("b", r.v.effective(&policy.Effective{ID: "onlyonlyonlyonly", Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, only)}}}))
	r.apply()
	bad, good := newHears(r, r.wl["b"], fragForbidden), newHears(r, r.wl["b"], fragAllowed)
	up, err := r.host.MAC("up0")
	must(t, err)
	nMAC, err := r.n.MAC("eth0")
	must(t, err)
	id := uint32(1)
	for from, l := range map[string]link{"n": {mac: nMAC, hmac: up}, "a": {mac: wlMAC("a"), hmac: hostMAC}} {
		for _, v := range []int{4, 6} {
			p := policy.Packet{Src: addrOf(v, from), Dst: addrOf(v, "b"), Proto: udp, SrcPort: 4000}
			datagram := func(dst uint16, text string) []byte {
				b := binary.BigEndian.AppendUint16([]byte{0x0f, 0xa0}, dst)
				b = append(binary.BigEndian.AppendUint16(b, 8+120), 0, 0)
				return summed(p, append(append(b, text...), make([]byte, 120-len(text))...), 6)
			}
			send := func(list []cut) {
				t.Helper()
				id++
				for _, c := range list {
					must(t, r.ns(from).SendFrame("eth0", frame(l, p, c.body, id, c.off, c.more)))
				}
			}
			var legal []string
			for _, x := range []struct {
				name    string
				legal   bool // and so delivered to the port that is allowed
				arrange func(body, other []byte) []cut
			}{
				{"two", true, func(b, _ []byte) []cut { return pieces(b, 64) }},
				{"the header alone first", true, func(b, _ []byte) []cut { return pieces(b, 8) }},
				{"all of eight bytes", true, func(b, _ []byte) []cut {
					return pieces(b, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120)
				}},
				{"last first", true, func(b, _ []byte) []cut { p := pieces(b, 40, 80); slices.Reverse(p); return p }},
				{"out of order", true, func(b, _ []byte) []cut { p := pieces(b, 40, 80); return []cut{p[1], p[0], p[2]} }},
				{"one only, that is whole", true, func(b, _ []byte) []cut { return pieces(b) }},
				{"the first alone", false, func(b, _ []byte) []cut { return pieces(b, 64)[:1] }},
				{"the rest alone", false, func(b, _ []byte) []cut { return pieces(b, 64)[1:] }},
				{"the header covered by another", false, func(b, o []byte) []cut {
					return []cut{pieces(o, 64)[0], {0, b[:64], true}, pieces(b, 64)[1]}
				}},
				{"the header covered afterwards", false, func(b, o []byte) []cut {
					return []cut{pieces(b, 64)[1], {0, o[:64], true}, {0, b[:72], true}}
				}},
				{"half of it covered", false, func(b, o []byte) []cut {
					return []cut{{0, o[:64], true}, {8, b[8:72], true}, {0, b[:16], true}, {64, b[64:], false}}
				}},
				{"the end covered", false, func(b, o []byte) []cut {
					return []cut{{0, o[:64], true}, {64, b[64:], false}, {56, b[56:], false}, {0, b[:64], true}}
				}},
				{"within another", false, func(b, o []byte) []cut {
					return []cut{{0, o[:96], true}, {0, b[:8], true}, {96, b[96:], false}}
				}},
				{"another end", false, func(b, o []byte) []cut {
					return []cut{{0, b[:64], true}, {64, b[64:96], false}, {96, b[96:], false}}
				}},
				{"beyond 65535", false, func(b, o []byte) []cut { return []cut{{65528, b[64:], false}, {0, b[:64], true}} }},
				{"of no length", false, func(b, _ []byte) []cut { return []cut{{0, nil, true}, {64, nil, true}} }},
			} {
				text := fmt.Sprintf("%s from %s IPv%d", x.name, from, v)
				send(x.arrange(datagram(fragForbidden, text), datagram(fragAllowed, text)))
				if x.legal {
					legal = append(legal, text)
					send(x.arrange(datagram(fragAllowed, text), nil))
				}
			}
			if v == 6 {
				// Extension headers (RFC 8200 section 4), which policy looks behind or drops.
				whole := datagram(fragForbidden, "behind headers")
				raw := func(next byte, body []byte, id uint32, off int, more bool) {
					t.Helper()
					q := p
					q.Proto = next
					must(t, r.ns(from).SendFrame("eth0", frame(l, q, body, id, off, more)))
				}
				chain := whole
				for range 10 {
					chain = append(options6(map[bool]byte{true: udp, false: 60}[len(chain) == len(whole)], 1), chain...)
				}
				raw(60, chain, 0, 0, false)                                                    // ten of destination options
				raw(0, append(options6(udp, 1), whole...), 0, 0, false)                        // hop by hop
				raw(43, append([]byte{udp, 0, 0, 0, 0, 0, 0, 0}, whole...), 0, 0, false)       // routing of type 0 (RFC 5095)
				raw(44, append([]byte{udp, 0, 0, 0, 0, 0, 0, 9}, whole...), 0, 0, false)       // a fragment that is whole (RFC 6946)
				raw(44, append([]byte{udp, 0, 0, 0, 0, 0, 0, 9}, whole...), 77, 0, false)      // within another
				raw(44, append([]byte{udp, 0, 0, 1, 0, 0, 0, 9}, whole[:64]...), 78, 0, false) // a first within a whole
				long := append(options6(udp, 16), whole...)                                    // the header chain beyond the first (RFC 7112)
				raw(60, long[:64], 79, 0, true)
				raw(60, long[64:], 79, 64, false)
			}
			send(pieces(datagram(fragAllowed, "last"), 64))
			// Of the others the port that is allowed may win.
			got := good.until("last")
			for _, text := range legal {
				if !slices.Contains(got, text) {
					t.Errorf("%s: not delivered", text)
				}
			}
		}
	}
	select {
	case text := <-bad.from:
		t.Errorf("what policy denies arrived: %q", text)
	default:
	}
	quiet(t, r.tab, r.v)
}

// TestS13_LargeDatagrams sends datagrams of 8 KiB, which the senders' kernels cut:
// all arrive.
func TestS13_LargeDatagrams(t *testing.T) {
	r := spoofRig(t)
	for _, way := range [][2]string{{"n", "b"}, {"a", "n"}, {"a", "b"}} {
		for _, v := range []int{4, 6} {
			to := netip.AddrPortFrom(addrOf(v, way[1]), 5600)
			in, err := r.ns(way[1]).ListenPacket("udp", to.String())
			must(t, err)
			out, err := r.ns(way[0]).Dial(context.Background(), "udp", to.String())
			must(t, err)
			want, got := make([]byte, 8192), make([]byte, 10000)
			for i := range want {
				want[i] = byte(i * 7)
			}
			must(t, in.SetReadDeadline(time.Now().Add(10*time.Second)))
			for i := range 50 {
				_, err := out.Write(want)
				must(t, err)
				n, _, err := in.ReadFrom(got)
				if err != nil || !bytes.Equal(got[:n], want) {
					t.Fatalf("%s to %s IPv%d, datagram %d: %d bytes, %v", way[0], way[1], v, i, n, err)
				}
			}
			must(t, in.Close())
			must(t, out.Close())
		}
	}
}

// TestS13_Memory has a workload send first fragments of datagrams that have no other: the host keeps so much of them
// and no more.
func TestS13_Memory(t *testing.T) {
	r := spoofRig(t)
	l := link{mac: wlMAC("a"), hmac: hostMAC}
	limit, err := r.host.Sysctl("net/ipv4/ipfrag_high_thresh")
	must(t, err)
	most, err := strconv.Atoi(limit)
	must(t, err)
	for _, v := range []int{4, 6} {
		p := policy.Packet{Src: addrOf(v, "a"), Dst: addrOf(v, "b"), Proto: udp, SrcPort: 4000, DstPort: 4000}
		var flood [][]byte
		for id := range 20_000 {
			flood = append(flood, frame(l, p, make([]byte, 1024), uint32(id+1), 0, true))
		}
		r.pour("a", flood)
	}
	r.expect(true, lab.UDP, "a", "b", 80) // what is whole passes
	for file, family := range map[string]string{"sockstat": "FRAG:", "sockstat6": "FRAG6:"} {
		var text []byte
		must(t, r.host.Do(func() (err error) { text, err = os.ReadFile("/proc/thread-self/net/" + file); return err }))
		var queues, memory int
		at := strings.Index(string(text), family)
		_, err := fmt.Sscanf(string(text[at:]), family+" inuse %d memory %d", &queues, &memory)
		must(t, err)
		t.Logf("%s %d datagrams, %d bytes of %d", family, queues, memory, most)
		if memory > most+most/10 {
			t.Errorf("%s %d bytes are kept, and %d is the limit", family, memory, most)
		}
	}
}
