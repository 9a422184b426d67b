// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muslin-net/muslin/internal/lab"
)

// Unreached is a pair of endpoints of which no packet came back.
type Unreached struct {
	From string     `json:"from"`
	To   string     `json:"to"`
	Addr netip.Addr `json:"address"`
	Why  string     `json:"why"`
}

// Reach is how the endpoints of a lab reach each other.
type Reach struct {
	Probes    int         `json:"probes"` // ordered pairs, in each family
	Unreached []Unreached `json:"unreached"`
	// Apart are those that the simulation loses, all or in part, with what has failed: they are not probed.
	Apart int `json:"apart,omitempty"`
}

// Probe sends an echo request from every endpoint to every address of the others and of machines, and again if
// none came back: neighbours have to be found first.
func (l *Lab) Probe(ctx context.Context) (*Reach, error) {
	all := l.Endpoints()
	asked := map[netip.Addr]string{} // an address that several have is asked once
	r := &Reach{Unreached: []Unreached{}}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * parallel)
	machines := machinesOf(l.Design)
	lost := func(Gap) bool { return false }
	if len(l.Failed) > 0 || len(machines) > 0 { // of two ToRs one has no way to a machine that speaks no BGP
		var err error
		if lost, err = l.lost(); err != nil {
			return nil, err
		}
	}
	for _, from := range all {
		if from.Anycast {
			continue // answers may go to another one that has the address
		}
		n, err := l.space(from.Name)
		if err != nil {
			return nil, err
		}
		ask := func(to string, a netip.Addr) {
			if lost(Gap{From: from.Name, To: to, Addr: a}) {
				r.Apart++
				return
			}
			r.Probes++
			g.Go(func() error {
				var o lab.Outcome
				for range 2 {
					if o = n.Probe(ctx, lab.Probe{Proto: lab.ICMP, Dst: a, Timeout: 2 * time.Second}); o.Verdict == lab.Reached {
						return nil
					}
				}
				mu.Lock()
				defer mu.Unlock()
				r.Unreached = append(r.Unreached, Unreached{from.Name, to, a, fmt.Sprintf("%s: %v", o.Verdict, o.Err)})
				return ctx.Err()
			})
		}
		for _, to := range all {
			if from.Name == to.Name {
				continue
			}
			for _, a := range to.Addrs {
				if asked[a] == "" {
					asked[a] = to.Name
				}
				if asked[a] == to.Name {
					ask(to.Name, a)
				}
			}
		}
		for _, m := range machines {
			for _, a := range m.Addrs {
				ask(m.Name, a)
			}
		}
	}
	err := g.Wait()
	slices.SortFunc(r.Unreached, func(a, b Unreached) int {
		if a.From != b.From {
			return slices.Index(names(all), a.From) - slices.Index(names(all), b.From)
		}
		return a.Addr.Compare(b.Addr)
	})
	return r, err
}

func names(list []Endpoint) (out []string) {
	for _, e := range list {
		out = append(out, e.Name)
	}
	return out
}
