// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// The states of an endpoint, for people.
const (
	stateLive   = "live"
	stateNoLink = "no interface"
	stateDown   = "down"
	stateError  = "error"
)

// publish puts the small status on the board that others wait on; what costs
// more is gathered when somebody asks (fill).
func (l *loop) publish() {
	s := api.Status{
		Node: l.d.cfg.Node, PID: os.Getpid(), Version: l.d.cfg.Version, Started: l.d.started,
		SeenRevision: l.seen, LiveRevision: l.live,
		Datastore: api.Datastore{
			Endpoints: l.d.store.Endpoints(), Embedded: l.d.cfg.Embedded,
			Connected: l.connected, InSync: l.inSync, Ready: l.model.ready(), Error: l.datastoreErr, Held: l.heldText,
		},
	}
	if at := l.heldSince; !at.IsZero() {
		s.Datastore.SavedAt = &at
	}
	missing := func(format string, args ...any) { s.Missing = append(s.Missing, fmt.Sprintf(format, args...)) }
	switch {
	case !l.heldSince.IsZero():
		missing("the datastore, which has not answered since this daemon started; what it held on %s is in force", l.heldSince.Format(time.RFC3339))
	case l.datastoreErr != "":
		missing("the datastore: %s", l.datastoreErr)
	case !l.inSync || l.seen == 0:
		missing("the datastore's first listing")
	case !l.registered:
		missing("the objects of this node in the datastore")
	case l.live < l.registeredAt && l.model.ready():
		missing("this node's own objects: they were written at revision %d, and %d is in the kernel", l.registeredAt, l.live)
	case l.model.cluster == nil:
		missing("ClusterInformation default: it does not exist, so the datastore is not ready")
	case !l.model.ready():
		missing("ClusterInformation default: spec.datastoreReady is not true, so nothing new is programmed")
	case l.heldText != "":
		missing("what the datastore lists now: %s", l.heldText)
	case !l.connected:
		missing("the connection to the datastore; what is enforced stays")
	}
	for _, part := range slices.Sorted(maps.Keys(l.failures)) {
		missing("%s: %v", part, l.failures[part])
	}
	s.Live = len(s.Missing) == 0 && l.live == l.seen
	l.d.board.publish(s)
	l.problemLog.due(time.Now(), l.inSync)
}

// fill adds what only a person wants to know. It runs in the loop.
func (l *loop) fill(s *api.Status) {
	if n := l.model.nodes[l.d.cfg.Node]; n != nil {
		v4, v6 := n.Addrs()
		for _, a := range []netip.Prefix{v4, v6} {
			if a.IsValid() {
				s.Addresses = append(s.Addresses, a.String())
			}
		}
	}
	s.ASN = l.speakerConfig.ASN
	s.Counts = map[string]int{"nodes": len(l.model.nodes), "routes": l.installed(), "peers": len(l.speakerConfig.Peers), "blocks": len(l.model.blocks)}
	for e := range l.model.index.Endpoints() {
		s.Counts["endpoints"]++
		if st := l.endpointState(e); st.State != stateLive {
			s.Pending = append(s.Pending, e.ID.String()+" ("+linkName(e)+"): "+st.State)
		}
	}
	s.Counts["policies"] = countPolicies(l.model.index)
	slices.Sort(s.Pending)
	s.TablesOwned = l.d.tablesOwned
	s.Repairs = maps.Clone(l.repairs)
	s.Problems = l.allProblems()
}

// countPolicies leaves out what applies like a policy and is none, a profile.
func countPolicies(x *policy.Index) (n int) {
	for p := range x.Policies() {
		if p.Key.Kind != "Profile" {
			n++
		}
	}
	return n
}

// allProblems gathers every object in error from those who know.
func (l *loop) allProblems() (list []api.Problem) {
	for _, p := range append(slices.Collect(l.model.index.Problems()), l.model.index.Homeless(l.model.hasNode)...) {
		name := p.Key.Name
		if p.Key.Namespace != "" {
			name = p.Key.Namespace + "/" + name
		}
		shown := problemOf(p.Key.Kind+" "+name, p.Field, p.Err)
		list = append(list, api.Problem{Object: shown.object, Field: shown.field, Text: shown.text})
	}
	list = append(list, l.floatingProblems()...)
	list = append(list, l.enslavedProblems()...)
	for _, part := range slices.Sorted(maps.Keys(l.problems)) {
		for _, p := range l.problems[part] {
			list = append(list, api.Problem{Object: p.object, Field: p.field, Text: p.text})
		}
	}
	if p := l.d.etcd; p != nil {
		if err := p.Err(); err != nil {
			list = append(list, api.Problem{Object: "the datastore", Text: err.Error() + "; it is started again, and what is enforced stays"})
		}
	}
	if l.d.cfg.OwnTables && !l.d.tablesOwned {
		list = append(list, api.Problem{Object: "--own-tables", Text: "this kernel lacks owners of tables that stay (Linux 6.9 or later has them): what others change is repaired"})
	}
	for _, p := range l.d.bfd.problems() {
		list = append(list, api.Problem{Object: p.object, Text: p.text})
	}
	if l.routes != nil && l.settings.routeProtocol != int(l.protocol) {
		list = append(list, api.Problem{Object: "FelixConfiguration", Field: "spec.deviceRouteProtocol",
			Text: fmt.Sprintf("%d takes effect when this daemon is started again; routes carry %d", l.settings.routeProtocol, l.protocol)})
	}
	for _, key := range slices.Sorted(maps.Keys(l.model.bad)) {
		p := l.model.bad[key]
		list = append(list, api.Problem{Object: p.object, Field: p.field, Text: p.text})
	}
	for _, p := range l.d.acl.Problems() {
		list = append(list, api.Problem{Object: p.Object, Text: p.Err.Error()})
	}
	if l.routes == nil {
		return list
	}
	for _, p := range l.routes.Problems() {
		if p.State != route.Pending { // an interface that is not there is listed with its endpoint
			list = append(list, api.Problem{Object: "route " + p.Prefix.String(), Text: p.Detail})
		}
	}
	return list
}

// enslavedProblems are the endpoints whose interface is closed because it is in a bridge.
func (l *loop) enslavedProblems() (list []api.Problem) {
	if len(l.enslaved) == 0 {
		return nil
	}
	for e := range l.model.index.Endpoints() {
		if !e.Process && l.enslaved[e.Interface] {
			list = append(list, api.Problem{Object: "WorkloadEndpoint " + e.ID.String(), Field: "spec.interfaceName",
				Text: fmt.Sprintf("%s is in a bridge or the like, which asks no policy: it is closed (from Linux 6.16 on) until it is taken out, by `ip link set %s nomaster`", e.Interface, e.Interface)})
		}
	}
	return list
}

// endpoint describes one local endpoint; nil if there is none. It runs in the
// loop, as all below that start with l.
func (l *loop) endpoint(namespace, name string) *api.Endpoint {
	for e := range l.model.index.Endpoints() {
		if e.ID == (policy.EndpointID{Namespace: namespace, Name: name}) {
			st := l.endpointState(e)
			return &st
		}
	}
	return nil
}

func (l *loop) endpointState(e *policy.Endpoint) api.Endpoint {
	out := api.Endpoint{Namespace: e.ID.Namespace, Name: e.ID.Name, Workload: e.ID.Name, Interface: linkName(e)}
	if spec, err := v3.ParseWorkloadEndpointName(e.ID.Name); err == nil {
		out.Workload = spec.Workload
		for _, other := range []string{spec.Pod, spec.ContainerID} {
			if out.Workload == "" {
				out.Workload = other
			}
		}
	}
	for _, a := range e.Addrs {
		out.Addresses = append(out.Addresses, a.String())
	}
	if e.HasMAC {
		m := e.MAC
		out.MAC = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
	}
	if e.Effective != nil {
		for _, p := range e.Effective.Profiles {
			out.Profiles = append(out.Profiles, p.Name)
		}
		for _, tiers := range e.Effective.Tiers {
			for _, t := range tiers {
				for _, p := range t.Policies {
					name := p.Name
					if p.Key.Namespace != "" {
						name = p.Key.Namespace + "/" + name
					}
					if !slices.Contains(out.Policies, name) {
						out.Policies = append(out.Policies, name)
					}
				}
			}
		}
	}
	if l.links == nil {
		out.State, out.Text = stateError, "interfaces are not looked at yet"
		return out
	}
	switch st := l.linkStatus(e); st.State {
	case endpoint.Ready:
		out.State, out.Text = stateLive, missingProfiles(l.model.index, e)
	case endpoint.Absent:
		out.State, out.Text = stateNoLink, e.Interface+" does not exist yet"
		if e.Process {
			out.State, out.Text = stateError, "its addresses are not on lo: `muslin status` says why"
		}
	case endpoint.Down:
		out.State = stateDown
	default:
		out.State = stateError
		if st.Err != nil {
			out.Text = st.Err.Error()
		}
	}
	return out
}

// missingProfiles says which profiles an endpoint names that do not exist: they deny.
func missingProfiles(x *policy.Index, e *policy.Endpoint) string {
	if e.Effective == nil {
		return ""
	}
	var names []string
	for _, p := range e.Effective.Profiles {
		if !x.InForce(policy.Key{Kind: "Profile", Name: p.Name}) {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "profile " + strings.Join(names, ", ") + " does not exist: what no policy allows is denied"
}

func (d *Daemon) getEndpoints(r *http.Request) (any, error) {
	list := []api.Endpoint{}
	d.loop.call(r.Context(), func() {
		for e := range d.loop.model.index.Endpoints() {
			list = append(list, d.loop.endpointState(e))
		}
	})
	slices.SortFunc(list, func(a, b api.Endpoint) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	hits, err := spoofed()
	countSpoofed(list, hits, err)
	return list, nil
}

// countSpoofed says what came from each interface under the names of others, or why
// that is not known: the rest of the answer does not depend on it.
func countSpoofed(list []api.Endpoint, hits map[string]acl.Hits, err error) {
	for i := range list {
		list[i].Spoofed = hits[list[i].Interface].Packets
		if err != nil {
			list[i].Spoofed, list[i].SpoofedUnknown = 0, err.Error()
		}
	}
}

func (d *Daemon) getPeers(r *http.Request) (any, error) {
	out := api.Peers{Node: d.cfg.Node, Peers: []api.Peer{}}
	d.loop.call(r.Context(), func() {
		out.ASN = d.loop.speakerConfig.ASN
		out.Peers = append(out.Peers, d.loop.peeringInput().waiting()...)
	})
	paths := d.bfd.client.Report()
	for _, p := range d.speaker.Peers() {
		out.Peers = append(out.Peers, api.Peer{PeerStatus: p, Interface: p.Addr.Addr().Zone(), BFD: pathOf(paths, p.Addr.Addr())})
	}
	return out, nil
}

func (d *Daemon) getBGPRoutes(r *http.Request) (any, error) {
	q := r.URL.Query()
	f := bgp.RouteFilter{}
	var err error
	if s := q.Get("peer"); s != "" {
		if f.Peer, err = d.peerAddr(r.Context(), s); err != nil {
			return nil, err
		}
	}
	if s := q.Get("prefix"); s != "" {
		if f.Prefix, err = v3.ParseNetwork(s); err != nil {
			return nil, fmt.Errorf("prefix: %w", err)
		}
	}
	f.Exact = q.Get("exact") != ""
	if s := q.Get("limit"); s != "" {
		if f.Limit, err = strconv.Atoi(s); err != nil || f.Limit < 0 {
			return nil, fmt.Errorf("limit %q: want a number", s)
		}
	}
	switch v := q.Get("view"); v {
	case "", "received":
	case "accepted":
		f.View = bgp.ViewAccepted
	case "best":
		f.View = bgp.ViewBest
	case "advertised":
		f.View = bgp.ViewAdvertised
	case "rejected":
		f.View = bgp.ViewRejected
	default:
		return nil, fmt.Errorf("view %q: want received, accepted, best, advertised or rejected", v)
	}
	var out api.BGPRoutes
	var v4, v6 int
	if q.Get("count") != "" {
		v4, v6 = d.speaker.Count(f)
	} else {
		for _, i := range d.speaker.Routes(f) {
			if i.Prefix.Addr().Is4() {
				v4++
			} else {
				v6++
			}
			out.Routes = append(out.Routes, bgpRoute(i))
		}
	}
	out.Count, out.Counts = v4+v6, map[string]int{"ipv4": v4, "ipv6": v6}
	return out, nil
}

// peerAddr reads the address of a session, or finds it by its name.
func (d *Daemon) peerAddr(ctx context.Context, s string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a, nil
	}
	var names []string
	for _, p := range d.speaker.Peers() {
		if p.Name == s || p.Addr.Addr().Zone() == s {
			return p.Addr.Addr(), nil
		}
		names = append(names, p.Name)
	}
	var waiting []api.Peer
	d.loop.call(ctx, func() { waiting = d.loop.peeringInput().waiting() })
	for _, p := range waiting {
		if p.Name == s {
			return netip.Addr{}, fmt.Errorf("peer %q: nobody was found on %s yet: %s", s, p.Interface, p.LastError)
		}
	}
	if len(names) == 0 {
		return netip.Addr{}, fmt.Errorf("peer %q: %w: this server has no peers", s, errNotFound)
	}
	return netip.Addr{}, fmt.Errorf("peer %q: %w; there are: %s", s, errNotFound, strings.Join(names, ", "))
}

func bgpRoute(i bgp.RouteInfo) api.BGPRoute {
	out := api.BGPRoute{
		Prefix: i.Prefix.String(), Peer: i.PeerName, ASPath: i.ASPath, LocalPref: i.LocalPref, MED: i.MED,
		Best: i.Best, Equal: i.Multipath && !i.Best, Stale: i.Stale, Origin: [...]string{"igp", "egp", "incomplete"}[min(i.Origin, 2)],
	}
	if i.NextHop.IsValid() {
		out.NextHop = i.NextHop.String()
	}
	if i.HasOTC {
		out.OTC = &i.OTC
	}
	if i.Refused != bgp.Accepted {
		out.Refused, out.Reason = i.Refused.String(), i.Reason
	}
	for _, c := range i.Communities {
		out.Communities = append(out.Communities, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
	}
	for _, c := range i.Large {
		out.Communities = append(out.Communities, fmt.Sprintf("%d:%d:%d", c[0], c[1], c[2]))
	}
	for _, c := range i.Extended {
		out.Communities = append(out.Communities, v3.AnyCommunity{Extended: c}.String())
	}
	return out
}

func (d *Daemon) getRoutes(r *http.Request) (any, error) {
	list := []api.Route{}
	d.loop.call(r.Context(), func() {
		if d.loop.routes == nil {
			return
		}
		for _, e := range d.loop.routes.List() {
			list = append(list, shownRoute(e))
		}
	})
	return list, nil
}

func shownRoute(e route.Status) api.Route {
	out := api.Route{Prefix: e.Prefix.String(), Device: e.Device, Metric: int(e.Metric), State: string(e.State), Text: e.Detail}
	switch e.Kind {
	case route.Link:
		out.Kind = "endpoint"
	case route.Blackhole:
		out.Kind = "blackhole"
	default:
		out.Kind = "bgp"
		for _, a := range e.Hops.Addrs() {
			out.NextHops = append(out.NextHops, a.String())
		}
	}
	return out
}

// getACL answers with the desired ruleset in its canonical text.
func (d *Daemon) getACL(r *http.Request) (any, error) {
	var text string
	d.loop.call(r.Context(), func() { text = filterText(d.acl, d.loop.model.index) })
	return map[string]string{"text": text}, nil
}

// installed is the number of our routes that the kernel has.
func (l *loop) installed() int {
	if l.routes == nil {
		return 0
	}
	return l.routes.Count().Installed
}
