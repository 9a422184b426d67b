// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What anybody can send: whole messages, OPENs, attributes, and UPDATEs on
// their way through the table. `make fuzz` runs each target; without it the corpus
// is run as a test. testdata/corpus has the seeds, testdata/fuzz what was found.

// seed is one file of the corpus: hex, with remarks behind #, the first of
// which says what it is.
type seed struct {
	name, what string
	data       []byte
}

func corpus(t testing.TB, kind string) (list []seed) {
	t.Helper()
	files, err := filepath.Glob("testdata/corpus/" + kind + "/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus of %s: %v", kind, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		s := seed{name: kind + "/" + strings.TrimSuffix(filepath.Base(file), ".hex"), what: strings.TrimPrefix(first, "# ")}
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "#")
			for _, word := range strings.Fields(line) {
				v, err := strconv.ParseUint(word, 16, 8)
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				s.data = append(s.data, byte(v))
			}
		}
		list = append(list, s)
	}
	return list
}

// The page that says what each seed is says so of each.
func TestB04_CorpusPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n| seed | what it is |\n|---|---|\n")
	for _, kind := range []string{"message", "open", "attributes"} {
		for _, s := range corpus(t, kind) {
			fmt.Fprintf(&b, "| %s | %s |\n", s.name, s.what)
		}
	}
	b.WriteString("\n")
	checkPage(t, "testdata/corpus/README.md", b.String())
}

// clipped is a copy with nothing behind it that could be read by mistake.
func clipped(b []byte) []byte { return slices.Clip(slices.Clone(b)) }

// B04: no message panics, takes long, or reads beyond its end.
func FuzzMessage(f *testing.F) {
	for _, s := range append(corpus(f, "message"), corpus(f, "open")...) {
		f.Add(s.data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		br, buf := bufio.NewReader(bytes.NewReader(b)), make([]byte, maxMessage)
		both := familySet{true, true}
		decs := []*decoder{{as4: true}, {as4: false}, {as4: true, ebgp: true, keepUnknown: true}, {as4: true, addPath: both}, {as4: true, neighbour: netip.MustParseAddr("fe80::1%eth0")}}
		for {
			typ, body, err := readMessage(br, buf)
			var n *notification
			if errors.As(err, &n) {
				_ = wrongRefresh(br, buf, n).marshal()
			}
			if err != nil {
				return
			}
			body = clipped(body)
			start := time.Now()
			switch typ {
			case msgOpen:
				_, _ = decodeOpen(body)
			case msgNotification:
				_ = decodeNotification(body).Error()
			case msgRefresh:
				_ = decodeRefresh(body)
			case msgUpdate:
				for _, d := range decs {
					_ = d.decode(body, new(update))
				}
			}
			// 50 ms are allowed (B04), which a busy machine may take away; what
			// grows out of bounds takes longer than this.
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("took %v", d)
			}
		}
	})
}

// B05: an OPEN is refused, or understood as by an obvious twin.
func FuzzOpen(f *testing.F) {
	for _, s := range corpus(f, "open") {
		f.Add(s.data[headerLen:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, n := decodeOpen(clipped(b))
		if (m == nil) == (n == nil) {
			t.Fatalf("%v and %v", m, n)
		}
		caps, whole := twinCapabilities(b)
		if n != nil {
			if n.code != codeOpen {
				t.Fatalf("NOTIFICATION %d/%d", n.code, n.sub)
			}
			if whole && n.sub == 0 {
				t.Fatalf("well-formed, and refused: %v", n)
			}
			return
		}
		if !whole {
			t.Fatalf("accepted, and malformed: %+v", m)
		}
		want := openMessage{asn: uint32(binary.BigEndian.Uint16(b[1:])), hold: time.Duration(binary.BigEndian.Uint16(b[3:])) * time.Second,
			id: netip.AddrFrom4([4]byte(b[5:9]))}
		multiprotocol := false
		for _, c := range caps {
			v := c.value
			switch {
			case c.code == 1 && len(v) == 4:
				multiprotocol = true
				if f, ok := familyFrom(binary.BigEndian.Uint16(v), v[3]); ok {
					want.families[f] = true
				}
			case c.code == 2:
				want.refresh = true
			case c.code == 70:
				want.enhanced = true
			case c.code == 65 && len(v) == 4:
				want.as4, want.asn = true, binary.BigEndian.Uint32(v)
			case c.code == 69 && len(v) > 0 && len(v)%4 == 0:
				for ; len(v) > 0; v = v[4:] {
					if f, ok := familyFrom(binary.BigEndian.Uint16(v), v[2]); ok && v[3] >= 1 && v[3] <= 3 {
						want.addPathReceive[f], want.addPathSend[f] = v[3]&1 != 0, v[3]&2 != 0
					}
				}
			}
		}
		if !multiprotocol {
			want.families[v4] = true
		}
		got := openMessage{asn: m.asn, hold: m.hold, id: m.id, families: m.families, as4: m.as4, refresh: m.refresh, enhanced: m.enhanced,
			addPathSend: m.addPathSend, addPathReceive: m.addPathReceive}
		if got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
		if m.asn == 0 || m.hold == time.Second || m.hold == 2*time.Second || m.id.IsUnspecified() {
			t.Fatalf("accepted: %+v", m)
		}
	})
}

type twinCapability struct {
	code  uint8
	value []byte
}

// twinCapabilities reads the parameters of an OPEN as RFC 5492 and RFC 9072 say;
// whole is false when something is cut off, or left over, or no capability.
func twinCapabilities(b []byte) (list []twinCapability, whole bool) {
	if len(b) < 10 {
		return nil, false
	}
	size, params := 1, b[10:]
	if b[9] == 255 && len(params) >= 3 && params[0] == 255 {
		size, params = 2, params[1:]
		if int(binary.BigEndian.Uint16(params)) != len(params)-2 {
			return nil, false
		}
		params = params[2:]
	} else if int(b[9]) != len(params) {
		return nil, false
	}
	// field cuts off what has a type, a length of so many octets and a value.
	field := func(b []byte, size int) (typ uint8, value, rest []byte, ok bool) {
		if len(b) < 1+size {
			return 0, nil, nil, false
		}
		l := int(b[1])
		if size == 2 {
			l = int(binary.BigEndian.Uint16(b[1:]))
		}
		if len(b) < 1+size+l {
			return 0, nil, nil, false
		}
		return b[0], b[1+size : 1+size+l], b[1+size+l:], true
	}
	for len(params) > 0 {
		typ, value, rest, ok := field(params, size)
		if !ok || typ != 2 {
			return nil, false
		}
		for params = rest; len(value) > 0; {
			var c twinCapability
			if c.code, c.value, value, ok = field(value, 1); !ok {
				return nil, false
			}
			list = append(list, c)
		}
	}
	return list, true
}

// B01, B02: any attributes beside an IPv4 route are answered as an obvious twin says that
// RFC 7606 does, and what is discarded leaves nothing behind.
func FuzzAttributes(f *testing.F) {
	for _, s := range corpus(f, "attributes") {
		for how := range uint8(8) {
			f.Add(how, s.data)
		}
	}
	f.Fuzz(func(t *testing.T, how uint8, raw []byte) {
		if len(raw) > maxMessage-100 {
			return
		}
		s := sender{ebgp: how&1 != 0, as4: how&2 == 0}
		d := s.decoder()
		d.keepUnknown = how&4 != 0
		var u, again update
		n := d.decode(clipped(upd(nil, raw, nlri("10.50.0.0/24"))[headerLen:]), &u)
		fate, keeps := twinAttributes(raw, d)
		switch {
		case (n != nil) != (fate == reset):
			t.Fatalf("notification %v, want %v", n, fate)
		case n == nil && u.treated != (fate == withdraw):
			t.Fatalf("treated as withdrawal: %v (%s), want %v", u.treated, u.problem, fate)
		case n != nil || u.treated:
			return
		}
		// What counted, alone, sorted, and twice, so that the memory of the last
		// message is asked, too.
		clean := upd(nil, keeps, nlri("10.50.0.0/24"))[headerLen:]
		for range 2 {
			again = update{}
			if n := d.decode(clean, &again); n != nil || again.treated || again.dropped > 0 || keyOf(&again) != keyOf(&u) {
				t.Fatalf("%x (%v, %s), want %x", keyOf(&again), n, again.problem, keyOf(&u))
			}
		}
	})
}

// twinAttributes says what becomes of an UPDATE with these attributes and an
// IPv4 route, and which of them count.
func twinAttributes(raw []byte, d *decoder) (fate remedy, keeps []byte) {
	var kept [256][]byte
	var seen [256]bool
	for len(raw) > 0 {
		flags, head := raw[0], 3
		if flags&flagExtended != 0 {
			head = 4
		}
		if len(raw) < head {
			fate = withdraw // the rest cannot be read (RFC 7606 section 4)
			break
		}
		typ, l := raw[1], int(raw[2])
		if head == 4 {
			l = int(raw[2])<<8 + int(raw[3])
		}
		if len(raw) < head+l {
			fate = withdraw
			break
		}
		one, val := raw[:head+l], raw[head:head+l]
		raw = raw[head+l:]
		r := ruleFor(typ)
		mp := typ == attrMPReach || typ == attrMPUnreach
		switch {
		case seen[typ]:
			if mp {
				return reset, nil
			}
			continue
		case r == nil && flags&flagOptional == 0:
			fate = withdraw
		case r == nil:
			if d.keepUnknown && flags&flagTransitive != 0 {
				kept[typ] = one
			}
		case r.from == inside && d.ebgp || r.from == twoOctet && d.as4:
		case mp && len(val) < map[uint8]int{attrMPReach: 5, attrMPUnreach: 3}[typ]:
			return reset, nil
		default:
			if flags&optionalTransitive != r.flags {
				fate = withdraw
			}
			kept[typ] = one
		}
		seen[typ] = true
	}
	value := func(one []byte) []byte {
		if one[0]&flagExtended != 0 {
			return one[4:]
		}
		return one[3:]
	}
	for _, typ := range []uint8{attrMPReach, attrMPUnreach} {
		if kept[typ] != nil && !twinRoutes(typ, value(kept[typ])) {
			return reset, nil
		}
	}
	if fate == withdraw {
		return fate, nil
	}
	for typ, one := range kept {
		r := ruleFor(uint8(typ))
		if r == nil || r.parse == nil {
			continue
		}
		if one != nil && r.read(value(one), d.as4, &attrs{}, &auxAttrs{}) != nil {
			if r.malformed == withdraw {
				return withdraw, nil
			}
			kept[typ] = nil
		}
		if kept[typ] == nil && (typ == attrOrigin || typ == attrASPath || typ == attrNextHop || typ == attrLocalPref && !d.ebgp) {
			return withdraw, nil
		}
	}
	return discard, cat(kept[:]...)
}

// twinRoutes reports whether the routes in a multiprotocol attribute can be
// located.
func twinRoutes(typ uint8, v []byte) bool {
	f, ours := familyFrom(binary.BigEndian.Uint16(v), v[2])
	if !ours {
		return true
	}
	v = v[3:]
	if typ == attrMPReach {
		l := int(v[0])
		if l != 4 && l != 16 && l != 32 || len(v) < 1+l+1 {
			return false
		}
		v = v[1+l+1:]
	}
	for len(v) > 0 {
		bits := int(v[0])
		if bits > f.bits() || len(v) < 1+(bits+7)/8 {
			return false
		}
		v = v[1+(bits+7)/8:]
	}
	return true
}

// B03, B04: what was accepted comes out of the table as it went in: decoded,
// stored, encoded and decoded again, from and to every kind of peer.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range corpus(f, "message") {
		for how := range uint8(32) {
			f.Add(how, s.data)
		}
	}
	f.Fuzz(func(t *testing.T, how uint8, b []byte) {
		br, buf := bufio.NewReader(bytes.NewReader(b)), make([]byte, maxMessage)
		r := &rib{sources: []*source{{used: true}, {used: true}}}
		several := familySet{how&4 != 0, how&4 != 0}
		from := &decoder{ebgp: how&1 != 0, as4: how&2 == 0, addPath: several, keepUnknown: how&8 != 0}
		to := &decoder{ebgp: from.ebgp, as4: how&16 == 0, addPath: several, keepUnknown: true}
		for {
			typ, body, err := readMessage(br, buf)
			if err != nil {
				break
			}
			var u update
			if typ != msgUpdate || from.decode(body, &u) != nil {
				continue
			}
			for _, p := range u.withdrawn {
				r.remove(p, 1)
			}
			for _, set := range []struct {
				ps []pathRef
				a  *attrs
			}{{u.reach, u.attrs}, {u.mpReach, u.mpAttrs}} {
				for _, p := range set.ps {
					a := r.attrs.intern(set.a)
					a.refs++
					r.set(p, 1, a, a, Accepted)
				}
			}
		}
		pack := packer{as4: to.as4, addPath: several}
		want := map[pathRef]string{}
		for prefix, head := range r.table.All() {
			for q := head; q != nil; q = q.next {
				if familyOf(q.out.nextHop) != familyOf(prefix.Addr()) || len(q.out.appendTo(nil, to.as4, true)) > maxSent {
					continue // judge refuses the one, exportRoute or the packer the other
				}
				ref := pathRef{prefix, q.id}
				want[ref] = q.out.key
				pack.add(ref, q.out)
			}
		}
		var stream []byte
		for _, c := range pack.finish() {
			stream = append(stream, c.b...)
		}
		got, withdrawn := decodeAll(t, stream, to)
		if len(got) != len(want) || len(withdrawn) > 0 {
			t.Fatalf("%d routes and %d withdrawn, want %d", len(got), len(withdrawn), len(want))
		}
		for ref, key := range want {
			if got[ref] != key {
				t.Fatalf("%v: %x, want %x", ref, got[ref], key)
			}
		}
	})
}
