// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"net/netip"
	"strconv"
)

// StagedKubernetesNetworkPolicy is a NetworkPolicy of Kubernetes (the API group
// networking.k8s.io, version v1) that is not enforced (yet).
type StagedKubernetesNetworkPolicy struct {
	Object `json:",inline"`
	Spec   StagedKubernetesPolicySpec `json:"spec"`
}

// StagedKubernetesPolicySpec is the body of a StagedKubernetesNetworkPolicy.
type StagedKubernetesPolicySpec struct {
	StagedAction         string `json:"stagedAction,omitempty" oneof:"Set|Delete|Learn|Ignore"`
	KubernetesPolicySpec `json:",inline"`
}

// KubernetesPolicySpec is the body of a NetworkPolicy of Kubernetes. Without
// PolicyTypes it concerns ingress, and egress if it has egress rules.
type KubernetesPolicySpec struct {
	PodSelector KubernetesSelector      `json:"podSelector,omitzero"`
	Ingress     []KubernetesIngressRule `json:"ingress,omitempty"`
	Egress      []KubernetesEgressRule  `json:"egress,omitempty"`
	PolicyTypes []string                `json:"policyTypes,omitempty" oneof:"Ingress|Egress"`
}

// KubernetesIngressRule allows traffic from any of the peers to any of the ports.
// Without peers it is from anybody, without ports any traffic.
type KubernetesIngressRule struct {
	From  []KubernetesPeer `json:"from,omitempty"`
	Ports []KubernetesPort `json:"ports,omitempty"`
}

// KubernetesEgressRule allows traffic to any of the peers, as the other rule does.
type KubernetesEgressRule struct {
	To    []KubernetesPeer `json:"to,omitempty"`
	Ports []KubernetesPort `json:"ports,omitempty"`
}

// KubernetesPeer is pods or a network. Pods are of the policy's namespace, unless
// NamespaceSelector says of which.
type KubernetesPeer struct {
	PodSelector       *KubernetesSelector `json:"podSelector,omitempty"`
	NamespaceSelector *KubernetesSelector `json:"namespaceSelector,omitempty"`
	IPBlock           *KubernetesIPBlock  `json:"ipBlock,omitempty"`
}

// KubernetesIPBlock is a network without some.
type KubernetesIPBlock struct {
	CIDR   string   `json:"cidr" required:"y" check:"cidr"`
	Except []string `json:"except,omitempty" check:"each-cidr"`
}

// KubernetesPort is a protocol, TCP if it is empty, and a port by its number or its
// name in the pod, a range that ends with EndPort, or any port.
type KubernetesPort struct {
	Protocol string `json:"protocol,omitempty" oneof:"TCP|UDP|SCTP"`
	Port     *Port  `json:"port,omitempty" check:"port"`
	EndPort  *int32 `json:"endPort,omitempty" check:"1..65535"`
}

// KubernetesSelector selects what matches all of it.
type KubernetesSelector struct {
	MatchLabels      map[string]string       `json:"matchLabels,omitempty"`
	MatchExpressions []KubernetesRequirement `json:"matchExpressions,omitempty"`
}

// KubernetesRequirement is one condition on a label.
type KubernetesRequirement struct {
	Key      string   `json:"key" required:"y"`
	Operator string   `json:"operator" required:"y" oneof:"In|NotIn|Exists|DoesNotExist"`
	Values   []string `json:"values,omitempty"`
}

// kubernetes checks what the tags do not.
func (f *faults) kubernetes(s *KubernetesPolicySpec) {
	f.kubernetesSelector(&s.PodSelector, "spec.podSelector")
	if len(s.Ingress) > maxRules {
		f.add("spec.ingress", "%d rules: the limit is %d", len(s.Ingress), maxRules)
	}
	if len(s.Egress) > maxRules {
		f.add("spec.egress", "%d rules: the limit is %d", len(s.Egress), maxRules)
	}
	for i := range s.Ingress {
		path := "spec.ingress[" + strconv.Itoa(i) + "]"
		f.kubernetesPeers(s.Ingress[i].From, path+".from")
		f.kubernetesPorts(s.Ingress[i].Ports, path+".ports")
	}
	for i := range s.Egress {
		path := "spec.egress[" + strconv.Itoa(i) + "]"
		f.kubernetesPeers(s.Egress[i].To, path+".to")
		f.kubernetesPorts(s.Egress[i].Ports, path+".ports")
	}
}

func (f *faults) kubernetesPeers(peers []KubernetesPeer, path string) {
	for i := range peers {
		p, path := &peers[i], path+"["+strconv.Itoa(i)+"]"
		pods := p.PodSelector != nil || p.NamespaceSelector != nil
		switch {
		case p.IPBlock != nil && pods:
			f.add(path+".ipBlock", "not beside a selector: make two peers")
		case p.IPBlock == nil && !pods:
			f.add(path, "want podSelector, namespaceSelector or ipBlock")
		case p.IPBlock != nil:
			f.kubernetesBlock(p.IPBlock, path+".ipBlock")
		}
		f.kubernetesSelector(p.PodSelector, path+".podSelector")
		f.kubernetesSelector(p.NamespaceSelector, path+".namespaceSelector")
	}
}

// kubernetesBlock: what is excepted lies strictly within the network.
func (f *faults) kubernetesBlock(b *KubernetesIPBlock, path string) {
	all, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return // the tag says so
	}
	for i, text := range b.Except {
		if not, err := netip.ParsePrefix(text); err == nil && (not.Bits() <= all.Bits() || !all.Contains(not.Addr())) {
			f.add(path+".except["+strconv.Itoa(i)+"]", "%s: want a part of %s", text, b.CIDR)
		}
	}
}

func (f *faults) kubernetesPorts(ports []KubernetesPort, path string) {
	for i := range ports {
		p, path := &ports[i], path+"["+strconv.Itoa(i)+"]"
		switch {
		case p.Port != nil && p.Port.Min != p.Port.Max:
			f.add(path+".port", "%s: want a number or a name; a range ends with endPort", p.Port)
		case p.EndPort == nil:
		case p.Port == nil || p.Port.Name != "":
			f.add(path+".endPort", "needs the number of a port to begin with")
		case *p.EndPort < int32(p.Port.Min):
			f.add(path+".endPort", "%d: want %d–65535", *p.EndPort, p.Port.Min)
		}
	}
}

func (f *faults) kubernetesSelector(s *KubernetesSelector, path string) {
	if s == nil {
		return
	}
	f.checkLabels(s.MatchLabels, path+".matchLabels")
	for i, r := range s.MatchExpressions {
		path := path + ".matchExpressions[" + strconv.Itoa(i) + "]"
		if r.Key != "" {
			f.checkLabels(map[string]string{r.Key: ""}, path+".key")
		}
		switch listed := r.Operator == "In" || r.Operator == "NotIn"; {
		case listed && len(r.Values) == 0:
			f.add(path+".values", "required with %s", r.Operator)
		case !listed && len(r.Values) > 0:
			f.add(path+".values", "must be absent with %s", r.Operator)
		}
		for _, v := range r.Values {
			f.checkLabels(map[string]string{"value": v}, path+".values")
		}
	}
}
