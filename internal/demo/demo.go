// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package demo shows the system on one machine: three compute servers, each a
// network namespace with the real daemon in a process of its own, on an
// Ethernet fabric, with six workloads and the policies of policy.yaml.
//
// The walk: the lab makes the servers, `muslin run` starts on each, the first
// with the embedded etcd; workloads are attached through each daemon's local
// API and policies applied through its datastore, as a user would; then every
// pair is probed with real packets, and the outcome is compared with an
// expectation written by hand.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// Dir holds each server's run and state directories and its log.
const Dir = "/run/" + prefix

// ErrWrong is returned when a cell of the matrix is not what was expected.
var ErrWrong = errors.New("the matrix is not what was expected")

// Options says how to run the demo.
type Options struct {
	Binary string // the muslin binary to run on the servers
	Exit   bool   // tear down at once instead of staying up
	Out    io.Writer
}

// demo is a running one.
type demo struct {
	Options
	*cluster.Cluster
	workloads map[string]*cluster.Workload
	start     time.Time
}

// Run brings the demo up, prints the matrix and, unless Exit, waits for the
// context. It needs root. The error is ErrWrong if packets disagree with the
// expectation. Everything is torn down on return.
func Run(ctx context.Context, o Options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("the demo makes network namespaces: run it as root")
	}
	unlock, err := claim()
	if err != nil {
		return err
	}
	defer unlock()
	ctx, out, stop := listening(ctx, o.Out)
	defer stop()
	o.Out = out
	d := &demo{Options: o, workloads: map[string]*cluster.Workload{}, start: time.Now()}
	d.say("laying the fabric: three servers, one Ethernet segment")
	if d.Cluster, err = cluster.New(cluster.Options{Binary: o.Binary, Prefix: prefix, Dir: Dir, Servers: servers}); err != nil {
		return err
	}
	defer func() {
		d.say("tearing down")
		err = errors.Join(err, d.Close())
	}()
	for _, step := range []struct {
		text string
		do   func(context.Context) error
	}{
		{"starting muslin run on each server, etcd on compute-1", d.StartAll},
		{"attaching six workloads", d.attach},
		{"applying policies", func(ctx context.Context) error { return d.Apply(ctx, policies) }},
		{"waiting for every server to be live, and for routes to every workload", d.settle},
	} {
		d.say("%s", step.text)
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			return fmt.Errorf("%s: %w%s", step.text, err, d.Logs())
		}
	}
	d.say("probing every pair with real packets, IPv4 and IPv6")
	m, err := d.probe(ctx)
	if err != nil {
		return err
	}
	wrong := m.print(o.Out)
	if err := d.explore(ctx); err != nil {
		return fmt.Errorf("%w%s", err, d.Logs())
	}
	if wrong > 0 {
		err = fmt.Errorf("%w: %d cells", ErrWrong, wrong)
	}
	if !o.Exit && ctx.Err() == nil {
		fmt.Fprintf(o.Out, "\nThe fabric stays up until Ctrl-C.\n")
		<-ctx.Done()
	}
	return err
}

// claim makes sure that only one demo runs, and removes what a killed one left.
func claim() (unlock func(), err error) {
	if err := os.MkdirAll(Dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(Dir+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another demo is running on this machine: end it with Ctrl-C first")
	}
	left, _ := filepath.Glob("/run/netns/" + prefix + "-*")
	for _, p := range left {
		if err := lab.Remove(filepath.Base(p)); err != nil {
			return nil, fmt.Errorf("remove what an earlier demo left: %w", err)
		}
	}
	return func() { os.Remove(f.Name()); f.Close() }, nil
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.Out, "[%5.1fs] %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) attach(ctx context.Context) error {
	for _, w := range workloads {
		args := make([]string, 0, 4)
		for k, v := range w.labels {
			args = append(args, "--label", k+"="+v)
		}
		got, err := d.Nodes[w.server].Attach(ctx, w.name, args...)
		if err != nil {
			return err
		}
		if _, err := got.Serve(80, 8080, 5432); err != nil {
			return err
		}
		d.workloads[w.name] = got
		d.say("  %-8s on %s  %s  %s", w.name, got.Node.Server.Name, got.V4, got.V6)
	}
	return nil
}

// settle waits for policy to be live and for every server to have a route to
// the workloads of every other.
func (d *demo) settle(ctx context.Context) error {
	if err := d.AllLive(ctx, 20*time.Second); err != nil {
		return err
	}
	for _, n := range d.Nodes {
		for _, w := range d.workloads {
			if err := n.Routed(ctx, 20*time.Second, w.Addrs...); err != nil {
				return err
			}
		}
	}
	return nil
}

// ErrNotReached is returned when a probe did not get there and back.
var ErrNotReached = errors.New("not reached")

// Probe sends one probe per address family between two workloads of the
// running demo. The error is ErrNotReached if any did not get there and back.
func Probe(ctx context.Context, from, to, proto string, port uint16, out io.Writer) error {
	for _, name := range []string{from, to} {
		if err := known(name); err != nil {
			return err
		}
	}
	src, err := lab.OpenNamespace(prefix + "-" + from)
	if err != nil {
		return fmt.Errorf("workload %s: %w (is the demo running?)", from, err)
	}
	dst, err := lab.OpenNamespace(prefix + "-" + to)
	if err != nil {
		return fmt.Errorf("workload %s: %w (is the demo running?)", to, err)
	}
	p, lost := lab.Probe{Port: port}, false
	switch strings.ToLower(proto) {
	case "tcp":
		p.Proto = lab.TCP
	case "udp":
		p.Proto = lab.UDP
	case "icmp", "ping":
		p.Proto = lab.ICMP
	default:
		return fmt.Errorf("protocol %q: want tcp, udp or icmp", proto)
	}
	addrs, err := dst.Addrs("eth0")
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.Addr().IsLinkLocalUnicast() {
			continue
		}
		p.Dst = a.Addr()
		o := src.Probe(ctx, p)
		what := proto
		if port > 0 {
			what += fmt.Sprintf(" %d", port)
		}
		fmt.Fprintf(out, "%s → %s %s: %s", from, a.Addr(), what, verdict(o))
		lost = lost || !ok(o)
		if o.Verdict == lab.Reached {
			fmt.Fprintf(out, " in %v", o.RTT.Round(time.Microsecond))
		}
		fmt.Fprintln(out)
	}
	if lost {
		return fmt.Errorf("%s → %s: %w", from, to, ErrNotReached)
	}
	return nil
}

// known refuses what is no workload of the demo, and lists those that are.
func known(name string) error {
	var names []string
	for _, w := range workloads {
		if w.name == name {
			return nil
		}
		names = append(names, w.name)
	}
	return fmt.Errorf("workload %q: the demo has %s", name, strings.Join(names, ", "))
}

// explore prints five commands worth trying. With Exit it runs them, because a
// command that is printed must work.
func (d *demo) explore(ctx context.Context) error {
	first := d.Nodes[0]
	what := "Try, in another terminal:"
	if d.Exit {
		what = "Running what there is to try:"
	}
	fmt.Fprintf(d.Out, "\n%s\n", what)
	for _, args := range [][]string{
		{"status"},
		{"explain", "web-1", "db", "tcp", "5432"},
		{"get", "networkpolicies", "web", "-o", "yaml"},
		{"bgp", "routes"},
		{"demo", "probe", "web-1", "api", "tcp", "8080"},
	} {
		where := " --run-dir " + first.Dir
		if args[0] == "demo" {
			where = ""
		}
		fmt.Fprintf(d.Out, "  %s %s%s\n", d.shown(), strings.Join(args, " "), where)
		if d.Exit {
			if _, err := first.Muslin(ctx, args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// shown is the binary as the user may type it.
func (d *demo) shown() string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, d.Binary); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return d.Binary
}
