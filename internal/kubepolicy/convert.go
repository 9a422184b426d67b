// SPDX-License-Identifier: Apache-2.0

package kubepolicy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/selector"
)

// Names and labels as Calico's converters give them, so that what either writes
// can stand beside the other's.
const (
	policyPrefix    = "knp.default."
	namespacePrefix = "kns."
	accountPrefix   = "ksa."
	ofNamespace     = "pcns."
	ofAccount       = "pcsa."
	nameLabel       = "projectcalico.org/name"
	isPod           = "projectcalico.org/orchestrator == 'k8s'"
	policyOrder     = 1000
)

// Policy converts a NetworkPolicy. An error names the field; nothing is converted
// then: half of a policy would be another one.
func Policy(p *NetworkPolicy) (*v3.NetworkPolicy, error) {
	out := &v3.NetworkPolicy{Object: v3.Object{
		TypeMeta: v3.TypeMeta{Kind: "NetworkPolicy", APIVersion: v3.APIVersion},
		Metadata: v3.ObjectMeta{Name: policyPrefix + p.Metadata.Name, Namespace: p.Metadata.Namespace},
	}}
	if err := body(&out.Spec, &p.Spec); err != nil {
		return nil, err
	}
	return out, nil
}

// Staged converts a staged NetworkPolicy of Kubernetes, which keeps its name.
func Staged(p *v3.StagedKubernetesNetworkPolicy) (*v3.StagedNetworkPolicy, error) {
	out := &v3.StagedNetworkPolicy{Object: p.Object, Spec: v3.StagedPolicySpec{StagedAction: p.Spec.StagedAction}}
	if err := body(&out.Spec.PolicySpec, &p.Spec.KubernetesPolicySpec); err != nil {
		return nil, err
	}
	return out, nil
}

// body converts the spec of a NetworkPolicy.
func body(out *v3.PolicySpec, spec *Spec) (err error) {
	order := float64(policyOrder)
	out.Tier, out.Order = v3.DefaultTier, &order
	if out.Selector, err = pods(&spec.PodSelector); err != nil {
		return fmt.Errorf("spec.podSelector: %w", err)
	}
	if out.Types, err = types(spec); err != nil {
		return err
	}
	for i := range spec.Ingress {
		r := &spec.Ingress[i]
		rules, err := rules(r.Ports, r.From, func(rule *v3.Rule, peer v3.EntityRule, ports []v3.Port) {
			rule.Source, rule.Destination = peer, v3.EntityRule{Ports: ports}
		})
		if err != nil {
			return fmt.Errorf("spec.ingress[%d]%w", i, err)
		}
		out.Ingress = append(out.Ingress, rules...)
	}
	for i := range spec.Egress {
		r := &spec.Egress[i]
		rules, err := rules(r.Ports, r.To, func(rule *v3.Rule, peer v3.EntityRule, ports []v3.Port) {
			peer.Ports = ports
			rule.Destination = peer
		})
		if err != nil {
			return fmt.Errorf("spec.egress[%d]%w", i, err)
		}
		out.Egress = append(out.Egress, rules...)
	}
	return nil
}

// types are the directions that a policy concerns.
func types(s *Spec) ([]string, error) {
	if len(s.PolicyTypes) == 0 {
		if len(s.Egress) > 0 {
			return []string{"Ingress", "Egress"}, nil
		}
		return []string{"Ingress"}, nil
	}
	for i, t := range s.PolicyTypes {
		if t != "Ingress" && t != "Egress" {
			return nil, fmt.Errorf("spec.policyTypes[%d]: %q: want Ingress or Egress", i, t)
		}
	}
	return slices.Clone(s.PolicyTypes), nil
}

// rules makes a rule for each peer and each protocol: within one rule of the model
// there is one protocol, and one peer.
func rules(ports []Port, peers []Peer, put func(*v3.Rule, v3.EntityRule, []v3.Port)) (out []v3.Rule, err error) {
	services, err := services(ports)
	if err != nil {
		return nil, err
	}
	entities := []v3.EntityRule{{}}
	if len(peers) > 0 {
		entities = nil
	}
	for i := range peers {
		e, err := entity(&peers[i])
		if err != nil {
			return nil, fmt.Errorf(" peer %d%w", i, err)
		}
		entities = append(entities, e)
	}
	for _, s := range services {
		for _, e := range entities {
			r := v3.Rule{Action: "Allow"}
			if s.protocol != "" {
				p := v3.ProtocolName(s.protocol)
				r.Protocol = &p
			}
			put(&r, e, s.ports)
			out = append(out, r)
		}
	}
	return out, nil
}

// service is a protocol, or any if it is empty, and ports of it, any if there are
// none.
type service struct {
	protocol string
	ports    []v3.Port
}

// services gathers ports by protocol. A protocol without a port allows them all,
// whatever else is listed of it.
func services(ports []Port) ([]service, error) {
	if len(ports) == 0 {
		return []service{{}}, nil
	}
	var out []service
	all := map[string]bool{}
	for i, p := range ports {
		protocol := cmp.Or(p.Protocol, "TCP")
		if !slices.Contains([]string{"TCP", "UDP", "SCTP"}, protocol) {
			return nil, fmt.Errorf(".ports[%d].protocol: %q: want TCP, UDP or SCTP", i, p.Protocol)
		}
		at := slices.IndexFunc(out, func(s service) bool { return s.protocol == protocol })
		if at < 0 {
			at = len(out)
			out = append(out, service{protocol: protocol})
		}
		port := v3.Port{}
		switch {
		case p.Port == nil && p.EndPort != nil:
			return nil, fmt.Errorf(".ports[%d].endPort: needs port", i)
		case p.Port == nil:
			all[protocol] = true
			continue
		case p.Port.Name != "" && p.EndPort != nil:
			return nil, fmt.Errorf(".ports[%d].endPort: a named port begins no range", i)
		case p.Port.Min != p.Port.Max:
			return nil, fmt.Errorf(".ports[%d].port: %s: a range ends with endPort", i, p.Port)
		default:
			port = *p.Port
			if end := p.EndPort; end != nil {
				if *end < int32(port.Min) || *end > 65535 {
					return nil, fmt.Errorf(".ports[%d].endPort: %d: want %d–65535", i, *end, port.Min)
				}
				port.Max = uint16(*end)
			}
		}
		out[at].ports = append(out[at].ports, port)
	}
	for i := range out {
		if all[out[i].protocol] {
			out[i].ports = nil
		}
	}
	return out, nil
}

// entity converts a peer.
func entity(p *Peer) (e v3.EntityRule, err error) {
	if b := p.IPBlock; b != nil {
		if p.PodSelector != nil || p.NamespaceSelector != nil {
			return e, fmt.Errorf(".ipBlock: not beside a selector")
		}
		for _, text := range append([]string{b.CIDR}, b.Except...) {
			if _, err := netip.ParsePrefix(text); err != nil {
				return e, fmt.Errorf(".ipBlock: %w", err)
			}
		}
		return v3.EntityRule{Nets: []string{b.CIDR}, NotNets: slices.Clone(b.Except)}, nil
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		return e, fmt.Errorf(": want podSelector, namespaceSelector or ipBlock")
	}
	any := LabelSelector{}
	if e.Selector, err = pods(cmp.Or(p.PodSelector, &any)); err != nil {
		return e, fmt.Errorf(".podSelector: %w", err)
	}
	if p.NamespaceSelector != nil {
		if e.NamespaceSelector, err = expression(p.NamespaceSelector); err != nil {
			return e, fmt.Errorf(".namespaceSelector: %w", err)
		}
		e.NamespaceSelector = cmp.Or(e.NamespaceSelector, "all()")
	}
	return e, nil
}

// pods selects pods, and nothing else.
func pods(s *LabelSelector) (string, error) {
	text, err := expression(s)
	if err != nil || text == "" {
		return isPod, err
	}
	return isPod + " && " + text, nil
}

// expression is a selector in the language of the model, empty if it selects all.
func expression(s *LabelSelector) (string, error) {
	var terms []string
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		if !plain(k, s.MatchLabels[k]) {
			return "", fmt.Errorf("matchLabels: %q, %q: want a label and its value", k, s.MatchLabels[k])
		}
		terms = append(terms, fmt.Sprintf("%s == '%s'", k, s.MatchLabels[k]))
	}
	for i, r := range s.MatchExpressions {
		if !plain(r.Key, r.Values...) {
			return "", fmt.Errorf("matchExpressions[%d]: %q, %q: want a label and its values", i, r.Key, r.Values)
		}
		list := "{'" + strings.Join(r.Values, "', '") + "'}"
		switch {
		case (r.Operator == "In" || r.Operator == "NotIn") && len(r.Values) == 0:
			return "", fmt.Errorf("matchExpressions[%d]: %s needs values", i, r.Operator)
		case r.Operator == "In":
			terms = append(terms, r.Key+" in "+list)
		case r.Operator == "NotIn":
			terms = append(terms, r.Key+" not in "+list)
		case r.Operator == "Exists":
			terms = append(terms, "has("+r.Key+")")
		case r.Operator == "DoesNotExist":
			terms = append(terms, "!has("+r.Key+")")
		default:
			return "", fmt.Errorf("matchExpressions[%d].operator: %q: want In, NotIn, Exists or DoesNotExist", i, r.Operator)
		}
	}
	for _, t := range terms {
		if _, err := selector.Parse(t); err != nil { // a label that is too long, say
			return "", err
		}
	}
	return strings.Join(terms, " && "), nil
}

// plain tells whether a label and values are no more than that in the language of the
// model: with a quote, or a blank in the label, they would be another expression.
func plain(label string, values ...string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_./-", r)
	}
	return label != "" && !strings.ContainsFunc(label, odd) && !slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "'") })
}

// Namespace is the profile of a namespace: what no policy concerns is allowed, and
// pods have its labels, with a prefix that none can give itself.
func Namespace(m Metadata) *v3.Profile {
	p := profile(namespacePrefix+m.Name, ofNamespace, m)
	p.Spec.Ingress, p.Spec.Egress = []v3.Rule{{Action: "Allow"}}, []v3.Rule{{Action: "Allow"}}
	return p
}

// ServiceAccount is the profile of a service account, which only gives labels.
func ServiceAccount(m Metadata) *v3.Profile {
	return profile(accountPrefix+m.Namespace+"."+m.Name, ofAccount, m)
}

// Profiles are those of a pod, in order.
func Profiles(namespace, serviceAccount string) []string {
	list := []string{namespacePrefix + namespace}
	if serviceAccount != "" {
		list = append(list, accountPrefix+namespace+"."+serviceAccount)
	}
	return list
}

func profile(name, prefix string, m Metadata) *v3.Profile {
	labels := map[string]string{prefix + nameLabel: m.Name}
	for k, v := range m.Labels {
		labels[prefix+k] = v
	}
	return &v3.Profile{
		Object: v3.Object{TypeMeta: v3.TypeMeta{Kind: "Profile", APIVersion: v3.APIVersion}, Metadata: v3.ObjectMeta{Name: name}},
		Spec:   v3.ProfileSpec{LabelsToApply: labels},
	}
}
