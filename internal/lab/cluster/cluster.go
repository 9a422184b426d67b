// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package cluster runs the real daemon on the hosts of a lab: what the demo
// shows, the integration tests judge and the benchmarks measure is one and the
// same thing, a binary that was built from this tree, as a process of its own
// in each server's network namespace.
//
// The walk: New lays the fabric and makes the servers, Start runs `muslin run`
// on one of them, Attach and Apply do what a user would with the command line,
// and Close ends all of it, whatever state it is in.
package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muslin-net/muslin/internal/bfdd"
	"github.com/muslin-net/muslin/internal/keeper"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/node/api"
)

// Options describe a cluster.
type Options struct {
	Binary  string   // the muslin binary
	Prefix  string   // of the names of network namespaces; empty is a random one
	Dir     string   // where each server has its directories and log; short, for the socket's path
	Servers []Server // the first one runs the embedded etcd, unless Etcd is set
	Etcd    string   // URL of another datastore, reachable from every server
}

// Server is a compute server to be made.
type Server struct {
	Name   string
	V4, V6 netip.Prefix // of its uplink; either may be invalid
	Config string       // file of --config; it says what the datastore is
	Args   []string     // more arguments for `muslin run`
	Env    []string     // more environment for it
}

// Cluster is a set of servers on one Ethernet segment. Its methods may be used
// concurrently for different servers.
type Cluster struct {
	Lab    *lab.Lab
	Fabric *lab.Fabric
	Nodes  []*Node
	opts   Options
}

// Node is one server.
type Node struct {
	*lab.Host
	Server
	Dir     string // its run directory; the state directory is "state" below
	Daemon  string // program that Start runs in place of the cluster's binary, if not empty
	cluster *Cluster
	etcd    []string // arguments about the datastore
	proc    *lab.Process
	log     *os.File
}

// Workload is a namespace attached to a server.
type Workload struct {
	*lab.Namespace
	Name   string
	Node   *Node
	Addrs  []netip.Addr
	V4, V6 netip.Addr // the first of each family
	// Interface is the host's side.
	Interface string
}

// New makes the fabric and the servers, and starts no daemon.
func New(o Options) (*Cluster, error) {
	c := &Cluster{Lab: lab.New(o.Prefix), opts: o}
	var err error
	if c.Fabric, err = c.Lab.Fabric("fabric"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	for i, s := range o.Servers {
		if err := c.add(i, s); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func (c *Cluster) add(i int, s Server) error {
	var addrs []netip.Prefix
	for _, a := range []netip.Prefix{s.V4, s.V6} {
		if a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	h, err := c.Lab.Host(c.Fabric, s.Name, addrs...)
	if err != nil {
		return err
	}
	n := &Node{Host: h, Server: s, Dir: filepath.Join(c.opts.Dir, s.Name), cluster: c}
	c.Nodes = append(c.Nodes, n)
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return err
	}
	if n.log, err = os.OpenFile(n.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	first := c.Nodes[0].Server
	at := first.V4
	if !at.IsValid() {
		at = first.V6
	}
	url := "http://" + netip.AddrPortFrom(at.Addr(), 2379).String()
	switch {
	case s.Config != "":
		n.etcd = []string{"--config", s.Config}
	case c.opts.Etcd != "":
		n.etcd = []string{"--etcd", c.opts.Etcd}
	case i == 0:
		n.etcd = []string{"--embedded-etcd", "--etcd-listen", url + ",http://127.0.0.1:2379"}
	default:
		n.etcd = []string{"--etcd", url}
	}
	return nil
}

// Close ends every daemon, and the processes for BFD and the keepers of tables that they leave behind, and
// removes the servers, the workloads and the directories. It is idempotent.
func (c *Cluster) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, n := range c.Nodes {
		n.Kill()
		_, err := bfdd.End(ctx, n.Dir)
		_, kerr := keeper.End(n.Dir)
		errs = append(errs, err, kerr)
		if n.log != nil {
			n.log.Close()
		}
	}
	return errors.Join(append(errs, c.Lab.Close(), os.RemoveAll(c.opts.Dir))...)
}

// StartAll starts every daemon and waits until all are live.
func (c *Cluster) StartAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
		g.Go(func() error { return n.Live(ctx, 30*time.Second) })
	}
	return g.Wait()
}

// AllLive waits until every running daemon is live at the datastore's
// revision of the moment.
func (c *Cluster) AllLive(ctx context.Context, timeout time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		if n.Running() {
			g.Go(func() error { return n.Live(ctx, timeout) })
		}
	}
	return g.Wait()
}

// LogFile is where the daemon's output goes, of all its lives.
func (n *Node) LogFile() string { return filepath.Join(n.Dir, "log") }

// StateDir is the daemon's state directory.
func (n *Node) StateDir() string { return filepath.Join(n.Dir, "state") }

// API is a client of the daemon's local API.
func (n *Node) API() *api.Client { return api.NewClient(n.Dir) }

// Command is the daemon's command line, not started.
func (n *Node) Command(more ...string) *exec.Cmd {
	args := append([]string{"run", "--node", n.Server.Name, "--run-dir", n.Dir, "--state-dir", n.StateDir()}, n.etcd...)
	args = append(append(args, n.Args...), more...)
	cmd := exec.Command(cmp.Or(n.Daemon, n.cluster.opts.Binary), args...)
	cmd.Env = append(lab.CleanEnv(), n.Env...)
	return cmd
}

// Start starts the daemon. It does not wait for it.
func (n *Node) Start(more ...string) error {
	cmd := n.Command(more...)
	cmd.Stdout, cmd.Stderr = n.log, n.log
	p, err := n.Host.Start(cmd)
	if err != nil {
		return err
	}
	n.proc = p
	return nil
}

// Process is the daemon's, or nil before the first Start.
func (n *Node) Process() *lab.Process { return n.proc }

// Running tells whether the daemon runs.
func (n *Node) Running() bool {
	if n.proc == nil {
		return false
	}
	select {
	case <-n.proc.Done():
		return false
	default:
		return true
	}
}

// Kill ends the daemon as a crash would.
func (n *Node) Kill() {
	if n.proc != nil {
		n.proc.Kill()
	}
}

// Stop sends SIGTERM and waits for the end.
func (n *Node) Stop(grace time.Duration) error {
	if n.proc == nil {
		return nil
	}
	return n.proc.Stop(grace)
}

// Live waits until the daemon is live at the datastore's revision of now.
func (n *Node) Live(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := errors.New("not asked yet")
	for ctx.Err() == nil {
		end, _ := ctx.Deadline()
		s, err := n.API().Status(ctx, time.Until(end))
		switch {
		case err != nil:
			last = err
		case s.Live:
			return nil
		default:
			last = fmt.Errorf("not live: %s", strings.Join(s.Missing, "; "))
		}
		select {
		case <-n.proc.Done():
			return fmt.Errorf("%s: the daemon ended: %v", n.Server.Name, n.proc.Wait())
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("%s: %w", n.Server.Name, last)
}

// Log returns the end of what the daemon wrote.
func (n *Node) Log() string {
	b, _ := os.ReadFile(n.LogFile())
	if len(b) > 4000 {
		b = b[len(b)-4000:]
	}
	return string(b)
}

// Logs is the end of every daemon's log, for an error message.
func (c *Cluster) Logs() string {
	var b strings.Builder
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "\n--- end of the log of %s\n%s", n.Server.Name, n.Log())
	}
	return b.String()
}

// Muslin runs the command line of a user on this machine, whose question goes
// to the server's daemon.
func (n *Node) Muslin(ctx context.Context, args ...string) (string, error) {
	return n.MuslinIn(ctx, "", args...)
}

// MuslinIn is Muslin with standard input.
func (n *Node) MuslinIn(ctx context.Context, stdin string, args ...string) (string, error) {
	out, said, err := n.muslin(ctx, stdin, args...)
	return out + said, err
}

// muslin keeps what is said on standard error, such as warnings, apart.
func (n *Node) muslin(ctx context.Context, stdin string, args ...string) (out, said string, err error) {
	cmd := exec.CommandContext(ctx, n.cluster.opts.Binary, append(args, "--run-dir", n.Dir)...)
	var stdout, stderr strings.Builder
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = lab.CleanEnv(), strings.NewReader(stdin), &stdout, &stderr
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("muslin %s: %w: %s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), stderr.String(), err
}

// Apply applies documents through the first server's daemon.
func (c *Cluster) Apply(ctx context.Context, docs string) error {
	_, err := c.Nodes[0].MuslinIn(ctx, docs, "apply", "-f", "-")
	return err
}

// Attach makes a namespace and attaches it to the server as a workload. More
// arguments are those of `muslin endpoint attach`, such as --label.
func (n *Node) Attach(ctx context.Context, name string, more ...string) (*Workload, error) {
	ns, err := n.cluster.Lab.Workload(name)
	if err != nil {
		return nil, err
	}
	return n.AttachNamespace(ctx, ns, name, more...)
}

// AttachNamespace attaches a namespace that is there.
func (n *Node) AttachNamespace(ctx context.Context, ns *lab.Namespace, name string, more ...string) (*Workload, error) {
	args := append([]string{"endpoint", "attach", name, "--netns", ns.Path(), "-o", "json"}, more...)
	out, _, err := n.muslin(ctx, "", args...)
	if err != nil {
		return nil, err
	}
	var got api.Attached
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		return nil, fmt.Errorf("attach %s: %w: %s", name, err, out)
	}
	w := &Workload{Namespace: ns, Name: name, Node: n, Interface: got.Interface}
	for _, s := range got.Addresses {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("attach %s: address %q: %w", name, s, err)
		}
		w.Addrs = append(w.Addrs, a)
		if a.Is4() && !w.V4.IsValid() {
			w.V4 = a
		}
		if a.Is6() && !w.V6.IsValid() {
			w.V6 = a
		}
	}
	return w, nil
}

// Routed waits until the server's kernel has a route to every address.
func (n *Node) Routed(ctx context.Context, timeout time.Duration, addrs ...netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		var routes []api.Route
		if err := n.API().Get(ctx, "/v1/routes", nil, &routes); err != nil {
			return err
		}
		missing := unrouted(routes, addrs)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has no route to %v", n.Server.Name, missing)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func unrouted(routes []api.Route, addrs []netip.Addr) (missing []netip.Addr) {
	for _, a := range addrs {
		found := false
		for _, r := range routes {
			p, err := netip.ParsePrefix(r.Prefix)
			found = found || err == nil && p.Contains(a) && r.Kind != "blackhole" && r.State == "installed"
		}
		if !found {
			missing = append(missing, a)
		}
	}
	return missing
}
