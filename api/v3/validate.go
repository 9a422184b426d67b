// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Validate checks an object that has been through Default: its names, every
// member on its own, and members against each other. It returns nil, one
// *FieldError, or several joined.
//
// It sees one object only. That a tier exists, that pools do not overlap and
// that names are unique is for whoever sees the datastore; what may not change
// is for ValidateUpdate.
func Validate(r Resource) error {
	info, ok := InfoFor(r)
	if !ok {
		return fmt.Errorf("validate %T: not a kind of resource", r)
	}
	return validate(info, r).err()
}

func validate(info KindInfo, r Resource) *faults {
	f := newFaults(info, r)
	f.checkMeta(info, r.Meta())
	f.checkTags(reflect.ValueOf(r), "")
	switch r := r.(type) {
	case *Node:
		f.node(&r.Spec)
		_, errs := r.Settings()
		f.annotations(errs)
	case *WorkloadEndpoint:
		f.workloadEndpoint(r)
		set, errs := r.Settings()
		f.annotations(errs)
		if len(set.MACs) > 0 && r.Spec.MAC == "" {
			f.add("spec.mac", "required with the annotation %smacs: it is the address that packets are sent to", AnnotationPrefix)
		}
	case *HostEndpoint:
		if r.Spec.InterfaceName == "" && len(r.Spec.ExpectedIPs) == 0 {
			f.add("spec.interfaceName", "required, unless expectedIPs tell the interface")
		}
	case *Profile:
		if r.Metadata.Name == DefaultAllowName {
			f.add("metadata.name", "%q is built in and cannot be stored", DefaultAllowName)
		}
		f.checkLabels(r.Spec.LabelsToApply, "spec.labelsToApply")
		f.rules(r.Spec.Ingress, "spec.ingress", ruleScope{ingress: true, global: true})
		f.rules(r.Spec.Egress, "spec.egress", ruleScope{global: true})
	case *Tier:
		f.tier(r)
	case *NetworkPolicy:
		f.policy(&r.Spec, false)
	case *GlobalNetworkPolicy:
		f.globalPolicy(&r.Spec)
	case *StagedNetworkPolicy:
		f.staged(r.Spec.StagedAction, reflect.ValueOf(r.Spec))
		f.policy(&r.Spec.PolicySpec, false)
	case *StagedGlobalNetworkPolicy:
		f.staged(r.Spec.StagedAction, reflect.ValueOf(r.Spec.GlobalPolicySpec))
		f.globalPolicy(&r.Spec.GlobalPolicySpec)
	case *StagedKubernetesNetworkPolicy:
		f.staged(r.Spec.StagedAction, reflect.ValueOf(r.Spec))
		f.kubernetes(&r.Spec.KubernetesPolicySpec)
	case *NetworkSet, *GlobalNetworkSet:
		if _, ok := r.Meta().Labels[LabelNamespace]; ok {
			f.add(`metadata.labels["`+LabelNamespace+`"]`, "reserved: it follows from where the set is; remove it")
		}
	case *IPPool:
		f.pool(&r.Spec)
	case *BGPConfiguration:
		f.bgpConfiguration(r)
		_, errs := r.Settings()
		f.annotations(errs)
	case *BGPPeer:
		set, errs := r.Settings()
		f.annotations(errs) // first: what else is wrong may follow from them
		f.bgpPeer(r, set)
	case *BGPFilter:
		f.bgpFilter(&r.Spec)
	case *FelixConfiguration:
		f.felixConfiguration(r)
	case *ClusterInformation:
		if r.Metadata.Name != "default" {
			f.add("metadata.name", "%q: there is one object of this kind, named default", r.Metadata.Name)
		}
	}
	return f
}

// ValidateUpdate checks what may not change from one version of an object to
// the next. Both are of the same kind and have been through Default.
func ValidateUpdate(old, r Resource) error {
	was, ok1 := old.(*IPPool)
	now, ok2 := r.(*IPPool)
	if !ok1 || !ok2 {
		return nil
	}
	info, _ := InfoFor(r)
	f := newFaults(info, r)
	a, err1 := ParseNetwork(was.Spec.CIDR)
	b, err2 := ParseNetwork(now.Spec.CIDR)
	if err1 == nil && err2 == nil && a != b {
		f.add("spec.cidr", "%s cannot become %s: create another pool and disable this one", a, b)
	}
	if was.Spec.BlockSize != 0 && was.Spec.BlockSize != now.Spec.BlockSize {
		f.add("spec.blockSize", "%d cannot become %d: create another pool and disable this one", was.Spec.BlockSize, now.Spec.BlockSize)
	}
	return f.err()
}

func newFaults(info KindInfo, r Resource) *faults {
	m := r.Meta()
	return &faults{template: FieldError{Kind: info.Kind, Namespace: m.Namespace, Name: m.Name}}
}

func (f *faults) checkMeta(info KindInfo, m *ObjectMeta) {
	switch {
	case info.Namespaced && m.Namespace == "":
		f.add("metadata.namespace", "required")
	case !info.Namespaced && m.Namespace != "":
		f.add("metadata.namespace", "%q: a %s has no namespace; remove it", m.Namespace, info.Kind)
	case info.Namespaced:
		if err := checkDNSLabel(m.Namespace); err != nil {
			f.add("metadata.namespace", "%v", err)
		}
	}
	if m.Name == "" {
		f.add("metadata.name", "required")
	} else if err := checkName(info.Kind, m.Name); err != nil {
		f.add("metadata.name", "%v", err)
	}
	f.checkLabels(m.Labels, "metadata.labels")
	size := 0
	for _, k := range slices.Sorted(maps.Keys(m.Annotations)) {
		size += len(k) + len(m.Annotations[k])
		if !isQualifiedName(strings.ToLower(k)) {
			f.add("metadata.annotations["+strconv.Quote(k)+"]", "want an annotation name: at most 63 letters, digits, '-', '_' and '.', optionally after a DNS name and '/'")
		}
	}
	if const256K := 256 << 10; size > const256K {
		f.add("metadata.annotations", "%d bytes in all: the limit is %d", size, const256K)
	}
}

// checkName checks the name of an object, whose form depends on the kind.
func checkName(kind, name string) error {
	switch kind {
	case "Tier":
		return checkDNSLabel(name)
	case "NetworkPolicy", "StagedNetworkPolicy":
		for _, prefix := range []string{"knp.default.", "ossg.default."} {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				if len(name) > 253 || !isSubdomain(rest) {
					return fmt.Errorf("%q: want a DNS name after %s", name, prefix)
				}
				return nil
			}
		}
		return checkPolicyName(name)
	case "GlobalNetworkPolicy", "StagedGlobalNetworkPolicy":
		return checkPolicyName(name)
	}
	return checkSubdomain(name)
}

// checkPolicyName accepts NAME and TIER.NAME.
func checkPolicyName(name string) error {
	tier, rest, dotted := strings.Cut(name, ".")
	if !dotted {
		tier, rest = name, name
	}
	if len(name) > 253 || !isDNSLabel(tier) || !isDNSLabel(rest) {
		return fmt.Errorf("%q: want a–z, 0–9 and '-', with at most one '.', after the name of the tier", name)
	}
	return nil
}

func (f *faults) node(s *NodeSpec) {
	if s.BGP != nil && reflect.ValueOf(*s.BGP).IsZero() {
		f.add("spec.bgp", "empty: give an address or remove it")
	}
	if s.BGP != nil && s.BGP.ASNumber != nil {
		f.asNumber(*s.BGP.ASNumber, "spec.bgp.asNumber")
	}
}

func (f *faults) workloadEndpoint(r *WorkloadEndpoint) {
	s := &r.Spec
	switch name, err := WorkloadEndpointName(*s); {
	case err != nil:
		path, problem, _ := strings.Cut(err.Error(), ": ")
		if s.Node != "" && s.Orchestrator != "" && s.Endpoint != "" { // else said already
			f.add(path, "%s", problem)
		}
	case name != r.Metadata.Name:
		f.add("metadata.name", "%q: what spec says makes it %q; leave the name out, or mend one of them", r.Metadata.Name, name)
	}
	own := map[netip.Addr]bool{}
	for _, n := range s.IPNetworks {
		if p, err := ParseNetwork(n); err == nil {
			own[p.Addr()] = true
		}
	}
	for i, n := range s.IPNATs {
		here := "spec.ipNATs[" + strconv.Itoa(i) + "]"
		in, err1 := ParseAddr(n.InternalIP)
		ex, err2 := ParseAddr(n.ExternalIP)
		switch {
		case err1 != nil || err2 != nil: // said already
		case !own[in]:
			f.add(here+".internalIP", "%s is none of spec.ipNetworks", in)
		case in.Is4() != ex.Is4():
			f.add(here+".externalIP", "%s is not of the family of %s", ex, in)
		}
	}
	names := map[string]bool{}
	for i, p := range s.Ports {
		here := "spec.ports[" + strconv.Itoa(i) + "]"
		if n, ok := p.Protocol.Number(); ok && n != 0 && !hasPorts(n) {
			f.add(here+".protocol", "%s has no ports: want TCP, UDP or SCTP", p.Protocol)
		}
		key := strings.ToLower(p.Protocol.String()) + "/" + p.Name
		if p.Name != "" && names[key] {
			f.add(here+".name", "%q: occurs twice for %s", p.Name, p.Protocol)
		}
		names[key] = true
	}
}

func (f *faults) tier(r *Tier) {
	fixed, ok := map[string]struct {
		order  float64
		action string
	}{"default": {DefaultTierOrder, "Deny"}, "kube-admin": {1000, "Pass"}, "kube-baseline": {10_000_000, "Pass"}}[r.Metadata.Name]
	if !ok {
		return
	}
	if r.Spec.Order == nil || *r.Spec.Order != fixed.order {
		f.add("spec.order", "the order of tier %s is always %v", r.Metadata.Name, int(fixed.order))
	}
	if r.Spec.DefaultAction != fixed.action {
		f.add("spec.defaultAction", "the default action of tier %s is always %s", r.Metadata.Name, fixed.action)
	}
}

func (f *faults) pool(s *IPPoolSpec) {
	p, err := ParseNetwork(s.CIDR)
	if err != nil {
		return // said already
	}
	low, high := 20, 32
	if p.Addr().Is6() {
		low, high = 116, 128
		if s.IPIPMode == "Always" || s.IPIPMode == "CrossSubnet" {
			f.add("spec.ipipMode", "%s: IP in IP is for IPv4 pools: want Never", s.IPIPMode)
		}
	}
	switch {
	case s.BlockSize != 0 && (s.BlockSize < low || s.BlockSize > high):
		f.add("spec.blockSize", "%d: want %d–%d for this family", s.BlockSize, low, high)
	case s.BlockSize != 0 && p.Bits() > s.BlockSize && !s.Disabled:
		f.add("spec.cidr", "%s is smaller than one block of /%d: give a shorter prefix or a larger blockSize", p, s.BlockSize)
	}
	for _, reserved := range []string{"169.254.0.0/16", "fe80::/10"} {
		if p.Overlaps(netip.MustParsePrefix(reserved)) {
			f.add("spec.cidr", "%s overlaps %s, the link-local range", p, reserved)
		}
	}
	tunnelled := s.VXLANMode == "Always" || s.VXLANMode == "CrossSubnet" || s.IPIPMode == "Always" || s.IPIPMode == "CrossSubnet"
	if s.IPIPMode != "" && s.IPIPMode != "Never" && s.VXLANMode != "" && s.VXLANMode != "Never" {
		f.add("spec.vxlanMode", "%s together with ipipMode %s: only one may differ from Never", s.VXLANMode, s.IPIPMode)
	}
	uses := map[string]bool{}
	for _, u := range s.AllowedUses {
		uses[u] = true
	}
	if s.NamespaceSelector != "" && uses["Tunnel"] {
		f.add("spec.namespaceSelector", "not together with the use Tunnel: set allowedUses to [Workload]")
	}
	if uses["LoadBalancer"] {
		switch {
		case len(uses) > 1:
			f.add("spec.allowedUses", "LoadBalancer must stand alone")
		case s.NodeSelector != "" && strings.TrimSpace(s.NodeSelector) != "all()":
			f.add("spec.nodeSelector", "must be all() for the use LoadBalancer")
		case tunnelled:
			f.add("spec.allowedUses", "LoadBalancer: ipipMode and vxlanMode must be Never")
		case s.DisableBGPExport:
			f.add("spec.disableBGPExport", "must be false for the use LoadBalancer")
		}
	}
}
