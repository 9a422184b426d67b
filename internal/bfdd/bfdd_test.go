// SPDX-License-Identifier: Apache-2.0

package bfdd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/bfd"
	"github.com/muslin-net/muslin/internal/bfdd"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// The test binary is also the process, and an agent that does nothing but
// want sessions: agent RUN-DIR LOCAL PEER [multihop].
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		switch os.Args[1] {
		case "process":
			if err := bfdd.Run(ctx, bfdd.Config{RunDir: os.Args[2], Release: "test"}, log); err != nil {
				log.Error("process", "err", err)
				os.Exit(1)
			}
			os.Exit(0)
		case "agent":
			runAgent(ctx, log, os.Args[2], os.Args[3:])
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func runAgent(ctx context.Context, log *slog.Logger, dir string, args []string) {
	c := bfdd.NewClient(bfdd.ClientOptions{RunDir: dir, Log: log, Command: []string{"/proc/self/exe", "process", dir}})
	interval, _ := time.ParseDuration(os.Getenv("INTERVAL"))
	linger, err := time.ParseDuration(os.Getenv("LINGER"))
	if err != nil {
		linger = time.Minute
	}
	var sessions []bfd.Config
	for len(args) > 1 {
		s := bfd.Config{Name: args[1], Key: bfd.Key{Local: addr(args[0]), Peer: addr(args[1]), Multihop: os.Getenv("MULTIHOP") != ""}, Interval: interval}
		if key := os.Getenv("KEY"); key != "" {
			s.Auth = bfd.Auth{Type: bfd.AuthMeticulousSHA1, ID: 1, Key: []byte(key)}
		}
		sessions = append(sessions, s)
		args = args[2:]
	}
	c.Set(sessions, linger)
	_ = c.Run(ctx)
}

func addr(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{} // any
	}
	return a
}

// server is a host of the lab with an agent.
type server struct {
	t testing.TB
	*lab.Host
	dir   string
	env   []string
	peers []string // LOCAL, PEER, …
	proc  *lab.Process
}

func newServer(t testing.TB, h *lab.Host, env []string, peers ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mubfd")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, Host: h, dir: dir, env: env, peers: peers}
	t.Cleanup(func() {
		if s.proc != nil {
			s.proc.Kill()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := bfdd.End(ctx, dir); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return s
}

func (s *server) start() {
	s.t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"agent", s.dir}, s.peers...)...)
	cmd.Env = append(os.Environ(), s.env...)
	log, err := os.OpenFile(s.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if s.proc, err = s.Host.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) report() bfdd.Report {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, _ := bfdd.Ask(ctx, s.dir)
	return r
}

// want polls until every session is in a state, and returns the report.
func (s *server) want(state string) (r bfdd.Report) {
	s.t.Helper()
	labtest.Poll(s.t, 15*time.Second, func() error {
		r = s.report()
		if len(r.Sessions) != len(s.peers)/2 {
			return fmt.Errorf("%d sessions: %s", len(r.Sessions), s.log())
		}
		for _, st := range r.Sessions {
			if st.State != state {
				return fmt.Errorf("%s is %s (%s), problems %v, strays %v: %s", st.Peer, st.State, st.LastDiscard, r.Problems, r.Strays, s.log())
			}
		}
		return nil
	})
	return r
}

func (s *server) log() string {
	b, _ := os.ReadFile(s.dir + "/log")
	return string(b[max(0, len(b)-1500):])
}

const (
	a4, b4 = "10.0.0.1", "10.0.0.2"
	a6, b6 = "fd00::1", "fd00::2"
)

// two are two servers on a segment with a session in each family.
func two(t *testing.T, env ...string) (a, b *server) {
	l := labtest.New(t)
	f := labtest.Fabric(t, l, "seg")
	ha := labtest.Host(t, l, f, "a", a4+"/24", a6+"/64")
	hb := labtest.Host(t, l, f, "b", b4+"/24", b6+"/64")
	a = newServer(t, ha, env, a4, b4, a6, b6)
	b = newServer(t, hb, env, b4, a4, b6, a6)
	a.start()
	b.start()
	return a, b
}

func failures(r bfdd.Report) (n uint64) {
	for _, s := range r.Sessions {
		n += s.Failures
	}
	return n
}

// TestOutlivesTheAgent: agents are killed and stopped, and start again; the
// process stays the same one, and no session notices. Then a path dies, and
// both ends know within the detection time.
func TestOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	a, b := two(t, "INTERVAL=100ms")
	before, _ := a.want("Up"), b.want("Up")
	for range 3 {
		a.proc.Kill()
		heard := a.report().Sessions[0].PacketsIn
		labtest.Poll(t, 10*time.Second, func() error {
			switch r := a.report(); {
			case r.EndsAt.IsZero():
				return errors.New("the process does not know that its agent is gone")
			case r.Sessions[0].PacketsIn < heard+8: // for longer than the detection time
				return fmt.Errorf("%d packets were heard, then %d", heard, r.Sessions[0].PacketsIn)
			}
			return nil
		})
		a.start()
		labtest.Poll(t, 5*time.Second, func() error {
			if r := a.report(); !r.EndsAt.IsZero() || r.PID != before.PID {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
		if err := a.proc.Stop(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		a.start()
	}
	after := a.want("Up")
	if after.PID != before.PID || after.Sessions[0].Discriminator != before.Sessions[0].Discriminator || failures(after)+failures(b.want("Up")) != 0 {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if err := b.Port.Isolate(); err != nil {
		t.Fatal(err)
	}
	a.want("Down")
	b.want("Down")
	for _, s := range a.report().Sessions {
		if s.Diag != "control detection time expired" || s.Failures != 1 || !s.Independent {
			t.Errorf("%+v", s)
		}
	}
	if err := b.Port.Join(); err != nil {
		t.Fatal(err)
	}
	a.want("Up")
	b.want("Up")
}

// TestEndsByItself: without an agent the sessions are kept for the time that
// was given, and end as told to, not as failed.
func TestEndsByItself(t *testing.T) {
	t.Parallel()
	a, b := two(t, "LINGER=1s")
	pid := a.want("Up").PID
	b.want("Up")
	a.proc.Kill()
	r := b.want("Down")
	for _, s := range r.Sessions {
		if s.RemoteState != "AdminDown" || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	}
	labtest.Poll(t, 10*time.Second, func() error {
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) && !zombie(pid) {
			return fmt.Errorf("process %d: %v", pid, err)
		}
		return nil
	})
	// An agent that comes too late finds none, and starts one.
	a.start()
	if r := a.want("Up"); r.PID == pid {
		t.Error("a dead process reports")
	}
	b.want("Up")
}

// zombie tells whether a process has ended and was not reaped: the init of a
// test machine may be in no hurry.
func zombie(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Contains(string(b), ") Z ")
}

// TestEndedAndKilled: SIGTERM and End are told to the neighbours; a process
// that is killed is replaced by the agent.
func TestEndedAndKilled(t *testing.T) {
	t.Parallel()
	a, b := two(t)
	pid := a.want("Up").PID
	b.want("Up")
	for _, how := range []struct {
		name     string
		end      func(pid int) error
		failures uint64
	}{
		{"SIGTERM", func(pid int) error { return unix.Kill(pid, unix.SIGTERM) }, 0},
		{"End", func(int) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			was, err := bfdd.End(ctx, a.dir)
			if !was {
				return errors.New("there was none")
			}
			return err
		}, 0},
		{"SIGKILL", func(pid int) error { return unix.Kill(pid, unix.SIGKILL) }, 2},
	} {
		before := failures(b.report())
		if err := how.end(pid); err != nil {
			t.Fatalf("%s: %v", how.name, err)
		}
		var r bfdd.Report
		labtest.Poll(t, 20*time.Second, func() error {
			r = a.report()
			for _, s := range append(r.Sessions, b.report().Sessions...) {
				if s.State != "Up" {
					return fmt.Errorf("%s: %+v", how.name, s)
				}
			}
			if r.PID == pid || len(r.Sessions) != 2 {
				return fmt.Errorf("%s: %+v", how.name, r)
			}
			return nil
		})
		pid = r.PID
		if got := failures(b.report()) - before; got != how.failures {
			t.Errorf("%s: the neighbour counts %d failures, want %d", how.name, got, how.failures)
		}
	}
}

// TestRights: the process has none, and its sockets send and demand what the
// RFCs say.
func TestRights(t *testing.T) {
	t.Parallel()
	a, _ := two(t)
	r := a.want("Up")
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", r.PID))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads %v, %v", tasks, err)
	}
	inTime := 0
	for _, task := range tasks {
		status, err := os.ReadFile(task + "/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Uid:\t53784\t53784\t53784\t53784", "Gid:\t53784\t53784\t53784\t53784", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "Groups:\t \n"} {
			if !strings.Contains(string(status), want) {
				t.Errorf("%s: %q is not in\n%s", task, want, status)
			}
		}
		tid, _ := strconv.Atoi(filepath.Base(task))
		if a, err := unix.SchedGetAttr(tid, 0); err != nil {
			t.Error(err)
		} else if a.Policy == unix.SCHED_RR && a.Priority == 10 {
			inTime++
		}
	}
	if inTime != 1 || !strings.HasPrefix(r.Rights, "real-time; ") {
		t.Errorf("%d threads have real-time priority, want the loop's alone; rights: %s", inTime, r.Rights)
	}
	if sid, err := unix.Getsid(r.PID); err != nil || sid != r.PID {
		t.Errorf("session %d, %v: it is not in one of its own", sid, err)
	}
	info, err := os.Stat(a.dir + "/" + bfdd.SocketName)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// A second one is refused and names the first.
	out := exec.Command("/proc/self/exe", "process", a.dir)
	var text strings.Builder
	out.Stderr = &text
	p, err := a.Host.Start(out)
	if err != nil {
		t.Fatal(err)
	}
	if p.Wait() == nil || !strings.Contains(text.String(), fmt.Sprintf("pid %d", r.PID)) {
		t.Errorf("a second process: %s", text.String())
	}
}

// TestStartOnOneProcessor: when the process starts, its real-time thread waits for none of its others, which would
// wait for the processor that it has. There is only one here, and a start that takes it for the
// kernel's limit, nearly a second, costs as much.
func TestStartOnOneProcessor(t *testing.T) {
	labtest.Require(t)
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "process", dir)
	cmd.Stderr = t.Output()
	runtime.LockOSThread()
	err := unix.SchedSetaffinity(0, &one) // a child has its parent's
	if err == nil {
		err = cmd.Start()
	}
	if err := errors.Join(err, unix.SchedSetaffinity(0, &all)); err != nil {
		t.Fatal(err)
	}
	runtime.UnlockOSThread()
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	labtest.Poll(t, 10*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := bfdd.Ask(ctx, dir)
		return err
	})
	if took := cpu(t, cmd.Process.Pid); took > 400*time.Millisecond {
		t.Errorf("to start took %v of the processor", took)
	}
}

// TestKeys: with different keys there is no session, and a key that is
// changed while both run takes effect.
func TestKeys(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	f := labtest.Fabric(t, l, "seg")
	ha := labtest.Host(t, l, f, "a", a4+"/24", a6+"/64")
	hb := labtest.Host(t, l, f, "b", b4+"/24", b6+"/64")
	a := newServer(t, ha, []string{"KEY=right"}, a4, b4, a6, b6)
	b := newServer(t, hb, []string{"KEY=wrong"}, b4, a4, b6, a6)
	a.start()
	b.start()
	labtest.Poll(t, 10*time.Second, func() error {
		r := a.report()
		if len(r.Sessions) != 2 {
			return errors.New("not there yet")
		}
		for _, s := range r.Sessions {
			if s.State != "Down" {
				t.Fatalf("with another key: %+v", s)
			}
			if !strings.Contains(s.LastDiscard, "another key") {
				return fmt.Errorf("%+v", s)
			}
		}
		return nil
	})
	b.proc.Kill()
	b.env = []string{"KEY=right"}
	b.start()
	a.want("Up")
	b.want("Up")
}

// TestLinkLocalFollowsItsInterface: a session between link-local addresses has its
// interface in its name. The agent asks for another one when that was renamed, and for
// the same one when it was made anew; either comes up as soon as the neighbour is heard.
func TestLinkLocalFollowsItsInterface(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	na, nb := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	connect := func(name string) {
		t.Helper()
		check(lab.Veth(lab.End{NS: na, Name: name}, lab.End{NS: nb, Name: "eth0"}))
		check(na.AddAddr(name, netip.MustParsePrefix("fe80::a/64")))
		check(nb.AddAddr("eth0", netip.MustParsePrefix("fe80::b/64")))
	}
	connect("eth0")
	env := []string{"INTERVAL=100ms"}
	a := newServer(t, &lab.Host{Namespace: na}, env, "fe80::a%eth0", "fe80::b%eth0")
	b := newServer(t, &lab.Host{Namespace: nb}, env, "fe80::b%eth0", "fe80::a%eth0")
	a.start()
	b.start()
	before := a.want("Up")
	b.want("Up")

	check(na.RenameLink("eth0", "eth1"))
	check(na.LinkUp("eth1"))
	if addrs, err := na.Addrs("eth1"); err != nil || !slices.Contains(addrs, netip.MustParsePrefix("fe80::a/64")) {
		check(na.AddAddr("eth1", netip.MustParsePrefix("fe80::a/64")))
	}
	a.proc.Kill()
	a.peers = []string{"fe80::a%eth1", "fe80::b%eth1"}
	a.start()
	labtest.Poll(t, 10*time.Second, func() error {
		if r := a.report(); len(r.Sessions) != 1 || r.Sessions[0].Peer.Zone() != "eth1" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	a.want("Up")
	b.want("Up")

	check(na.DeleteLink("eth1"))
	a.want("Down")
	b.want("Down")
	connect("eth1")
	if after := a.want("Up"); after.PID != before.PID {
		t.Error("it is another process")
	}
	b.want("Up")
}
