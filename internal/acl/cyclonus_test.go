// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/kubepolicy/kubepolicytest"
	"github.com/muslin-net/muslin/internal/policy"
)

// TestCyclonus puts the cases of Cyclonus in force one after another, as the agent
// would, and sends a packet from every pod to every other one in each protocol and
// to each port that they serve: the kernel delivers it if Kubernetes permits that.
func TestCyclonus(t *testing.T) {
	var names []string
	for i := range kubepolicytest.Interfaces {
		names = append(names, fmt.Sprintf("cali%d", i))
	}
	w := newWires(t, names...)
	k := &kube{w: w, x: policy.NewIndex(kubepolicytest.Node), tab: w.table(t), stored: map[policy.Key]bool{}}
	for _, v4 := range []bool{true, false} {
		cases := kubepolicytest.Cyclonus(v4)
		tally := map[bool]int{}
		for _, c := range cases {
			t.Run(map[bool]string{true: "IPv4/", false: "IPv6/"}[v4]+c.Group+"/"+c.Name, func(t *testing.T) {
				cluster := kubepolicytest.NewCluster(v4)
				for _, step := range c.Steps {
					for _, do := range step {
						do(cluster)
					}
					k.apply(t, cluster)
					k.ask(t, cluster, tally)
				}
			})
		}
		t.Logf("%d cases, IPv4 %v: packets permitted and not: %v", len(cases), v4, tally)
		if tally[true] == 0 || tally[false] == 0 {
			t.Error("the cases are too poor")
		}
	}
}

// kube is a node that has all pods of a cluster.
type kube struct {
	w      *wires
	x      *policy.Index
	tab    *Table
	stored map[policy.Key]bool
}

// apply brings the node from what was to what the cluster is.
func (k *kube) apply(t *testing.T, c *kubepolicytest.Cluster) {
	t.Helper()
	now := map[policy.Key]bool{}
	must(t, c.Objects(func(kind, namespace, name string, r v3.Resource) {
		key := policy.Key{Kind: kind, Namespace: namespace, Name: name}
		k.x.Set(key, r, nil)
		now[key] = true
	}))
	for key := range k.stored {
		if !now[key] {
			k.x.Set(key, nil, nil)
		}
	}
	k.stored = now
	must(t, k.tab.Apply(k.x, k.x.Flush()))
	for _, p := range k.tab.Problems() {
		t.Fatalf("problem: %s: %v", p.Object, p.Err)
	}
	for _, p := range c.Pods {
		must(t, k.w.replace(p.Addr, netip.Addr{}, p.Interface))
	}
	must(t, k.w.conntrack.ConntrackTableFlush(netlink.ConntrackTable))
}

// ask sends a packet for each pair of pods, protocol and port.
func (k *kube) ask(t *testing.T, c *kubepolicytest.Cluster, tally map[bool]int) {
	t.Helper()
	var shots []*shot
	for a, from := range c.Pods {
		for b, to := range c.Pods {
			if a == b {
				continue
			}
			for protocol, number := range map[string]uint8{"TCP": tcp, "UDP": udp, "SCTP": sctp} {
				for _, port := range kubepolicytest.Ports {
					s := &shot{Packet: policy.Packet{Src: from.Addr, Dst: to.Addr, Proto: number, SrcPort: 40000, DstPort: port}, in: k.w.place[from.Interface], out: -1}
					permitted := c.Permits(a, b, protocol, port)
					if permitted {
						s.out = k.w.place[to.Interface]
					}
					tally[permitted]++
					shots = append(shots, s)
				}
			}
		}
	}
	k.w.fire(t, shots)
	for _, s := range shots {
		if permitted := s.out >= 0; permitted != (len(s.came) == 1) || permitted && s.came[0] != s.out {
			t.Errorf("%+v came out on %v, Kubernetes permits it: %v", s.Packet, k.w.names(s.came), permitted)
		}
	}
}
