// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// defaultBlockLimit is how many blocks of one family a node may have when
// nobody says otherwise.
const defaultBlockLimit = 20

// Request asks for addresses that the allocator chooses.
type Request struct {
	Num4, Num6 int
	// Handle identifies the owner, to find and release what it got; it may be
	// empty, which makes the addresses hard to find again.
	Handle string
	// Attrs are stored with the addresses. "node" is added if it is missing.
	Attrs map[string]string
	// Node is the node on which the addresses will be used. Its Node resource
	// must exist, and NodeLabels are its labels: the caller has looked.
	Node       string
	NodeLabels map[string]string
	// NamespaceLabels are those of the endpoint's namespace; nil means that
	// they are not known, so that no pool with a namespaceSelector qualifies.
	NamespaceLabels map[string]string
	// Pools are all pools there are.
	Pools []*v3.IPPool
	// From, if not empty, names the pools to use, by name or CIDR, of either
	// family, in order of preference.
	From []string
	Use  Use
	// Avoid says why a block is none to take addresses from; empty if it is. nil avoids none.
	Avoid func(block netip.Prefix) string
	// MaxBlocks lowers the number of blocks the node may have; 0 does not.
	MaxBlocks int
}

// Assigned holds what AutoAssign gave. Each prefix is an address with the
// length of its block: 10.65.0.5/26 is the address 10.65.0.5 in block
// 10.65.0.0/26. An endpoint gets p.Addr() as a /32 or /128.
type Assigned struct {
	IPv4, IPv6 []netip.Prefix
}

// AutoAssign allocates as many addresses of each family as asked for, or none:
// when one family cannot be had in full, what was allocated before is given
// back and an error says why. The error is ErrNoQualifiedPool,
// ErrPoolExhausted, ErrBlockLimit, ErrContention or one of the datastore.
// After an error of the datastore, ReleaseByHandle makes sure that nothing is
// left behind.
func (a *Allocator) AutoAssign(ctx context.Context, r Request) (Assigned, error) {
	owner, attrs, err := r.check()
	if err != nil {
		return Assigned{}, err
	}
	cfg, err := a.Config(ctx)
	if err != nil {
		return Assigned{}, err
	}
	var out Assigned
	for _, want := range []struct {
		family Family
		n      int
		into   *[]netip.Prefix
	}{{IPv4, r.Num4, &out.IPv4}, {IPv6, r.Num6, &out.IPv6}} {
		if want.n == 0 {
			continue
		}
		s := search{Allocator: a, r: &r, cfg: cfg, owner: owner, attrs: attrs, family: want.family, want: want.n}
		err := s.run(ctx)
		*want.into = s.got
		if err != nil {
			a.giveBack(ctx, r.Handle, slices.Concat(out.IPv4, out.IPv6))
			return Assigned{}, err
		}
	}
	return out, nil
}

func (r *Request) check() (Owner, map[string]string, error) {
	if r.Num4 < 0 || r.Num6 < 0 {
		return "", nil, fmt.Errorf("assign addresses: negative count %d/%d", r.Num4, r.Num6)
	}
	if r.Handle != "" {
		if _, err := HandleKey(r.Handle); err != nil {
			return "", nil, fmt.Errorf("assign addresses: %w", err)
		}
	}
	owner, err := ownerFor(r.Use, r.Node)
	return owner, withNode(r.Attrs, r.Node), err
}

func ownerFor(u Use, node string) (Owner, error) {
	switch u {
	case UseLoadBalancer:
		return LoadBalancer, nil
	case UseWorkload, UseTunnel:
	default:
		return "", fmt.Errorf("assign addresses: use %q: want %s, %s or %s", u, UseWorkload, UseTunnel, UseLoadBalancer)
	}
	if err := checkSegment("node name", node); err != nil {
		return "", fmt.Errorf("assign addresses: %w", err)
	}
	return HostOwner(node), nil
}

func withNode(attrs map[string]string, node string) map[string]string {
	if _, ok := attrs[nodeAttr]; ok || node == "" {
		return attrs
	}
	attrs = maps.Clone(attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs[nodeAttr] = node
	return attrs
}

// giveBack undoes an allocation, also when ctx has ended.
func (a *Allocator) giveBack(ctx context.Context, handle string, list []netip.Prefix) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	byBlock := map[netip.Prefix][]Release{}
	for _, p := range list {
		byBlock[p.Masked()] = append(byBlock[p.Masked()], Release{Addr: p.Addr(), Handle: handle})
	}
	for cidr, rs := range byBlock {
		if _, err := a.put(ctx, cidr, rs); err != nil {
			a.log.Warn("addresses of a failed request are not given back", "block", cidr, "handle", handle, "err", err)
		}
	}
}

// search is one family of one request.
type search struct {
	*Allocator
	r      *Request
	cfg    Config
	owner  Owner
	attrs  map[string]string
	family Family
	want   int
	pools  []Pool
	got    []netip.Prefix
	owned  map[netip.Prefix]bool // blocks the owner had an affinity to at first
	// skipped tells why a block was of no use, for the error at the end.
	skipped []error
	avoided bool // one of those is in skipped
}

// run fills got, in the order that keeps blocks together: own blocks, then
// new ones. On error got is what there is to give back.
func (s *search) run(ctx context.Context) error {
	q := query{s.family, s.r.Use, s.r.Node, s.r.NodeLabels, s.r.NamespaceLabels, s.r.From}
	var err error
	if s.pools, err = q.qualify(s.r.Pools); err != nil {
		return err
	}
	own, err := s.affinities(ctx, s.owner, s.family)
	if err != nil {
		return err
	}
	count := len(own)
	s.owned = map[netip.Prefix]bool{}
	for _, af := range own {
		s.owned[af.CIDR] = true
	}
	// Those that are confirmed first: the others are on their way in or out,
	// and are taken up only rather than claiming yet another block.
	for _, confirmed := range []bool{true, false} {
		for _, af := range own {
			if (af.State == Confirmed) != confirmed || s.missing() == 0 {
				continue
			}
			if !slices.ContainsFunc(s.pools, func(p Pool) bool { return p.has(af.CIDR) }) {
				if s.dropUnselected(ctx, af.CIDR) {
					count--
				}
				continue
			}
			if s.avoids(af.CIDR) {
				continue
			}
			if err := s.fromOwn(ctx, af.CIDR); err != nil {
				return err
			}
		}
	}
	if s.missing() == 0 {
		return nil
	}
	return s.fromNew(ctx, count)
}

func (s *search) missing() int { return s.want - len(s.got) }

// avoids tells whether the request wants nothing of a block. The first such is named in the error at the end.
func (s *search) avoids(cidr netip.Prefix) bool {
	if s.r.Avoid == nil {
		return false
	}
	why := s.r.Avoid(cidr)
	if why != "" && !s.avoided {
		s.avoided = true
		s.skipped = append(s.skipped, fmt.Errorf("block %s has %s, in it", cidr, why))
	}
	return why != ""
}

// fromOwn takes from a block the owner should have. That the block turns out
// to be another's, or cannot be read, only means to look elsewhere.
func (s *search) fromOwn(ctx context.Context, cidr netip.Prefix) error {
	for range 2 {
		got, err := s.take(ctx, s.owner, cidr, s.missing(), s.r.Handle, s.attrs)
		s.got = append(s.got, got...)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrNotFound), errors.Is(err, errUnconfirmed), errors.Is(err, ErrClaimConflict):
			// The affinity lost its block, is not confirmed, or is contradicted by
			// the block: a claim settles it, or withdraws it in the last case.
			if err = s.ClaimAffinity(ctx, s.owner, cidr); err == nil {
				continue
			}
		}
		if fatal(ctx, err) {
			return err
		}
		s.skipped = append(s.skipped, err)
		return nil
	}
	return nil
}

// fatal tells whether an error is about more than one block.
func fatal(ctx context.Context, err error) bool {
	var bad *badBlock
	oneBlock := errors.As(err, &bad) || errors.Is(err, ErrClaimConflict) || errors.Is(err, errUnconfirmed) || raced(err)
	return ctx.Err() != nil || !oneBlock
}

// fromNew claims blocks until there is enough: first ones that nobody has,
// then empty ones that other nodes have held long enough without using them.
func (s *search) fromNew(ctx context.Context, count int) error {
	limit := blockLimit(s.cfg.MaxBlocksPerHost, s.r.MaxBlocks)
	if !s.cfg.AutoAllocateBlocks {
		return s.exhausted(0)
	}
	if count >= limit {
		return s.exhausted(limit)
	}
	taken, bad, err := s.blocks(ctx, s.family)
	if err != nil {
		return err
	}
	try := func(cidr netip.Prefix) (done bool, err error) {
		if s.avoids(cidr) {
			return false, nil
		}
		switch err := s.ClaimAffinity(ctx, s.owner, cidr); {
		case errors.Is(err, ErrClaimConflict):
			return false, nil // another node was faster: the next one
		case err != nil && fatal(ctx, err):
			return true, err
		case err != nil:
			s.skipped = append(s.skipped, err)
			return false, nil
		}
		count++
		if err := s.fromOwn(ctx, cidr); err != nil || s.missing() == 0 {
			return true, err
		}
		if count >= limit {
			return true, s.exhausted(limit)
		}
		return false, nil
	}
	order := slices.SortedFunc(maps.Keys(taken), netip.Prefix.Compare)
	for _, p := range s.pools {
		for _, cidr := range order {
			// A block that names us but that we have no affinity to is what a
			// claim and a release at the same moment can leave.
			if !p.has(cidr) || taken[cidr].Affinity != s.owner || s.owned[cidr] {
				continue
			}
			if done, err := try(cidr); done {
				return err
			}
		}
	}
	for _, p := range s.pools {
		for cidr := range p.Blocks(s.r.Node) {
			if _, ok := taken[cidr]; ok || bad[cidr] != nil {
				continue
			}
			if done, err := try(cidr); done {
				return err
			}
		}
	}
	for _, p := range s.pools {
		for _, cidr := range order {
			b := taken[cidr]
			if !p.has(cidr) || !s.reclaimable(b) || s.avoids(cidr) {
				continue
			}
			if err := s.release(ctx, b.Affinity, cidr, true); err != nil {
				if fatal(ctx, err) && !errors.Is(err, ErrBlockNotEmpty) {
					return err
				}
				continue
			}
			s.log.Info("an empty block moves to this node", "block", cidr, "from", b.Affinity, "to", s.owner)
			if done, err := try(cidr); done {
				return err
			}
		}
	}
	for _, err := range bad {
		s.skipped = append(s.skipped, err)
	}
	return s.exhausted(0)
}

// blockLimit is the smaller of what is configured and what is asked for.
func blockLimit(configured, asked int) int {
	switch {
	case configured <= 0 && asked <= 0:
		return defaultBlockLimit
	case configured <= 0:
		return asked
	case asked <= 0:
		return configured
	}
	return min(configured, asked)
}

func (s *search) exhausted(limit int) error {
	e := &ExhaustedError{Family: s.family, Node: s.r.Node, Wanted: s.want, Got: len(s.got),
		Limit: limit, NoClaims: !s.cfg.AutoAllocateBlocks, Skipped: s.skipped}
	for _, p := range s.pools {
		e.Pools = append(e.Pools, p.Name)
	}
	return e
}

// dropUnselected gives up an empty block whose pool no longer selects the
// node, and tells whether it did. Failing to is not an error: the block just
// stays.
func (s *search) dropUnselected(ctx context.Context, cidr netip.Prefix) bool {
	for _, raw := range s.r.Pools {
		p, err := ParsePool(raw)
		if err != nil || !p.has(cidr) {
			continue
		}
		ok, err := p.selectsNode(s.r.NodeLabels)
		if ok || err != nil || s.owner == LoadBalancer {
			return false
		}
		err = s.release(ctx, s.owner, cidr, true)
		if err == nil {
			s.log.Info("block given up: its pool no longer selects the node", "block", cidr, "pool", p.Name, "node", s.r.Node)
		}
		return err == nil
	}
	return false
}

// errUnconfirmed: the block is the owner's but its affinity is not settled.
var errUnconfirmed = errors.New("affinity is not confirmed")

// take allocates up to n addresses of one block that must be affine to owner.
func (a *Allocator) take(ctx context.Context, owner Owner, cidr netip.Prefix, n int, handle string, attrs map[string]string) ([]netip.Prefix, error) {
	// An affinity that is pending here may become another node's claim: only a
	// confirmed one entitles to addresses.
	key, err := AffinityKey(owner, cidr)
	if err != nil {
		return nil, err
	}
	e, err := a.kv.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read affinity of %s to block %s: %w", owner, cidr, err)
	}
	if _, ok := ConfirmedBlock(owner, key, e.Value); !ok {
		return nil, fmt.Errorf("block %s: %w", cidr, errUnconfirmed)
	}
	var got []netip.Prefix
	err = a.edit(ctx, cidr, handle, func(b *Block) (int, error) {
		if b.Affinity != owner {
			return 0, &ClaimError{Block: cidr, Holder: b.Affinity}
		}
		got = got[:0]
		for _, addr := range b.Take(n, handle, attrs) {
			got = append(got, netip.PrefixFrom(addr, cidr.Bits()))
		}
		return len(got), nil
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// edit allocates in a block: f changes the block as read and returns how many
// addresses it took. The handle's count goes up before the block is written,
// so that whatever happens in between, a handle never misses a block that
// holds one of its addresses. When the outcome of the write is not known the
// count stays up: too high is harmless.
func (a *Allocator) edit(ctx context.Context, cidr netip.Prefix, handle string, f func(*Block) (int, error)) error {
	return retry(ctx, fmt.Sprintf("allocate from block %s", cidr), func() error {
		b, rev, err := a.block(ctx, cidr)
		if err != nil {
			return err
		}
		n, err := f(b)
		if err != nil || n == 0 {
			return err
		}
		if err := a.addToHandle(ctx, handle, cidr, n); err != nil {
			return err
		}
		err = a.writeBlock(ctx, b, rev)
		if raced(err) {
			ctx, cancel := cleanup(ctx)
			defer cancel()
			if err := a.addToHandle(ctx, handle, cidr, -n); err != nil {
				return err
			}
		}
		return lost(err)
	})
}

// AssignRequest asks for one address by name.
type AssignRequest struct {
	Addr   netip.Addr
	Handle string
	Attrs  map[string]string // as in Request
	Node   string
	Pools  []*v3.IPPool                    // all there are
	Use    Use                             // empty: the pool's allowedUses are not looked at
	Avoid  func(block netip.Prefix) string // as in Request
}

// AssignIP allocates the given address. It must be in a pool that is not
// disabled; a block that does not exist yet is claimed for the node. With
// strict affinity the block must be the node's. The error is ErrAssigned (an
// *AssignedError naming the handle) if somebody has the address,
// ErrNoQualifiedPool if no pool has it, ErrClaimConflict if the block is
// another node's. It returns the address with the length of its block.
func (a *Allocator) AssignIP(ctx context.Context, r AssignRequest) (netip.Prefix, error) {
	use := r.Use
	if use == "" {
		use = UseWorkload
	}
	owner, err := ownerFor(use, r.Node)
	if err != nil {
		return netip.Prefix{}, err
	}
	if r.Handle != "" {
		if _, err := HandleKey(r.Handle); err != nil {
			return netip.Prefix{}, err
		}
	}
	cfg, err := a.Config(ctx)
	if err != nil {
		return netip.Prefix{}, err
	}
	addr := r.Addr.Unmap().WithZone("")
	pool, err := poolOf(addr, r)
	if err != nil {
		return netip.Prefix{}, err
	}
	cidr := pool.Block(addr)
	if r.Avoid != nil {
		if why := r.Avoid(cidr); why != "" {
			return netip.Prefix{}, fmt.Errorf("assign %s: its block %s has %s, in it: choose an address of another block", addr, cidr, why)
		}
	}
	attrs := withNode(r.Attrs, r.Node)
	err = retry(ctx, fmt.Sprintf("assign %s", addr), func() error {
		err := a.edit(ctx, cidr, r.Handle, func(b *Block) (int, error) {
			if cfg.StrictAffinity && b.Affinity != owner {
				return 0, &ClaimError{Block: cidr, Holder: b.Affinity}
			}
			return 1, b.TakeAddr(addr, r.Handle, attrs)
		})
		if errors.Is(err, ErrNotFound) {
			err := a.ClaimAffinity(ctx, owner, cidr)
			if err == nil || errors.Is(err, ErrClaimConflict) {
				return errLost // the block is there now, whosever it is
			}
			return err
		}
		return err
	})
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("assign %s: %w", addr, err)
	}
	return netip.PrefixFrom(addr, cidr.Bits()), nil
}

// HandOver gives an address that one handle has to another, which names the node that has it now in attrs, as Request
// does. Nobody can get it in between. Done already, it does nothing; ErrAssigned if somebody else has the address, and
// ErrNotFound if no block has it. After an error that does not say so, either may have it: ask again.
func (a *Allocator) HandOver(ctx context.Context, addr netip.Addr, from, to string, attrs map[string]string) error {
	for _, id := range []string{from, to} {
		if _, err := HandleKey(id); err != nil {
			return err
		}
	}
	addr = addr.Unmap().WithZone("")
	cidr, ok, err := a.find(ctx, addr, nil)
	if err == nil && !ok {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("hand over %s: %w", addr, err)
	}
	had := 0
	err = a.edit(ctx, cidr, to, func(b *Block) (int, error) {
		o, held := b.Owned(addr)
		had = 0
		if held && o.Handle == from && from != to {
			had = 1
		}
		changed, err := b.HandOver(addr, from, to, attrs)
		if !changed {
			return 0, err
		}
		return 1, err
	})
	if err != nil {
		return fmt.Errorf("hand over %s: %w", addr, err)
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := a.addToHandle(ctx, from, cidr, -had); err != nil {
		// The address is handed over; the count is an upper bound.
		a.log.Warn("handle count is not lowered", "handle", from, "block", cidr, "err", err)
	}
	return nil
}

func poolOf(addr netip.Addr, r AssignRequest) (Pool, error) {
	none := &NoPoolError{Node: r.Node}
	if !addr.IsValid() {
		return Pool{}, fmt.Errorf("assign an address: %w: it is not valid", ErrNoQualifiedPool)
	}
	none.Family = FamilyOf(addr)
	for _, raw := range r.Pools {
		p, err := ParsePool(raw)
		switch {
		case err != nil || !p.CIDR.Contains(addr):
		case p.blocked != "":
			none.Reasons = append(none.Reasons, fmt.Sprintf("IPPool %s: %s", p.Name, p.blocked))
		case r.Use != "" && !p.allows(r.Use):
			none.Reasons = append(none.Reasons, fmt.Sprintf("IPPool %s: spec.allowedUses has no %s", p.Name, r.Use))
		default:
			return p, nil
		}
	}
	if len(none.Reasons) == 0 {
		none.Reasons = []string{fmt.Sprintf("none contains %s", addr)}
	}
	return Pool{}, fmt.Errorf("assign %s: %w", addr, none)
}
