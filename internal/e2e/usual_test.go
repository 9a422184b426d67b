// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// maxUsual is how many lines the usual server may take, configuration and
// resources together.
const maxUsual = 24

// The usual server, as the README shows it: two servers and the router of their
// rack come up from these files and nothing else, and packets flow.
func TestUsualServer(t *testing.T) {
	t.Parallel()
	needBird(t)
	config, err := filepath.Abs(examples + "/usual-server/etc/muslin.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folder := examples + "/usual-server"
	fabric := folder + "/fabric.yaml"
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, file := range []string{config, fabric} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(text), "\n")
		shown := "    " + strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "\n    ")
		if !strings.Contains(string(readme), shown) {
			t.Errorf("README.md does not show %s as it is", file)
		}
	}
	if lines > maxUsual {
		t.Errorf("%d lines, want at most %d", lines, maxUsual)
	}

	list := servers(2)
	for i := range list {
		list[i].Config = config
	}
	etcd := newDatastore(t)
	c := newCluster(t, list)
	offer(t, c.Fabric, c.Lab, "10.0.0.253/24", "10.0.0.253:2379", strings.TrimPrefix(etcd.url, "unix://"))
	exampleRun(t, c.Nodes[0], "apply", "--etcd", etcd.url, "-f", folder)
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	tor := startBirdAt(t, c, "10.0.0.254", "fd00::fe", `
protocol bgp n1 from server { local 10.0.0.254 as 64999; neighbor 10.0.0.1 as 64512;
	ipv4 { import all; export where source = RTS_STATIC; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address fd00::fe; }; }
protocol bgp n2 from server { local 10.0.0.254 as 64999; neighbor 10.0.0.2 as 64512;
	ipv4 { import all; export where source = RTS_STATIC; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address fd00::fe; }; }
`)
	a, b := machineOf(attach(t, c.Nodes[0], "a", open...)), machineOf(attach(t, c.Nodes[1], "b", open...))
	for _, m := range []*machine{a, b, tor.net} {
		serve(t, m, 80)
	}
	for i, m := range []*machine{a, b} {
		for six, pool := range map[bool]string{false: "10.65.0.0/16", true: "fd65::/48"} {
			if !netip.MustParsePrefix(pool).Contains(m.addr[six]) {
				t.Errorf("%s has %s, want an address of %s", m.Name(), m.addr[six], pool)
			}
		}
		other := []*machine{b, a}[i]
		routed(t, c.Nodes[i], other.addr[false], other.addr[true])
		for _, p := range []string{birdNet4, birdNet6} {
			wantVia(t, c.Nodes[i].Namespace, p, map[string]string{birdNet4: "10.0.0.254", birdNet6: "fd00::fe"}[p])
		}
		// Either server may be the way: the other has the block from it.
		for _, r := range routesOf(t, c.Nodes[i]) {
			if r.Kind == "blackhole" {
				eventually(t, 20*time.Second, func() error {
					if out := tor.ask("show", "route", r.Prefix, "primary"); !strings.Contains(out, "via ") {
						return fmt.Errorf("the router has no route to %s: %s", r.Prefix, out)
					}
					return nil
				})
			}
		}
	}
	judge(t, slices.Concat(
		a.asks("between the servers", b, lab.TCP, 80, true), b.asks("and back", a, lab.TCP, 80, true),
		a.asks("out of the rack", tor.net, lab.TCP, 80, true), tor.net.asks("into the rack", b, lab.TCP, 80, true)))
	for _, n := range c.Nodes {
		noProblems(t, n)
	}
}

// offer makes a host of the fabric on which a unix socket answers by TCP.
func offer(t *testing.T, f *lab.Fabric, l *lab.Lab, addr, listen, socket string) {
	t.Helper()
	h, err := l.Host(f, "etcd", netip.MustParsePrefix(addr))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := h.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			front, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer front.Close()
				back, err := net.Dial("unix", socket)
				if err != nil {
					return
				}
				defer back.Close()
				go func() { _, _ = io.Copy(back, front); back.Close() }()
				_, _ = io.Copy(front, back)
			}()
		}
	}()
}
