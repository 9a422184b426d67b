// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"iter"
	"math/big"
	"math/rand"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/selector"
)

// Use is what an address is wanted for; a pool may be kept for some uses.
type Use string

// The uses of an address.
const (
	UseWorkload     Use = "Workload"
	UseTunnel       Use = "Tunnel"
	UseLoadBalancer Use = "LoadBalancer"
)

// Pool is an IPPool that this package can work with.
type Pool struct {
	Name      string
	CIDR      netip.Prefix
	BlockBits int // prefix length of its blocks
	spec      *v3.IPPoolSpec
	blocked   string // why nothing new comes from it; empty if it may
}

// ParsePool reads an IPPool; the error names the member that cannot be used.
func ParsePool(p *v3.IPPool) (Pool, error) {
	cidr, err := netip.ParsePrefix(p.Spec.CIDR)
	if err != nil || cidr.Addr().Is4In6() {
		return Pool{}, fmt.Errorf("IPPool %s: spec.cidr %q: want a CIDR", p.Metadata.Name, p.Spec.CIDR)
	}
	cidr = cidr.Masked()
	bits := p.Spec.BlockSize
	least, most := blockBits(cidr.Addr())
	if bits == 0 {
		bits = most - 6
	}
	if bits < least || bits > most {
		return Pool{}, fmt.Errorf("IPPool %s: spec.blockSize %d: want %d–%d", p.Metadata.Name, bits, least, most)
	}
	if cidr.Bits() > bits {
		return Pool{}, fmt.Errorf("IPPool %s: spec.blockSize %d: shorter than the pool's own /%d", p.Metadata.Name, bits, cidr.Bits())
	}
	pool := Pool{Name: p.Metadata.Name, CIDR: cidr, BlockBits: bits, spec: &p.Spec}
	switch {
	case p.Metadata.DeletionTimestamp != nil:
		pool.blocked = "it is being deleted"
	case p.Spec.Disabled:
		pool.blocked = "it is disabled"
	case !allocatable(p.Status):
		pool.blocked = "its status says that it is not Allocatable"
	}
	return pool, nil
}

// allocatable is false only if a condition says so.
func allocatable(status json.RawMessage) bool {
	var s struct {
		Conditions []struct{ Type, Status string }
	}
	if len(status) == 0 || json.Unmarshal(status, &s) != nil {
		return true
	}
	for _, c := range s.Conditions {
		if c.Type == "Allocatable" && c.Status == "False" {
			return false
		}
	}
	return true
}

// Block returns the block of the pool that has the address.
func (p Pool) Block(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, p.BlockBits).Masked()
}

// has tells whether a prefix is one of the pool's blocks.
func (p Pool) has(block netip.Prefix) bool {
	return block.Bits() == p.BlockBits && p.CIDR.Contains(block.Addr())
}

// allows tells whether the pool serves a use.
func (p Pool) allows(u Use) bool {
	if len(p.spec.AllowedUses) == 0 {
		return u != UseLoadBalancer
	}
	return slices.Contains(p.spec.AllowedUses, string(u))
}

// selectsNode tells whether the pool is meant for a node with these labels.
func (p Pool) selectsNode(labels map[string]string) (bool, error) {
	s, err := selector.Parse(p.spec.NodeSelector)
	if err != nil {
		return false, fmt.Errorf("IPPool %s: spec.nodeSelector: %w", p.Name, err)
	}
	return s.Match(selector.Map(labels)), nil
}

// Blocks returns all blocks of the pool once each, in address order, starting
// at a place that depends on the node's name, and wrapping around: nodes that
// claim at the same time mostly do not try the same block.
func (p Pool) Blocks(node string) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		first := p.start(node)
		for b := first; ; {
			if !yield(b) {
				return
			}
			if b = p.next(b); b == first {
				return
			}
		}
	}
}

// start uses the seed and generator that Calico uses, so that a node finds
// its blocks where it would have found them there. It is no secret.
func (p Pool) start(node string) netip.Prefix {
	count := new(big.Int).Lsh(big.NewInt(1), uint(p.BlockBits-p.CIDR.Bits()))
	h := fnv.New32()
	h.Write([]byte(node))
	index := new(big.Int).Rand(rand.New(rand.NewSource(int64(h.Sum32()))), count)

	width := p.CIDR.Addr().BitLen()
	sum := new(big.Int).SetBytes(p.CIDR.Addr().AsSlice())
	sum.Add(sum, index.Lsh(index, uint(width-p.BlockBits)))
	a, _ := netip.AddrFromSlice(sum.FillBytes(make([]byte, width/8)))
	return netip.PrefixFrom(a, p.BlockBits)
}

// next returns the block that follows, and the first one after the last.
func (p Pool) next(b netip.Prefix) netip.Prefix {
	raw := b.Addr().AsSlice()
	carry := 0
	if p.BlockBits > 0 {
		i := (p.BlockBits - 1) / 8
		carry = 1 << (7 - (p.BlockBits-1)%8)
		for ; i >= 0 && carry != 0; i-- {
			sum := int(raw[i]) + carry
			raw[i], carry = byte(sum), sum>>8
		}
	}
	a, _ := netip.AddrFromSlice(raw)
	if !p.CIDR.Contains(a) {
		a = p.CIDR.Addr()
	}
	return netip.PrefixFrom(a, p.BlockBits)
}

// query is what decides which pools qualify.
type query struct {
	family          Family
	use             Use
	node            string
	nodeLabels      map[string]string
	namespaceLabels map[string]string // nil: the namespace is not known
	wanted          []string          // names or CIDRs; empty: any
}

// qualify returns the pools that may serve a request, in the order asked for
// or else in the order given, or a *NoPoolError that tells for each pool of
// the family why not. A pool that was asked for by name need not select the
// node or the namespace, nor be Automatic. A pool asked for that does not
// exist, or gives out nothing new, is an error on its own: the caller must
// not silently get an address from elsewhere.
func (q query) qualify(pools []*v3.IPPool) ([]Pool, error) {
	none := &NoPoolError{Family: q.family, Node: q.node}
	byName := map[string]Pool{}
	var order []Pool
	for _, raw := range pools {
		p, err := ParsePool(raw)
		if err != nil {
			none.Reasons = append(none.Reasons, err.Error())
			continue
		}
		byName[p.Name], byName[p.CIDR.String()] = p, p
		if FamilyOf(p.CIDR.Addr()) == q.family {
			order = append(order, p)
		}
	}
	if len(q.wanted) > 0 {
		order = order[:0]
		for _, w := range q.wanted {
			if cidr, err := netip.ParsePrefix(w); err == nil {
				w = cidr.Masked().String()
			}
			p, ok := byName[w]
			if !ok {
				return nil, fmt.Errorf("IPPool %q: %w: no such pool that can be used; %s", w, ErrNoQualifiedPool, strings.Join(none.Reasons, "; "))
			}
			if p.blocked != "" {
				return nil, fmt.Errorf("IPPool %q: %w: %s", w, ErrNoQualifiedPool, p.blocked)
			}
			if FamilyOf(p.CIDR.Addr()) == q.family {
				order = append(order, p)
			}
		}
	}
	if len(order) == 0 && len(q.wanted) > 0 {
		none.Reasons = []string{"none of those asked for is of this family"}
	}
	var fit []Pool
	for _, p := range order {
		if why := q.refuse(p); why != "" {
			none.Reasons = append(none.Reasons, fmt.Sprintf("IPPool %s: %s", p.Name, why))
			continue
		}
		fit = append(fit, p)
	}
	if len(fit) == 0 {
		return nil, none
	}
	return fit, nil
}

// refuse returns why a pool does not qualify, or "".
func (q query) refuse(p Pool) string {
	if p.blocked != "" {
		return p.blocked
	}
	if !p.allows(q.use) {
		return fmt.Sprintf("spec.allowedUses has no %s", q.use)
	}
	if len(q.wanted) > 0 {
		return ""
	}
	if p.spec.AssignmentMode == "Manual" {
		return "spec.assignmentMode is Manual and the pool was not asked for"
	}
	if ok, err := p.selectsNode(q.nodeLabels); err != nil {
		return err.Error()
	} else if !ok {
		return fmt.Sprintf("spec.nodeSelector does not select node %s", q.node)
	}
	if p.spec.NamespaceSelector == "" {
		return ""
	}
	s, err := selector.Parse(p.spec.NamespaceSelector)
	switch {
	case err != nil:
		return fmt.Sprintf("spec.namespaceSelector: %v", err)
	case q.namespaceLabels == nil:
		return "spec.namespaceSelector is set and the namespace is not known"
	case !s.Match(selector.Map(q.namespaceLabels)):
		return "spec.namespaceSelector does not select the namespace"
	}
	return ""
}
