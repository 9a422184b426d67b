// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/muslin-net/muslin/internal/policy"
)

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
	return fmt.Errorf("spec.interfaceName %q: starts with none of the workload prefixes %s; call it so, or name its prefix in interfacePrefix of the FelixConfiguration", name, strings.Join(r.opts.Prefixes, ", "))
}
