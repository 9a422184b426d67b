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
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/filter"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// This page is the parts of a round: each brings one reconciler to what the
// model says, and all of them run in the loop.

// applySettings resolves the settings. What follows from them is done, and if
// need be tried again, by the parts that come after.
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
	problems = append(problems, more...)
	now := inForce{Prefixes: s.prefixes, Protocol: s.routeProtocol}
	if l.protocol != 0 {
		now.Protocol = int(l.protocol) // that of the routes in the kernel
	}
	uplinks, err := endpoint.Uplinks(l.ownAddrs())
	if err != nil {
		return err
	}
	var claims error
	s.prefixes, claims, err = goBy(l.d.cfg.StateDir, now, uplinks, l.d.cfg.InterfacePrefix != "", l.model.unreadSettings())
	if err != nil {
		problems = append(problems, problem{object: "state directory " + l.d.cfg.StateDir, text: err.Error()})
	}
	if claims != nil {
		problems = append(problems, problem{object: "FelixConfiguration", field: "spec.interfacePrefix", text: claims.Error()})
	}
	s.stack = s.openStack(l.model.cluster)
	l.problems["settings"] = problems
	if !l.settings.equal(s) {
		was := l.settings
		l.settings = s
		if err := l.setACLOptions(); err != nil {
			l.settings = was
			return err
		}
		l.model.index.AllowSources(s.anySource)
		l.resyncRoutes = l.resyncRoutes || was.floatingIPs != s.floatingIPs
		l.model.touchedOrigin, l.model.touchedPeering, l.hostDue = true, true, true
	}
	l.model.touchedSettings = false
	return nil
}

// aclOptions is what the packet filter does that does not come from policy.
func (l *loop) aclOptions() acl.Options {
	o := acl.Options{Prefixes: l.settings.prefixes, HostAction: acl.HostAccept, Speakers: l.speakers.interfaces(), SpeakerPort: l.speakers.port, Failsafes: l.settings.failsafes, NAT: l.nat}
	o.AllowVXLAN, o.AllowIPIP, o.VXLANPort = l.settings.allowVXLAN, l.settings.allowIPIP, uint16(l.settings.vxlanPort)
	o.AnySource, o.Floating = l.settings.anySource, l.floating()
	o.NAT.Address = l.settings.natAddress
	o.Enslaved = slices.Sorted(maps.Keys(l.enslaved))
	o.OpenStack, o.Processes, o.Leaving = l.settings.stack, l.processes.filter, l.processes.leaving
	o.LogPrefix, o.LogLimit, o.Denied = l.settings.logPrefix, l.settings.logLimit, l.settings.denied
	o.LogLimit.Burst = l.settings.logBurst
	if l.settings.hostAction == "Drop" {
		o.HostAction = acl.HostDrop
	}
	return o
}

// setACLOptions tells the packet filter.
func (l *loop) setACLOptions() error {
	o := l.aclOptions()
	if err := l.d.acl.SetOptions(o); err != nil {
		return err
	}
	l.optionsDue, l.aclSuspect = true, false
	l.denials.on.Store(o.Denied.Packets > 0)
	l.denials.changed.notify()
	return nil
}

// ownAddrs are this node's addresses, as its Node has them.
func (l *loop) ownAddrs() (own []netip.Addr) {
	if n := l.model.nodes[l.d.cfg.Node]; n != nil {
		v4, v6 := n.Addrs()
		for _, a := range []netip.Prefix{v4, v6} {
			if a.IsValid() {
				own = append(own, a.Addr())
			}
		}
	}
	return own
}

// configureHost makes this host a router. A kernel setting that cannot be
// written keeps nothing else from being programmed.
func (l *loop) configureHost() error {
	if !l.hostDue || !l.settings.forwarding {
		return nil
	}
	changed, err := endpoint.ConfigureHost(l.settings.prefixes)
	for _, c := range changed {
		l.d.log.Info("kernel setting changed", "sysctl", c)
	}
	l.hostDue = err != nil
	return err
}

// openRoutes opens the routing table, once: what marks a route as ours cannot
// change under way, or routes with the old mark would be nobody's.
func (l *loop) openRoutes() error {
	if l.routes != nil {
		return nil
	}
	protocol := uint8(l.settings.routeProtocol)
	t, err := openForwarding(route.Options{
		Log: l.d.log.With("part", "route"), Sources: []string{sourceLocal, sourceBGP}, Protocol: protocol,
		Workload: func(device string) bool { return isWorkload(l.settings.prefixes, device) },
	})
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
func (l *loop) openLinks() error {
	prefixes := l.settings.prefixes
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
	// Known before policy is in force; from then on Sync says so of each.
	if l.enslaved, err = links.Enslaved(); err != nil {
		l.d.log.Warn("not known yet which interfaces are in a bridge", "err", err)
		l.enslaved = map[string]bool{}
	}
	l.enslavedDue = true
	l.closeLinks()
	ctx, cancel := context.WithCancel(l.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx, l.linkChanged.add); err != nil {
			l.d.log.Error("interfaces are watched anew", "err", err)
			l.linksLost.notify()
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
	l.exportTo(nil)
	l.closeLinks()
	if l.stopRoutes != nil {
		l.stopRoutes()
	}
}

// applyLinks prepares the interfaces of live endpoints, and lists those that have
// none any more for retireLinks.
func (l *loop) applyLinks(ch policy.Changes) error {
	if l.resyncLinks {
		l.resyncLinks = false
		before := l.interfaces
		l.interfaces = map[policy.EndpointID]string{}
		wanted := map[string]bool{}
		for e := range l.model.index.Endpoints() {
			if e.Process {
				continue
			}
			l.interfaces[e.ID], wanted[e.Interface] = e.Interface, true
			l.links.Set(e.Interface, l.linkConfig(e))
		}
		for _, name := range before {
			if !wanted[name] {
				l.retired = append(l.retired, name)
			}
		}
		return errors.Join(l.syncLinks(maps.Keys(wanted)), l.links.Prune())
	}
	left := map[string]bool{}
	for id, e := range ch.Endpoints {
		if old := l.interfaces[id]; old != "" && (e == nil || e.Process || e.Interface != old) {
			delete(l.interfaces, id)
			left[old] = true
		}
	}
	var errs []error
	var names []string
	for id, e := range ch.Endpoints {
		if e == nil || e.Process {
			continue
		}
		if left[e.Interface] { // it changes hands
			delete(left, e.Interface)
			errs = append(errs, l.links.Remove(e.Interface))
		}
		l.interfaces[id] = e.Interface
		if l.links.Set(e.Interface, l.linkConfig(e)) {
			names = append(names, e.Interface)
		}
	}
	l.retired = slices.AppendSeq(l.retired, maps.Keys(left))
	return errors.Join(append(errs, l.syncLinks(slices.Values(names)))...)
}

// retireLinks takes what is ours off interfaces that no endpoint has any more. It
// comes after their routes: with an address the kernel may drop routes and say
// nothing, so that the table would have to be read to know.
func (l *loop) retireLinks() error {
	var errs []error
	for _, name := range l.retired {
		errs = append(errs, l.links.Remove(name))
	}
	l.retired = nil
	return errors.Join(errs...)
}

// few is up to how many interfaces are looked at one by one.
const few = 4

// syncLinks compares interfaces with the kernel. An interface that is refused
// is the endpoint's problem and shown as such; it keeps nobody from being live.
func (l *loop) syncLinks(names iter.Seq[string]) error {
	if l.links == nil {
		return nil
	}
	list := slices.Collect(names)
	if len(list) > few {
		defer l.links.Survey()()
	}
	var errs []error
	for _, name := range list {
		before := l.links.Status(name).State
		s := l.links.Sync(name)
		l.originDirty = l.originDirty || s.State != before
		l.noteEnslaved(name, s.Enslaved)
		if s.Err != nil && !errors.Is(s.Err, endpoint.ErrRefused) {
			errs = append(errs, s.Err)
		}
	}
	return errors.Join(errs...)
}

// noteEnslaved takes note whether an interface is a port of a bridge or the like. Interfaces
// are looked at beside the packet filter, which hears of it in a round of its own.
func (l *loop) noteEnslaved(name string, is bool) {
	if l.enslaved[name] == is {
		return
	}
	if is {
		l.enslaved[name] = true
	} else {
		delete(l.enslaved, name)
	}
	l.enslavedDue = true
	l.linkChanged.notify()
}

// applyEnslaved has the packet filter close them, and open what is none any more.
func (l *loop) applyEnslaved() error {
	if !l.enslavedDue {
		return nil
	}
	if err := l.setACLOptions(); err != nil {
		return err
	}
	l.enslavedDue = false
	return nil
}

func (l *loop) linkConfig(e *policy.Endpoint) endpoint.Config {
	return endpoint.Config{Addrs: e.Addrs, MAC: e.MAC, HasMAC: e.HasMAC, Host: l.speakers.hostAddrs(e.ID)}
}

func (l *loop) applyACL(ch policy.Changes) error {
	foreign := l.resyncACL && l.aclSuspect && l.live > 0 && ch.Empty()
	if foreign && !l.optionsDue && l.fight.rest(time.Now()) && !l.d.acl.Unchanged() {
		return errFight
	}
	if l.resyncACL || l.optionsDue || !ch.Empty() {
		defer l.policyChanged(ch)
	}
	if l.processes.unseen {
		return errors.New("it waits until lo can be read: the address of a process that is gone would be open")
	}
	optionsDue := l.optionsDue
	l.optionsDue = false // with an error everything is compared
	if l.resyncACL && ch.Empty() && l.d.acl.Unchanged() {
		l.resyncACL, l.aclSuspect = false, false
		return nil
	}
	if l.resyncACL {
		l.resyncACL, l.aclSuspect = false, false
		before, began := l.d.acl.Stats().Commits, time.Now()
		err := l.d.acl.Resync(l.model.index)
		if foreign && l.d.acl.Stats().Commits > before {
			l.fight.spent(time.Since(began), time.Now())
			l.repaired("policy")
		}
		return err
	}
	if ch.Empty() && !optionsDue {
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
	var wrong error
	if len(ch.Endpoints) > 0 || l.model.touchedOrigin {
		l.originDirty = true
	}
	if l.resyncRoutes || l.model.touchedOrigin {
		l.model.touchedOrigin = false
		// A wrong route is left out and named; the others count.
		wrong = l.routes.Replace(sourceLocal, l.allLocalRoutes())
		if err := l.routes.SetComplete(sourceLocal); err != nil {
			return err
		}
	} else if len(ch.Endpoints) > 0 {
		add, remove := l.localDifference(ch)
		wrong = l.routes.Update(sourceLocal, add, remove)
	}
	if l.resyncRoutes {
		l.resyncRoutes = false
		r, err := l.routes.Resync()
		l.countRepairs(r)
		l.tellNextHops()
		return errors.Join(wrong, err)
	}
	return errors.Join(wrong, l.programRoutes())
}

func (l *loop) programRoutes() error {
	r, err := l.routes.Apply()
	l.countRepairs(r)
	l.tellNextHops()
	l.tellLinks()
	return err
}

func (l *loop) countRepairs(r route.Result) {
	if r.Repaired > 0 {
		l.repairs["route"] += r.Repaired
		l.d.log.Warn("changed by somebody else; put back", "what", "route", "routes", r.Repaired)
	}
}

// tellNextHops tells BGP which of its next hops are reached, and how, as far as
// that is news.
func (l *loop) tellNextHops() {
	changes, again := l.routes.Reached()
	if len(changes) > 0 {
		states := make([]bgp.NextHop, len(changes))
		for i, c := range changes {
			states[i] = bgp.NextHop(c)
		}
		l.d.speaker.SetNextHops(states)
	}
	l.hopsAt = nil
	if again > 0 {
		l.hopsAt = time.After(again)
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
	// What may not be an endpoint's interface gets no route either: an object
	// must not divert an address to the uplink.
	// The addresses of a process are on this host itself.
	if e.Process || endpoint.Check(e.Interface, l.settings.prefixes, nil) != nil {
		return nil
	}
	for _, a := range l.reachedBy(e) {
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
	now := l.origin()
	l.left, l.problems["blocks"] = now.left, now.problems
	for _, b := range now.blackholes {
		list = append(list, route.Route{Prefix: b, Kind: route.Blackhole, Metric: l.metric(b.Addr())})
	}
	for _, r := range l.peeringInput().reachable() {
		r.Metric = l.metric(r.Prefix.Addr())
		list = append(list, r)
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

// elsewhere tells whether an endpoint of another node has an address.
func (l *loop) elsewhere(a netip.Addr) bool {
	return slices.ContainsFunc(l.model.index.NodesOf(a), func(n string) bool { return n != l.d.cfg.Node })
}

// leftBlocks are the blocks of this node of which an address is elsewhere.
func (l *loop) leftBlocks() map[netip.Prefix]bool {
	left := map[netip.Prefix]bool{}
	for b := range l.model.blocks {
		l.model.index.ClaimedIn(b, func(a netip.Addr) { left[b] = left[b] || l.elsewhere(a) })
	}
	return left
}

// leaving tells whether one of these may not be what it was: an address of it went elsewhere, or one
// may have come back. That is known until bind has taken it.
func (l *loop) leaving() (yes bool) {
	for b := range l.model.blocks {
		l.model.index.ReboundIn(b, func(a netip.Addr) { yes = yes || l.left[b] || l.elsewhere(a) })
	}
	return yes
}

// origin computes what this node announces. An address whose interface does
// not exist or is down is not announced on its own: nothing here would take
// its packets.
func (l *loop) origin() origin {
	in := originInput{
		pools: l.model.pools, workloadIPs: l.settings.workloadIPs, infrastructure: l.infrastructure,
		blocks: slices.Collect(maps.Keys(l.model.blocks)), left: l.leftBlocks(),
	}
	in.metric4, in.metric6 = l.peeringInput().priorities()
	if c := l.model.bgp["default"]; c != nil {
		in.ignored = c.Spec.IgnoredInterfaces
	}
	if self := l.model.nodes[l.d.cfg.Node]; self != nil {
		set, _ := self.Settings() // errors are problems of the sessions
		in.own = slices.DeleteFunc(set.Announce, func(a netip.Addr) bool { return !endpoint.HasAddr(a) })
	}
	var local []netip.Addr
	for e := range l.model.index.Endpoints() {
		if l.linkStatus(e).State == endpoint.Ready {
			for _, a := range l.reachedBy(e) {
				in.addrs = append(in.addrs, localAddr{addr: a, iface: linkName(e)})
				local = append(local, a)
			}
		}
	}
	l.shared.look(local, l.elsewhere, time.Now())
	for i := range in.addrs {
		in.addrs[i].shared = l.shared.of(in.addrs[i].addr)
	}
	return originate(in)
}

// peeringInput is what the model says about sessions.
func (l *loop) peeringInput() *peeringInput {
	return &peeringInput{
		self: l.d.cfg.Node, nodes: l.model.nodes, peers: l.model.peers, filters: l.model.filters, pools: l.model.pools,
		configs: l.model.bgp, global: l.model.bgp["default"],
		metric4: l.settings.metric4, metric6: l.settings.metric6, guard: l.guard,
		prefixes: l.settings.prefixes, found: l.neighbours(),
		onLink: endpoint.OnLink, secret: l.d.secrets.read, workloads: l.workloads,
	}
}

// applyBGP tells the speaker its sessions and what this node announces.
func (l *loop) applyBGP() error {
	if l.model.touchedPeering {
		l.d.secrets.forget()
		cfg, watch, problems := peering(*l.peeringInput())
		l.watched = watch
		cfg.Own = l.hostAddrs()
		for _, a := range l.ownAddrs() {
			if !endpoint.HasAddr(a) {
				problems = append(problems, problem{object: "Node " + l.d.cfg.Node, field: "spec.bgp",
					text: fmt.Sprintf("%s is not an address of this host: give the right one with --ip or --ip6, or, if another server has the same name, start this one with its own --node", a)})
			}
		}
		var said v3.ConfigurationSettings
		if g := l.model.bgp["default"]; g != nil {
			said, _ = g.Settings()
		}
		if l.routes.ThroughDefault(said.ThroughDefault) {
			l.attempt("routes", l.programRoutes)
		}
		l.problems["bgp"] = problems
		if cfg.ASN != 0 {
			if err := l.d.speaker.SetConfig(cfg); err != nil {
				l.problems["bgp"] = append(l.problems["bgp"], problem{object: "BGP session", text: err.Error()})
			}
		}
		l.speakerConfig = cfg
		l.tellLinks()
		l.d.bgpLog.least.Set(bgpSeverity(l.model.bgp["default"], l.model.bgp["node."+l.d.cfg.Node]))
		l.exportTo(stations(l.model.bgp["default"], l.model.bgp["node."+l.d.cfg.Node]))
		if l.controlPlaneOnly = cfg.ControlPlaneOnly; l.controlPlaneOnly {
			l.attempt("routes", func() error {
				return errors.Join(l.routes.Replace(sourceBGP, nil), l.programRoutes())
			})
		}
		if out := outOfKernel(l.model.pools, l.model.bgp["default"], l.settings.clusterRoutes); !slices.Equal(out, l.outOfKernel) {
			l.outOfKernel = out
			l.d.speaker.Repeat()
		}
		l.model.touchedPeering = false
		l.bfdDue = true
	}
	l.applyBFD()
	if l.originDirty || !l.originsDone {
		now := l.origin()
		l.originDirty = false
		if add, remove := difference(l.announced, now.announce); len(add)+len(remove) > 0 {
			l.d.speaker.Originate(add, remove)
			l.announced = now.announce
		}
	}
	l.problems["reach"] = unreachable(l.d.cfg.Node, l.announced, l.speakerConfig)
	if !l.originsDone {
		l.originsDone = true
		l.d.speaker.OriginationsComplete()
	}
	return nil
}

// unreachable reports that there are endpoints of a family in which this node
// has no address of its own: other servers cannot have a next hop to them, unless
// it is an IPv6 one for IPv4 (RFC 8950). Neighbours on interfaces have one always.
func unreachable(node string, announce []bgp.Origination, cfg bgp.Config) (problems []problem) {
	onLinks := cfg.PeersUnknown || slices.ContainsFunc(cfg.Peers, func(p bgp.PeerConfig) bool { return p.Addr.Addr().Zone() != "" })
	for _, f := range []struct {
		is      func(netip.Addr) bool
		nextHop netip.Addr
		name    string
		field   string
		flag    string
	}{{netip.Addr.Is4, cfg.NextHop4, "IPv4", "spec.bgp.ipv4Address", "--ip"}, {netip.Addr.Is6, cfg.NextHop6, "IPv6", "spec.bgp.ipv6Address", "--ip6"}} {
		i := slices.IndexFunc(announce, func(o bgp.Origination) bool { return f.is(o.Prefix.Addr()) })
		if i >= 0 && !f.nextHop.IsValid() && !cfg.NextHop6.IsValid() && !onLinks {
			problems = append(problems, problem{object: "Node " + node, field: f.field,
				text: fmt.Sprintf("is missing, so that %s endpoints here (%s) are reached from this server only: give this host an address on an uplink, name one with %s, or disable the %s pool", f.name, announce[i].Prefix, f.flag, f.name)})
		}
	}
	return problems
}

// learned takes best paths into the routing table. They are programmed at
// once, whatever else is going on: they come from peers, not from the model.
func (l *loop) learned(best []bgp.Best) {
	add := make([]route.Route, 0, len(best))
	var remove []netip.Prefix
	var via []netip.Addr
	var hops route.Hops // of via: routes come in runs
	for _, b := range best {
		if len(b.NextHops) == 0 || l.controlPlaneOnly || liesIn(l.outOfKernel, b.Prefix) {
			remove = append(remove, b.Prefix)
			continue
		}
		if !slices.Equal(b.NextHops, via) {
			via, hops = b.NextHops, route.HopsOf(b.NextHops...)
		}
		add = append(add, route.Route{Prefix: b.Prefix, Kind: route.Via, Hops: hops, Metric: learnedMetric(b.LocalPref)})
	}
	l.attempt("routes", func() error {
		if err := l.routes.Update(sourceBGP, add, remove); err != nil {
			return err
		}
		if err := l.programRoutes(); err != nil {
			return err
		}
		l.d.speaker.Waited(best, func(d time.Duration) { l.d.updateToKernel.Observe(d.Seconds()) })
		return nil
	})
	l.finish()
}

// learnedMetric turns LOCAL_PREF back into a metric, in Calico's scheme. A
// LOCAL_PREF outside it, such as the usual default of 100, gives a large one.
func learnedMetric(localPref uint32) uint32 {
	if localPref >= filter.MaxPriority {
		return 1
	}
	return filter.MaxPriority - localPref
}
