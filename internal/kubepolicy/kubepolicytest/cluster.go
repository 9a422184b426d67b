// SPDX-License-Identifier: Apache-2.0

// Package kubepolicytest has clusters of pods under network policies of
// Kubernetes, for tests of whatever puts these in force: what Kubernetes says of
// a connection, read plainly from the policies, and the objects of the data model
// that stand for the cluster. It shares nothing with the conversion's judgement
// of policies, only its types.
//
// Its cases are those of Cyclonus, the conformance test of network policies.
package kubepolicytest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/kubepolicy"
)

// PodID names a pod.
type PodID struct{ Namespace, Name string }

func (id PodID) String() string { return id.Namespace + "/" + id.Name }

// MarshalText makes clusters printable.
func (id PodID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Pod is a pod: its labels, its address, and its interface on the one node. Ports
// are those that it gives names to.
type Pod struct {
	Labels    map[string]string
	Addr      netip.Addr
	Interface string
	Ports     []v3.EndpointPort
}

// Cluster is namespaces with their labels, pods and policies.
type Cluster struct {
	Namespaces map[string]map[string]string
	Pods       map[PodID]*Pod
	Policies   map[PodID]*kubepolicy.NetworkPolicy
}

// Clone copies a cluster. Pods and policies are replaced, never changed.
func (c *Cluster) Clone() *Cluster {
	return &Cluster{maps.Clone(c.Namespaces), maps.Clone(c.Pods), maps.Clone(c.Policies)}
}

// Node is where all pods are.
const Node = "alpha"

// Objects calls put for all objects of the data model that the cluster makes, by
// their keys.
func (c *Cluster) Objects(put func(kind, namespace, name string, r v3.Resource)) error {
	for name, labels := range c.Namespaces {
		p := kubepolicy.Namespace(kubepolicy.Metadata{Name: name, Labels: labels})
		put("Profile", "", p.Metadata.Name, p)
	}
	for id, p := range c.Pods {
		e := &v3.WorkloadEndpoint{
			Object: v3.Object{Metadata: v3.ObjectMeta{Name: id.Name, Namespace: id.Namespace, Labels: maps.Clone(p.Labels)}},
			Spec: v3.WorkloadEndpointSpec{Node: Node, InterfaceName: p.Interface, IPNetworks: []string{p.Addr.String()}, Ports: p.Ports,
				Profiles: kubepolicy.Profiles(id.Namespace, "")},
		}
		if e.Metadata.Labels == nil {
			e.Metadata.Labels = map[string]string{}
		}
		e.Metadata.Labels[v3.LabelNamespace], e.Metadata.Labels[v3.LabelOrchestrator] = id.Namespace, "k8s"
		put("WorkloadEndpoint", id.Namespace, id.Name, e)
	}
	for _, p := range c.Policies {
		out, err := kubepolicy.Policy(p)
		if err != nil {
			return fmt.Errorf("policy %s/%s: %w", p.Metadata.Namespace, p.Metadata.Name, err)
		}
		put("NetworkPolicy", out.Metadata.Namespace, out.Metadata.Name, out)
	}
	return nil
}

// Permits tells whether a pod may connect to another one: what Kubernetes says
// of both ends.
func (c *Cluster) Permits(from, to PodID, protocol string, port uint16) bool {
	return c.permits(from, to, to, "Egress", protocol, port) && c.permits(to, from, to, "Ingress", protocol, port)
}

// permits reads policies as the API reference of Kubernetes does: a pod that none
// selects in a direction is not isolated; one that some select may talk to whom
// any rule of any of them names. server is the pod whose port it is.
func (c *Cluster) permits(at, other, server PodID, direction, protocol string, port uint16) bool {
	isolated := false
	for _, p := range c.Policies {
		if p.Metadata.Namespace != at.Namespace || !concerns(&p.Spec, direction) || !selects(&p.Spec.PodSelector, c.Pods[at].Labels) {
			continue
		}
		isolated = true
		allows := func(peers []kubepolicy.Peer, ports []kubepolicy.Port) bool {
			return (len(peers) == 0 || slices.ContainsFunc(peers, func(x kubepolicy.Peer) bool { return c.is(&x, p.Metadata.Namespace, other) })) &&
				(len(ports) == 0 || slices.ContainsFunc(ports, func(x kubepolicy.Port) bool { return serves(&x, c.Pods[server], protocol, port) }))
		}
		if direction == "Ingress" {
			if slices.ContainsFunc(p.Spec.Ingress, func(r kubepolicy.IngressRule) bool { return allows(r.From, r.Ports) }) {
				return true
			}
		} else if slices.ContainsFunc(p.Spec.Egress, func(r kubepolicy.EgressRule) bool { return allows(r.To, r.Ports) }) {
			return true
		}
	}
	return !isolated
}

func concerns(s *kubepolicy.Spec, direction string) bool {
	if len(s.PolicyTypes) > 0 {
		return slices.Contains(s.PolicyTypes, direction)
	}
	return direction == "Ingress" || len(s.Egress) > 0
}

// is tells whether a pod is among the peer's.
func (c *Cluster) is(p *kubepolicy.Peer, namespace string, other PodID) bool {
	if p.IPBlock != nil {
		a := c.Pods[other].Addr
		return netip.MustParsePrefix(p.IPBlock.CIDR).Contains(a) &&
			!slices.ContainsFunc(p.IPBlock.Except, func(s string) bool { return netip.MustParsePrefix(s).Contains(a) })
	}
	if p.NamespaceSelector == nil && other.Namespace != namespace || p.NamespaceSelector != nil && !selects(p.NamespaceSelector, c.Namespaces[other.Namespace]) {
		return false
	}
	return p.PodSelector == nil || selects(p.PodSelector, c.Pods[other].Labels)
}

// serves tells whether a port of a policy is this port of the server.
func serves(p *kubepolicy.Port, server *Pod, protocol string, port uint16) bool {
	if p.Protocol == "" && protocol != "TCP" || p.Protocol != "" && p.Protocol != protocol {
		return false
	}
	switch {
	case p.Port == nil:
		return true
	case p.Port.Name != "":
		return slices.ContainsFunc(server.Ports, func(x v3.EndpointPort) bool {
			return x.Name == p.Port.Name && strings.EqualFold(x.Protocol.String(), protocol) && x.Port == port
		})
	case p.EndPort != nil:
		return p.Port.Min <= port && int32(port) <= *p.EndPort
	}
	return p.Port.Min == port
}

func selects(s *kubepolicy.LabelSelector, labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		have, ok := labels[r.Key]
		if in := ok && slices.Contains(r.Values, have); r.Operator == "In" && !in || r.Operator == "NotIn" && in || r.Operator == "Exists" && !ok || r.Operator == "DoesNotExist" && ok {
			return false
		}
	}
	return true
}
