// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
)

func tiered(kind string) bool {
	switch kind {
	case "NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy":
		return true
	}
	return false
}

// virtual: the object exists without being stored.
func virtual(r v3.Resource) bool {
	return r.Type().Kind == "Profile" && r.Meta().Name == v3.DefaultAllowName
}

// writable refuses what users do not write.
func writable(r v3.Resource) error {
	switch kind, name := r.Type().Kind, r.Meta().Name; {
	case kind == clusterInformation, virtual(r):
		return ErrReadOnly
	case kind == "NetworkPolicy" && strings.HasPrefix(name, "knp."):
		return fmt.Errorf("%w: policies named knp.* belong to Kubernetes", ErrReadOnly)
	}
	return nil
}

// check holds obj against the rest of the datastore. old is the stored version,
// nil if there is none or it cannot be read.
func (o *Objects) check(ctx context.Context, obj, old v3.Resource) error {
	if tier, ok := tierOf(obj); ok {
		return o.exists(ctx, "spec.tier", "Tier", tier)
	}
	switch x := obj.(type) {
	case *v3.BGPPeer:
		for i, f := range x.Spec.Filters {
			if err := o.exists(ctx, fmt.Sprintf("spec.filters[%d]", i), "BGPFilter", f); err != nil {
				return err
			}
		}
	case *v3.IPPool:
		before, _ := old.(*v3.IPPool)
		return o.checkPool(ctx, x, before)
	}
	return nil
}

func (o *Objects) exists(ctx context.Context, field, kind, name string) error {
	_, err := o.c.Get(ctx, v3.Key(kind, "", name))
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%s: there is no %s %q: apply it first", field, strings.ToLower(kind), name)
	}
	return err
}

// tierOf returns the tier of a policy, and false for other kinds.
func tierOf(r v3.Resource) (string, bool) {
	var tier string
	switch p := r.(type) {
	case *v3.NetworkPolicy:
		tier = p.Spec.Tier
	case *v3.GlobalNetworkPolicy:
		tier = p.Spec.Tier
	case *v3.StagedNetworkPolicy:
		tier = p.Spec.Tier
	case *v3.StagedGlobalNetworkPolicy:
		tier = p.Spec.Tier
	default:
		return "", false
	}
	if tier == "" {
		tier = v3.DefaultTier
	}
	return tier, true
}

// checkPool: a pool keeps its range and block size, overlaps no other, covers no
// server, and does not cover blocks of another size.
func (o *Objects) checkPool(ctx context.Context, p, old *v3.IPPool) error {
	cidr, err := netip.ParsePrefix(p.Spec.CIDR)
	if err != nil {
		return fmt.Errorf("spec.cidr: %w", err)
	}
	if old != nil {
		if was, err := netip.ParsePrefix(old.Spec.CIDR); err == nil && was.Masked() != cidr.Masked() {
			return fmt.Errorf("spec.cidr: cannot be changed from %s; make a new pool", old.Spec.CIDR)
		}
		if old.Spec.BlockSize != 0 && old.Spec.BlockSize != p.Spec.BlockSize {
			return fmt.Errorf("spec.blockSize: cannot be changed from %d; make a new pool", old.Spec.BlockSize)
		}
	}
	if !p.Spec.Disabled && (old == nil || old.Spec.Disabled) {
		if err := o.noServerIn(ctx, cidr); err != nil {
			return err
		}
	}
	if old != nil {
		return nil
	}
	others, _, err := o.ReadAll(ctx, "IPPool", "")
	if err != nil && !errors.Is(err, ErrUnreadable) {
		return err
	}
	for _, r := range others {
		q, ok := r.(*v3.IPPool)
		if !ok || q.Metadata.Name == p.Metadata.Name {
			continue
		}
		if other, err := netip.ParsePrefix(q.Spec.CIDR); err == nil && other.Overlaps(cidr) {
			return fmt.Errorf("spec.cidr: %s overlaps %s of pool %s", p.Spec.CIDR, q.Spec.CIDR, q.Metadata.Name)
		}
	}
	family := "ipv4"
	if cidr.Addr().Is6() {
		family = "ipv6"
	}
	blocks, _, err := o.c.List(ctx, blockPrefix+family+"/")
	if err != nil {
		return err
	}
	for _, kv := range blocks {
		r, ok := refOf(kv.Key)
		if !ok {
			continue
		}
		if b, err := netip.ParsePrefix(r.name); err == nil && b.Overlaps(cidr) && b.Bits() != p.Spec.BlockSize {
			return fmt.Errorf("spec.blockSize: is %d, but block %s is in use; make it %d", p.Spec.BlockSize, b, b.Bits())
		}
	}
	return nil
}

// noServerIn refuses a range that the address of a server is in: nobody may get it, and a block around it, routed to
// one server, would cut others off. A pool that gives out nothing may have it, such as one that keeps natOutgoing off
// the servers.
func (o *Objects) noServerIn(ctx context.Context, cidr netip.Prefix) error {
	nodes, _, err := o.ReadAll(ctx, "Node", "")
	if err != nil && !errors.Is(err, ErrUnreadable) {
		return err
	}
	for _, r := range nodes {
		n, ok := r.(*v3.Node)
		if !ok {
			continue
		}
		v4, v6 := n.Addrs()
		for _, a := range []netip.Prefix{v4, v6} {
			if cidr.Contains(a.Addr()) {
				return fmt.Errorf("spec.cidr: %s has %s in it, the address of Node %s: give a range without servers, or spec.disabled: true", cidr, a.Addr(), n.Metadata.Name)
			}
		}
	}
	return nil
}

// addresses is what deleting a node or a pool needs of the address allocator.
type addresses interface {
	// ReleaseIPs frees addresses; those that are not in use do not matter.
	ReleaseIPs(ctx context.Context, list []ipam.Release) (unallocated []netip.Addr, err error)
	// RemoveHost gives up a node's blocks.
	RemoveHost(ctx context.Context, node string) error
	// ReleasePoolAffinities makes the blocks of a pool nobody's.
	ReleasePoolAffinities(ctx context.Context, pool *v3.IPPool) error
}
