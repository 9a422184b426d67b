// SPDX-License-Identifier: Apache-2.0

package policy

import v3 "github.com/muslin-net/muslin/api/v3"

// A staged policy is asked in its place among the others, and decides nothing:
// what it would do is counted and explained. A tier of which all policies that
// select an endpoint are staged is as if it were not there.

// staging tells whether a staged policy says what would be; one that is to be
// ignored does not, and one that stages a deletion has nothing to say.
func staging(action string) bool { return action != "Delete" && action != "Ignore" }

// compileStaged compiles a staged policy. One that cannot be read stages nothing:
// it denies nobody.
func compileStaged(k Key, name, action string, spec *v3.PolicySpec, global *v3.GlobalPolicySpec) (*compiled, []error, error) {
	if !staging(action) {
		return nil, nil, nil // as if it were not there
	}
	c, odd, err := compilePolicy(k, name, spec, global)
	if err != nil {
		return nil, odd, err
	}
	if c.policy != nil {
		c.policy.Staged, c.policy.HasPass = true, [2]bool{}
	}
	return c, odd, nil
}

// enforced tells whether any policy of a tier is.
func (t *TierPolicies) enforced() bool {
	for _, p := range t.Policies {
		if !p.Staged {
			return true
		}
	}
	return false
}

// StagedDecision is what a staged policy would do to a packet that comes to it.
// Rule is -1 if none of its rules matches.
type StagedDecision struct {
	Policy PolicyRef
	Action string
	Rule   int
}

// String is the decision in words.
func (s StagedDecision) String() string {
	if s.Rule < 0 {
		return "no rule matches"
	}
	return map[string]string{"Allow": "would allow", "Deny": "would deny", "Pass": "would pass to the next tier"}[s.Action]
}
