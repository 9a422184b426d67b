// SPDX-License-Identifier: Apache-2.0

package v3

import "net/netip"

// Orders and block sizes that are stored where the author gave none.
const (
	DefaultTierOrder   = 1_000_000
	DefaultBlockSizeV4 = 26
	DefaultBlockSizeV6 = 122
	// DefaultNamespace is that of namespaced objects whose author names none.
	DefaultNamespace = "default"
)

// Default sets what is stored explicitly although the author left it out: kind
// and apiVersion, the namespace of namespaced kinds, the labels by which
// selectors see a policy's tier and an endpoint's namespace and orchestrator,
// the name of a WorkloadEndpoint that has none, and the members for which the
// model demands it. It changes nothing else, and nothing on a second call.
//
// The annotation that holds a policy's displayed name is EncodeMerged's matter.
// Objects of unknown types are left alone. A WorkloadEndpoint whose name cannot
// be made stays nameless, for Validate to explain.
func Default(r Resource) {
	info, ok := InfoFor(r)
	if !ok {
		return
	}
	*r.Type() = TypeMeta{Kind: info.Kind, APIVersion: APIVersion}
	m := r.Meta()
	if info.Namespaced {
		setString(&m.Namespace, DefaultNamespace)
	}
	if p := policySpec(r); p != nil {
		setString(&p.Tier, DefaultTier)
		setLabel(m, LabelTier, p.Tier)
		if len(p.Types) == 0 {
			p.Types = defaultTypes(p)
		}
	}
	switch r := r.(type) {
	case *Tier:
		if r.Spec.Order == nil {
			order := float64(DefaultTierOrder)
			r.Spec.Order = &order
		}
		setString(&r.Spec.DefaultAction, "Deny")
	case *WorkloadEndpoint:
		if m.Name == "" {
			m.Name, _ = WorkloadEndpointName(r.Spec)
		}
		setLabel(m, LabelNamespace, m.Namespace)
		if r.Spec.Orchestrator != "" {
			setLabel(m, LabelOrchestrator, r.Spec.Orchestrator)
		}
	case *IPPool:
		defaultPool(&r.Spec)
	case *BGPConfiguration:
		setString(&r.Spec.LogSeverityScreen, "Info")
		setString(&r.Spec.ServiceLoadBalancerAggregation, "Enabled")
	case *FelixConfiguration:
		setString(&r.Spec.FloatingIPs, "Disabled")
		setString(&r.Spec.BPFConnectTimeLoadBalancing, "TCP")
		setString(&r.Spec.BPFHostNetworkedNATWithoutCTLB, "Enabled")
		setString(&r.Spec.NFTablesMode, "Auto")
		setString(&r.Spec.NFTablesFlowTableOffload, "Disabled")
	case *StagedNetworkPolicy:
		setString(&r.Spec.StagedAction, "Set")
		if r.Spec.StagedAction == "Delete" {
			r.Spec.Types = nil
		}
	case *StagedKubernetesNetworkPolicy:
		setString(&r.Spec.StagedAction, "Set")
	case *StagedGlobalNetworkPolicy:
		setString(&r.Spec.StagedAction, "Set")
		if r.Spec.StagedAction == "Delete" {
			r.Spec.Types = nil
		}
	}
}

// defaultTypes is the stored default of spec.types, which differs from what a
// policy stored without types means (both directions).
func defaultTypes(p *PolicySpec) []string {
	switch {
	case len(p.Egress) == 0:
		return []string{"Ingress"}
	case len(p.Ingress) == 0:
		return []string{"Egress"}
	}
	return []string{"Ingress", "Egress"}
}

func defaultPool(p *IPPoolSpec) {
	if prefix, err := netip.ParsePrefix(p.CIDR); err == nil {
		prefix = prefix.Masked()
		p.CIDR = prefix.String()
		if p.BlockSize == 0 {
			p.BlockSize = DefaultBlockSizeV4
			if prefix.Addr().Is6() {
				p.BlockSize = DefaultBlockSizeV6
			}
		}
	}
	setString(&p.IPIPMode, "Never")
	setString(&p.VXLANMode, "Never")
	setString(&p.NodeSelector, "all()")
	setString(&p.AssignmentMode, "Automatic")
	if len(p.AllowedUses) == 0 {
		p.AllowedUses = []string{"Workload", "Tunnel"}
	}
}

func setString(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

func setLabel(m *ObjectMeta, name, value string) {
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	m.Labels[name] = value
}
