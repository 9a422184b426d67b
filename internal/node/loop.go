// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
	"github.com/muslin-net/muslin/internal/store"
)

const (
	// resyncEvery is how often everything is compared with the kernel although
	// nothing called for it.
	resyncEvery = 60 * time.Second
	retryMin    = 100 * time.Millisecond
	retryMax    = 5 * time.Second
)

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

	updates chan store.Update
	taken   chan struct{} // answers each update once it is in force
	calls   chan func()

	aclChanged, routeChanged signal
	linkChanged              changedLinks
	best                     chan []bgp.Best
	converged                <-chan struct{} // BGP has learned all there is, once

	model    *model
	held     map[string]store.Change // what arrived while the datastore is not ready
	settings settings
	problems map[string][]problem // by part

	seen, live   int64
	inSync       bool
	connected    bool
	heldText     string
	datastoreErr string

	// What has to be compared with the kernel as a whole, and why the last
	// attempt failed.
	resyncACL, resyncRoutes, resyncLinks bool
	// aclSuspect: if the comparison finds a difference, somebody else made it.
	aclSuspect bool
	failures   map[string]error
	retry      time.Duration
	retryAt    <-chan time.Time

	ctx          context.Context
	routes       *route.Table    // nil until settings are known, as links
	links        *endpoint.Links // nil until settings are known
	linkPrefixes []string
	stopLinks    func()
	protocol     uint8 // of routes
	stopRoutes   func()
	interfaces   map[policy.EndpointID]string
	originDirty  bool

	byEndpoint    map[policy.EndpointID][]route.Route // what each endpoint has in the table
	speakerConfig bgp.Config
	announced     []bgp.Origination
	originsDone   bool
	repairs       map[string]int
}

func newLoop(d *Daemon) *loop {
	l := &loop{
		d:       d,
		updates: make(chan store.Update), taken: make(chan struct{}), calls: make(chan func()),
		aclChanged: make(signal, 1), routeChanged: make(signal, 1),
		linkChanged: changedLinks{signal: make(signal, 1)},
		best:        make(chan []bgp.Best),
		converged:   d.speaker.Converged(),
		model:       newModel(d.cfg.Node, policy.NewIndex(d.cfg.Node)),
		held:        map[string]store.Change{}, problems: map[string][]problem{}, failures: map[string]error{},
		resyncACL: true, resyncRoutes: true, resyncLinks: true,
		byEndpoint: map[policy.EndpointID][]route.Route{}, repairs: map[string]int{},
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
		select {
		case <-ctx.Done():
			return nil
		case u := <-l.updates:
			l.take(u)
			l.converge()
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
		case b := <-l.learnable():
			l.learned(b)
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
		case <-l.retryAt:
			l.retryAt = nil
			l.converge()
		}
	}
}

// learnable and convergence are the speaker's news, once there is a routing
// table to put them into.
func (l *loop) learnable() <-chan []bgp.Best {
	if l.routes == nil {
		return nil
	}
	return l.best
}

func (l *loop) convergence() <-chan struct{} {
	if l.routes == nil {
		return nil
	}
	return l.converged
}

// take takes an update into the model. While the datastore says that it is not
// ready, changes are set aside, so that repairs restore what is enforced.
func (l *loop) take(u store.Update) {
	l.connected, l.heldText = u.Connected, u.Held
	for _, c := range u.Changes {
		switch {
		case c.Kind == "ClusterInformation":
			l.model.apply(c)
		case c.Kind != store.KindBlock && c.Kind != store.KindIPAMConfig: // those are the allocator's
			l.held[c.Key] = c
		}
	}
	if l.model.ready() {
		for _, c := range l.held {
			l.model.apply(c)
		}
		clear(l.held)
	}
	l.inSync = u.InSync
	if u.Revision != 0 {
		l.seen = u.Revision
	}
}

// converge brings the kernel and BGP to what the model says, in an order in
// which nothing is open before its policy is in force: settings, interfaces,
// routes, policy, and what is announced last. A part that fails is tried
// again, and does not keep the others from being brought up to date.
func (l *loop) converge() {
	if !l.inSync || l.seen == 0 || l.model.cluster == nil || (!l.model.ready() && l.live == 0) {
		l.publish()
		return
	}
	l.attempt("settings", l.applySettings)
	if l.links == nil {
		l.finish()
		return
	}
	changes := l.model.index.Flush()
	l.attempt("interfaces", func() error { return l.applyLinks(changes) })
	l.attempt("policy", func() error { return l.applyACL(changes) })
	l.attempt("routes", func() error { return l.applyRoutes(changes) })
	l.attempt("bgp", l.applyBGP)
	l.finish()
}

// finish closes a round: what failed is tried again, and if nothing did, the
// newest revision is live.
func (l *loop) finish() {
	l.schedule()
	if l.settled() && l.model.ready() && l.inSync {
		l.live = l.seen
	}
	l.publish()
}

// settled tells whether nothing failed and nothing is left to compare.
func (l *loop) settled() bool {
	return len(l.failures) == 0 && l.links != nil && !l.resyncACL && !l.resyncRoutes && !l.resyncLinks
}

func (l *loop) attempt(part string, f func() error) {
	err := f()
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
	case "interfaces":
		l.resyncLinks = true
	case "policy":
		l.resyncACL = true
	case "routes":
		l.resyncRoutes = true
	}
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

func (l *loop) applySettings() error {
	if !l.model.touchedSettings {
		return nil
	}
	file, err := readFelixFile(l.d.cfg.FelixFile)
	var problems []problem
	if err != nil {
		problems = append(problems, problem{object: l.d.cfg.FelixFile, text: err.Error()})
	}
	src := felixSources{environ: os.Environ(), file: file, configs: l.model.felix, node: l.d.cfg.Node}
	if n := l.model.nodes[l.d.cfg.Node]; n != nil {
		src.labels = n.Metadata.Labels
	}
	s, more := resolve(map[string]string{"interfacePrefix": l.d.cfg.InterfacePrefix}, src)
	if l.d.cfg.InterfacePrefix == "" {
		if s.prefixes, err = rememberPrefixes(l.d.cfg.StateDir, s.prefixes, l.model.unreadSettings()); err != nil {
			problems = append(problems, problem{object: "state directory " + l.d.cfg.StateDir, text: err.Error()})
		}
	}
	l.problems["settings"] = append(problems, more...)
	l.model.touchedSettings = false
	if l.settings.equal(s) {
		return nil
	}
	l.settings = s
	l.model.touchedOrigin = true
	action := acl.HostDrop
	if s.hostAction != "Drop" {
		action = acl.HostAccept
	}
	if err := l.d.acl.SetOptions(acl.Options{Prefixes: s.prefixes, HostAction: action}); err != nil {
		return err
	}
	l.resyncACL, l.aclSuspect = true, false
	if s.forwarding {
		changed, err := endpoint.ConfigureHost(s.prefixes)
		if err != nil {
			return err
		}
		for _, c := range changed {
			l.d.log.Info("kernel setting changed", "sysctl", c)
		}
	}
	if err := l.openRoutes(uint8(s.routeProtocol)); err != nil {
		return err
	}
	return l.openLinks(s.prefixes)
}

// openRoutes opens the routing table. What marks a route as ours cannot change
// under way: routes with the old mark would be nobody's.
func (l *loop) openRoutes(protocol uint8) error {
	if l.routes != nil {
		if protocol != l.protocol {
			l.problems["settings"] = append(l.problems["settings"], problem{object: "FelixConfiguration", field: "deviceRouteProtocol",
				text: fmt.Sprintf("%d takes effect when this daemon is started again", protocol)})
		}
		return nil
	}
	t, err := route.Open(route.Options{Log: l.d.log.With("part", "route"), Sources: []string{sourceLocal, sourceBGP}, Protocol: protocol})
	if err != nil {
		return err
	}
	l.routes, l.protocol = t, protocol
	ctx, cancel := context.WithCancel(l.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := t.Watch(ctx, l.routeChanged.notify); err != nil {
			l.d.log.Error("routes are compared by the timer alone", "err", err)
		}
	}()
	l.stopRoutes = func() { cancel(); <-done; t.Close() }
	return nil
}

// openLinks opens the interfaces for the prefixes in force, again when those
// change: what their names start with decides which may be touched at all.
func (l *loop) openLinks(prefixes []string) error {
	if l.links != nil && slices.Equal(l.linkPrefixes, prefixes) {
		return nil
	}
	links, err := endpoint.Open(endpoint.Options{Log: l.d.log.With("part", "endpoint"), Prefixes: prefixes})
	if err != nil {
		return err
	}
	w, err := links.Watch()
	if err != nil {
		links.Close()
		return err
	}
	l.closeLinks()
	ctx, cancel := context.WithCancel(l.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx, l.linkChanged.add); err != nil {
			l.d.log.Error("interfaces are compared by the timer alone", "err", err)
		}
	}()
	l.stopLinks = func() { cancel(); <-done; links.Close() }
	l.links, l.linkPrefixes, l.resyncLinks = links, slices.Clone(prefixes), true
	return nil
}

func (l *loop) closeLinks() {
	if l.stopLinks != nil {
		l.stopLinks()
	}
}

func (l *loop) close() {
	l.closeLinks()
	if l.stopRoutes != nil {
		l.stopRoutes()
	}
}

// applyLinks prepares the interfaces of live endpoints.
func (l *loop) applyLinks(ch policy.Changes) error {
	if l.resyncLinks {
		l.resyncLinks = false
		before := l.interfaces
		l.interfaces = map[policy.EndpointID]string{}
		wanted := map[string]bool{}
		for e := range l.model.index.Endpoints() {
			l.interfaces[e.ID], wanted[e.Interface] = e.Interface, true
			l.links.Set(e.Interface, linkConfig(e))
		}
		var errs []error
		for _, name := range before {
			if !wanted[name] {
				errs = append(errs, l.links.Remove(name))
			}
		}
		return errors.Join(append(errs, l.syncLinks(maps.Keys(wanted)), l.links.Prune())...)
	}
	var errs []error
	var names []string
	// What goes goes first: an interface may change hands in one transaction.
	for id, e := range ch.Endpoints {
		if old := l.interfaces[id]; old != "" && (e == nil || e.Interface != old) {
			delete(l.interfaces, id)
			errs = append(errs, l.links.Remove(old))
		}
	}
	for id, e := range ch.Endpoints {
		if e != nil {
			l.interfaces[id] = e.Interface
			if l.links.Set(e.Interface, linkConfig(e)) {
				names = append(names, e.Interface)
			}
		}
	}
	return errors.Join(append(errs, l.syncLinks(slices.Values(names)))...)
}

// syncLinks compares interfaces with the kernel. An interface that is refused
// is the endpoint's problem and shown as such; it keeps nobody from being live.
func (l *loop) syncLinks(names iter.Seq[string]) error {
	if l.links == nil {
		return nil
	}
	var errs []error
	for name := range names {
		before := l.links.Status(name).State
		s := l.links.Sync(name)
		l.originDirty = l.originDirty || s.State != before
		if s.Err != nil && !errors.Is(s.Err, endpoint.ErrRefused) {
			errs = append(errs, s.Err)
		}
	}
	return errors.Join(errs...)
}

func linkConfig(e *policy.Endpoint) endpoint.Config {
	return endpoint.Config{Addrs: e.Addrs, MAC: e.MAC, HasMAC: e.HasMAC}
}

func (l *loop) applyACL(ch policy.Changes) error {
	if l.resyncACL {
		suspect := l.aclSuspect
		l.resyncACL, l.aclSuspect = false, false
		before := l.d.acl.Stats().Commits
		err := l.d.acl.Resync(l.model.index)
		if suspect && l.live > 0 && ch.Empty() && l.d.acl.Stats().Commits > before {
			l.repaired("policy")
		}
		return err
	}
	if ch.Empty() {
		return nil
	}
	return l.d.acl.Apply(l.model.index, ch)
}

// repaired counts and logs that somebody else's change was undone.
func (l *loop) repaired(what string) {
	l.repairs[what]++
	l.d.log.Warn("changed by somebody else; put back", "what", what)
}

// applyRoutes hands the local routes to the table, those that the change
// touches or all of them, and lets the table program what differs.
func (l *loop) applyRoutes(ch policy.Changes) error {
	if len(ch.Endpoints) > 0 || l.model.touchedOrigin {
		l.originDirty = true
	}
	if l.resyncRoutes || l.model.touchedOrigin {
		l.model.touchedOrigin = false
		if err := l.routes.Replace(sourceLocal, l.allLocalRoutes()); err != nil {
			return err
		}
		if err := l.routes.SetComplete(sourceLocal); err != nil {
			return err
		}
	} else if len(ch.Endpoints) > 0 {
		add, remove := l.localDifference(ch)
		if err := l.routes.Update(sourceLocal, add, remove); err != nil {
			return err
		}
	}
	if l.resyncRoutes {
		l.resyncRoutes = false
		r, err := l.routes.Resync()
		l.countRepairs(r)
		return err
	}
	return l.programRoutes()
}

func (l *loop) programRoutes() error {
	r, err := l.routes.Apply()
	l.countRepairs(r)
	return err
}

func (l *loop) countRepairs(r route.Result) {
	for range r.Repaired {
		l.repaired("route")
	}
}

// metric is that of our routes of a family.
func (l *loop) metric(a netip.Addr) uint32 {
	if a.Is6() {
		return uint32(l.settings.metric6)
	}
	return uint32(l.settings.metric4)
}

// endpointRoutes are the routes to an endpoint. An interface that nobody
// polices gets none: nothing may be reachable there past its policy.
func (l *loop) endpointRoutes(e *policy.Endpoint) (list []route.Route) {
	if !l.settings.isWorkload(e.Interface) {
		return nil
	}
	for _, a := range e.Addrs {
		list = append(list, route.Route{Prefix: netip.PrefixFrom(a, a.BitLen()), Kind: route.Link, Device: e.Interface, Metric: l.metric(a)})
	}
	return list
}

// allLocalRoutes is every endpoint and every blackhole, and what remembers
// them for the next difference.
func (l *loop) allLocalRoutes() (list []route.Route) {
	l.byEndpoint = map[policy.EndpointID][]route.Route{}
	for e := range l.model.index.Endpoints() {
		l.byEndpoint[e.ID] = l.endpointRoutes(e)
		list = append(list, l.byEndpoint[e.ID]...)
	}
	for _, b := range l.origin().blackholes {
		list = append(list, route.Route{Prefix: b, Kind: route.Blackhole, Metric: l.metric(b.Addr())})
	}
	return list
}

func (l *loop) localDifference(ch policy.Changes) (add []route.Route, remove []netip.Prefix) {
	for id, e := range ch.Endpoints {
		for _, r := range l.byEndpoint[id] {
			remove = append(remove, r.Prefix)
		}
		delete(l.byEndpoint, id)
		if e != nil {
			l.byEndpoint[id] = l.endpointRoutes(e)
			add = append(add, l.byEndpoint[id]...)
		}
	}
	// An address that changes hands is replaced, not removed.
	stays := map[netip.Prefix]bool{}
	for _, r := range add {
		stays[r.Prefix] = true
	}
	return add, slices.DeleteFunc(remove, func(p netip.Prefix) bool { return stays[p] })
}

// origin computes what this node announces. An address whose interface does
// not exist or is down is not announced on its own: nothing here would take
// its packets.
func (l *loop) origin() origin {
	in := originInput{
		pools: l.model.pools, workloadIPs: l.settings.workloadIPs,
		metric4: l.settings.metric4, metric6: l.settings.metric6,
		blocks: slices.Collect(maps.Keys(l.model.blocks)),
	}
	for e := range l.model.index.Endpoints() {
		if l.links.Status(e.Interface).State == endpoint.Ready {
			in.addrs = append(in.addrs, e.Addrs...)
		}
	}
	return originate(in)
}

// applyBGP tells the speaker its sessions and what this node announces.
func (l *loop) applyBGP() error {
	if l.model.touchedPeering {
		cfg, problems := peering(peeringInput{
			self: l.d.cfg.Node, nodes: l.model.nodes, peers: l.model.peers, pools: l.model.pools,
			global: l.model.bgp["default"], perNode: l.model.bgp["node."+l.d.cfg.Node],
		})
		l.problems["bgp"] = problems
		if cfg.ASN != 0 {
			if err := l.d.speaker.SetConfig(cfg); err != nil {
				l.problems["bgp"] = append(l.problems["bgp"], problem{object: "BGP session", text: err.Error()})
			}
		}
		l.speakerConfig = cfg
		l.model.touchedPeering = false
	}
	if !l.originDirty && l.originsDone {
		return nil
	}
	now := l.origin()
	l.originDirty = false
	if add, remove := difference(l.announced, now.announce); len(add)+len(remove) > 0 {
		l.d.speaker.Originate(add, remove)
		l.announced = now.announce
	}
	if !l.originsDone {
		l.originsDone = true
		l.d.speaker.OriginationsComplete()
	}
	return nil
}

// learned takes best paths into the routing table. They are programmed at
// once, whatever else is going on: they come from peers, not from the model.
func (l *loop) learned(best []bgp.Best) {
	var add []route.Route
	var remove []netip.Prefix
	for _, b := range best {
		if len(b.NextHops) == 0 {
			remove = append(remove, b.Prefix)
			continue
		}
		add = append(add, route.Route{Prefix: b.Prefix, Kind: route.Via, Hops: route.HopsOf(b.NextHops...), Metric: learnedMetric(b.LocalPref)})
	}
	l.attempt("routes", func() error {
		if err := l.routes.Update(sourceBGP, add, remove); err != nil {
			return err
		}
		return l.programRoutes()
	})
	l.finish()
}

// learnedMetric turns LOCAL_PREF back into a metric, in Calico's scheme. A
// LOCAL_PREF outside it, such as the usual default of 100, gives a large one.
func learnedMetric(localPref uint32) uint32 {
	if localPref >= maxPriority {
		return 1
	}
	return maxPriority - localPref
}
