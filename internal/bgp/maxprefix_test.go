// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// B08: more prefixes than are allowed, with each action and in each family;
// the other family and other peers are not concerned.
func TestB08_MaxPrefixes(t *testing.T) {
	for _, c := range []struct {
		name   string
		action LimitAction
		want   int // v4 routes in the end, of 7 with a limit of 5
		state  string
	}{
		{"discard", LimitDiscard, 5, "Established"},
		{"warn", LimitWarn, 7, "Established"},
		{"restart", LimitRestart, 0, ""},
		{"shutdown", LimitShutdown, 0, "Idle"},
	} {
		for f := range numFamilies {
			t.Run(fmt.Sprintf("%s/%s", c.name, f), func(t *testing.T) {
				t.Parallel()
				a, b := pair(t, 64512, 65001, func(_, cb *Config) {
					cb.Peers[0].MaxPrefixes[f], cb.Peers[0].OverLimit = 5, c.action
				})
				addr := a.cfg.RouterID
				prefix := func(i int) string {
					return []string{fmt.Sprintf("10.%d.0.0/16", i), fmt.Sprintf("fd00:%d::/32", i)}[f]
				}
				other := []string{"fd99::/32", "10.99.0.0/16"}[f]
				a.originate(other)
				for i := range 5 {
					a.originate(prefix(i))
				}
				eventually(t, "five and one", func() bool { return b.fibSize() == 6 })
				if b.peer(addr).OverLimit != nil {
					t.Error("five are said to be too many")
				}
				a.originate(prefix(0), prefix(5), prefix(6)) // the first one is there already
				if c.state == "Established" {
					eventually(t, "the limit is seen", func() bool { return len(b.peer(addr).OverLimit) == 1 })
					eventually(t, fmt.Sprint(c.want, " and one"), func() bool { return b.fibSize() == c.want+1 })
					if p := b.peer(addr); p.State != c.state || p.Established != 1 {
						t.Errorf("%+v", p)
					}
				} else {
					eventually(t, "the session is ended", func() bool { return b.fibSize() == 0 })
					p := b.peer(addr)
					if !strings.Contains(p.LastError, "more than 5 prefixes") || c.state != "" && p.State != c.state {
						t.Errorf("%+v", p)
					}
					eventually(t, "the other end knows why", func() bool { return strings.Contains(a.peer(b.cfg.RouterID).LastError, "(6/1)") })
				}
				if c.action == LimitDiscard {
					// With room again, what was turned away is asked for.
					a.withdraw(prefix(0), prefix(1))
					b.waitHops(prefix(5), b.hops(prefix(2)))
					b.waitHops(prefix(6), b.hops(prefix(2)))
				}
				if c.action == LimitShutdown {
					a.withdraw(prefix(5), prefix(6))
					cfg := b.cfg
					cfg.Peers = slices.Clone(cfg.Peers)
					cfg.Peers[0].MaxPrefixes = [2]int{6, 6}
					if err := b.SetConfig(cfg); err != nil {
						t.Fatal(err)
					}
					eventually(t, "five and one again", func() bool { return b.fibSize() == 6 })
				}
			})
		}
	}
}

// RFC 9003: the reason of a shutdown is told, and shown at the other end; a
// session that is shut down stays so until it is no more.
func TestRFC9003_Shutdown(t *testing.T) {
	a, b := pair(t, 64512, 64512, nil)
	addrA, addrB := a.cfg.RouterID, b.cfg.RouterID
	a.waitUp(addrB)
	b.waitUp(addrA)
	long := strings.Repeat("ä", 200) // 400 octets
	cfg := a.cfg
	cfg.Peers = []PeerConfig{a.cfg.Peers[0]}
	cfg.Peers[0].Shutdown, cfg.Peers[0].ShutdownText = true, long
	if err := a.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reason at the other end", func() bool {
		return strings.Contains(b.peer(addrA).LastError, strings.Repeat("ä", 127)) && !strings.Contains(b.peer(addrA).LastError, strings.Repeat("ä", 128))
	})
	eventually(t, "Idle", func() bool {
		return a.peer(addrB).State == "Idle" && strings.Contains(a.peer(addrB).LastError, "administratively shut down: ä")
	})
	n := b.peer(addrA).Established
	if err := a.SetConfig(a.cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "up again", func() bool { return b.peer(addrA).Established > n && a.peer(addrB).State == "Established" })
}

// A limit that is raised, or lifted, has a peer that says nothing by itself asked
// for what was turned away.
func TestB08_LimitIsRaised(t *testing.T) {
	for _, limit := range []int{7, 0} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, 64512, 65001, func(_, cb *Config) { cb.Peers[0].MaxPrefixes[v4] = 5 })
			for i := range 7 {
				a.originate(fmt.Sprintf("10.%d.0.0/16", i))
			}
			eventually(t, "five, and the limit", func() bool { return b.fibSize() == 5 && b.peer(a.cfg.RouterID).Discarded == 2 })
			cfg := b.cfg
			cfg.Peers = slices.Clone(cfg.Peers)
			cfg.Peers[0].MaxPrefixes[v4] = limit
			if err := b.SetConfig(cfg); err != nil {
				t.Fatal(err)
			}
			eventually(t, "all seven", func() bool { return b.fibSize() == 7 })
			if p := b.peer(a.cfg.RouterID); p.Established != 1 || p.OverLimit != nil {
				t.Errorf("%+v", p)
			}
		})
	}
}

// LimitRestart keeps the session down for a while, also when it is the peer that
// connects, and LimitShutdown for good, also with one from a listen range: there is
// no other memory of it than the peer.
func TestB08_WhoConnectsWaits(t *testing.T) {
	for _, c := range []struct {
		name    string
		action  LimitAction
		dynamic bool
	}{{"restart", LimitRestart, false}, {"restart, from a range", LimitRestart, true}, {"shutdown, from a range", LimitShutdown, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			us, them := freeAddr(t), freeAddr(t)
			p := peerTo(them, 65001)
			p.MaxPrefixes, p.OverLimit = [2]int{5, 5}, c.action
			cfg := nodeConfig(64512, us, p)
			if c.dynamic {
				cfg.Peers = nil
				cfg.Ranges = []RangeConfig{{Prefixes: []netip.Prefix{hostPrefix(them)}, ASNs: [][2]uint32{{65001, 65001}}, Peer: p}}
			}
			n := startNode(t, cfg, Options{})
			far := startNode(t, nodeConfig(65001, them, peerTo(us, 64512)), Options{})
			for i := range 7 {
				far.originate(fmt.Sprintf("10.%d.0.0/16", i))
			}
			eventually(t, "the limit", func() bool { return strings.Contains(n.peer(them).LastError, "more than 5 prefixes") })
			tries := far.peer(us).Messages.Sent["open"]
			within(t, 30*time.Second, "it has tried again", func() bool { return far.peer(us).Messages.Sent["open"] > tries })
			if p := n.peer(them); p.Established != 1 || p.State != "Idle" || (p.RetryLeft > 5) != (c.action == LimitRestart) {
				t.Errorf("%+v", p)
			}
			cfg.Peers, cfg.Ranges = slices.Clone(cfg.Peers), slices.Clone(cfg.Ranges)
			if c.dynamic {
				cfg.Ranges[0].Peer.MaxPrefixes = [2]int{7, 7}
			} else {
				cfg.Peers[0].MaxPrefixes = [2]int{7, 7}
			}
			if err := n.SetConfig(cfg); err != nil {
				t.Fatal(err)
			}
			within(t, 30*time.Second, "all seven with a higher limit", func() bool { return n.fibSize() == 7 })
		})
	}
}

// Many paths of one prefix, as a peer with ADD-PATH may send them, cost no more than
// so many prefixes: beyond maxPaths they are turned away, and asked for when others
// have gone.
func TestB08_PathsOfOnePrefix(t *testing.T) {
	t.Parallel()
	us, crowd, other := freeAddr(t), freeAddr(t), freeAddr(t)
	cfg := nodeConfig(64512, us, peerTo(crowd, 65001), peerTo(other, 65001))
	for i := range cfg.Peers {
		cfg.Peers[i].Passive, cfg.Peers[i].AddPathReceive = true, true
	}
	n := startNode(t, cfg, Options{})
	n.OriginationsComplete()
	open, err := openParams{asn: 65001, id: crowd, families: familySet{true, true}, addPathSend: true}.marshal()
	if err != nil {
		t.Fatal(err)
	}
	r, fine := &rawPeer{t: t, addr: crowd}, &rawPeer{t: t, addr: other}
	r.connect(n)
	r.write(cat(open, keepaliveMessage()))
	n.waitUp(crowd)
	fine.establish(n, 65001)
	const paths, each = 20000, 200
	attrs := cat(goodAttrs(true)...)
	numbered := func(id int) []byte { return append(be32(uint32(id)), nlri("10.1.0.0/16")...) }
	for i := 1; i < paths; i += each {
		var list []byte
		for id := i; id < i+each; id++ {
			list = append(list, numbered(id)...)
		}
		r.write(upd(nil, attrs, list))
	}
	start := time.Now()
	fine.write(announce("10.2.0.0/16", goodAttrs(true)))
	n.waitHops("10.2.0.0/16", "10.0.0.9")
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("somebody else's route took %v", d)
	}
	eventually(t, "all are taken in or turned away", func() bool { return n.peer(crowd).Discarded == paths-maxPaths })
	r.write(upd(nil, attrs, numbered(maxPaths))) // there already
	r.write(upd(numbered(1), nil, nil))
	eventually(t, "one has gone", func() bool { return n.peer(crowd).Received == maxPaths-1 })
	within(t, 2*refillEvery, "it is asked to repeat itself", func() bool { return n.peer(crowd).Messages.Sent["route-refresh"] > 0 })
	r.write(upd(nil, attrs, append(numbered(2), numbered(paths)...)))
	eventually(t, "the place is taken", func() bool { return n.peer(crowd).Received == maxPaths })
	if p := n.peer(crowd); p.State != "Established" || p.Established != 1 || p.Discarded != paths-maxPaths {
		t.Errorf("%+v", p)
	}
}

// What is kept over a restart of a peer is not what it sends: with as many other prefixes as
// before it is within its limit.
func TestB08_StaleRoutesDoNotCount(t *testing.T) {
	for _, action := range []LimitAction{LimitDiscard, LimitShutdown} {
		t.Run(fmt.Sprint(action), func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, 64512, 64512, func(_, cb *Config) { cb.Peers[0].MaxPrefixes, cb.Peers[0].OverLimit = [2]int{5, 5}, action })
			for i := range 5 {
				a.originate(fmt.Sprintf("10.%d.0.0/16", i))
			}
			eventually(t, "five", func() bool { return b.fibSize() == 5 && len(b.peer(a.cfg.RouterID).EndOfRIB) == 2 })
			a.stop()
			eventually(t, "they are kept", func() bool { return b.peer(a.cfg.RouterID).Stale == 5 })
			a = startNode(t, a.cfg, Options{Restarting: true})
			for i := range 5 {
				a.originate(fmt.Sprintf("10.%d.0.0/16", 10+i))
			}
			a.OriginationsComplete()
			b.waitUp(a.cfg.RouterID)
			eventually(t, "five others", func() bool { return b.fibSize() == 5 && b.hops("10.14.0.0/16") != "" && b.hops("10.4.0.0/16") == "" })
			if p := b.peer(a.cfg.RouterID); p.Established != 2 || p.Discarded != 0 || p.OverLimit != nil {
				t.Errorf("%+v", p)
			}
		})
	}
}
