// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// gate stands between a daemon and its datastore: each call of etcd's API is a request of HTTP/2
// (gRPC), which it counts and lets pass, or refuses as etcd does, or at which it kills the daemon.
type gate struct {
	calls *counter
	url   string
	proxy *httputil.ReverseProxy
	pid   func() int // the daemon's
}

// newGate listens on a unix socket, which every network namespace reaches.
func newGate(t *testing.T, calls *counter, pid func() int, dial func(context.Context) (net.Conn, error)) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mu-gate")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	silent := log.New(io.Discard, "", 0)
	g := &gate{calls: calls, url: "unix://" + path, pid: pid, proxy: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "etcd" },
		Transport:     &http.Transport{Protocols: &h2, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }},
		FlushInterval: -1, ErrorLog: silent,
	}}
	server := &http.Server{Handler: g, Protocols: &h2, ErrorLog: silent}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		os.RemoveAll(dir)
	})
	return g
}

// etcdRefusals are what etcd says that has no leader, no space, or another idea of who may do what, with
// the codes of gRPC.
var etcdRefusals = [][2]string{
	{"14", "etcdserver: no leader"}, {"8", "etcdserver: mvcc: database space exceeded"}, {"7", "etcdserver: permission denied"},
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := strings.TrimPrefix(r.URL.Path, "/etcdserverpb.")
	switch g.calls.next("ask etcd: " + call) {
	case fateNone:
		g.proxy.ServeHTTP(w, r)
		return
	case fateFails:
		why := etcdRefusals[len(g.calls.counted())%len(etcdRefusals)]
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", why[0])
		w.Header().Set("Grpc-Message", why[1])
		return
	case fateForgotten:
		if !strings.HasPrefix(call, "Watch/") && !strings.HasSuffix(call, "KeepAlive") { // those have no end
			g.proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	unix.Kill(g.pid(), unix.SIGKILL)
	<-r.Context().Done() // its connection is gone
}
