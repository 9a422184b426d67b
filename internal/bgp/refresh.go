// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"io"
	"slices"
	"time"
)

// Route refresh (RFC 2918), and enhanced route refresh (RFC 7313), which marks
// where a table that is sent again begins (BoRR) and ends (EoRR).
//
// Sender. A peer that asks is sent its table again, between the markers if it
// knows them. Before End-of-RIB no beginning may be told (section 4). Then it is
// sent the table alone, at once: End-of-RIB may be a restart time away (gr.go),
// and removes at the peer whatever a refresh would.
//
// Receiver. From BoRR on every route of the family is due to be said again, and
// EoRR, or refreshTime, removes what was not. Meanwhile routes that are due are
// as good as any: the session is up, and nothing says that they are gone. In that they differ from
// those that are stale after a restart (RFC 4724).

// Subtypes of ROUTE-REFRESH, RFC 7313 section 3.2.
const (
	refreshRequest = 0
	refreshBegin   = 1 // BoRR
	refreshEnd     = 2 // EoRR
)

// refreshTime bounds the wait for EoRR.
const refreshTime = 5 * time.Minute

// refresh is a ROUTE-REFRESH.
type refresh struct {
	afi     uint16
	subtype uint8
	safi    uint8
}

// decodeRefresh reads the body of one, whose length checkHeader has checked.
func decodeRefresh(body []byte) refresh {
	return refresh{binary.BigEndian.Uint16(body), body[2], body[3]}
}

// wrongRefresh turns what checkHeader said of the header in buf into what a peer
// with the enhanced capability is told of a ROUTE-REFRESH of wrong length, which
// is read to its end for that. RFC 7313 section 5 says so of the markers; a request
// could be longer only by filters (RFC 5291), which are not offered.
func wrongRefresh(r io.Reader, buf []byte, n *notification) *notification {
	length := int(binary.BigEndian.Uint16(buf[16:]))
	if n.code != codeHeader || n.sub != subBadLength || buf[18] != msgRefresh || length < headerLen || length > maxMessage {
		return n
	}
	if _, err := io.ReadFull(r, buf[headerLen:length]); err != nil {
		return n
	}
	return &notification{code: codeRefresh, sub: subRefreshLength, data: slices.Clone(buf[:length]), reason: n.reason}
}

// refreshMessage is a ROUTE-REFRESH (RFC 2918 section 3, RFC 7313 section 3.2).
func refreshMessage(f family, subtype uint8) []byte {
	return appendHeader(nil, msgRefresh, []byte{0, byte(f) + 1, subtype, 1})
}

// refreshed handles one of an Established session. What is not negotiated, or
// of unknown subtype, is ignored: RFC 2918 section 4, RFC 7313 section 5.
func (s *Speaker) refreshed(c *conn, m refresh) {
	p := c.p
	f, ok := familyFrom(m.afi, m.safi)
	if !ok || !c.families[f] {
		return
	}
	if !c.open.enhanced {
		m.subtype = refreshRequest // that octet is reserved in RFC 2918
	}
	switch m.subtype {
	case refreshRequest:
		p.refresh[f] = true
		s.pump(p)
	case refreshBegin:
		if c.open.gr && !p.gotEOR[f] {
			p.complainOf("BGP peer begins a route refresh before End-of-RIB", "family", f.String())
			return // RFC 7313 section 4
		}
		s.beginRefresh(p, f)
	case refreshEnd:
		s.endRefresh(p, f)
		if p.over != (familySet{}) {
			s.refill(c)
		}
	default:
		p.complainOf("ROUTE-REFRESH of unknown subtype", "subtype", m.subtype)
	}
}

// beginRefresh makes all routes of a family due. A peer that begins once more
// says everything once more.
func (s *Speaker) beginRefresh(p *peer, f family) {
	s.rib.markDue(p.slot, f)
	p.refreshing[f] = true
	p.refreshBound[f].set(s, refreshTime, func() {
		p.complainOf("BGP peer does not end its route refresh", "family", f.String())
		s.endRefresh(p, f)
	})
}

// endRefresh removes what was not said again; without a beginning that is
// nothing.
func (s *Speaker) endRefresh(p *peer, f family) {
	p.refreshBound[f].stop()
	p.refreshing[f] = false
	src := s.rib.sources[p.slot]
	s.removeWhere(p, f, src.due[f], func(q *path) bool { return src.isDue(q, f) })
}

// answerRefresh puts a table that was asked for behind what is owed already.
func (s *Speaker) answerRefresh(p *peer) {
	asked := p.refresh
	p.refresh = familySet{}
	var first, last []chunk
	for f := range numFamilies {
		switch {
		case !asked[f] || p.oweEOR[f]:
		case p.est.open.enhanced:
			first = append(first, chunk{refreshMessage(f, refreshBegin), 1})
			last = append(last, chunk{refreshMessage(f, refreshEnd), 1})
		case p.est.open.gr:
			// Nothing is owed, but implementations of RFC 2918 take the marker as
			// "that was all", and it does no harm.
			last = append(last, chunk{endOfRIBMessage(f), 1})
		}
	}
	p.backlog = slices.Concat(p.backlog, first, p.group.table(asked), last)
}

// askAgain asks a peer to repeat all that it has sent. One that cannot
// (RFC 2918) has it changed with the next session.
func (p *peer) askAgain() {
	for f := range numFamilies {
		if c := p.est; c != nil && c.open.refresh && c.families[f] {
			c.send(chunk{refreshMessage(f, refreshRequest), 1})
		}
	}
}
