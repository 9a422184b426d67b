// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

// rawPeer is the far end of a session made by hand, to say what no speaker
// would.
type rawPeer struct {
	t    *testing.T
	addr netip.Addr
	nc   net.Conn
	br   *bufio.Reader
}

// rawTarget starts a speaker with AS 64512 that waits for a raw peer of the
// given AS.
func rawTarget(t *testing.T, asn uint32, opt Options) (*node, *rawPeer) {
	t.Helper()
	us, them := freeAddr(t), freeAddr(t)
	cfg := nodeConfig(64512, us, peerTo(them, asn))
	cfg.Peers[0].Passive = true
	n := startNode(t, cfg, opt)
	n.OriginationsComplete()
	return n, &rawPeer{t: t, addr: them}
}

// connect opens TCP to n; the speaker may not be listening yet.
func (r *rawPeer) connect(n *node) {
	r.t.Helper()
	eventually(r.t, "connection", func() bool {
		nc, err := defaultDial(context.Background(), r.addr, addrPort(n.cfg.RouterID))
		if err != nil {
			return false
		}
		r.nc, r.br = nc, bufio.NewReader(nc)
		return true
	})
	nc := r.nc
	r.t.Cleanup(func() { _ = nc.Close() })
}

func (r *rawPeer) write(b []byte) {
	r.t.Helper()
	_ = r.nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = r.nc.Write(b)
}

// read returns the next message that is not a KEEPALIVE; type 0 means that the
// connection ended.
func (r *rawPeer) read() (typ uint8, body []byte) {
	_ = r.nc.SetReadDeadline(time.Now().Add(8 * time.Second))
	for {
		typ, body, err := readMessage(r.br, make([]byte, maxMessage))
		if err != nil {
			r.t.Logf("%s reads: %v", r.addr, err)
			return 0, nil
		}
		if typ != msgKeepalive {
			return typ, body
		}
	}
}

// readNote reads until a NOTIFICATION or the end, and returns code and
// subcode.
func (r *rawPeer) readNote() (code, sub uint8) {
	for {
		switch typ, body := r.read(); typ {
		case 0:
			return 0, 0
		case msgNotification:
			return body[0], body[1]
		}
	}
}

func rawOpen(asn uint32, id netip.Addr) []byte {
	b, err := openParams{asn: asn, id: id, hold: 9 * time.Second, families: familySet{true, true}}.marshal()
	if err != nil {
		panic(err)
	}
	return b
}

// establish brings the session up.
func (r *rawPeer) establish(n *node, asn uint32) {
	r.t.Helper()
	r.connect(n)
	r.write(rawOpen(asn, r.addr))
	if typ, _ := r.read(); typ != msgOpen {
		r.t.Fatalf("message type %d instead of OPEN", typ)
	}
	r.write(keepaliveMessage())
	n.waitUp(r.addr)
}

// at is an attribute with explicit flags, type and value.
func at(flags, typ uint8, val ...byte) []byte { return appendAttr(nil, flags, typ, val) }

// upd is an UPDATE from its three fields.
func upd(withdrawn, attrs, nlri []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(withdrawn)))
	b = append(b, withdrawn...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(attrs)))
	b = append(append(b, attrs...), nlri...)
	return appendHeader(nil, msgUpdate, b)
}

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// goodAttrs are well-formed attributes for a session, one slice each, next hop
// 10.0.0.9.
func goodAttrs(ebgp bool) [][]byte {
	if ebgp {
		return [][]byte{
			at(0x40, attrOrigin, 0),
			at(0x40, attrASPath, append([]byte{segSequence, 1}, be32(65001)...)...),
			at(0x40, attrNextHop, 10, 0, 0, 9),
		}
	}
	return [][]byte{
		at(0x40, attrOrigin, 0),
		at(0x40, attrASPath),
		at(0x40, attrNextHop, 10, 0, 0, 9),
		at(0x40, attrLocalPref, 0, 0, 0, 100),
	}
}

func nlri(ps ...string) []byte {
	var b []byte
	for _, p := range ps {
		b = appendPrefix(b, netip.MustParsePrefix(p))
	}
	return b
}

// mpReach is MP_REACH_NLRI for IPv6.
func mpReach(nh string, ps ...string) []byte {
	a := netip.MustParseAddr(nh).As16()
	return at(0x80, attrMPReach, cat([]byte{0, 2, 1, 16}, a[:], []byte{0}, nlri(ps...))...)
}
