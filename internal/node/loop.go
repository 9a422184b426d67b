// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/guard"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
	"github.com/muslin-net/muslin/internal/store"
)

const (
	// resyncEvery is how often everything is compared with the kernel although
	// nothing called for it.
	resyncEvery = 60 * time.Second
	// worthSaying is how long a part of a round takes before the log, at its
	// debug level, says so.
	worthSaying = 5 * time.Millisecond
	retryMin    = 100 * time.Millisecond
	retryMax    = 5 * time.Second
)

// hopUse is which next hops BGP has come to use, and uses no more.
type hopUse struct{ used, unused []netip.Addr }

// signal wakes the loop; many wakes before it looks count as one.
type signal chan struct{}

func (s signal) notify() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// changedLinks collects the names of interfaces that changed, for the loop to
// look at when it comes round. Safe for concurrent use.
type changedLinks struct {
	signal
	mu    sync.Mutex
	names map[string]bool
	all   bool
}

// add takes note; nil names mean that any interface may have changed.
func (c *changedLinks) add(names []string) {
	c.mu.Lock()
	c.all = c.all || names == nil
	if c.names == nil {
		c.names = map[string]bool{}
	}
	for _, n := range names {
		c.names[n] = true
	}
	c.mu.Unlock()
	c.notify()
}

func (c *changedLinks) take() (names map[string]bool, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names, all = c.names, c.all
	c.names, c.all = nil, false
	return names, all
}

// loop owns the model and every reconciler. All fields belong to run, except
// the channels.
type loop struct {
	d *Daemon

	updates chan update
	taken   chan struct{} // answers each update once it is in force
	calls   chan func()

	aclChanged, routeChanged signal
	linksLost                signal
	linkChanged              changedLinks
	secretsChanged           signal
	hostLinks                signal // an interface of this host may have changed
	found                    signal // a neighbour on one, too
	best                     chan []bgp.Best
	nextHops                 chan hopUse
	converged                <-chan struct{} // BGP has learned all there is, once

	model    *model
	held     map[string]change // what arrived while the datastore is not ready
	settings settings
	problems map[string][]problem // by part
	problemLog

	turns         atomic.Uint64 // how often run has come round, for others to see whether it rests
	seen, live    int64
	inSync        bool
	begun         bool // something of the model is in force, or tried to be
	connected     bool
	heldText      string
	datastoreErr  string
	clusterGUID   string    // as written down, see noteCluster
	heldSince     time.Time // when the datastore held what is in force; zero once it has answered
	prepareAgain  signal
	addrsChanged  signal                     // of this host; see followAddresses
	ifacesChanged signal                     // their addresses; see applyHostInterfaces
	nat           acl.NAT                    // of what leaves the pools
	stackFloats   map[policy.EndpointID]bool // endpoints of OpenStack with a floating IP here
	floatingDue   bool                       // the packet filter does not know of the first, or the last
	ifacesDue     bool                       // they are to be looked at
	registered    bool                       // this node's objects were written, or cannot be: see problems
	registeredAt  int64                      // and the revision of what was written

	// What has to be compared with the kernel as a whole, and why the last
	// attempt failed.
	resyncACL, resyncRoutes, resyncLinks bool
	// aclSuspect: if the comparison finds a difference, somebody else made it.
	aclSuspect bool
	optionsDue bool // the packet filter was given options that are not in force yet
	hostDue    bool // this host's own kernel settings are to be looked at
	failures   map[string]error
	retry      time.Duration
	retryAt    <-chan time.Time
	hopsAt     <-chan time.Time // when a next hop has been lost for long enough to say so

	ctx          context.Context
	routes       dataplane.Forwarding // nil until settings are known, as links
	links        *endpoint.Links      // nil until settings are known
	linkPrefixes []string
	stopLinks    func()
	protocol     uint8 // of routes
	stopRoutes   func()
	interfaces   map[policy.EndpointID]string
	retired      []string // interfaces that no endpoint has any more, until their routes are gone
	originDirty  bool
	left         map[netip.Prefix]bool // blocks of which an address was found to be elsewhere, too or only
	shared       shared

	byEndpoint    map[policy.EndpointID][]route.Route // what each endpoint has in the table
	speakerConfig bgp.Config
	peerLinks     map[netip.Addr]peerLink // by neighbours of other ASes
	linksDue      bool                    // interfaces with neighbours are to be looked at
	missingLinks  map[string]bool         // those that are not there
	enslaved      map[string]bool         // interfaces of workloads that are ports of something else
	enslavedDue   bool                    // the packet filter does not know of all
	watched       []watched               // by BFD
	bfdDue        bool                    // it is to be handed over again
	guard         *guard.Guard            // the speaker's, from the start; see bind
	grants        grants                  // that it was told of
	// controlPlaneOnly: this node reflects routes and forwards no traffic.
	controlPlaneOnly bool
	speakers         speakers       // workloads of this node that BGPPeers select
	outOfKernel      []netip.Prefix // pools whose learned routes stay out, see clusterroutes.go
	announced        []bgp.Origination
	exports          map[netip.AddrPort]func() // to monitoring stations, and what ends each
	originsDone      bool
	established      established
	reserved         map[netip.Addr]string // addresses of servers, and whose
	infrastructure   *infrastructure
	repairs          map[string]int
	fight            fight
	processes        processes
	denials          denials
}

func newLoop(d *Daemon) *loop {
	l := &loop{
		d:       d,
		updates: make(chan update), taken: make(chan struct{}), calls: make(chan func()),
		aclChanged: make(signal, 1), routeChanged: make(signal, 1), linksLost: make(signal, 1), secretsChanged: make(signal, 1), hostLinks: make(signal, 1), found: make(signal, 1), prepareAgain: make(signal, 1), addrsChanged: make(signal, 1), ifacesChanged: make(signal, 1), ifacesDue: true,
		linkChanged: changedLinks{signal: make(signal, 1)},
		best:        make(chan []bgp.Best),
		nextHops:    make(chan hopUse),
		converged:   d.speaker.Converged(),
		guard:       guard.New(d.cfg.Node), infrastructure: newInfrastructure(nil),
		model: newModel(d.cfg.Node, policy.NewIndex(d.cfg.Node)),
		held:  map[string]change{}, problems: map[string][]problem{}, failures: map[string]error{},
		resyncACL: true, resyncRoutes: true, resyncLinks: true,
		byEndpoint: map[policy.EndpointID][]route.Route{}, repairs: map[string]int{},
		processes:   processes{addrs: map[policy.EndpointID][]netip.Addr{}, syncLo: endpoint.SyncLoopback},
		stackFloats: map[policy.EndpointID]bool{},
		denials:     denials{changed: make(signal, 1)},
		established: established{due: make(signal, 1), addrs: map[policy.EndpointID][]netip.Addr{}, gone: map[netip.Addr]bool{}},
	}
	return l
}

// call runs f in the loop and returns when it has run, or when ctx has ended.
func (l *loop) call(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case l.calls <- func() { f(); close(done) }:
		<-done
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *loop) run(ctx context.Context) error {
	l.ctx = ctx
	defer l.close()
	tick := time.NewTicker(resyncEvery)
	defer tick.Stop()
	for {
		l.turns.Add(1)
		select {
		case <-ctx.Done():
			return nil
		case u := <-l.updates:
			l.timed("model", func() error { l.take(u); return nil })
			l.converge()
			if !u.InSync {
				continue // nobody waits: see followDatastore
			}
			select {
			case l.taken <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
		case f := <-l.calls:
			f()
			continue
		case <-l.aclChanged:
			l.resyncACL, l.aclSuspect = true, true
			l.converge()
		case <-l.routeChanged:
			l.attempt("routes", l.programRoutes)
			l.finish()
		case <-l.linkChanged.signal:
			names, all := l.linkChanged.take()
			l.resyncLinks = l.resyncLinks || all
			l.attempt("interfaces", func() error { return l.syncLinks(maps.Keys(names)) })
			l.converge()
		case <-l.linksLost:
			l.linkPrefixes = nil // so that they are opened again
			l.converge()
		case <-l.ifacesChanged:
			l.ifacesDue, l.processes.due = true, l.processes.due || len(l.processes.addrs) > 0
			if l.processes.due || l.model.index.NeedsHostInterfaces() {
				l.converge()
			}
		case <-l.secretsChanged:
			l.model.touchedPeering = true
			l.converge()
		case <-l.hostLinks:
			l.linksDue = true
			l.attempt("neighbours", l.lookAtLinks)
			l.finish()
		case <-l.found:
			l.model.touchedPeering = true
			l.converge()
		case b := <-l.learnable():
			l.learned(b)
		case u := <-l.trackable():
			l.routes.Track(u.used, u.unused)
			l.tellNextHops()
			continue
		case <-l.hopsAt:
			l.tellNextHops()
			continue
		case <-l.shared.at:
			l.originDirty = true
			l.converge()
		case <-l.convergence():
			// From now on a route of ours that BGP does not want is a stale one.
			l.converged = nil
			l.attempt("routes", func() error {
				return errors.Join(l.routes.SetComplete(sourceBGP), l.programRoutes())
			})
			l.finish()
		case <-tick.C:
			l.resyncACL, l.resyncRoutes, l.resyncLinks = true, true, true
			l.aclSuspect = true
			l.converge()
		case <-l.problemLog.at:
			l.problemLog.say(l.d.log, append(l.allProblems(), l.model.unready()...), time.Now())
			continue
		case <-l.retryAt:
			l.retryAt = nil
			l.converge()
		}
	}
}

// learnable, trackable and convergence are the speaker's news, once there is a routing
// table to put them into.
func (l *loop) learnable() <-chan []bgp.Best {
	if l.routes == nil {
		return nil
	}
	return l.best
}

func (l *loop) trackable() <-chan hopUse {
	if l.routes == nil {
		return nil
	}
	return l.nextHops
}

func (l *loop) convergence() <-chan struct{} {
	if l.routes == nil {
		return nil
	}
	return l.converged
}

// take takes an update into the model. While the datastore says that it is not
// ready, changes are set aside, so that repairs restore what is enforced.
func (l *loop) take(u update) {
	l.connected, l.heldText = u.Connected, u.Held
	if u.Connected {
		l.heldSince = time.Time{}
	}
	for _, c := range u.changes {
		if c.Kind == "ClusterInformation" {
			l.model.apply(c)
		}
	}
	ready := l.model.ready()
	if ready {
		for _, c := range l.held {
			l.model.apply(c)
		}
		clear(l.held)
	}
	for _, c := range u.changes {
		switch {
		case c.Kind == "ClusterInformation":
		case c.Kind == store.KindBlock, c.Kind == store.KindIPAMConfig: // those are the allocator's
		case ready:
			l.model.apply(c)
		default:
			l.held[c.Key] = c
		}
	}
	if l.model.lostSelf {
		l.model.lostSelf = false
		l.d.log.Warn("this node's Node was deleted while it runs; registering again")
		l.prepareAgain.notify()
	}
	l.inSync = u.InSync
	if u.Revision != 0 {
		if u.Revision < l.seen { // a restored datastore: what was written may be older than it says
			l.registeredAt = min(l.registeredAt, u.Revision)
		}
		l.seen = u.Revision
	}
}

// converge brings the kernel and BGP to what the model says, in an order in
// which nothing is reachable before its policy is in force: settings,
// interfaces, policy, routes, and what is announced last. A part that fails is tried
// again, and does not keep the others from being brought up to date.
func (l *loop) converge() {
	if !l.inSync || l.seen == 0 || !l.model.ready() && !l.begun {
		l.publish()
		return
	}
	l.begun = true
	l.attempt("settings", l.applySettings)
	l.hostDue = l.hostDue || l.resyncLinks // forwarding may have been switched off
	l.attempt("kernel settings", l.configureHost)
	l.attempt("routing table", l.openRoutes)
	l.attempt("interface watch", l.openLinks)
	if l.routes == nil || l.links == nil {
		l.finish()
		return
	}
	if l.model.touchedPeering || l.resyncRoutes { // a default route may be another one
		l.reserve()
	}
	if l.model.touchedPeering {
		l.attempt("nat", l.applyNAT)
		l.linksDue = true
	}
	l.attempt("enslaved interfaces", l.applyEnslaved)
	l.attempt("neighbours", l.lookAtLinks)
	l.ifacesDue = l.ifacesDue || l.resyncLinks
	l.attempt("interface addresses", l.applyHostInterfaces)
	var changes policy.Changes
	l.timed("index", func() error { changes = l.model.index.Flush(); return nil })
	if l.model.touchedPeering || l.model.touchedWorkloads || l.failures["workload peers"] != nil {
		l.attempt("workload peers", l.applySpeakers)
	}
	l.attempt("floating IPs", func() error { return l.applyFloating(changes) })
	l.attempt("host processes", func() error { return l.noteProcesses(changes) })
	l.model.touchedOrigin = l.model.touchedOrigin || l.leaving()
	links := l.linksThenPolicy(changes)
	l.attempt("addresses of host processes", l.placeProcesses)
	l.attempt("routes", func() error { return l.applyRoutes(changes) })
	l.attempt("interfaces", func() error { return errors.Join(links, l.retireLinks()) })
	l.attempt("bgp", l.applyBGP)
	l.finish()
}

// linksThenPolicy prepares interfaces while the packet filter works out what it
// has to write, which it commits when they are done. The guard is told of bindings
// meanwhile: at a start the kernel takes longer for all the rules than that takes.
// It returns what went wrong with interfaces.
func (l *loop) linksThenPolicy(changes policy.Changes) (links error) {
	done, bound := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(bound)
		links = l.timed("interfaces", func() error { return l.applyLinks(changes) })
		close(done)
		l.timed("bindings", func() error { l.bind(); return nil })
	}()
	l.d.acl.CommitAfter(done)
	l.attempt("policy", func() error { return l.applyACL(changes) })
	l.d.acl.CommitAfter(nil)
	<-bound
	return links
}

// finish closes a round: what failed is tried again, and if nothing did, the
// newest revision is live.
func (l *loop) finish() {
	l.schedule()
	if l.settled() && l.model.ready() && l.inSync {
		l.live = l.seen
		l.noteCluster()
	}
	l.publish()
}

// settled tells whether nothing failed and nothing is left to compare.
func (l *loop) settled() bool {
	return len(l.failures) == 0 && l.routes != nil && l.links != nil && !l.resyncACL && !l.resyncRoutes && !l.resyncLinks
}

func (l *loop) attempt(part string, f func() error) {
	err := l.timed(part, f)
	if err == nil {
		delete(l.failures, part)
		return
	}
	if old := l.failures[part]; old == nil || old.Error() != err.Error() {
		l.d.log.Error("not applied; trying again", "part", part, "err", err)
	}
	l.failures[part] = err
	// What was to be done is known no more: compare everything next time.
	switch part {
	case "interfaces", "host processes":
		l.resyncLinks = true
	case "policy":
		l.resyncACL = true
	case "routes":
		l.resyncRoutes = true
	}
}

// timed runs f and says so if it took long enough to matter, so that where a
// start or a burst spends its time can be read from the log.
func (l *loop) timed(part string, f func() error) error {
	began := time.Now()
	err := f()
	if took := time.Since(began); took >= worthSaying {
		l.d.log.Debug("took a while", "part", part, "took", took, "since start", time.Since(l.d.started))
	}
	return err
}

func (l *loop) schedule() {
	switch {
	case l.settled():
		l.retry, l.retryAt = 0, nil
	case l.retryAt == nil: // what comes in between does not put the next try off
		l.retry = min(max(2*l.retry, retryMin), retryMax)
		l.retryAt = time.After(l.retry)
	}
}

// prepared takes the outcome of writing this node's objects. An unreadable or
// refused object is a problem; a datastore that does not answer is not one of
// any object, and the node is not live before it does. Nor is it before what
// was written, at rev, has come back and is in force.
func (l *loop) prepared(rev int64, err error) {
	l.problems["registration"] = nil
	l.addrsChanged.notify()
	if err != nil {
		l.problems["registration"] = []problem{{object: "Node " + l.d.cfg.Node, text: err.Error()}}
	}
	l.registeredAt = max(l.registeredAt, rev)
	l.registered = l.registered || err == nil || !errors.Is(err, store.ErrUnavailable)
	l.publish()
}
