// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// storedNode is a Node in the datastore, and the revision it was written at.
func storedNode(t *testing.T, d *datastore, name string) (tree map[string]any, rev int64) {
	t.Helper()
	kv, err := d.Get(t.Context(), v3.Key("Node", "", name))
	if err != nil {
		t.Fatal(err)
	}
	return d.tree(v3.Key("Node", "", name)), kv.Revision
}

func TestNode_Registration(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	list := servers(4)
	list[1].Name = "Rack1-B"
	list[3].Args = []string{"--ip", "10.0.0.44/16"}
	c := newClusterOn(t, d.url, list)
	// The first has its default routes by another interface than the first.
	out, err := c.Lab.Namespace("outside")
	if err != nil {
		t.Fatal(err)
	}
	n1 := c.Nodes[0]
	if err := errors.Join(
		lab.Veth(lab.End{NS: n1.Namespace, Name: "up1"}, lab.End{NS: out, Name: "eth0"}),
		n1.AddAddr("up1", netip.MustParsePrefix("172.31.0.2/24")), n1.AddAddr("up1", netip.MustParsePrefix("fd31::2/64")),
		n1.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("172.31.0.1"), "up1"),
		n1.AddRoute(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd31::1"), "up1"),
	); err != nil {
		t.Fatal(err)
	}
	// The third is known already, with what other tools said of it.
	d.object("Node", "", "n3", `"labels":{"rack":"r9"},"annotations":{"a":"b"}`,
		`"bgp":{"ipv4Address":"10.9.9.9/8","asNumber":64999,"routeReflectorClusterID":"244.0.0.1"},"orchRefs":[{"nodeName":"k","orchestrator":"k8s"}],"wireguard":{"interfaceIPv4Address":"10.66.0.9"},"future":[1]`)
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ name, v4, v6 string }{
		{"n1", "172.31.0.2/24", "fd31::2/64"}, // by the default route
		{"rack1-b", "10.0.0.2/24", "fd00::2/64"},
		{"n3", "10.9.9.9/8", "fd00::3/64"}, // stored, and completed
		{"n4", "10.0.0.44/16", "fd00::4/64"},
	} {
		n, _ := storedNode(t, d, want.name)
		if got4, got6 := member(n, "spec", "bgp", "ipv4Address"), member(n, "spec", "bgp", "ipv6Address"); got4 != want.v4 || got6 != want.v6 {
			t.Errorf("Node %s has %v and %v, want %s and %s", want.name, got4, got6, want.v4, want.v6)
		}
	}
	n3, rev := storedNode(t, d, "n3")
	if got, want := fmt.Sprintln(member(n3, "metadata", "labels"), member(n3, "metadata", "annotations"), member(n3, "spec", "orchRefs"), member(n3, "spec", "wireguard"), member(n3, "spec", "future"),
		member(n3, "spec", "bgp", "asNumber"), member(n3, "spec", "bgp", "routeReflectorClusterID")),
		"map[rack:r9] map[a:b] [map[nodeName:k orchestrator:k8s]] map[interfaceIPv4Address:10.66.0.9] [1] 64999 244.0.0.1\n"; got != want {
		t.Errorf("Node n3 has %s, want %s", got, want)
	}
	// A start that finds all as it should be writes nothing; a flag wins over
	// what is stored.
	restart := func(n *cluster.Node, more ...string) {
		t.Helper()
		if err := n.Stop(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(more...); err != nil {
			t.Fatal(err)
		}
		if err := n.Live(t.Context(), 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	restart(c.Nodes[2])
	if _, again := storedNode(t, d, "n3"); again != rev {
		t.Errorf("Node n3 was written again: revision %d, was %d", again, rev)
	}
	restart(c.Nodes[2], "--ip", "10.0.0.3/24", "--ip6", "fd00::33/64")
	n3, _ = storedNode(t, d, "n3")
	if got := fmt.Sprintln(member(n3, "spec", "bgp", "ipv4Address"), member(n3, "spec", "bgp", "ipv6Address"), member(n3, "spec", "future")); got != "10.0.0.3/24 fd00::33/64 [1]\n" {
		t.Errorf("Node n3 has %s", got)
	}
	if got := fmt.Sprint(member(n3, "spec", "addresses")); strings.Contains(got, "10.9.9.9") || !strings.Contains(got, "10.0.0.3/24") {
		t.Errorf("Node n3 has addresses %s", got)
	}
	s, err := c.Nodes[1].API().Status(t.Context(), 0)
	if err != nil || s.Node != "rack1-b" {
		t.Errorf("status of Rack1-B: %+v, %v", s, err)
	}

	// What an empty datastore is given, and what not.
	info := d.tree(v3.Key("ClusterInformation", "", "default"))
	if guid := fmt.Sprint(member(info, "spec", "clusterGUID")); !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(guid) || member(info, "spec", "datastoreReady") != true || member(info, "spec", "calicoVersion") != nil {
		t.Errorf("ClusterInformation: %v", info)
	}
	for name, want := range map[string]string{"default": "1e+06 Deny", "kube-admin": "1000 Pass", "kube-baseline": "1e+07 Pass"} {
		tier := d.tree(v3.Key("Tier", "", name))
		if got := fmt.Sprintf("%v %v", member(tier, "spec", "order"), member(tier, "spec", "defaultAction")); got != want {
			t.Errorf("Tier %s: %s, want %s", name, got, want)
		}
	}
	for _, plural := range []string{"felixconfigurations", "bgpconfigurations", "ippools", "profiles", "bgppeers"} {
		if kvs, _, err := d.List(t.Context(), "/calico/resources/v3/projectcalico.org/"+plural+"/"); err != nil || len(kvs) != 0 {
			t.Errorf("%s: %v, %v; want none", plural, kvs, err)
		}
	}
}

func TestNode_DefaultPools(t *testing.T) {
	t.Parallel()
	// A host in the range that a default pool would be in gets another one.
	c := newCluster(t, []cluster.Server{{Name: "n1", V4: netip.MustParsePrefix("192.168.7.1/24"), V6: netip.MustParsePrefix("fd00::1/64")}})
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := c.Nodes[0]
	pools := func() map[string]string {
		out, err := n.Muslin(t.Context(), "get", "ippools")
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); f[0] != "NAME" {
				m[f[0]] = f[1]
			}
		}
		return m
	}
	first := pools()
	four, err4 := netip.ParsePrefix(first["default-ipv4-ippool"])
	six, err6 := netip.ParsePrefix(first["default-ipv6-ippool"])
	if len(first) != 2 || err4 != nil || err6 != nil || !four.Addr().IsPrivate() || four.Overlaps(n.V4) || six.Bits() != 48 || six.Addr().As16()[0] != 0xfd {
		t.Fatalf("pools: %v", first)
	}
	if _, err := n.Muslin(t.Context(), "delete", "ippool", "default-ipv6-ippool"); err != nil {
		t.Fatal(err)
	}
	n.Kill()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	live(t, c)
	second := pools()
	if len(second) != 2 || second["default-ipv4-ippool"] != first["default-ipv4-ippool"] || second["default-ipv6-ippool"] == first["default-ipv6-ippool"] {
		t.Errorf("pools: %v, before %v", second, first)
	}
}

func TestNode_StatusWait(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	c := newClusterOn(t, d.url, servers(1))
	n := c.Nodes[0]
	if out, code := statusOf(t, n, "--wait", "200ms"); code != 1 || !strings.Contains(out, n.Dir) {
		t.Errorf("without a daemon: exit code %d: %s", code, out)
	}
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, pools+allowAll)
	a, b := machineOf(attach(t, n, "a")), machineOf(attach(t, n, "b"))
	serve(t, b, 80)

	// Objects in error and endpoints without an interface are told, and block
	// nothing.
	d.object("WorkloadEndpoint", "default", "n1-muslin-late-eth0", "", `"node":"n1","orchestrator":"muslin","workload":"late","endpoint":"eth0","interfaceName":"calilate","ipNetworks":["10.65.200.1/32","fd65::200:1/128"]`)
	d.put(v3.Key("Tier", "", "broken"), "{")
	out, code := statusOf(t, n, "--wait", "10s")
	if code != 0 || !containsAll(out, []string{"Live       yes", "Pending    default/n1-muslin-late-eth0 (calilate): no interface", "Problem    Tier broken"}) {
		t.Errorf("exit code %d: %s", code, out)
	}
	late := plug(t, c, n, "late", "calilate", "", "10.65.200.1", "fd65::200:1")
	eventually(t, 5*time.Second, func() error {
		if out, _ := statusOf(t, n); strings.Contains(out, "Pending") {
			return errors.New(out)
		}
		return nil
	})
	wantLinkRoute(t, late)
	judge(t, late.asks("an interface that came late", b, lab.TCP, 80, true))

	// A datastore that is not ready keeps what is enforced and adds nothing.
	ready := func(is bool) {
		d.object("ClusterInformation", "", "default", "", fmt.Sprintf(`"clusterGUID":"0123456789abcdef0123456789abcdef","datastoreReady":%v`, is))
	}
	ready(false)
	apply(t, c, "kind: GlobalNetworkPolicy\nmetadata: {name: shut}\nspec: {order: 1, types: [Ingress], ingress: [{action: Deny}]}\n")
	if err := d.Delete(t.Context(), v3.Key("WorkloadEndpoint", "default", "n1-muslin-late-eth0"), 0); err != nil {
		t.Fatal(err)
	}
	out, code = statusOf(t, n, "--wait", "500ms")
	if code != 1 || !containsAll(out, []string{"ClusterInformation default", "datastoreReady"}) {
		t.Errorf("exit code %d, want 1: %s", code, out)
	}
	judge(t, a.asks("not ready: as before", b, lab.TCP, 80, true), late.asks("not ready: as before", b, lab.TCP, 80, true))
	// A repair meanwhile restores what is enforced.
	if err := n.DelRoute(netip.PrefixFrom(b.addr[false], 32), b.tap); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, func() error {
		if len(kernelRoutes(t, n.Namespace, netip.PrefixFrom(b.addr[false], 32))) != 1 {
			return errors.New("the route is not back")
		}
		return nil
	})
	ready(true)
	if out, code := statusOf(t, n, "--wait", "10s"); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	judge(t, a.asks("ready: denied now", b, lab.TCP, 80, false))
}

// prefixesOf are the prefixes that a server has learned.
func prefixesOf(t *testing.T, n *cluster.Node) (list []netip.Prefix) {
	t.Helper()
	for _, r := range routesOf(t, n) {
		if r.Kind == "bgp" && r.State == "installed" {
			list = append(list, netip.MustParsePrefix(r.Prefix))
		}
	}
	return list
}

// learns polls until a server has learned single addresses (true) or blocks.
func learns(t *testing.T, n *cluster.Node, single bool) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		list := prefixesOf(t, n)
		for _, p := range list {
			if p.IsSingleIP() != single {
				return fmt.Errorf("%s has learned %v, want single addresses: %v", n.Server.Name, list, single)
			}
		}
		if len(list) < 2 {
			return fmt.Errorf("%s has learned %v only", n.Server.Name, list)
		}
		return nil
	})
}

func TestNode_WhatIsAnnounced(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	apply(t, c, allowAll)
	a, b := machineOf(attach(t, n1, "a")), machineOf(attach(t, n2, "b"))
	serve(t, a, 80)
	serve(t, b, 80)
	var all []netip.Addr
	for _, m := range []*machine{a, b} {
		all = append(all, m.addr[false], m.addr[true])
	}
	both := func(text string) {
		t.Helper()
		routed(t, n1, all...)
		routed(t, n2, all...)
		judge(t, a.asks(text, b, lab.TCP, 80, true), b.asks(text, a, lab.TCP, 80, true))
	}
	both("blocks")
	learns(t, n1, false)
	learns(t, n2, false)

	// Every endpoint on its own: for all nodes, then for one of them. No packet
	// is lost on the way from one to the other.
	var flows []*lab.Flow
	for _, six := range []bool{false, true} {
		f, err := lab.StartFlow(lab.FlowConfig{From: a.Namespace, Src: a.addr[six], To: b.Namespace, Dst: netip.AddrPortFrom(b.addr[six], 9999), PPS: 500, Echo: true})
		if err != nil {
			t.Fatal(err)
		}
		flows = append(flows, f)
	}
	apply(t, c, "kind: FelixConfiguration\nmetadata: {name: default}\nspec: {routeSource: WorkloadIPs}\n")
	learns(t, n1, true)
	learns(t, n2, true)
	both("WorkloadIPs")
	remove := func(words ...string) {
		t.Helper()
		if _, err := n2.Muslin(t.Context(), append([]string{"delete"}, words...)...); err != nil {
			t.Fatal(err)
		}
	}
	remove("felixconfig", "default")
	apply(t, c, "kind: FelixConfiguration\nmetadata: {name: node.n1}\nspec: {routeSource: WorkloadIPs}\n")
	learns(t, n1, false)
	learns(t, n2, true)
	both("WorkloadIPs on one node")
	remove("felixconfig", "node.n1")
	learns(t, n2, false)
	both("blocks again")
	for _, f := range flows {
		if r := f.Stop(time.Second); r.Lost > 0 {
			t.Errorf("routeSource changed under a flow: %v", r)
		}
	}

	// A pool that stays at home, in one family.
	pool, err := n1.Muslin(t.Context(), "get", "ippool", "default-ipv4-ippool", "-o", "yaml", "--export")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c, strings.Replace(pool, "spec:\n", "spec:\n  disableBGPExport: true\n", 1))
	eventually(t, 10*time.Second, func() error {
		for _, p := range prefixesOf(t, n2) {
			if p.Addr().Is4() {
				return fmt.Errorf("n2 still has %s", p)
			}
		}
		return nil
	})
	routed(t, n2, a.addr[true])
	judge(t, b.asksAs("disableBGPExport", a, lab.TCP, 80, false, true))
	apply(t, c, strings.Replace(pool, "spec:\n", "spec:\n  disableBGPExport: false\n", 1))
	both("exported again")

	// Addresses of no pool.
	x := machineOf(attach(t, n1, "x", "--ip", "198.51.100.7", "--ip", "2001:db8:7::7"))
	serve(t, x, 80)
	wantVia(t, n2.Namespace, "198.51.100.7/32", "10.0.0.1")
	wantVia(t, n2.Namespace, "2001:db8:7::7/128", "fd00::1")
	judge(t, b.asks("outside every pool", x, lab.TCP, 80, true))
	if _, err := n1.Muslin(t.Context(), "endpoint", "detach", "x"); err != nil {
		t.Fatal(err)
	}
	wantVia(t, n2.Namespace, "198.51.100.7/32", "")
	wantVia(t, n2.Namespace, "2001:db8:7::7/128", "")

	// Without the mesh there are no sessions, and at once no routes.
	apply(t, c, "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {nodeToNodeMeshEnabled: false}\n")
	for _, n := range c.Nodes {
		eventually(t, 10*time.Second, func() error {
			out, err := n.Muslin(t.Context(), "bgp", "peers")
			if err == nil && strings.Contains(out, "10.0.0.") {
				err = errors.New(out)
			}
			if list := prefixesOf(t, n); err == nil && len(list) > 0 {
				err = fmt.Errorf("%s still has %v", n.Server.Name, list)
			}
			return err
		})
	}
	judge(t, a.asks("no mesh", b, lab.TCP, 80, false))
	apply(t, c, "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {nodeToNodeMeshEnabled: true, asNumber: 65001}\n")
	both("mesh with another AS number")
	out, err := n1.Muslin(t.Context(), "bgp", "peers")
	if err != nil || !strings.Contains(out, " 65001 ") {
		t.Errorf("bgp peers: %v: %s", err, out)
	}
}

func TestNode_OneFamily(t *testing.T) {
	t.Parallel()
	for _, six := range []bool{false, true} {
		t.Run(map[bool]string{false: "v4", true: "v6"}[six], func(t *testing.T) {
			t.Parallel()
			list := servers(3)
			for i := range list {
				if six {
					list[i].V4 = netip.Prefix{}
				} else {
					list[i].V6 = netip.Prefix{}
				}
			}
			c := newCluster(t, list)
			if err := c.StartAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			apply(t, c, allowAll)
			var ms []*machine
			for i, n := range c.Nodes {
				m := machineOf(attach(t, n, fmt.Sprintf("w%d", i)))
				serve(t, m, 80)
				ms = append(ms, m)
			}
			near := machineOf(attach(t, c.Nodes[0], "near"))
			serve(t, near, 80)
			for _, n := range c.Nodes {
				for _, m := range ms {
					routed(t, n, m.addr[six], m.addr[false])
				}
			}
			live(t, c)
			// IPv4 has IPv6 next hops where that is all there is (RFC 8950).
			judge(t,
				ms[0].asksAs("between servers", ms[1], lab.TCP, 80, true, six), ms[2].asksAs("between servers", ms[0], lab.TCP, 80, true, six),
				ms[1].asksAs("ping", ms[2], lab.ICMP, 0, true, six),
				// Within a server the other family is there all the same.
				ms[0].asks("on one server", near, lab.TCP, 80, true),
			)
			out, err := c.Nodes[1].Muslin(t.Context(), "bgp", "peers")
			if err != nil || strings.Count(out, "Established") != 2 {
				t.Errorf("bgp peers: %v: %s", err, out)
			}
			for _, n := range c.Nodes {
				// Without IPv6 its pool is there, and nobody else can reach it.
				s, err := n.API().Status(t.Context(), 5*time.Second)
				if err != nil || !s.Live || len(s.Problems) != map[bool]int{false: 1}[six] || !six && s.Problems[0].Field != "spec.bgp.ipv6Address" {
					t.Errorf("status of %s: %+v, %v", n.Server.Name, s, err)
				}
			}
			// With an address, which the daemon finds by itself, the problem is gone.
			n := c.Nodes[0]
			field, addr := "ipv6Address", netip.MustParsePrefix("fd00:9::1/64")
			if six {
				field, addr = "ipv4Address", netip.MustParsePrefix("10.9.0.1/24")
			}
			if err := n.AddAddr(n.Uplink, addr); err != nil {
				t.Fatal(err)
			}
			eventually(t, 20*time.Second, func() error {
				s, err := n.API().Status(t.Context(), 5*time.Second)
				if err == nil && len(s.Problems) > 0 {
					err = fmt.Errorf("still a problem: %+v", s.Problems)
				}
				return err
			})
			wantNodeAddr(t, n, field, addr)
		})
	}
}

// wantNodeAddr waits until a Node has an address.
func wantNodeAddr(t *testing.T, n *cluster.Node, field string, addr netip.Prefix) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		object, err := n.Muslin(t.Context(), "get", "node", n.Server.Name, "-o", "yaml")
		if err == nil && !strings.Contains(object, field+": "+addr.String()+"\n") {
			err = fmt.Errorf("no %s %s:\n%s", field, addr, object)
		}
		return err
	})
}

// logged waits until a server's log has a word so many times.
func logged(t *testing.T, n *cluster.Node, word string, times int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		if got := strings.Count(n.Log(), word); got != times {
			return fmt.Errorf("%q is %d times in the log, want %d:\n%s", word, got, times, n.Log())
		}
		return nil
	})
}

// A datastore that is away is spoken of once, and once more when it is back.
func TestNode_DatastoreAwayIsSaid(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	d.stop()
	c := newClusterOn(t, d.url, servers(1))
	n := c.Nodes[0]
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	logged(t, n, "the datastore cannot be used yet", 1)
	d.start()
	live(t, c)
	logged(t, n, "the datastore answers", 1)
	d.stop()
	logged(t, n, "the datastore is not followed", 1)
	d.start()
	logged(t, n, "following the datastore again", 1)
	live(t, c)
	for _, word := range []string{"the datastore cannot be used yet", "the datastore answers", "the datastore is not followed", "following the datastore again"} {
		logged(t, n, word, 1)
	}
}

// A host gets its addresses after the daemon has started, loses one and gets it
// again.
func TestNode_AddressComes(t *testing.T) {
	t.Parallel()
	c := newClusterOn(t, newDatastore(t).url, []cluster.Server{{Name: "n1"}})
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := c.Nodes[0]
	four, six := netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")
	logs := func(word string, times int) { t.Helper(); logged(t, n, word, times) }
	if err := n.AddAddr(n.Uplink, four); err != nil {
		t.Fatal(err)
	}
	wantNodeAddr(t, n, "ipv4Address", four)
	// An address of the other family counts on an uplink only.
	h, err := n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, err := range []error{
		h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "bridge0", Flags: net.FlagUp}, PeerName: "bridge1"}),
		n.LinkUp("bridge1"), n.AddAddr("bridge0", netip.MustParsePrefix("fd99::1/64")), n.AddAddr("bridge0", netip.MustParsePrefix("10.99.0.1/24")),
		n.AddAddr(n.Uplink, six),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	wantNodeAddr(t, n, "ipv6Address", six)
	logs("it is the node's from now on", 2)
	noProblems(t, n)
	// What the Node has stays, and it is said that the host has it no more.
	for _, addr := range []netip.Prefix{four, six} {
		if err := n.DelAddr(n.Uplink, addr); err != nil {
			t.Fatal(err)
		}
	}
	logs("is not on this host, and stays", 2)
	problem(t, n, "Node n1", four.Addr().String()+" is not an address of this host")
	problem(t, n, "Node n1", six.Addr().String()+" is not an address of this host")
	wantNodeAddr(t, n, "ipv4Address", four)
	wantNodeAddr(t, n, "ipv6Address", six)
	for _, addr := range []netip.Prefix{four, six} {
		if err := n.AddAddr(n.Uplink, addr); err != nil {
			t.Fatal(err)
		}
	}
	logs("is on this host again", 2)
	noProblems(t, n)
	logs("is not on this host, and stays", 2)
}

func TestNode_HostAction(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	apply(t, c, allowAll+`
---
kind: GlobalNetworkPolicy
metadata: {name: mute}
spec: {order: 1, selector: has(mute), types: [Ingress, Egress], ingress: [{action: Deny}], egress: [{action: Deny}]}
`)
	host := func(n *cluster.Node) *machine {
		serve(t, n, 80)
		return &machine{Namespace: n.Namespace, node: n, addr: map[bool]netip.Addr{false: n.V4.Addr(), true: n.V6.Addr()}}
	}
	h1, h2 := host(n1), host(n2)
	a, mute, b := machineOf(attach(t, n1, "a")), machineOf(attach(t, n1, "mute", "--label", "mute=yes")), machineOf(attach(t, n2, "b"))
	serve(t, a, 81)
	serve(t, mute, 81)
	routed(t, n2, a.addr[false], a.addr[true])
	routed(t, n1, b.addr[false], b.addr[true])
	expect := func(when string, onN1, onN2 bool) {
		t.Helper()
		live(t, c)
		judge(t,
			a.asks(when+": tcp to its host", h1, lab.TCP, 80, onN1),
			a.asks(when+": udp to its host", h1, lab.UDP, 80, onN1),
			a.asks(when+": ping to its host", h1, lab.ICMP, 0, onN1),
			b.asks(when+": tcp to its host", h2, lab.TCP, 80, onN2),
			mute.asks(when+": egress policy comes first", h1, lab.TCP, 80, false),
			a.asks(when+": to another host", h2, lab.TCP, 80, true),
			// The gateway address is the host too.
			[]question{{from: a.Namespace, to: netip.MustParseAddr("169.254.1.1"), proto: lab.TCP, port: 80, pass: onN1, text: when + ": the gateway's address"}},
			h1.asks(when+": from the host, whatever the policy", mute, lab.TCP, 81, true),
			h2.asks(when+": from another host, by policy", mute, lab.TCP, 81, false),
		)
		for _, n := range c.Nodes {
			if out, _ := statusOf(t, n); strings.Contains(out, "Repaired") {
				t.Errorf("%s: a setting is no repair: %s", when, out)
			}
		}
	}
	expect("by default", false, false)
	apply(t, c, "kind: FelixConfiguration\nmetadata: {name: default}\nspec: {defaultEndpointToHostAction: Accept}\n")
	expect("Accept", true, true)
	apply(t, c, "kind: FelixConfiguration\nmetadata: {name: node.n1}\nspec: {defaultEndpointToHostAction: Drop}\n")
	expect("Drop on one node", false, true)
	// What cannot be used is reported, and the next source is asked.
	put := func(value string) {
		t.Helper()
		out, err := n1.MuslinIn(t.Context(), "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: node.n1, annotations: {config.projectcalico.org/DefaultEndpointToHostAction: "+value+"}}\nspec: {}\n", "apply", "-f", "-")
		if err != nil {
			t.Fatal(out, err)
		}
	}
	put("Maybe")
	problem(t, n1, "FelixConfiguration node.n1", "defaultEndpointToHostAction", "Maybe")
	expect("neither", true, true)
	if _, err := n1.Muslin(t.Context(), "delete", "felixconfig", "default", "node.n1"); err != nil {
		t.Fatal(err)
	}
	expect("gone", false, false)
}
