// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
)

// MaxPriority is what LOCAL_PREF and the kernel's priority add up to: every
// node of a cluster derives one from the other, in Calico's scheme.
const MaxPriority = 2147483647

// rule is a rule of a BGPFilter, compiled: all conditions must hold.
type rule struct {
	name   string // for people
	when   []condition
	accept bool
	edit   *bgp.Edit
}

type condition func(r *bgp.Route) bool

func (u *rule) matches(r *bgp.Route) bool {
	for _, holds := range u.when {
		if !holds(r) {
			return false
		}
	}
	return true
}

// compileRule compiles a rule of one family for a session of one type. With an
// error nothing of it may be used: without one of its conditions it would match
// more than was asked for.
func compileRule(name string, r *v3.BGPFilterRule, bits int, ebgp bool) (rule, error) {
	u := rule{name: name}
	if r.CIDR != "" || r.MatchOperator != "" || r.PrefixLength != nil {
		c, err := nets(r, bits)
		if err != nil {
			return u, err
		}
		u.when = append(u.when, c)
	}
	switch r.Source {
	case "":
	case "RemotePeers":
		u.when = append(u.when, func(r *bgp.Route) bool { return !r.Local })
	default:
		return u, fmt.Errorf("source %q: want RemotePeers", r.Source)
	}
	if r.Interface != "" {
		pattern := r.Interface
		u.when = append(u.when, func(r *bgp.Route) bool { return r.Interface != "" && Glob(pattern, r.Interface) })
	}
	switch r.PeerType {
	case "":
	case "eBGP", "iBGP":
		if (r.PeerType == "eBGP") != ebgp {
			u.when = append(u.when, func(*bgp.Route) bool { return false })
		}
	default:
		return u, fmt.Errorf("peerType %q: want eBGP or iBGP", r.PeerType)
	}
	if r.Communities != nil {
		for _, text := range r.Communities.Values {
			c, err := carries(text)
			if err != nil {
				return u, err
			}
			u.when = append(u.when, c)
		}
		if len(r.Communities.Values) == 0 {
			return u, fmt.Errorf("communities.values is empty: want exactly one")
		}
	}
	if len(r.ASPathPrefix) > 0 {
		want := numbers(r.ASPathPrefix)
		u.when = append(u.when, func(r *bgp.Route) bool {
			return len(r.ASPath) >= len(want) && slices.Equal(r.ASPath[:len(want)], want)
		})
	}
	if r.Priority != nil {
		pref, err := localPref(*r.Priority)
		if err != nil {
			return u, err
		}
		u.when = append(u.when, func(r *bgp.Route) bool { return r.HasLocalPref && r.LocalPref == pref })
	}
	switch r.Action {
	case "Accept":
		u.accept = true
	case "Reject":
	default:
		return u, fmt.Errorf("action %q: want Accept or Reject", r.Action)
	}
	var err error
	u.edit, err = operations(r.Operations)
	return u, err
}

// nets is the condition on the route's prefix. In and NotIn mean the network
// and what lies in it, Equal and NotEqual the network alone. prefixLength bounds
// the length in either.
func nets(r *v3.BGPFilterRule, bits int) (condition, error) {
	p, err := v3.ParseNetwork(r.CIDR)
	if err != nil {
		return nil, fmt.Errorf("cidr: %w", err)
	}
	if p.Addr().BitLen() != bits {
		return nil, fmt.Errorf("cidr %s is not of the family of this list", p)
	}
	low, high := p.Bits(), bits
	if l := r.PrefixLength; l != nil {
		if l.Min != nil {
			low = max(low, int(*l.Min))
		}
		if l.Max != nil {
			high = min(high, int(*l.Max))
		}
	}
	within := func(q netip.Prefix) bool {
		return q.Bits() >= low && q.Bits() <= high && p.Contains(q.Addr())
	}
	equal := func(q netip.Prefix) bool { return q == p && within(q) }
	switch r.MatchOperator {
	case "In":
		return func(r *bgp.Route) bool { return within(r.Prefix) }, nil
	case "NotIn":
		return func(r *bgp.Route) bool { return !within(r.Prefix) }, nil
	case "Equal":
		return func(r *bgp.Route) bool { return equal(r.Prefix) }, nil
	case "NotEqual":
		return func(r *bgp.Route) bool { return !equal(r.Prefix) }, nil
	}
	return nil, fmt.Errorf("matchOperator %q: want Equal, NotEqual, In or NotIn", r.MatchOperator)
}

func carries(text string) (condition, error) {
	c, err := v3.ParseCommunity(text)
	switch {
	case err != nil:
		return nil, err
	case len(c) == 2:
		standard := c[0]<<16 | c[1]
		return func(r *bgp.Route) bool { return slices.Contains(r.Communities, standard) }, nil
	}
	large := [3]uint32(c)
	return func(r *bgp.Route) bool { return slices.Contains(r.Large, large) }, nil
}

// operations makes the edit of an accepting rule; nil for none.
func operations(list []v3.BGPFilterOperation) (*bgp.Edit, error) {
	if len(list) == 0 {
		return nil, nil
	}
	e := &bgp.Edit{}
	for _, o := range list {
		switch {
		case o.AddCommunity != nil:
			c, err := v3.ParseCommunity(o.AddCommunity.Value)
			if err != nil {
				return nil, err
			}
			addCommunity(e, v3.AnyCommunity{Values: c})
		case o.PrependASPath != nil:
			e.Prepend = append(numbers(o.PrependASPath.Prefix), e.Prepend...) // the last operation stands first
		case o.SetPriority != nil:
			pref, err := localPref(o.SetPriority.Value)
			if err != nil {
				return nil, err
			}
			e.LocalPref, e.SetLocalPref = pref, true
		default:
			return nil, fmt.Errorf("an operation is empty: want addCommunity, prependASPath or setPriority")
		}
	}
	return e, nil
}

func addCommunity(e *bgp.Edit, c v3.AnyCommunity) {
	switch len(c.Values) {
	case 2:
		e.Communities = append(e.Communities, c.Values[0]<<16|c.Values[1])
	case 3:
		e.Large = append(e.Large, [3]uint32(c.Values))
	default:
		e.Extended = append(e.Extended, c.Extended)
	}
}

func localPref(priority int) (uint32, error) {
	if priority < 1 || priority >= MaxPriority {
		return 0, fmt.Errorf("priority %d: want 1–%d", priority, MaxPriority-1)
	}
	return uint32(MaxPriority - priority), nil
}

func numbers(list []v3.ASNumber) []uint32 {
	out := make([]uint32, len(list))
	for i, as := range list {
		out[i] = uint32(as)
	}
	return out
}

// Glob tells whether a name matches a pattern in which * stands for any text.
func Glob(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], after
	}
}
