// SPDX-License-Identifier: Apache-2.0

package policy

import (
	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/selector"
)

// parseSelector names the field in its error.
func parseSelector(field, text string) (*selector.Selector, error) {
	s, err := selector.Parse(text)
	if err != nil {
		return nil, fieldErr(field, err)
	}
	return s, nil
}

// namespaced turns a selector on the labels of namespaces into one on the
// labels that endpoints inherit from them. all() means any namespace, and
// global() none.
func namespaced(s *selector.Selector) *selector.Selector {
	has := selector.Has(labelNamespace)
	return s.WithPrefix(prefixNamespace).ReplaceAll(has, selector.Not(has))
}

// policySelector is what a policy applies to. namespace is empty for a global
// policy, and namespaceSelector for one that is not.
func policySelector(namespace string, spec *v3.PolicySpec, namespaceSelector string) (*selector.Selector, error) {
	var terms []*selector.Selector
	own, err := parseSelector("spec.selector", spec.Selector)
	if err != nil {
		return nil, err
	}
	if spec.Selector != "" {
		terms = append(terms, own)
	}
	if namespace != "" {
		terms = append(terms, selector.Equal(labelNamespace, namespace))
	}
	if spec.ServiceAccountSelector != "" {
		s, err := parseSelector("spec.serviceAccountSelector", spec.ServiceAccountSelector)
		if err != nil {
			return nil, err
		}
		s = s.WithPrefix(prefixAccount)
		if namespace == "" {
			s = s.ReplaceAll(selector.Has(labelServiceAccount), nil)
		}
		terms = append(terms, s)
	}
	if namespaceSelector != "" {
		s, err := parseSelector("spec.namespaceSelector", namespaceSelector)
		if err != nil {
			return nil, err
		}
		terms = append(terms, namespaced(s))
	}
	return selector.And(terms...), nil
}

// entitySelectors are what one end of a rule selects and what it excludes, nil
// if it does not. namespace is that of the policy, empty if it has none.
func entitySelectors(namespace, field string, e *v3.EntityRule) (pos, neg *selector.Selector, err error) {
	var terms []*selector.Selector
	switch {
	case e.NamespaceSelector != "":
		s, err := parseSelector(field+".namespaceSelector", e.NamespaceSelector)
		if err != nil {
			return nil, nil, err
		}
		terms = append(terms, namespaced(s))
	case namespace != "" && (e.Selector != "" || e.NotSelector != "" || e.ServiceAccounts != nil):
		terms = append(terms, selector.Equal(labelNamespace, namespace))
	}
	if e.Selector != "" {
		s, err := parseSelector(field+".selector", e.Selector)
		if err != nil {
			return nil, nil, err
		}
		terms = append(terms, s)
	}
	if a := e.ServiceAccounts; a != nil {
		if len(a.Names) > 0 {
			terms = append(terms, selector.In(labelServiceAccount, a.Names...))
		}
		if a.Selector != "" {
			s, err := parseSelector(field+".serviceAccounts.selector", a.Selector)
			if err != nil {
				return nil, nil, err
			}
			terms = append(terms, s.WithPrefix(prefixAccount))
		}
	}
	if len(terms) > 0 {
		pos = selector.And(terms...)
	}
	if e.NotSelector != "" {
		if neg, err = parseSelector(field+".notSelector", e.NotSelector); err != nil {
			return nil, nil, err
		}
	}
	// With both, one set does: it holds who is selected and not excluded.
	if pos != nil && neg != nil {
		pos, neg = selector.And(pos, selector.Not(neg)), nil
	}
	return pos, neg, nil
}
