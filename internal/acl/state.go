// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"maps"
	"slices"
	"sync"

	"github.com/muslin-net/muslin/internal/policy"
)

// state is the desired table as far as an incremental apply needs it: what
// every object is made of, and who uses whom. Rules are kept as sums and set
// members not at all, so it is small.
type state struct {
	policies   map[policy.Key]*policy.Policy
	effectives map[string]*effState
	users      map[polDir]int                     // jumps to a shared policy chain
	listedBy   map[policy.Key]map[string]struct{} // effectives that contain the policy
	endpoints  map[policy.EndpointID]*policy.Endpoint
	hosts      map[string]*policy.HostEndpoint // by name
	claims     map[string][]policy.EndpointID  // by interface
	live       map[string][]setElem            // elements of the interface's endpoint
	guests     map[string]bool                 // interfaces of guests
	chains     map[string]*chainState
	sets       map[string]*setState
	byID       map[policy.SetID][]string // kernel sets of a policy set
	forms      map[setFamily]form        // of sets of members in use
	forming    sync.Mutex                // of forms, while policies are rendered
	mixing     map[policy.SetID]int      // chains that ask a set in rules that mix
	have       *actual                   // the kernel's, while everything is staged
	problems   map[string]error          // by owner
	epoch      epoch                     // in force
	opts       Options                   // with which all of it was rendered
	again      bool                      // what leads there asks packets on their way again, see again.go
	part       func([]*chain, []*set)    // takes policies, and sets, that are new, while the others are rendered; see create
}

type effState struct {
	effective *policy.Effective
	entered   bool // into the verdict maps
	chains    []string
	uses      []polDir
	lists     []policy.Key
}

type chainState struct {
	sums   []sum
	from   []origin // of each rule
	sets   []string
	mixing []policy.SetID
	pol    polDir // what renders it: a direction of a policy,
	eff    string // or an effective policy
}

// setFamily names one family of a set of members.
type setFamily struct {
	id policy.SetID
	v  int
}

type setState struct {
	set  *set
	refs int
	live bool // created by this or an earlier change
}

func newState() *state {
	return &state{
		policies:   map[policy.Key]*policy.Policy{},
		effectives: map[string]*effState{},
		users:      map[polDir]int{},
		listedBy:   map[policy.Key]map[string]struct{}{},
		endpoints:  map[policy.EndpointID]*policy.Endpoint{},
		hosts:      map[string]*policy.HostEndpoint{},
		claims:     map[string][]policy.EndpointID{},
		live:       map[string][]setElem{},
		guests:     map[string]bool{},
		chains:     map[string]*chainState{},
		sets:       map[string]*setState{},
		byID:       map[policy.SetID][]string{},
		forms:      map[setFamily]form{},
		mixing:     map[policy.SetID]int{},
		problems:   map[string]error{},
	}
}

// change is what a stage makes different, in terms of kernel objects.
type change struct {
	chains     []*chain // rendered anew; unchanged ones are left out
	isNew      map[string]bool
	goneChains []string
	newSets    []*set
	goneSets   []string
	gone       []setElem // of parts that nobody uses any more
	early      []setElem // of what moves between sets, before the change
	earlyDel   []setElem
	memberDel  []setElem
	memberAdd  []setElem
	elemDel    []setElem
	elemAdd    []setElem
	entryAdd   []setElem              // of effective policies that are new
	entryDel   []setElem              // of effective policies that left
	lost       bool                   // the hint contradicts the state
	dirs       [2]bool                // which of workloads' policies change their rules
	lists      [2]bool                // of which direction lists of services change in place
	was        map[string]*chainState // chains that are rewritten or gone
}

// everything is the change from nothing to the whole view.
func everything(view policy.View) policy.Changes {
	ch := policy.Changes{
		Endpoints:  map[policy.EndpointID]*policy.Endpoint{},
		Hosts:      map[string]*policy.HostEndpoint{},
		Effectives: map[string]*policy.Effective{},
		Policies:   map[policy.Key]*policy.Policy{},
	}
	for e := range view.Endpoints() {
		ch.Endpoints[e.ID] = e
	}
	for h := range view.Hosts() {
		ch.Hosts[h.Name] = h
	}
	for e := range view.Effectives() {
		ch.Effectives[e.ID] = e
	}
	for p := range view.Policies() {
		ch.Policies[p.Key] = p
	}
	return ch
}

// stager carries a stage through the state.
type stager struct {
	*state
	r     *renderer
	out   *change
	pol   map[polDir]bool // shared chains to render or remove
	used  map[polDir]bool // chains whose users changed, and whether there were any before
	eff   map[string]bool // effectives to render
	touch map[string]bool // sets whose use changed

	changed int // policies in use whose rules did, if there are several
}

// stage brings the state to what the view wants, looking only where the hint
// points, and returns the difference.
func (s *state) stage(r *renderer, view policy.View, ch *policy.Changes) *change {
	g := &stager{state: s, r: r, out: &change{isNew: map[string]bool{}, was: map[string]*chainState{}},
		pol: map[polDir]bool{}, used: map[polDir]bool{}, eff: map[string]bool{}, touch: map[string]bool{}}
	if have := s.have; have != nil {
		r.has = func(name string) bool { return have.sets[name] != nil }
	} else {
		r.has = nil
	}
	r.form = func(id policy.SetID, f *family) form { return s.form(view, id, f) }
	g.reform(view, ch)
	g.takePolicies(ch)
	g.relog()
	r.atOnce = g.changed > 1
	g.takeEffectives(ch)
	for _, id := range slices.Sorted(maps.Keys(g.eff)) {
		g.renderEffective(id)
	}
	g.settleUses()
	g.takeHosts(ch)
	pds := slices.SortedFunc(maps.Keys(g.pol), comparePolDir)
	for g.part != nil && len(pds) > partOf {
		first := len(g.out.chains)
		g.putPolicies(pds[:partOf])
		g.settleSets(view, ch)
		g.part(g.out.chains[first:], g.out.newSets)
		g.out.chains, g.out.newSets, pds = g.out.chains[:first], nil, pds[partOf:]
	}
	g.putPolicies(pds)
	for key := range ch.Policies {
		g.forget(key)
	}
	g.takeMembers(ch)
	g.settleSets(view, ch)
	g.takeEndpoints(ch)
	g.takeOptions()
	return g.out
}

func (g *stager) put(c *chain) *chainState {
	st := &chainState{sums: c.sums(), from: c.origins(), mixing: c.mixing}
	for _, id := range st.mixing {
		g.mixing[id]++
	}
	for _, s := range c.sets {
		if slices.Contains(st.sets, s.name) {
			continue
		}
		st.sets = append(st.sets, s.name)
		switch have := g.sets[s.name]; {
		case have == nil:
			g.sets[s.name] = &setState{set: s}
			if s.id != "" {
				g.byID[s.id] = append(g.byID[s.id], s.name)
			}
		case have.set.list != s.list:
			if have.live {
				del, add := diffElems(inSet(s.in, have.set.listElems()), inSet(s.in, s.listElems()))
				g.out.memberDel = append(g.out.memberDel, del...)
				g.out.memberAdd = append(g.out.memberAdd, add...)
			}
			have.set = s
			g.out.lists[s.dir] = true
		}
		g.sets[s.name].refs++
		g.touch[s.name] = true
	}
	old := g.chains[c.name]
	if old != nil {
		g.unref(old)
	}
	g.chains[c.name] = st
	if old == nil {
		g.out.isNew[c.name] = true
	} else if slices.Equal(old.sums, st.sums) {
		return st
	} else {
		g.out.was[c.name] = old
		for d, is := range c.dirs {
			g.out.dirs[d] = g.out.dirs[d] || is
		}
	}
	g.out.chains = append(g.out.chains, c)
	return st
}

func (g *stager) remove(name string) {
	st := g.chains[name]
	if st == nil {
		return
	}
	g.unref(st)
	delete(g.chains, name)
	g.out.was[name] = st
	g.out.goneChains = append(g.out.goneChains, name)
}

func (g *stager) unref(st *chainState) {
	for _, n := range st.sets {
		g.sets[n].refs--
		g.touch[n] = true
	}
	for _, id := range st.mixing {
		if g.mixing[id]--; g.mixing[id] == 0 {
			delete(g.mixing, id)
		}
	}
}
