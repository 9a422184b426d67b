// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// desk is a speaker without a loop, sockets or a clock: what its peers say is
// put into it and what they would be sent is read out, step by step. Messages
// are encoded and decoded on the way, as on a wire.
type desk struct {
	t     testing.TB
	s     *Speaker
	cfg   Config
	peers []*deskPeer
	fib   map[netip.Prefix]string
}

// deskPeer is one neighbour, and what it has been told so far.
type deskPeer struct {
	name string
	cfg  PeerConfig
	open openMessage // that it sends
	c    *conn
	dec  decoder // of what it sends
	told map[pathRef]*attrs
	due  map[pathRef]bool // of told, what was not told again since BoRR
}

// noConn is a connection that nothing is written to.
type noConn struct{ net.Conn }

func (noConn) Close() error                     { return nil }
func (noConn) SetWriteDeadline(time.Time) error { return nil }
func (noConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (noConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

func newDesk(t testing.TB, cfg Config, more ...func(*Options)) *desk {
	opt := Options{Dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
		return nil, errors.New("nothing is dialled at a desk")
	}}
	for _, set := range more {
		set(&opt)
	}
	s := New(opt)
	s.ctx = context.Background()
	d := &desk{t: t, s: s, fib: map[netip.Prefix]string{}}
	d.configure(cfg)
	s.originated = true
	return d
}

func (d *desk) configure(cfg Config) {
	if err := cfg.Validate(); err != nil {
		d.t.Fatal(err)
	}
	d.cfg = cfg
	d.cfg.Peers = nil
	for _, p := range d.peers {
		d.cfg.Peers = append(d.cfg.Peers, p.cfg)
	}
	d.s.apply(d.cfg)
}

// add configures a neighbour; it is not up yet.
func (d *desk) add(name string, pc PeerConfig, id netip.Addr) *deskPeer {
	pc.Name, pc.Passive = name, true
	if err := pc.Validate(); err != nil {
		d.t.Fatal(err)
	}
	p := &deskPeer{name: name, cfg: pc, open: openMessage{
		asn: pc.ASN, id: id, hold: 9 * time.Second, families: familySet{true, true}, as4: true, refresh: true,
		addPathSend: familySet{true, true}, addPathReceive: familySet{true, true},
	}}
	d.peers = append(d.peers, p)
	d.configure(d.cfg)
	return p
}

// change applies a new configuration of a neighbour.
func (d *desk) change(p *deskPeer, fn func(*PeerConfig)) {
	fn(&p.cfg)
	d.configure(d.cfg)
}

func (d *desk) peer(name string) *deskPeer {
	for _, p := range d.peers {
		if p.name == name {
			return p
		}
	}
	d.t.Fatalf("no peer %q", name)
	return nil
}

// up establishes the session.
func (d *desk) up(p *deskPeer) {
	q := d.s.peers[p.cfg.Addr]
	open := p.open
	p.c = &conn{
		p: q, dialled: true, state: Established, nc: noConn{}, s: d.s, ebgp: q.ebgp, open: &open,
		wake: make(chan struct{}, 1), readDone: make(chan struct{}), takePaths: p.cfg.AddPathReceive, restartTime: q.restartTime(),
	}
	p.c.keepAll.Store(p.cfg.PassUnknown)
	q.conns = append(q.conns, p.c)
	d.s.negotiate(p.c)
	p.c.queue, p.c.queued = nil, 0
	p.told, p.due = map[pathRef]*attrs{}, map[pathRef]bool{}
	p.dec = decoder{as4: open.as4, ebgp: q.ebgp}
	if p.c.takePaths {
		p.dec.addPath = open.addPathSend
	}
	d.s.up(p.c)
	d.settle()
}

// down breaks the connection.
func (d *desk) down(p *deskPeer) {
	d.s.fire(p.c, evTCPFail, nil, io.EOF)
	p.c, p.told = nil, nil
	d.settle()
}

// says has a peer send paths, or withdraw them when a is nil.
func (d *desk) says(p *deskPeer, a *attrs, refs ...pathRef) {
	pack := packer{as4: p.dec.as4, addPath: p.dec.addPath}
	for _, ref := range refs {
		pack.add(ref, a)
	}
	for _, ch := range pack.finish() {
		for rest := ch.b; len(rest) > 0; {
			l := int(rest[16])<<8 + int(rest[17])
			d.sends(p, rest[:l])
			rest = rest[l:]
		}
	}
}

// sends has a peer send one message, as its reader would hand it on.
func (d *desk) sends(p *deskPeer, b []byte) {
	m := message{typ: b[headerLen-1]}
	switch m.typ {
	case msgUpdate:
		m.update = &update{}
		p.dec.keepUnknown = p.c.keepAll.Load()
		m.note = p.dec.decode(b[headerLen:], m.update)
	case msgNotification:
		m.note = decodeNotification(b[headerLen:])
	case msgRefresh:
		m.refresh = decodeRefresh(b[headerLen:])
	default:
		d.t.Fatalf("message type %d", m.typ)
	}
	d.s.receive(p.c, m)
	d.settle()
}

func (d *desk) originate(o Origination) {
	d.s.Originate([]Origination{o}, nil)
	d.settle()
}

// settle runs what was posted and brings the groups up to date.
func (d *desk) settle() {
	for {
		calls := d.s.calls
		d.s.calls = nil
		for _, fn := range calls {
			fn()
		}
		d.s.flush()
		if len(d.s.calls) == 0 {
			return
		}
	}
}

// heard reads what a peer was sent since the last call into told, and returns
// it as lines.
func (d *desk) heard(p *deskPeer) (lines []string) {
	if p.c == nil {
		return nil
	}
	for {
		var stream []byte
		for _, ch := range p.c.queue {
			stream = append(stream, ch.b...)
		}
		p.c.queue, p.c.queued = nil, 0
		if len(stream) == 0 {
			break
		}
		lines = append(lines, d.read(p, stream)...)
		d.s.pump(p.c.p)
	}
	slices.Sort(lines)
	return lines
}

func (d *desk) read(p *deskPeer, stream []byte) (lines []string) {
	dec := decoder{as4: p.c.open.as4, ebgp: p.c.ebgp, addPath: p.c.sendPaths, keepUnknown: true}
	br, buf := bufio.NewReader(bytes.NewReader(stream)), make([]byte, maxMessage)
	for {
		typ, body, err := readMessage(br, buf)
		if err != nil {
			if err != io.EOF {
				d.t.Fatal(err)
			}
			return lines
		}
		switch typ {
		case msgKeepalive:
			continue
		case msgRefresh:
			lines = append(lines, p.refreshed(decodeRefresh(body)))
			continue
		}
		var u update
		if n := dec.decode(body, &u); n != nil || u.problem != "" || u.dropped > 0 {
			d.t.Fatalf("to %s: our own UPDATE is refused: %v %q %d", p.name, n, u.problem, u.dropped)
		}
		for _, ref := range u.withdrawn {
			p.hears(ref, nil)
			lines = append(lines, d.refText(p, ref)+" withdrawn")
		}
		for _, ref := range u.reach {
			p.hears(ref, u.attrs)
			lines = append(lines, d.refText(p, ref)+" "+u.attrs.text())
		}
		for _, ref := range u.mpReach {
			p.hears(ref, u.mpAttrs)
			lines = append(lines, d.refText(p, ref)+" "+u.mpAttrs.text())
		}
		for f := range numFamilies {
			if u.endOfRIB[f] {
				lines = append(lines, "End-of-RIB "+f.String())
			}
		}
	}
}

func (p *deskPeer) hears(ref pathRef, a *attrs) {
	delete(p.due, ref)
	if a == nil {
		delete(p.told, ref)
	} else {
		p.told[ref] = a
	}
}

// refreshed does as RFC 7313 section 4 says of a receiver.
func (p *deskPeer) refreshed(m refresh) string {
	f, _ := familyFrom(m.afi, m.safi)
	switch m.subtype {
	case refreshBegin:
		for ref := range p.told {
			if familyOf(ref.prefix.Addr()) == f {
				p.due[ref] = true
			}
		}
	case refreshEnd:
		for ref := range p.due {
			if familyOf(ref.prefix.Addr()) == f {
				p.hears(ref, nil)
			}
		}
	}
	return [...]string{"ROUTE-REFRESH ", "BoRR ", "EoRR "}[m.subtype] + f.String()
}

func (d *desk) refText(p *deskPeer, ref pathRef) string {
	if p.c.sendPaths[familyOf(ref.prefix.Addr())] {
		return fmt.Sprintf("%s path %d", ref.prefix, ref.id)
	}
	return ref.prefix.String()
}

// text is a set of attributes for people.
func (a *attrs) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "next-hop %s", a.nextHop)
	if len(a.path) > 0 {
		b.WriteString(" path")
		for _, s := range a.path {
			if s.typ == segSet {
				fmt.Fprintf(&b, " %v", s.as)
				continue
			}
			for _, as := range s.as {
				fmt.Fprintf(&b, " %d", as)
			}
		}
	}
	if a.origin != 0 {
		fmt.Fprintf(&b, " origin %d", a.origin)
	}
	if a.hasLocalPref {
		fmt.Fprintf(&b, " local-pref %d", a.localPref)
	}
	if a.hasMED {
		fmt.Fprintf(&b, " med %d", a.med)
	}
	for _, c := range a.comms {
		fmt.Fprintf(&b, " community %d:%d", c>>16, c&0xffff)
	}
	for _, l := range a.large {
		fmt.Fprintf(&b, " large %d:%d:%d", l[0], l[1], l[2])
	}
	if a.hasOriginator {
		fmt.Fprintf(&b, " originator %s", ip32(a.originator))
	}
	if a.hasOTC {
		fmt.Fprintf(&b, " only-to-customer %d", a.otc)
	}
	for _, u := range a.unknown {
		fmt.Fprintf(&b, " attribute %d %x", u.typ, u.value)
	}
	if len(a.clusters) > 0 {
		b.WriteString(" clusters")
		for _, c := range a.clusters {
			fmt.Fprintf(&b, " %s", ip32(c))
		}
	}
	return b.String()
}

func ip32(v uint32) netip.Addr { return netip.AddrFrom4([4]byte(be32(v))) }

// learned returns what changed of the routes that the daemon is told.
func (d *desk) learned() (lines []string) {
	for d.s.pending.len() > 0 {
		prefix, _ := d.s.pending.take()
		head, _ := d.s.rib.table.Get(prefix)
		b, _ := outcome(prefix, head, nil)
		now := ""
		for _, h := range b.NextHops {
			now += " via " + h.String()
		}
		if now == d.fib[prefix] {
			continue
		}
		d.fib[prefix] = now
		lines = append(lines, prefix.String()+cmp.Or(now, " gone"))
	}
	slices.Sort(lines)
	return lines
}

// paths lists the table's paths to a prefix.
func (d *desk) paths(prefix netip.Prefix) (lines []string) {
	names := map[uint16]string{0: "(here)"}
	for _, p := range d.peers {
		names[d.s.peers[p.cfg.Addr].slot] = p.name
	}
	head, _ := d.s.rib.table.Get(prefix)
	for q := head; q != nil; q = q.next {
		line := names[q.peer]
		if q.id != 0 {
			line += fmt.Sprintf(" path %d", q.id)
		}
		switch {
		case q.flags&pathBest != 0:
			line += " best"
		case q.flags&pathMulti != 0:
			line += " equal"
		}
		if q.flags&pathStale != 0 {
			line += " stale"
		}
		if q.out == nil {
			for _, p := range d.s.peers {
				if p.slot == q.peer {
					_, why := d.s.whyRefused(p, prefix, q)
					line += " rejected: " + why
				}
			}
		} else {
			line += " " + q.out.text()
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}
