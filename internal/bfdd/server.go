// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bfdd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/muslin-net/muslin/internal/bfd"
	"github.com/muslin-net/muslin/internal/lock"
)

// Run is the process. It returns when ctx has ended and the neighbours were
// told, when no agent has come back, or when an agent wants no session any more. It
// keeps the thread that calls it.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	// Whoever reads our output may end before us.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	held, err := lock.Take(processLock, cfg.RunDir)
	if err != nil {
		return err
	}
	defer held.Release()
	socket, err := listen(cfg.RunDir)
	if err != nil {
		return err
	}
	defer socket.Close()

	runtime.LockOSThread()
	rt, given := settle()
	log, records := queued(log.With("part", "bfd"))
	s := &server{log: log, clients: map[*client]bool{}}
	l, err := newLoop(log, Report{
		Version: Version, PID: os.Getpid(), Release: cfg.Release, Started: time.Now(), Rights: rights(rt, given),
	}, s.publish)
	if err != nil {
		return err
	}
	defer l.close()
	s.loop = l

	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	go write(records, stop)
	wg.Go(func() { s.accept(socket, &wg) })
	wg.Go(func() {
		select {
		case <-ctx.Done():
			l.post(l.end)
		case <-stop:
		}
	})
	log.Info("started", "pid", os.Getpid(), "release", cfg.Release, "rights", l.base.Rights)
	err = l.run()
	socket.Close()
	s.close()
	log.Info("ended")
	return err
}

// write logs what is queued. It is not waited for: it may be stuck for good.
func write(records <-chan func(), stop <-chan struct{}) {
	for {
		select {
		case r := <-records:
			r()
		case <-stop:
			return
		}
	}
}

// listen opens the process's socket, for root alone. The directory is
// locked, so one that is there was left by a dead process.
func listen(dir string) (*net.UnixListener, error) {
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket of the BFD process: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		l.SetUnlinkOnClose(false) // we could not
		if err = os.Chmod(path, 0o600); err != nil {
			l.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("socket of the BFD process: %w", err)
	}
	return l, nil
}

// server talks to whoever is connected. The agent that handed over the set
// last is the one whose going matters.
type server struct {
	log  *slog.Logger
	loop *loop

	mu      sync.Mutex
	clients map[*client]bool
	owner   *client
	closed  bool
}

// client is one connection. Its newest report is what it gets next: it may
// miss some, and has the state in the end.
type client struct {
	conn net.Conn
	next chan Report // holds one
}

func (s *server) accept(l *net.UnixListener, wg *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		c := &client{conn: conn, next: make(chan Report, 1)}
		s.mu.Lock()
		refuse := s.closed || len(s.clients) >= 32
		if !refuse {
			s.clients[c] = true
		}
		s.mu.Unlock()
		if refuse {
			conn.Close()
			continue
		}
		wg.Go(func() { s.read(c) })
		wg.Go(func() { s.write(c) })
		s.loop.post(func() { s.answer(c) })
	}
}

// answer offers a fresh report to one client. It runs in the loop.
func (s *server) answer(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[c] { // else its channel is closed
		c.offer(s.loop.report())
	}
}

// offer replaces the report that waits.
func (c *client) offer(r Report) {
	select {
	case <-c.next:
	default:
	}
	select {
	case c.next <- r:
	default:
	}
}

// publish runs in the loop and does not wait.
func (s *server) publish(r Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.offer(r)
	}
}

func (s *server) write(c *client) {
	enc := json.NewEncoder(c.conn)
	for r := range c.next {
		_ = c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if enc.Encode(r) != nil {
			c.conn.Close() // read notices
		}
	}
}

func (s *server) read(c *client) {
	dec := json.NewDecoder(c.conn)
	for {
		var r request
		if dec.Decode(&r) != nil {
			break
		}
		switch {
		case r.End:
			s.log.Info("asked to end")
			s.loop.post(s.loop.end)
		case r.Report:
			s.loop.post(func() { s.answer(c) })
		case r.Want != nil && r.Want.Version == Version:
			configs := make([]bfd.Config, len(r.Want.Sessions))
			for i, w := range r.Want.Sessions {
				configs[i] = w.config()
			}
			s.mu.Lock()
			s.owner = c
			s.mu.Unlock()
			s.loop.post(func() {
				if err := s.loop.set(configs, r.Want.Linger); err != nil {
					s.log.Error("sessions left out", "err", err)
				}
			})
		}
	}
	c.conn.Close()
	s.mu.Lock()
	delete(s.clients, c)
	close(c.next)
	owner := s.owner == c
	if owner {
		s.owner = nil
	}
	s.mu.Unlock()
	if owner {
		s.loop.post(s.loop.abandoned)
	}
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.clients {
		c.conn.Close()
	}
}
