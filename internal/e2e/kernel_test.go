// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	enc "encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/store"
)

// This page reads the kernel of a server without the help of the code that
// programs it, and does to it what a careless administrator would.

// ownProtocol is the protocol number of the routes, addresses and neighbours
// that the product writes.
const ownProtocol = 177

// nft is a lasting connection to the nftables of a namespace.
type nft struct {
	*nftables.Conn
	gen *mdnetlink.Conn
}

func openNFT(t *testing.T, ns *lab.Namespace) *nft {
	t.Helper()
	f, err := os.Open(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(f.Fd())), nftables.AsLasting())
	if err != nil {
		t.Fatal(err)
	}
	g, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, &mdnetlink.Config{NetNS: int(f.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.CloseLasting()
		g.Close()
	})
	return &nft{c, g}
}

// generation is the kernel's count of nftables commits in the namespace.
func (n *nft) generation(t *testing.T) uint32 {
	t.Helper()
	msgs, err := n.gen.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: mdnetlink.Request},
		Data:   make([]byte, 4),
	})
	if err != nil || len(msgs) != 1 || len(msgs[0].Data) < 4 {
		t.Fatalf("read nftables generation: %v %v", msgs, err)
	}
	d, err := mdnetlink.NewAttributeDecoder(msgs[0].Data[4:])
	if err != nil {
		t.Fatal(err)
	}
	d.ByteOrder = enc.BigEndian
	for d.Next() {
		if d.Type() == unix.NFTA_GEN_ID {
			return d.Uint32()
		}
	}
	t.Fatal("nftables generation: the answer has none")
	return 0
}

// flushRuleset is `nft flush ruleset`.
func (n *nft) flushRuleset() error {
	n.FlushRuleset()
	return n.Flush()
}

// deleteTable is `nft delete table inet muslin`.
func (n *nft) deleteTable() error {
	n.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "muslin"})
	return n.Flush()
}

// text describes everything in our tables that a packet can meet: chains with
// their hooks and the number of their rules, sets with all their elements. Names
// are left out where they may differ from one life of a daemon to the next.
func (n *nft) text() (string, error) {
	tables, err := n.ListTables()
	if err != nil {
		return "", err
	}
	var out []string
	for _, table := range tables {
		if table.Name != "muslin" {
			continue
		}
		chains, err := n.ListChainsOfTableFamily(table.Family)
		if err != nil {
			return "", err
		}
		for _, c := range chains {
			if c.Table.Name != table.Name {
				continue
			}
			rules, err := n.GetRules(table, c)
			if err != nil {
				return "", err
			}
			line := fmt.Sprintf("%s chain %s rules %d", table.Name, c.Name, len(rules))
			if c.Hooknum != nil {
				line += fmt.Sprintf(" hook %d priority %d policy %d", *c.Hooknum, *c.Priority, *c.Policy)
			}
			exprs := 0
			for _, r := range rules {
				exprs += len(r.Exprs)
			}
			out = append(out, line+fmt.Sprintf(" expressions %d", exprs))
		}
		sets, err := n.GetSets(table)
		if err != nil {
			return "", err
		}
		for _, s := range sets {
			if s.Name == "accepted" { // the epoch, which each commit begins anew
				continue
			}
			elements, err := n.GetSetElements(s)
			if err != nil {
				return "", err
			}
			name := s.Name
			if s.Anonymous {
				name = "anonymous"
			}
			if s.HasTimeout { // what packets write
				elements = nil
			}
			var keys []string
			for _, e := range elements {
				keys = append(keys, fmt.Sprintf("%x/%x", e.Key, e.KeyEnd))
			}
			slices.Sort(keys)
			out = append(out, fmt.Sprintf("%s set %s %v", table.Name, name, keys))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n"), nil
}

// textOf is text, if it is of one generation from its beginning to its end.
func (n *nft) textOf(t *testing.T, generation uint32) (string, bool) {
	t.Helper()
	text, err := n.text()
	return text, err == nil && n.generation(t) == generation
}

// ruleset is text for a test that cannot go on without it. A dump that another
// commit interrupted is read again.
func (n *nft) ruleset(t *testing.T) string {
	t.Helper()
	for range 20 {
		if text, ok := n.textOf(t, n.generation(t)); ok {
			return text
		}
	}
	t.Fatal("the ruleset never stood still")
	return ""
}

// atRest is the ruleset when nobody has changed it for half a second: a daemon that has just
// started may still have something to add.
func (n *nft) atRest(t *testing.T) string {
	t.Helper()
	last, since := n.generation(t), time.Now()
	for start := time.Now(); time.Since(since) < 500*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		if g := n.generation(t); g != last {
			last, since = g, time.Now()
		}
		if time.Since(start) > 20*time.Second {
			t.Fatal("the ruleset never came to rest")
		}
	}
	return n.ruleset(t)
}

// routes lists the routes of the main table, one line each, sorted.
func routes(ns *lab.Namespace) ([]netlink.Route, error) {
	h, err := ns.Handle()
	if err != nil {
		return nil, err
	}
	var out []netlink.Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

func routesText(t *testing.T, ns *lab.Namespace) []string {
	t.Helper()
	list, err := routes(ns)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range list {
		out = append(out, routeText(r))
	}
	slices.Sort(out)
	return out
}

func routeText(r netlink.Route) string {
	return fmt.Sprintf("%v type %d via %v %v dev %d metric %d protocol %d scope %d", r.Dst, r.Type, r.Gw, r.MultiPath, r.LinkIndex, r.Priority, r.Protocol, r.Scope)
}

// inKernel tells whether the kernel has a route of ours that contains an
// address and is no blackhole.
func inKernel(t *testing.T, ns *lab.Namespace, a netip.Addr) bool {
	t.Helper()
	_, ok := ourRoute(t, ns, func(r netlink.Route) bool {
		return r.Type == unix.RTN_UNICAST && r.Dst.Contains(a.AsSlice())
	})
	return ok
}

// ourRoute finds a route that the product wrote.
func ourRoute(t *testing.T, ns *lab.Namespace, match func(netlink.Route) bool) (netlink.Route, bool) {
	t.Helper()
	list, err := routes(ns)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Protocol == ownProtocol && r.Dst != nil && match(r) {
			return r, true
		}
	}
	return netlink.Route{}, false
}

// monitor records what the kernel of a namespace reports as changed.
type monitor struct {
	ns *lab.Namespace
	fd int
}

// Multicast groups of rtnetlink.
const (
	grpLink     = 1
	grpNeigh    = 3
	grpAddr4    = 5
	grpRoute4   = 7
	grpRule4    = 8
	grpAddr6    = 9
	grpRoute6   = 11
	grpRule6    = 19
	grpNetconf4 = 24
	grpNetconf6 = 25
	grpNexthop  = 32
)

// watchKernel records changes of routes, rules, next hops, addresses, links,
// fixed neighbours and forwarding settings from now on.
func watchKernel(t *testing.T, ns *lab.Namespace) *monitor {
	t.Helper()
	m := &monitor{ns: ns}
	err := ns.Do(func() (err error) {
		m.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
		if err := unix.Bind(m.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		for _, g := range []int{grpLink, grpNeigh, grpAddr4, grpRoute4, grpRule4, grpAddr6, grpRoute6, grpRule6, grpNetconf4, grpNetconf6, grpNexthop} {
			if err := unix.SetsockoptInt(m.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(m.fd) })
	return m
}

// changes returns what was reported since the last call.
func (m *monitor) changes(t *testing.T) (out []string) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(m.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: kernel monitor: %v", m.ns.Name(), err)
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			l := int(enc.NativeEndian.Uint32(b))
			if l < unix.NLMSG_HDRLEN || l > len(b) {
				break
			}
			if s := describe(enc.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:l]); s != "" {
				out = append(out, m.ns.Name()+": "+s)
			}
			b = b[min((l+3)&^3, len(b)):]
		}
	}
}

// describe renders a notification; "" means that it is about what the kernel
// learned by itself from traffic.
func describe(typ uint16, b []byte) string {
	names := map[uint16]string{
		unix.RTM_NEWLINK: "new link", unix.RTM_DELLINK: "deleted link", unix.RTM_NEWADDR: "new address", unix.RTM_DELADDR: "deleted address",
		unix.RTM_NEWROUTE: "new route", unix.RTM_DELROUTE: "deleted route", unix.RTM_NEWNEIGH: "new neighbour", unix.RTM_DELNEIGH: "deleted neighbour",
		unix.RTM_NEWRULE: "new rule", unix.RTM_DELRULE: "deleted rule", unix.RTM_NEWNEXTHOP: "new next hop", unix.RTM_DELNEXTHOP: "deleted next hop",
		unix.RTM_NEWNETCONF: "new setting",
	}
	head := map[uint16]int{unix.RTM_NEWROUTE: unix.SizeofRtMsg, unix.RTM_DELROUTE: unix.SizeofRtMsg, unix.RTM_NEWNEIGH: unix.SizeofNdMsg, unix.RTM_DELNEIGH: unix.SizeofNdMsg}
	if typ == unix.RTM_NEWNEIGH || typ == unix.RTM_DELNEIGH {
		if len(b) < unix.SizeofNdMsg {
			return ""
		}
		if enc.NativeEndian.Uint16(b[8:])&unix.NUD_PERMANENT == 0 {
			return ""
		}
	}
	s := names[typ]
	if s == "" {
		s = fmt.Sprint("message ", typ)
	}
	at := map[uint16]string{}
	if h := head[typ]; h > 0 && len(b) >= h {
		for a := b[h:]; len(a) >= unix.SizeofRtAttr; {
			l := int(enc.NativeEndian.Uint16(a))
			if l < unix.SizeofRtAttr || l > len(a) {
				break
			}
			at[enc.NativeEndian.Uint16(a[2:])] = fmt.Sprintf("%x", a[unix.SizeofRtAttr:l])
			a = a[min((l+3)&^3, len(a)):]
		}
		b = b[:h]
	}
	s += fmt.Sprintf(" %x", b[:min(len(b), 40)])
	for _, k := range slices.Sorted(maps.Keys(at)) {
		s += fmt.Sprintf(" %d=%s", k, at[k])
	}
	return s
}

// quiet fails the test if a monitor recorded anything.
func quiet(t *testing.T, when string, ms ...*monitor) {
	t.Helper()
	for _, m := range ms {
		if got := m.changes(t); len(got) > 0 {
			t.Errorf("%s: the kernel was changed:\n%s", when, strings.Join(got, "\n"))
		}
	}
}

// openDatastore opens the datastore on the first server beside all daemons.
func openDatastore(t *testing.T, c *cluster.Cluster) *store.Client {
	t.Helper()
	n := c.Nodes[0]
	client, err := store.Open(context.Background(), store.Config{
		Endpoints: []string{"http://127.0.0.1:2379"},
		Dial:      func(ctx context.Context, addr string) (net.Conn, error) { return n.Dial(ctx, "tcp", addr) },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// gatewayMAC is the MAC of the host side of every interface we make.
func gatewayMAC() net.HardwareAddr { return net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee} }
