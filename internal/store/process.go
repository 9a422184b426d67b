// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// An etcd that cannot write ends its whole process: its disk is full, or gives errors. So the
// embedded one has a process of its own, which the agent starts again until it can go on.

// ProcessConfig configures StartProcess.
type ProcessConfig struct {
	// Command is the beginning of the command line of a process that calls Serve with what
	// follows: --data-dir DIR --listen URL[,URL…].
	Command      []string
	Dir          string
	ListenClient []string // as in EmbeddedConfig
	Log          *slog.Logger
}

// Process is a one-member etcd in a process of its own, which is started again when it ends.
type Process struct {
	cfg  ProcessConfig
	urls []string
	stop context.CancelFunc
	done chan struct{}

	mu  sync.Mutex
	err error
}

// How long it rests before etcd is started again, and how long that has to live until
// nothing is said of its end any more.
const (
	minRestart = 100 * time.Millisecond
	maxRestart = 4 * time.Second
	settled    = 3 * time.Second
)

// StartProcess starts an etcd and returns when it answers. The error of the first start is
// that of StartEmbedded in there. It ends with Close, and with this process, however that ends.
func StartProcess(ctx context.Context, cfg ProcessConfig) (*Process, error) {
	if len(cfg.ListenClient) == 0 {
		cfg.ListenClient = []string{DefaultListenClient}
	}
	urls, err := listenURLs(cfg.ListenClient)
	if err != nil {
		return nil, err
	}
	p := &Process{cfg: cfg, urls: shown(urls, cfg.ListenClient), done: make(chan struct{})}
	c, err := p.launch(ctx)
	if err != nil {
		return nil, err
	}
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	go p.supervise(ctx, c)
	return p, nil
}

// URLs returns the client URLs, with the ports that were picked.
func (p *Process) URLs() []string { return p.urls }

// Err is why etcd ended, or does not start; nil while it runs.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Close ends etcd in order.
func (p *Process) Close() error {
	p.stop()
	<-p.done
	return nil
}

// supervise starts etcd again whenever it ends, until ctx does.
func (p *Process) supervise(ctx context.Context, c *child) {
	defer close(p.done)
	wait := minRestart
	for {
		well := time.AfterFunc(settled, func() { p.fails(nil) })
		began := time.Now()
		err := c.live(ctx)
		well.Stop()
		if time.Since(began) > time.Minute {
			wait = minRestart
		}
		for c = nil; c == nil; c, err = p.launch(ctx) {
			if ctx.Err() != nil {
				return
			}
			p.fails(err)
			if !sleep(ctx, wait) {
				return
			}
			wait = min(2*wait, maxRestart)
		}
		p.cfg.Log.Info("etcd was started again")
	}
}

// fails notes how etcd is, and says in the log what is new.
func (p *Process) fails(err error) {
	p.mu.Lock()
	known := p.err != nil && err != nil && p.err.Error() == err.Error()
	p.err = err
	p.mu.Unlock()
	if err != nil && !known {
		p.cfg.Log.Error("etcd ended; it is started again, and what is enforced stays", "err", err)
	}
}

// child is one life of the process. A byte that it reads tells it to end in order; the end of
// what it reads, that whoever started it is gone.
type child struct {
	cmd     *exec.Cmd
	orders  io.WriteCloser
	reports *json.Decoder
}

// report is what the process says: once without an error, when etcd answers, and why it ends.
type report struct {
	Error string `json:"error,omitempty"`
}

// launch starts the process and waits until etcd answers.
func (p *Process) launch(ctx context.Context) (*child, error) {
	args := append(p.cfg.Command[1:len(p.cfg.Command):len(p.cfg.Command)], "--data-dir", p.cfg.Dir, "--listen", strings.Join(p.urls, ","))
	c := &child{cmd: exec.Command(p.cfg.Command[0], args...)}
	c.cmd.Stderr = os.Stderr // for its log, and for a trace of a panic
	orders, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.orders, c.reports = orders, json.NewDecoder(bufio.NewReader(out))
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() })()
	var r report
	if err := c.reports.Decode(&r); err != nil {
		return nil, c.end("")
	}
	if r.Error != "" {
		return nil, c.end(r.Error)
	}
	return c, nil
}

// live returns when the process has ended, and why. When ctx ends it is told to.
func (c *child) live(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		_, _ = c.orders.Write([]byte{'\n'})
		time.AfterFunc(5*time.Second, func() { _ = c.cmd.Process.Kill() })
	})()
	last := ""
	for {
		var r report
		if c.reports.Decode(&r) != nil {
			return c.end(last)
		}
		if last == "" {
			last = r.Error // what follows is of its consequences
		}
	}
}

// end waits for the process to have ended, and returns its last words as an error.
func (c *child) end(last string) error {
	_ = c.orders.Close()
	err := c.cmd.Wait()
	switch {
	case last != "":
		return errors.New(last)
	case err != nil:
		return fmt.Errorf("embedded etcd: its process ended: %w", err)
	}
	return errors.New("embedded etcd: its process ended")
}

// Serve is the process that StartProcess has started: it runs etcd until it reads a byte from
// orders, and ends the process at once when that is at its end, as a crash does. It waits for a
// process of an agent of before to be gone.
func Serve(cfg EmbeddedConfig, orders io.Reader, reports io.Writer) {
	out := json.NewEncoder(reports)
	say := func(text string) { _ = out.Encode(report{Error: text}) }
	cfg.dying = func(text string) { say("embedded etcd in " + cfg.Dir + ": " + text) }
	cfg.patience = 5 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		if n, _ := orders.Read(make([]byte, 1)); n == 0 {
			os.Exit(0)
		}
		cancel()
		_, _ = io.Copy(io.Discard, orders)
		os.Exit(0)
	}()
	e, err := StartEmbedded(ctx, cfg)
	if err != nil {
		say(err.Error())
		return
	}
	say("")
	select {
	case err := <-e.Err():
		cfg.dying(err.Error())
	case <-ctx.Done():
	}
	e.Close()
}
