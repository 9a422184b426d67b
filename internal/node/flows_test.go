// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestJudgeFlows says what becomes of flows of which one end is a workload that
// policy allows nothing: they are cut, but for those that this host itself
// began, which policy is not asked about, and those that end with their address.
func TestJudgeFlows(t *testing.T) {
	x := policy.NewIndex("n1")
	w := &v3.WorkloadEndpoint{}
	w.Spec.Node, w.Spec.InterfaceName = "n1", "cali1"
	w.Spec.IPNetworks = []string{"10.65.0.1/32", "fd65::1/128"}
	x.Set(policy.Key{Kind: "WorkloadEndpoint", Namespace: "default", Name: "w"}, w, nil)
	x.Flush()
	l := &loop{model: newModel("n1", x)}
	set := func(list ...string) map[netip.Addr]bool {
		m := map[netip.Addr]bool{}
		for _, s := range list {
			m[netip.MustParseAddr(s)] = true
		}
		return m
	}
	for _, c := range []struct {
		src, dst string
		related  bool
		want     acl.Fate
	}{
		{"10.0.0.2", "10.65.0.1", false, acl.Cut},
		{"fd00::2", "fd65::1", false, acl.Cut},
		{"10.65.0.1", "10.0.0.2", false, acl.Cut},
		{"10.0.0.1", "10.65.0.1", false, acl.Keep}, // this host
		{"fd00::1", "fd65::1", false, acl.Keep},
		{"10.65.0.1", "10.0.0.1", false, acl.Cut},
		{"10.0.0.2", "10.65.0.1", true, acl.Leave},
		{"10.0.0.2", "10.0.0.3", false, acl.Leave},
		{"10.0.0.1", "10.65.0.9", false, acl.End},
		{"fd65::9", "fd65::1", true, acl.End},
	} {
		f := []acl.Flow{{Packet: policy.Packet{Src: netip.MustParseAddr(c.src), Dst: netip.MustParseAddr(c.dst), Proto: 17, DstPort: 53}, Related: c.related}}
		l.judgeFlows(f, set("10.65.0.9", "fd65::9"), set("10.0.0.1", "fd00::1"))
		if f[0].Fate != c.want {
			t.Errorf("%s to %s, related %v: fate %v, want %v", c.src, c.dst, c.related, f[0].Fate, c.want)
		}
	}
}
