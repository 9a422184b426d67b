// SPDX-License-Identifier: Apache-2.0

package kubepolicytest

import "github.com/muslin-net/muslin/internal/kubepolicy"

// upstream adds the cases that Kubernetes' own end-to-end tests have, and the
// example, which is one of them in more steps.
func (c *cases) upstream() {
	add := func(name string, steps ...Step) { c.add("upstream e2e", name, steps...) }
	all, a := &selector{}, labelled("pod", "a")
	put := func(plans ...plan) Step {
		var list []*kubepolicy.NetworkPolicy
		for _, p := range plans {
			list = append(list, p.policy())
		}
		return Step{create(list...)}
	}
	from := func(peer kubepolicy.Peer, ports ...kubepolicy.Port) *[]rule {
		return rules(rule{[]kubepolicy.Peer{peer}, ports})
	}
	ask := Step{}

	onePort := put(plan{"x", "allow-all", all, rules(rule{ports: []kubepolicy.Port{named("", "serve-81-tcp")}}), nil})
	c.add("example", "ingress at one named port", onePort,
		Step{namespace("w", map[string]string{"ns": "w"}), pod("w", "a")}, Step{removePod("w", "a")}, Step{removeNamespace("w")}, ask, ask, ask)

	add("default deny of ingress", put(plan{"x", "deny-ingress", all, rules(), nil}))
	add("default deny of all but DNS", put(plan{"x", "deny-all-allow-dns", all, rules(), rules(dns)}))
	notX := &selector{MatchExpressions: []kubepolicy.Requirement{{Key: "ns", Operator: "NotIn", Values: []string{"x"}}}}
	add("several selectors of pods and namespaces",
		put(plan{"x", "allow-ns-y-z-pod-b-c", a, from(kubepolicy.Peer{NamespaceSelector: notX, PodSelector: among("pod", "b", "c")}), nil}))
	ofY := kubepolicy.Peer{NamespaceSelector: labelled("ns", "y")}
	add("policies that overlap",
		put(plan{"x", "allow-client-a-via-ns-selector-81", a, from(ofY, number("TCP", 81)), nil}), ask,
		put(plan{"x", "allow-client-a-via-ns-selector-80", a, from(ofY, number("TCP", 80)), nil}))
	add("allow all", put(plan{"x", "allow-all", all, rules(rule{}), nil}), ask)
	add("ingress at one named port", onePort, ask)
	add("a policy is updated", put(plan{"x", "allow-all-mutate-to-deny-all", all, rules(rule{}), nil}), put(plan{"x", "allow-all-mutate-to-deny-all", all, rules(), nil}))
	add("ingress from a namespace that is labelled",
		put(plan{"x", "allow-client-a-via-ns-selector", a, from(kubepolicy.Peer{NamespaceSelector: labelled("ns2", "updated")}), nil}),
		Step{namespace("y", map[string]string{"ns": "y", "ns2": "updated"})})
	updated := &selector{MatchLabels: map[string]string{"pod": "b", "pod2": "updated"}}
	add("ingress from a pod that is labelled", put(plan{"x", "allow-client-a-via-pod-selector", a, from(kubepolicy.Peer{PodSelector: updated}), nil}),
		Step{label("x", "b", updated.MatchLabels)})
	add("ingress to a pod that is labelled is denied", put(plan{"x", "deny-ingress-via-label-selector", labelled("target", "isolated"), rules(), nil}),
		Step{label("x", "a", map[string]string{"target": "isolated"})})
	add("ingress and egress together", put(plan{"x", "allow-client-a-via-pod-selector", a, from(kubepolicy.Peer{PodSelector: labelled("pod", "b")}),
		rules(rule{ports: []kubepolicy.Port{number("", 80), number("UDP", 53)}})}), ask)
	xa := kubepolicy.Peer{NamespaceSelector: labelled("ns", "x"), PodSelector: a}
	add("egress that is denied where ingress is allowed", put(
		plan{"x", "allow-to-ns-y-pod-a", a, nil, rules(rule{peers: []kubepolicy.Peer{{NamespaceSelector: labelled("ns", "y"), PodSelector: a}}}, rule{ports: []kubepolicy.Port{number("UDP", 53)}})},
		plan{"y", "allow-from-xa-on-ya-match-selector", a, from(xa), nil},
		plan{"y", "allow-from-xa-on-yb-match-selector", labelled("pod", "b"), from(xa), nil}))
	add("a policy that is deleted", put(plan{"x", "deny-all", all, rules(), rules()}), Step{remove("x", "deny-all")})
}
