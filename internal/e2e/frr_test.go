// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// frr is FRR's daemons in one namespace: zebra and those that a configuration
// names. They share a directory, and nothing with the machine's own FRR.
type frr struct {
	t     *testing.T
	dir   string
	start func(daemon string) // with the configuration in its file
	procs map[string]*lab.Process
}

// startFRR starts zebra, and then each of the daemons (ospfd, ospf6d, bgpd, …)
// with its configuration. They end with the namespace.
func startFRR(t *testing.T, ns *lab.Namespace, daemons map[string]string) *frr {
	t.Helper()
	const bin = "/usr/lib/frr"
	labtest.Programs(t, "frr", bin+"/zebra")
	dir, err := os.MkdirTemp("/tmp", "mu-frr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// FRR insists on its own user, who is in the group of its sockets.
	u, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	f := &frr{t: t, dir: dir, procs: map[string]*lab.Process{}}
	configure := func(daemon, conf string) {
		t.Helper()
		file := filepath.Join(dir, daemon+".conf")
		if err := os.WriteFile(file, []byte("log file "+filepath.Join(dir, daemon+".log")+"\n"+conf), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(file, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	f.start = func(daemon string) {
		t.Helper()
		file := filepath.Join(dir, daemon+".conf")
		args := []string{"-f", file, "-i", filepath.Join(dir, daemon+".pid"), "-z", filepath.Join(dir, "zserv"), "--vty_socket", dir, "-u", "frr", "-g", "frr", "-P", "0"}
		if daemon == "bfdd" {
			args = append(args, "--bfdctl", filepath.Join(dir, "bfdd.sock"))
		}
		cmd := exec.Command(filepath.Join(bin, daemon), args...)
		p, err := ns.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		f.procs[daemon] = p
	}
	configure("zebra", "")
	f.start("zebra")
	eventually(t, 10*time.Second, func() error { _, err := os.Stat(filepath.Join(dir, "zserv")); return err })
	for daemon, conf := range daemons {
		configure(daemon, conf)
		f.start(daemon)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, about := range []string{"ip route", "ipv6 route", "bgp neighbors", "bfd peers"} {
				t.Log("show "+about, f.ask("show "+about))
			}
		}
	})
	return f
}

// restart ends a daemon without a word to anybody, and starts it again.
func (f *frr) restart(daemon string) {
	f.t.Helper()
	f.procs[daemon].Kill()
	f.start(daemon)
}

// ask runs a command of vtysh.
func (f *frr) ask(command string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // also when the test has ended
	defer cancel()
	out, err := exec.CommandContext(ctx, "vtysh", "--vty_socket", f.dir, "-c", command).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// ospf is a configuration for every interface named, with a cost of each.
func ospf(id int, passive string, cost map[string]int) map[string]string {
	v2, v3 := "", ""
	for dev, c := range cost {
		v2 += fmt.Sprintf("interface %s\n ip ospf area 0\n ip ospf cost %d\n ip ospf network point-to-point\n ip ospf hello-interval 1\n ip ospf dead-interval 4\n", dev, c)
		v3 += fmt.Sprintf("interface %s\n ipv6 ospf6 area 0\n ipv6 ospf6 cost %d\n ipv6 ospf6 network point-to-point\n ipv6 ospf6 hello-interval 1\n ipv6 ospf6 dead-interval 4\n", dev, c)
	}
	if passive != "" {
		v2 += fmt.Sprintf("interface %s\n ip ospf area 0\n ip ospf passive\n", passive)
		v3 += fmt.Sprintf("interface %s\n ipv6 ospf6 area 0\n ipv6 ospf6 passive\n", passive)
	}
	return map[string]string{
		"ospfd":  v2 + fmt.Sprintf("router ospf\n ospf router-id 10.255.255.%d\n timers throttle spf 0 50 200\n", id),
		"ospf6d": v3 + fmt.Sprintf("router ospf6\n ospf6 router-id 10.255.255.%d\n timers throttle spf 0 50 200\n", id),
	}
}

// Two servers in different subnets, each with two routers between them. Where
// the other server is, OSPF says; BGP's next hops are resolved with that, in
// both families, follow a reroute, and packets arrive before and after.
func TestFRR_NextHopsThroughOSPF(t *testing.T) {
	t.Parallel()
	c := newCluster(t, []cluster.Server{
		{Name: "n1", V4: netip.MustParsePrefix("172.31.0.1/32"), V6: netip.MustParsePrefix("fd31::1/128")},
		{Name: "n2", V4: netip.MustParsePrefix("172.31.0.2/32"), V6: netip.MustParsePrefix("fd31::2/128")},
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var routers []*lab.Namespace
	link := 0
	for _, name := range []string{"ra", "rb"} {
		r, err := c.Lab.Namespace(name)
		must(err)
		routers = append(routers, r)
		for _, s := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			must(r.SetSysctl(s, "1"))
		}
		for _, n := range c.Nodes {
			link++
			here, there := lab.End{NS: r, Name: n.Server.Name}, lab.End{NS: n.Namespace, Name: "to-" + name}
			must(lab.Veth(here, there))
			for i, e := range []lab.End{here, there} {
				must(e.NS.AddAddr(e.Name, netip.MustParsePrefix(fmt.Sprintf("10.%d.0.%d/24", link, i+1))))
				must(e.NS.AddAddr(e.Name, netip.MustParsePrefix(fmt.Sprintf("fd0%d::%d/64", link, i+1))))
			}
		}
	}
	for i, n := range c.Nodes {
		startFRR(t, n.Namespace, ospf(1+i, "eth0", map[string]int{"to-ra": 10, "to-rb": 20}))
	}
	ra := startFRR(t, routers[0], ospf(11, "", map[string]int{"n1": 10, "n2": 10}))
	startFRR(t, routers[1], ospf(12, "", map[string]int{"n1": 10, "n2": 10}))
	must(c.StartAll(t.Context()))

	w1, w2 := attach(t, c.Nodes[0], "w1"), attach(t, c.Nodes[1], "w2")
	apply(t, c, allowAll)
	// The routers take no part in BGP: they are told where the workloads are.
	tell := func(at int) {
		t.Helper()
		for i, w := range []*cluster.Workload{w1, w2} {
			for _, a := range w.Addrs {
				via := fmt.Sprintf("10.%d.0.2", 2*at+i+1)
				if a.Is6() {
					via = fmt.Sprintf("fd0%d::2", 2*at+i+1)
				}
				must(routers[at].AddRoute(netip.PrefixFrom(a, a.BitLen()), netip.MustParseAddr(via), ""))
			}
		}
	}
	tell(0)
	tell(1)
	through := func(router string) {
		t.Helper()
		for i, w := range []*cluster.Workload{w2, w1} {
			n, other := c.Nodes[i], c.Nodes[1-i].Server
			for _, a := range []netip.Addr{other.V4.Addr(), other.V6.Addr()} {
				eventually(t, 30*time.Second, func() error { return leadsThrough(n, a, "to-"+router) })
			}
			// From there on it is not OSPF that is waited for, nor a timer of BGP's.
			for _, a := range w.Addrs {
				eventually(t, 5*time.Second, func() error { return leadsThrough(n, a, "to-"+router) })
			}
		}
		for _, a := range w2.Addrs {
			eventually(t, 10*time.Second, func() error {
				if o := w1.Probe(t.Context(), lab.Probe{Proto: lab.ICMP, Dst: a}); o.Verdict != lab.Reached {
					return fmt.Errorf("ping %s through %s: %s, %v", a, router, o.Verdict, o.Err)
				}
				return nil
			})
		}
	}
	through("ra")
	// ra's links go: OSPF leads over rb. They come back, and so does the way.
	if out := ra.ask("show ip ospf neighbor"); !strings.Contains(out, "Full") {
		t.Errorf("neighbours of ra: %s", out)
	}
	for _, n := range c.Nodes {
		must(routers[0].LinkDown(n.Server.Name))
	}
	through("rb")
	for _, n := range c.Nodes {
		must(routers[0].LinkUp(n.Server.Name))
	}
	for i, n := range c.Nodes { // the kernel dropped the IPv6 addresses with the link
		must(routers[0].AddAddr(n.Server.Name, netip.MustParsePrefix(fmt.Sprintf("fd0%d::1/64", i+1))))
	}
	tell(0)
	through("ra")
}

// leadsThrough tells where the kernel of a server sends packets to an address.
func leadsThrough(n *cluster.Node, to netip.Addr, link string) error {
	nl, err := n.Handle()
	if err != nil {
		return err
	}
	rs, err := nl.RouteGet(to.AsSlice())
	if err != nil {
		return fmt.Errorf("%s to %s: %w", n.Server.Name, to, err)
	}
	index, err := n.LinkIndex(link)
	if err != nil {
		return err
	}
	if len(rs) != 1 || rs[0].LinkIndex != index {
		return fmt.Errorf("%s to %s: %v, want through %s", n.Server.Name, to, rs, link)
	}
	return nil
}
