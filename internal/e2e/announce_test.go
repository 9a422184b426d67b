// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"strings"
	"testing"
)

// An address outside every block is announced while packets can reach it: not
// while the interface of its endpoint is down.
func TestNode_AnnouncedWhileUp(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	x := attach(t, n1, "x", "--ip", "198.51.100.7", "--ip", "2001:db8:7::7")
	seen := func(via4, via6 string) {
		t.Helper()
		wantVia(t, n2.Namespace, "198.51.100.7/32", via4)
		wantVia(t, n2.Namespace, "2001:db8:7::7/128", via6)
	}
	seen("10.0.0.1", "fd00::1")
	if err := n1.LinkDown(x.Interface); err != nil {
		t.Fatal(err)
	}
	seen("", "")
	if out, _ := statusOf(t, n1); !strings.Contains(out, x.Interface) {
		t.Errorf("status says nothing of %s, which is down:\n%s", x.Interface, out)
	}
	if err := n1.LinkUp(x.Interface); err != nil {
		t.Fatal(err)
	}
	seen("10.0.0.1", "fd00::1")
}

// An address of the server itself is announced when its Node says so, and while
// the server has it; the origin guard knows whose it is.
func TestNode_AnnouncesItself(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	seen := func(via4, via6 string) {
		t.Helper()
		wantVia(t, n2.Namespace, "172.31.0.8/32", via4)
		wantVia(t, n2.Namespace, "fd31::8/128", via6)
	}
	own := []netip.Prefix{netip.MustParsePrefix("172.31.0.8/32"), netip.MustParsePrefix("fd31::8/128")}
	for _, p := range own {
		if err := n1.AddAddr("lo", p); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, c, "kind: Node\nmetadata: {name: n1, annotations: {muslin/announce: \"172.31.0.8, fd31::8\"}}\nspec: {bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: \"fd00::1/64\"}}\n")
	seen("10.0.0.1", "fd00::1")
	for _, p := range own {
		if err := n1.DelAddr("lo", p); err != nil {
			t.Fatal(err)
		}
	}
	seen("", "")
	for _, p := range own {
		if err := n1.AddAddr("lo", p); err != nil {
			t.Fatal(err)
		}
	}
	seen("10.0.0.1", "fd00::1")
}
