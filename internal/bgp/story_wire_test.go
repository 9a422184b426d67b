// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What stories say of the wire and of time:
//
//	NAME garbles PREFIX [without=TYPE] [with=FLAGS:TYPE:HEX,...]   an announcement, without or with attributes; FLAGS and HEX
//	    are hexadecimal, and an attribute that is there is replaced by the first of its type
//	NAME ends FAMILY...         End-of-RIB
//	NAME asks-for FAMILY        ROUTE-REFRESH
//	NAME begins FAMILY, NAME repeated FAMILY    BoRR, EoRR
//	NAME forgets-to-repeat FAMILY   the time for EoRR is over
//	NAME says-refresh FAMILY SUBTYPE
//	ask NAME, tell NAME         a soft reset, in and out
//	NAME notifies CODE SUBCODE [TEXT]
//	NAME falls-silent           the hold timer expires
//	NAME stops-reading          the send-hold timer expires
//	NAME is-gone-too-long       the restart time expires
//	all-originated              the daemon has said all it originates
//	next-hop ADDR cost=N|unreached
//	state NAME

var familyNamed = map[string]family{"ipv4": v4, "ipv6": v6}

// open applies what a peer says in its next OPEN.
func (o options) open(m *openMessage) {
	if _, ok := o["two-octet"]; ok {
		m.as4 = false
	}
	if n, ok := o.num("restart-time"); ok {
		m.gr, m.grTime, m.grFamilies = n > 0, time.Duration(n)*time.Second, familySet{true, true}
	}
	_, m.grRestarting = o["restarts"]
	if _, ok := o["enhanced-refresh"]; ok {
		m.enhanced = true
	}
	if v, ok := o["kept"]; ok {
		m.grForward = familySet{strings.Contains(v, "ipv4"), strings.Contains(v, "ipv6")}
	}
}

// wire carries out a command of this file; it reports false for any other.
func (d *desk) wire(w []string, o options) bool {
	switch w[0] {
	case "all-originated":
		d.s.originated = true
		d.s.releaseEOR()
		d.settle()
		return true
	case "next-hop":
		cost, usable := o.num("cost")
		d.s.setNextHops([]NextHop{{Addr: netip.MustParseAddr(w[1]), Usable: usable, Cost: cost, Why: "no route to it"}})
		d.settle()
		return true
	case "ask", "tell":
		how := map[string]Reset{"ask": ResetIn, "tell": ResetOut}[w[0]]
		d.s.reset(d.peer(w[1]).cfg.Addr.Addr(), how, "")
		d.settle()
		return true
	case "state":
		q := d.s.peers[d.peer(w[1]).cfg.Addr]
		line := w[1] + ": " + q.state.String()
		if q.lastErr != "" {
			line += ", " + q.lastErr
		}
		if e := q.errors; e != (Errors{}) {
			line += fmt.Sprintf("; %d treated as withdrawal, %d attributes discarded", e.Withdrawn, e.Discarded)
		}
		shown[d] = append(shown[d], line)
		return true
	}
	i := slices.IndexFunc(d.peers, func(p *deskPeer) bool { return p.name == w[0] })
	if i < 0 || len(w) < 2 {
		return false
	}
	p := d.peers[i]
	switch w[1] {
	case "garbles":
		d.sends(p, announce(w[2], o.garbled(sender{ebgp: p.c.ebgp, as4: p.dec.as4}.well(w[2]), p)))
	case "ends":
		for _, f := range w[2:] {
			d.sends(p, endOfRIBMessage(familyNamed[f]))
		}
	case "asks-for", "begins", "repeated", "says-refresh":
		subtype := map[string]uint64{"begins": refreshBegin, "repeated": refreshEnd}[w[1]]
		if len(w) > 3 {
			subtype, _ = strconv.ParseUint(w[3], 10, 8)
		}
		d.sends(p, refreshMessage(familyNamed[w[2]], uint8(subtype)))
	case "forgets-to-repeat":
		f := familyNamed[w[2]]
		q := d.s.peers[p.cfg.Addr]
		if !q.refreshBound[f].armed() {
			d.t.Fatalf("no time runs for %s", p.name)
		}
		d.s.endRefresh(q, f)
	case "notifies":
		code, _ := strconv.ParseUint(w[2], 10, 8)
		sub, _ := strconv.ParseUint(w[3], 10, 8)
		d.sends(p, (&notification{code: uint8(code), sub: uint8(sub), data: shutdownData(strings.Join(w[4:], " "))}).marshal())
	case "falls-silent":
		d.s.fire(p.c, evHoldTimer, &notification{code: codeHold, reason: fmt.Sprintf("nothing received for %v", p.c.hold)}, nil)
	case "stops-reading":
		d.s.handle(input{c: p.c, err: os.ErrDeadlineExceeded})
	case "is-gone-too-long":
		q := d.s.peers[p.cfg.Addr]
		if !q.stale.armed() {
			d.t.Fatalf("no time runs for %s", p.name)
		}
		d.s.sweepAll(q)
	default:
		return false
	}
	d.settle()
	return true
}

// garbled is a list of attributes as the options have it.
func (o options) garbled(list [][]byte, p *deskPeer) [][]byte {
	// Well-formed means with the neighbour's own AS.
	if p.c.ebgp && p.dec.as4 {
		list[1] = at(flagTransitive, attrASPath, cat([]byte{segSequence, 1}, be32(p.cfg.ASN))...)
	}
	if v, ok := o["without"]; ok {
		list = slices.DeleteFunc(list, func(a []byte) bool { return strconv.Itoa(int(a[1])) == v })
	}
	if o["with"] == "" {
		return list
	}
	var added [256]bool
	for text := range strings.SplitSeq(o["with"], ",") {
		part := strings.Split(text, ":")
		flags, err1 := strconv.ParseUint(part[0], 16, 8)
		typ, err2 := strconv.ParseUint(part[1], 10, 8)
		val, err3 := hex.DecodeString(part[2])
		if err1 != nil || err2 != nil || err3 != nil {
			panic(text)
		}
		a := at(uint8(flags), uint8(typ), val...)
		i := slices.IndexFunc(list, func(b []byte) bool { return b[1] == uint8(typ) })
		if i >= 0 && !added[typ] {
			list[i] = a
		} else {
			list = append(list, a)
		}
		added[typ] = true
	}
	return list
}

// ended tells the NOTIFICATION with which a session ended, if it did.
func (d *desk) ended(p *deskPeer) (lines []string) {
	if p.c == nil || !p.c.dead {
		return nil
	}
	if p.c.final != nil {
		n := decodeNotification(p.c.final[headerLen:])
		lines = append(lines, fmt.Sprintf("%s hears NOTIFICATION %v", p.name, n))
	} else {
		lines = append(lines, p.name+" hears the connection end")
	}
	p.c, p.told = nil, nil
	return lines
}
