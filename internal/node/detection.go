// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bfd"
	"github.com/muslin-net/muslin/internal/bfdd"
	"github.com/muslin-net/muslin/internal/bgp"
)

// watched is a BGP session whose path BFD is to watch. Its key is still a name.
type watched struct {
	bfd.Config
	object string // that asks for it
	secret v3.SecretKeyRef
}

// watch decides whether BFD watches the path of a session, as the object says
// that asks for it: a BGPPeer, or for the mesh the BGPConfiguration. With
// settings that cannot be read there is none: with half of them it might be
// less guarded than was asked for.
func (in *peeringInput) watch(self nodeAddr, p bgp.PeerConfig, object string, b v3.BFD, errs []error) ([]watched, []problem) {
	if !b.Enabled {
		return nil, nil
	}
	for _, err := range errs {
		if e, ok := err.(*v3.FieldError); ok && v3.IsBFDAnnotation(e.Path) {
			return nil, []problem{{object: object, field: e.Path, text: e.Problem + "; so there is no BFD"}}
		}
	}
	w := watched{object: object, secret: b.AuthSecret, Config: bfd.Config{
		Name:     p.Name,
		Key:      bfd.Key{Peer: p.Addr.Addr(), Local: p.LocalAddr, Multihop: b.Multihop || !b.SingleHop && !in.oneHop(self, p.Addr.Addr())},
		Interval: b.Interval, Multiplier: b.Multiplier,
	}}
	if p.TTLSecurity > 0 {
		w.MinTTL = uint8(256 - int(p.TTLSecurity))
	}
	if b.Auth != "" {
		kind, err := bfd.ParseAuthType(b.Auth)
		if err != nil {
			return nil, []problem{{object: object, field: "muslin/bfd-auth", text: err.Error()}}
		}
		w.Auth = bfd.Auth{Type: kind, ID: b.AuthKeyID}
	}
	return []watched{w}, nil
}

// oneHop tells whether a neighbour is on a link of this node. Both ends must
// come to the same answer, because they use different ports: between nodes
// each subnet must have the other's address. Of others this node knows its own side only.
func (in *peeringInput) oneHop(self nodeAddr, peer netip.Addr) bool {
	if n, ok := in.nodeAt[peer]; ok {
		return self.v4.Contains(peer) && n.v4.Contains(self.v4.Addr()) || self.v6.Contains(peer) && n.v6.Contains(self.v6.Addr())
	}
	return self.v4.Contains(peer) || self.v6.Contains(peer) || in.onLink != nil && in.onLink(peer)
}

// applyBFD hands over what is to be watched, with the keys as they are in the
// files now. A session whose key cannot be had is left out.
func (l *loop) applyBFD() {
	if !l.bfdDue {
		return
	}
	l.bfdDue = false
	var problems []problem
	var sessions []bfd.Config
	for _, w := range l.watched {
		if w.Auth.Type != bfd.AuthNone {
			key, err := l.d.secrets.read(&w.secret)
			if err != nil {
				problems = append(problems, problem{object: w.object, field: "muslin/bfd-auth-secret", text: err.Error() + "; so there is no BFD with " + w.Peer.String()})
				continue
			}
			w.Auth.Key = []byte(key.Reveal())
		}
		if err := w.Config.Validate(); err != nil {
			problems = append(problems, problem{object: w.object, field: "muslin/bfd", text: err.Error()})
			continue
		}
		if slices.ContainsFunc(sessions, func(s bfd.Config) bool { return s.Peer == w.Peer }) {
			continue // two BGP sessions with one neighbour share its path (RFC 5882 section 2)
		}
		sessions = append(sessions, w.Config)
	}
	l.problems["bfd"] = problems
	l.d.bfd.set(sessions, longestRestart(l.speakerConfig))
}

// longestRestart is for how long some neighbour keeps our routes while we are away.
func longestRestart(c bgp.Config) time.Duration {
	d := max(0, cmp.Or(c.RestartTime, defaultRestartTime)) // not bgp.TimerOff
	for _, p := range c.Peers {
		d = max(d, p.RestartTime)
	}
	return d
}

// detector stands between the BFD process and the speaker. What the process
// reports is state; that a path was lost is where the count of failures of a
// session has grown. Its methods may be called from any goroutine.
type detector struct {
	client *bfdd.Client

	mu       sync.Mutex
	want     []bfd.Config
	linger   time.Duration
	failures map[uint32]uint64 // by discriminator: a new session counts anew
	dead     func(peer netip.Addr)
	toldDead bool
}

func newDetector(d *Daemon) *detector {
	t := &detector{}
	t.client = bfdd.NewClient(bfdd.ClientOptions{
		RunDir: d.cfg.RunDir, Log: d.log.With("part", "bfd"), Command: d.cfg.BFDCommand,
		Changed: func(r bfdd.Report) {
			for _, s := range t.lost(r) {
				d.speaker.PathDown(s.Peer, s.Independent)
			}
			t.tellDead(r)
		},
	})
	t.dead = d.speaker.PathWasDown
	return t
}

// tellDead tells the speaker once, as soon as it knows its peers, which paths
// the process has found dead before this one started.
func (t *detector) tellDead(r bfdd.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.want == nil || t.toldDead || len(r.Sessions) == 0 {
		return
	}
	t.toldDead = true
	for _, s := range r.Sessions {
		if s.State == bfd.Down.String() && s.Failures > 0 && s.Independent {
			t.dead(s.Peer)
		}
	}
}

func (t *detector) run(ctx context.Context) error { return t.client.Run(ctx) }

// set hands over the sessions; the same ones again cost nothing.
func (t *detector) set(sessions []bfd.Config, linger time.Duration) {
	t.mu.Lock()
	same := t.want != nil && t.linger == linger && slices.EqualFunc(t.want, sessions, bfd.Config.Equal)
	t.want, t.linger = append([]bfd.Config{}, sessions...), linger
	t.mu.Unlock()
	if !same {
		t.client.Set(sessions, linger)
	}
	t.tellDead(t.client.Report())
}

// lost returns the sessions that have failed since the last report. What is seen for
// the first time has failed before our time, or never.
func (t *detector) lost(r bfdd.Report) (list []bfd.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := make(map[uint32]uint64, len(r.Sessions))
	for _, s := range r.Sessions {
		now[s.Discriminator] = s.Failures
		if was, known := t.failures[s.Discriminator]; known && s.Failures > was {
			list = append(list, s)
		}
	}
	t.failures = now
	return list
}

// problems is why paths are not watched that should be.
func (t *detector) problems() (list []problem) {
	if err := t.client.Problem(); err != nil {
		list = append(list, problem{object: "BFD process", text: err.Error()})
	}
	for _, text := range t.client.Report().Problems {
		list = append(list, problem{object: "BFD process", text: text})
	}
	return list
}

// pathOf finds the session that watches the path to a neighbour.
func pathOf(r bfdd.Report, peer netip.Addr) *bfd.Status {
	i := slices.IndexFunc(r.Sessions, func(s bfd.Status) bool { return s.Peer == peer })
	if i < 0 {
		return nil
	}
	return &r.Sessions[i]
}
