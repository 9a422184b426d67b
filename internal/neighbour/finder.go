// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Options are for New.
type Options struct {
	Log *slog.Logger
	// Changed is called when a neighbour is another one than before. It should
	// only take note.
	Changed func()
	// Within runs open where the socket is to be made: in another network
	// namespace. Nil means here.
	Within func(open func() error) error
}

// Finder looks for neighbours. Its methods may be called from any goroutine.
type Finder struct {
	opt  Options
	news chan struct{}

	mu    sync.Mutex
	want  []Link
	found []Found // one for each of want, in its order, as Run last published it
}

// New returns a Finder with no links. It starts no goroutine.
func New(o Options) *Finder {
	if o.Within == nil {
		o.Within = func(open func() error) error { return open() }
	}
	return &Finder{opt: o, news: make(chan struct{}, 1)}
}

// Set replaces the links.
func (f *Finder) Set(links []Link) {
	f.mu.Lock()
	same := slices.Equal(f.want, links)
	f.want = slices.Clone(links)
	f.mu.Unlock()
	if same {
		return
	}
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// Found returns what is known of each link that Run has taken over.
func (f *Finder) Found() []Found {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.found)
}

// again is how long to wait before the socket is opened once more.
const again = 5 * time.Second

// Run looks for neighbours until ctx ends. While there are no links it holds no
// socket.
func (f *Finder) Run(ctx context.Context) error {
	links := map[int]*link{}
	var s *socket
	defer func() { s.close() }()
	var timer <-chan time.Time
	for {
		var arrivals <-chan arrival
		var failed <-chan error
		if s != nil {
			arrivals, failed = s.arrivals, s.failed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.news:
		case <-timer:
		case err := <-failed:
			f.opt.Log.Error("router advertisements cannot be received; trying again", "err", err)
			s.close()
			s, timer = nil, time.After(again)
			continue
		case a := <-arrivals:
			l := links[a.index]
			if l == nil {
				continue
			}
			typ, err := check(a.message, a.from, a.hops)
			switch {
			case err != nil:
				f.opt.Log.Debug("not a neighbour's message", "interface", l.Name, "from", a.from, "err", err)
				continue
			case typ == typeSolicitation:
				l.solicited(time.Now())
			default:
				l.advertised(a.from, time.Now())
			}
		}
		want := f.take(links)
		if len(links) == 0 {
			s.close()
			s, timer = nil, nil
		} else if s == nil {
			var err error
			if s, err = open(f.opt.Within); err != nil {
				f.opt.Log.Error("no socket for router advertisements; trying again", "err", err)
				timer = time.After(again)
			}
		}
		if s != nil {
			timer = time.After(f.send(s, links))
		}
		f.publish(want, links)
	}
}

// take brings the state to what Set said last, and returns that. A link that stays keeps its
// neighbour, also with another address of ours.
func (f *Finder) take(links map[int]*link) []Link {
	f.mu.Lock()
	want := f.want
	f.mu.Unlock()
	now, seen := time.Now(), map[int]bool{}
	for _, w := range want {
		if w.Down != "" {
			continue
		}
		seen[w.Index] = true
		l := links[w.Index]
		switch {
		case l == nil:
			links[w.Index] = newLink(w, now)
		case l.Link != w:
			l.Link, l.sent, l.next = w, 0, now
		}
	}
	for index := range links {
		if !seen[index] {
			delete(links, index)
		}
	}
	return want
}

// send sends what is due, and returns how long nothing more is.
func (f *Finder) send(s *socket, links map[int]*link) time.Duration {
	now := time.Now()
	next := now.Add(every)
	for _, l := range links {
		s.join(l.Index)
		advertise, solicit := l.due(now)
		if advertise {
			s.send(advertisement(l.MAC), allNodes, l)
		}
		if solicit {
			s.send(solicitation(l.MAC), allRouters, l)
		}
		next = earlier(next, l.wake())
	}
	return time.Until(next)
}

// publish shows the state, and says so if a neighbour is another one.
func (f *Finder) publish(want []Link, links map[int]*link) {
	now := time.Now()
	var list []Found
	for _, w := range want {
		if l := links[w.Index]; l != nil && w.Down == "" {
			list = append(list, l.found(now))
		} else {
			list = append(list, Found{Link: w})
		}
	}
	f.mu.Lock()
	same := slices.EqualFunc(f.found, list, func(a, b Found) bool {
		return a.Link == b.Link && a.Neighbour == b.Neighbour && a.Second == b.Second
	})
	was := f.found
	f.found = list
	f.mu.Unlock()
	if same {
		return
	}
	for _, n := range list {
		if n.Neighbour.IsValid() && !slices.ContainsFunc(was, func(o Found) bool { return o.Neighbour == n.Neighbour }) {
			f.opt.Log.Info("neighbour found", "interface", n.Name, "address", n.Neighbour)
		}
	}
	f.opt.Changed()
}
