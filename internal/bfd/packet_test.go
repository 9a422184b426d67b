// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// FuzzDecode: nothing that arrives makes the decoder panic, and what it
// accepts it reads the same again after writing it. The corpus in testdata
// has a file for each thing that can be wrong with a packet.
func FuzzDecode(f *testing.F) {
	ok := plain(Up, 5)
	for _, a := range []Auth{{}, {Type: AuthSimple, Key: []byte("pw")}, {Type: AuthMD5, Key: []byte("k")}, {Type: AuthMeticulousSHA1, ID: 3, Key: []byte("k")}} {
		f.Add((&authState{Auth: a}).seal(ok.encode(nil)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(p.encode(nil))
		if err != nil {
			t.Fatalf("%x is read as %+v, and what that writes is not: %v", b, p, err)
		}
		if !reflect.DeepEqual(p, again) {
			t.Fatalf("%+v became %+v", p, again)
		}
		for typ := AuthNone; typ <= AuthMeticulousSHA1; typ++ {
			_ = (&authState{Auth: Auth{Type: typ, Key: []byte("key")}, known: true}).check(&p, b)
		}
	})
}

// FuzzReceive: whatever arrives, an engine neither panics nor lets a stranger's
// packet move a session.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{}, uint8(255), false)
	f.Add((&packet{state: Down, detectMult: 3, my: 1, minTx: 1e6, minRx: 1e6}).encode(nil), uint8(255), false)
	f.Add((&packet{state: Up, detectMult: 3, my: 1, your: 1, poll: true}).encode(nil), uint8(254), true)
	now := time.Unix(1e9, 0)
	peer := families["v6"][1]
	f.Fuzz(func(t *testing.T, b []byte, ttl uint8, multihop bool) {
		e := New(Options{Send: func(Key, []byte) {}, Rand: rand.New(rand.NewPCG(1, 1))})
		if err := e.Set(now, []Config{{Key: Key{Peer: peer}}}); err != nil {
			t.Fatal(err)
		}
		before := e.Sessions()[0]
		err := e.Receive(now, Arrival{Src: peer, TTL: ttl, Multihop: multihop, Packet: b})
		after := e.Sessions()[0]
		if (err != nil || ttl != 255 || multihop) && (after.State != before.State || after.PacketsIn != 0) {
			t.Fatalf("%x (%v) moved the session: %+v", b, err, after)
		}
		e.Tick(now.Add(time.Hour))
	})
}

// TestWire is the format of RFC 5880 section 4.1, octet by octet.
func TestWire(t *testing.T) {
	p := packet{diag: DiagNeighborDown, state: Init, poll: true, independent: true, detectMult: 3, my: 0x01020304, your: 0x05060708, minTx: 300000, minRx: 1000000}
	want := "23" + // version 1, diagnostic 3
		"a8" + // state 2, poll, control plane independent
		"03" + "18" + "01020304" + "05060708" + "000493e0" + "000f4240" + "00000000"
	if got := hex.EncodeToString(p.encode(nil)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// RFC 5880 section 4.4, with the digest of this packet under this key.
	a := authState{Auth: Auth{Type: AuthMeticulousSHA1, ID: 9, Key: []byte("secret")}, xmit: 0x10}
	b := a.seal(p.encode(nil))
	if len(b) != 52 || b[3] != 52 || b[1] != 0xac || !bytes.Equal(b[24:32], []byte{5, 28, 9, 0, 0, 0, 0, 0x10}) || a.xmit != 0x11 {
		t.Errorf("%x", b)
	}
}
