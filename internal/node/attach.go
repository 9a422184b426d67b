// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
	"github.com/muslin-net/muslin/selector"
)

// orchestrator is what endpoints attached by hand have in spec.orchestrator.
const orchestrator = "muslin"

// keyed is a lock for each key, for as long as somebody holds or wants it. The
// zero value is ready.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*counted
}

type counted struct {
	sync.Mutex
	users int // guarded by keyed.mu
}

func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*counted{}
	}
	c := k.locks[key]
	if c == nil {
		c = &counted{}
		k.locks[key] = c
	}
	c.users++
	k.mu.Unlock()
	c.Lock()
	return func() {
		c.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if c.users--; c.users == 0 {
			delete(k.locks, key)
		}
	}
}

func (d *Daemon) postEndpoint(r *http.Request) (any, error) {
	var a api.Attach
	if err := decodeBody(r, &a); err != nil {
		return nil, err
	}
	timeout := 10 * time.Second
	if a.Timeout != "" {
		t, err := time.ParseDuration(a.Timeout)
		if err != nil || t <= 0 {
			return nil, fmt.Errorf("timeout %q: want a duration such as 10s", a.Timeout)
		}
		timeout = t
	}
	if a.Namespace == "" {
		a.Namespace = "default"
	}
	switch {
	case a.HostProcess && (a.NetNS != "" || a.Interface != "" || a.MTU != 0):
		return nil, errors.New("a process of the server has neither a network namespace nor an interface of its own: leave out --netns, --interface and --mtu")
	case a.HostProcess:
		a.Interface = policy.Loopback
	case a.Interface == "":
		a.Interface = "eth0"
	}
	if a.From != "" && len(a.IPs) == 0 {
		return nil, fmt.Errorf("--from %s: give the addresses that the endpoint has there with --ip", a.From)
	}
	if a.From == d.cfg.Node {
		return nil, fmt.Errorf("--from %s: that is this server: give the one that the endpoint leaves", a.From)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	defer d.attach.lock(a.Namespace + "/" + a.Name)()
	return d.attachEndpoint(ctx, &a)
}

// checkName says what can be no part of the name of a WorkloadEndpoint, which is made
// of node, orchestrator, workload and interface, and what would do instead.
func checkName(what, name string) error {
	if dnsName.MatchString(name) {
		return nil
	}
	err := fmt.Errorf("%s %q: want a–z, 0–9, '-' and '.', with a letter or digit at both ends and on both sides of a '.'", what, name)
	near := strings.Trim(notInName.ReplaceAllString(strings.ToLower(name), "-"), "-.")
	if dnsName.MatchString(near) {
		err = fmt.Errorf("%w: %s would do", err, near)
	}
	return err
}

var notInName = regexp.MustCompile(`[^a-z0-9.]+`)

// wanted is the WorkloadEndpoint that an attach asks for, without addresses.
func (d *Daemon) wanted(ctx context.Context, a *api.Attach) (*v3.WorkloadEndpoint, error) {
	err := errors.Join(checkName("name", a.Name), checkName("--namespace", a.Namespace), checkName("--interface", a.Interface))
	if err != nil {
		return nil, err
	}
	w := &v3.WorkloadEndpoint{}
	w.Kind, w.APIVersion = "WorkloadEndpoint", v3.APIVersion
	for name, is := range map[string]bool{"anycast": a.Anycast || a.From != "", "host-process": a.HostProcess} {
		if is {
			if w.Metadata.Annotations == nil {
				w.Metadata.Annotations = map[string]string{}
			}
			w.Metadata.Annotations[v3.AnnotationPrefix+name] = "Enabled"
		}
	}
	w.Metadata.Namespace = a.Namespace
	w.Metadata.Labels = map[string]string{}
	for k, v := range a.Labels {
		w.Metadata.Labels[k] = v
	}
	w.Spec = v3.WorkloadEndpointSpec{
		Orchestrator: orchestrator, Workload: a.Name, Node: d.cfg.Node, Endpoint: a.Interface,
		Profiles: a.Profiles, InterfaceName: endpoint.HostName(d.prefix(ctx), a.Namespace, a.Name, a.Interface),
	}
	name, err := v3.WorkloadEndpointName(w.Spec)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", a.Name, err)
	}
	w.Metadata.Name = name
	v3.Default(w)
	return w, nil
}

// prefix is what names of interfaces that we make start with.
func (d *Daemon) prefix(ctx context.Context) string {
	if d.cfg.InterfacePrefix != "" {
		return strings.Split(d.cfg.InterfacePrefix, ",")[0]
	}
	p := defaultPrefix
	d.loop.call(ctx, func() {
		if len(d.loop.settings.prefixes) > 0 {
			p = d.loop.settings.prefixes[0]
		}
	})
	return p
}

// attachEndpoint makes the interface, allocates addresses, writes the
// WorkloadEndpoint and waits until it is live. Asked again it completes what is
// missing; labels and profiles become those of the last call, addresses stay.
// If it fails nothing that it made remains.
func (d *Daemon) attachEndpoint(ctx context.Context, a *api.Attach) (_ *api.Attached, err error) {
	var ips []netip.Addr
	for _, s := range a.IPs {
		ip, err := v3.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("--ip %q: want an IPv4 or IPv6 address", s)
		}
		ips = append(ips, ip)
	}
	w, err := d.wanted(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := endpoint.CheckNamespace(a.NetNS); err != nil && !a.HostProcess {
		return nil, fmt.Errorf("--netns %w: give a name that `ip netns` lists, the path of a namespace file, or the id of a process in it", err)
	}
	old, err := d.getEndpoint(ctx, w.Metadata.Namespace, w.Metadata.Name)
	if err != nil {
		return nil, unread(a.Namespace, a.Name, err)
	}
	if old == nil {
		if err := d.clearLeft(ctx, w); err != nil {
			return nil, err
		}
	}
	had := a.HostProcess || endpoint.Exists(w.Spec.InterfaceName)
	var written *v3.WorkloadEndpoint
	live, from := false, "" // the handle that has its addresses still
	defer func() {
		if err != nil && !live {
			d.undo(w, old, written, had)
		}
	}()
	attach := func(addrs []netip.Addr) error {
		if a.HostProcess {
			return nil
		}
		_, err := endpoint.Attach(ctx, endpoint.Attachment{NetNS: a.NetNS, Host: w.Spec.InterfaceName, Alias: a.Namespace + "/" + a.Name, Inner: a.Interface, Addrs: addrs, MTU: a.MTU})
		return err
	}
	if old != nil {
		w.Spec.IPNetworks, w.Metadata.Annotations = old.Spec.IPNetworks, old.Metadata.Annotations
		have, err := addresses(old)
		if err != nil {
			return nil, err
		} else if len(ips) > 0 && !sameAddrs(have, ips) {
			return nil, fmt.Errorf("endpoint %s/%s is attached already with %v: detach it first to give it other addresses", a.Namespace, a.Name, have)
		}
		if a.From != "" { // called off, and back again; or it did not come to its end
			_, from, err = d.allocate(ctx, a, w, ips)
		}
		if err := errors.Join(err, attach(have)); err != nil {
			return nil, fmt.Errorf("endpoint %s/%s: %w", a.Namespace, a.Name, err)
		}
	} else {
		subnets := endpoint.HostSubnets()
		for _, ip := range ips {
			if err := checkAddress(ip, subnets); err != nil {
				return nil, fmt.Errorf("--ip %s: %w", ip, err)
			}
		}
		var early errgroup.Group
		if len(ips) > 0 { // they are known before they are allocated: the kernel needs as long as the datastore
			early.Go(func() error { return attach(ips) })
		}
		var addrs []netip.Addr
		addrs, from, err = d.allocate(ctx, a, w, ips)
		err = errors.Join(err, early.Wait())
		if err == nil && len(ips) == 0 {
			err = attach(addrs)
		}
		if err != nil {
			return nil, fmt.Errorf("endpoint %s/%s: %w", a.Namespace, a.Name, err)
		}
		for _, ip := range addrs {
			w.Spec.IPNetworks = append(w.Spec.IPNetworks, netip.PrefixFrom(ip, ip.BitLen()).String())
		}
	}
	if from != "" {
		if err := d.share(ctx, from); err != nil {
			return nil, err
		}
	}
	if old == nil {
		written = w // also if nobody answers whether it was
	}
	rev, err := d.writeEndpoint(ctx, w, old)
	if err != nil {
		return nil, err
	}
	got, err := d.waitEndpoint(ctx, w, rev)
	if err != nil {
		return nil, err
	}
	live = true
	if from != "" {
		if err := d.handOver(ctx, w, from, ips); err != nil {
			return nil, err
		}
	}
	return &api.Attached{Endpoint: *got, Revision: rev}, nil
}

// clearLeft gives back what an attach that died has left of an endpoint that is not in
// the datastore: attached again it would get other addresses besides.
func (d *Daemon) clearLeft(ctx context.Context, w *v3.WorkloadEndpoint) error {
	held, err := d.ipam.IPsByHandle(ctx, handleOf(w))
	if err != nil || len(held) == 0 {
		return err
	}
	_, err = d.detachEndpoint(ctx, w, nil)
	return err
}

// undo takes back what an attach that failed has made, in the order of a detach: old is what the datastore
// had before, had that there was an interface, and written what may be in the datastore now. The caller of the attach may have
// gone already, so it brings its own time. What it cannot take back stays held, for the
// next attach or detach.
func (d *Daemon) undo(w, old, written *v3.WorkloadEndpoint, had bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	switch {
	case old == nil: // the interface is that of no other endpoint
		_, err = d.detachEndpoint(ctx, w, written)
	case !had:
		err = endpoint.Detach(w.Spec.InterfaceName, nil)
	}
	if err != nil {
		d.log.Error("not all of an attach that failed is undone", "endpoint", w.Metadata.Namespace+"/"+w.Spec.Workload, "err", err)
	}
}

// allocate returns the addresses asked for, or one of each family that has a
// pool for this node; and the handle that has the first of them still, of an endpoint that moves.
func (d *Daemon) allocate(ctx context.Context, a *api.Attach, w *v3.WorkloadEndpoint, ips []netip.Addr) (_ []netip.Addr, from string, _ error) {
	handle := handleOf(w)
	pools, labels, err := d.poolsAndLabels(ctx)
	if err != nil {
		return nil, "", err
	}
	var cutsOff func(block netip.Prefix) string
	if !d.loop.call(ctx, func() { cutsOff = d.loop.infrastructure.in }) {
		return nil, "", ctx.Err()
	}
	attrs := d.attrs(w)
	if len(ips) > 0 {
		for _, ip := range ips {
			_, err := d.ipam.AssignIP(ctx, ipam.AssignRequest{Addr: ip, Handle: handle, Attrs: attrs, Node: d.cfg.Node, Pools: pools, Avoid: cutsOff})
			if errors.Is(err, ipam.ErrNoQualifiedPool) && !inPool(pools, ip) {
				err = d.unclaimed(ctx, ip, a.Anycast || a.From != "") // an address of no pool is nobody's to allocate
			}
			if has, moves := d.leaves(a, err); moves && (has == handle || from == "" || from == has) {
				if has != handle {
					from = has
				}
				continue
			}
			if err != nil {
				return nil, "", holder(err)
			}
		}
		return ips, from, nil
	}
	req := ipam.Request{Handle: handle, Attrs: attrs, Node: d.cfg.Node, NodeLabels: labels, Pools: pools, Use: ipam.UseWorkload, Avoid: cutsOff}
	for _, p := range pools {
		if !offers(p, labels) {
			continue
		}
		if strings.Contains(p.Spec.CIDR, ":") {
			req.Num6 = 1
		} else {
			req.Num4 = 1
		}
	}
	if req.Num4+req.Num6 == 0 {
		return nil, "", errors.New("no IPPool gives addresses here unasked (enabled, Automatic, for workloads, selecting this node): create one, or give addresses with --ip")
	}
	got, err := d.ipam.AutoAssign(ctx, req)
	if err != nil {
		return nil, "", err
	}
	var out []netip.Addr
	for _, p := range append(got.IPv4, got.IPv6...) {
		out = append(out, p.Addr())
	}
	return out, "", nil
}

// offers tells whether a pool gives addresses to a node that did not ask for
// that pool.
func offers(p *v3.IPPool, labels map[string]string) bool {
	if p.Spec.Disabled || p.Spec.AssignmentMode == "Manual" || len(p.Spec.AllowedUses) > 0 && !slices.Contains(p.Spec.AllowedUses, "Workload") {
		return false
	}
	sel, err := selector.Parse(p.Spec.NodeSelector)
	return err == nil && sel.Match(selector.Map(labels))
}

func inPool(pools []*v3.IPPool, ip netip.Addr) bool {
	return slices.ContainsFunc(pools, func(p *v3.IPPool) bool {
		n, err := netip.ParsePrefix(p.Spec.CIDR)
		return err == nil && n.Contains(ip)
	})
}

func handleOf(w *v3.WorkloadEndpoint) string {
	return orchestrator + "." + w.Metadata.Namespace + "." + w.Metadata.Name
}

// holder names the endpoint that has an address already, and how it gives it back.
func holder(err error) error {
	var taken *ipam.AssignedError
	if !errors.As(err, &taken) {
		return err
	}
	w, ok := ofHandle(taken.Handle)
	if !ok {
		return err
	}
	how := "muslin endpoint detach " + w.Spec.Workload
	if w.Metadata.Namespace != "default" {
		how += " -n " + w.Metadata.Namespace
	}
	if w.Spec.Endpoint != "eth0" && w.Spec.Endpoint != policy.Loopback {
		how += " --interface " + w.Spec.Endpoint
	}
	return fmt.Errorf("address %s belongs to endpoint %s/%s of node %s: `%s` there gives it back", taken.Addr, w.Metadata.Namespace, w.Spec.Workload, w.Spec.Node, how)
}

// unread names an endpoint by what its user calls it in an error of reading its object.
func unread(namespace, name string, err error) error {
	var read *store.Error
	if errors.As(err, &read) {
		err = read.Err
	}
	if errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("endpoint %s/%s is an object in the datastore, and %w; try again when this server reaches it", namespace, name, err)
	}
	return fmt.Errorf("endpoint %s/%s: %w", namespace, name, err)
}

func addresses(w *v3.WorkloadEndpoint) (list []netip.Addr, err error) {
	for _, s := range w.Spec.IPNetworks {
		p, err := v3.ParseInterface(s)
		if err != nil {
			return nil, fmt.Errorf("WorkloadEndpoint %s/%s: spec.ipNetworks: %w", w.Metadata.Namespace, w.Metadata.Name, err)
		}
		list = append(list, p.Addr())
	}
	return list, nil
}

// deleteEndpoint undoes an attach. Asked again after it had not come to its end, it
// goes on where it was.
func (d *Daemon) deleteEndpoint(r *http.Request) (any, error) {
	ns, name := r.PathValue("namespace"), r.PathValue("name")
	ifaces := []string{r.URL.Query().Get("interface")}
	if ifaces[0] == "" {
		ifaces = []string{policy.Loopback, "eth0"} // what there is: a process of this host, or what attach makes by default
	}
	defer d.attach.lock(ns + "/" + name)()
	ctx, cancel := context.WithTimeout(r.Context(), 15*time.Second)
	defer cancel()
	deleted, found := false, false
	for _, iface := range ifaces {
		w, err := d.wanted(ctx, &api.Attach{Name: name, Namespace: ns, Interface: iface})
		if err != nil {
			return nil, err
		}
		old, err := d.getEndpoint(ctx, ns, w.Metadata.Name)
		if err != nil {
			return nil, unread(ns, name, err)
		}
		if old != nil && deleted {
			continue // another endpoint
		}
		left, err := d.detachEndpoint(ctx, w, old)
		if err != nil {
			return nil, err
		}
		deleted, found = deleted || old != nil, found || left
	}
	if !found {
		return nil, fmt.Errorf("endpoint %s/%s on node %s: %w", ns, name, d.cfg.Node, errNotFound)
	}
	return struct{}{}, nil
}

// detachEndpoint removes what there is of an endpoint, and tells whether there was
// anything: the object first, so that the policy and the routes go, then the interface,
// then the addresses, which nobody may get before both are gone.
func (d *Daemon) detachEndpoint(ctx context.Context, w, old *v3.WorkloadEndpoint) (found bool, err error) {
	handle := handleOf(w)
	held, err := d.ipam.IPsByHandle(ctx, handle)
	if err != nil && !errors.Is(err, ipam.ErrNotFound) {
		return old != nil, err
	}
	addrs := slices.Clone(held)
	if old != nil {
		w.Spec.InterfaceName = old.Spec.InterfaceName
		of, _ := addresses(old)
		addrs = append(addrs, of...)
		rev, err := d.removeEndpoint(ctx, w)
		if err != nil {
			return true, err
		}
		d.removed.Store(handle, rev)
	}
	// One that an earlier agent removed is not in the listing that this one began with.
	if rev, waits := d.removed.Load(handle); waits || len(held) > 0 {
		rev, _ := rev.(int64)
		if s, ok := d.board.wait(ctx, liveAt(rev)); !ok {
			return true, fmt.Errorf("endpoint %s/%s is deleted at revision %d, but the node is not live there: %s", w.Metadata.Namespace, w.Spec.Workload, rev, strings.Join(s.Missing, "; "))
		}
		d.removed.Delete(handle)
	}
	had := endpoint.Exists(w.Spec.InterfaceName)
	// Nothing passes the interface by now, so that no flow begins while it goes. Whoever waits for it, to attach
	// the namespace elsewhere, waits for the kernel: 30 ms for a pair, 6 for the flows of each family.
	var g errgroup.Group
	g.Go(func() error { return endpoint.Detach(w.Spec.InterfaceName, nil) })
	g.Go(func() error { return endpoint.ForgetFlows(addrs) })
	if err := g.Wait(); err != nil {
		return true, err
	}
	// Also without any: an allocation whose outcome is not known fails then.
	if _, err := d.ipam.ReleaseByHandle(ctx, handle); err != nil && !errors.Is(err, ipam.ErrNotFound) {
		return true, err
	}
	return old != nil || had || len(held) > 0, nil
}

func sameAddrs(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// checkAddress says why a workload cannot have an address: nobody can, or it
// is in one of the subnets that this host is on, where it would take the place
// of a server.
func checkAddress(ip netip.Addr, subnets []netip.Prefix) error {
	if !ip.IsGlobalUnicast() || ip.IsLinkLocalUnicast() || ip.Is4() && ip.As4()[0] >= 240 {
		return errors.New("want a unicast address that can be routed")
	}
	for _, n := range subnets {
		if n.Contains(ip) {
			return fmt.Errorf("is in %s, which is this host's: choose one of an IPPool", n.Masked())
		}
	}
	return nil
}
