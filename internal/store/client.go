// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

// pageSize is the number of keys one listing request asks for: small enough
// that a page of large values stays a few megabytes.
const pageSize = 500

// Client is a connection to etcd. It is safe for concurrent use.
type Client struct {
	log       *slog.Logger
	endpoints []string
	timeout   time.Duration
	dial      func(context.Context, string) (net.Conn, error)
	tls       *tls.Config
	dialErr   atomic.Pointer[error]
	auth      bool // we authenticate, so the server's authorisation matters
	oldSaid   atomic.Bool

	making     sync.Mutex
	etcdConfig clientv3.Config
	etcd       *clientv3.Client // use client()
	try        *attempt         // that is under way
	abandon    context.CancelFunc
	closed     bool

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	conns    map[*conn]struct{}
}

// conn is a connection that can be found again, to end it.
type conn struct {
	net.Conn
	c *Client
}

func (n *conn) Close() error {
	n.c.mu.Lock()
	delete(n.c.conns, n)
	n.c.mu.Unlock()
	return n.Conn.Close()
}

// drop closes every connection. gRPC alone would go on using one that is dead
// until its own, slower, probes say so.
func (c *Client) drop() {
	c.mu.Lock()
	all := make([]*conn, 0, len(c.conns))
	for n := range c.conns {
		all = append(all, n)
	}
	c.mu.Unlock()
	for _, n := range all {
		n.Close()
	}
}

// Open prepares a connection. It does not wait for etcd: each request fails
// with ErrUnavailable while no endpoint answers, and a Watch keeps trying.
// Use Ping to learn whether etcd answers. Errors are of the configuration:
// endpoints, certificate files, DNS discovery.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	endpoints, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	tlsCfg, err := cfg.tlsConfig(endpoints)
	if err != nil {
		return nil, err
	}
	c := &Client{log: log, endpoints: endpoints, timeout: cfg.Timeout, watchers: map[*watcher]struct{}{}, conns: map[*conn]struct{}{}}
	c.auth = cfg.Username != "" || cfg.CertFile != "" || cfg.Cert != ""
	if c.timeout <= 0 {
		c.timeout = requestTimeout
	}
	if c.dial, c.tls = cfg.Dial, tlsCfg; c.dial == nil {
		c.dial = dialDirect
	}
	c.etcdConfig = c.clientConfig(cfg)
	c.etcdConfig.Context, c.abandon = context.WithCancel(context.Background())
	if cfg.Username == "" {
		// Needs no network. With a user name the library asks for a token
		// first, so that is left to the first request.
		if _, err := c.client(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Client) clientConfig(cfg Config) clientv3.Config {
	// gRPC's own pause between attempts to connect grows to two minutes;
	// a fabric wants its datastore back within seconds.
	pause := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.3, MaxDelay: 2 * time.Second}
	opts := []grpc.DialOption{
		grpc.WithContextDialer(c.recordDial),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: 3 * time.Second}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	}
	if c.secure() {
		opts = append(opts, grpc.WithTransportCredentials(handshake{credentials.NewTLS(c.tls), c}))
	}
	return clientv3.Config{
		Endpoints: c.endpoints,
		Username:  cfg.Username,
		Password:  cfg.Password.Reveal(),
		TLS:       c.tls,
		// A black hole is noticed by the watch's own probes first; these
		// cover connections without a watch.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		DialTimeout:          c.timeout,
		Logger:               zap.NewNop(),
		DialOptions:          opts,
	}
}

// secure: the library takes the scheme of the first endpoint for all.
func (c *Client) secure() bool {
	return strings.HasPrefix(c.endpoints[0], "https:") || strings.HasPrefix(c.endpoints[0], "unixs:")
}

// attempt is a connection in the making, for all who wait for it.
type attempt struct {
	done chan struct{}
	err  error // set before done is closed
}

// client returns the library's client, made on first use. With a user name the
// library asks etcd for a token first, and for as long as it likes: who cannot
// wait so long goes without.
func (c *Client) client(ctx context.Context) (*clientv3.Client, error) {
	for {
		c.making.Lock()
		made, closed, try := c.etcd, c.closed, c.try
		if made == nil && !closed && try == nil {
			try = &attempt{done: make(chan struct{})}
			c.try = try
			go c.connect(try)
		}
		c.making.Unlock()
		switch {
		case closed:
			return nil, errClosed
		case made != nil:
			return made, nil
		}
		select {
		case <-try.done:
			if try.err != nil {
				return nil, c.wrap("connect to", "etcd", try.err)
			}
		case <-ctx.Done():
			return nil, c.wrap("connect to", "etcd", ctx.Err())
		}
	}
}

// connect makes the library's client. Close ends it.
func (c *Client) connect(try *attempt) {
	made, err := clientv3.New(c.etcdConfig)
	c.making.Lock()
	defer c.making.Unlock()
	c.etcd, c.try, try.err = made, nil, err
	close(try.done)
}

var errClosed = errors.New("the datastore client is closed")

// Close ends all requests and watches.
func (c *Client) Close() error {
	c.making.Lock()
	c.closed = true
	try := c.try
	c.making.Unlock()
	c.abandon()
	if try != nil {
		<-try.done
	}
	c.making.Lock()
	made := c.etcd
	c.making.Unlock()
	if made == nil {
		return nil
	}
	if err := made.Close(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Endpoints returns the endpoints in use. The result must not be changed.
func (c *Client) Endpoints() []string { return c.endpoints }

// Ping asks for a linearizable answer and says clearly if there is none.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.Revision(ctx)
	return err
}

func dialDirect(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if abs, ok := strings.CutPrefix(path, "//"); ok {
			path = abs
		}
		return d.DialContext(ctx, "unix", path)
	}
	return d.DialContext(ctx, "tcp", addr)
}

// recordDial remembers why the last attempt to connect failed: gRPC hides it
// behind a deadline.
func (c *Client) recordDial(ctx context.Context, addr string) (net.Conn, error) {
	raw, err := c.dial(ctx, addr)
	if err != nil {
		c.dialErr.Store(&err)
		return nil, err
	}
	if !c.secure() {
		c.dialErr.Store(nil)
	}
	n := &conn{Conn: raw, c: c}
	c.mu.Lock()
	c.conns[n] = struct{}{}
	c.mu.Unlock()
	return n, nil
}

// handshake remembers why a TLS handshake failed, for the same reason.
type handshake struct {
	credentials.TransportCredentials
	c *Client
}

func (h handshake) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	out, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	h.c.dialErr.Store(nil)
	if err != nil {
		why := fmt.Errorf("TLS with %s: %w", authority, err)
		h.c.dialErr.Store(&why)
	}
	return out, info, err
}

func (h handshake) Clone() credentials.TransportCredentials {
	return handshake{h.TransportCredentials.Clone(), h.c}
}

// DialRaw opens a plain connection to the first endpoint that answers, for
// tunnelling someone else's requests to etcd. TLS is done here; authentication
// is the requester's.
func (c *Client) DialRaw(ctx context.Context) (net.Conn, error) {
	var errs []error
	for _, e := range c.endpoints {
		u, err := url.Parse(e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		addr, secure := u.Host, u.Scheme == "https"
		if u.Scheme == "unix" || u.Scheme == "unixs" {
			addr, secure = "unix://"+u.Path, u.Scheme == "unixs"
		}
		conn, err := c.dial(ctx, addr)
		if err == nil && secure {
			cfg := c.tls.Clone()
			cfg.ServerName, cfg.NextProtos = u.Hostname(), []string{"h2"}
			tc := tls.Client(conn, cfg)
			if err = tc.HandshakeContext(ctx); err != nil {
				conn.Close()
			}
			conn = tc
		}
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, c.wrap("connect to", "etcd", fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(errs...)))
}

func (c *Client) lastDialError() error {
	if p := c.dialErr.Load(); p != nil {
		return *p
	}
	return nil
}

// KV is one key with its value and the revision it was last changed at.
type KV struct {
	Key      string
	Value    []byte
	Revision int64
}

func kvOf(kv *mvccpb.KeyValue) KV {
	return KV{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision}
}

// Revision returns the datastore's current revision. It is linearizable: every
// write acknowledged before the call has a revision at or below the result.
func (c *Client) Revision(ctx context.Context) (int64, error) {
	h, err := c.header(ctx)
	if err != nil {
		return 0, err
	}
	return h.Revision, nil
}

func (c *Client) header(ctx context.Context) (*pb.ResponseHeader, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	etcd, err := c.client(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := etcd.Get(ctx, "/calico/resources/v3/projectcalico.org/clusterinformations/default", clientv3.WithCountOnly())
	if err != nil {
		return nil, c.wrap("read", "revision", err)
	}
	return resp.Header, nil
}

// Get returns one key; ErrNotFound if there is none.
func (c *Client) Get(ctx context.Context, key string) (KV, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	etcd, err := c.client(ctx)
	if err != nil {
		return KV{}, err
	}
	resp, err := etcd.Get(ctx, key)
	if err != nil {
		return KV{}, c.wrap("get", key, err)
	}
	if len(resp.Kvs) == 0 {
		return KV{}, c.wrap("get", key, ErrNotFound)
	}
	return kvOf(resp.Kvs[0]), nil
}

// List returns every key that starts with prefix, in key order, and the
// revision all of them were read at.
func (c *Client) List(ctx context.Context, prefix string) ([]KV, int64, error) {
	var out []KV
	h, err := c.pages(ctx, prefix, 0, func(kvs []*mvccpb.KeyValue) error {
		for _, kv := range kvs {
			out = append(out, kvOf(kv))
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return out, h.Revision, nil
}

// pages lists prefix page by page, all pages at one revision: rev, or the
// current one when rev is 0. The header returned has that revision. each may
// keep the values.
func (c *Client) pages(ctx context.Context, prefix string, rev int64, each func([]*mvccpb.KeyValue) error, opts ...clientv3.OpOption) (*pb.ResponseHeader, error) {
	var header *pb.ResponseHeader
	end := clientv3.GetPrefixRangeEnd(prefix)
	// etcd reads the next page while this one is worked on.
	type answer struct {
		resp *clientv3.GetResponse
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	coming := make(chan answer, 1)
	var asking sync.WaitGroup
	defer func() { cancel(); asking.Wait() }()
	ask := func(key string) {
		page := append([]clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(rev)}, opts...)
		asking.Go(func() {
			resp, err := c.page(ctx, key, page)
			coming <- answer{resp, err}
		})
	}
	ask(prefix)
	for {
		a := <-coming
		resp, err := a.resp, a.err
		if err != nil {
			return nil, c.wrap("list", prefix, err)
		}
		if header == nil {
			header = resp.Header
			if rev == 0 {
				rev = header.Revision
			}
			header.Revision = rev
		}
		more := resp.More && len(resp.Kvs) > 0
		if more {
			ask(string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00")
		}
		if err := each(resp.Kvs); err != nil {
			return nil, err
		}
		if !more {
			return header, nil
		}
	}
}

func (c *Client) page(ctx context.Context, key string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	etcd, err := c.client(ctx)
	if err != nil {
		return nil, err
	}
	return etcd.Get(ctx, key, opts...)
}

// Create writes a key that must not exist yet; ErrExists otherwise. It returns
// the key's revision.
func (c *Client) Create(ctx context.Context, key string, value []byte) (int64, error) {
	return c.one(ctx, OpCreate(key, value))
}

// Update writes a key that must still be at revision rev: ErrConflict if it
// was changed, ErrNotFound if it was deleted. It returns the new revision.
func (c *Client) Update(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	return c.one(ctx, OpUpdate(key, value, rev))
}

// Put writes a key whatever is there. It returns the new revision.
func (c *Client) Put(ctx context.Context, key string, value []byte) (int64, error) {
	return c.one(ctx, OpPut(key, value))
}

// Delete deletes a key, which must still be at revision rev unless rev is 0:
// ErrNotFound, ErrConflict.
func (c *Client) Delete(ctx context.Context, key string, rev int64) error {
	_, err := c.one(ctx, OpDelete(key, rev))
	return err
}

func (c *Client) one(ctx context.Context, op Op) (int64, error) {
	rev, err := c.commit(ctx, []Op{op})
	if err != nil {
		return 0, c.wrap(op.verb.String(), op.Key, err)
	}
	return rev, nil
}
