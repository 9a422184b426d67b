// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// outside is a router of somebody else's, with a network of each family behind it.
type outside struct {
	host         *lab.Host
	dir          string // its files
	as           int
	addr4, addr6 string
	net4, net6   string
	frr          *frr
}

// run runs a program in the router's namespace and returns what it says.
func (o *outside) run(words ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := o.host.Start(cmd)
	if err == nil {
		err = p.Wait()
	}
	return out.String(), err
}

// start runs a daemon of the router's until the test ends.
func (o *outside) start(t *testing.T, words ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(o.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.dir, log, log
	if _, err := o.host.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(o.dir, "out"))
			t.Logf("%s: %s", words[0], text[max(0, len(text)-3000):])
		}
	})
}

func (o *outside) write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(o.dir, name)
	text = strings.NewReplacer("ASN", fmt.Sprint(o.as), "ADDR4", o.addr4, "ADDR6", o.addr6, "NET4", o.net4, "NET6", o.net6, "DIR", o.dir).Replace(text)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// throughServer is how packets leave a router whose BGP daemon does not write
// into the kernel: all of them to the server.
func (o *outside) throughServer(t *testing.T) {
	t.Helper()
	for dst, via := range map[string]string{"0.0.0.0/0": "10.0.0.1", "::/0": "fd00::1"} {
		if err := o.host.AddRoute(netip.MustParsePrefix(dst), netip.MustParseAddr(via), "eth0"); err != nil {
			t.Fatal(err)
		}
	}
}

// routers are the daemons that a server has as plain BGPPeers: how each is
// started, what it knows of a prefix, and how its own networks go.
var routers = []struct {
	name, pkg string
	programs  []string
	apart     bool // it has a session for each family
	start     func(*testing.T, *outside)
	route     func(*outside, string) string
	withdraw  func(*outside) error
}{
	{
		name: "FRR", pkg: "frr", programs: []string{"/usr/lib/frr/bgpd", "/usr/bin/vtysh"},
		start: func(t *testing.T, o *outside) {
			conf, err := os.ReadFile(o.write(t, "bgpd.conf", `route-map six permit 10
 set ipv6 next-hop global ADDR6
exit
router bgp ASN
 bgp router-id ADDR4
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.0.0.1 remote-as 64512
 neighbor 10.0.0.1 timers connect 1
 address-family ipv4 unicast
  network NET4
 exit-address-family
 address-family ipv6 unicast
  network NET6
  neighbor 10.0.0.1 activate
  neighbor 10.0.0.1 route-map six out
 exit-address-family
`))
			if err != nil {
				t.Fatal(err)
			}
			o.frr = startFRR(t, o.host.Namespace, map[string]string{"bgpd": string(conf)})
		},
		route: func(o *outside, p string) string {
			return o.frr.ask("show bgp " + map[bool]string{false: "ipv4", true: "ipv6"}[strings.Contains(p, ":")] + " unicast " + p)
		},
		withdraw: func(o *outside) error {
			o.frr.ask(fmt.Sprintf("configure terminal\nrouter bgp %d\naddress-family ipv4 unicast\nno network %s\nexit\naddress-family ipv6 unicast\nno network %s", o.as, o.net4, o.net6))
			return nil
		},
	},
	{
		name: "GoBGP", pkg: "gobgpd", programs: []string{"/usr/bin/gobgpd", "/usr/bin/gobgp"},
		start: func(t *testing.T, o *outside) {
			file := o.write(t, "gobgpd.conf", `[global.config]
as = ASN
router-id = "ADDR4"
[[neighbors]]
[neighbors.config]
neighbor-address = "10.0.0.1"
peer-as = 64512
[neighbors.timers.config]
connect-retry = 5
idle-hold-time-after-reset = 2
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
`)
			o.start(t, "/usr/bin/gobgpd", "-f", file, "--api-hosts", "127.0.0.1:50051", "--pprof-disable")
			for net, hop := range map[string]string{o.net4: o.addr4, o.net6: o.addr6} {
				eventually(t, 20*time.Second, func() error {
					out, err := o.run("/usr/bin/gobgp", "global", "rib", "add", net, "nexthop", hop, "-a", gobgpFamily(net))
					if err != nil {
						err = fmt.Errorf("%w: %s", err, out)
					}
					return err
				})
			}
			o.throughServer(t)
		},
		route: func(o *outside, p string) string {
			out, _ := o.run("/usr/bin/gobgp", "global", "rib", p, "-a", gobgpFamily(p))
			return out
		},
		withdraw: func(o *outside) error {
			for _, net := range []string{o.net4, o.net6} {
				if out, err := o.run("/usr/bin/gobgp", "global", "rib", "del", net, "-a", gobgpFamily(net)); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
			}
			return nil
		},
	},
	{
		name: "OpenBGPD", pkg: "openbgpd", apart: true, programs: []string{"/usr/sbin/bgpd", "/usr/sbin/bgpctl"},
		start: func(t *testing.T, o *outside) {
			file := o.write(t, "bgpd.conf", `AS ASN
router-id ADDR4
fib-update no
socket "DIR/ctl"
network NET4
network NET6
neighbor 10.0.0.1 {
 remote-as 64512
 announce IPv4 unicast
}
neighbor fd00::1 {
 remote-as 64512
 announce IPv4 none
 announce IPv6 unicast
}
allow from any
allow to any
`)
			// Its chroot is the home of its user, which only its unit makes.
			o.start(t, "/usr/bin/unshare", "-m", "sh", "-ec", "mount -t tmpfs none /run\nmkdir -p ~_openbgpd\nexec /usr/sbin/bgpd -d -v -f "+file)
			o.throughServer(t)
		},
		route: func(o *outside, p string) string {
			out, _ := o.run("/usr/sbin/bgpctl", "-s", o.dir+"/ctl", "show", "rib", "detail", p)
			return out
		},
		withdraw: func(o *outside) error {
			for _, net := range []string{o.net4, o.net6} {
				if out, err := o.run("/usr/sbin/bgpctl", "-s", o.dir+"/ctl", "network", "delete", net); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
			}
			return nil
		},
	},
}

func gobgpFamily(prefix string) string {
	if strings.Contains(prefix, ":") {
		return "ipv6"
	}
	return "ipv4"
}

// TestDaemons: one server with FRR, GoBGP and OpenBGPD as plain BGPPeers. Each
// gets the server's blocks with the community that a BGPFilter adds, and what the
// filter holds back does not come; the server gets the network behind each, and
// packets go both ways. What one withdraws goes from the kernel, and the others stay.
func TestDaemons(t *testing.T) {
	t.Parallel()
	labtest.Require(t)
	for _, r := range routers {
		labtest.Programs(t, r.pkg, r.programs...)
	}
	c := startCluster(t, 1)
	n := c.Nodes[0]
	docs := allowAll + `---
kind: BGPFilter
metadata: {name: outside}
spec:
  exportV4: [{cidr: 198.18.0.0/15, matchOperator: In, action: Reject}, {source: RemotePeers, action: Reject}, {action: Accept, operations: [{addCommunity: {value: "64512:77"}}]}]
  exportV6: [{cidr: "2001:db8:18::/48", matchOperator: In, action: Reject}, {source: RemotePeers, action: Reject}, {action: Accept, operations: [{addCommunity: {value: "64512:77"}}]}]
`
	var all []*outside
	var nets []*machine
	for i, r := range routers {
		o := &outside{
			as: 65011 + i, addr4: fmt.Sprint("10.0.0.", 11+i), addr6: fmt.Sprint("fd00::", 11+i),
			net4: []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"}[i], net6: fmt.Sprintf("2001:db8:%d::/48", i+1),
		}
		all = append(all, o)
		var err error
		if o.dir, err = os.MkdirTemp("/tmp", "mu-out"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(o.dir) })
		if o.host, err = c.Lab.Host(c.Fabric, strings.ToLower(r.name), netip.MustParsePrefix(o.addr4+"/24"), netip.MustParsePrefix(o.addr6+"/64")); err != nil {
			t.Fatal(err)
		}
		behind := &machine{Namespace: o.host.Namespace, addr: map[bool]netip.Addr{
			false: netip.MustParsePrefix(o.net4).Addr().Next(), true: netip.MustParsePrefix(o.net6).Addr().Next(),
		}}
		for _, a := range behind.addr {
			if err := o.host.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())); err != nil {
				t.Fatal(err)
			}
		}
		nets = append(nets, behind)
		serve(t, behind, 80)
		r.start(t, o)
		docs += fmt.Sprintf("---\nkind: BGPPeer\nmetadata: {name: %s}\nspec: {peerIP: %s, asNumber: %d, filters: [outside]}\n", strings.ToLower(r.name), o.addr4, o.as)
		if r.apart {
			docs += fmt.Sprintf("---\nkind: BGPPeer\nmetadata: {name: %s-ipv6}\nspec: {peerIP: \"%s\", asNumber: %d, filters: [outside]}\n", strings.ToLower(r.name), o.addr6, o.as)
		}
	}
	apply(t, c, docs)
	w := machineOf(attach(t, n, "w"))
	held := machineOf(attach(t, n, "held", "--ip", "198.18.0.1", "--ip", "2001:db8:18::1"))
	serve(t, w, 80)
	own := blocksOf(t, n)
	for i, r := range routers {
		t.Run(r.name, func(t *testing.T) {
			o := all[i]
			wantVia(t, n.Namespace, o.net4, o.addr4)
			wantVia(t, n.Namespace, o.net6, o.addr6)
			for _, p := range own {
				eventually(t, 20*time.Second, func() error {
					if out := r.route(o, p.String()); !strings.Contains(out, p.String()) || !strings.Contains(out, "64512:77") {
						return fmt.Errorf("%s has of %s: %s", r.name, p, out)
					}
					return nil
				})
			}
			judge(t, w.asks("out of the fabric", nets[i], lab.TCP, 80, true), nets[i].asks("into it", w, lab.TCP, 80, true))
			for _, a := range held.addr {
				if out := r.route(o, netip.PrefixFrom(a, a.BitLen()).String()); strings.Contains(out, "64512") {
					t.Errorf("%s has what the filter holds back: %s", r.name, out)
				}
			}
			if out, err := n.Muslin(t.Context(), "bgp", "peer", strings.ToLower(r.name)); err != nil || !strings.Contains(out, "Established") {
				t.Errorf("bgp peer: %v: %s", err, out)
			}
		})
	}
	for i, r := range routers {
		if err := r.withdraw(all[i]); err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		wantVia(t, n.Namespace, all[i].net4, "")
		wantVia(t, n.Namespace, all[i].net6, "")
		for _, o := range all[i+1:] {
			wantVia(t, n.Namespace, o.net4, o.addr4)
			wantVia(t, n.Namespace, o.net6, o.addr6)
		}
	}
	noProblems(t, n)
}
