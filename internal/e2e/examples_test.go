// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

const examples = "../../examples"

// open is for workloads that no policy selects.
var open = []string{"--profile", "projectcalico-default-allow"}

// exampleTests says what each example must do on two servers, where it has
// been applied already.
var exampleTests = map[string]func(*testing.T, *cluster.Cluster){
	"policies/default-deny-namespace.yaml": func(t *testing.T, c *cluster.Cluster) {
		// The profile allows all, and only the namespace shop is closed to it.
		a, b := exampleWorkload(t, c, 0, "a", "shop", open...), exampleWorkload(t, c, 1, "b", "shop", open...)
		x, y := exampleWorkload(t, c, 0, "x", "other", open...), exampleWorkload(t, c, 1, "y", "other", open...)
		exampleReady(t, c, a, b, x, y)
		judge(t,
			a.asks("within the namespace", b, lab.TCP, 80, false),
			x.asks("into the namespace", a, lab.TCP, 80, false),
			b.asks("out of the namespace", x, lab.ICMP, 0, false),
			x.asks("elsewhere", y, lab.TCP, 80, true),
		)
	},
	"policies/three-tier-web.yaml": func(t *testing.T, c *cluster.Cluster) {
		web := exampleWorkload(t, c, 0, "web", "shop", "--label", "role=web")
		app := exampleWorkload(t, c, 1, "app", "shop", "--label", "role=app")
		db := exampleWorkload(t, c, 0, "db", "shop", "--label", "role=db")
		user := exampleWorkload(t, c, 1, "user", "outside", "--profile", "projectcalico-default-allow")
		exampleReady(t, c, web, app, db, user)
		judge(t,
			user.asks("to the front", web, lab.TCP, 443, true),
			user.asks("to another port", web, lab.TCP, 22, false),
			web.asks("to the application", app, lab.TCP, 8080, true),
			app.asks("to the database", db, lab.TCP, 5432, true),
			web.asks("past the application", db, lab.TCP, 5432, false),
			db.asks("back", app, lab.TCP, 8080, false),
			user.asks("from outside", db, lab.TCP, 5432, false),
		)
	},
	"tiers/tier-pass.yaml": func(t *testing.T, c *cluster.Cluster) {
		a, b := exampleWorkload(t, c, 0, "a", "shop"), exampleWorkload(t, c, 1, "b", "shop")
		q := exampleWorkload(t, c, 1, "q", "shop", "--label", "quarantine=yes")
		exampleReady(t, c, a, b, q)
		judge(t,
			a.asks("passed on and allowed", b, lab.TCP, 80, true),
			a.asks("telnet", b, lab.TCP, 23, false),
			a.asks("to the quarantined", q, lab.TCP, 80, false),
			q.asks("from the quarantined", b, lab.TCP, 80, false),
		)
	},
	"policies/block-list.yaml": func(t *testing.T, c *cluster.Cluster) {
		good, other := exampleWorkload(t, c, 0, "good", "street", open...), exampleWorkload(t, c, 1, "other", "street", open...)
		bad := exampleWorkload(t, c, 1, "bad", "street", append([]string{"--ip", "203.0.113.9", "--ip", "2001:db8:bad::9"}, open...)...)
		exampleReady(t, c, good, other, bad)
		judge(t,
			good.asks("not listed", other, lab.TCP, 80, true),
			good.asks("to a listed address", bad, lab.TCP, 80, false),
			bad.asks("from a listed address", good, lab.TCP, 80, false),
		)
	},
	"fabric/ip-pools.yaml": func(t *testing.T, c *cluster.Cluster) {
		exampleRun(t, c.Nodes[0], "delete", "ippool", "default-ipv4-ippool", "default-ipv6-ippool")
		a, b := exampleWorkload(t, c, 0, "a", "shop", open...), exampleWorkload(t, c, 1, "b", "shop", open...)
		for _, m := range []*machine{a, b} {
			for six, pool := range map[bool]string{false: "10.65.0.0/16", true: "fd65::/48"} {
				if !netip.MustParsePrefix(pool).Contains(m.addr[six]) {
					t.Errorf("%s has %s, want an address of %s", m.Name(), m.addr[six], pool)
				}
			}
		}
		hand := exampleWorkload(t, c, 0, "hand", "shop", append([]string{"--ip", "10.66.0.7"}, open...)...)
		exampleReady(t, c, a, b)
		judge(t,
			a.asks("between the pools' addresses", b, lab.TCP, 80, true),
			a.asks("on one server", hand, lab.TCP, 80, true),
			b.asks("to what is not announced", hand, lab.TCP, 80, false),
		)
	},
	"fabric/bgp-peer-tor.yaml": func(t *testing.T, c *cluster.Cluster) {
		exampleLabel(t, c.Nodes[0], "rack", "a")
		examplePeers(t, c.Nodes[0], "10.0.0.2 64512", "10.0.0.254 64999")
		examplePeers(t, c.Nodes[1], "10.0.0.1 64512")
	},
	"reflectors/no-mesh.yaml": func(t *testing.T, c *cluster.Cluster) {
		outside := []string{"10.0.0.251 64512", "10.0.0.252 64512"}
		examplePeers(t, c.Nodes[0], outside...)
		examplePeers(t, c.Nodes[1], outside...)
		exampleLabel(t, c.Nodes[1], "route-reflector", "true")
		examplePeers(t, c.Nodes[0], append([]string{"10.0.0.2 64512"}, outside...)...)
		examplePeers(t, c.Nodes[1], append([]string{"10.0.0.1 64512"}, outside...)...)
	},
	"fabric/felix-configuration.yaml": func(t *testing.T, c *cluster.Cluster) {
		exampleLabel(t, c.Nodes[1], "announce", "endpoints")
		a, b := exampleWorkload(t, c, 0, "guest", "shop", open...), exampleWorkload(t, c, 1, "single", "shop", open...)
		exampleReady(t, c, a, b)
		serve(t, c.Nodes[0].Namespace, 80)
		host := &machine{addr: map[bool]netip.Addr{false: c.Nodes[0].V4.Addr(), true: c.Nodes[0].V6.Addr()}}
		judge(t, a.asks("to its own server", host, lab.TCP, 80, true))
		eventually(t, 10*time.Second, func() error {
			out, err := c.Nodes[0].Muslin(t.Context(), "bgp", "routes", "--received")
			for _, addr := range b.addr {
				own := netip.PrefixFrom(addr, addr.BitLen()).String()
				if err == nil && !strings.Contains(out, own) {
					err = fmt.Errorf("%s is not received:\n%s", own, out)
				}
			}
			return err
		})
	},
}

// TestExamples applies every file of the examples, and every folder as a whole, to
// servers of its own.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(examples + "/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	readme, err := os.ReadFile(examples + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string][]string{}
	for _, file := range files {
		folder, name := filepath.Base(filepath.Dir(file)), filepath.Base(file)
		name = folder + "/" + name
		if !strings.Contains(string(readme), "("+name+")") {
			t.Errorf("examples/README.md does not tell of %s", name)
		}
		switch {
		case folder == "usual-server": // see TestUsualServer
		case exampleTests[name] == nil:
			t.Fatalf("no test says what %s must do: add one to exampleTests", name)
		default:
			folders[folder] = append(folders[folder], name)
		}
	}
	run := func(what string, names []string) {
		t.Run(what, func(t *testing.T) {
			c := startCluster(t, 2)
			exampleRun(t, c.Nodes[0], "apply", "-f", examples+"/"+what)
			live(t, c)
			for _, name := range names {
				exampleTests[name](t, c)
			}
			for _, n := range c.Nodes {
				noProblems(t, n)
			}
			exampleRun(t, c.Nodes[0], "delete", "-f", examples+"/"+what)
			live(t, c)
		})
	}
	for folder, names := range folders {
		run(folder, names)
		for _, name := range names {
			if len(names) > 1 {
				run(name, []string{name})
			}
		}
	}
}

// exampleRun runs a command that must succeed.
func exampleRun(t *testing.T, n *cluster.Node, args ...string) string {
	t.Helper()
	out, err := n.Muslin(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exampleWorkload attaches a workload that answers on the ports that examples
// speak of.
func exampleWorkload(t *testing.T, c *cluster.Cluster, node int, name, namespace string, more ...string) *machine {
	t.Helper()
	m := machineOf(attach(t, c.Nodes[node], name, append([]string{"-n", namespace}, more...)...))
	serve(t, m, 22, 23, 80, 443, 5432, 8080)
	return m
}

// exampleReady waits until every server is live and routes to every machine.
func exampleReady(t *testing.T, c *cluster.Cluster, list ...*machine) {
	t.Helper()
	live(t, c)
	for _, n := range c.Nodes {
		for _, m := range list {
			for _, a := range m.addr {
				if a.IsValid() {
					routed(t, n, a)
				}
			}
		}
	}
}

// exampleLabel does what the comments of examples say about labels of nodes.
func exampleLabel(t *testing.T, n *cluster.Node, key, value string) {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(exampleRun(t, n, "get", "node", n.Server.Name, "-o", "json")), &o); err != nil {
		t.Fatal(err)
	}
	o["metadata"].(map[string]any)["labels"] = map[string]string{key: value}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.MuslinIn(context.Background(), string(b), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// examplePeers waits until a server has sessions with just these, given as
// address and AS number.
func examplePeers(t *testing.T, n *cluster.Node, want ...string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		out, err := n.Muslin(t.Context(), "bgp", "peers")
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")[1:]
		for _, w := range want {
			found := false
			for _, l := range lines {
				found = found || strings.Contains(strings.Join(strings.Fields(l), " "), " "+w+" ")
			}
			if !found {
				return fmt.Errorf("%s: no session with %s:\n%s", n.Server.Name, w, out)
			}
		}
		if len(lines) != len(want) {
			return fmt.Errorf("%s has %d sessions, want %d:\n%s", n.Server.Name, len(lines), len(want), out)
		}
		return nil
	})
}
