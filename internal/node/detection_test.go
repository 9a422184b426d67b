// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bfd"
	"github.com/muslin-net/muslin/internal/bfdd"
)

// Which paths are watched, and how: the mesh by BGPConfiguration, peers by
// their own annotations, one hop or several by the subnets of both ends.
func TestWatch(t *testing.T) {
	const nodes = `
kind: Node
metadata: {name: a}
spec: {bgp: {ipv4Address: 10.0.0.1/24}}
---
kind: Node
metadata: {name: b}
spec: {bgp: {ipv4Address: 10.0.0.2/24}}
---
kind: Node
metadata: {name: far}
spec: {bgp: {ipv4Address: 10.0.1.3/24}}
---
kind: Node
metadata: {name: host}
spec: {bgp: {ipv4Address: 10.0.0.4/32}}
---
kind: Node
metadata: {name: six}
spec: {bgp: {ipv6Address: "fd00::6/64"}}
`
	mesh := func(more string) string {
		return nodes + "---\nkind: BGPConfiguration\nmetadata: {name: default, annotations: {muslin/bfd: Enabled" + more + "}}\nspec: {}\n"
	}
	peer := func(spec, annotations string) string {
		return nodes + "---\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {nodeToNodeMeshEnabled: false}\n" +
			"---\nkind: BGPPeer\nmetadata: {name: tor, annotations: {" + annotations + "}}\nspec: {" + spec + "}\n"
	}
	for _, c := range []struct {
		name, docs string
		want       []string
		problems   int
	}{
		{"by default nothing is watched", nodes, nil, 0},
		{"the mesh, over one hop where both subnets say so", mesh(""), []string{
			"b 10.0.0.1-10.0.0.2 one hop", "far 10.0.0.1-10.0.1.3 multihop", "host 10.0.0.1-10.0.0.4 multihop",
		}, 0},
		{"with its settings", mesh(", muslin/bfd-interval: 100ms, muslin/bfd-multiplier: '5', muslin/bfd-multihop: Disabled"), []string{
			"b 10.0.0.1-10.0.0.2 one hop 100ms ×5", "far 10.0.0.1-10.0.1.3 one hop 100ms ×5", "host 10.0.0.1-10.0.0.4 one hop 100ms ×5",
		}, 0},
		{"a setting that cannot be read takes all of it away", mesh(", muslin/bfd-interval: often"), nil, 3},
		{"one that is not of BFD does not", mesh(", muslin/origin-guard: perhaps"), []string{
			"b 10.0.0.1-10.0.0.2 one hop", "far 10.0.0.1-10.0.1.3 multihop", "host 10.0.0.1-10.0.0.4 multihop",
		}, 0},
		{"a peer on a link", peer("peerIP: 10.0.0.254, asNumber: 1", "muslin/bfd: Enabled"), []string{"tor 10.0.0.1-10.0.0.254 one hop"}, 0},
		{"a peer on another link of the host", peer("peerIP: 192.0.2.1, asNumber: 1", "muslin/bfd: Enabled"), []string{"tor 10.0.0.1-192.0.2.1 one hop"}, 0},
		{"a peer far away, with TTL security", peer("peerIP: 198.51.100.1, asNumber: 1, ttlSecurity: 3", "muslin/bfd: Enabled"), []string{"tor 10.0.0.1-198.51.100.1 multihop ttl 253"}, 0},
		{"a peer with a key", peer("peerIP: 10.0.0.254, asNumber: 1", "muslin/bfd: Enabled, muslin/bfd-auth: md5, muslin/bfd-auth-key-id: '4', muslin/bfd-auth-secret: x/y"), []string{"tor 10.0.0.1-10.0.0.254 one hop md5, key 4 x/y"}, 0},
		{"a peer without", peer("peerIP: 10.0.0.254, asNumber: 1", "muslin/bfd: Disabled"), nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input(t, "a", c.docs)
			in.onLink = func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }
			_, watch, problems := peering(in)
			var got []string
			for _, w := range watch {
				text := fmt.Sprintf("%s %s-%s one hop", w.Name, w.Local, w.Peer)
				if w.Multihop {
					text = strings.Replace(text, "one hop", "multihop", 1)
				}
				if w.Interval > 0 {
					text += fmt.Sprintf(" %v ×%d", w.Interval, w.Multiplier)
				}
				if w.MinTTL > 0 {
					text += fmt.Sprint(" ttl ", w.MinTTL)
				}
				if w.Auth.Type > 0 {
					text += fmt.Sprintf(" %v %s/%s", w.Auth, w.secret.Name, w.secret.Key)
				}
				got = append(got, text)
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			bfdProblems := slices.DeleteFunc(problems, func(p problem) bool { return !v3.IsBFDAnnotation(p.field) })
			if len(bfdProblems) != c.problems {
				t.Errorf("problems %v, want %d", bfdProblems, c.problems)
			}
		})
	}
}

// A path was lost when the count of a session that is known has grown: not when
// it is seen first, not when a process starts over, not when it only went down.
func TestLost(t *testing.T) {
	d := &detector{}
	see := func(discr uint32, failures uint64, state string) int {
		return len(d.lost(bfdd.Report{Sessions: []bfd.Status{{Discriminator: discr, Failures: failures, State: state}}}))
	}
	for i, c := range []struct {
		discr    uint32
		failures uint64
		state    string
		want     int
	}{
		{7, 3, "Up", 0}, {7, 3, "Down", 0}, {7, 3, "Up", 0}, {7, 4, "Down", 1}, {7, 4, "Down", 0},
		{7, 5, "Up", 1}, // down and up again between two reports
		{8, 9, "Up", 0}, // another session
		{8, 10, "Down", 1},
	} {
		if got := see(c.discr, c.failures, c.state); got != c.want {
			t.Errorf("step %d: %d lost, want %d", i, got, c.want)
		}
	}
	d.lost(bfdd.Report{})
	if see(8, 11, "Up") != 0 {
		t.Error("a failure from before the connection was lost is told again")
	}
}

// A secret is what only root can read; all else is named and refused.
func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, "s", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("good", "hunter2\n", 0o600)
	write("two-lines", "a\nb\n\n", 0o400)
	write("open", "hunter2", 0o640)
	write("empty", "\n", 0o600)
	write("long", strings.Repeat("x", maxSecret+1), 0o600)
	for _, c := range []struct{ name, key, want, bad string }{
		{"s", "good", "hunter2", ""},
		{"s", "two-lines", "a\nb\n", ""},
		{"s", "open", "", "chmod 600"},
		{"s", "empty", "", "is empty"},
		{"s", "long", "", "longer"},
		{"s", "missing", "", "no such file"},
		{"s", "..", "", "not names"},
		{"..", "x", "", "not names"},
		{"s/../..", "x", "", "not names"},
		{".", "s", "", "not names"},
	} {
		got, err := readSecret(dir, c.name, c.key)
		if got.Reveal() != c.want || (err != nil) != (c.bad != "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%s/%s: %q, %v; want %q, %q", c.name, c.key, got.Reveal(), err, c.want, c.bad)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

// The same set again is not handed over again; a changed key is.
func TestDetectorHandsOverOnce(t *testing.T) {
	d := &detector{client: bfdd.NewClient(bfdd.ClientOptions{})}
	one := []bfd.Config{{Name: "x", Key: bfd.Key{Peer: netip.MustParseAddr("10.0.0.2")}, Auth: bfd.Auth{Type: bfd.AuthSHA1, Key: []byte("a")}}}
	d.set(one, time.Minute)
	if d.set(slices.Clone(one), time.Minute); !slices.EqualFunc(d.want, one, bfd.Config.Equal) {
		t.Error("not what was set")
	}
	other := slices.Clone(one)
	other[0].Auth.Key = []byte("b")
	if d.set(other, time.Minute); !d.want[0].Equal(other[0]) {
		t.Error("another key was not taken")
	}
}
