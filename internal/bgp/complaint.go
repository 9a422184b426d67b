// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"errors"
	"time"
)

// Errors counts what a peer sent that was malformed and did not end its
// session, since the start (RFC 7606).
type Errors struct {
	Withdrawn uint64   `json:"updatesTreatedAsWithdrawal"`
	Discarded uint64   `json:"attributesDiscarded"` // those of unknown type included
	Last      *Failure `json:"lastTreatedAsWithdrawal,omitempty"`
}

// complaint keeps a peer that sends nothing but nonsense from filling the log.
type complaint struct {
	last   time.Time
	silent uint64 // since then
}

// complainEvery is how often the log is told of what is wrong with a peer.
const complainEvery = 10 * time.Second

// note counts the errors of an UPDATE, and logs what was treated as withdrawal.
func (p *peer) note(u *update) {
	p.errors.Discarded += uint64(u.dropped)
	if !u.treated {
		return
	}
	p.errors.Withdrawn++
	p.errors.Last = &Failure{time.Now(), u.problem}
	p.complainOf("malformed UPDATE treated as withdrawal", "problem", u.problem)
}

// complainOf logs what a peer did wrong without ending its session.
func (p *peer) complainOf(what string, more ...any) {
	now := time.Now()
	if now.Sub(p.complain.last) < complainEvery {
		p.complain.silent++
		return
	}
	p.s.log.Warn(what, append([]any{"peer", p.cfg.Name, "address", p.cfg.Addr, "unlogged", p.complain.silent}, more...)...)
	p.complain = complaint{last: now}
}

// noteRefusal logs that a connection ended by a NOTIFICATION before it was a session: sent
// by us, or that cause is about. Both ends try again and again, so it is said once, and again
// when it is another one, or when there was a session in between.
func (p *peer) noteRefusal(sent *notification, cause error) {
	what, n := "BGP connection refused", sent
	if n == nil {
		if what = "BGP peer refuses the connection"; !errors.As(cause, &n) {
			return
		}
	}
	if said := what + n.Error(); said != p.refusal {
		p.refusal = said
		p.s.log.Warn(what, "peer", p.cfg.Name, "address", p.cfg.Addr, "code", n.code, "subcode", n.sub, "reason", n.Error())
	}
}
