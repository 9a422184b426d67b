// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"unique"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/kubepolicy"
)

// Reader reads objects for an Index, as far as that needs no Index: it parses
// addresses, interns labels and compiles rules, which is most of what an object
// costs. So a listing can be read beside the loop that owns the Index. Several
// Readers may work at the same time; one is not safe for concurrent use. The
// zero value is ready.
type Reader struct {
	words map[string]word
}

// Object is an object that was read.
type Object struct {
	key Key
	put func(*Index) []error // puts it in force; nil if there is no object
	bad bool
}

// Bad tells that the object has a defect, so that a last good version of it is
// what stays in force.
func (o Object) Bad() bool { return o.bad }

// Read reads what is stored under a key; see Index.Set. Objects of kinds that
// the package does not take are read, too, and have no effect.
func (rd *Reader) Read(k Key, r v3.Resource, err error) Object {
	if reflect.ValueOf(r).Kind() == reflect.Pointer && reflect.ValueOf(r).IsNil() {
		r = nil
	}
	switch {
	case !Takes(k.Kind), r == nil && err == nil:
		return Object{key: k}
	case err != nil:
		return Object{k, unreadable(k, r, err), true}
	}
	put, err := rd.readable(k, r)
	return Object{k, put, err != nil && !errors.Is(err, errClosed)}
}

// maxWords bounds the words that a Reader remembers.
const maxWords = 4096

// word interns a string. All objects share a few hundred words, and the table
// of package unique, which is shared and weak, takes several times as long to
// find one as a map does.
func (rd *Reader) word(s string) word {
	if w, ok := rd.words[s]; ok {
		return w
	}
	w := unique.Make(s)
	if rd.words == nil || len(rd.words) >= maxWords {
		rd.words = make(map[string]word, 64)
	}
	rd.words[w.Value()] = w
	return w
}

// readable returns the defect of an object beside what puts it in force.
func (rd *Reader) readable(k Key, r v3.Resource) (put func(*Index) []error, err error) {
	switch o := r.(type) {
	case *v3.WorkloadEndpoint:
		if k.Kind == kindEndpoint {
			p, odd, err := rd.endpoint(k, o)
			return func(x *Index) []error { return x.setEndpoint(p, odd, err) }, err
		}
	case *v3.HostEndpoint:
		if k.Kind == kindHostEndpoint {
			h, odd, err := rd.hostEndpoint(k, o)
			return func(x *Index) []error { x.setHost(k, h); return append(odd, err...) }, nil // what is bad in it is left out
		}
	case *v3.NetworkPolicy:
		if k.Kind == kindPolicy {
			c, odd, err := compilePolicy(k, displayName(k, o.Meta(), o.Spec.Tier), &o.Spec, nil)
			return func(x *Index) []error { return x.setCompiled(k, c, odd, err) }, err
		}
	case *v3.GlobalNetworkPolicy:
		if k.Kind == kindGlobalPolicy {
			c, odd, err := compilePolicy(k, displayName(k, o.Meta(), o.Spec.Tier), &o.Spec.PolicySpec, &o.Spec)
			return func(x *Index) []error { return x.setCompiled(k, c, odd, err) }, err
		}
	case *v3.StagedNetworkPolicy:
		if k.Kind == kindStaged {
			c, odd, err := compileStaged(k, displayName(k, o.Meta(), o.Spec.Tier), o.Spec.StagedAction, &o.Spec.PolicySpec, nil)
			return func(x *Index) []error { return x.setCompiled(k, c, odd, err) }, err
		}
	case *v3.StagedGlobalNetworkPolicy:
		if k.Kind == kindStagedGlobal {
			c, odd, err := compileStaged(k, displayName(k, o.Meta(), o.Spec.Tier), o.Spec.StagedAction, &o.Spec.PolicySpec, &o.Spec.GlobalPolicySpec)
			return func(x *Index) []error { return x.setCompiled(k, c, odd, err) }, err
		}
	case *v3.StagedKubernetesNetworkPolicy:
		if k.Kind == kindStagedKube {
			p, err := kubepolicy.Staged(o)
			if err != nil {
				return func(x *Index) []error { return x.setCompiled(k, nil, nil, err) }, err
			}
			c, odd, err := compileStaged(k, displayName(k, p.Meta(), p.Spec.Tier), p.Spec.StagedAction, &p.Spec.PolicySpec, nil)
			return func(x *Index) []error { return x.setCompiled(k, c, odd, err) }, err
		}
	case *v3.Profile:
		if k.Kind == kindProfile {
			c, odd, err := compileProfile(k, k.Name, &o.Spec)
			if err != nil {
				return func(*Index) []error { return []error{err} }, err
			}
			labels := rd.labels(o.Spec.LabelsToApply)
			return func(x *Index) []error { return append(odd, x.setProfile(k, c, labels)...) }, nil
		}
	case *v3.Tier:
		if k.Kind == kindTier {
			spec := o.Spec
			return func(x *Index) []error { x.setTier(k.Name, &spec); return nil }, nil
		}
	case *v3.NetworkSet:
		if k.Kind == kindNetworkSet {
			own, forged := rd.ownLabels(o.Metadata.Labels, k.Namespace, label{rd.word(labelNamespace), rd.word(k.Namespace)})
			var odd []error
			if forged != "" {
				odd = append(odd, fieldErrf("metadata.labels["+forged+"]", "ignored: it is given by the namespace; remove it"))
			}
			return networkSet(k, o.Spec.Nets, own, []word{rd.word("kns." + k.Namespace)}, odd)
		}
	case *v3.GlobalNetworkSet:
		if k.Kind == kindGlobalNetwSet {
			own := o.Metadata.Labels
			var odd []error
			if _, ok := own[labelNamespace]; ok {
				own = maps.Clone(own)
				delete(own, labelNamespace)
				odd = append(odd, fieldErrf("metadata.labels["+labelNamespace+"]", "ignored: a global network set is in no namespace; remove it"))
			}
			return networkSet(k, o.Spec.Nets, rd.labels(own), nil, odd)
		}
	}
	err = fmt.Errorf("the object is of type %T; want %s", r, k.Kind)
	return func(*Index) []error { return []error{err} }, err
}

// unreadable leaves the last good version in force. Without one, a policy
// whose selector can be read denies, and all else is absent, which closes an
// endpoint and makes a profile deny.
func unreadable(k Key, r v3.Resource, err error) func(*Index) []error {
	var c *compiled
	switch p := r.(type) {
	case *v3.NetworkPolicy:
		c, _, _ = compilePolicy(k, displayName(k, p.Meta(), p.Spec.Tier), &p.Spec, nil)
	case *v3.GlobalNetworkPolicy:
		c, _, _ = compilePolicy(k, displayName(k, p.Meta(), p.Spec.Tier), &p.Spec.PolicySpec, &p.Spec)
	}
	return func(x *Index) []error {
		if rec := x.recs[k]; rec != nil && rec.present {
			return []error{err}
		}
		if c != nil {
			x.setPolicy(k, denying(c))
			x.recs[k].present = false // a better version replaces it, a bad one may too
		}
		return []error{err}
	}
}

// setCompiled puts a policy in force unless it is a bad one with a good
// predecessor.
func (x *Index) setCompiled(k Key, c *compiled, odd []error, err error) []error {
	if err == nil {
		x.setPolicy(k, c)
		return odd
	}
	if rec := x.recs[k]; c != nil && (rec == nil || !rec.present) {
		x.setPolicy(k, c)
		x.recs[k].present = false
	}
	return []error{err}
}

func networkSet(k Key, texts []string, own labelSet, parents []word, odd []error) (put func(*Index) []error, err error) {
	nets, err := parseNets("spec.nets", texts)
	if err != nil {
		return func(*Index) []error { return append(odd, err) }, err
	}
	return func(x *Index) []error {
		old := x.members[k]
		m := &member{nets: nets, isSet: true}
		x.members[k] = m
		x.sets.replace(old, m, own, parents)
		return odd
	}, nil
}

// setEndpoint puts an endpoint in force, or, as far as it could not be read,
// leaves its last good version there.
func (x *Index) setEndpoint(p *parsedEndpoint, odd []error, err error) []error {
	if p != nil {
		x.noteSources(p, odd, err)
		if err == nil && len(p.sources) > 0 && !x.anySource {
			err = fieldErr("spec.allowSpoofedSourcePrefixes", fmt.Errorf("%w: workloadSourceSpoofing of this node is Disabled; set it to Any, or remove the field", errClosed))
		}
	}
	if err != nil {
		if errors.Is(err, errClosed) {
			x.removeEndpoint(p.id)
		}
		return append(odd, err)
	}
	id, old := p.id, x.endpoints[p.id]
	if old != nil {
		id = old.id // the memory that others share
	}
	e := &endpoint{id: id, node: p.node, created: p.created, rank: rank(p.anycast, p.node.Value() == x.node), claims: p.nets, member: &member{nets: x.unreserved(p.nets), ports: p.ports}, floating: p.floating}
	var oldMember *member
	if old != nil {
		oldMember = old.member
		x.onNode(old.node, -1)
		x.unclaim(old)
		x.unclaimFloating(old)
	}
	x.endpoints[id] = e
	x.onNode(e.node, 1)
	x.claim(e)
	x.claimFloating(e)
	x.sets.replace(oldMember, e.member, p.labels, p.profiles)
	if p.node.Value() == x.node {
		e.local = &local{iface: strings.Clone(p.iface), mac: p.mac, hasMAC: p.hasMAC, macs: p.macs, guest: p.guest, process: p.process, stack: p.stack, sources: p.sources, labels: e.member.class.own, parents: p.profiles}
	}
	x.moveLocal(old, e)
	return odd
}
