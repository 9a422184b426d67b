// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/store"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"muslin": func() {
			os.Exit(Main("test", os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// etcdKey is where a script's environment keeps its datastore.
type etcdKey struct{}

type etcd struct {
	address string
	client  *store.Client
}

// TestScripts runs testdata/script/*.txt, each with an etcd of its own in
// ETCD_ENDPOINTS. Beside the commands of testscript they have:
//
//	exits CODE PROGRAM …  runs a program and checks its exit code
//	keys PREFIX           prints the keys of the datastore under a prefix
//	put KEY FILE          writes a key as another tool would
//	daemon DIR FILE       answers on DIR/muslin.sock from a JSON file of paths,
//	                      and tunnels to the datastore
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			e, err := startEtcd(env)
			if err != nil {
				return err
			}
			env.Values[etcdKey{}] = e
			env.Setenv("ETCD_ENDPOINTS", e.address)
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  cmdExits,
			"keys":   cmdKeys,
			"put":    cmdPut,
			"daemon": cmdDaemon,
		},
	})
}

func startEtcd(env *testscript.Env) (*etcd, error) {
	log := slog.New(slog.DiscardHandler)
	server, err := store.StartEmbedded(context.Background(), store.EmbeddedConfig{
		Dir: filepath.Join(env.WorkDir, ".etcd"), ListenClient: []string{"http://127.0.0.1:0"}, UnsafeNoFsync: true,
	})
	if err != nil {
		return nil, err
	}
	env.Defer(func() { server.Close() })
	e := &etcd{address: server.URLs()[0]}
	if e.client, err = store.Open(context.Background(), store.Config{Endpoints: []string{e.address}}, log); err != nil {
		return nil, err
	}
	env.Defer(func() { e.client.Close() })
	return e, nil
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM …")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var e *exec.ExitError
		if !errors.As(err, &e) {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keys PREFIX")
	}
	kvs, _, err := ts.Value(etcdKey{}).(*etcd).client.List(context.Background(), args[0])
	ts.Check(err)
	for _, kv := range kvs {
		_, err := ts.Stdout().Write([]byte(kv.Key + "\n"))
		ts.Check(err)
	}
}

func cmdPut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: put KEY FILE")
	}
	_, err := ts.Value(etcdKey{}).(*etcd).client.Put(context.Background(), args[0], []byte(strings.TrimSpace(ts.ReadFile(args[1]))))
	ts.Check(err)
}

func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: daemon DIR FILE")
	}
	var answers map[string]json.RawMessage
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &answers))
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	l, err := net.Listen("unix", filepath.Join(dir, api.SocketName))
	ts.Check(err)
	address := strings.TrimPrefix(ts.Value(etcdKey{}).(*etcd).address, "http://")
	srv := &http.Server{Handler: fakeDaemon(answers, address)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	ts.Defer(func() { srv.Close(); <-done })
}

// fakeDaemon answers "METHOD path?query" from a table. Where the table has "BODY
// path", the body sent must be equal to it.
func fakeDaemon(answers map[string]json.RawMessage, etcdAddress string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/etcd", func(w http.ResponseWriter, r *http.Request) {
		back, err := net.Dial("tcp", etcdAddress)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer back.Close()
		front, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer front.Close()
		_, _ = io.WriteString(front, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+api.Upgrade+"\r\n\r\n")
		done := make(chan struct{}, 2)
		go func() { _, _ = io.Copy(back, buf); done <- struct{}{} }()
		go func() { _, _ = io.Copy(front, back); done <- struct{}{} }()
		<-done
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(api.Error{Message: "no such thing as " + r.Method + " " + r.URL.RequestURI()})
			return
		}
		if want, ok := answers["BODY "+r.URL.Path]; ok && r.Method == http.MethodPost {
			var got, expected any
			if json.NewDecoder(r.Body).Decode(&got) != nil || json.Unmarshal(want, &expected) != nil || !equalJSON(got, expected) {
				text, _ := json.Marshal(got)
				w.WriteHeader(http.StatusBadRequest)
				_ = json.NewEncoder(w).Encode(api.Error{Message: "body is " + string(text)})
				return
			}
		}
		_, _ = w.Write(answer)
	})
	return mux
}

func equalJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}
