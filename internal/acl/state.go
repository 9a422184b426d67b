// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
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
	forms      map[setFamily]form        // of sets of networks in use
	forming    sync.Mutex                // of forms, while policies are rendered
	mixing     map[policy.SetID]int      // chains that ask a set in rules that mix
	have       map[string]*actualSet     // the kernel's, while everything is staged
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

// setFamily names one family of a set of networks.
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
	if len(s.have) > 0 {
		r.has = func(name string) bool { return s.have[name] != nil }
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

func (g *stager) putPolicies(pds []polDir) {
	for i, c := range g.renderPolicies(pds) {
		if c != nil {
			g.put(c).pol = pds[i]
		} else {
			g.remove(pds[i].chain())
		}
	}
}

// renderPolicies renders the chains of policies, nil for those that nobody
// uses. A renderer keeps nothing, so that all processors can render.
func (g *stager) renderPolicies(pds []polDir) []*chain {
	out := make([]*chain, len(pds))
	const share = 16 // not worth another goroutine below that
	parts := min(runtime.GOMAXPROCS(0), 1+len(pds)/share)
	var renderers sync.WaitGroup
	for part := range parts {
		renderers.Go(func() {
			for i := part * len(pds) / parts; i < (part+1)*len(pds)/parts; i++ {
				if pd := pds[i]; g.users[pd] > 0 {
					out[i] = g.r.policyChain(g.policies[pd.key], pd)
				}
			}
		})
	}
	renderers.Wait()
	return out
}

// form tells how one family of a set is held: as networks if any member is more
// than a single address. Once it was it stays so while the set is in use.
func (s *state) form(view policy.View, id policy.SetID, f *family) form {
	k := setFamily{id, f.v}
	s.forming.Lock()
	defer s.forming.Unlock()
	if as, known := s.forms[k]; known {
		return as
	}
	as := asHosts
	for _, had := range []form{asNets, asNetsToo} {
		if s.have[memberSet(id, f, had, false).name] != nil || s.have[memberSet(id, f, had, true).name] != nil {
			as = had
		}
	}
	if as == asHosts {
		for m := range view.Members(id) {
			if isNetwork(m) && familyOf(m.Net.Addr()) == f {
				as = asNets
				break
			}
		}
	}
	s.forms[k] = as
	return as
}

func isNetwork(m policy.Member) bool { return m.Net.IsValid() && !m.Net.IsSingleIP() }

// maxCopied bounds the members of a set that is replaced as a whole.
const maxCopied = 4096

// reform finds sets that must be held in another form, and renders what uses
// them anew. One that gets its first network becomes an interval set. One that is
// an interval set already changes in place, which takes effect shortly after the
// rules of the transaction; if policies change with it, it is replaced instead.
func (g *stager) reform(view policy.View, ch *policy.Changes) {
	for id, sc := range ch.Sets {
		if len(g.byID[id]) == 0 { // not in use: what was known may be old
			delete(g.forms, setFamily{id, 4})
			delete(g.forms, setFamily{id, 6})
		}
		if sc.Kind != policy.SetNets {
			continue
		}
		for _, f := range []*family{ipv4, ipv6} {
			k := setFamily{id, f.v}
			was, known := g.forms[k]
			of := func(m policy.Member) bool { return familyOf(m.Net.Addr()) == f }
			now := was
			switch {
			case !known:
			case was == asHosts:
				if slices.ContainsFunc(sc.Added, func(m policy.Member) bool { return of(m) && isNetwork(m) }) {
					now = asNets
				}
			case len(ch.Policies) > 0 && (slices.ContainsFunc(sc.Added, of) || slices.ContainsFunc(sc.Removed, of)) && few(view, id):
				now = asNets + asNetsToo - was
			}
			if now != was {
				g.forms[k] = now
				g.renderUsers(memberSet(id, f, was, false).name)
				g.renderUsers(memberSet(id, f, was, true).name)
			}
		}
	}
}

func few(view policy.View, id policy.SetID) bool {
	n := 0
	for range view.Members(id) {
		if n++; n > maxCopied {
			return false
		}
	}
	return true
}

// renderUsers renders the chains anew that look up a set.
func (g *stager) renderUsers(name string) {
	for _, c := range g.chains {
		switch {
		case !slices.Contains(c.sets, name):
		case c.eff != "":
			g.eff[c.eff] = true
		default:
			g.pol[c.pol] = true
		}
	}
}

func (g *stager) takePolicies(ch *policy.Changes) {
	for key, p := range ch.Policies {
		if p == nil {
			continue // goes when nothing lists it any more
		}
		old := g.policies[key]
		g.policies[key] = p
		if old != nil && len(ch.Policies) > 1 && !sameRules(old, p) {
			g.changed++
		}
		for _, d := range directions {
			g.pol[polDir{key: key, dir: d}] = true
			if pd := (polDir{key, d, true}); g.users[pd] > 0 {
				g.pol[pd] = true
			}
			if old == nil || !shared(old, d) || !shared(p, d) {
				for id := range g.listedBy[key] {
					g.eff[id] = true
				}
			}
		}
	}
}

func sameRules(a, b *policy.Policy) bool {
	for _, d := range directions {
		if !slices.EqualFunc(rulesOf(a, d), rulesOf(b, d), func(x, y policy.Rule) bool {
			return bytes.Equal(appendRule(nil, &x), appendRule(nil, &y))
		}) {
			return false
		}
	}
	return true
}

var directions = []policy.Direction{policy.Ingress, policy.Egress}

func (g *stager) takeEffectives(ch *policy.Changes) {
	take := func(e *policy.Effective) {
		st := g.effectives[e.ID]
		if st == nil {
			st = &effState{}
			g.effectives[e.ID] = st
		}
		st.effective = e
		g.eff[e.ID] = true
	}
	for id, e := range ch.Effectives {
		if e != nil {
			take(e)
		} else if st := g.effectives[id]; st != nil {
			st.effective = nil
			g.eff[id] = true
		}
	}
	missing := func(e *policy.Effective) bool {
		return e != nil && (g.effectives[e.ID] == nil || g.effectives[e.ID].effective == nil)
	}
	for _, ep := range ch.Endpoints {
		if ep != nil && missing(ep.Effective) {
			take(ep.Effective)
		}
	}
	for _, h := range ch.Hosts {
		if h == nil {
			continue
		}
		for _, e := range h.Stages {
			if missing(e) {
				take(e)
			}
		}
	}
}

// renderEffective renders the chains of an effective policy, or removes those
// of one that left.
func (g *stager) renderEffective(id string) {
	st := g.effectives[id]
	was := *st
	st.chains, st.uses, st.lists = nil, nil, nil
	for _, k := range was.lists {
		delete(g.listedBy[k], id)
	}
	if st.effective == nil {
		delete(g.effectives, id)
	} else {
		lookup := func(p *policy.Policy) *policy.Policy {
			st.lists = append(st.lists, p.Key)
			if g.listedBy[p.Key] == nil {
				g.listedBy[p.Key] = map[string]struct{}{}
			}
			g.listedBy[p.Key][id] = struct{}{}
			if g.policies[p.Key] == nil {
				g.policies[p.Key] = p
			}
			return g.policies[p.Key]
		}
		for _, d := range directions {
			chains, uses := g.r.effective(st.effective, d, lookup)
			for _, c := range chains {
				st.chains = append(st.chains, c.name)
				g.put(c).eff = id
			}
			st.uses = append(st.uses, uses...)
		}
	}
	var entries, entered []setElem
	if st.entered = st.effective != nil && st.effective.Stage == policy.StageWorkload; st.entered {
		entries = g.r.entries(id)
	}
	if was.entered {
		entered = g.r.entries(id)
	}
	del, add := diffElems(entered, entries)
	g.out.entryDel = append(g.out.entryDel, del...)
	g.out.entryAdd = append(g.out.entryAdd, add...)
	for _, pd := range st.uses {
		g.use(pd, 1)
	}
	for _, pd := range was.uses {
		g.use(pd, -1)
	}
	for _, name := range was.chains {
		if !slices.Contains(st.chains, name) {
			g.remove(name)
		}
	}
	for _, k := range was.lists {
		g.forget(k)
	}
}

// use counts who uses a chain of a policy, and remembers whether anybody did before.
func (g *stager) use(pd polDir, d int) {
	if _, known := g.used[pd]; !known {
		g.used[pd] = g.users[pd] > 0
	}
	g.users[pd] += d
}

// settleUses has the chains of policies rendered that come into use, or leave it. That
// is known only of all effective policies together: what one of them passes on to
// another stays as it is.
func (g *stager) settleUses() {
	for pd, used := range g.used {
		if used != (g.users[pd] > 0) {
			g.pol[pd] = true
		}
		if g.users[pd] == 0 {
			delete(g.users, pd)
		}
	}
}

// forget drops a policy that nothing lists.
func (g *stager) forget(k policy.Key) {
	if len(g.listedBy[k]) == 0 {
		delete(g.listedBy, k)
		delete(g.policies, k)
	}
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

// takeMembers turns changed members into changed elements of the kernel sets
// that stay. A set that is new is filled as a whole.
func (g *stager) takeMembers(ch *policy.Changes) {
	var dels, adds [2][]setElem // of what permissions ask, and of what denials ask
	for id, sc := range ch.Sets {
		for _, name := range g.byID[id] {
			st := g.sets[name]
			if !st.live || st.refs == 0 {
				continue
			}
			if sc.New {
				g.out.lost = true
			}
			var del, add []elem
			owner := st.set.owner()
			for _, m := range sc.Removed {
				del = st.set.memberElems(del, m, owner)
			}
			for _, m := range sc.Added {
				add = st.set.memberElems(add, m, owner)
			}
			of := askedBy(st.set.denial)
			dels[of] = append(dels[of], inSet(st.set.kernel(), del)...)
			adds[of] = append(adds[of], inSet(st.set.kernel(), add)...)
		}
	}
	if g.inTwoSteps(ch, &dels, &adds) {
		return
	}
	g.out.memberDel = slices.Concat(g.out.memberDel, dels[0], dels[1])
	g.out.memberAdd = slices.Concat(g.out.memberAdd, adds[0], adds[1])
	if len(g.out.memberDel) > 0 && len(g.out.memberAdd) > 0 && (g.oneMoves(ch) || g.onlyLists(ch)) {
		gone := map[setPlace]bool{}
		for _, e := range g.out.memberDel {
			gone[setPlace{e.set, e.place()}] = true
		}
		// One that stays with another value must go before it comes.
		stays := func(e setElem) bool { return gone[setPlace{e.set, e.place()}] }
		g.out.early = slices.DeleteFunc(slices.Clone(g.out.memberAdd), stays)
		g.out.memberAdd = slices.DeleteFunc(g.out.memberAdd, func(e setElem) bool { return !stays(e) })
	}
	g.sortMembers()
}

// sortMembers groups elements by set.
func (g *stager) sortMembers() {
	bySet := func(a, b setElem) int { return strings.Compare(a.set, b.set) }
	for _, list := range [][]setElem{g.out.memberDel, g.out.memberAdd, g.out.early, g.out.earlyDel} {
		slices.SortStableFunc(list, bySet)
	}
}

// setPlace identifies an element among those of all sets.
type setPlace struct {
	set string
	place
}

// onlyLists tells whether all that changes is lists of services of one policy,
// several of them, whose rules all do the same: the same is true of a service that
// moves among these. Between the two directions it is not: both must allow a packet.
func (g *stager) onlyLists(ch *policy.Changes) bool {
	if len(ch.Policies) != 1 || g.out.lists[0] && g.out.lists[1] || len(ch.Effectives)+len(ch.Endpoints)+len(ch.Hosts)+len(ch.Sets)+len(g.out.chains)+len(g.out.goneChains) > 0 {
		return false
	}
	first := g.out.memberAdd[0].key
	return slices.ContainsFunc(slices.Concat(g.out.memberAdd, g.out.memberDel), func(e setElem) bool { return e.key[:16] != first[:16] })
}

// oneMoves tells whether all that changes is the sets that one address of each
// family is in. A packet may ask one set before a transaction takes effect and
// another one after it: it would find what moves in neither. So that goes into
// the new sets before it leaves the old ones. In between it is in both, and what
// becomes of a packet must be what becomes of it before or after: no rule may mix
// the two.
func (g *stager) oneMoves(ch *policy.Changes) bool {
	if len(ch.Policies)+len(ch.Effectives)+len(ch.Endpoints)+len(ch.Hosts) > 0 {
		return false
	}
	moved := map[bool]policy.Member{}
	for id, sc := range ch.Sets {
		if g.mixing[id] > 0 {
			return false
		}
		for _, m := range slices.Concat(sc.Added, sc.Removed) {
			v4 := m.Net.Addr().Is4()
			if other, ok := moved[v4]; sc.Kind != policy.SetNets || ok && other != m {
				return false
			}
			moved[v4] = m
		}
	}
	return true
}

// mixes lists the sets in the rules of a policy's direction that mix. Of an address that
// is in the sets of before and of after, the first rule that matches is the first one
// before or after, and says what becomes of the packet. Unless it passes: then a set of
// before may lead to the next tier, and one of after through it. Or unless a rule is for
// who is not in a set: it matches before or after, and not in between. Or unless a
// rule asks for the end whose policy it is: the policy of the other end may ask for it,
// too, and both must allow the packet.
func mixes(p *policy.Policy, d policy.Direction) (out []policy.SetID) {
	if p.Staged {
		return nil
	}
	for _, ru := range rulesOf(p, d) {
		own := &ru.Src
		if d == policy.Ingress {
			own = &ru.Dst
		}
		for _, m := range []*policy.Match{&ru.Src, &ru.Dst} {
			if ru.Action == policy.Pass || len(m.NotSets) > 0 || m == own {
				out = append(append(out, m.Sets...), m.NotSets...)
			}
		}
	}
	return out
}

func inSet(name string, es []elem) (out []setElem) {
	for _, e := range es {
		out = append(out, setElem{name, e})
	}
	return out
}

func (g *stager) settleSets(view policy.View, ch *policy.Changes) {
	for _, name := range slices.Sorted(maps.Keys(g.touch)) {
		st := g.sets[name]
		switch {
		case st.refs > 0 && !st.live:
			st.live = true
			g.out.newSets = append(g.out.newSets, st.set)
		case st.refs == 0:
			switch {
			case st.live && st.set.in != "":
				g.out.gone = append(g.out.gone, inSet(st.set.in, st.set.before(view, ch))...)
			case st.live:
				g.out.goneSets = append(g.out.goneSets, name)
			}
			delete(g.sets, name)
			if id := st.set.id; id != "" {
				g.byID[id] = slices.DeleteFunc(g.byID[id], func(n string) bool { return n == name })
				if len(g.byID[id]) == 0 {
					delete(g.byID, id)
					delete(g.forms, setFamily{id, 4})
					delete(g.forms, setFamily{id, 6})
				}
			}
		}
	}
	clear(g.touch)
}

// before returns the elements that a part had before the change.
func (s *set) before(view policy.View, ch *policy.Changes) (out []elem) {
	sc := ch.Sets[s.id]
	if s.id == "" || sc == nil {
		return s.content(view, nil)
	}
	added := make(map[policy.Member]bool, len(sc.Added))
	for _, m := range sc.Added {
		added[m] = true
	}
	owner := s.owner()
	for m := range view.Members(s.id) {
		if !added[m] {
			out = s.memberElems(out, m, owner)
		}
	}
	for _, m := range sc.Removed {
		out = s.memberElems(out, m, owner)
	}
	return out
}

// takeEndpoints turns changed endpoints into changed elements. Of several
// endpoints that claim one interface the first by name has it.
func (g *stager) takeEndpoints(ch *policy.Changes) {
	ifaces := map[string]bool{}
	for id, e := range ch.Endpoints {
		delete(g.problems, endpointOwner(id))
		if old := g.endpoints[id]; old != nil {
			ifaces[old.Interface] = true
			g.claims[old.Interface] = slices.DeleteFunc(g.claims[old.Interface], func(x policy.EndpointID) bool { return x == id })
			delete(g.endpoints, id)
		}
		if e == nil {
			continue
		}
		if err := g.r.validInterface(e.Interface); err != nil {
			g.problems[endpointOwner(id)] = err
			continue
		}
		g.endpoints[id] = e
		g.claims[e.Interface] = append(g.claims[e.Interface], id)
		ifaces[e.Interface] = true
	}
	for _, iface := range slices.Sorted(maps.Keys(ifaces)) {
		g.settleInterface(iface)
	}
	if len(g.guests) == 0 {
		g.remove(chainGuest)
		g.remove(chainAnswer)
		return
	}
	for _, c := range g.r.guestChains() {
		g.put(c)
	}
}

func (g *stager) settleInterface(iface string) {
	claims := g.claims[iface]
	slices.SortFunc(claims, func(a, b policy.EndpointID) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	var want []setElem
	var e *policy.Endpoint // which has it
	framed := false
	for i, id := range claims {
		if i == 0 {
			delete(g.problems, endpointOwner(id))
			e = g.endpoints[id]
			want = g.r.endpoint(e)
			framed = len(want) > 0 && !g.r.noFrames && !e.Process
			continue
		}
		g.problems[endpointOwner(id)] = fmt.Errorf("spec.interfaceName %q: already used by %s; give it another interface",
			iface, endpointOwner(claims[0]))
		if closed := g.endpoints[id]; closed.Process { // its addresses are on lo, whoever has the name
			want = append(want, g.r.process(closed, true)...)
		}
	}
	delete(g.guests, iface)
	if framed {
		g.put(g.r.framesOf(e))
		if e.Guest {
			g.guests[iface] = true
		}
	} else {
		g.remove(framesName(iface))
	}
	if framed && g.r.enslaved(iface) {
		g.put(g.r.framesTo(e))
	} else {
		g.remove(framesToName(iface))
	}
	del, add := diffElems(g.live[iface], want)
	if len(g.live[iface]) > 0 && len(want) > 0 {
		// Whether there is a MAC address to check is asked before the address: while
		// that changes under an endpoint, the address is there.
		if has(add, setMACChecked) {
			g.out.early, add = moveTo(g.out.early, add, setMAC)
		}
		if has(del, setMACChecked) {
			g.out.gone, del = moveTo(g.out.gone, del, setMAC)
		}
	}
	g.out.elemDel = append(g.out.elemDel, del...)
	g.out.elemAdd = append(g.out.elemAdd, add...)
	if len(claims) == 0 {
		delete(g.claims, iface)
		delete(g.live, iface)
		return
	}
	g.live[iface] = want
}

func has(es []setElem, set string) bool {
	return slices.ContainsFunc(es, func(e setElem) bool { return e.set == set })
}

// moveTo moves the elements of one set from a list to another.
func moveTo(to, from []setElem, set string) (longer, shorter []setElem) {
	for _, e := range from {
		if e.set == set {
			to = append(to, e)
		} else {
			shorter = append(shorter, e)
		}
	}
	return to, shorter
}

// diffElems returns what to delete from old and add to it to reach want. An
// element whose value changes is in both.
func diffElems(old, want []setElem) (del, add []setElem) {
	have := make(map[setPlace]string, len(old))
	for _, e := range old {
		have[setPlace{e.set, e.place()}] = e.value()
	}
	seen := make(map[setPlace]bool, len(want))
	for _, e := range want {
		k := setPlace{e.set, e.place()}
		if seen[k] {
			continue
		}
		seen[k] = true
		value, ok := have[k]
		if ok && value == e.value() {
			delete(have, k)
		} else {
			add = append(add, e)
		}
	}
	for _, e := range old {
		k := setPlace{e.set, e.place()}
		if _, ok := have[k]; ok {
			delete(have, k)
			del = append(del, e)
		}
	}
	return del, add
}

// validInterface refuses names that cannot be a workload's: the rules match
// by prefix, and an uplink must never be claimed.
func (r *renderer) validInterface(name string) error {
	if name == "" || len(name) > 15 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == '/' || c > '~' }) {
		return fmt.Errorf("spec.interfaceName %q: not a name for a Linux interface (1 to 15 printable characters without space or slash)", name)
	}
	for _, p := range r.opts.Prefixes {
		if strings.HasPrefix(name, p) {
			return nil
		}
	}
	return fmt.Errorf("spec.interfaceName %q: starts with none of the workload prefixes %s", name, strings.Join(r.opts.Prefixes, ", "))
}

func comparePolDir(a, b polDir) int {
	host := 0 // what is for hosts comes last
	switch {
	case a.host && !b.host:
		host = 1
	case b.host && !a.host:
		host = -1
	}
	return cmp.Or(strings.Compare(a.key.Kind, b.key.Kind), strings.Compare(a.key.Namespace, b.key.Namespace),
		strings.Compare(a.key.Name, b.key.Name), int(a.dir)-int(b.dir), host)
}
