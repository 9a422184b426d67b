// SPDX-License-Identifier: Apache-2.0

package kubepolicytest

import (
	"fmt"
	"net/netip"

	"github.com/muslin-net/muslin/internal/kubepolicy"
)

// cases collects.
type cases struct {
	v4   bool
	list []Case
}

func (c *cases) add(group, name string, steps ...Step) {
	c.list = append(c.list, Case{group, name, steps})
}

// one adds a case of one step.
func (c *cases) one(group, name string, policies ...*kubepolicy.NetworkPolicy) {
	c.add(group, name, Step{create(policies...)})
}

// Cyclonus returns all cases of Cyclonus, with the networks of one family.
func Cyclonus(v4 bool) []Case {
	c := &cases{v4: v4}
	c.targets()
	c.rules()
	c.peers()
	c.ports()
	c.actions()
	c.conflicts()
	c.namespaces()
	c.upstream()
	return c.list
}

func (c *cases) targets() {
	for _, ns := range []string{"x", "y", "z"} {
		p := base()
		p.ns = ns
		c.one("target", "namespace "+ns, p.policy())
	}
	for name, s := range map[string]*selector{"all": {}, "a by label": labelled("pod", "a"), "a and b by expression": among("pod", "a", "b")} {
		p := base()
		p.pods = s
		c.one("target", "pods "+name, p.policy())
	}
}

func (c *cases) rules() {
	for _, d := range directions {
		for name, list := range map[string]*[]rule{"deny all": rules(), "allow all": rules(rule{})} {
			p := base()
			if d == "ingress" {
				p.ingress = list
			} else {
				p.egress = list
			}
			c.one("rules", d+": "+name, p.policy())
		}
	}
}

// network is the one of the pod z/c with so many bits left out.
func (c *cases) network(zeroes int) string {
	a := addr(PodID{"z", "c"}, c.v4)
	return netip.PrefixFrom(a, a.BitLen()-zeroes).Masked().String()
}

func (c *cases) peers() {
	type peer struct {
		name string
		peer kubepolicy.Peer
	}
	var peers []peer
	pods := []struct {
		name string
		s    *selector
	}{{"any pods", nil}, {"all pods", &selector{}}, {"pods by label", labelled("pod", "c")}}
	for _, ns := range []struct {
		name string
		s    *selector
	}{{"of here", nil}, {"of all namespaces", &selector{}}, {"of namespaces by label", labelled("ns", "x")}} {
		for _, p := range pods {
			if p.s != nil || ns.s != nil {
				peers = append(peers, peer{p.name + " " + ns.name, kubepolicy.Peer{PodSelector: p.s, NamespaceSelector: ns.s}})
			}
		}
	}
	block := kubepolicy.IPBlock{CIDR: c.network(8)}
	less := kubepolicy.IPBlock{CIDR: c.network(8), Except: []string{c.network(4)}}
	peers = append(peers, peer{"network", kubepolicy.Peer{IPBlock: &block}}, peer{"network with exception", kubepolicy.Peer{IPBlock: &less}})
	for _, d := range directions {
		c.one("peers", d+": empty", first(d, func(r *rule) { r.peers = nil }))
		for i, p := range peers {
			c.one("peers", d+": "+p.name, first(d, func(r *rule) { r.peers = []kubepolicy.Peer{p.peer} }))
			for _, q := range peers[i+1:] {
				c.one("peers", d+": "+p.name+", "+q.name, first(d, func(r *rule) { r.peers = []kubepolicy.Peer{p.peer, q.peer} }))
			}
		}
	}
}

func (c *cases) ports() {
	type port = kubepolicy.Port
	var single []port
	for _, protocol := range append([]string{""}, Protocols...) {
		single = append(single, port{Protocol: protocol}, number(protocol, 80), number(protocol, 81))
	}
	for _, protocol := range Protocols {
		single = append(single, named(protocol, "serve-80-"+lower[protocol]), named(protocol, "serve-81-"+lower[protocol]),
			upTo(protocol, 53, 80), upTo(protocol, 53, 84))
	}
	// Names and ports that nobody serves.
	single = append(single, named("TCP", "serve-81-udp"), named("TCP", "serve-7981-udp"), number("TCP", 7981))
	pairs := [][]port{
		{{}, number("", 80)},
		{{}, named("", "serve-80-tcp")},
		{{}, {Protocol: "UDP"}},
		{number("", 80), number("", 81)},
		{number("", 80), named("", "serve-81-tcp")},
		{number("", 80), named("UDP", "serve-81-udp")},
		{number("UDP", 80), named("UDP", "serve-81-udp")},
	}
	for _, d := range directions {
		put := func(list ...port) {
			name := "empty"
			for i, p := range list {
				if i == 0 {
					name = ""
				} else {
					name += ", "
				}
				name += describe(p)
			}
			c.one("port/protocol", d+": "+name, first(d, func(r *rule) { r.ports = list }))
		}
		put()
		for _, p := range single {
			put(p)
		}
		for _, p := range pairs {
			put(p...)
		}
	}
}

func describe(p kubepolicy.Port) string {
	s := "default protocol"
	if p.Protocol != "" {
		s = p.Protocol
	}
	if p.Port != nil {
		s += " " + p.Port.String()
	}
	if p.EndPort != nil {
		s += fmt.Sprintf(" to %d", *p.EndPort)
	}
	return s
}

func (c *cases) actions() {
	start := Step{create(base().policy())}
	c.add("action", "create and delete a policy", start, Step{remove("x", "base")})
	c.add("action", "create and update a policy", start,
		Step{create(first("ingress", func(r *rule) { r.ports = []kubepolicy.Port{named("UDP", "serve-81-udp")} }))})
	c.add("action", "create and delete a namespace", start,
		Step{namespace("y-2", map[string]string{"ns": "y"}), pod("y-2", "a"), pod("y-2", "b")}, Step{removeNamespace("y-2")})
	c.add("action", "label a namespace so that the policy allows it, and no longer",
		Step{create(first("ingress", func(r *rule) { r.peers = []kubepolicy.Peer{{NamespaceSelector: labelled("new-ns", "qrs")}} }))},
		Step{namespace("y", map[string]string{"ns": "y", "new-ns": "qrs"})}, Step{namespace("y", map[string]string{"ns": "y"})})
	c.add("action", "create and delete a pod", start, Step{pod("x", "d")}, Step{removePod("x", "d")})
	c.add("action", "label a pod so that the policy allows it, and no longer",
		Step{create(first("ingress", func(r *rule) {
			r.peers = []kubepolicy.Peer{{PodSelector: labelled("new-label", "abc"), NamespaceSelector: among("ns", "y", "z")}}
		}))},
		Step{label("y", "b", map[string]string{"pod": "b", "new-label": "abc"})}, Step{label("y", "b", map[string]string{"pod": "b"})})
}

func (c *cases) conflicts() {
	all, none := "0.0.0.0/0", "0.0.0.0/31"
	if !c.v4 {
		all, none = "::/0", "::/127"
	}
	peer := func(p kubepolicy.Peer) *[]rule { return rules(rule{peers: []kubepolicy.Peer{p}}) }
	byPod := peer(kubepolicy.Peer{NamespaceSelector: &selector{}})
	byIP := peer(kubepolicy.Peer{IPBlock: &kubepolicy.IPBlock{CIDR: all}})
	noPod := peer(kubepolicy.Peer{NamespaceSelector: labelled("this-will-never-happen", "qrs123")})
	noIP := peer(kubepolicy.Peer{IPBlock: &kubepolicy.IPBlock{CIDR: none}})
	out := func(name string, list *[]rule) plan { return plan{"x", name, labelled("pod", "b"), nil, list} }
	in := func(name string, list *[]rule) plan { return plan{"y", name, labelled("pod", "c"), list, nil} }
	// The ingress policies of most pairs are the source's, as in Cyclonus.
	here := func(name string, list *[]rule) plan { return plan{"x", name, labelled("pod", "b"), list, nil} }
	put := func(name string, plans ...plan) {
		var list []*kubepolicy.NetworkPolicy
		egress := false
		for _, p := range plans {
			list, egress = append(list, p.policy()), egress || p.egress != nil
		}
		if egress {
			list = append(list, out("allow-dns", rules(dns)).policy())
		}
		c.one("conflict", name, list...)
	}
	put("deny all from the source, allow all to the destination", out("deny", rules()), in("allow", rules(rule{})))
	put("allow all from the source, deny all to the destination", out("allow", rules(rule{})), in("deny", rules()))
	put("deny all and allow all from the source", out("deny", rules()), out("allow", rules(rule{})))
	put("deny all and allow all to the destination", in("deny", rules()), in("allow", rules(rule{})))
	for _, d := range directions {
		of := out
		if d == "ingress" {
			of = here
		}
		put(d+": deny all, allow all pods", of("deny", rules()), of("allow", byPod))
		put(d+": deny all, allow all addresses", of("deny", rules()), of("allow", byIP))
		put(d+": allow no address, allow all pods", of("deny", noIP), of("allow", byPod))
		put(d+": allow no pod, allow all addresses", of("deny", noPod), of("allow", byIP))
		put(d+": allow no address", of("deny", noIP))
		put(d+": allow no pod", of("deny", noPod))
	}
}

func (c *cases) namespaces() {
	for _, d := range directions {
		c.one("namespace", d+": by the label of its name", first(d, func(r *rule) { r.peers = []kubepolicy.Peer{{NamespaceSelector: labelled(nameLabel, "z")}} }))
	}
}
