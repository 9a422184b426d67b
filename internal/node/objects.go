// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/store"
)

// This page is what the daemon writes to and asks of the datastore outside
// its watch.

// prepareDatastore initialises an empty datastore, registers this node, and
// with the embedded etcd makes default pools. It is safe to repeat. One step
// that fails does not keep the others from being taken. It returns the revision
// at which all that it wrote is there.
func (d *Daemon) prepareDatastore(ctx context.Context) (int64, error) {
	errs := []error{d.store.EnsureInitialized(ctx)}
	rev, err := d.register(ctx)
	errs = append(errs, err)
	if d.cfg.Embedded {
		pools, err := d.defaultPools(ctx)
		rev, errs = max(rev, pools), append(errs, err)
	}
	return rev, errors.Join(errs...)
}

// register creates this node's Node or merges into the one that is there. It
// returns the revision of the Node, written or found.
func (d *Daemon) register(ctx context.Context) (int64, error) {
	prefixes := []string{defaultPrefix}
	if d.cfg.InterfacePrefix != "" {
		prefixes = strings.Split(d.cfg.InterfacePrefix, ",")
	}
	auto4, auto6, err := endpoint.HostAddrs(func(device string) bool { return !isWorkload(prefixes, device) })
	if err != nil {
		return 0, fmt.Errorf("find this host's addresses: %w", err)
	}
	n, err := d.mergeNode(ctx, func(n *v3.Node) bool { return mergeNode(n, d.cfg.IP, d.cfg.IP6, auto4, auto6) })
	if err != nil {
		return 0, err
	}
	if v4, v6 := n.Addrs(); !v4.IsValid() && !v6.IsValid() {
		d.log.Warn("this host has no address that others could reach it by: it is taken when it comes; or give one with --ip or --ip6")
	}
	return revisionOf(n), nil
}

// mergeNode has merge change this node's Node, which is made if it does not
// exist, and returns it as stored. merge tells whether anything is to be written.
func (d *Daemon) mergeNode(ctx context.Context, merge func(*v3.Node) bool) (*v3.Node, error) {
	for {
		n := &v3.Node{}
		n.Kind, n.APIVersion, n.Metadata.Name = "Node", v3.APIVersion, d.cfg.Node
		stored, err := d.store.Objects().Read(ctx, "Node", "", d.cfg.Node)
		switch {
		case err == nil:
			n = stored.(*v3.Node)
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
		changed := merge(n)
		written := stored
		if stored == nil {
			written, err = d.store.Objects().Create(ctx, n)
		} else if changed {
			written, err = d.store.Objects().Update(ctx, n)
		}
		if err == nil {
			return written.(*v3.Node), nil
		}
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) {
			return nil, err
		}
	}
}

// revisionOf is the revision at which an object that was read or written is in the
// datastore.
func revisionOf(r v3.Resource) int64 {
	rev, _ := strconv.ParseInt(r.Meta().ResourceVersion, 10, 64) // the store's own number
	return rev
}

// defaultPools makes one pool of each family that has none. The IPv4 pool is
// the first private range that overlaps no address of this host; the IPv6 pool
// a random /48 of fd00::/8 (RFC 4193). It returns the revision of the last.
func (d *Daemon) defaultPools(ctx context.Context) (rev int64, err error) {
	pools, _, err := d.store.Objects().ReadAll(ctx, "IPPool", "")
	if err != nil && !errors.Is(err, store.ErrUnreadable) {
		return 0, err
	}
	has := map[bool]bool{}
	for _, r := range pools {
		has[strings.Contains(r.(*v3.IPPool).Spec.CIDR, ":")] = true
	}
	var random [5]byte
	_, _ = rand.Read(random[:])
	six := netip.AddrFrom16([16]byte{0xfd, random[0], random[1], random[2], random[3], random[4]})
	for _, p := range []struct {
		name string
		cidr netip.Prefix
	}{{"default-ipv4-ippool", freeRange(endpoint.HostSubnets())}, {"default-ipv6-ippool", netip.PrefixFrom(six, 48)}} {
		if has[p.cidr.Addr().Is6()] {
			continue
		}
		pool := &v3.IPPool{Spec: v3.IPPoolSpec{CIDR: p.cidr.String()}}
		pool.Kind, pool.APIVersion, pool.Metadata.Name = "IPPool", v3.APIVersion, p.name
		made, err := d.store.Objects().Create(ctx, pool)
		switch {
		case err == nil:
			rev = revisionOf(made)
			d.log.Info("created a default pool", "pool", p.name, "cidr", p.cidr)
		case !errors.Is(err, store.ErrExists):
			return rev, err
		}
	}
	return rev, nil
}

// freeRange returns the first candidate for a default pool that overlaps
// none of the given prefixes.
func freeRange(taken []netip.Prefix) netip.Prefix {
	candidates := []netip.Prefix{
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("10.65.0.0/16"),
		netip.MustParsePrefix("172.20.0.0/16"), netip.MustParsePrefix("100.64.0.0/16"),
	}
	for _, c := range candidates {
		if !slices.ContainsFunc(taken, c.Overlaps) {
			return c
		}
	}
	return candidates[0]
}

func (d *Daemon) getEndpoint(ctx context.Context, namespace, name string) (*v3.WorkloadEndpoint, error) {
	r, err := d.store.Objects().Read(ctx, "WorkloadEndpoint", namespace, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.(*v3.WorkloadEndpoint), nil
}

// writeEndpoint stores w and returns the revision at which it is in the
// datastore; an object that is right already is not written again.
func (d *Daemon) writeEndpoint(ctx context.Context, w, old *v3.WorkloadEndpoint) (int64, error) {
	var r v3.Resource
	var err error
	if old == nil {
		r, err = d.store.Objects().Create(ctx, w)
	} else {
		r, err = d.store.Objects().Update(ctx, w)
	}
	if err != nil {
		return 0, err
	}
	return revisionOf(r), nil
}

// removeEndpoint deletes w and returns a revision at which it is gone.
func (d *Daemon) removeEndpoint(ctx context.Context, w *v3.WorkloadEndpoint) (int64, error) {
	rev, err := d.store.Objects().RemoveRevision(ctx, "WorkloadEndpoint", w.Metadata.Namespace, w.Metadata.Name, "")
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil // somebody was faster; what is live by now will do
	}
	return rev, err
}

func (d *Daemon) poolsAndLabels(ctx context.Context) ([]*v3.IPPool, map[string]string, error) {
	list, _, err := d.store.Objects().ReadAll(ctx, "IPPool", "")
	if err != nil && !errors.Is(err, store.ErrUnreadable) {
		return nil, nil, err
	}
	var pools []*v3.IPPool
	for _, r := range list {
		pools = append(pools, r.(*v3.IPPool))
	}
	n, err := d.store.Objects().Read(ctx, "Node", "", d.cfg.Node)
	if err != nil {
		return nil, nil, err
	}
	return pools, n.Meta().Labels, nil
}

// unclaimed tells whether no endpoint has an address that is in no pool; one of anycast may
// be on other servers.
func (d *Daemon) unclaimed(ctx context.Context, ip netip.Addr, anycast bool) error {
	list, _, err := d.store.Objects().ReadAll(ctx, "WorkloadEndpoint", "")
	if err != nil && !errors.Is(err, store.ErrUnreadable) {
		return err
	}
	for _, r := range list {
		w := r.(*v3.WorkloadEndpoint)
		have, _ := addresses(w)
		if slices.Contains(have, ip) && (!anycast || w.Spec.Node == d.cfg.Node) {
			return fmt.Errorf("address %s belongs to endpoint %s/%s", ip, w.Metadata.Namespace, w.Metadata.Name)
		}
	}
	return nil
}

// waitEndpoint waits until w, written at rev, is live on this node.
func (d *Daemon) waitEndpoint(ctx context.Context, w *v3.WorkloadEndpoint, rev int64) (*api.Endpoint, error) {
	name := w.Metadata.Namespace + "/" + w.Spec.Workload
	s, ok := d.board.wait(ctx, liveAt(rev))
	if !ok {
		return nil, fmt.Errorf("endpoint %s was not live in time: %s", name, strings.Join(s.Missing, "; "))
	}
	for {
		var got *api.Endpoint
		_, changed := d.board.read()
		d.loop.call(ctx, func() { got = d.loop.endpoint(w.Metadata.Namespace, w.Metadata.Name) })
		if got != nil && got.State == stateLive {
			got.Workload, got.Profiles = w.Spec.Workload, w.Spec.Profiles
			return got, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			why := "the daemon does not have it"
			if got != nil {
				why = got.State + " " + got.Text
			}
			return nil, fmt.Errorf("endpoint %s was not live in time: %s", name, why)
		}
	}
}

func decodeBody(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("request body: %w", err)
	}
	return nil
}
