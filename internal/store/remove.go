// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
)

// poolGrace is the time that allocators get to notice that a pool is disabled.
const poolGrace = 500 * time.Millisecond

// Remove deletes an object, at resourceVersion if that is not empty.
// ErrNotFound, ErrConflict, ErrReadOnly, and ErrInUse for a tier that has
// policies. Deleting a Node also releases its addresses and deletes what
// belongs to it alone: endpoints, peers, per-node configuration. Deleting an
// IPPool disables it first and makes its blocks nobody's; addresses in use
// stay assigned.
func (o *Objects) Remove(ctx context.Context, kind, namespace, name, resourceVersion string) error {
	_, err := o.RemoveRevision(ctx, kind, namespace, name, resourceVersion)
	return err
}

// RemoveRevision is Remove for a caller who waits for the deletion to take
// effect: it returns the revision of the delete itself, at which a Watch
// reports the object as gone. It is 0 with an error, ErrNotFound included: when
// an object went that nobody found is not known.
func (o *Objects) RemoveRevision(ctx context.Context, kind, namespace, name, resourceVersion string) (int64, error) {
	obj, err := reference(kind, namespace, name)
	if err != nil {
		return 0, &Error{Op: "delete", Object: title(kind, namespace, name), Err: err}
	}
	rev, err := o.remove(ctx, obj, resourceVersion, o.c.Allocator())
	return rev, fail("delete", obj, err)
}

// remove returns the revision of the delete.
func (o *Objects) remove(ctx context.Context, obj v3.Resource, resourceVersion string, addrs addresses) (int64, error) {
	var rev int64
	if resourceVersion != "" {
		var err error
		if rev, err = strconv.ParseInt(resourceVersion, 10, 64); err != nil || rev <= 0 {
			return 0, fmt.Errorf("metadata.resourceVersion: %q is not a revision", resourceVersion)
		}
	}
	if err := writable(obj); err != nil {
		return 0, err
	}
	kv, err := o.find(ctx, obj)
	if err != nil {
		return 0, err
	}
	if rev != 0 && rev != kv.Revision {
		return 0, ErrConflict
	}
	switch obj.Type().Kind {
	case "Tier":
		err = o.tierUnused(ctx, obj.Meta().Name)
	case "IPPool":
		if kv, err = o.drainPool(ctx, kv, addrs); err == nil && rev != 0 {
			rev = kv.Revision
		}
	case "Node":
		err = o.dismantleNode(ctx, kv, obj.Meta().Name, addrs)
	}
	if err != nil {
		return 0, err
	}
	gone, err := o.c.one(ctx, OpDelete(kv.Key, rev))
	return gone, bare(err)
}

func (o *Objects) tierUnused(ctx context.Context, tier string) error {
	switch tier {
	case "default", "kube-admin", "kube-baseline":
		return fmt.Errorf("%w: this tier always exists", ErrInUse)
	}
	for _, k := range v3.Kinds() {
		if !tiered(k.Kind) {
			continue
		}
		all, _, err := o.ReadAll(ctx, k.Kind, "")
		if err != nil {
			// A policy that cannot be read may be in this tier.
			return err
		}
		for _, r := range all {
			if t, _ := tierOf(r); t == tier {
				return fmt.Errorf("%w by %s; delete its policies first", ErrInUse, titleOf(r))
			}
		}
	}
	return nil
}

// drainPool disables the pool and makes its blocks nobody's. It returns the
// pool as stored then.
func (o *Objects) drainPool(ctx context.Context, kv KV, addrs addresses) (KV, error) {
	obj, err := decodeKV(kv)
	pool, ok := obj.(*v3.IPPool)
	if err != nil || !ok {
		return kv, nil // nothing to release by
	}
	if !pool.Spec.Disabled {
		pool.Spec.Disabled = true
		value, err := v3.EncodeMerged(pool, kv.Value)
		if err != nil {
			return kv, err
		}
		if kv.Revision, err = o.c.Update(ctx, kv.Key, value, kv.Revision); err != nil {
			return kv, bare(err)
		}
		kv.Value = value
		if !sleep(ctx, poolGrace) {
			return kv, ctx.Err()
		}
	}
	return kv, addrs.ReleasePoolAffinities(ctx, pool)
}

// InUse is how many addresses of a pool are assigned, 0 if there is no such pool.
// With an error it is how many there are as far as can be read.
func (o *Objects) InUse(ctx context.Context, pool string) (n int, err error) {
	r, err := o.Read(ctx, "IPPool", "", pool)
	p, ok := r.(*v3.IPPool)
	if err != nil || !ok {
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return 0, err
	}
	use, err := o.c.Allocator().Utilisation(ctx, []*v3.IPPool{p})
	for _, u := range use {
		for _, b := range u.Blocks {
			n += b.InUse
		}
	}
	return n, err
}

// dismantleNode removes everything that is the node's alone. It may be
// repeated after a failure: the node itself goes last.
func (o *Objects) dismantleNode(ctx context.Context, kv KV, node string, addrs addresses) error {
	weps, err := o.readGood(ctx, "WorkloadEndpoint")
	if err != nil {
		return err
	}
	var errs []error
	var release []ipam.Release
	var owned []v3.Resource
	for _, r := range weps {
		if w := r.(*v3.WorkloadEndpoint); w.Spec.Node == node {
			owned = append(owned, r)
			for _, n := range w.Spec.IPNetworks {
				release = appendRelease(release, n)
			}
		}
	}
	if obj, err := decodeKV(kv); err == nil {
		n := obj.(*v3.Node)
		if n.Spec.BGP != nil {
			release = appendRelease(release, n.Spec.BGP.IPv4IPIPTunnelAddr)
		}
		release = appendRelease(release, n.Spec.IPv4VXLANTunnelAddr)
		if n.Spec.Wireguard != nil {
			release = appendRelease(release, n.Spec.Wireguard.InterfaceIPv4Address)
		}
	}
	if len(release) > 0 {
		if _, err := addrs.ReleaseIPs(ctx, release); err != nil {
			return fmt.Errorf("release its addresses: %w", err)
		}
	}
	for _, r := range owned {
		errs = append(errs, o.discard(ctx, r))
	}
	errs = append(errs, addrs.RemoveHost(ctx, node))
	for _, kind := range []string{"BGPPeer", "HostEndpoint"} {
		all, err := o.readGood(ctx, kind)
		errs = append(errs, err)
		for _, r := range all {
			switch x := r.(type) {
			case *v3.BGPPeer:
				if x.Spec.Node == node {
					errs = append(errs, o.discard(ctx, r))
				}
			case *v3.HostEndpoint:
				if x.Spec.Node == node {
					errs = append(errs, o.discard(ctx, r))
				}
			}
		}
	}
	for _, kind := range []string{"FelixConfiguration", "BGPConfiguration"} {
		if r, err := reference(kind, "", "node."+node); err == nil {
			errs = append(errs, o.discard(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// readGood is ReadAll without what cannot be read.
func (o *Objects) readGood(ctx context.Context, kind string) ([]v3.Resource, error) {
	all, _, err := o.ReadAll(ctx, kind, "")
	if errors.Is(err, ErrUnreadable) {
		err = nil
	}
	return all, err
}

// discard deletes an object that may be gone already.
func (o *Objects) discard(ctx context.Context, r v3.Resource) error {
	err := o.c.Delete(ctx, v3.KeyOf(r), 0)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return fail("delete", r, bare(err))
}

func appendRelease(list []ipam.Release, text string) []ipam.Release {
	text, _, _ = strings.Cut(text, "/")
	if a, err := netip.ParseAddr(text); err == nil {
		list = append(list, ipam.Release{Addr: a})
	}
	return list
}
