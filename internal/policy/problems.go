// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// Problem is something about an object that its author should know. Field is
// the path within the object, empty if it is about the object as a whole.
type Problem struct {
	Key   Key
	Field string
	Err   error
}

// String names the object, the field and the error.
func (p Problem) String() string {
	name := p.Key.Name
	if p.Key.Namespace != "" {
		name = p.Key.Namespace + "/" + name
	}
	if p.Field == "" {
		return fmt.Sprintf("%s %s: %v", p.Key.Kind, name, p.Err)
	}
	return fmt.Sprintf("%s %s: %s: %v", p.Key.Kind, name, p.Field, p.Err)
}

// fieldError is an error that knows the field it is about.
type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.field + ": " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

func fieldErr(field string, err error) error { return &fieldError{field, err} }

func fieldErrf(field, format string, args ...any) error {
	return &fieldError{field, fmt.Errorf(format, args...)}
}

// problem splits the field from the error.
func problem(k Key, err error) Problem {
	var f *fieldError
	if errors.As(err, &f) {
		return Problem{k, f.field, f.err}
	}
	return Problem{k, "", err}
}

// Problems is an iterator over all that is wrong now, ordered by kind,
// namespace and name. It costs as much as there are local endpoints, so call
// it when someone asks. It is up to date without Flush, but for which host
// endpoint has an interface.
func (x *Index) Problems() iter.Seq[Problem] {
	var all []Problem
	for k, list := range x.odd {
		for _, err := range list {
			all = append(all, problem(k, err))
		}
	}
	for a, rivals := range x.rivals {
		if _, ok := x.reserved[a]; ok {
			continue
		}
		for _, e := range rivals[1:] {
			if rivals[0].rank != rankAlone && e.rank == rankShared {
				continue // anycast
			}
			all = append(all, Problem{e.id.key(), "spec.ipNetworks", fmt.Errorf("%s belongs to the older endpoint %s; release it in one of them", a, rivals[0].id)})
		}
	}
	for a, owner := range x.reserved {
		for _, e := range x.claimants(a) {
			all = append(all, Problem{e.id.key(), "spec.ipNetworks", fmt.Errorf("%s belongs to %s; give the endpoint another address", a, owner)})
		}
	}
	for iface, list := range x.ifaces {
		for _, e := range list[1:] {
			all = append(all, Problem{e.id.key(), "spec.interfaceName", fmt.Errorf("%s belongs to endpoint %s; the endpoint is closed until one of them is removed", iface, list[0].id)})
		}
	}
	profiles := func(k Key, l *local) {
		for _, profile := range l.parents {
			name := profile.Value()
			if r := x.recs[Key{Kind: kindProfile, Name: name}]; r == nil || !r.present {
				all = append(all, Problem{k, "spec.profiles", fmt.Errorf("profile %q does not exist and denies; create it or remove its name", name)})
			}
		}
	}
	for _, list := range x.ifaces {
		profiles(list[0].id.key(), list[0].local)
	}
	for _, h := range x.hosts.local() {
		profiles(h.key(), h.here.local)
	}
	all = append(all, x.hosts.problems()...)
	all = append(all, x.floatingProblems()...)
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(compareKeys(a.Key, b.Key), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Err.Error(), b.Err.Error()))
	})
	return slices.Values(all)
}

// Homeless are the problems of endpoints whose node does not exist, in the order of
// Problems. Which nodes do is known to the caller. It costs as much as there are nodes
// and, while there is such an endpoint, as there are endpoints in the cluster.
func (x *Index) Homeless(exists func(node string) bool) (all []Problem) {
	lost := map[word]error{}
	for node := range x.onNodes {
		if name := node.Value(); name == "" {
			lost[node] = errors.New("it is on no node: nobody has the endpoint; name its node")
		} else if !exists(name) {
			lost[node] = fmt.Errorf("node %q does not exist: nobody has the endpoint; correct the name, or delete the endpoint", name)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	for id, e := range x.endpoints {
		if err := lost[e.node]; err != nil {
			all = append(all, Problem{id.key(), "spec.node", err})
		}
	}
	for _, h := range x.hosts.all {
		if err := lost[h.node]; err != nil {
			all = append(all, Problem{h.key(), "spec.node", err})
		}
	}
	slices.SortFunc(all, func(a, b Problem) int { return compareKeys(a.Key, b.Key) })
	return all
}

// InForce tells whether a good version of an object is in force, the newest or one
// before it.
func (x *Index) InForce(k Key) bool {
	switch k.Kind {
	case kindEndpoint:
		return x.endpoints[EndpointID{k.Namespace, k.Name}] != nil
	case kindHostEndpoint:
		return x.hosts.all[k.Name] != nil
	case kindTier:
		return x.tiers[k.Name] != nil && x.tiers[k.Name].present
	case kindNetworkSet, kindGlobalNetwSet:
		return x.members[k] != nil
	}
	return x.recs[k] != nil && x.recs[k].present
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func (a EndpointID) key() Key { return Key{kindEndpoint, a.Namespace, a.Name} }

// String is namespace/name.
func (a EndpointID) String() string { return a.Namespace + "/" + a.Name }
