// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"strings"

	"github.com/muslin-net/muslin/internal/policy"
)

// maxLogPrefix is what the kernel takes, less what follows and the end.
const maxLogPrefix = 120

// shortKinds are the kinds of policies as a log prefix has them.
var shortKinds = map[string]string{"GlobalNetworkPolicy": "gnp", "NetworkPolicy": "np", "Profile": "pro",
	"StagedGlobalNetworkPolicy": "sgnp", "StagedNetworkPolicy": "snp", "StagedKubernetesNetworkPolicy": "sknp"}

// logPrefix is what rules of a policy that log begin their lines with.
func logPrefix(pattern string, p *policy.Policy) string {
	name := p.Name
	if name == "" {
		name = p.Key.Name
	}
	tier := p.Tier
	if p.Key.Kind == kindProfile {
		tier = "__PROFILE__"
	}
	s := strings.NewReplacer("%t", tier, "%k", shortKinds[p.Key.Kind], "%n", name, "%p", displayName(p)).Replace(pattern)
	if s = comment(s); len(s) > maxLogPrefix {
		s = s[:maxLogPrefix]
	}
	return s + ": "
}
