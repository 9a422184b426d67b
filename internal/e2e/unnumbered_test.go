// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/node/api"
)

// Servers whose uplinks have no address but the link-local one that the kernel
// gives each interface.

// unnumberedServers are servers with an address of their own and none on a link.
func unnumberedServers() []cluster.Server {
	return []cluster.Server{{Name: "n1", V4: netip.MustParsePrefix("172.31.0.1/32"), V6: netip.MustParsePrefix("fd31::1/128")}}
}

// linkTor is a router with a cable to a server, an address of its own that it announces, and
// the network that all of them have behind them.
type linkTor struct {
	*machine
	name string // and that of the server's interface to it
	id   int
}

// behind is an address in that network, which each router serves.
var behind = &machine{addr: map[bool]netip.Addr{
	false: netip.MustParsePrefix(farNet4).Addr().Next(), true: netip.MustParsePrefix(farNet6).Addr().Next(),
}}

func newLinkTor(t *testing.T, c *cluster.Cluster, id int) *linkTor {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := fmt.Sprint("tor", id)
	ns, err := c.Lab.Namespace(name)
	must(err)
	for _, s := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		must(ns.SetSysctl(s, "1"))
	}
	tor := &linkTor{name: name, id: id, machine: &machine{Namespace: ns, addr: map[bool]netip.Addr{
		false: netip.AddrFrom4([4]byte{198, 51, 100, byte(id)}), true: netip.MustParseAddr(fmt.Sprintf("2001:db8:fb::%d", id)),
	}}}
	for _, six := range []bool{false, true} {
		for _, a := range []netip.Addr{tor.addr[six], behind.addr[six]} {
			must(ns.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())))
		}
	}
	must(lab.Veth(lab.End{NS: ns, Name: "srv"}, lab.End{NS: c.Nodes[0].Namespace, Name: name}))
	serve(t, tor, 80)
	return tor
}

// linkLocal is the link-local address of a router's end of the cable.
func (r *linkTor) linkLocal(t *testing.T) (p netip.Prefix) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		list, err := r.Addrs("srv")
		for _, a := range list {
			if a.Addr().IsLinkLocalUnicast() {
				p = a
				return nil
			}
		}
		return fmt.Errorf("no link-local address: %v", err)
	})
	return p
}

// hop is it as a next hop, as linkHops shows it.
func (r *linkTor) hop(t *testing.T) string { return r.linkLocal(t).Addr().String() + "%" + r.name }

// frr starts FRR there.
func (r *linkTor) frr(t *testing.T) *frr {
	t.Helper()
	return startFRR(t, r.Namespace, map[string]string{"bfdd": "", "bgpd": fmt.Sprintf(`router bgp %d
 bgp router-id 192.0.2.%d
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor srv interface remote-as external
 neighbor srv timers connect 1
 neighbor srv bfd
 address-family ipv4 unicast
  network %s
  network %s/32
 exit-address-family
 address-family ipv6 unicast
  network %s
  network %s/128
  neighbor srv activate
 exit-address-family
`, 65000+r.id, r.id, farNet4, r.addr[false], farNet6, r.addr[true])})
}

var viaDev = regexp.MustCompile(`via (?:inet6 )?(\S+) dev (\S+)`)

// linkHops are the next hops of the kernel's route to a network, each with its
// interface.
func linkHops(ns *lab.Namespace, to string) (hops []string, err error) {
	err = ns.Do(func() error {
		family := "-4"
		if strings.Contains(to, ":") {
			family = "-6"
		}
		out, err := exec.Command("ip", family, "route", "show", to, "proto", "177").CombinedOutput()
		for _, m := range viaDev.FindAllStringSubmatch(string(out), -1) {
			hops = append(hops, m[1]+"%"+m[2])
		}
		return err
	})
	slices.Sort(hops)
	return hops, err
}

// wantHops polls until the networks behind the routers have these next hops, in both
// families.
func wantHops(t *testing.T, ns *lab.Namespace, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, 40*time.Second, func() error {
		for _, to := range []string{farNet4, farNet6} {
			if got, err := linkHops(ns, to); err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("%s to %s: %v, want %v; %v", ns.Name(), to, got, want, err)
			}
		}
		return nil
	})
}

// timesUp is how often a session has come up.
func timesUp(t *testing.T, n *cluster.Node, name string) uint64 {
	t.Helper()
	var p api.Peers
	if err := n.API().Get(t.Context(), "/v1/bgp/peers", nil, &p); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Peers {
		if s.Name == name {
			return s.Established
		}
	}
	return 0
}

// TestUnnumbered_FRR: a server with two routers (FRR) at the ends of two cables, none of
// which has an address. Both families are routed over both, and packets pass both ways;
// a link that goes takes its session along and nothing else, and comes back; a
// router has another link-local address; its bgpd dies; our agent dies. BFD watches both.
func TestUnnumbered_FRR(t *testing.T) {
	t.Parallel()
	labtest.Require(t)
	labtest.Programs(t, "frr", "/usr/lib/frr/bgpd", "/usr/bin/vtysh")
	labtest.Programs(t, "iproute2", "/usr/sbin/ip")
	c := newCluster(t, unnumberedServers())
	n := c.Nodes[0]
	one, two := newLinkTor(t, c, 1), newLinkTor(t, c, 2)
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, allowAll+`---
kind: BGPPeer
metadata: {name: tor, annotations: {muslin/interface: "tor1, tor2", muslin/remote-as: External, muslin/bfd: Enabled, muslin/bfd-interval: 1s}}
spec: {}
`)
	w := machineOf(attach(t, n, "w"))
	serve(t, w, 80)
	live(t, c)
	shows := func(words ...string) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			out, err := n.Muslin(t.Context(), "bgp", "peers")
			for line := range strings.Lines(out) {
				if containsAll(line, words) {
					return nil
				}
			}
			return fmt.Errorf("bgp peers has no line with %q: %v\n%s", words, err, out)
		})
	}
	// Nobody is there yet.
	for _, name := range []string{"tor1", "tor2"} {
		shows("tor/"+name, " "+name+" ", "Idle", "no router advertisement was heard on "+name)
	}
	if out, err := n.Muslin(t.Context(), "bgp", "peer", "tor1"); err != nil || !strings.Contains(out, "tor/tor1, not found yet on tor1") {
		t.Errorf("bgp peer: %v: %s", err, out)
	}
	if text := scrape(t, n); !strings.Contains(text, `muslin_bgp_peer_up{address="tor1",peer="tor/tor1"} 0`) {
		t.Errorf("metrics:\n%s", text)
	}
	f1 := one.frr(t)
	two.frr(t)
	both := []string{one.hop(t), two.hop(t)}
	wantHops(t, n.Namespace, both...)
	shows("tor/tor1", one.hop(t), "65001", "Established")
	shows("tor/tor2", two.hop(t), "65002", "Established")
	for word, sessions := range map[string]int{"tor": 2, "tor/tor1": 1, "tor2": 1, one.hop(t): 1} {
		if out, err := n.Muslin(t.Context(), "bgp", "peer", word); err != nil || strings.Count(out, "State         Established") != sessions {
			t.Errorf("bgp peer %s: %v: %s", word, err, out)
		}
	}
	talk := func(text string, routers ...*linkTor) {
		t.Helper()
		judge(t, w.asks(text, behind, lab.TCP, 80, true))
		for _, r := range routers {
			routed(t, n, r.addr[false], r.addr[true])
			for _, a := range w.addr {
				eventually(t, 20*time.Second, func() error {
					out, err := exec.Command("ip", "-n", r.Name(), "route", "get", a.String()).CombinedOutput()
					if err != nil || !strings.Contains(string(out), "dev srv") {
						return fmt.Errorf("%s to %s: %s", r.name, a, out)
					}
					return nil
				})
			}
			judge(t, r.asks(text, w, lab.TCP, 80, true), w.asks(text, r.machine, lab.TCP, 80, true), w.asks(text, r.machine, lab.ICMP, 0, true))
		}
	}
	talk("over both", one, two)
	watching(t, n, 2)

	// A link goes: its session with it, and no other. It comes back.
	if err := one.LinkDown("srv"); err != nil {
		t.Fatal(err)
	}
	wantHops(t, n.Namespace, two.hop(t))
	shows("tor/tor1", "Idle", "interface tor1 has no carrier")
	talk("over one", two)
	if err := one.LinkUp("srv"); err != nil {
		t.Fatal(err)
	}
	wantHops(t, n.Namespace, one.hop(t), two.hop(t))
	talk("over both again", one, two)
	if up := timesUp(t, n, "tor/tor2"); up != 1 {
		t.Errorf("the other session came up %d times", up)
	}

	// The router has another address on the link.
	old := one.linkLocal(t)
	if err := one.DelAddr("srv", old); err != nil {
		t.Fatal(err)
	}
	if err := one.AddAddr("srv", netip.MustParsePrefix("fe80::abcd/64")); err != nil {
		t.Fatal(err)
	}
	wantHops(t, n.Namespace, "fe80::abcd%tor1", two.hop(t))
	talk("from another address", one, two)

	// Its bgpd dies and comes back: the session, too. And our agent: its routes stay.
	before := timesUp(t, n, "tor/tor1")
	f1.restart("bgpd")
	eventually(t, 40*time.Second, func() error {
		if now := timesUp(t, n, "tor/tor1"); now <= before {
			return fmt.Errorf("tor/tor1 came up %d times, and before the restart %d", now, before)
		}
		return nil
	})
	wantHops(t, n.Namespace, one.hop(t), two.hop(t))
	talk("after a restart of FRR", one, two)
	n.Kill()
	wantHops(t, n.Namespace, one.hop(t), two.hop(t))
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	live(t, c)
	for range 100 { // from before the neighbours are found until after
		for _, to := range []string{farNet4, farNet6} {
			if got, err := linkHops(n.Namespace, to); err != nil || len(got) == 0 {
				t.Fatalf("the restarted agent has dropped the route to %s: %v", to, err)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	shows("tor/tor1", "Established")
	shows("tor/tor2", "Established")
	wantHops(t, n.Namespace, one.hop(t), two.hop(t))
	talk("after a restart of the agent", one, two)

	// The interface goes for good, and the BGPPeer that names it says so.
	if err := n.DeleteLink("tor1"); err != nil {
		t.Fatal(err)
	}
	wantHops(t, n.Namespace, two.hop(t))
	problem(t, n, "BGPPeer tor", "there is no interface tor1", "spec.nodeSelector")
}

// TestUnnumbered_BIRD: the same with BIRD, which advertises itself with protocol radv and
// takes whoever connects on the interface.
func TestUnnumbered_BIRD(t *testing.T) {
	t.Parallel()
	needBird(t)
	labtest.Programs(t, "iproute2", "/usr/sbin/ip")
	c := newCluster(t, unnumberedServers())
	n := c.Nodes[0]
	tor := newLinkTor(t, c, 3)
	dir, err := os.MkdirTemp("/tmp", "mu-bird")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := fmt.Sprintf(`log "bird.log" all;
router id 192.0.2.3;
protocol device { scan time 1; }
protocol kernel k4 { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel k6 { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static s4 { ipv4; route %s blackhole; route %s/32 blackhole; }
protocol static s6 { ipv6; route %s blackhole; route %s/128 blackhole; }
protocol radv { interface "srv" { min ra interval 3; max ra interval 4; default lifetime 0; }; }
protocol bgp server { local as 65003; neighbor range fe80::/10 external; interface "srv"; hold time 9; graceful restart on;
	ipv4 { import all; export where source = RTS_STATIC; extended next hop on; };
	ipv6 { import all; export where source = RTS_STATIC; }; }
`, farNet4, tor.addr[false], farNet6, tor.addr[true])
	if err := os.WriteFile(filepath.Join(dir, "bird.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/bird", "-f", "-c", "bird.conf", "-s", "ctl", "-P", "pid")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, t.Output(), t.Output()
	tor.linkLocal(t)
	if _, err := tor.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "bird.log"))
			t.Logf("BIRD's log:\n%s", text[max(0, len(text)-3000):])
		}
	})
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, allowAll+`---
kind: BGPPeer
metadata: {name: tor, annotations: {muslin/interface: tor3}}
spec: {asNumber: 65003}
`)
	w := machineOf(attach(t, n, "w"))
	serve(t, w, 80)
	live(t, c)
	wantHops(t, n.Namespace, tor.hop(t))
	routed(t, n, tor.addr[false], tor.addr[true])
	judge(t, w.asks("to BIRD", behind, lab.TCP, 80, true), w.asks("to BIRD", tor.machine, lab.ICMP, 0, true), tor.asks("from BIRD", w, lab.TCP, 80, true))
	if err := tor.LinkDown("srv"); err != nil {
		t.Fatal(err)
	}
	wantHops(t, n.Namespace)
	if err := tor.LinkUp("srv"); err != nil {
		t.Fatal(err)
	}
	wantHops(t, n.Namespace, tor.hop(t))
	judge(t, w.asks("the link is back", behind, lab.TCP, 80, true), tor.asks("the link is back", w, lab.TCP, 80, true))
}

// TestUnnumbered_Servers: two servers find each other at both ends of a cable, within one
// AS, without a mesh; BFD watches the path.
func TestUnnumbered_Servers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, servers(2))
	if err := lab.Veth(lab.End{NS: c.Nodes[0].Namespace, Name: "cable"}, lab.End{NS: c.Nodes[1].Namespace, Name: "cable"}); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, allowAll+`---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
---
kind: BGPPeer
metadata: {name: other, annotations: {muslin/interface: cable, muslin/remote-as: Internal, muslin/bfd: Enabled, muslin/bfd-interval: 1s}}
spec: {}
`)
	a, b := machineOf(attach(t, c.Nodes[0], "a")), machineOf(attach(t, c.Nodes[1], "b"))
	serve(t, a, 80)
	serve(t, b, 80)
	live(t, c)
	exchanged(t, c)
	for _, x := range []struct {
		n  *cluster.Node
		to *machine
	}{{c.Nodes[0], b}, {c.Nodes[1], a}} {
		routed(t, x.n, x.to.addr[false], x.to.addr[true])
		for _, to := range x.to.addr {
			eventually(t, 20*time.Second, func() error { return leadsThrough(x.n, to, "cable") })
		}
		watching(t, x.n, 1)
	}
	judge(t, a.asks("over the cable", b, lab.TCP, 80, true), b.asks("over the cable", a, lab.TCP, 80, true), a.asks("over the cable", b, lab.ICMP, 0, true))
	// The cable is pulled, and plugged in again.
	if err := c.Nodes[0].DeleteLink("cable"); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		eventually(t, 20*time.Second, func() error {
			if missing := unroutedBy(t, n, []netip.Addr{a.addr[false], a.addr[true], b.addr[false], b.addr[true]}); len(missing) != 4 {
				return fmt.Errorf("%s lacks learned routes to %v only", n.Server.Name, missing)
			}
			return nil
		})
	}
	if err := lab.Veth(lab.End{NS: c.Nodes[0].Namespace, Name: "cable"}, lab.End{NS: c.Nodes[1].Namespace, Name: "cable"}); err != nil {
		t.Fatal(err)
	}
	exchanged(t, c)
	routed(t, c.Nodes[0], b.addr[false], b.addr[true])
	routed(t, c.Nodes[1], a.addr[false], a.addr[true])
	judge(t, a.asks("over a new cable", b, lab.TCP, 80, true), b.asks("over a new cable", a, lab.TCP, 80, true))
}
