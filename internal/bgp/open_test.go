// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// rawOpenBody is an OPEN with free fields and optional parameters.
func rawOpenBody(version uint8, as, hold uint16, id [4]byte, params ...byte) []byte {
	b := []byte{version, byte(as >> 8), byte(as), byte(hold >> 8), byte(hold), id[0], id[1], id[2], id[3], byte(len(params))}
	return append(b, params...)
}

// B05: OPENs right and wrong; 0/0 means accepted. RFC 4271 section 6.2, RFC 5492, 6286,
// 6793, 7607, 9072.
func TestB05_RFC4271_6_2_Open(t *testing.T) {
	id := [4]byte{10, 9, 9, 9}
	local := netip.MustParseAddr("10.0.0.1")
	as4 := []byte{2, 6, 65, 4, 0, 0, 0xfc, 0}
	type tc struct {
		name      string
		body      []byte
		code, sub uint8
	}
	cases := []tc{
		{"plain", rawOpenBody(4, 64512, 9, id), 0, 0},
		{"with four-octet AS", rawOpenBody(4, 64512, 9, id, as4...), 0, 0},
		{"AS_TRANS with four-octet AS", rawOpenBody(4, asTrans, 9, id, as4...), 0, 0},
		{"hold 0", rawOpenBody(4, 64512, 0, id), 0, 0},
		{"hold 3", rawOpenBody(4, 64512, 3, id), 0, 0},
		{"hold 65535", rawOpenBody(4, 64512, 65535, id), 0, 0},
		{"hold 1", rawOpenBody(4, 64512, 1, id), 2, 6},
		{"hold 2", rawOpenBody(4, 64512, 2, id), 2, 6},
		{"identifier 0", rawOpenBody(4, 64512, 9, [4]byte{}), 2, 3},
		{"identifier ours", rawOpenBody(4, 64512, 9, local.As4()), 2, 3},
		{"AS 0", rawOpenBody(4, 0, 9, id), 2, 2},
		{"four-octet AS 0", rawOpenBody(4, 64512, 9, id, 2, 6, 65, 4, 0, 0, 0, 0), 2, 2},
		{"other AS", rawOpenBody(4, 64513, 9, id), 2, 2},
		{"AS_TRANS alone", rawOpenBody(4, asTrans, 9, id), 2, 2},
		{"unknown parameter", rawOpenBody(4, 64512, 9, id, 1, 0), 2, 4},
		{"parameter 0xff", rawOpenBody(4, 64512, 9, id, 255, 0), 2, 4},
		{"parameter 0xff with data", rawOpenBody(4, 64512, 9, id, 255, 3, 1, 2, 3), 2, 4},
		{"parameter of one octet", rawOpenBody(4, 64512, 9, id, 2), 2, 0},
		{"parameter longer than all", rawOpenBody(4, 64512, 9, id, 2, 200, 65, 4, 0, 0, 0xfc, 0), 2, 0},
		{"capability longer than its parameter", rawOpenBody(4, 64512, 9, id, 2, 6, 65, 200, 0, 0, 0xfc, 0), 2, 0},
		{"capability of one octet", rawOpenBody(4, 64512, 9, id, 2, 1, 65), 2, 0},
		{"capability reaches into the next parameter", rawOpenBody(4, 64512, 9, id, 2, 2, 65, 4, 2, 4, 0, 0, 0xfc, 0), 2, 0},
		{"empty capabilities", rawOpenBody(4, 64512, 9, id, 2, 0), 0, 0},
		{"total too long", append(rawOpenBody(4, 64512, 9, id)[:9], 4), 2, 0},
		{"total too short", append(rawOpenBody(4, 64512, 9, id), 1, 2, 3), 2, 0},
		{"RFC 9072 extended", append(rawOpenBody(4, 64512, 9, id)[:9], append([]byte{255, 255, 0, 9, 2, 0, 6}, 65, 4, 0, 0, 0xfc, 0)...), 0, 0},
		{"RFC 9072 extended, length wrong", append(rawOpenBody(4, 64512, 9, id)[:9], append([]byte{255, 255, 1, 9, 2, 0, 6}, 65, 4, 0, 0, 0xfc, 0)...), 2, 0},
		{"RFC 9072 extended, cut off", append(rawOpenBody(4, 64512, 9, id)[:9], 255, 255, 0, 2, 2, 0), 2, 0},
	}
	for v := range 8 {
		if v != 4 {
			cases = append(cases, tc{fmt.Sprintf("version %d", v), rawOpenBody(uint8(v), 64512, 9, id), 2, 1})
		}
	}
	for code := range 256 {
		// Every capability, malformed inside its own length: ignored.
		if code == 65 {
			continue
		}
		for _, l := range []int{0, 1, 3, 5} {
			body := append(append([]byte{2, byte(2 + l)}, byte(code), byte(l)), make([]byte, l)...)
			cases = append(cases, tc{fmt.Sprintf("capability %d length %d", code, l), rawOpenBody(4, 64512, 9, id, body...), 0, 0})
		}
	}
	for l := range 9 {
		if l != 4 {
			body := append([]byte{2, byte(2 + l), 65, byte(l)}, make([]byte, l)...)
			cases = append(cases, tc{fmt.Sprintf("four-octet AS length %d", l), rawOpenBody(4, 64512, 9, id, body...), 0, 0})
		}
	}
	for _, c := range cases {
		m, n := decodeOpen(slices.Clip(slices.Clone(c.body))) // nothing behind it to over-read
		if n == nil {
			n = m.accept(64512, 64512, local)
		}
		var code, sub uint8
		if n != nil {
			code, sub = n.code, n.sub
		}
		if code != c.code || sub != c.sub {
			t.Errorf("%s: %d/%d (%v), want %d/%d", c.name, code, sub, n, c.code, c.sub)
		}
	}
	t.Logf("%d cases", len(cases))
}

// What we send is what the codec reads.
func TestRFC4724_3_OurOpen(t *testing.T) {
	b, err := openParams{asn: 4200000001, id: netip.MustParseAddr("10.0.0.1"), hold: 9 * time.Second,
		families: familySet{true, true}, restarting: true, forwarding: true, restartTime: 120 * time.Second}.marshal()
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.ParseBGPMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	o := m.Body.(*wire.BGPOpen)
	if o.MyAS != asTrans || o.HoldTime != 9 {
		t.Errorf("%+v", o)
	}
	d, n := decodeOpen(b[headerLen:])
	if n != nil {
		t.Fatal(n)
	}
	if d.asn != 4200000001 || !d.as4 || !d.refresh || !d.gr || !d.grRestarting || d.grTime != 120*time.Second ||
		d.grFamilies != (familySet{true, true}) || d.grForward != (familySet{true, true}) || d.families != (familySet{true, true}) {
		t.Errorf("%+v", d)
	}
}

// B06: broken frames end the session at once with 1/1, 1/2 or 1/3, in every
// state; slow ones do not stall it.
func TestB06_RFC4271_6_1_Framing(t *testing.T) {
	header := func(marker byte, length uint16, typ uint8) []byte {
		b := slices.Repeat([]byte{marker}, 16)
		return append(b, byte(length>>8), byte(length), typ)
	}
	for _, c := range []struct {
		name string
		msg  []byte
		sub  uint8
	}{
		{"marker of zeros", header(0, 19, 4), 1},
		{"marker wrong in the last octet", append(append(slices.Repeat([]byte{0xff}, 15), 0), 0, 19, 4), 1},
		{"length 0", header(0xff, 0, 4), 2},
		{"length 18", header(0xff, 18, 4), 2},
		{"length 4097", header(0xff, 4097, 2), 2},
		{"length 65535", header(0xff, 65535, 2), 2},
		{"KEEPALIVE of 20", header(0xff, 20, 4), 2},
		{"UPDATE of 22", header(0xff, 22, 2), 2},
		{"OPEN of 28", header(0xff, 28, 1), 2},
		{"NOTIFICATION of 20", header(0xff, 20, 3), 2},
		{"ROUTE-REFRESH of 22", append(header(0xff, 22, 5), 0, 1, 1), 2},
		{"ROUTE-REFRESH of 24", append(header(0xff, 24, 5), 0, 1, 2, 1, 0), 2},
		{"type 0", header(0xff, 19, 0), 3},
		{"type 6", header(0xff, 19, 6), 3},
		{"type 255", header(0xff, 19, 255), 3},
	} {
		for _, established := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/established=%v", c.name, established), func(t *testing.T) {
				t.Parallel()
				n, r := rawTarget(t, 64512, Options{})
				if established {
					r.establish(n, 64512)
				} else {
					r.connect(n)
				}
				start := time.Now()
				r.write(c.msg)
				want := [2]uint8{codeHeader, c.sub}
				if established && c.msg[18] == msgRefresh {
					want = [2]uint8{codeRefresh, subRefreshLength} // RFC 7313 section 5
				}
				if code, sub := r.readNote(); code != want[0] || sub != want[1] {
					t.Errorf("NOTIFICATION %d/%d, want %d", code, sub, want)
				}
				if d := time.Since(start); d > time.Second {
					t.Errorf("after %v", d)
				}
			})
		}
	}
	t.Run("one octet at a time", func(t *testing.T) {
		n, r := rawTarget(t, 64512, Options{})
		r.establish(n, 64512)
		for _, b := range cat(keepaliveMessage(), upd(nil, cat(goodAttrs(false)...), nlri("10.60.0.0/24")), keepaliveMessage()) {
			r.write([]byte{b})
		}
		n.waitHops("10.60.0.0/24", "10.0.0.9")
		// And a whole message with a part of the next: it must not wait for the rest.
		m := cat(upd(nil, cat(goodAttrs(false)...), nlri("10.61.0.0/24")), keepaliveMessage()[:18])
		r.write(m)
		n.waitHops("10.61.0.0/24", "10.0.0.9")
		// A header and a little more of the next one, the same.
		r.write(cat([]byte{4}, upd(nil, cat(goodAttrs(false)...), nlri("10.62.0.0/24")), upd(nil, nil, nil)[:21]))
		n.waitHops("10.62.0.0/24", "10.0.0.9")
	})
	t.Run("KEEPALIVE flood", func(t *testing.T) {
		n, r := rawTarget(t, 64512, Options{})
		r.establish(n, 64512)
		flood := slices.Repeat(keepaliveMessage(), 2000)
		for range 50 {
			r.write(flood)
		}
		r.write(upd(nil, cat(goodAttrs(false)...), nlri("10.60.0.0/24")))
		n.waitHops("10.60.0.0/24", "10.0.0.9")
	})
}

// RFC 6608: a message that the state does not expect resets with 5/n; a second OPEN in
// Established is the one that crashed another daemon.
func TestRFC6608_UnexpectedMessages(t *testing.T) {
	refresh := appendHeader(nil, msgRefresh, []byte{0, 1, 0, 1})
	for _, c := range []struct {
		name  string
		after State
		msg   []byte
		sub   uint8
	}{
		{"KEEPALIVE before OPEN", OpenSent, keepaliveMessage(), 1},
		{"UPDATE before OPEN", OpenSent, upd(nil, nil, nil), 1},
		{"ROUTE-REFRESH before OPEN", OpenSent, refresh, 1},
		{"UPDATE in OpenConfirm", OpenConfirm, upd(nil, nil, nil), 2},
		{"OPEN in OpenConfirm", OpenConfirm, rawOpen(64512, netip.MustParseAddr("10.9.9.9")), 2},
		{"OPEN in Established", Established, rawOpen(64512, netip.MustParseAddr("10.9.9.9")), 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, r := rawTarget(t, 64512, Options{})
			switch c.after {
			case Established:
				r.establish(n, 64512)
			case OpenConfirm:
				r.connect(n)
				r.write(rawOpen(64512, r.addr))
			default:
				r.connect(n)
			}
			r.write(c.msg)
			if code, sub := r.readNote(); code != 5 || sub != c.sub {
				t.Errorf("NOTIFICATION %d/%d, want 5/%d", code, sub, c.sub)
			}
		})
	}
}
