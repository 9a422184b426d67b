// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/store"
)

// datastore is a real etcd outside every daemon. It listens on a unix socket,
// which every network namespace reaches.
type datastore struct {
	t      *testing.T
	dir    string
	url    string
	server *store.Embedded
	*store.Client
}

func newDatastore(t *testing.T) *datastore {
	t.Helper()
	labtest.Require(t)
	dir, err := os.MkdirTemp("/tmp", "mu-etcd") // t.TempDir is too long a path for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	d := &datastore{t: t, dir: dir, url: "unix://" + filepath.Join(dir, "sock")}
	t.Cleanup(func() {
		if d.Client != nil {
			d.Client.Close()
		}
		d.stop()
		os.RemoveAll(dir)
	})
	d.start()
	if d.Client, err = store.Open(t.Context(), store.Config{Endpoints: []string{d.url}}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *datastore) start() {
	d.t.Helper()
	s, err := store.StartEmbedded(context.Background(), store.EmbeddedConfig{
		Dir: filepath.Join(d.dir, "data"), ListenClient: []string{d.url}, UnsafeNoFsync: true,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.server = s
}

// stop ends the server; its data stays for the next start.
func (d *datastore) stop() {
	if d.server != nil {
		d.server.Close()
		d.server = nil
	}
}

// put writes a value as another tool would, whatever it is.
func (d *datastore) put(key, value string) {
	d.t.Helper()
	if _, err := d.Put(d.t.Context(), key, []byte(value)); err != nil {
		d.t.Fatal(err)
	}
}

// object writes a resource as another tool would: the members of spec and of
// metadata are JSON, and nothing else is added.
func (d *datastore) object(kind, namespace, name, metadata, spec string) {
	d.t.Helper()
	meta := `"name":"` + name + `"`
	if namespace != "" {
		meta += `,"namespace":"` + namespace + `"`
	}
	if metadata != "" {
		meta += "," + metadata
	}
	d.put(v3.Key(kind, namespace, name), `{"kind":"`+kind+`","apiVersion":"projectcalico.org/v3","metadata":{`+meta+`},"spec":{`+spec+`}}`)
}

// tree reads a value as plain JSON.
func (d *datastore) tree(key string) map[string]any {
	d.t.Helper()
	kv, err := d.Get(d.t.Context(), key)
	if err != nil {
		d.t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(kv.Value, &m); err != nil {
		d.t.Fatalf("%s: %v: %s", key, err, kv.Value)
	}
	return m
}

// has tells whether a key exists.
func (d *datastore) has(key string) bool {
	d.t.Helper()
	_, err := d.Get(d.t.Context(), key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		d.t.Fatal(err)
	}
	return err == nil
}

// member walks down a tree of JSON objects.
func member(tree any, path ...string) any {
	for _, p := range path {
		m, ok := tree.(map[string]any)
		if !ok {
			return nil
		}
		tree = m[p]
	}
	return tree
}

// machine is a network namespace with an interface into a server that was made
// by hand, as a hypervisor or a container runtime would.
type machine struct {
	*lab.Namespace
	node *cluster.Node
	tap  string
	addr map[bool]netip.Addr // by whether it is IPv6
}

// plug makes a machine. The MAC is that of the machine's side; empty is the
// kernel's choice.
func plug(t *testing.T, c *cluster.Cluster, n *cluster.Node, name, tap, mac string, addrs ...string) *machine {
	t.Helper()
	ns, err := c.Lab.Workload(name)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{Namespace: ns, node: n, tap: tap, addr: map[bool]netip.Addr{}}
	inner := lab.End{NS: ns, Name: "eth0"}
	if mac != "" {
		if inner.MAC, err = net.ParseMAC(mac); err != nil {
			t.Fatal(err)
		}
	}
	if err := lab.Veth(lab.End{NS: n.Namespace, Name: tap}, inner); err != nil {
		t.Fatal(err)
	}
	for _, s := range addrs {
		a := netip.MustParseAddr(s)
		m.addr[a.Is6()] = a
		via, any := netip.MustParseAddr("169.254.1.1"), netip.MustParsePrefix("0.0.0.0/0")
		if a.Is6() {
			via, any = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee"), netip.MustParsePrefix("::/0")
		}
		if err := errors.Join(ns.AddAddr("eth0", netip.PrefixFrom(a, a.BitLen())), ns.AddRoute(any, via, "eth0")); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func machineOf(w *cluster.Workload) *machine {
	return &machine{Namespace: w.Namespace, node: w.Node, tap: w.Interface, addr: map[bool]netip.Addr{false: w.V4, true: w.V6}}
}

// serve starts echo servers in a namespace.
func serve(t *testing.T, ns interface {
	Serve(...uint16) (*lab.Server, error)
}, ports ...uint16) {
	t.Helper()
	if _, err := ns.Serve(ports...); err != nil {
		t.Fatal(err)
	}
}

// question is a probe and whether it must get through.
type question struct {
	from  *lab.Namespace
	src   netip.Addr // or the kernel's choice
	to    netip.Addr
	proto lab.Proto
	port  uint16
	pass  bool
	text  string
}

// from makes the questions of one case, for both families.
func (m *machine) asks(text string, to *machine, proto lab.Proto, port uint16, pass bool) []question {
	return m.asksAs(text, to, proto, port, pass, pass)
}

// asksAs is asks with an answer for each family.
func (m *machine) asksAs(text string, to *machine, proto lab.Proto, port uint16, pass4, pass6 bool) (list []question) {
	for _, six := range []bool{false, true} {
		if !m.addr[six].IsValid() || !to.addr[six].IsValid() {
			continue
		}
		pass := pass4
		if six {
			pass = pass6
		}
		list = append(list, question{from: m.Namespace, src: m.addr[six], to: to.addr[six], proto: proto, port: port, pass: pass, text: text})
	}
	return list
}

// judge asks all questions with real packets, at once.
func judge(t *testing.T, lists ...[]question) {
	t.Helper()
	type answer struct {
		question
		lab.Outcome
	}
	answers := make(chan answer)
	n := 0
	for _, list := range lists {
		for _, q := range list {
			n++
			go func() {
				p := lab.Probe{Proto: q.proto, Src: q.src, Dst: q.to, Port: q.port, Timeout: 600 * time.Millisecond}
				if q.pass {
					p.Timeout = 5 * time.Second
				}
				answers <- answer{q, q.from.Probe(context.Background(), p)}
			}()
		}
	}
	for range n {
		a := <-answers
		if got := a.Verdict == lab.Reached; got != a.pass || a.Verdict == lab.Failed {
			t.Errorf("%s: %s %d from %s to %s: %s (%v), want it to get through: %v", a.text, a.proto, a.port, a.from.Name(), a.to, a.Verdict, a.Err, a.pass)
		}
	}
}

// live waits until all daemons are live.
func live(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if err := c.AllLive(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
}

// routed waits until a server has routes to all addresses.
func routed(t *testing.T, n *cluster.Node, addrs ...netip.Addr) {
	t.Helper()
	if err := n.Routed(t.Context(), 20*time.Second, addrs...); err != nil {
		t.Fatal(err)
	}
}

// problem waits until the status of a server shows a problem whose line has
// all the words.
func problem(t *testing.T, n *cluster.Node, words ...string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		out, err := n.Muslin(t.Context(), "status")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "Problem ") && containsAll(line, words) {
				return nil
			}
		}
		return errors.New("no problem of status says " + strings.Join(words, ", ") + ":\n" + out)
	})
}

// noProblems waits until the status of a server shows none.
func noProblems(t *testing.T, n *cluster.Node) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		out, err := n.Muslin(t.Context(), "status")
		if err == nil && strings.Contains(out, "\nProblem ") {
			err = errors.New(out)
		}
		return err
	})
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

// routesOf are a server's routes as its daemon lists them.
func routesOf(t *testing.T, n *cluster.Node) (list []api.Route) {
	t.Helper()
	if err := n.API().Get(t.Context(), "/v1/routes", nil, &list); err != nil {
		t.Fatal(err)
	}
	return list
}
