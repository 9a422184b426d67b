// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"net/netip"
	"time"
)

const (
	// every is how often we advertise ourselves, as FRR does on such interfaces. A
	// link that came up, or that has a new neighbour, gets firstOnes of them a firstGap apart.
	every     = 10 * time.Second
	firstOnes = 4
	firstGap  = time.Second

	// settle is how long a link that came up is not advertised on. FRR 8.4 handles such a
	// link twice, in two connections of its bgpd with zebra, and forgets a neighbour
	// that it learned between the two; zebra does not tell it again. Whoever is there
	// already is asked at once, and RFC 4861 section 6.2.4 asks for no haste.
	settle = time.Second

	// answerGap is the least time between an advertisement and one that answers a
	// solicitation.
	answerGap = time.Second

	// doubtFor is how long a router has to answer a solicitation when another one
	// was heard: RFC 4861 section 6.2.6 leaves it three seconds between advertisements
	// and half a second for chance.
	doubtFor = 4 * time.Second

	// rivalFor is how long a second router counts as being there.
	rivalFor = 90 * time.Second
)

// Link is an interface on which a neighbour is looked for, as it is now.
type Link struct {
	Name  string
	Index int
	Addr  netip.Addr // our link-local address, without its zone
	MAC   [6]byte
	Down  string // why it cannot be used; empty if it can
}

// Found is what is known of a link.
type Found struct {
	Link
	Neighbour netip.Addr // with the link as its zone; invalid if there is none yet
	// Second is another router that was heard: who is meant is not clear, and the
	// first one stays.
	Second netip.Addr
}

// link is the state of a usable link. It is pure: the time comes in.
type link struct {
	Link
	neighbour netip.Addr // without zone

	rival      netip.Addr
	rivalHeard time.Time
	latest     netip.Addr // of all rivals: who becomes the neighbour if it does not answer
	doubt      time.Time  // when the neighbour must have answered; zero: there is none

	settled time.Time // when the first advertisement may be sent
	sent    int       // advertisements, since the link or its neighbour is new
	last    time.Time
	next    time.Time
}

// newLink begins on a link that has come up.
func newLink(l Link, now time.Time) *link {
	return &link{Link: l, settled: now.Add(settle), next: now}
}

// advertised takes in an advertisement of a router.
func (l *link) advertised(from netip.Addr, now time.Time) {
	switch {
	case from == l.Addr: // somebody else on the link believes to be us
	case !l.neighbour.IsValid():
		l.become(from, now)
	case from == l.neighbour:
		l.doubt = time.Time{}
	default:
		if l.doubt.IsZero() {
			l.doubt, l.next = now.Add(doubtFor), now
		}
		l.latest = from
		// Of many the first is named for as long as it is heard: who floods the
		// link with new ones is not told of each.
		if from == l.rival || !l.rivalThere(now) {
			l.rival, l.rivalHeard = from, now
		}
	}
}

// become takes a router as the neighbour, which is to hear of us soon.
func (l *link) become(a netip.Addr, now time.Time) {
	l.neighbour = a
	l.rival, l.rivalHeard, l.doubt = netip.Addr{}, time.Time{}, time.Time{}
	l.sent, l.next = 0, later(now, l.settled)
}

// solicited is a question who is there. It is answered, but not as often as
// anybody likes.
func (l *link) solicited(now time.Time) {
	at := later(now, l.last.Add(answerGap))
	l.next = earlier(l.next, later(at, l.settled))
}

// due is what to send at a time, if anything.
func (l *link) due(now time.Time) (advertise, solicit bool) {
	if !l.doubt.IsZero() && !now.Before(l.doubt) {
		l.become(l.latest, now)
	}
	if now.Before(l.next) {
		return false, false
	}
	solicit = !l.neighbour.IsValid() || !l.doubt.IsZero()
	if now.Before(l.settled) {
		l.next = l.settled
		return false, solicit
	}
	l.sent++
	gap := every
	if l.sent < firstOnes || !l.doubt.IsZero() {
		gap = firstGap // one message that is lost must not cost a neighbour
	}
	l.last, l.next = now, now.Add(gap)
	return true, solicit
}

// wake is when due has something to do next.
func (l *link) wake() time.Time { return earlier(l.next, l.doubt) }

// rivalThere tells whether there is a second router.
func (l *link) rivalThere(now time.Time) bool {
	return l.rival.IsValid() && now.Sub(l.rivalHeard) < rivalFor
}

func (l *link) found(now time.Time) Found {
	f := Found{Link: l.Link}
	if l.neighbour.IsValid() {
		f.Neighbour = l.neighbour.WithZone(l.Name)
	}
	if l.rivalThere(now) {
		f.Second = l.rival.WithZone(l.Name)
	}
	return f
}

// earlier is the earlier of two times, of which the zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
