// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/store"
)

const (
	perNode = 200 // endpoints of a node
	// apps is how many kinds of workload there are. The measured node has those
	// below localApps only, so that an endpoint of another kind brings policies
	// along that were not in use there.
	apps      = 100
	localApps = 90
	tiers     = 7

	agentNode  = "agent"
	namespace  = "default"
	openPort   = 7000 // the measured flow
	closedPort = 7001 // what the measured policy allows instead, to deny the flow
	blockBits4 = 26
	blockBits6 = 122
)

// scene is what the datastore holds: nodes, endpoints and policies, all of it
// a function of counts, so that a larger scene contains the smaller one.
type scene struct {
	Local    int `json:"localEndpoints"`
	Remote   int `json:"remoteEndpoints"`
	Policies int `json:"policies"`
	Rules    int `json:"rulesPerPolicy"`
}

func (s scene) nodes() int { return (s.Remote + perNode - 1) / perNode }

// Each node has 256 addresses of each family in four blocks: node 0 is the
// measured one, remote nodes follow.
func nodeAddr(node int, host int) (v4, v6 netip.Addr) {
	return netip.AddrFrom4([4]byte{10, byte(64 + node>>8), byte(node), byte(host)}),
		netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x64, 12: byte(node >> 8), 13: byte(node), 15: byte(host)})
}

// uplink is a node's own address on the fabric.
func uplink(node int) (v4, v6 netip.Prefix) {
	a := netip.AddrFrom4([4]byte{10, 0, byte(node >> 8), byte(1 + node)})
	b := netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(node >> 8), 15: byte(1 + node)})
	return netip.PrefixFrom(a, 16), netip.PrefixFrom(b, 64)
}

func blocks(node int) (list []netip.Prefix) {
	for host := 0; host < 256; host += 64 {
		v4, v6 := nodeAddr(node, host)
		list = append(list, netip.PrefixFrom(v4, blockBits4), netip.PrefixFrom(v6, blockBits6))
	}
	return list
}

func originations(node int) (list []bgp.Origination) {
	for _, b := range blocks(node) {
		list = append(list, bgp.Origination{Prefix: b, LocalPref: 2147483647 - 1024})
	}
	return list
}

func nodeName(node int) string {
	if node == 0 {
		return agentNode
	}
	return fmt.Sprintf("node-%d", node)
}

func ref[T any](v T) *T { return &v }

// meta is what an orchestrator writes beside a name.
func meta(name string, seed int) v3.ObjectMeta {
	return v3.ObjectMeta{
		Name: name, UID: fmt.Sprintf("%08x-0000-4000-8000-%012x", seed, seed), CreationTimestamp: ref("2026-01-01T00:00:00Z"),
	}
}

// endpoint is the one with the given place on a node. Each has a label of its
// own, as the members of a stateful set have, so that grouping by equal labels
// does not help.
func endpoint(node, host, app int, iface string, mac string) *v3.WorkloadEndpoint {
	v4, v6 := nodeAddr(node, host)
	w := &v3.WorkloadEndpoint{}
	pod := fmt.Sprintf("app%d-%d-%d", app, node, host)
	w.Spec = v3.WorkloadEndpointSpec{
		Orchestrator: "k8s", Node: nodeName(node), Pod: pod, Endpoint: "eth0", ContainerID: fmt.Sprintf("%064x", node<<8|host),
		ServiceAccountName: "default", InterfaceName: iface, MAC: mac, Profiles: []string{"kns." + namespace},
		IPNetworks: []string{netip.PrefixFrom(v4, 32).String(), netip.PrefixFrom(v6, 128).String()},
	}
	name, err := v3.WorkloadEndpointName(w.Spec)
	if err != nil {
		panic(err) // a mistake in this program
	}
	w.Metadata = meta(name, node<<8|host)
	w.Metadata.Namespace = namespace
	w.Metadata.Labels = map[string]string{
		"projectcalico.org/namespace": namespace, "projectcalico.org/orchestrator": "k8s", "projectcalico.org/serviceaccount": "default",
		"app": fmt.Sprintf("app%d", app), "tier": fmt.Sprintf("tier%d", (node+host)%tiers), "pod": pod,
	}
	return w
}

// localInterface names the host's side of the local endpoint at a place.
func localInterface(host int) string { return fmt.Sprintf("cali%04d", host) }

// localMAC is that of the workload's side.
func localMAC(host int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", host>>8, host&0xff) }

// policy is number i. The last rule of each is about the measured flow's port;
// only policies that select the measured endpoint matter for it.
func (s scene) policy(i int, port uint16) *v3.GlobalNetworkPolicy {
	p := &v3.GlobalNetworkPolicy{}
	p.Metadata = meta(fmt.Sprintf("default.policy-%04d", i), i)
	p.Spec.Tier, p.Spec.Order = "default", ref(float64(i%50))
	p.Spec.Selector = fmt.Sprintf("app == 'app%d'", i%apps)
	p.Spec.Types = []string{"Ingress"}
	tcp, udp := v3.ProtocolName("TCP"), v3.ProtocolName("UDP")
	for j := range s.Rules - 1 {
		r := v3.Rule{Action: "Allow", Protocol: &tcp}
		r.Destination.Ports = []v3.Port{v3.SinglePort(uint16(1000 + j)), v3.SinglePort(uint16(2000 + i))}
		switch j % 5 {
		default:
			r.Source.Selector = fmt.Sprintf("app == 'app%d' && tier == 'tier%d'", (i+j)%apps, j%tiers)
		case 3:
			r.Source.Nets = []string{fmt.Sprintf("192.168.%d.0/24", i%256), fmt.Sprintf("172.16.%d.0/28", j), fmt.Sprintf("2001:db8:%x::/48", i)}
		case 4:
			r.Source.Selector = fmt.Sprintf("tier == 'tier%d'", (i+j)%tiers)
		}
		p.Spec.Ingress = append(p.Spec.Ingress, r)
	}
	from := endpoint(1, 1, 0, "", "").Metadata.Labels["pod"]
	p.Spec.Ingress = append(p.Spec.Ingress, v3.Rule{
		Action: "Allow", Protocol: &udp,
		Source:      v3.EntityRule{Selector: fmt.Sprintf("pod == '%s'", from)},
		Destination: v3.EntityRule{Ports: []v3.Port{v3.SinglePort(port)}},
	})
	return p
}

// put is the write of an object.
func put(r v3.Resource) store.Op {
	b, err := v3.EncodeMerged(r, nil)
	if err != nil {
		panic(err) // a mistake in this program
	}
	info, _ := v3.InfoFor(r)
	m := r.Meta()
	return store.OpPut(v3.Key(info.Kind, m.Namespace, m.Name), b)
}

// basics are the objects that do not grow.
func (s scene) basics() (ops []store.Op) {
	profile := &v3.Profile{}
	profile.Metadata = meta("kns."+namespace, 1)
	profile.Spec.LabelsToApply = map[string]string{"pcns.projectcalico.org/name": namespace}
	profile.Spec.Ingress, profile.Spec.Egress = []v3.Rule{{Action: "Allow"}}, []v3.Rule{{Action: "Allow"}}
	ops = append(ops, put(profile))
	for i, cidr := range []string{"10.64.0.0/10", "fd64::/64"} {
		pool := &v3.IPPool{}
		pool.Metadata = meta(fmt.Sprintf("pool-%d", i), 2+i)
		pool.Spec.CIDR = cidr
		ops = append(ops, put(pool))
	}
	ops = append(ops, affinities(0)...)
	return ops
}

// affinities bind a node's blocks to it: nobody may announce others.
func affinities(node int) (ops []store.Op) {
	for _, b := range blocks(node) {
		key, err := ipam.AffinityKey(ipam.HostOwner(nodeName(node)), b)
		if err != nil {
			panic(err) // a mistake in this program
		}
		value, err := ipam.Affinity{State: ipam.Confirmed}.Encode()
		if err != nil {
			panic(err)
		}
		ops = append(ops, store.OpPut(key, value))
	}
	return ops
}

// more is what this scene has beyond a smaller one.
func (s scene) more(than scene) (ops []store.Op) {
	for i := than.nodes(); i < s.nodes(); i++ {
		n := &v3.Node{}
		n.Metadata = meta(nodeName(1+i), 1+i)
		v4, v6 := uplink(1 + i)
		n.Spec.BGP = &v3.NodeBGP{IPv4Address: v4.String(), IPv6Address: v6.String()}
		ops = append(append(ops, put(n)), affinities(1+i)...)
	}
	for i := than.Policies; i < s.Policies; i++ {
		ops = append(ops, put(s.policy(i, closedPort)))
	}
	for i := than.Remote; i < s.Remote; i++ {
		host := 1 + i%perNode
		ops = append(ops, put(endpoint(1+i/perNode, host, i%apps, localInterface(host), localMAC(host))))
	}
	for i := than.Local; i < s.Local; i++ {
		ops = append(ops, put(endpoint(0, 1+i, i%localApps, localInterface(1+i), localMAC(1+i))))
	}
	return ops
}

// write puts operations into the datastore, as many at a time as it takes.
func write(ctx context.Context, c *store.Client, ops []store.Op) error {
	for len(ops) > 0 {
		n := min(len(ops), 128)
		if _, err := c.Commit(ctx, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}
