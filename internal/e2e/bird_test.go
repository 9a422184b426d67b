// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// BIRD 2 as a plain BGPPeer: a router of somebody else's on the same segment.

// bird is a running BIRD in a namespace of its own. It has a network behind
// it: addresses on its loopback interface, static routes to which it announces.
type bird struct {
	t    *testing.T
	host *lab.Host
	dir  string
	net  *machine
}

const (
	bird4, bird6       = "10.0.0.9", "fd00::9"
	behind4, behind6   = "203.0.113.1", "2001:db8:1::1"
	birdNet4, birdNet6 = "203.0.113.0/24", "2001:db8:1::/48"
)

func needBird(t *testing.T) {
	t.Helper()
	labtest.Require(t)
	labtest.Programs(t, "bird2", "/usr/sbin/bird", "/usr/sbin/birdc")
}

// startBird starts BIRD with these sessions in its configuration.
func startBird(t *testing.T, c *cluster.Cluster, sessions string) *bird {
	t.Helper()
	return startBirdAt(t, c, bird4, bird6, sessions)
}

// startBirdAt is startBird with addresses of its own.
func startBirdAt(t *testing.T, c *cluster.Cluster, addr4, addr6, sessions string) *bird {
	t.Helper()
	h, err := c.Lab.Host(c.Fabric, "bird"+addr4[strings.LastIndexByte(addr4, '.'):], netip.MustParsePrefix(addr4+"/24"), netip.MustParsePrefix(addr6+"/64"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "mu-bird")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bird{t: t, host: h, dir: dir, net: &machine{Namespace: h.Namespace, addr: map[bool]netip.Addr{
		false: netip.MustParseAddr(behind4), true: netip.MustParseAddr(behind6),
	}}}
	for _, a := range b.net.addr {
		if err := h.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())); err != nil {
			t.Fatal(err)
		}
	}
	conf := `
log "bird.log" all;
router id ` + addr4 + `;
protocol device { scan time 1; }
protocol direct { ipv4; ipv6; interface "eth0"; }
protocol kernel k4 { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel k6 { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static s4 { ipv4; route ` + birdNet4 + ` blackhole; }
protocol static s6 { ipv6; route ` + birdNet6 + ` blackhole; }
template bgp server { connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 9; graceful restart on; }
` + sessions
	if err := os.WriteFile(filepath.Join(dir, "bird.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/bird", "-f", "-c", "bird.conf", "-s", "ctl", "-P", "pid")
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if _, err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "bird.log"))
			t.Logf("BIRD's log:\n%s", text[max(0, len(text)-3000):])
		}
	})
	return b
}

// ask runs a command of birdc.
func (b *bird) ask(words ...string) string {
	cmd := exec.Command("/usr/sbin/birdc", append([]string{"-s", "ctl"}, words...)...)
	cmd.Dir = b.dir
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// wantRoute polls until BIRD's best route to a prefix goes via an address; ""
// waits until it has none.
func (b *bird) wantRoute(prefix, via string) {
	b.t.Helper()
	eventually(b.t, 20*time.Second, func() error {
		out := b.ask("show", "route", prefix, "primary")
		switch {
		case via == "" && strings.Contains(out, "via "), via != "" && !strings.Contains(out, "via "+via+" on eth0"):
			return fmt.Errorf("BIRD's route to %s, wanted via %q: %s", prefix, via, out)
		}
		return nil
	})
}

func TestBIRD(t *testing.T) {
	for _, tc := range []struct {
		name     string
		as       int
		peers    []string
		sessions string
	}{
		{"eBGP, one session for both families", 65009, []string{bird4}, `
protocol bgp b46 from server { local ` + bird4 + ` as AS; neighbor 10.0.0.1 as 64512;
	ipv4 { import all; export where source = RTS_STATIC; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address ` + bird6 + `; }; }
`},
		{"iBGP, one session for both families", 64512, []string{bird4}, `
protocol bgp b46 from server { local ` + bird4 + ` as AS; neighbor 10.0.0.1 as 64512; direct;
	ipv4 { import all; export where source = RTS_STATIC; next hop self; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address ` + bird6 + `; }; }
`},
		{"eBGP, a session for each family", 4200000009, []string{bird4, bird6}, `
protocol bgp b4 from server { local ` + bird4 + ` as AS; neighbor 10.0.0.1 as 64512; ipv4 { import all; export where source = RTS_STATIC; }; }
protocol bgp b6 from server { local ` + bird6 + ` as AS; neighbor fd00::1 as 64512; ipv6 { import all; export where source = RTS_STATIC; }; }
`},
		{"iBGP, a session for each family", 64512, []string{bird4, bird6}, `
protocol bgp b4 from server { local ` + bird4 + ` as AS; neighbor 10.0.0.1 as 64512; direct; ipv4 { import all; export where source = RTS_STATIC; next hop self; }; }
protocol bgp b6 from server { local ` + bird6 + ` as AS; neighbor fd00::1 as 64512; direct; ipv6 { import all; export where source = RTS_STATIC; next hop self; }; }
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			needBird(t)
			testBird(t, tc.as, tc.peers, strings.ReplaceAll(tc.sessions, " as AS;", fmt.Sprintf(" as %d;", tc.as)))
		})
	}
}

func testBird(t *testing.T, as int, peers []string, sessions string) {
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	b := startBird(t, c, sessions)
	docs := allowAll
	for i, p := range peers {
		docs += fmt.Sprintf("---\nkind: BGPPeer\nmetadata: {name: bird-%d}\nspec: {node: n1, peerIP: \"%s\", asNumber: %d}\n", i, p, as)
	}
	apply(t, c, docs)
	w1, w2 := machineOf(attach(t, n1, "w1")), machineOf(attach(t, n2, "w2"))
	for _, m := range []*machine{w1, w2, b.net} {
		serve(t, m, 80)
	}
	blocks := map[*cluster.Node][]string{}
	for _, n := range c.Nodes {
		for _, r := range routesOf(t, n) {
			if r.Kind == "blackhole" {
				blocks[n] = append(blocks[n], r.Prefix)
			}
		}
		if len(blocks[n]) != 2 {
			t.Fatalf("%s: blocks %v, want one of each family", n.Server.Name, blocks[n])
		}
	}
	live(t, c)
	routed(t, n1, w2.addr[false], w2.addr[true])
	routed(t, n2, w1.addr[false], w1.addr[true])

	self := func(prefix string) string {
		if strings.Contains(prefix, ":") {
			return "fd00::1"
		}
		return "10.0.0.1"
	}
	for _, p := range blocks[n1] {
		b.wantRoute(p, self(p))
	}
	wantVia(t, n1.Namespace, birdNet4, bird4)
	wantVia(t, n1.Namespace, birdNet6, bird6)
	judge(t, w1.asks("to BIRD's network", b.net, lab.TCP, 80, true), b.net.asks("from BIRD's network", w1, lab.TCP, 80, true),
		w1.asks("ping", b.net, lab.ICMP, 0, true))

	ebgp := as != 64512
	if ebgp {
		// What one server learns from outside the others reach through it only if
		// its Node says that it may announce it. The other way round needs nothing.
		for _, p := range []string{birdNet4, birdNet6} {
			wantVia(t, n2.Namespace, p, "")
		}
		n, err := n1.Muslin(t.Context(), "get", "node", "n1", "-o", "yaml")
		if err != nil {
			t.Fatal(err)
		}
		apply(t, c, strings.Replace(n, "metadata:\n", "metadata:\n  annotations: {muslin/may-announce: \""+birdNet4+", "+birdNet6+"\"}\n", 1))
		for _, p := range blocks[n2] {
			b.wantRoute(p, self(p))
		}
		wantVia(t, n2.Namespace, birdNet4, "10.0.0.1")
		wantVia(t, n2.Namespace, birdNet6, "fd00::1")
		judge(t, w2.asks("through the other server", b.net, lab.TCP, 80, true), b.net.asks("through the other server", w2, lab.TCP, 80, true))
	} else {
		// Without route reflection a route stays with those who learned it.
		wantVia(t, n2.Namespace, birdNet4, "")
		for _, p := range blocks[n2] {
			b.wantRoute(p, "")
		}
	}

	// Withdrawals, one family at a time.
	b.ask("disable", "s4")
	wantVia(t, n1.Namespace, birdNet4, "")
	wantVia(t, n2.Namespace, birdNet4, "")
	wantVia(t, n1.Namespace, birdNet6, bird6)
	b.ask("enable", "s4")
	b.ask("disable", "s6")
	wantVia(t, n1.Namespace, birdNet4, bird4)
	wantVia(t, n1.Namespace, birdNet6, "")
	wantVia(t, n2.Namespace, birdNet6, "")
	b.ask("enable", "s6")
	wantVia(t, n1.Namespace, birdNet6, bird6)

	// An address outside every pool comes and goes on its own.
	apply(t, c, `
kind: WorkloadEndpoint
metadata: {name: n1-muslin-x-eth0, namespace: default}
spec: {node: n1, orchestrator: muslin, workload: x, endpoint: eth0, interfaceName: calix, ipNetworks: [198.51.100.7/32, "2001:db8:7::7/128"]}
`)
	x := plug(t, c, n1, "x", "calix", "", "198.51.100.7", "2001:db8:7::7")
	serve(t, x, 80)
	b.wantRoute("198.51.100.7/32", "10.0.0.1")
	b.wantRoute("2001:db8:7::7/128", "fd00::1")
	judge(t, b.net.asks("outside every pool", x, lab.TCP, 80, true))
	if _, err := n1.Muslin(t.Context(), "delete", "wep", "n1-muslin-x-eth0"); err != nil {
		t.Fatal(err)
	}
	b.wantRoute("198.51.100.7/32", "")
	b.wantRoute("2001:db8:7::7/128", "")

	// The session is somebody's to see, and goes with its object.
	out, err := n1.Muslin(t.Context(), "bgp", "peers")
	if err != nil || strings.Count(out, fmt.Sprint(" ", as, " ")) < len(peers) || strings.Count(out, "Established") != 1+len(peers) {
		t.Errorf("bgp peers: %v: %s", err, out)
	}
	for i := range peers {
		if _, err := n1.Muslin(t.Context(), "delete", "bgppeer", fmt.Sprintf("bird-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range blocks[n1] {
		b.wantRoute(p, "")
	}
	for _, n := range c.Nodes {
		wantVia(t, n.Namespace, birdNet4, "")
		wantVia(t, n.Namespace, birdNet6, "")
	}
	eventually(t, 5*time.Second, func() error {
		if out := w1.Probe(t.Context(), lab.Probe{Dst: b.net.addr[false], Port: 80, Timeout: 300 * time.Millisecond}); out.Verdict == lab.Reached {
			return errors.New("packets still reach BIRD's network")
		}
		return nil
	})
	routed(t, n1, w2.addr[false], w2.addr[true])
}
