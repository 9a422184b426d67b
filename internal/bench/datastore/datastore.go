// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package datastore gives a benchmark the etcd that a deployment has: outside
// the measured process, in a process of its own on a host of the lab.
package datastore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/store"
)

// Own is the name of a program: the etcd inside muslin.
const Own = "own"

const serveArg = "-serve-etcd" // how a benchmark starts itself as an etcd

// Serving tells whether the arguments are those of a benchmark that was
// started to be an etcd, and is one until ctx ends.
func Serving(ctx context.Context, args []string) (yes bool, err error) {
	if len(args) != 3 || args[0] != serveArg {
		return false, nil
	}
	e, err := store.StartEmbedded(ctx, store.EmbeddedConfig{Dir: args[1], ListenClient: []string{args[2]}})
	if err != nil {
		return true, err
	}
	defer e.Close()
	select {
	case err := <-e.Err():
		return true, err
	case <-ctx.Done():
		return true, nil
	}
}

// Server is an etcd and a client of it.
type Server struct {
	*store.Client
	Name string // for reports
}

// Start runs an etcd on a host that has the address of url: program, or if
// that is empty an installed etcd, or if there is none the one inside muslin,
// for which the running benchmark must call Serving. It ends with the host.
func Start(ctx context.Context, host *lab.Host, program, dir, url string) (*Server, error) {
	if program == "" {
		program, _ = exec.LookPath("etcd")
	}
	s := &Server{Name: program}
	cmd := exec.Command(program, "--data-dir", dir, "--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", "http://127.0.0.1:2380", "--logger", "zap", "--log-level", "error")
	if program == "" || program == Own {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd = exec.Command(self, serveArg, dir, url)
		s.Name = "the etcd inside muslin"
	}
	cmd.Env, cmd.Stderr = lab.CleanEnv(), os.Stderr
	p, err := host.Start(cmd)
	if err != nil {
		return nil, err
	}
	s.Client, err = store.Open(ctx, store.Config{
		Endpoints: []string{url},
		Dial:      func(ctx context.Context, addr string) (net.Conn, error) { return host.Dial(ctx, "tcp", addr) },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx, p); err != nil {
		s.Client.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) ready(ctx context.Context, p *lab.Process) error {
	for end := time.Now().Add(20 * time.Second); ; {
		_, err := s.Revision(ctx)
		if err == nil {
			return s.EnsureInitialized(ctx)
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s ended: %w", s.Name, errors.Join(p.Wait(), err))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not answer: %w", s.Name, err)
		}
	}
}
