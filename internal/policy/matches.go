// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/selector"
)

// matches tells whether a rule of a policy matches the packet. namespace is
// that of the policy, empty if it has none.
func (v *evaluation) matches(namespace string, r *v3.Rule) bool {
	p := &v.p
	is4 := p.Src.Is4()
	if r.IPVersion != nil && (*r.IPVersion == 4) != is4 || r.HTTP != nil {
		return false
	}
	if r.Protocol != nil {
		if n, known := r.Protocol.Number(); !known || n != p.Proto || n == protoICMP && !is4 || n == protoICMPv6 && is4 {
			return false // ICMP is IPv4's alone, and ICMPv6 IPv6's
		}
	}
	if r.NotProtocol != nil {
		if n, known := r.NotProtocol.Number(); !known || n == p.Proto {
			return false
		}
	}
	if named(r.ICMP) && !v.icmp(r.ICMP) || named(r.NotICMP) && v.icmp(r.NotICMP) {
		return false
	}
	return v.end(namespace, &r.Source, p.Src, p.SrcPort, v.src) &&
		v.end(namespace, &r.Destination, p.Dst, p.DstPort, v.dst)
}

func named(m *v3.ICMP) bool { return m != nil && (m.Type != nil || m.Code != nil) }

func (v *evaluation) icmp(m *v3.ICMP) bool {
	p := &v.p
	if !(p.Src.Is4() && p.Proto == protoICMP) && !(p.Src.Is6() && p.Proto == protoICMPv6) {
		return false
	}
	return (m.Type == nil || *m.Type == int(p.ICMPType)) && (m.Code == nil || *m.Code == int(p.ICMPCode))
}

// end tells whether one end of the packet matches. in is what holds its
// address.
func (v *evaluation) end(namespace string, e *v3.EntityRule, a netip.Addr, port uint16, in []entity) bool {
	if e.Services != nil {
		return false
	}
	if len(e.Nets) > 0 && !inAny(e.Nets, a) {
		return false
	}
	if len(e.NotNets) > 0 && (inAny(e.NotNets, a) || !anyOfFamily(e.NotNets, a)) {
		return false
	}
	// Who of those that hold the address is selected.
	positive := e.Selector != "" || e.NamespaceSelector != "" ||
		e.ServiceAccounts != nil && (len(e.ServiceAccounts.Names) > 0 || e.ServiceAccounts.Selector != "") ||
		namespace != "" && (e.NotSelector != "" || e.ServiceAccounts != nil)
	var selected []entity
	excluded := false
	for _, x := range in {
		out := e.NotSelector != "" && selects(e.NotSelector, x.labels)
		excluded = excluded || out
		if !positive || !out && selectedBy(namespace, e, x.labels) {
			selected = append(selected, x)
		}
	}
	if positive && len(selected) == 0 || !positive && excluded {
		return false
	}
	if len(e.Ports)+len(e.NotPorts) == 0 {
		return true
	}
	if !HasPorts(v.p.Proto) {
		return false
	}
	return (len(e.Ports) == 0 || v.port(e.Ports, port, selected)) &&
		(len(e.NotPorts) == 0 || !v.port(e.NotPorts, port, selected))
}

// port tells whether a port is one of a list. Names are those of the endpoints
// that are selected and hold the address.
func (v *evaluation) port(list []v3.Port, port uint16, selected []entity) bool {
	for _, p := range list {
		if p.Name == "" {
			if p.Min <= port && port <= p.Max {
				return true
			}
			continue
		}
		for _, x := range selected {
			for _, own := range x.ports {
				n, known := own.Protocol.Number()
				if own.Name == p.Name && known && n == v.p.Proto && own.Port == port {
					return true
				}
			}
		}
	}
	return false
}

func inAny(texts []string, a netip.Addr) bool {
	for _, s := range texts {
		if p, err := parseNet(s); err == nil && p.Contains(a) {
			return true
		}
	}
	return false
}

func anyOfFamily(texts []string, a netip.Addr) bool {
	for _, s := range texts {
		if p, err := parseNet(s); err == nil && p.Addr().Is4() == a.Is4() {
			return true
		}
	}
	return false
}

// selectedBy applies the positive selectors of one end of a rule.
func selectedBy(namespace string, e *v3.EntityRule, labels selector.Map) bool {
	switch {
	case e.NamespaceSelector != "":
		if !selectsPrefixed(e.NamespaceSelector, labels, prefixNamespace, labelNamespace) {
			return false
		}
	case namespace != "" && labels[labelNamespace] != namespace:
		return false
	}
	if e.Selector != "" && !selects(e.Selector, labels) {
		return false
	}
	a := e.ServiceAccounts
	if a == nil {
		return true
	}
	if len(a.Names) > 0 {
		own, ok := labels[labelServiceAccount]
		if !ok || !slices.Contains(a.Names, own) {
			return false
		}
	}
	return a.Selector == "" || selectsPrefixed(a.Selector, labels, prefixAccount, "")
}

// selects is false for a selector that cannot be read.
func selects(text string, labels selector.Map) bool {
	s, err := selector.Parse(text)
	return err == nil && s.Match(labels)
}

// selectsPrefixed holds a selector against inherited labels. If marker is not
// empty, all() stands for the presence of that label, and global() for its
// absence.
func selectsPrefixed(text string, labels selector.Map, prefix, marker string) bool {
	s, err := selector.Parse(text)
	if err != nil {
		return false
	}
	s = s.WithPrefix(prefix)
	if marker != "" {
		global := selector.Not(selector.Has(marker))
		if marker == labelServiceAccount {
			global = nil
		}
		s = s.ReplaceAll(selector.Has(marker), global)
	}
	return s.Match(labels)
}

// badRules tells whether any rule holds a value that has no meaning.
func badRules(rules []v3.Rule) bool {
	for i := range rules {
		r := &rules[i]
		if r.IPVersion != nil && *r.IPVersion != 4 && *r.IPVersion != 6 || badICMP(r.ICMP) || badICMP(r.NotICMP) ||
			badEntity(&r.Source) || badEntity(&r.Destination) {
			return true
		}
	}
	return false
}

func badICMP(m *v3.ICMP) bool {
	bad := func(n *int) bool { return n != nil && (*n < 0 || *n > 255) }
	return m != nil && (bad(m.Type) || bad(m.Code))
}

func badEntity(e *v3.EntityRule) bool {
	texts := []string{e.Selector, e.NotSelector, e.NamespaceSelector}
	if e.ServiceAccounts != nil {
		texts = append(texts, e.ServiceAccounts.Selector)
	}
	for _, s := range texts {
		if _, err := selector.Parse(s); err != nil {
			return true
		}
	}
	for _, list := range [][]string{e.Nets, e.NotNets} {
		for _, s := range list {
			if _, err := parseNet(s); err != nil {
				return true
			}
		}
	}
	for _, list := range [][]v3.Port{e.Ports, e.NotPorts} {
		for _, p := range list {
			if p.Name == "" && p.Min > p.Max {
				return true
			}
		}
	}
	return false
}
