// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"time"
)

const (
	fightFree  = 5 * time.Second // of repairs, that are made at once
	fightShare = 5               // one part in so many of the time is for more of them
	// fightOwed is the most that is owed, so that nobody waits for more than 5 s.
	fightOwed = fightFree + 5*time.Second/fightShare
)

// errFight is why the packet filter is not as it should be.
var errFight = errors.New("somebody changes the packet filter again and again; that is undone for a fifth of the time, after 5 s at the latest: nft monitor shows what is changed")

// fight bounds what it costs to undo what somebody else does to the packet filter
// without end. A repair takes as long as reading all of it does, and who commits every
// ten milliseconds would leave the loop time for nothing else.
type fight struct {
	owed time.Duration // that repairs took beyond their share
	at   time.Time     // when it was that much
}

// spent takes down that a repair took so long, until now.
func (f *fight) spent(took time.Duration, now time.Time) {
	f.owed, f.at = min(f.owes(now)+took, fightOwed), now
}

func (f *fight) owes(now time.Time) time.Duration {
	return max(0, f.owed-now.Sub(f.at)/fightShare)
}

// rest tells whether the next repair has to wait: at most for as long as what is owed
// beyond fightFree takes, which is 5 s.
func (f *fight) rest(now time.Time) bool { return f.owes(now) > fightFree }
