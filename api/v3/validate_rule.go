// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
)

// Limits of policies.
const (
	maxRules = 1024 // in one direction of one policy
	maxNets  = 256  // in one list
	maxPorts = 50   // in one list
	maxHTTP  = 20   // methods, and paths
)

// hasPorts tells whether a protocol has ports that policies can match.
func hasPorts(protocol uint8) bool { return protocol == 6 || protocol == 17 || protocol == 132 }

func (f *faults) policy(s *PolicySpec, global bool) {
	if s.Order != nil && (math.IsNaN(*s.Order) || math.IsInf(*s.Order, 0)) {
		f.add("spec.order", "%v: want a number", *s.Order)
	}
	seen := map[string]bool{}
	for i, t := range s.Types {
		if seen[t] {
			f.add("spec.types["+strconv.Itoa(i)+"]", "%s: occurs twice", t)
		}
		seen[t] = true
	}
	f.rules(s.Ingress, "spec.ingress", ruleScope{ingress: true, global: global})
	f.rules(s.Egress, "spec.egress", ruleScope{global: global})
}

func (f *faults) globalPolicy(s *GlobalPolicySpec) {
	f.policy(&s.PolicySpec, true)
	if s.PreDNAT && s.DoNotTrack {
		f.add("spec.preDNAT", "not together with doNotTrack: make two policies")
	}
	if (s.PreDNAT || s.DoNotTrack) && !s.ApplyOnForward {
		f.add("spec.applyOnForward", "must be true with preDNAT or doNotTrack")
	}
	if !s.PreDNAT {
		return
	}
	if len(s.Egress) > 0 {
		f.add("spec.egress", "a preDNAT policy has no egress rules")
	}
	for i, t := range s.Types {
		if t == "Egress" {
			f.add("spec.types["+strconv.Itoa(i)+"]", "a preDNAT policy is for Ingress only")
		}
	}
}

// staged checks that a staged deletion says nothing but what it deletes.
func (f *faults) staged(action string, spec reflect.Value) {
	if action != "Delete" {
		return
	}
	for _, field := range fields(spec.Type()) {
		if field.name != "tier" && field.name != "stagedAction" && !spec.FieldByIndex(field.index).IsZero() {
			f.add("spec."+field.name, "must be absent when stagedAction is Delete")
		}
	}
}

// ruleScope says where a rule stands.
type ruleScope struct {
	ingress bool
	global  bool // in a cluster-scoped object
}

func (f *faults) rules(rules []Rule, path string, scope ruleScope) {
	if len(rules) > maxRules {
		f.add(path, "%d rules: the limit is %d", len(rules), maxRules)
		return
	}
	for i := range rules {
		f.rule(&rules[i], path+"["+strconv.Itoa(i)+"]", scope)
	}
}

func (f *faults) rule(r *Rule, path string, scope ruleScope) {
	f.ruleProtocol(r, path)
	f.ruleNets(r, path)
	f.entity(&r.Source, r, path+".source", scope, scope.ingress)
	f.entity(&r.Destination, r, path+".destination", scope, !scope.ingress)
	f.ruleHTTP(r, path)
	if _, err := r.Settings(); err != nil {
		f.add(path+".metadata.annotations", "%v", err)
	}
}

func (f *faults) ruleProtocol(r *Rule, path string) {
	var number uint8
	if r.Protocol != nil {
		number, _ = r.Protocol.Number()
	}
	if r.IPVersion != nil && (number == 1 && *r.IPVersion == 6 || number == 58 && *r.IPVersion == 4) {
		f.add(path+".ipVersion", "%d: %s does not exist there", *r.IPVersion, r.Protocol)
	}
	for _, m := range []struct {
		icmp *ICMP
		name string
	}{{r.ICMP, "icmp"}, {r.NotICMP, "notICMP"}} {
		switch {
		case m.icmp == nil:
			continue
		case number != 1 && number != 58:
			f.add(path+"."+m.name, "only with protocol ICMP or ICMPv6")
		case m.icmp.Code != nil && m.icmp.Type == nil:
			f.add(path+"."+m.name+".type", "required with a code")
		}
	}
}

// ruleNets checks that all networks of a rule are of one family: no packet
// could match them all otherwise.
func (f *faults) ruleNets(r *Rule, path string) {
	family := 0
	if r.IPVersion != nil {
		family = *r.IPVersion
	}
	first := "ipVersion"
	for _, l := range []struct {
		nets []string
		name string
	}{{r.Source.Nets, ".source.nets"}, {r.Source.NotNets, ".source.notNets"},
		{r.Destination.Nets, ".destination.nets"}, {r.Destination.NotNets, ".destination.notNets"}} {
		if len(l.nets) > maxNets {
			f.add(path+l.name, "%d networks: the limit is %d; use a NetworkSet", len(l.nets), maxNets)
		}
		for i, text := range l.nets {
			p, err := ParseNetwork(text)
			if err != nil {
				continue // said already
			}
			here := path + l.name + "[" + strconv.Itoa(i) + "]"
			version := familyOf(p)
			switch {
			case family == 0:
				family, first = version, strings.TrimPrefix(here, path+".")
			case family != version:
				f.add(here, "%s is IPv%d, but %s is IPv%d: no packet matches both; write two rules", p, version, first, family)
			}
			if strings.HasSuffix(l.name, "notNets") && p.Bits() == 0 {
				f.add(here, "%s excludes everything", p)
			}
		}
	}
}

func familyOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 4
	}
	return 6
}

// entity checks one end of a rule. Remote tells whether it is the end that is
// not the endpoint of the policy.
func (f *faults) entity(e *EntityRule, r *Rule, path string, scope ruleScope, remote bool) {
	for _, l := range []struct {
		ports []Port
		name  string
	}{{e.Ports, ".ports"}, {e.NotPorts, ".notPorts"}} {
		f.rulePorts(l.ports, r, path+l.name)
	}
	if e.Services == nil {
		return
	}
	bare := *e
	bare.Services = nil
	switch {
	case !reflect.ValueOf(bare).IsZero():
		f.add(path+".services", "must stand alone: it brings its own addresses and ports")
	case !remote:
		f.add(path+".services", "only in the source of an ingress rule or the destination of an egress rule")
	case e.Services.Name == "":
		f.add(path+".services.name", "required")
	case scope.global && e.Services.Namespace == "":
		f.add(path+".services.namespace", "required in a cluster-scoped object")
	}
}

func (f *faults) rulePorts(ports []Port, r *Rule, path string) {
	if len(ports) == 0 {
		return
	}
	if len(ports) > maxPorts {
		f.add(path, "%d ports: the limit is %d", len(ports), maxPorts)
	}
	if r.Protocol != nil {
		if n, ok := r.Protocol.Number(); ok && !hasPorts(n) {
			f.add(path, "protocol %s has no ports: want protocol TCP, UDP or SCTP", r.Protocol)
		}
		return
	}
	for i, p := range ports {
		if p.Name == "" {
			f.add(path+"["+strconv.Itoa(i)+"]", "%s: a numeric port needs protocol TCP, UDP or SCTP in the rule", p)
		}
	}
}

func (f *faults) ruleHTTP(r *Rule, path string) {
	if r.HTTP == nil {
		return
	}
	path += ".http"
	if r.Action != "Allow" {
		f.add(path, "only with action Allow")
	}
	if r.Protocol != nil {
		if n, _ := r.Protocol.Number(); n != 6 {
			f.add(path, "only with protocol TCP, or none")
		}
	}
	if len(r.HTTP.Methods) > maxHTTP || len(r.HTTP.Paths) > maxHTTP {
		f.add(path, "more than %d methods or paths", maxHTTP)
	}
	for i, p := range r.HTTP.Paths {
		if (p.Exact == "") == (p.Prefix == "") {
			f.add(path+".paths["+strconv.Itoa(i)+"]", "give exactly one of exact and prefix")
		}
	}
}
