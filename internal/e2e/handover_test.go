// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// TestHandOver: an endpoint is attached to another server with the addresses that it has, and works on both until it is
// detached from the first; its addresses are allocated all the time. Nobody else gets them that way, a move is called off
// as it was begun, and after a detach on both servers nothing is left.
func TestHandOver(t *testing.T) {
	g, ctx := startGuarded(t, 3), context.Background()
	to, err := g.Lab.Workload("machine-moved")
	if err != nil {
		t.Fatal(err)
	}
	n1, n2, peer := g.Nodes[0], g.Nodes[1], g.members[4]
	before := remains(t, g.Cluster)
	old := attach(t, n1, "machine", "--label", "member=yes")
	with := []string{"--label", "member=yes", "--ip", old.V4.String(), "--ip", old.V6.String()}
	fails := func(name, from, says string) {
		t.Helper()
		if _, err := n2.AttachNamespace(ctx, to, name, append(slices.Clone(with), "--from", from)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s from %s: %v, want %q", name, from, err, says)
		}
	}
	fails("other", n1.Server.Name, "belongs to endpoint default/machine of node "+n1.Server.Name)
	fails("machine", g.Nodes[2].Server.Name, "belongs to endpoint default/machine of node "+n1.Server.Name)
	fails("machine", n2.Server.Name, "that is this server")
	held := func(node string) {
		t.Helper()
		for _, n := range g.Nodes[:2] {
			want := 0
			if n.Server.Name == node {
				want = 2
			}
			if list := allocated(t, g.Cluster, n, "machine", "eth0"); len(list) != want {
				t.Errorf("machine of %s has %v, want %d of them", n.Server.Name, list, want)
			}
		}
	}
	held(n1.Server.Name)
	answers := func() { // whichever of the two
		t.Helper()
		for _, a := range old.Addrs {
			reaches(t, peer.Namespace, a)
		}
	}
	moved := append(slices.Clone(with), "--from", n1.Server.Name)
	for range 2 { // asked again, it changes nothing
		if _, err := n2.AttachNamespace(ctx, to, "machine", moved...); err != nil {
			t.Fatal(err)
		}
		held(n2.Server.Name)
	}
	answers()
	if _, err := n1.AttachNamespace(ctx, old.Namespace, "machine", append(slices.Clone(with), "--from", n2.Server.Name)...); err != nil {
		t.Fatalf("called off: %v", err)
	}
	held(n1.Server.Name)
	if _, err := n2.AttachNamespace(ctx, to, "machine", moved...); err != nil {
		t.Fatal(err)
	}
	if out, err := n1.Muslin(ctx, "endpoint", "detach", "machine"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	held(n2.Server.Name)
	answers()
	reaches(t, to, peer.V4)
	reaches(t, to, peer.V6)
	if out, err := n2.Muslin(ctx, "endpoint", "detach", "machine"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, 10*time.Second, func() error {
		if after := remains(t, g.Cluster); !slices.Equal(after, before) {
			return errors.New(difference(before, after))
		}
		return nil
	})
}

// allocated are the addresses that an endpoint of a server has in the datastore.
func allocated(t *testing.T, c *cluster.Cluster, n *cluster.Node, name, iface string) []netip.Addr {
	t.Helper()
	list, err := openDatastore(t, c).Allocator().IPsByHandle(context.Background(), "muslin.default."+n.Server.Name+"-muslin-"+name+"-"+iface)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
