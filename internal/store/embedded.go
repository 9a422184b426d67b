// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// DefaultListenClient is where the embedded etcd answers unless told otherwise.
const DefaultListenClient = "http://127.0.0.1:2379"

// EmbeddedConfig configures StartEmbedded.
type EmbeddedConfig struct {
	// Dir holds the data; it is made if missing, for its owner only.
	Dir string
	// ListenClient are the URLs to answer on: http://host:port or
	// unix:///path. Port 0 picks a free one. Empty means DefaultListenClient.
	ListenClient []string
	// Log receives the server's warnings and errors; nil drops them.
	Log *slog.Logger
	// UnsafeNoFsync loses data on power failure. For tests only.
	UnsafeNoFsync bool

	dying    func(text string) // is told why the server ends the process
	patience time.Duration     // for who has the directory
}

// Embedded is a running one-member etcd.
type Embedded struct {
	etcd    *embed.Etcd
	urls    []string
	lock    *os.File
	streams context.CancelFunc
	once    sync.Once
	phase   phase
}

// StartEmbedded starts an etcd with a single member inside this process and
// returns when it answers. There are no peers, so nothing listens for them:
// several can run on one machine. A directory that another process uses is
// refused at once, with that process's pid.
func StartEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.ListenClient) == 0 {
		cfg.ListenClient = []string{DefaultListenClient}
	}
	if cfg.Dir == "" {
		return nil, errors.New("embedded etcd: no data directory is given")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	urls, err := listenURLs(cfg.ListenClient)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(ctx, cfg.Dir, cfg.patience)
	if err != nil {
		return nil, err
	}
	e := &Embedded{lock: lock, phase: phase{dying: cfg.dying}}
	if err := e.start(ctx, cfg, urls); err != nil {
		e.unlock()
		return nil, fmt.Errorf("embedded etcd in %s: %w", cfg.Dir, explained(err))
	}
	return e, nil
}

func (e *Embedded) start(ctx context.Context, cfg EmbeddedConfig, urls []url.URL) error {
	streams, cancel := context.WithCancel(context.Background())
	e.streams = cancel
	ec := serverConfig(cfg, urls)
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(serverLogger(cfg.Log, &e.phase))
	ec.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(endWith(streams))}
	err := recovered(func() error {
		var err error
		e.etcd, err = embed.StartEtcd(ec)
		return err
	})
	if err != nil {
		cancel()
		return err
	}
	select {
	case <-e.etcd.Server.ReadyNotify():
	case err = <-e.etcd.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		e.etcd.Close()
		return err
	}
	e.phase.Store(running)
	e.urls = shown(urls, cfg.ListenClient)
	return nil
}

// shown are the URLs as clients are told them.
func shown(urls []url.URL, given []string) (out []string) {
	for i, u := range urls {
		if u.Scheme == "unix" {
			out = append(out, given[i])
		} else {
			out = append(out, u.String())
		}
	}
	return out
}

func serverConfig(cfg EmbeddedConfig, urls []url.URL) *embed.Config {
	ec := embed.NewConfig()
	ec.Name = "muslin"
	ec.Dir = filepath.Join(cfg.Dir, "etcd")
	ec.ListenClientUrls = urls
	ec.AdvertiseClientUrls = urls
	// The advertised peer URL is part of the member's identity and is never
	// dialled; nothing listens.
	ec.ListenPeerUrls = nil
	// A new directory is a new cluster, with an id that no other one has. An
	// existing one knows its id.
	ec.InitialClusterToken = uuid.NewString()
	ec.InitialCluster = ec.Name + "=" + embed.DefaultInitialAdvertisePeerURLs
	// The only member is the leader; it need not wait long to find out.
	ec.TickMs, ec.ElectionMs = 50, 250
	// History is kept for an hour: a node away for longer lists again.
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = "1h"
	// The defaults keep 10,000 entries and more of the log in memory for
	// followers, of which there are none.
	ec.SnapshotCount = 5000
	ec.SnapshotCatchUpEntries = 100
	ec.MaxWalFiles = 2
	ec.UnsafeNoFsync = cfg.UnsafeNoFsync
	ec.WatchProgressNotifyInterval = 10 * time.Second
	return ec
}

// recovered turns a panic into an error: the server's way to refuse damaged
// data.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return f()
}

// URLs returns the client URLs, with the ports that were picked.
func (e *Embedded) URLs() []string { return e.urls }

// Err delivers the error that ended the server, if one did.
func (e *Embedded) Err() <-chan error { return e.etcd.Err() }

// Close ends open watches, then the server, and frees the directory.
func (e *Embedded) Close() error {
	e.once.Do(func() {
		e.phase.Store(closing)
		e.streams()
		e.etcd.Close()
		e.unlock()
	})
	return nil
}

// endWith ends every stream when ctx does. Without it a server that closes
// waits seconds for its watchers.
func endWith(ctx context.Context) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		sctx, cancel := context.WithCancel(ss.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return h(srv, &endingStream{ServerStream: ss, ctx: sctx})
	}
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *endingStream) Context() context.Context { return s.ctx }

// ListenURL reads an address for the embedded server to answer on. An error says
// what is wrong and what would be right, after the address.
func ListenURL(s string) (url.URL, error) {
	fail := func(why string) (url.URL, error) {
		return url.URL{}, fmt.Errorf("%s: want http://ADDRESS:PORT with an IP address of this host, such as http://10.0.0.1:2379, or unix:///PATH", why)
	}
	u, err := url.Parse(s)
	if err != nil {
		return fail("not a URL")
	}
	switch {
	case u.Scheme == "unix" && u.Path != "":
		return *u, nil
	case u.Scheme == "https":
		return fail("the embedded etcd speaks no TLS")
	case u.Scheme != "http":
		return fail("not of http or unix")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
		return fail("more than an address and a port")
	case net.ParseIP(u.Hostname()) == nil && u.Hostname() != "localhost":
		return fail(fmt.Sprintf("%q is not an IP address", u.Hostname()))
	}
	port := u.Port()
	if port == "" {
		port = "2379"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fail("port " + port + " is not 1–65535")
	}
	u.Path, u.Host = "", net.JoinHostPort(u.Hostname(), port)
	return *u, nil
}

func listenURLs(in []string) ([]url.URL, error) {
	var out []url.URL
	for _, s := range in {
		u, err := ListenURL(s)
		if err != nil {
			return nil, fmt.Errorf("embedded etcd: listen address %q: %w", s, err)
		}
		if u.Port() == "0" {
			// The server's own gateway needs to know the port beforehand.
			l, err := net.Listen("tcp", u.Host)
			if err != nil {
				return nil, fmt.Errorf("embedded etcd: listen address %q: %w", s, err)
			}
			u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
			l.Close()
		}
		out = append(out, u)
	}
	return out, nil
}

// explained adds to why the server cannot listen what can be done about it.
func explained(err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w: no interface of this host has that address: give one that it has with --etcd-listen", err)
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: use the etcd that is there with --etcd, or give this one another port with --etcd-listen", err)
	}
	return err
}

// lockDir takes the directory for this process. etcd's own lock would wait,
// and would not say for whom.
func lockDir(ctx context.Context, dir string, patience time.Duration) (*os.File, error) {
	path := filepath.Join(dir, "etcd.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: %w", err)
	}
	flock := func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
	err = flock()
	for began := time.Now(); err != nil && time.Since(began) < patience && sleep(ctx, 10*time.Millisecond); err = flock() {
	}
	if err != nil {
		holder := "another process"
		if b, rerr := os.ReadFile(path); rerr == nil && len(b) > 0 {
			holder = "process " + strings.TrimSpace(string(b))
		}
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("embedded etcd: %s is in use by %s", dir, holder)
		}
		return nil, fmt.Errorf("embedded etcd: lock %s: %w", path, err)
	}
	if err := checkDatabase(filepath.Join(dir, "etcd", "member", "snap", "db")); err != nil {
		f.Close()
		return nil, fmt.Errorf("embedded etcd in %s: %w", dir, err)
	}
	if err := f.Truncate(0); err == nil {
		// Only a courtesy to whoever comes next; the lock is what counts.
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// checkDatabase opens the database once by itself. The server would wait
// without end for whoever else has it open, and would end the process if it is
// damaged.
func checkDatabase(path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 300 * time.Millisecond})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%s is in use by an etcd that is not ours; stop it first", path)
	case err != nil:
		return fmt.Errorf("%s is damaged (%w); restore it from a backup, or move the directory away to begin anew", path, err)
	}
	return db.Close()
}

func (e *Embedded) unlock() {
	// The file stays: removing it would let two processes lock two files of
	// the same name.
	_ = e.lock.Truncate(0)
	e.lock.Close()
}
