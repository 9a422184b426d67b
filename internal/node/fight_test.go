// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
)

// bent is a packet filter that somebody bends as soon as it is as it should be.
type bent struct {
	dataplane.Filtering
	takes   time.Duration // a repair
	repairs []time.Time
}

func (f *bent) Stats() acl.Stats { return acl.Stats{Commits: len(f.repairs)} }
func (f *bent) Unchanged() bool  { return false }

func (f *bent) Resync(policy.View) error {
	time.Sleep(f.takes)
	f.repairs = append(f.repairs, time.Now())
	return nil
}

// TestT10_Fight: who bends the packet filter every ten milliseconds is undone at once for
// a while, and then for a fifth of the time, after 5 s at the latest, with a word on why it is not as it should be. A change of
// ours does not wait for it. When he rests for a while, he is undone at once again.
func TestT10_Fight(t *testing.T) {
	for _, takes := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond, time.Second} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &bent{takes: takes}
				l := &loop{d: &Daemon{acl: f, log: slog.New(slog.DiscardHandler)}, model: newModel("n1", policy.NewIndex("n1")), repairs: map[string]int{}, live: 1}
				l.established.due = make(signal, 1)
				said := false
				tamper := func(ch policy.Changes) {
					l.resyncACL, l.aclSuspect = true, true
					switch err := l.applyACL(ch); {
					case errors.Is(err, errFight):
						said = true
					case err != nil:
						t.Fatal(err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				fight := func(lasts time.Duration) (spent, longest time.Duration) {
					begun, end := len(f.repairs), time.Now().Add(lasts)
					for last := time.Now(); time.Now().Before(end); {
						n := len(f.repairs)
						tamper(policy.Changes{})
						if len(f.repairs) > n {
							longest, last = max(longest, f.repairs[n].Sub(last)-takes), f.repairs[n]
						}
					}
					return takes * time.Duration(len(f.repairs)-begun), longest
				}
				if spent, _ := fight(2 * time.Second); said {
					t.Errorf("told to wait after %v of repairs", spent)
				}
				fight(30 * time.Second)
				spent, longest := fight(5 * time.Minute)
				if spent > time.Minute+2*takes {
					t.Errorf("%v of 5 minutes were spent on repairs", spent)
				}
				if longest > 5*time.Second+20*time.Millisecond {
					t.Errorf("%v from one repair to the next", longest)
				}
				if cheap := takes < 2*time.Millisecond; said == cheap {
					t.Errorf("somebody who changes it without end was named: %v", said)
				}
				fight(5 * time.Second)
				n := len(f.repairs)
				ch := policy.Changes{Endpoints: map[policy.EndpointID]*policy.Endpoint{{Namespace: "ns", Name: "gone"}: nil}}
				if tamper(ch); len(f.repairs) != n+1 {
					t.Error("a change waits for who fights")
				}
				time.Sleep(30 * time.Second)
				if tamper(policy.Changes{}); len(f.repairs) != n+2 {
					t.Error("one change after a rest waits")
				}
			})
		})
	}
}
