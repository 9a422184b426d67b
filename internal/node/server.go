// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/muslin-net/muslin/internal/node/api"
)

// listenLocal opens the local API's socket, for root alone. The run directory
// is locked, so a socket file that is there was left by a dead daemon.
func listenLocal(runDir string) (net.Listener, error) {
	path := filepath.Join(runDir, api.SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("local API: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("local API: %w (a path above 107 bytes is too long for a socket: choose a shorter --run-dir)", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("local API: %w", err)
	}
	// The socket stays when we go: a client is told that nobody answers, not
	// that there never was a daemon.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l, nil
}

// serve answers the local API until the context ends.
func (d *Daemon) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
			answer, err := f(r)
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				code := http.StatusBadRequest
				if errors.Is(err, errNotFound) {
					code = http.StatusNotFound
				}
				w.WriteHeader(code)
				answer = &api.Error{Message: err.Error()}
			}
			_ = json.NewEncoder(w).Encode(answer)
		})
	}
	handle("GET /v1/status", d.getStatus)
	handle("GET /v1/endpoints", d.getEndpoints)
	handle("POST /v1/endpoints", d.postEndpoint)
	handle("DELETE /v1/endpoints/{namespace}/{name}", d.deleteEndpoint)
	handle("GET /v1/bgp/peers", d.getPeers)
	handle("GET /v1/bgp/routes", d.getBGPRoutes)
	handle("GET /v1/bgp/why", d.getBGPWhy)
	handle("POST /v1/bgp/reset", d.postBGPReset)
	mux.HandleFunc("GET /v1/bgp/watch", d.watchBGP)
	handle("GET /v1/routes", d.getRoutes)
	handle("GET /v1/explain", d.getExplain)
	handle("GET /v1/acl", d.getACL)
	handle("GET /v1/policy/stats", d.getPolicyStats)
	handle("GET /v1/policy/denied", d.getPolicyDenied)
	mux.HandleFunc("POST /v1/etcd", d.tunnel)
	mux.Handle("GET /metrics", d.metrics())

	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("local API: %w", err)
	case <-ctx.Done():
		// Requests end with the context; what an attach undoes then still
		// needs the datastore, so they are waited for.
		stop, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		_ = srv.Shutdown(stop)
		srv.Close()
		<-done
		return nil
	}
}

// shutdownTime bounds the wait for requests under way.
const shutdownTime = 3 * time.Second

// errNotFound is what a question about something unknown ends in.
var errNotFound = errors.New("not found")

func (d *Daemon) getStatus(r *http.Request) (any, error) {
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if r.URL.Query().Get("wait") == "" {
		s, _ := d.board.read()
		d.loop.call(r.Context(), func() { d.loop.fill(&s) })
		return s, nil
	}
	if err != nil || wait < 0 || wait > 24*time.Hour {
		return nil, fmt.Errorf("wait=%s: want a duration such as 10s", r.URL.Query().Get("wait"))
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	s := d.waitLive(ctx)
	d.loop.call(r.Context(), func() { d.loop.fill(&s) })
	return s, nil
}

// waitLive reads the datastore's current revision and waits until the node is
// live there. A datastore that cannot be reached makes the answer not live.
func (d *Daemon) waitLive(ctx context.Context) api.Status {
	var target int64
	var lastErr error
	for target == 0 {
		rev, err := d.store.Revision(ctx)
		if err == nil {
			target = rev
			break
		}
		lastErr = err
		select {
		case <-time.After(100 * time.Millisecond):
			continue
		case <-ctx.Done():
		}
		s, _ := d.board.read()
		s.Live = false
		s.Missing = append([]string{fmt.Sprintf("the datastore's current revision: %v", lastErr)}, s.Missing...)
		return s
	}
	_ = d.store.WaitRevision(ctx, target) // what is handed over by then is in the kernel soon
	s, ok := d.board.wait(ctx, liveAt(target))
	s.Target = target
	if !ok {
		s.Live = false
		if s.LiveRevision < target && len(s.Missing) == 0 {
			s.Missing = []string{fmt.Sprintf("revision %d: the newest that is live is %d", target, s.LiveRevision)}
		}
	}
	return s
}

// tunnel hands the caller a byte stream to the datastore.
func (d *Daemon) tunnel(w http.ResponseWriter, r *http.Request) {
	fail := func(code int, err error) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(&api.Error{Message: err.Error()})
	}
	if r.Header.Get("Upgrade") != api.Upgrade {
		fail(http.StatusUpgradeRequired, fmt.Errorf("want Upgrade: %s", api.Upgrade))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	back, err := d.store.DialRaw(ctx)
	if err != nil {
		fail(http.StatusBadGateway, fmt.Errorf("the daemon cannot reach its datastore: %w", err))
		return
	}
	defer back.Close()
	hj, ok := w.(http.Hijacker)
	if !ok {
		fail(http.StatusInternalServerError, errors.New("connection cannot be taken over"))
		return
	}
	front, buf, err := hj.Hijack()
	if err != nil {
		return
	}
	defer front.Close()
	_ = front.SetDeadline(time.Time{})
	if _, err := io.WriteString(front, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+api.Upgrade+"\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(back, buf); done <- struct{}{} }()
	go func() { _, _ = io.Copy(front, back); done <- struct{}{} }()
	select {
	case <-done:
	case <-r.Context().Done():
	}
}
