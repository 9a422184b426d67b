// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
)

// Session is what one peer adds to the Fabric.
type Session struct {
	Fabric *Fabric
	EBGP   bool
	// Filters are the BGPFilters of the session, in order. A nil one stands
	// for one that is named and not there: then nothing passes, because nobody
	// knows what it would have refused.
	Filters []*v3.BGPFilter
	// Strict says that an eBGP session without rules for a direction carries
	// nothing in it (RFC 8212).
	Strict bool
	// Dynamic says so of a session of whatever kind: who is on the other end is not
	// known beforehand.
	Dynamic bool
	// Tags are communities added to everything that is sent.
	Tags []v3.AnyCommunity
}

// Import compiles what is taken from the peer. The errors name filters and
// rules that cannot be used; where there are any, nothing passes.
func (s Session) Import() (bgp.Policy, string, []error) {
	id := newIdentity("import")
	lists, errs := s.compile(id, "importV4", "importV6", func(f *v3.BGPFilterSpec) [2][]v3.BGPFilterRule {
		return [2][]v3.BGPFilterRule{f.ImportV4, f.ImportV6}
	})
	if len(errs) > 0 {
		return refuseAll(errs), id.sum(), errs
	}
	strict := s.strict()
	return func(r *bgp.Route) bgp.Verdict {
		rules := lists.of(r)
		if v, ok := first(rules, r); ok {
			return v
		}
		if strict && len(rules) == 0 {
			return noPolicy
		}
		return bgp.Verdict{}
	}, id.sum(), nil
}

// Export compiles what is sent to the peer, as Import.
func (s Session) Export() (bgp.Policy, string, []error) {
	id := newIdentity("export", s.Fabric.id, s.Tags)
	lists, errs := s.compile(id, "exportV4", "exportV6", func(f *v3.BGPFilterSpec) [2][]v3.BGPFilterRule {
		return [2][]v3.BGPFilterRule{f.ExportV4, f.ExportV6}
	})
	if len(errs) > 0 {
		return refuseAll(errs), id.sum(), errs
	}
	strict, tagged := s.strict(), tagger(s.Tags)
	return func(r *bgp.Route) bgp.Verdict {
		rules := lists.of(r)
		v, ok := first(rules, r)
		switch {
		case ok:
		case strict && len(rules) == 0:
			return noPolicy
		default:
			v = s.Fabric.export(r)
		}
		if v.Refused == bgp.Accepted {
			v.Edit = tagged(v.Edit)
		}
		return v
	}, id.sum(), nil
}

func (s Session) strict() bool { return s.Strict && s.EBGP || s.Dynamic }

var noPolicy = bgp.Verdict{Refused: bgp.RefusedNoPolicy, Detail: "no filter of the session has rules for it (RFC 8212)"}

func refuseAll(errs []error) bgp.Policy {
	v := bgp.Verdict{Refused: bgp.RefusedFilter, Detail: errs[0].Error()}
	return func(*bgp.Route) bgp.Verdict { return v }
}

// lists holds the rules for each family.
type lists [2][]rule

func (l *lists) of(r *bgp.Route) []rule {
	if r.Prefix.Addr().Is6() {
		return l[1]
	}
	return l[0]
}

// compile compiles the lists of one direction.
func (s Session) compile(id *identity, name4, name6 string, take func(*v3.BGPFilterSpec) [2][]v3.BGPFilterRule) (l lists, errs []error) {
	id.add(s.EBGP, s.Strict, s.Dynamic)
	for i, f := range s.Filters {
		if f == nil {
			id.add("missing", i)
			errs = append(errs, fmt.Errorf("spec.filters[%d]: there is no such BGPFilter, so nothing passes", i))
			continue
		}
		rules := take(&f.Spec)
		id.add(f.Metadata.Name, rules)
		for family, list := range rules {
			listName, bits := name4, 32
			if family == 1 {
				listName, bits = name6, 128
			}
			for j := range list {
				name := fmt.Sprintf("BGPFilter %s, %s rule %d", f.Metadata.Name, listName, j)
				u, err := compileRule(name, &list[j], bits, s.EBGP)
				if err != nil {
					errs = append(errs, fmt.Errorf("BGPFilter %s: spec.%s[%d]: %w; nothing passes", f.Metadata.Name, listName, j, err))
					continue
				}
				l[family] = append(l[family], u)
			}
		}
	}
	return l, errs
}

// first is the verdict of the first rule that matches.
func first(rules []rule, r *bgp.Route) (bgp.Verdict, bool) {
	for i := range rules {
		u := &rules[i]
		switch {
		case !u.matches(r):
		case u.accept:
			return bgp.Verdict{Edit: u.edit, Detail: u.name}, true
		default:
			return bgp.Verdict{Refused: bgp.RefusedFilter, Detail: u.name}, true
		}
	}
	return bgp.Verdict{}, false
}

// tagger returns a function that adds communities to edits: the same edit for
// the same one each time. It is as safe for concurrent use as a map.
func tagger(tags []v3.AnyCommunity) func(*bgp.Edit) *bgp.Edit {
	if len(tags) == 0 {
		return func(e *bgp.Edit) *bgp.Edit { return e }
	}
	made := map[*bgp.Edit]*bgp.Edit{}
	return func(e *bgp.Edit) *bgp.Edit {
		t := made[e]
		if t == nil {
			t = &bgp.Edit{}
			if e != nil {
				*t = *e
				t.Communities, t.Large, t.Extended = slices.Clone(e.Communities), slices.Clone(e.Large), slices.Clone(e.Extended)
			}
			for _, c := range tags {
				addCommunity(t, c)
			}
			made[e] = t
		}
		return t
	}
}

// identity hashes what makes policies equal.
type identity struct{ h hash.Hash }

func newIdentity(parts ...any) *identity {
	i := &identity{h: sha256.New()}
	i.add(parts...)
	return i
}

func (i *identity) add(parts ...any) {
	for _, p := range parts {
		b, err := json.Marshal(p)
		if err != nil {
			b = fmt.Append(nil, p)
		}
		i.h.Write(append(b, '\n'))
	}
}

func (i *identity) sum() string { return hex.EncodeToString(i.h.Sum(nil)[:12]) }
