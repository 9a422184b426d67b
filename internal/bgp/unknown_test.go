// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// heard is what an UPDATE says of a prefix: its attributes as they are on the
// wire, each with its header.
func heard(t *testing.T, body []byte, prefix string) (list [][]byte, withdrawn bool) {
	t.Helper()
	var u update
	d := decoder{as4: true, ebgp: true, keepUnknown: true} // not one that misses LOCAL_PREF
	if n := d.decode(body, &u); n != nil || u.treated {
		t.Fatalf("malformed: %v %s", n, u.problem)
	}
	ref := pathRef{prefix: netip.MustParsePrefix(prefix)}
	if slices.Contains(u.withdrawn, ref) {
		return nil, true
	}
	if !slices.Contains(append(u.reach, u.mpReach...), ref) {
		return nil, false
	}
	return splitAttrs(body[4:][:binary.BigEndian.Uint16(body[2:])]), false
}

// splitAttrs cuts attributes apart.
func splitAttrs(b []byte) (list [][]byte) {
	for len(b) > 0 {
		l := 3 + int(b[2])
		if b[0]&flagExtended != 0 {
			l = 4 + int(binary.BigEndian.Uint16(b[2:]))
		}
		list = append(list, b[:l])
		b = b[l:]
	}
	return list
}

// unknowns are those of a list whose type has no rule.
func unknowns(list [][]byte) []byte {
	return cat(slices.DeleteFunc(list, func(a []byte) bool { return ruleFor(a[1]) != nil })...)
}

// await reads UPDATEs until one says something of the prefix.
func (r *rawPeer) await(prefix string) (list [][]byte, withdrawn bool) {
	r.t.Helper()
	said := r.awaitAll(prefix)[prefix]
	return said, said == nil
}

// awaitAll reads UPDATEs until something is said of each of the prefixes, in
// whatever order; the attributes of one that is withdrawn are nil.
func (r *rawPeer) awaitAll(prefixes ...string) map[string][][]byte {
	r.t.Helper()
	said := map[string][][]byte{}
	for len(said) < len(prefixes) {
		typ, body := r.read()
		if typ == 0 {
			r.t.Fatalf("something is said of %d of %v", len(said), prefixes)
		}
		if typ != msgUpdate {
			continue
		}
		for _, p := range prefixes {
			if list, withdrawn := heard(r.t, body, p); list != nil || withdrawn {
				said[p] = list
			}
		}
	}
	return said
}

// twoRaw starts a speaker between a raw eBGP peer and a raw iBGP peer.
func twoRaw(t *testing.T) (n *node, out, in *rawPeer) {
	t.Helper()
	us, a, b := freeAddr(t), freeAddr(t), freeAddr(t)
	cfg := nodeConfig(64512, us, peerTo(a, 65001), peerTo(b, 64512))
	cfg.Peers[0].Passive, cfg.Peers[1].Passive = true, true
	n = startNode(t, cfg, Options{})
	n.OriginationsComplete()
	out, in = &rawPeer{t: t, addr: a}, &rawPeer{t: t, addr: b}
	out.establish(n, 65001)
	in.establish(n, 64512)
	return n, out, in
}

// B02, RFC 4271 sections 5 and 9: attributes of unknown type stay behind unless
// asked for; then the transitive ones go on, once, with the Partial bit, and
// whatever was in them.
func TestB02_RFC4271_9_UnknownAttributes(t *testing.T) {
	t.Parallel()
	n, out, in := twoRaw(t)
	ebgp := sender{ebgp: true, as4: true}
	long := bytes.Repeat([]byte{7}, 700)
	announceBoth := func() {
		for _, p := range []string{"10.50.0.0/24", "fd50::/64"} {
			list := append(ebgp.well(p),
				at(0xc0, 200, 1, 2, 3),
				at(0xc0, 99, 0xff),
				at(0x80, 98, 1), // not transitive
				at(0xe0, 40),    // Partial already
				at(0xc0, 99, 1), // a second one
				at(0xc0, 254, long...))
			out.write(announce(p, list))
		}
	}
	says := func(want []byte) {
		t.Helper()
		for p, list := range in.awaitAll("10.50.0.0/24", "fd50::/64") {
			if got := unknowns(list); list == nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %d attributes, unknown ones\n%x, want\n%x", p, len(list), got, want)
			}
		}
	}
	announceBoth()
	says(nil)
	if e := n.peer(out.addr).Errors; e != (Errors{Discarded: 12}) {
		t.Errorf("counted: %+v", e)
	}

	ask := func(on bool) {
		t.Helper()
		cfg := n.cfg
		cfg.Peers = slices.Clone(cfg.Peers)
		cfg.Peers[0].PassUnknown = on
		if err := n.SetConfig(cfg); err != nil {
			t.Fatal(err)
		}
		for range 2 { // both families are asked for again (RFC 2918)
			for typ := uint8(0); typ != msgRefresh; {
				if typ, _ = out.read(); typ == 0 {
					t.Fatal("the session ended")
				}
			}
		}
		announceBoth()
	}
	ask(true)
	says(cat(at(0xe0, 40), at(0xe0, 99, 0xff), at(0xe0, 200, 1, 2, 3), at(0xe0, 254, long...)))
	ask(false)
	says(nil)
	if p := n.peer(out.addr); p.Established != 1 {
		t.Errorf("needless reset: %+v", p)
	}
}

// RFC 4271 section 9.2: what with our additions no longer fits into a message is
// not announced, and neither does what was announced before stay.
func TestRFC4271_9_2_TooLong(t *testing.T) {
	t.Parallel()
	n, out, in := twoRaw(t)
	ebgp := sender{ebgp: true, as4: true}
	for _, p := range []string{"10.50.0.0/24", "fd50::/64"} {
		out.write(announce(p, ebgp.well(p)))
		if list, gone := in.await(p); gone || list == nil {
			t.Fatalf("%s is not announced", p)
		}
		list := ebgp.well(p)
		room := maxMessage - len(announce(p, append(list, at(0xc0, attrCommunities, make([]byte, 256)...)))) + 256
		list = append(list, at(0xc0, attrCommunities, bytes.Repeat([]byte{1}, room/4*4)...))
		msg := announce(p, list)
		if len(msg) < maxMessage-3 || len(msg) > maxMessage {
			t.Fatalf("message of %d octets", len(msg))
		}
		out.write(msg)
		if _, gone := in.await(p); !gone {
			t.Errorf("%s: not withdrawn", p)
		}
		if got := n.hops(p); got == "" {
			t.Errorf("%s is not used", p)
		}
		why := n.Why(netip.MustParsePrefix(p))
		said := len(why) > 0 && slices.ContainsFunc(why[0].Peers, func(w WhyPeer) bool {
			return w.Addr.Addr() == in.addr && !w.Told && w.NotTold == "its attributes do not fit into a message (RFC 4271 section 9.2)"
		})
		if !said {
			t.Errorf("%s: %+v", p, why)
		}
	}
}

// A peer that sends nothing but malformed UPDATEs is counted and does not fill the log.
func TestB01_ErrorsAreCounted(t *testing.T) {
	t.Parallel()
	n, r := rawTarget(t, 64512, Options{})
	r.establish(n, 64512)
	for range 1000 {
		r.write(upd(nil, cat(at(0x40, attrOrigin, 9), at(0x40, attrASPath)), nlri("10.50.0.0/24")))
	}
	r.write(upd(nil, cat(goodAttrs(false)...), nlri("10.60.0.0/24")))
	n.waitHops("10.60.0.0/24", "10.0.0.9")
	e := n.peer(r.addr).Errors
	if e.Withdrawn != 1000 || e.Last == nil || e.Last.Text != "ORIGIN: illegal value" || time.Since(e.Last.Time) > time.Minute {
		t.Errorf("%+v", e)
	}
	var silent uint64
	n.ask(func() { silent = n.Speaker.peers[n.cfg.Peers[0].Addr].complain.silent })
	if silent < 900 {
		t.Errorf("%d of 1000 were not logged", silent)
	}
}
