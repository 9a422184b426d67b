// SPDX-License-Identifier: Apache-2.0

package bfdd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/muslin-net/muslin/internal/bfd"
)

// ClientOptions are what a Client is built from.
type ClientOptions struct {
	RunDir string
	Log    *slog.Logger
	// Command is the command line of the process, which calls Run. It
	// gets our standard error for its log.
	Command []string
	// Changed is called with each report, and with the zero Report when the
	// connection is lost. It must not wait.
	Changed func(Report)
}

// Client is the agent's side: it sees to it that a process with the wanted
// sessions runs. Its methods may be called from any goroutine.
type Client struct {
	opt ClientOptions

	mu      sync.Mutex
	want    want
	handed  bool // Set was called
	report  Report
	problem error
	kick    chan struct{} // the wanted set changed
}

// NewClient returns a Client that does nothing before Run.
func NewClient(opt ClientOptions) *Client {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Changed == nil {
		opt.Changed = func(Report) {}
	}
	return &Client{opt: opt, kick: make(chan struct{}, 1)}
}

// Set replaces the sessions that are wanted, and how long they are to be kept
// when this process ends. Until the first call a process that is there is left as it is.
func (c *Client) Set(sessions []bfd.Config, linger time.Duration) {
	w := want{Version: Version, Linger: linger, Sessions: make([]session, len(sessions))}
	for i, s := range sessions {
		w.Sessions[i] = sessionOf(s)
	}
	c.mu.Lock()
	c.want, c.handed = w, true
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Report returns the last report; it is empty while no process is connected.
func (c *Client) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.report
}

// Problem tells why there is no process although there should be, or nil.
func (c *Client) Problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problem
}

func (c *Client) wanted() (w want, handed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.want, c.handed
}

// Run keeps the process and its sessions until ctx ends, and leaves both
// behind. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	const retry = 500 * time.Millisecond
	for ctx.Err() == nil {
		err := c.attend(ctx)
		if ctx.Err() != nil {
			return nil
		}
		c.mu.Lock()
		c.report = Report{}
		told := c.problem != nil && err != nil && c.problem.Error() == err.Error()
		c.problem = err
		c.mu.Unlock()
		if err != nil && !told {
			c.opt.Log.Error("BFD does not run; trying again", "err", err)
		}
		c.opt.Changed(Report{})
		select {
		case <-time.After(retry):
		case <-c.kick:
		case <-ctx.Done():
		}
	}
	return nil
}

// attend is one connection, from finding or starting the process until it is
// lost. It returns nil if there was nothing to do.
func (c *Client) attend(ctx context.Context) error {
	conn, err := dial(ctx, c.opt.RunDir)
	if err != nil {
		if w, _ := c.wanted(); len(w.Sessions) == 0 {
			return nil // none runs, and none has to
		}
		if err := c.start(); err != nil {
			return err
		}
		if conn, err = waitFor(ctx, c.opt.RunDir, 5*time.Second); err != nil {
			return fmt.Errorf("the BFD process does not answer: %w: see its log", err)
		}
	}
	defer conn.Close()
	reports, lost := make(chan Report), make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() {
		dec := json.NewDecoder(conn)
		for {
			var r Report
			if err := dec.Decode(&r); err != nil {
				lost <- err
				return
			}
			select {
			case reports <- r:
			case <-done:
				return
			}
		}
	}()
	enc := json.NewEncoder(conn)
	hand := func() error {
		w, handed := c.wanted()
		if !handed {
			return nil
		}
		_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		return enc.Encode(request{Want: &w})
	}
	greeted := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
			if w, _ := c.wanted(); len(w.Sessions) > 0 {
				c.opt.Log.Warn("the BFD process is gone; starting another")
			}
			return nil
		case <-c.kick:
			if greeted {
				if err := hand(); err != nil {
					return err
				}
			}
		case r := <-reports:
			if r.Version != Version {
				// Neighbours hear AdminDown, so BGP stays; until the successor
				// is up, nobody watches the path.
				c.opt.Log.Warn("the BFD process is of another release and is replaced", "theirs", r.Version, "ours", Version, "release", r.Release)
				if err := enc.Encode(request{End: true}); err != nil {
					return err
				}
				<-lost
				return nil
			}
			c.mu.Lock()
			c.report, c.problem = r, nil
			c.mu.Unlock()
			if !greeted {
				greeted = true
				c.opt.Log.Info("BFD process", "pid", r.PID, "release", r.Release, "sessions", len(r.Sessions), "rights", r.Rights)
				if err := hand(); err != nil {
					return err
				}
			}
			c.opt.Changed(r)
		}
	}
}

// start starts the process in a session of its own: no signal that is meant for us
// or for our terminal reaches it.
func (c *Client) start() error {
	cmd := exec.Command(c.opt.Command[0], c.opt.Command[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the BFD process: %w", err)
	}
	go func() { _ = cmd.Wait() }() // while we live, it is ours to reap
	return nil
}

func dial(ctx context.Context, dir string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(dir, SocketName))
}

// waitFor dials until somebody answers.
func waitFor(ctx context.Context, dir string, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		conn, err := dial(ctx, dir)
		if err == nil {
			return conn, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Ask returns what the process of a run directory has to report. The error is
// one of the socket: os.ErrNotExist and syscall.ECONNREFUSED mean that none runs.
func Ask(ctx context.Context, dir string) (Report, error) {
	var r Report
	conn, err := dial(ctx, dir)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	if t, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(t)
	}
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return r, fmt.Errorf("BFD process: %w", err)
	}
	if r.Version != Version {
		return Report{}, errVersion{r.Version}
	}
	return r, nil
}

// NotRunning tells whether an error of Ask means that there is no process.
func NotRunning(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// End has the process of a run directory say AdminDown and end, and waits for
// that. It reports whether there was one.
func End(ctx context.Context, dir string) (was bool, err error) {
	pid, held := processLock.Holder(dir)
	if !held {
		return false, nil
	}
	if conn, err := dial(ctx, dir); err == nil {
		_ = json.NewEncoder(conn).Encode(request{End: true})
		defer conn.Close()
	} else if pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	for {
		if _, held := processLock.Holder(dir); !held {
			return true, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return true, fmt.Errorf("the BFD process (pid %d) does not end", pid)
		}
	}
}
