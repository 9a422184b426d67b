// SPDX-License-Identifier: Apache-2.0

package e2e

import (
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
)

// birdIn starts BIRD inside a workload, with networks behind it, and returns
// what asks it.
func birdIn(t *testing.T, w *cluster.Workload, sessions string) (ask func(words ...string) string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mu-bird")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := `
log "bird.log" all;
router id ` + w.V4.String() + `;
protocol device { scan time 1; }
protocol kernel k4 { ipv4 { import all; export none; }; learn; }
protocol kernel k6 { ipv6 { import all; export none; }; learn; }
protocol static s4 { ipv4; route ` + birdNet4 + ` blackhole; }
protocol static s6 { ipv6; route ` + birdNet6 + ` blackhole; }
template bgp server { multihop; connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 9; }
` + sessions
	if err := os.WriteFile(filepath.Join(dir, "bird.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/bird", "-f", "-c", "bird.conf", "-s", "ctl", "-P", "pid")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, t.Output(), t.Output()
	if _, err := w.Namespace.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "bird.log"))
			t.Logf("BIRD's log:\n%s", text[max(0, len(text)-3000):])
		}
	})
	return func(words ...string) string {
		cmd := exec.Command("/usr/sbin/birdc", append([]string{"-s", "ctl"}, words...)...)
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
}

// A workload that is a router: it finds its server at the addresses that the
// BGPConfiguration names, gets the fabric's routes, and announces networks behind
// it. Packets reach them from another server and leave them, which no filter of
// sources stops; what it does not announce stays stopped. Without the label there
// is no session, and nothing is left of it.
func TestLocalWorkloadPeers(t *testing.T) {
	t.Parallel()
	needBird(t)
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	const host4, host6 = "192.0.2.254", "2001:db8:ffff::254"
	apply(t, c, allowAll+`---
kind: BGPConfiguration
metadata: {name: default}
spec: {localWorkloadPeeringIPV4: `+host4+`, localWorkloadPeeringIPV6: "`+host6+`"}
---
kind: BGPPeer
metadata: {name: routers}
spec: {nodeSelector: all(), localWorkloadSelector: role == "router", asNumber: 65020}
---
kind: Node
metadata: {name: n1, annotations: {muslin/may-announce: "`+birdNet4+`, `+birdNet6+`"}}
spec: {bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: "fd00::1/64"}}
`)
	r := attach(t, n1, "r", "--label", "role=router")
	w := machineOf(attach(t, n2, "w"))
	router := machineOf(r)
	ask := birdIn(t, r, `
protocol bgp b4 from server { local `+r.V4.String()+` as 65020; neighbor `+host4+` as 64512; ipv4 { import all; export where source = RTS_STATIC; }; }
protocol bgp b6 from server { local `+r.V6.String()+` as 65020; neighbor `+host6+` as 64512; ipv6 { import all; export where source = RTS_STATIC; }; }
`)
	behind := &machine{Namespace: r.Namespace, addr: map[bool]netip.Addr{false: netip.MustParseAddr(behind4), true: netip.MustParseAddr(behind6)}}
	for _, a := range behind.addr {
		if err := r.AddAddr("lo", netip.PrefixFrom(a, a.BitLen())); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, behind, 80)
	serve(t, w, 80)
	wantVia(t, n1.Namespace, birdNet4, r.V4.String())
	wantVia(t, n1.Namespace, birdNet6, r.V6.String())
	wantVia(t, n2.Namespace, birdNet4, "10.0.0.1")
	wantVia(t, n2.Namespace, birdNet6, "fd00::1")
	for _, p := range blocksOf(t, n2) {
		eventually(t, 20*time.Second, func() error {
			if out := ask("show", "route", p.String()); !strings.Contains(out, "AS64512") {
				return fmt.Errorf("the router has of %s: %s", p, out)
			}
			return nil
		})
	}
	judge(t, w.asks("to what is behind a workload", behind, lab.TCP, 80, true), behind.asks("from there", w, lab.TCP, 80, true),
		router.asks("the router itself", w, lab.TCP, 80, true))
	// An address that it does not announce is nobody's to send from.
	for _, a := range []string{"198.51.100.66", "2001:db8:66::66"} {
		if err := r.AddAddr("lo", netip.PrefixFrom(netip.MustParseAddr(a), netip.MustParseAddr(a).BitLen())); err != nil {
			t.Fatal(err)
		}
	}
	spoofed := &machine{Namespace: r.Namespace, addr: map[bool]netip.Addr{false: netip.MustParseAddr("198.51.100.66"), true: netip.MustParseAddr("2001:db8:66::66")}}
	judge(t, spoofed.asks("from an address that is not announced", w, lab.TCP, 80, false))
	if out, err := n1.Muslin(t.Context(), "bgp", "peers"); err != nil || strings.Count(out, " 65020 ") != 2 {
		t.Errorf("bgp peers: %v: %s", err, out)
	}
	noProblems(t, n1)

	// One that has no session may not even connect.
	other := machineOf(attach(t, n1, "other"))
	if out := other.Probe(t.Context(), lab.Probe{Dst: netip.MustParseAddr("10.0.0.1"), Port: 179, Timeout: time.Second}); out.Verdict == lab.Reached {
		t.Errorf("a workload that is no peer connects to port 179: %v", out)
	}

	// Without a BGPPeer all of it goes.
	if _, err := n1.Muslin(t.Context(), "delete", "bgppeer", "routers"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{birdNet4, birdNet6} {
		wantVia(t, n1.Namespace, p, "")
		wantVia(t, n2.Namespace, p, "")
	}
	eventually(t, 20*time.Second, func() error {
		addrs, err := n1.Addrs(r.Interface)
		for _, a := range addrs {
			if err == nil && (a.Addr().String() == host4 || a.Addr().String() == host6) {
				err = fmt.Errorf("%s still has %s", r.Interface, a)
			}
		}
		return err
	})
	live(t, c)
	judge(t, router.asks("it is a workload as others", w, lab.TCP, 80, true))
}
