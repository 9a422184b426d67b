// SPDX-License-Identifier: Apache-2.0

package kubepolicytest

import (
	"fmt"
	"maps"
	"net/netip"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/kubepolicy"
)

// A Case is one of Cyclonus: steps that change a cluster one after another. After
// each, every pod is asked for every other one, in each protocol and port that
// pods serve.
type Case struct {
	Group, Name string
	Steps       []Step
}

// Step is what changes before everybody is asked; nothing in some.
type Step []func(*Cluster)

// Groups are how many cases there are of each kind in Cyclonus: 230.
var Groups = map[string]int{"target": 6, "rules": 4, "peers": 112, "port/protocol": 70, "example": 1, "action": 6, "conflict": 16, "namespace": 2, "upstream e2e": 13}

// Ports and Protocols are what pods serve.
var (
	Ports     = []uint16{80, 81}
	Protocols = []string{"TCP", "UDP", "SCTP"}
)

type selector = kubepolicy.LabelSelector

func labelled(k, v string) *selector { return &selector{MatchLabels: map[string]string{k: v}} }

func among(k string, values ...string) *selector {
	return &selector{MatchExpressions: []kubepolicy.Requirement{{Key: k, Operator: "In", Values: values}}}
}

// nameLabel is the label that Kubernetes gives each namespace.
const nameLabel = "kubernetes.io/metadata.name"

// NewCluster has the pods a, b and c in the namespaces x, y and z, with addresses
// of one family.
func NewCluster(v4 bool) *Cluster {
	c := &Cluster{Namespaces: map[string]map[string]string{}, Pods: map[PodID]*Pod{}, Policies: map[PodID]*kubepolicy.NetworkPolicy{}}
	for _, ns := range []string{"x", "y", "z"} {
		namespace(ns, map[string]string{"ns": ns})(c)
		for _, name := range []string{"a", "b", "c"} {
			c.add(PodID{ns, name}, v4)
		}
	}
	return c
}

// places are where pods have their addresses: of the last 8 bits 24 that differ
// are other networks, and 4 that differ other parts of one. The pod z/c is in
// one part with y/c, and in one network with all of y and z.
var places = map[PodID][2]byte{
	{"x", "a"}: {1, 1}, {"x", "b"}: {1, 2}, {"x", "c"}: {1, 3}, {"x", "d"}: {1, 4},
	{"y", "a"}: {2, 1}, {"y", "b"}: {2, 2}, {"y", "c"}: {2, 17}, {"y-2", "a"}: {2, 3}, {"y-2", "b"}: {2, 4},
	{"z", "a"}: {2, 33}, {"z", "b"}: {2, 34}, {"z", "c"}: {2, 18}, {"w", "a"}: {3, 1},
}

// addr is the address of a pod.
func addr(id PodID, v4 bool) netip.Addr {
	p, ok := places[id]
	if !ok {
		panic("no address for pod " + id.String())
	}
	if v4 {
		return netip.AddrFrom4([4]byte{10, 9, p[0], p[1]})
	}
	a := netip.MustParseAddr("fd09::").As16()
	a[14], a[15] = p[0], p[1]
	return netip.AddrFrom16(a)
}

// Interfaces is how many interfaces pods have at most at one time.
const Interfaces = 11

// add makes a pod on the first interface that is free.
func (c *Cluster) add(id PodID, v4 bool) {
	used := map[string]bool{}
	for _, p := range c.Pods {
		used[p.Interface] = true
	}
	n := 0
	for used[fmt.Sprintf("cali%d", n)] {
		n++
	}
	p := &Pod{Labels: map[string]string{"pod": id.Name}, Addr: addr(id, v4), Interface: fmt.Sprintf("cali%d", n)}
	for _, protocol := range Protocols {
		for _, port := range Ports {
			p.Ports = append(p.Ports, v3.EndpointPort{Name: fmt.Sprintf("serve-%d-%s", port, lower[protocol]), Protocol: v3.ProtocolName(protocol), Port: port})
		}
	}
	c.Pods[id] = p
}

var lower = map[string]string{"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}

// The actions of steps.

func create(policies ...*kubepolicy.NetworkPolicy) func(*Cluster) {
	return func(c *Cluster) {
		for _, p := range policies {
			c.Policies[PodID{p.Metadata.Namespace, p.Metadata.Name}] = p
		}
	}
}

func remove(ns, name string) func(*Cluster) {
	return func(c *Cluster) { delete(c.Policies, PodID{ns, name}) }
}

func namespace(ns string, labels map[string]string) func(*Cluster) {
	labels = maps.Clone(labels)
	labels[nameLabel] = ns
	return func(c *Cluster) { c.Namespaces[ns] = labels }
}

func removeNamespace(ns string) func(*Cluster) {
	return func(c *Cluster) {
		delete(c.Namespaces, ns)
		for id := range c.Pods {
			if id.Namespace == ns {
				delete(c.Pods, id)
			}
		}
	}
}

func pod(ns, name string) func(*Cluster) {
	return func(c *Cluster) {
		for _, other := range c.Pods {
			c.add(PodID{ns, name}, other.Addr.Is4())
			return
		}
	}
}

func removePod(ns, name string) func(*Cluster) {
	return func(c *Cluster) { delete(c.Pods, PodID{ns, name}) }
}

func label(ns, name string, labels map[string]string) func(*Cluster) {
	return func(c *Cluster) {
		p := *c.Pods[PodID{ns, name}]
		p.Labels = labels
		c.Pods[PodID{ns, name}] = &p
	}
}

// plan is a policy in the making: one without rules of a direction does not concern
// it, unless they are there and empty.
type plan struct {
	ns, name        string
	pods            *selector
	ingress, egress *[]rule
}

type rule struct {
	peers []kubepolicy.Peer
	ports []kubepolicy.Port
}

func rules(list ...rule) *[]rule { return &list }

func (p plan) policy() *kubepolicy.NetworkPolicy {
	out := &kubepolicy.NetworkPolicy{Metadata: kubepolicy.Metadata{Name: p.name, Namespace: p.ns}}
	out.Spec.PodSelector = *p.pods
	if p.ingress != nil {
		out.Spec.PolicyTypes = append(out.Spec.PolicyTypes, "Ingress")
		for _, r := range *p.ingress {
			out.Spec.Ingress = append(out.Spec.Ingress, kubepolicy.IngressRule{From: r.peers, Ports: r.ports})
		}
	}
	if p.egress != nil {
		out.Spec.PolicyTypes = append(out.Spec.PolicyTypes, "Egress")
		for _, r := range *p.egress {
			out.Spec.Egress = append(out.Spec.Egress, kubepolicy.EgressRule{To: r.peers, Ports: r.ports})
		}
	}
	return out
}

func number(protocol string, n uint16) kubepolicy.Port {
	port := v3.SinglePort(n)
	return kubepolicy.Port{Protocol: protocol, Port: &port}
}

func named(protocol, name string) kubepolicy.Port {
	return kubepolicy.Port{Protocol: protocol, Port: &v3.Port{Name: name}}
}

func upTo(protocol string, n uint16, end int32) kubepolicy.Port {
	p := number(protocol, n)
	p.EndPort = &end
	return p
}

// dns is the rule that lets names be asked for.
var dns = rule{ports: []kubepolicy.Port{number("UDP", 53), number("TCP", 53)}}

// base is what most cases begin with: the pod x/a may be reached at TCP 80 by b
// and c of x and y, and reach a and b of y and z there.
func base() plan {
	return plan{"x", "base", labelled("pod", "a"),
		rules(rule{[]kubepolicy.Peer{{PodSelector: among("pod", "b", "c"), NamespaceSelector: among("ns", "x", "y")}}, []kubepolicy.Port{number("TCP", 80)}}),
		rules(rule{[]kubepolicy.Peer{{PodSelector: among("pod", "a", "b"), NamespaceSelector: among("ns", "y", "z")}}, []kubepolicy.Port{number("TCP", 80)}}, dns)}
}

// directions are the words for egress, and for ingress.
var directions = []string{"egress", "ingress"}

// first changes the first rule of a direction of base.
func first(direction string, change func(*rule)) *kubepolicy.NetworkPolicy {
	p := base()
	if direction == "ingress" {
		change(&(*p.ingress)[0])
	} else {
		change(&(*p.egress)[0])
	}
	return p.policy()
}
