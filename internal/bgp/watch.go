// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"
)

// Watching the engine: sessions that come and go, routes that are received,
// accepted and selected. Who watches takes pages, at its own pace. The loop waits
// for nobody and keeps no routes for anybody: it writes down the names of what
// changed, a few octets each, and looks up what has become of them when a page
// is asked for. So what changed twice may be told once, an old state is never
// told after a newer one, and a watcher who reads nothing costs maxNotes octets
// and is then sent away.

// Watch says what a Monitor tells. The zero value tells of sessions only.
type Watch struct {
	// Table begins with everything as it is: the sessions, then the routes, then
	// TableComplete.
	Table bool
	// Received tells of Adj-RIB-In, before and after policy.
	Received bool
	// Selected tells of Loc-RIB.
	Selected bool
	// Encode gives routes as UPDATE messages instead of one by one.
	Encode bool
	// Within restricts routes to a prefix and what is inside; invalid means all.
	Within netip.Prefix
	// Peer restricts sessions and received routes to one neighbour; invalid means all.
	Peer netip.Addr
}

// What a Monitor ends with: it did not keep up, or, with Watch.Encode, this
// speaker has become another one.
var (
	ErrBehind  = errors.New("bgp: too much has changed since the last look")
	ErrChanged = errors.New("bgp: the AS number, router ID or families of this speaker have changed")
)

// EventKind is what an Event tells of.
type EventKind uint8

// The kinds of events.
const (
	SessionUp EventKind = iota
	SessionDown
	RouteChanged  // Route, as it is now
	RouteGone     // Route.Prefix is not there any more
	Updates       // Watch.Encode: Update is a message
	TableComplete // everything that was there at the beginning has been told
)

// Event is one thing that happened.
type Event struct {
	Kind EventKind
	Time time.Time // of sessions: when; of routes: when it was looked up
	// Session is whose; nil for Loc-RIB without Watch.Encode.
	Session *Session
	// Down is why the session ended: SessionDown.
	Down *Down
	// View is the table of a route: ViewReceived, ViewAccepted or ViewBest.
	View   RouteView
	Route  RouteInfo
	Update []byte
}

// Session is one life of a session: from Established to its end. With
// Watch.Encode the table of selected routes is a session, too, as RFC 9069
// section 4 has it: with ourselves, and with OPENs that nobody sent.
type Session struct {
	LocRIB        bool
	Name          string
	Addr          netip.AddrPort // as configured
	Local, Remote netip.AddrPort // of the connection
	ASN           uint32
	RouterID      netip.Addr
	EBGP          bool
	Up            time.Time
	// Sent and Received are the OPEN messages, header included.
	Sent, Received []byte

	families familySet
	addPath  familySet // the peer sends several paths per prefix
}

// Down is why a session ended. A NOTIFICATION is a whole message; without one
// the connection broke, or was closed by the process.
type Down struct {
	Sent, Received []byte
	Error          string
}

// EndOfRIB are the End-of-RIB markers of the session's families (RFC 4724 section 2).
func (s *Session) EndOfRIB() (list [][]byte) {
	for f := range numFamilies {
		if s.families[f] {
			list = append(list, endOfRIBMessage(f))
		}
	}
	return list
}

// Next waits until there is something to tell. It returns ctx's error,
// net.ErrClosed when Run has ended, and ErrBehind when more was to be
// remembered than may be; after an error there is nothing more.
func (m *Monitor) Next(ctx context.Context) ([]Event, error) {
	ch := make(chan monitorPage, 1)
	m.s.post(func() { m.asking = ch })
	select {
	case page := <-ch:
		if page.err != nil {
			return nil, page.err
		}
		return m.events(page.entries), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.s.done:
		return nil, net.ErrClosed
	}
}

// events turns a page into events; with Encode, runs of routes become messages.
func (m *Monitor) events(page []noted) (list []Event) {
	packs := map[packKey]*packer{}
	var order []packKey
	flush := func() {
		for _, k := range order {
			for _, c := range packs[k].finish() {
				for b := c.b; len(b) > 0; {
					l := int(binary.BigEndian.Uint16(b[16:]))
					list = append(list, Event{Kind: Updates, Time: time.Now(), Session: k.session, View: k.view, Update: b[:l:l]})
					b = b[l:]
				}
			}
		}
		clear(packs)
		order = order[:0]
	}
	for _, n := range page {
		if !m.w.Encode || n.Kind != RouteChanged && n.Kind != RouteGone {
			flush()
			list = append(list, n.Event)
			continue
		}
		k := packKey{n.Session, n.View}
		pack := packs[k]
		if pack == nil {
			pack = &packer{as4: true}
			if n.Session != nil {
				pack.addPath = n.Session.addPath
			}
			packs[k], order = pack, append(order, k)
		}
		pack.add(n.ref, n.a)
	}
	flush()
	return list
}

// packKey is what routes of one message have in common.
type packKey struct {
	session *Session
	view    RouteView
}
