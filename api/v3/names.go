// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"strings"
)

// WorkloadEndpointName returns the name that an endpoint must have: its
// identifying members joined by single dashes, each with its own dashes
// doubled. Which members those are depends on the orchestrator. It is an error
// if one of them is empty or begins or ends with a dash.
func WorkloadEndpointName(s WorkloadEndpointSpec) (string, error) {
	type part struct{ field, value string }
	parts := []part{{"node", s.Node}, {"orchestrator", s.Orchestrator}}
	switch s.Orchestrator {
	case "k8s":
		parts = append(parts, part{"pod", s.Pod})
	case "cni":
		parts = append(parts, part{"containerID", s.ContainerID})
	case "libnetwork":
		parts = append(parts, part{"workload", "libnetwork"})
	default:
		parts = append(parts, part{"workload", s.Workload})
	}
	parts = append(parts, part{"endpoint", s.Endpoint})
	escaped := make([]string, len(parts))
	for i, p := range parts {
		switch {
		case p.value == "":
			return "", fmt.Errorf("spec.%s: required: the name of the endpoint is made from it", p.field)
		case p.value[0] == '-' || p.value[len(p.value)-1] == '-':
			return "", fmt.Errorf("spec.%s: %q must not begin or end with a dash: the name of the endpoint is made from it", p.field, p.value)
		}
		escaped[i] = strings.ReplaceAll(p.value, "-", "--")
	}
	return strings.Join(escaped, "-"), nil
}

// ParseWorkloadEndpointName takes the name of an endpoint apart: the members of
// the result that the name tells are set. It is the inverse of
// WorkloadEndpointName.
func ParseWorkloadEndpointName(name string) (WorkloadEndpointSpec, error) {
	var parts []string
	var part []byte
	for i := 0; i < len(name); i++ {
		switch {
		case name[i] != '-':
			part = append(part, name[i])
		case i+1 < len(name) && name[i+1] == '-':
			part = append(part, '-')
			i++
		default:
			parts = append(parts, string(part))
			part = nil
		}
	}
	parts = append(parts, string(part))
	if len(parts) != 4 {
		return WorkloadEndpointSpec{}, fmt.Errorf("workload endpoint name %q: want node-orchestrator-workload-endpoint, with dashes inside a part doubled", name)
	}
	s := WorkloadEndpointSpec{Node: parts[0], Orchestrator: parts[1], Endpoint: parts[3]}
	switch s.Orchestrator {
	case "k8s":
		s.Pod = parts[2]
	case "cni":
		s.ContainerID = parts[2]
	default:
		s.Workload = parts[2]
	}
	if again, err := WorkloadEndpointName(s); err != nil || again != name {
		return WorkloadEndpointSpec{}, fmt.Errorf("workload endpoint name %q: a part is empty or begins or ends with a dash", name)
	}
	return s, nil
}

// DefaultAllowName is the name of the profile that DefaultAllowProfile returns.
const DefaultAllowName = "projectcalico-default-allow"

// DefaultAllowProfile returns the profile that always exists, allows
// everything, and is never stored.
func DefaultAllowProfile() *Profile {
	p := &Profile{Spec: ProfileSpec{Ingress: []Rule{{Action: "Allow"}}, Egress: []Rule{{Action: "Allow"}}}}
	p.TypeMeta = TypeMeta{Kind: "Profile", APIVersion: APIVersion}
	p.Metadata.Name = DefaultAllowName
	return p
}

// metadataAnnotation holds, in a stored policy, the name that users see.
const metadataAnnotation = "projectcalico.org/metadata"

// Labels that are stored with objects so that selectors can see what the
// object says elsewhere.
const (
	LabelNamespace      = "projectcalico.org/namespace"
	LabelOrchestrator   = "projectcalico.org/orchestrator"
	LabelServiceAccount = "projectcalico.org/serviceaccount"
	LabelTier           = "projectcalico.org/tier"
)

// DefaultTier is the tier of policies that name none.
const DefaultTier = "default"
