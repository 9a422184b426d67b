// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// Interop with BIRD 2: what two ends of our own could get wrong together.

// space is a network namespace with both ends' addresses on its loopback
// interface.
type space struct{ fd netns.NsHandle }

func newSpace(t *testing.T, addrs ...string) *space {
	t.Helper()
	s := &space{}
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		errc <- func() error {
			var err error
			if s.fd, err = netns.New(); err != nil {
				return err
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			for _, a := range addrs {
				addr, err := netlink.ParseAddr(a)
				if err != nil {
					return err
				}
				addr.Flags = syscall.IFA_F_NODAD
				if err := netlink.AddrAdd(lo, addr); err != nil {
					return err
				}
			}
			if err := netlink.LinkSetUp(lo); err != nil {
				return err
			}
			return usable(addrs)
		}()
	}()
	if err := <-errc; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.fd.Close() })
	return s
}

// usable waits until the kernel has routes to addresses of this host, which it makes for IPv6 in its own time: a daemon that
// connects before may try again only minutes later.
func usable(addrs []string) (err error) {
	for _, a := range addrs {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, err = netlink.RouteGet(netip.MustParsePrefix(a).Addr().AsSlice()); err == nil {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
	}
	return nil
}

// inSpace runs fn on a thread inside the namespace.
func inSpace[T any](s *space, fn func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	ch := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(s.fd); err != nil {
			ch <- result{err: err}
			return
		}
		v, err := fn()
		ch <- result{v, err}
	}()
	r := <-ch
	return r.v, r.err
}

func (s *space) options() Options {
	return Options{Within: func(open func() error) error {
		_, err := inSpace(s, func() (any, error) { return nil, open() })
		return err
	}}
}

// bird is a running BIRD.
type bird struct {
	t    *testing.T
	sp   *space
	dir  string
	conf string
	cmd  *exec.Cmd
}

// newBird is a BIRD with a configuration, not started.
func newBird(t *testing.T, sp *space, conf string) *bird {
	t.Helper()
	dir, err := os.MkdirTemp("", "bird") // t.TempDir is too long a path for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &bird{t: t, sp: sp, dir: dir, conf: conf}
}

// needBird skips, or fails where everything must be there.
func needBird(t *testing.T) {
	t.Helper()
	labtest.Require(t)
	labtest.Programs(t, "bird2", "/usr/sbin/bird", "/usr/sbin/birdc")
}

func (b *bird) start(args ...string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, "bird.conf"), []byte(b.conf), 0o600); err != nil {
		b.t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(b.dir, "ctl"))
	args = append([]string{"-f", "-c", "bird.conf", "-s", "ctl", "-P", "pid"}, args...)
	cmd := exec.Command("/usr/sbin/bird", args...)
	cmd.Dir = b.dir
	cmd.Stdout, cmd.Stderr = b.t.Output(), b.t.Output()
	if _, err := inSpace(b.sp, func() (any, error) { return nil, cmd.Start() }); err != nil {
		b.t.Fatal(err)
	}
	b.cmd = cmd
	b.t.Cleanup(func() { b.kill() })
}

func (b *bird) kill() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

// ask runs a command of birdc.
func (b *bird) ask(words ...string) string {
	cmd := exec.Command("/usr/sbin/birdc", append([]string{"-s", "ctl"}, words...)...)
	cmd.Dir = b.dir
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func TestInterop_BIRD(t *testing.T) {
	needBird(t)
	for _, tr := range []struct{ name, ours, theirs string }{
		{"v4", "10.99.0.1", "10.99.0.2"},
		{"v6", "fd99::1", "fd99::2"},
	} {
		for _, as := range []struct {
			name string
			asn  uint32
		}{{"iBGP", 64512}, {"eBGP", 4200000001}} {
			t.Run(tr.name+"/"+as.name, func(t *testing.T) {
				t.Parallel()
				testBird(t, tr.ours, tr.theirs, as.asn)
			})
		}
	}
}

func testBird(t *testing.T, ours, theirs string, birdAS uint32) {
	sp := newSpace(t, "10.99.0.1/32", "10.99.0.2/32", "fd99::1/128", "fd99::2/128")
	b := newBird(t, sp, fmt.Sprintf(`
log "bird.log" all;
router id 10.99.0.2;
protocol device {}
protocol direct { ipv4; ipv6; }
protocol static s4 { ipv4; route 192.0.2.0/24 blackhole; route 198.51.100.0/24 blackhole; }
protocol static s6 { ipv6; route 2001:db8:1::/48 blackhole; }
protocol bgp muslin {
	local %s port 1790 as %d;
	neighbor %s port 1790 as 64512;
	multihop; strict bind on;
	hold time 9; keepalive time 3;
	connect delay time 1; connect retry time 1; error wait time 1, 2;
	graceful restart on;
	ipv4 { import all; export where source = RTS_STATIC; next hop address 10.99.0.2; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address fd99::2; };
}
`, theirs, birdAS, ours))
	b.start()
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(b.dir, "bird.log"))
			t.Logf("%s\n%s\n%s", b.ask("show", "protocols", "all", "muslin"), b.ask("show", "route", "all"), log)
		}
	})

	addr := netip.MustParseAddr(theirs)
	cfg := Config{
		ASN: 64512, RouterID: netip.MustParseAddr("10.99.0.1"),
		Listen:   []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(ours), 1790)},
		NextHop4: netip.MustParseAddr("10.99.0.1"), NextHop6: netip.MustParseAddr("fd99::1"),
		Peers: []PeerConfig{{Name: "bird", Addr: netip.AddrPortFrom(addr, 1790), LocalAddr: netip.MustParseAddr(ours), ASN: birdAS}},
	}
	n := startNode(t, cfg, sp.options())
	n.Originate([]Origination{
		{Prefix: netip.MustParsePrefix("10.1.0.0/26"), LocalPref: 2147482623},
		{Prefix: netip.MustParsePrefix("fd00:1::/122"), LocalPref: 2147482623},
	}, nil)
	n.OriginationsComplete()

	has := func(what ...string) func() bool {
		return func() bool {
			out := b.ask("show", "route", "all", "protocol", "muslin")
			for _, w := range what {
				if !strings.Contains(out, w) {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "BIRD has our routes", has("10.1.0.0/26", "fd00:1::/122", "BGP.next_hop: 10.99.0.1", "BGP.next_hop: fd99::1"))
	attr := "BGP.local_pref: 2147482623"
	if birdAS != 64512 {
		attr = "BGP.as_path: 64512"
	}
	if !has(attr)() {
		t.Errorf("BIRD lacks %q:\n%s", attr, b.ask("show", "route", "all"))
	}
	n.waitHops("192.0.2.0/24", "10.99.0.2")
	n.waitHops("198.51.100.0/24", "10.99.0.2")
	n.waitHops("2001:db8:1::/48", "fd99::2")
	eventually(t, "End-of-RIB from BIRD", func() bool { return len(n.peer(addr).EndOfRIB) == 2 })

	// Route refresh, both directions.
	b.ask("reload", "in", "muslin")
	b.ask("reload", "out", "muslin")

	// BIRD restarts: killed, and started in recovery with one route less.
	kept := always(n, "192.0.2.0/24")
	b.kill()
	eventually(t, "routes of BIRD are stale", func() bool { return n.peer(addr).Stale == 3 })
	b.conf = strings.Replace(b.conf, "route 198.51.100.0/24 blackhole;", "", 1)
	b.start("-R")
	n.waitHops("198.51.100.0/24", "")
	n.waitHops("2001:db8:1::/48", "fd99::2")
	if p := n.peer(addr); p.Stale != 0 || p.Accepted != 2 {
		t.Errorf("after the restart of BIRD: %+v", p)
	}
	if !kept() {
		t.Error("a route of BIRD was gone for a moment")
	}

	// We restart, and no longer announce the IPv6 route.
	eventually(t, "BIRD has our routes again", has("10.1.0.0/26", "fd00:1::/122"))
	n.stop()
	eventually(t, "BIRD sees the loss", func() bool { return !strings.Contains(b.ask("show", "protocols", "muslin"), "Established") })
	if !has("10.1.0.0/26", "fd00:1::/122")() {
		t.Errorf("BIRD dropped our routes on the loss of TCP:\n%s", b.ask("show", "protocols", "all", "muslin"))
	}
	opt := sp.options()
	opt.Restarting = true
	n = startNode(t, cfg, opt)
	n.originate("10.1.0.0/26")
	n.waitUp(addr)
	if !has("10.1.0.0/26", "fd00:1::/122")() {
		t.Error("BIRD dropped our routes before End-of-RIB")
	}
	n.OriginationsComplete()
	eventually(t, "BIRD sweeps what is gone", func() bool { return !has("fd00:1::/122")() })
	if !has("10.1.0.0/26")() {
		t.Error("BIRD lost the route that stayed")
	}

	// Removing the peer is not a restart: BIRD drops everything at once.
	cfg.Peers = nil
	if err := n.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "BIRD drops our routes on Cease", func() bool { return !has("10.1.0.0/26")() })
}
