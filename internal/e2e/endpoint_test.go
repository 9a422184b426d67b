// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/node/api"
)

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// The gateway of every workload, as the world outside is told.
var (
	gateway4 = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
)

// connect makes the interface of a workload as somebody would who knows
// nothing of us but the gateway's addresses: it has to be found by asking.
func connect(t *testing.T, n *cluster.Node, name string, ns *lab.Namespace, addrs ...netip.Addr) {
	t.Helper()
	if err := lab.Veth(lab.End{NS: n.Namespace, Name: name}, lab.End{NS: ns, Name: "eth0"}); err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if err := ns.AddAddr("eth0", host(a)); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		ns.AddRoute(host(gateway4), netip.Addr{}, "eth0"),
		ns.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), gateway4, "eth0"),
		ns.AddRoute(netip.MustParsePrefix("::/0"), gateway6, "eth0"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// reaches polls until a workload gets an answer from an address, and returns
// how long that took.
func reaches(t *testing.T, from *lab.Namespace, dst netip.Addr) time.Duration {
	t.Helper()
	start := time.Now()
	eventually(t, 10*time.Second, func() error {
		o := from.Probe(context.Background(), lab.Probe{Proto: lab.ICMP, Dst: dst, Timeout: 100 * time.Millisecond})
		if o.Verdict != lab.Reached {
			return fmt.Errorf("%s to %v: %v: %v", from.Name(), dst, o.Verdict, o.Err)
		}
		return nil
	})
	return time.Since(start)
}

// hasGateway tells whether an interface has both gateway addresses, usable.
func hasGateway(t *testing.T, n *cluster.Node, name string) bool {
	t.Helper()
	addrs, err := n.Addrs(name)
	if err != nil {
		t.Fatal(err)
	}
	found := func(a netip.Addr) bool {
		return slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr() == a })
	}
	return found(gateway4) && found(gateway6)
}

var recreations = flag.Int("recreations", 5, "how often TestN06_InterfaceRecreated makes each of two interfaces anew")

// TestN06_InterfaceRecreated deletes the interface of a live endpoint and
// makes it again under the same name: gateway, routes and policy are there
// again, and nothing forbidden passes in between.
func TestN06_InterfaceRecreated(t *testing.T) {
	g := startGuarded(t, 2)
	victims := []*cluster.Workload{g.members[0], g.mutes[0]} // one that is protected, one that is held back
	forbidden := newStreams(30000)
	forbidden.begin(t, g.strangers[0], victims[0], 500, false)
	forbidden.begin(t, g.strangers[1], victims[0], 500, false)
	forbidden.begin(t, victims[1], g.members[1], 500, false)
	forbidden.begin(t, victims[1], g.members[2], 500, false)

	var took spans
	for range *recreations {
		for _, w := range victims {
			if err := w.Node.DeleteLink(w.Interface); err != nil {
				t.Fatal(err)
			}
			connect(t, w.Node, w.Interface, w.Namespace, w.Addrs...)
			start := time.Now()
			eventually(t, 10*time.Second, func() error {
				for _, a := range w.Addrs {
					if _, ok := ourRoute(t, w.Node.Namespace, func(r netlink.Route) bool { return r.Dst.IP.Equal(a.AsSlice()) && isHost(r) }); !ok {
						return fmt.Errorf("no route to %v", a)
					}
				}
				if !hasGateway(t, w.Node, w.Interface) {
					return fmt.Errorf("no gateway on %s", w.Interface)
				}
				return nil
			})
			took = append(took, time.Since(start))
		}
		for family, a := range families(victims[0]) {
			reaches(t, g.members[2].Namespace, a)                            // from another server
			reaches(t, g.members[1].Namespace, a)                            // from the same one
			reaches(t, victims[0].Namespace, families(g.members[3])[family]) // and back
		}
		for _, a := range victims[1].Addrs {
			reaches(t, g.members[2].Namespace, a) // mute, but not deaf
		}
	}
	t.Logf("gateway and routes are back in %v", took)
	if slices.Sort(took); took[len(took)/2] > 500*time.Millisecond {
		t.Errorf("gateway and routes are back only in %v", took)
	}
	forbidden.silent(t)
	mac, err := victims[0].Node.MAC(victims[0].Interface)
	if err != nil || mac.String() == gatewayMAC().String() {
		t.Errorf("the MAC of an interface that is not ours is now %v, %v", mac, err)
	}
}

// endpointDoc is a WorkloadEndpoint as somebody else writes it.
func endpointDoc(node, name, iface string, addrs ...netip.Addr) string {
	var nets []string
	for _, a := range addrs {
		nets = append(nets, fmt.Sprintf("%q", host(a)))
	}
	return fmt.Sprintf(`
kind: WorkloadEndpoint
metadata: {name: %s-other-%s-eth0, namespace: default, labels: {member: "yes"}}
spec: {orchestrator: other, node: %s, workload: %s, endpoint: eth0, interfaceName: %s, ipNetworks: [%s]}
`, node, name, node, name, iface, strings.Join(nets, ", "))
}

// TestEndpointOrder writes an endpoint before its interface exists, and after
// it. Until both are there nothing passes.
func TestEndpointOrder(t *testing.T) {
	g := startGuarded(t, 2)
	n, peer := g.Nodes[0], g.members[2]
	for i, endpointFirst := range []bool{true, false} {
		name := []string{"early", "late"}[i]
		addrs := []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)}), netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 1)})}
		ns, err := g.Lab.Workload(name)
		if err != nil {
			t.Fatal(err)
		}
		if endpointFirst {
			apply(t, g.Cluster, endpointDoc("n1", name, "cali"+name, addrs...))
			if err := n.Live(context.Background(), 10*time.Second); err != nil {
				t.Errorf("an endpoint without an interface keeps its server from being live: %v", err)
			}
			connect(t, n, "cali"+name, ns, addrs...)
		} else {
			connect(t, n, "cali"+name, ns, addrs...)
			// As a helpful administrator would: routes, too. Without an endpoint
			// the interface passes nothing, in either direction.
			for _, a := range addrs {
				if err := n.AddRoute(host(a), netip.Addr{}, "cali"+name); err != nil {
					t.Fatal(err)
				}
			}
			if err := n.AddAddr("cali"+name, host(gateway4)); err != nil {
				t.Fatal(err)
			}
			arrive, err := ns.Capture("eth0")
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range []*cluster.Workload{g.members[0], peer} {
				for family, a := range map[string]netip.Addr{"IPv4": addrs[0], "IPv6": addrs[1]} {
					for _, o := range []lab.Outcome{
						ns.Probe(context.Background(), lab.Probe{Proto: lab.ICMP, Dst: families(w)[family], Timeout: 200 * time.Millisecond}),
						w.Probe(context.Background(), lab.Probe{Proto: lab.ICMP, Dst: a, Timeout: 200 * time.Millisecond}),
					} {
						if o.Verdict == lab.Reached {
							t.Errorf("%s: an interface without an endpoint passes packets", family)
						}
					}
				}
			}
			got, err := arrive.Drain(func(f lab.Frame) bool {
				return slices.Contains(addrs, f.Dst) && !f.Outgoing && f.EtherType != lab.EtherARP
			})
			if err != nil || len(got) > 0 {
				t.Errorf("an interface without an endpoint was sent %v, %v", got, err)
			}
			arrive.Close()
			for _, a := range addrs {
				if err := n.DelRoute(host(a), "cali"+name); err != nil {
					t.Fatal(err)
				}
			}
			apply(t, g.Cluster, endpointDoc("n1", name, "cali"+name, addrs...))
		}
		start := time.Now()
		for k, a := range addrs {
			reaches(t, peer.Namespace, a)
			reaches(t, ns, peer.Addrs[slices.IndexFunc(peer.Addrs, func(p netip.Addr) bool { return p.Is4() == (k == 0) })])
		}
		t.Logf("%s: reachable both ways after %v", name, time.Since(start).Round(time.Millisecond))
	}
}

// remains is all that servers and datastore have, one line each.
func remains(t *testing.T, c *cluster.Cluster) (lines []string) {
	t.Helper()
	for _, n := range c.Nodes {
		links, err := n.Links()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			lines = append(lines, n.Server.Name+" link "+l)
		}
		for _, r := range routesText(t, n.Namespace) {
			lines = append(lines, n.Server.Name+" route "+r)
		}
		for _, r := range strings.Split(openNFT(t, n.Namespace).ruleset(t), "\n") {
			lines = append(lines, n.Server.Name+" nftables "+r)
		}
	}
	kvs, _, err := openDatastore(t, c).List(context.Background(), "/calico/")
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kvs {
		if !strings.Contains(kv.Key, "/ipam/v2/assignment/") {
			lines = append(lines, kv.Key+" "+string(kv.Value))
			continue
		}
		// The order in which a block hands out addresses, and its count of
		// changes, remember what was.
		var b struct {
			Allocations []*int            `json:"allocations"`
			Attributes  []json.RawMessage `json:"attributes"`
			Unallocated []int             `json:"unallocated"`
		}
		if err := json.Unmarshal(kv.Value, &b); err != nil {
			t.Fatalf("%s: %v", kv.Key, err)
		}
		used := 0
		for _, a := range b.Allocations {
			if a != nil {
				used++
			}
		}
		lines = append(lines, fmt.Sprintf("%s used %d free %d attributes %s", kv.Key, used, len(b.Unallocated), b.Attributes))
	}
	slices.Sort(lines)
	return lines
}

// TestEndpointOfAProcess attaches a plain process and detaches it: it can
// talk, and then nothing of it remains anywhere.
func TestEndpointOfAProcess(t *testing.T) {
	g := startGuarded(t, 2)
	ctx := context.Background()
	n, peer := g.Nodes[0], g.members[2]
	before := remains(t, g.Cluster)
	for round := range 3 {
		ns, err := g.Lab.Workload(fmt.Sprint("process", round))
		if err != nil {
			t.Fatal(err)
		}
		p, err := ns.Start(exec.Command("sleep", "60"))
		if err != nil {
			t.Fatal(err)
		}
		out, err := n.Muslin(ctx, "endpoint", "attach", "process", "--netns", fmt.Sprintf("/proc/%d/ns/net", p.Pid()), "--label", "member=yes", "-o", "json")
		if err != nil {
			t.Fatal(err)
		}
		var at api.Attached
		if err := json.Unmarshal([]byte(out), &at); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var addrs []netip.Addr
		for _, s := range at.Addresses {
			addrs = append(addrs, netip.MustParseAddr(s))
		}
		if len(addrs) != 2 {
			t.Fatalf("addresses %v, want one of each family", addrs)
		}
		for _, a := range addrs {
			reaches(t, peer.Namespace, a)
			if n := count(remains(t, g.Cluster), a); n < 2 {
				t.Errorf("%v is in %d places of servers and datastore: this test would not see it remain", a, n)
			}
		}
		reads := tableReads(t, n)
		if round == 1 {
			p.Kill() // the namespace stays, as it is held by its name
		}
		if out, err := n.Muslin(ctx, "endpoint", "detach", "process"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := g.AllLive(ctx, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		// A server may have half a million routes to others: one endpoint less must
		// not take reading all of them.
		if now := tableReads(t, n); now != reads {
			t.Errorf("round %d: the routing table was read %d times for a detach", round, now-reads)
		}
		if after := remains(t, g.Cluster); !slices.Equal(after, before) {
			t.Errorf("round %d: after detach there is\n%s", round, difference(before, after))
		}
		if links, err := ns.Links(); err != nil || !slices.Equal(links, []string{"lo"}) {
			t.Errorf("in the namespace there is %v, %v", links, err)
		}
		for _, a := range addrs {
			if got := peer.Probe(ctx, lab.Probe{Proto: lab.ICMP, Dst: a, Timeout: 100 * time.Millisecond}); got.Verdict == lab.Reached {
				t.Errorf("%v answers after detach", a)
			}
		}
		p.Kill()
	}
}

// tableReads is how often a server had to read the whole routing table.
func tableReads(t *testing.T, n *cluster.Node) (reads int) {
	t.Helper()
	for line := range strings.Lines(scrape(t, n)) {
		if word, ok := strings.CutPrefix(line, "muslin_route_table_reads_total "); ok {
			if _, err := fmt.Sscan(word, &reads); err != nil {
				t.Fatal(err)
			}
			return reads
		}
	}
	t.Fatal("no muslin_route_table_reads_total in the metrics")
	return 0
}

// count counts the lines that name an address, as text or as bytes.
func count(lines []string, a netip.Addr) (n int) {
	for _, l := range lines {
		if strings.Contains(l, a.String()) || strings.Contains(l, fmt.Sprintf("%x", a.AsSlice())) {
			n++
		}
	}
	return n
}

// difference shows lines that only one of two lists has.
func difference(before, after []string) string {
	var b strings.Builder
	for _, l := range before {
		if !slices.Contains(after, l) {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	return b.String()
}

// TestS01_SpoofedSource sends with source addresses that are not the sender's
// own, also with those of a flow that is established. None arrives.
func TestS01_SpoofedSource(t *testing.T) {
	g := startGuarded(t, 2)
	apply(t, g.Cluster, allowAllFirst) // what is dropped is dropped for its source alone
	settle(t, g.Cluster)
	thief, here, there := g.members[0], g.members[1], g.members[2]
	const port = 7000
	for family, dst := range families(there) {
		own := families(thief)[family]
		victim := netip.AddrPortFrom(families(here)[family], 7001)
		uplink := map[string]netip.Addr{"IPv4": g.Nodes[0].V4.Addr(), "IPv6": g.Nodes[0].V6.Addr()}[family]
		gateway := map[string]netip.Addr{"IPv4": gateway4, "IPv6": gateway6}[family]
		random := map[string]netip.Addr{"IPv4": netip.MustParseAddr("198.51.100.7"), "IPv6": netip.MustParseAddr("2001:db8::7")}[family]
		loopback := map[string]netip.Addr{"IPv4": netip.MustParseAddr("127.0.0.1"), "IPv6": netip.MustParseAddr("::1")}[family]

		// Somebody else's flow, both ways.
		receiver, err := there.ListenPacket("udp", netip.AddrPortFrom(dst, port).String())
		if err != nil {
			t.Fatal(err)
		}
		defer receiver.Close()
		sender, err := here.ListenPacket("udp", victim.String())
		if err != nil {
			t.Fatal(err)
		}
		defer sender.Close()
		eventually(t, 5*time.Second, func() error {
			return exchange(sender, receiver, netip.AddrPortFrom(dst, port))
		})

		arrive, err := there.Capture("eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer arrive.Close()
		sources := []netip.Addr{families(here)[family], families(g.members[3])[family], dst, uplink, gateway, random, loopback, own.Next()}
		const each = 10
		send := func(src netip.Addr, mark string) {
			t.Helper()
			for range each {
				err := thief.SendPacket("eth0", lab.Packet{
					DstMAC: gatewayMAC(), Src: src, Dst: dst, Proto: lab.ProtoUDP, SrcPort: victim.Port(), DstPort: port, Payload: []byte(mark),
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, src := range sources {
			send(src, "forged")
		}
		send(own, "honest")
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		// Packets of one sender to one receiver stay in order: after the last
		// honest one no forged one is on its way.
		honest, forged := 0, 0
		for honest < each {
			f, err := arrive.Next(ctx, func(f lab.Frame) bool { return f.Proto == lab.ProtoUDP })
			if err != nil {
				t.Fatalf("%s: %d honest datagrams arrived: %v", family, honest, err)
			}
			switch string(f.Payload) {
			case "honest":
				honest++
			case "forged":
				forged++
				t.Errorf("%s: arrived: %v", family, f)
			}
		}
		// The flow goes on.
		if err := exchange(sender, receiver, netip.AddrPortFrom(dst, port)); err != nil {
			t.Errorf("%s: the flow whose address was forged: %v", family, err)
		}
		t.Logf("%s: %d of %d forged datagrams arrived, %d of %d honest ones", family, forged, each*len(sources), honest, each)
	}
}

// exchange sends one datagram and its answer.
func exchange(from, to net.PacketConn, dst netip.AddrPort) error {
	deadline := time.Now().Add(time.Second)
	_ = from.SetReadDeadline(deadline)
	_ = to.SetReadDeadline(deadline)
	if _, err := from.WriteTo([]byte("question"), net.UDPAddrFromAddrPort(dst)); err != nil {
		return err
	}
	buf := make([]byte, 100)
	for {
		n, addr, err := to.ReadFrom(buf)
		if err != nil {
			return err
		}
		if string(buf[:n]) != "question" {
			continue
		}
		if _, err := to.WriteTo([]byte("answer"), addr); err != nil {
			return err
		}
		n, _, err = from.ReadFrom(buf)
		if err == nil && string(buf[:n]) != "answer" {
			err = fmt.Errorf("answer %q", buf[:n])
		}
		return err
	}
}

// TestAttachAfterDeath: an agent that died in an attach, when it had addresses and before the object was written, leaves
// them; the next attach has its own, and no others are taken.
func TestAttachAfterDeath(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	d.object("IPPool", "", "p4", "", `"cidr":"10.65.0.0/24"`)
	d.object("IPPool", "", "p6", "", `"cidr":"fd65::/118"`)
	c := newClusterOn(t, d.url, servers(1))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	var pools []*v3.IPPool
	for _, name := range []string{"p4", "p6"} {
		r, err := d.Objects().Read(t.Context(), "IPPool", "", name)
		if err != nil {
			t.Fatal(err)
		}
		pools = append(pools, r.(*v3.IPPool))
	}
	handle := "muslin.default.n1-muslin-web-eth0"
	for _, ips := range [][]string{nil, {"--ip", "10.65.0.9", "--ip", "fd65::9"}} {
		r := ipam.Request{Num4: 1, Num6: 1, Handle: handle, Node: "n1", Pools: pools, Use: ipam.UseWorkload}
		if _, err := d.Allocator().AutoAssign(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		for _, a := range ips[min(len(ips), 3):] { // and died when it had the last one
			if _, err := d.Allocator().AssignIP(t.Context(), ipam.AssignRequest{Addr: netip.MustParseAddr(a), Handle: handle, Node: "n1", Pools: pools}); err != nil {
				t.Fatal(err)
			}
		}
		w := attach(t, c.Nodes[0], "web", ips...)
		held, err := d.Allocator().IPsByHandle(t.Context(), handle)
		if slices.SortFunc(w.Addrs, netip.Addr.Compare); err != nil || !slices.Equal(held, w.Addrs) {
			t.Errorf("%v are taken (%v), and the endpoint has %v", held, err, w.Addrs)
		}
		if _, err := c.Nodes[0].Muslin(t.Context(), "endpoint", "detach", "web"); err != nil {
			t.Fatal(err)
		}
		if held, err := d.Allocator().IPsByHandle(t.Context(), handle); err != nil || len(held) > 0 {
			t.Errorf("%v are taken (%v) after the detach", held, err)
		}
		if err := w.Delete(); err != nil {
			t.Fatal(err)
		}
	}
}
