// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
)

func TestOutgoing(t *testing.T) {
	pools := map[string]*v3.IPPool{
		"a": {Spec: v3.IPPoolSpec{CIDR: "10.65.0.0/16", NATOutgoing: true}},
		"b": {Spec: v3.IPPoolSpec{CIDR: "fd65::/48", NATOutgoing: true, Disabled: true}},
		"c": {Spec: v3.IPPoolSpec{CIDR: "10.66.0.0/16"}},
		"d": {Spec: v3.IPPoolSpec{CIDR: "10.67.0.0/16", NATOutgoing: true, AllowedUses: []string{"LoadBalancer"}}},
		"e": {Spec: v3.IPPoolSpec{CIDR: "nonsense", NATOutgoing: true}},
	}
	nodes := map[string]*v3.Node{"n": {Spec: v3.NodeSpec{BGP: &v3.NodeBGP{IPv4Address: "192.0.2.1/24"}}}}
	for _, c := range []struct {
		spare bool
		want  string
	}{
		{false, "{[10.65.0.0/16 fd65::/48] [10.65.0.0/16 10.66.0.0/16 fd65::/48]}"},
		{true, "{[10.65.0.0/16 fd65::/48] [10.65.0.0/16 10.66.0.0/16 192.0.2.1/32 fd65::/48]}"},
	} {
		n := outgoing(pools, nodes, c.spare)
		if got := fmt.Sprintf("{%v %v}", n.Outgoing, n.Spared); got != c.want {
			t.Errorf("spare hosts %v: got %s, want %s", c.spare, got, c.want)
		}
	}
	delete(pools, "a")
	delete(pools, "b")
	if got := outgoing(pools, nodes, true); len(got.Outgoing)+len(got.Spared) > 0 {
		t.Errorf("without any: %v", got)
	}
}
