// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/store"
)

var (
	storm       = flag.Duration("storm", 3*time.Second, "how long TestStorms has interfaces flap; it stops the daemon for half of that, and 6 s at most")
	stormKills  = flag.Int("storm.kills", 10, "how often TestStorms kills a daemon while endpoints come and go")
	stormCrowd  = flag.Int("storm.crowd", 200, "how many endpoints TestStorms has on a server")
	stormRoutes = flag.Int("storm.routes", 50_000, "how many routes somebody else writes while the daemon of TestStorms stands still")
)

// crowd is many endpoints of one server. Their interfaces all lead into one namespace, where what arrives is
// counted.
type crowd struct {
	*guardedServers
	n      *cluster.Node
	ds     *store.Client
	far    *lab.Namespace
	in     int // gets all frames there
	out    int // sends frames of a member on the same server
	from   unix.Sockaddr
	frames [][]byte     // a datagram to each
	there  map[int]bool // which of the endpoints are in the datastore
	addrs  map[netip.Addr]int
}

// raw opens a socket for frames in a namespace. Only one that is told a protocol gets any.
func raw(t *testing.T, ns *lab.Namespace, protocol uint16) (fd int) {
	t.Helper()
	err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(protocol<<8|protocol>>8))
		return errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func newCrowd(t *testing.T, g *guardedServers, n *cluster.Node, size int) *crowd {
	t.Helper()
	c := &crowd{guardedServers: g, n: n, ds: openDatastore(t, g.Cluster), there: map[int]bool{}, addrs: map[netip.Addr]int{}}
	var err error
	if c.far, err = g.Lab.Workload("crowd"); err != nil {
		t.Fatal(err)
	}
	for i := range size {
		for _, a := range c.addrsOf(i) {
			c.addrs[a] = i
		}
		if err := lab.Veth(lab.End{NS: n.Namespace, Name: c.link(i)}, lab.End{NS: c.far, Name: fmt.Sprint("w", i), MAC: c.mac(i)}); err != nil {
			t.Fatal(err)
		}
		c.write(t, i)
	}
	from := g.members[2]
	index, err := from.LinkIndex("eth0")
	if err != nil {
		t.Fatal(err)
	}
	mac, err := from.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for a := range c.addrs {
		src := from.V4
		if a.Is6() {
			src = from.V6
		}
		f, err := lab.Packet{SrcMAC: mac, DstMAC: gatewayMAC(), Src: src, Dst: a, Proto: lab.ProtoUDP, SrcPort: 9, DstPort: 9}.Frame()
		if err != nil {
			t.Fatal(err)
		}
		c.frames = append(c.frames, f)
	}
	c.in, c.out, c.from = raw(t, c.far, unix.ETH_P_ALL), raw(t, from.Namespace, 0), &unix.SockaddrLinklayer{Ifindex: index}
	return c
}

func (c *crowd) link(i int) string { return fmt.Sprint("calix", i) }

func (c *crowd) mac(i int) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}
}

func (c *crowd) addrsOf(i int) []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{10, 98, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, 0x98, 14: byte(i >> 8), 15: byte(i)})}
}

func (c *crowd) key(i int) (name, key string) {
	name = fmt.Sprintf("%s-crowd-x%d-eth0", c.n.Server.Name, i)
	return name, v3.Key("WorkloadEndpoint", "default", name)
}

// write has an endpoint be there.
func (c *crowd) write(t *testing.T, i int) {
	t.Helper()
	name, key := c.key(i)
	a := c.addrsOf(i)
	body := fmt.Sprintf(`{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":%q,"namespace":"default","labels":{"member":"yes","projectcalico.org/namespace":"default"}},`+
		`"spec":{"orchestrator":"crowd","workload":"x%d","node":%q,"endpoint":"eth0","interfaceName":%q,"mac":%q,"ipNetworks":["%s/32","%s/128"]}}`, name, i, c.n.Server.Name, c.link(i), c.mac(i), a[0], a[1])
	if _, err := c.ds.Put(t.Context(), key, []byte(body)); err != nil {
		t.Error(err)
	}
	c.there[i] = true
}

// remove has it be gone.
func (c *crowd) remove(t *testing.T, i int) {
	t.Helper()
	_, key := c.key(i)
	if err := c.ds.Delete(t.Context(), key, 0); err != nil {
		t.Error(err)
	}
	delete(c.there, i)
}

// exact waits until packets of a member reach each endpoint that is there, in both families, and none that is not.
func (c *crowd) exact(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	eventually(t, within, func() error {
		c.arrived() // before
		for _, f := range c.frames {
			if err := unix.Sendto(c.out, f, 0, c.from); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Millisecond)
		got := c.arrived()
		var wrong []netip.Addr
		for a, i := range c.addrs {
			if (got[a] > 0) != c.there[i] {
				wrong = append(wrong, a)
			}
		}
		if len(wrong) > 0 {
			return fmt.Errorf("%d of %d endpoints get packets and should not, or the other way round: %v", len(wrong), len(c.addrs), wrong[:min(4, len(wrong))])
		}
		return nil
	})
	return time.Since(start)
}

// arrived counts the packets that have come since it was last asked, by where they go.
func (c *crowd) arrived() map[netip.Addr]int {
	got := map[netip.Addr]int{}
	for b := make([]byte, 2048); ; {
		n, _, err := unix.Recvfrom(c.in, b, 0)
		if err != nil {
			return got
		}
		var a netip.Addr
		switch {
		case n >= 34 && b[12] == 8 && b[13] == 0 && b[23] == unix.IPPROTO_UDP:
			a = netip.AddrFrom4([4]byte(b[30:34]))
		case n >= 54 && b[12] == 0x86 && b[13] == 0xdd && b[20] == unix.IPPROTO_UDP:
			a = netip.AddrFrom16([16]byte(b[38:54]))
		default:
			continue
		}
		got[a]++
	}
}

// liveWithin waits for the daemon.
func (c *crowd) liveWithin(t *testing.T, limit time.Duration) {
	t.Helper()
	if err := c.n.Live(t.Context(), limit); err != nil {
		t.Error(err)
	}
}

// cpu is how much the daemon has taken of a processor so far.
func cpu(t *testing.T, n *cluster.Node) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.Process().Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	words := strings.Fields(rest)
	user, err1 := strconv.Atoi(words[11])
	system, err2 := strconv.Atoi(words[12])
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * (time.Second / 100)
}

// TestStorms: on a server with many endpoints the daemon is killed while they come and go, stands still while somebody
// writes more routes than its buffers hold, and sees its interfaces flap. Flows of others lose nothing by any of
// it, nothing forbidden arrives, and afterwards the kernel is as the datastore says.
func TestStorms(t *testing.T) {
	labtest.Programs(t, "iproute2", "/usr/sbin/ip")
	g := startGuarded(t, 2)
	exchanged(t, g.Cluster)
	n := g.Nodes[1]
	table := openNFT(t, n.Namespace)
	ours := func() []string {
		return slices.DeleteFunc(routesText(t, n.Namespace), func(r string) bool { return !strings.Contains(r, fmt.Sprint("protocol ", ownProtocol)) })
	}
	// A set of members has one of two names.
	named := regexp.MustCompile(`\b[0-9a-f]{32}([0-9a-f]{8}|[0-9a-f]{32})/`)
	ruleset := func() string { return named.ReplaceAllString(table.ruleset(t), "$1/") }
	want, wantRoutes := ruleset(), ours()
	c := newCrowd(t, g, n, *stormCrowd)
	c.liveWithin(t, 20*time.Second)
	c.exact(t, 20*time.Second)
	for _, s := range []struct {
		name string
		blow func(*testing.T, *crowd)
	}{{"P02_KilledInChurn", killedInChurn}, {"P04_N01_StandsStill", standsStill}, {"N04_Flapping", flapping}} {
		t.Run(s.name, func(t *testing.T) {
			allowed, forbidden := g.traffic(t, 100, 100)
			s.blow(t, c)
			allowed.lossless(t)
			forbidden.silent(t)
		})
	}
	for i := range maps.Clone(c.there) {
		c.remove(t, i)
	}
	c.liveWithin(t, 5*time.Second)
	eventually(t, 5*time.Second, func() error {
		if got := ruleset(); got != want {
			return fmt.Errorf("with all of them gone the ruleset is\n%s\nand was\n%s", got, want)
		}
		if got := ours(); !slices.Equal(got, wantRoutes) {
			return fmt.Errorf("with all of them gone there is\n%s", difference(wantRoutes, got))
		}
		return nil
	})
}

// killedInChurn has 50 endpoints a second come or go, and kills the daemon at random times.
func killedInChurn(t *testing.T, c *crowd) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	stop, done, changes := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(done)
		rng := rand.New(rand.NewPCG(seed, 2))
		for tick := time.NewTicker(time.Second / 50); ; changes++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if i := rng.IntN(*stormCrowd); c.there[i] {
				c.remove(t, i)
			} else {
				c.write(t, i)
			}
		}
	}()
	for i := range *stormKills {
		time.Sleep(time.Duration(rng.IntN(600)) * time.Millisecond)
		c.n.Kill()
		if err := c.n.Start(); err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 {
			c.liveWithin(t, 5*time.Second)
		}
	}
	close(stop)
	<-done
	c.liveWithin(t, 5*time.Second)
	took := c.exact(t, 5*time.Second)
	t.Logf("%d kills, %d changes; %d endpoints are there, exact after %v", *stormKills, changes, len(c.there), took.Round(time.Millisecond))
	exchanged(t, c.Cluster)
}

// standsStill stops the daemon with SIGSTOP. Meanwhile endpoints come and go, and somebody writes so many routes that the kernel
// cannot keep all notifications of it.
func standsStill(t *testing.T, c *crowd) {
	var batch strings.Builder
	for i := range *stormRoutes {
		fmt.Fprintf(&batch, "route add 172.%d.%d.%d/32 dev %s proto static\n", 20+i>>16, i>>8&255, i&255, c.n.Uplink)
	}
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	reads := tableReads(t, c.n)
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := c.n.Process().Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	began := time.Now()
	if err := program(t, c.n.Namespace, "ip", "-batch", file); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if c.there[i] {
			c.remove(t, i)
		} else {
			c.write(t, i)
		}
	}
	victim := slices.Sorted(maps.Keys(c.there))[len(c.there)-1]
	gone := func() {
		t.Helper()
		for _, a := range c.addrsOf(victim) {
			if err := c.n.DelRoute(host(a), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	gone()
	// Beyond the hold time of 9 s its neighbours take it for gone, with the server.
	time.Sleep(min(*storm/2, 6*time.Second) - time.Since(began))
	stood := time.Since(began)
	signal(syscall.SIGCONT)
	took := c.exact(t, 5*time.Second)
	c.liveWithin(t, 5*time.Second)
	again := tableReads(t, c.n) - reads // 0 if its buffers held all of it: TestN01_Overrun has smaller ones
	gone()                              // it still hears
	t.Logf("stood still for %v: exact %v after it, the table was read again %d times; what was taken away then is back after %v",
		stood.Round(time.Millisecond), took.Round(time.Millisecond), again, c.exact(t, 5*time.Second).Round(time.Millisecond))
	if err := program(t, c.n.Namespace, "ip", "route", "flush", "proto", "static", "root", "172.16.0.0/12"); err != nil {
		t.Fatal(err)
	}
	c.exact(t, 5*time.Second)
	exchanged(t, c.Cluster)
}

// flapping takes all interfaces down and up, ten times a second if the kernel is as fast.
func flapping(t *testing.T, c *crowd) {
	h, err := c.n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	var links []netlink.Link
	for i := range *stormCrowd {
		l, err := h.LinkByName(c.link(i))
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	before, start, rounds := cpu(t, c.n), time.Now(), 0
	for ; time.Since(start) < *storm; rounds++ {
		for _, l := range links {
			if err := errors.Join(h.LinkSetDown(l), h.LinkSetUp(l)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Until(start.Add(time.Duration(rounds+1) * time.Second / 10)))
	}
	lasted := time.Since(start)
	took := c.exact(t, 10*time.Second)
	spent := cpu(t, c.n) - before
	t.Logf("%d interfaces went down and up %d times in %v; exact %v later; the daemon took %v of a processor", len(links), rounds, lasted.Round(time.Millisecond),
		took.Round(time.Millisecond), spent)
	if took > 2*time.Second {
		t.Errorf("exact only %v after the last", took)
	}
	if spent > lasted+took {
		t.Errorf("the daemon took %v of a processor in %v", spent, lasted+took)
	}
	c.liveWithin(t, 5*time.Second)
}

// TestN07_IndexReused: an endpoint goes, and another comes whose interface has the number that its had. Not a packet passes as the
// one that has gone might have sent it, not in the middle of its flow either, and that flow is forgotten.
func TestN07_IndexReused(t *testing.T) {
	g := startGuarded(t, 2)
	n, peer := g.Nodes[0], g.members[2]
	ds := openDatastore(t, g.Cluster)
	old := []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")}
	own := []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("2001:db8::2")}
	nsOld, err1 := g.Lab.Workload("old")
	nsNew, err2 := g.Lab.Workload("new")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	apply(t, g.Cluster, endpointDoc("n1", "old", "caliold", old...))
	connect(t, n, "caliold", nsOld, old...)
	serve(t, peer, 7)
	packets := func(from *lab.Namespace, src []netip.Addr, text string) {
		t.Helper()
		for _, a := range src {
			dst := peer.V4
			if a.Is6() {
				dst = peer.V6
			}
			for range 20 {
				p := lab.Packet{DstMAC: gatewayMAC(), Src: a, Dst: dst, Proto: lab.ProtoUDP, SrcPort: 5000, DstPort: 7, Payload: []byte(text)}
				if link := map[*lab.Namespace]string{nsOld: "caliold", nsNew: "calinew"}[from]; link != "" { // whose MAC address is the kernel's choice
					mac, err := n.MAC(link)
					if err != nil {
						t.Fatal(err)
					}
					p.DstMAC = mac
				}
				if err := from.SendPacket("eth0", p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, a := range peer.Addrs {
		reaches(t, nsOld, a)
	}
	arrive, err := peer.Capture("eth0")
	if err != nil {
		t.Fatal(err)
	}
	defer arrive.Close()
	heard := func(text string) func(lab.Frame) bool {
		return func(f lab.Frame) bool { return f.Proto == lab.ProtoUDP && !f.Outgoing && string(f.Payload) == text }
	}
	packets(nsOld, old, "old") // a flow of each family
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := arrive.Next(ctx, heard("old"))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := flowsOf(t, n, old); n == 0 {
		t.Fatal("there is no flow that could be left")
	}

	index, err := n.LinkIndex("caliold")
	if err != nil {
		t.Fatal(err)
	}
	if err := ds.Delete(t.Context(), v3.Key("WorkloadEndpoint", "default", "n1-other-old-eth0"), 0); err != nil {
		t.Fatal(err)
	}
	if err := n.DeleteLink("caliold"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(nsNew.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = "calinew", index
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(f.Fd()))}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.LinkUp("calinew"), nsNew.LinkUp("eth0")); err != nil {
		t.Fatal(err)
	}
	packets(nsNew, slices.Concat(old, own), "forged") // before anybody knows of it
	apply(t, g.Cluster, strings.Replace(endpointDoc("n1", "new", "calinew", own...), `member: "yes"`, `member: "yes", mute: "yes"`, 1))
	live(t, g.Cluster)
	routed(t, n, own...)
	packets(nsNew, slices.Concat(old, own), "forged")
	// What is sent last shows that all had their chance.
	packets(g.members[0].Namespace, g.members[0].Addrs, "last")
	for last := 0; last < 2; {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		f, err := arrive.Next(ctx, func(f lab.Frame) bool { return heard("last")(f) || heard("forged")(f) })
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if string(f.Payload) == "forged" {
			t.Errorf("arrived: %s", f)
		} else {
			last++
		}
	}
	if n := flowsOf(t, n, old); n > 0 {
		t.Errorf("%d flows of the endpoint that is gone are left", n)
	}
}

// flowsOf counts the connections of some addresses that a server tracks.
func flowsOf(t *testing.T, n *cluster.Node, addrs []netip.Addr) (count int) {
	t.Helper()
	err := n.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer h.Close()
		for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			list, err := h.ConntrackTableList(netlink.ConntrackTable, family)
			if err != nil {
				return err
			}
			for _, f := range list {
				if slices.ContainsFunc(addrs, func(a netip.Addr) bool {
					return f.Forward.SrcIP.Equal(a.AsSlice()) || f.Forward.DstIP.Equal(a.AsSlice())
				}) {
					count++
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}
