// SPDX-License-Identifier: Apache-2.0

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
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/node/api"
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
	lab   *lab.Lab
	hosts []*lab.Host
	procs []*lab.Process
	ns    map[string]*lab.Namespace // of workloads
	addrs map[string][]netip.Addr
	start time.Time
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
	d := &demo{Options: o, lab: lab.New(prefix), ns: map[string]*lab.Namespace{}, addrs: map[string][]netip.Addr{}, start: time.Now()}
	defer func() {
		d.say("tearing down")
		for _, p := range d.procs {
			p.Kill()
		}
		err = errors.Join(err, d.lab.Close(), os.RemoveAll(Dir))
	}()
	for _, step := range []struct {
		text string
		do   func(context.Context) error
	}{
		{"laying the fabric: three servers, one Ethernet segment", d.buildFabric},
		{"starting muslin run on each server, etcd on compute-1", d.startDaemons},
		{"attaching six workloads", d.attach},
		{"applying policies", d.apply},
		{"waiting for every server to be live, and for routes to every workload", d.settle},
	} {
		d.say("%s", step.text)
		if err := step.do(ctx); err != nil {
			return d.withLogs(fmt.Errorf("%s: %w", step.text, err))
		}
	}
	d.say("probing every pair with real packets, IPv4 and IPv6")
	m, err := d.probe(ctx)
	if err != nil {
		return err
	}
	wrong := m.print(o.Out)
	if err := d.explore(ctx); err != nil {
		return d.withLogs(err)
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

func (d *demo) buildFabric(context.Context) error {
	f, err := d.lab.Fabric("fabric")
	if err != nil {
		return err
	}
	for _, s := range servers {
		h, err := d.lab.Host(f, s.name, s.v4, s.v6)
		if err != nil {
			return err
		}
		d.hosts = append(d.hosts, h)
	}
	return nil
}

// runDir is where a server's daemon answers.
func runDir(server string) string { return filepath.Join(Dir, server) }

func (d *demo) startDaemons(ctx context.Context) error {
	etcd := "http://" + servers[0].v4.Addr().String() + ":2379"
	for i, s := range servers {
		dir := runDir(s.name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		log, err := os.Create(filepath.Join(dir, "log"))
		if err != nil {
			return err
		}
		defer log.Close()
		args := []string{"run", "--node", s.name, "--run-dir", dir, "--state-dir", filepath.Join(dir, "state")}
		if i == 0 {
			args = append(args, "--embedded-etcd", "--etcd-listen", etcd+",http://127.0.0.1:2379")
		} else {
			args = append(args, "--etcd", etcd)
		}
		cmd := exec.Command(d.Binary, args...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Env = cleanEnv()
		p, err := d.hosts[i].Start(cmd)
		if err != nil {
			return err
		}
		d.procs = append(d.procs, p)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range servers {
		g.Go(func() error { return d.live(ctx, i, s.name, 30*time.Second) })
	}
	return g.Wait()
}

// cleanEnv keeps a user's own datastore settings away from the demo's daemons.
func cleanEnv() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ETCD_") && !strings.HasPrefix(kv, "FELIX_") && !strings.HasPrefix(kv, "NODENAME=") {
			env = append(env, kv)
		}
	}
	return env
}

// live waits until a server's daemon is live at the datastore's revision of now.
func (d *demo) live(ctx context.Context, i int, name string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c := api.NewClient(runDir(name))
	var last error
	for ctx.Err() == nil {
		s, err := c.Status(ctx, time.Until(deadline(ctx)))
		switch {
		case err != nil:
			last = err
		case s.Live:
			return nil
		default:
			last = fmt.Errorf("not live: %s", strings.Join(s.Missing, "; "))
		}
		select {
		case <-d.procs[i].Done():
			return fmt.Errorf("%s: the daemon ended: %v", name, d.procs[i].Wait())
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return fmt.Errorf("%s: %w", name, last)
}

func deadline(ctx context.Context) time.Time {
	t, _ := ctx.Deadline()
	return t
}

func (d *demo) attach(ctx context.Context) error {
	for _, w := range workloads {
		ns, err := d.lab.Workload(w.name)
		if err != nil {
			return err
		}
		d.ns[w.name] = ns
		host := servers[w.server].name
		var got api.Attached
		err = api.NewClient(runDir(host)).Post(ctx, "/v1/endpoints", api.Attach{Name: w.name, NetNS: ns.Path(), Labels: w.labels}, &got)
		if err != nil {
			return fmt.Errorf("%s on %s: %w", w.name, host, err)
		}
		for _, a := range got.Addresses {
			ip, err := netip.ParseAddr(strings.SplitN(a, "/", 2)[0])
			if err != nil {
				return fmt.Errorf("%s: address %q: %w", w.name, a, err)
			}
			d.addrs[w.name] = append(d.addrs[w.name], ip)
		}
		if _, err := ns.Serve(80, 8080, 5432); err != nil {
			return err
		}
		d.say("  %-8s on %s  %s", w.name, host, strings.Join(got.Addresses, "  "))
	}
	return nil
}

// apply does what `muslin apply -f policy.yaml` does, with the same binary.
func (d *demo) apply(ctx context.Context) error {
	file := filepath.Join(Dir, "policy.yaml")
	if err := os.WriteFile(file, policies, 0o600); err != nil {
		return err
	}
	out, err := d.muslin(ctx, "apply", "-f", file, "--run-dir", runDir(servers[0].name))
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// muslin runs the binary as a user of this machine would.
func (d *demo) muslin(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.Binary, args...)
	cmd.Env = cleanEnv()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// settle waits for policy to be live and for every server to have a route to
// the workloads of every other.
func (d *demo) settle(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range servers {
		g.Go(func() error {
			if err := d.live(ctx, i, s.name, 20*time.Second); err != nil {
				return err
			}
			return d.routed(ctx, s.name, 20*time.Second)
		})
	}
	return g.Wait()
}

func (d *demo) routed(ctx context.Context, server string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		var routes []api.Route
		if err := api.NewClient(runDir(server)).Get(ctx, "/v1/routes", nil, &routes); err != nil {
			return err
		}
		missing := d.unrouted(routes)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has no route to %s", server, strings.Join(missing, ", "))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *demo) unrouted(routes []api.Route) (missing []string) {
	for _, w := range workloads {
		for _, a := range d.addrs[w.name] {
			found := false
			for _, r := range routes {
				p, err := netip.ParsePrefix(r.Prefix)
				found = found || err == nil && p.Contains(a) && r.Kind != "blackhole" && r.State == "installed"
			}
			if !found {
				missing = append(missing, w.name+" "+a.String())
			}
		}
	}
	return missing
}

// withLogs adds the end of each server's log to an error: the daemons and
// their directories are gone when the user reads it.
func (d *demo) withLogs(err error) error {
	var b strings.Builder
	for _, s := range servers {
		log, _ := os.ReadFile(filepath.Join(runDir(s.name), "log"))
		if len(log) > 2000 {
			log = log[len(log)-2000:]
		}
		fmt.Fprintf(&b, "\n--- end of the log of %s\n%s", s.name, log)
	}
	return fmt.Errorf("%w%s", err, b.String())
}

// Probe sends one probe between two workloads of the running demo.
func Probe(ctx context.Context, from, to, proto string, port uint16, out io.Writer) error {
	src, err := lab.OpenNamespace(prefix + "-" + from)
	if err != nil {
		return fmt.Errorf("workload %s: %w (is the demo running?)", from, err)
	}
	dst, err := lab.OpenNamespace(prefix + "-" + to)
	if err != nil {
		return fmt.Errorf("workload %s: %w (is the demo running?)", to, err)
	}
	p := lab.Probe{Port: port}
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
		fmt.Fprintf(out, "%s → %s %s %d: %s", from, a.Addr(), proto, port, o.Verdict)
		if o.Verdict == lab.Reached {
			fmt.Fprintf(out, " in %v", o.RTT.Round(time.Microsecond))
		}
		fmt.Fprintln(out)
	}
	return nil
}

// explore prints five commands worth trying. With Exit it runs them, because a
// command that is printed must work.
func (d *demo) explore(ctx context.Context) error {
	first := runDir(servers[0].name)
	fmt.Fprintf(d.Out, "\nTry, in another terminal:\n")
	for _, args := range [][]string{
		{"status", "--run-dir", first},
		{"explain", "web-1", "db", "tcp", "5432", "--run-dir", first},
		{"get", "networkpolicies", "web", "-o", "yaml", "--run-dir", first},
		{"bgp", "routes", "--run-dir", first},
		{"demo", "probe", "web-1", "api", "tcp", "8080"},
	} {
		fmt.Fprintf(d.Out, "  %s %s\n", d.shown(), strings.Join(args, " "))
		if !d.Exit {
			continue
		}
		if out, err := d.muslin(ctx, args...); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
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
