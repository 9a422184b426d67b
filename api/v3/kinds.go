// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"reflect"
	"slices"
	"strings"
)

// KindInfo describes a kind of resource.
type KindInfo struct {
	Kind       string          // as in the kind member: NetworkPolicy
	Plural     string          // as in the key: networkpolicies
	Aliases    []string        // what users may call it beside Kind and Plural, lower case
	Namespaced bool            // whether objects live in a namespace
	New        func() Resource // returns an empty object whose kind and apiVersion are set
}

// kind describes one Go type as a KindInfo.
func kind[T any, P interface {
	*T
	Resource
}](namespaced bool, plural string, aliases ...string) KindInfo {
	name := reflect.TypeFor[T]().Name()
	return KindInfo{Kind: name, Plural: plural, Aliases: aliases, Namespaced: namespaced, New: func() Resource {
		r := P(new(T))
		*r.Type() = TypeMeta{Kind: name, APIVersion: APIVersion}
		return r
	}}
}

// kinds is never written to.
var kinds = []KindInfo{
	kind[ClusterInformation](false, "clusterinformations", "clusterinfo"),
	kind[FelixConfiguration](false, "felixconfigurations", "felixconfig"),
	kind[BGPConfiguration](false, "bgpconfigurations", "bgpconfig"),
	kind[BGPFilter](false, "bgpfilters", "bgpf", "bf"),
	kind[IPPool](false, "ippools", "ipp", "pool", "pools"),
	kind[IPReservation](false, "ipreservations", "reservation", "reservations"),
	kind[Node](false, "nodes", "no"),
	kind[BGPPeer](false, "bgppeers", "bgpp", "bp"),
	kind[Tier](false, "tiers"),
	kind[Profile](false, "profiles", "pro"),
	kind[GlobalNetworkSet](false, "globalnetworksets", "gnetset", "gnetsets"),
	kind[NetworkSet](true, "networksets", "netset", "netsets"),
	kind[GlobalNetworkPolicy](false, "globalnetworkpolicies", "gnp", "gnps"),
	kind[NetworkPolicy](true, "networkpolicies", "np", "nps", "policy", "policies", "pol"),
	kind[StagedGlobalNetworkPolicy](false, "stagedglobalnetworkpolicies", "sgnp"),
	kind[StagedNetworkPolicy](true, "stagednetworkpolicies", "snp", "spol"),
	kind[StagedKubernetesNetworkPolicy](true, "stagedkubernetesnetworkpolicies", "sknp"),
	kind[HostEndpoint](false, "hostendpoints", "hep", "heps"),
	kind[WorkloadEndpoint](true, "workloadendpoints", "wep", "weps"),
}

// Kinds returns every kind of resource, in the order in which a set of objects
// that refer to each other is best created. The caller owns the result, but not
// the lists of aliases.
func Kinds() []KindInfo { return slices.Clone(kinds) }

// LookupKind finds a kind by its name, its plural or an alias, whatever the
// case, and false if there is none.
func LookupKind(nameOrAlias string) (KindInfo, bool) {
	want := strings.ToLower(nameOrAlias)
	for _, k := range kinds {
		if want == strings.ToLower(k.Kind) || want == k.Plural || slices.Contains(k.Aliases, want) {
			return k, true
		}
	}
	return KindInfo{}, false
}

// InfoFor returns what is known of the kind of an object by its Go type, and
// false if it is no registered kind.
func InfoFor(r Resource) (KindInfo, bool) {
	t := reflect.TypeOf(r)
	if t == nil || t.Kind() != reflect.Pointer {
		return KindInfo{}, false
	}
	return kindNamed(t.Elem().Name())
}

// kindNamed finds a kind by exactly its name.
func kindNamed(name string) (KindInfo, bool) {
	for _, k := range kinds {
		if k.Kind == name {
			return k, true
		}
	}
	return KindInfo{}, false
}

// kindInKey finds a kind by its plural.
func kindInKey(plural string) (KindInfo, bool) {
	for _, k := range kinds {
		if k.Plural == plural {
			return k, true
		}
	}
	return KindInfo{}, false
}

// isTiered tells whether the kind is a policy of a tier.
func isTiered(kind string) bool {
	switch kind {
	case "NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy":
		return true
	}
	return false
}

// policySpec returns the part of a policy that the tiered kinds share, and nil
// for other kinds.
func policySpec(r Resource) *PolicySpec {
	switch p := r.(type) {
	case *NetworkPolicy:
		return &p.Spec
	case *GlobalNetworkPolicy:
		return &p.Spec.PolicySpec
	case *StagedNetworkPolicy:
		return &p.Spec.PolicySpec
	case *StagedGlobalNetworkPolicy:
		return &p.Spec.PolicySpec
	}
	return nil
}
