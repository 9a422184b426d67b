// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/keeper"
	"github.com/muslin-net/muslin/internal/lock"
	"github.com/muslin-net/muslin/internal/neighbour"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/route"
	"github.com/muslin-net/muslin/internal/store"
)

// Config is what a daemon is told on its command line.
type Config struct {
	Node     string       // name of this node; lower-cased
	Store    store.Config // ignored when Embedded
	Embedded bool
	// EtcdListen are the URLs of the embedded etcd; empty is loopback.
	EtcdListen []string
	StateDir   string
	RunDir     string
	// InterfacePrefix is the flag; empty leaves it to FelixConfiguration.
	InterfacePrefix string
	// IP and IP6 are the flags; invalid ones leave the stored value.
	IP, IP6 netip.Prefix
	Version string
	// FelixFile is where host-local settings are; empty is felix.cfg's place.
	FelixFile string
	// SecretsDir is where secrets are that objects refer to; empty is the
	// usual place.
	SecretsDir string
	// BFDCommand is the command line of the process that runs BFD for the
	// run directory.
	BFDCommand []string
	// EtcdCommand is the command line of the process of the embedded etcd.
	EtcdCommand []string
	// OwnTables lets nobody else change the packet filter; KeeperCommand is the command
	// line of the process that keeps it so while there is no agent.
	OwnTables     bool
	KeeperCommand []string
	// SnapshotMaxAge is how old what the datastore held may be for a boot without it; 0 for
	// any age.
	SnapshotMaxAge time.Duration
}

// dnsName is what names of nodes and workloads are: parts of a resource's name.
var dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// ParseName returns the name of a node as it is stored: in lower case, that of
// the host if none is given.
func ParseName(given string) (string, error) {
	name := strings.ToLower(strings.TrimSpace(given))
	if name == "" {
		h, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("--node: no name given and the host has none: %w", err)
		}
		name = strings.ToLower(strings.TrimSpace(h))
	}
	if len(name) > 253 || !dnsName.MatchString(name) {
		return "", fmt.Errorf("--node %.64q: want a DNS name: letters, digits, '-' and '.', at most 253", name)
	}
	return name, nil
}

// check fills in defaults and says what cannot be.
func (c *Config) check() (err error) {
	if c.Node, err = ParseName(c.Node); err != nil {
		return err
	}
	if c.IP.IsValid() && !c.IP.Addr().Is4() {
		return fmt.Errorf("--ip %s: want an IPv4 address with its subnet's length, such as 10.0.0.2/24", c.IP)
	}
	if c.IP6.IsValid() && !c.IP6.Addr().Is6() {
		return fmt.Errorf("--ip6 %s: want an IPv6 address with its subnet's length, such as fd00::2/64", c.IP6)
	}
	c.FelixFile = c.felixFile()
	return nil
}

func (c *Config) felixFile() string {
	if c.FelixFile == "" {
		return "/etc/calico/felix.cfg"
	}
	return c.FelixFile
}

// agentLock is what a daemon claims: there is one for each network namespace,
// run directory and state directory.
var agentLock = lock.Kind{What: "muslin daemon", Socket: "@muslin-agent", File: api.LockName}

// Daemon is one server's agent and BGP speaker.
type Daemon struct {
	cfg     Config
	log     *slog.Logger
	started time.Time

	etcd        *store.Process // the embedded one, or nil
	store       *store.Client
	journal     *store.Journal // of what is in force, for a start without the datastore
	ipam        *ipam.Allocator
	acl         dataplane.Filtering
	speaker     *bgp.Speaker
	tablesOwned bool // nobody else can change the packet filter
	restarting  bool // an earlier daemon has left routes: this is no boot
	// expected are peers of listen ranges that an earlier daemon had.
	expected []netip.Addr
	// updateToKernel is how long what peers say takes to be in the kernel.
	updateToKernel prometheus.Histogram
	bgpLog         severity // of the speaker
	bfd            *detector
	finder         *neighbour.Finder
	secrets        secrets
	board          *board
	loop           *loop
	attach         keyed      // serialises attach and detach by endpoint
	removed        sync.Map   // handles of endpoints that are being detached → the revision to wait for
	probing        sync.Mutex // held while a probe is under way
}

// Run is the daemon: it returns when ctx ends, leaving the data plane as it
// is, or with the error that made it impossible to go on.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	if err := hasDataPlane(); err != nil {
		return err
	}
	if err := cfg.check(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("muslin run programs the kernel: run it as root")
	}
	if cfg.InterfacePrefix != "" {
		uplinks, err := endpoint.Uplinks([]netip.Addr{cfg.IP.Addr(), cfg.IP6.Addr()})
		if err != nil {
			return err
		}
		if _, err := spareUplinks(strings.Split(cfg.InterfacePrefix, ","), uplinks); err != nil {
			return fmt.Errorf("--interface-prefix: %w", err)
		}
	}
	held, err := lock.Take(agentLock, cfg.RunDir, cfg.StateDir)
	if err != nil {
		return err
	}
	defer held.Release()

	d := &Daemon{cfg: cfg, log: log, started: time.Now(), journal: journalOf(cfg.StateDir), secrets: secrets{dir: cfg.SecretsDir}, updateToKernel: newUpdateToKernel()}
	d.board = newBoard(api.Status{
		Node: cfg.Node, PID: os.Getpid(), Version: cfg.Version, Started: d.started,
		Missing:   []string{"first contact with the datastore"},
		Datastore: api.Datastore{Endpoints: cfg.Store.Endpoints, Embedded: cfg.Embedded},
	})
	if cfg.Embedded {
		d.etcd, err = store.StartProcess(ctx, store.ProcessConfig{
			Command: cfg.EtcdCommand, Dir: filepath.Join(cfg.StateDir, "etcd"), ListenClient: cfg.EtcdListen, Log: log.With("part", "etcd"),
		})
		if err != nil {
			return err
		}
		defer d.etcd.Close()
		d.cfg.Store = store.Config{Endpoints: d.etcd.URLs()[:1]}
	}
	if d.store, err = store.Open(ctx, d.cfg.Store, log.With("part", "store")); err != nil {
		return err
	}
	defer d.store.Close()
	d.ipam = d.store.Allocator()

	d.openSpeaker()
	d.bfd = newDetector(d)
	d.loop = newLoop(d)
	d.finder = neighbour.New(neighbour.Options{Log: log.With("part", "neighbour"), Changed: d.loop.found.notify})
	g, ctx := errgroup.WithContext(ctx)
	// The datastore lists everything while the kernel is asked what it can do.
	g.Go(func() error { return d.followDatastore(ctx) })
	give := func(err error) error { g.Go(func() error { return err }); return g.Wait() }
	if err := d.openFilter(); err != nil {
		return give(err)
	}
	defer d.acl.Close()
	kept, err := socketOf(d.acl)
	if err != nil {
		return give(err)
	}
	if d.tablesOwned = kept != nil; d.tablesOwned {
		g.Go(func() error {
			defer kept.Close()
			keeper.Keep(ctx, cfg.RunDir, cfg.KeeperCommand, kept, log.With("part", "keeper"))
			return nil
		})
	}
	socket, err := listenLocal(cfg.RunDir)
	if err != nil {
		return give(err)
	}
	defer socket.Close()
	g.Go(func() error { return d.loop.run(ctx) })
	g.Go(func() error { return d.speaker.Run(ctx) })
	g.Go(func() error { return d.bfd.run(ctx) })
	g.Go(func() error { return d.finder.Run(ctx) })
	g.Go(func() error { return d.followHostLinks(ctx) })
	g.Go(func() error { return d.followBest(ctx) })
	g.Go(func() error { return d.followNextHops(ctx) })
	g.Go(func() error { return d.followDynamic(ctx) })
	g.Go(func() error { return d.acl.Watch(ctx, d.loop.aclChanged.notify) })
	g.Go(func() error { return d.reviewFlows(ctx) })
	g.Go(func() error { return d.followDenied(ctx) })
	g.Go(func() error { return d.serve(ctx, socket) })
	g.Go(func() error { return d.prepare(ctx) })
	g.Go(func() error { return d.followAddresses(ctx) })
	g.Go(func() error {
		if err := endpoint.WatchHostAddrs(ctx, func() { d.loop.addrsChanged.notify(); d.loop.ifacesChanged.notify() }); err != nil {
			log.Error("addresses that this host gets are taken at the next start", "err", err)
		}
		return nil
	})
	g.Go(func() error { return d.economise(ctx) })
	g.Go(func() error { return d.keepSnapshot(ctx) })
	g.Go(func() error { d.secrets.watch(ctx, d.loop.secretsChanged.notify); return nil })
	g.Go(func() error { d.report(ctx, serviceManagerOf(os.Getenv)); return nil })
	log.Info("started", "node", cfg.Node, "version", cfg.Version, "pid", os.Getpid())
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	log.Info("stopped; the data plane stays in place", "node", cfg.Node)
	return err
}

// A datastore that does not answer is named in the log after firstWord, and then
// every nextWord for as long as that lasts.
const (
	firstWord = 1500 * time.Millisecond
	nextWord  = 5 * time.Minute
)

// awaitDatastore returns when the datastore has answered, or with what to go on with
// meanwhile; false means that the context has ended before.
func (d *Daemon) awaitDatastore(ctx context.Context) (*store.Snapshot, bool) {
	began, said := time.Now(), time.Time{}
	limit := firstWord
	for {
		ping, cancel := context.WithTimeout(ctx, limit)
		err := d.store.Ping(ping)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, false
		case err == nil && said.IsZero():
			return d.onHold(ctx), true
		case err == nil:
			d.log.Info("the datastore answers", "after", time.Since(began).Round(time.Millisecond))
			return d.onHold(ctx), d.loop.call(ctx, func() { d.loop.datastoreErr = "" })
		case said.IsZero() || time.Since(said) > nextWord:
			d.log.Warn("the datastore cannot be used yet; what is enforced stays", "err", err)
			if s := d.lastKnown(ctx, d.maxAge()); s != nil {
				return s, true
			}
			said = time.Now()
		}
		limit = time.Minute // which leaves it to the store
		if !d.loop.call(ctx, func() { d.loop.datastoreErr = err.Error(); d.loop.publish() }) || !pause(ctx, 500*time.Millisecond) {
			return nil, false
		}
	}
}

// followDatastore watches the datastore for as long as the daemon lives, from
// when it first answers, or from what it held.
func (d *Daemon) followDatastore(ctx context.Context) error {
	known, ok := d.awaitDatastore(ctx)
	if !ok {
		return nil
	}
	good := openLastGood(d.cfg.StateDir, d.log, d.store.Before)
	taken := newTaken(d.journal, d.log, known)
	return d.store.WatchFrom(ctx, known, func(u store.Update) {
		next := good.join(ctx, read(u))
		if !d.cfg.Embedded {
			taken.take(next)
		}
		select {
		case d.loop.updates <- next:
			if !u.InSync {
				return // nothing is in force before the first listing is whole: the next part is decoded meanwhile
			}
			// The next Update is asked for when this one is in force, so that
			// the store coalesces what arrives meanwhile.
			select {
			case <-d.loop.taken:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	})
}

// prepare writes what this node has to write, beside the watch: an object that
// cannot be read keeps it from being registered, and not from enforcing the
// others. It tries until it is done, says as a problem why it is not, and
// starts over when this node's Node is deleted.
func (d *Daemon) prepare(ctx context.Context) error {
	for wait := retryMin; ; wait = min(2*wait, 10*time.Second) {
		rev, err := d.prepareDatastore(ctx)
		if ctx.Err() != nil {
			return nil
		}
		d.loop.call(ctx, func() { d.loop.prepared(rev, err) })
		again := time.After(wait)
		if err == nil {
			wait, again = retryMin, nil
		}
		select {
		case <-again:
		case <-d.loop.prepareAgain:
		case <-ctx.Done():
			return nil
		}
	}
}

// pause waits, and tells whether the context lives on.
func pause(ctx context.Context, t time.Duration) bool {
	select {
	case <-time.After(t):
		return true
	case <-ctx.Done():
		return false
	}
}

// followBest carries best paths from the speaker to the loop.
func (d *Daemon) followBest(ctx context.Context) error {
	for {
		best, err := d.speaker.NextBest(ctx)
		if err != nil {
			return nil // the context has ended, and with it the speaker
		}
		select {
		case d.loop.best <- best:
		case <-ctx.Done():
			return nil
		}
	}
}

// followNextHops carries what the speaker wants to know of next hops to the loop.
func (d *Daemon) followNextHops(ctx context.Context) error {
	for {
		used, unused, err := d.speaker.NextHops(ctx)
		if err != nil {
			return nil // as above
		}
		select {
		case d.loop.nextHops <- hopUse{used, unused}:
		case <-ctx.Done():
			return nil
		}
	}
}

// openSpeaker makes the speaker, with what an earlier daemon had.
func (d *Daemon) openSpeaker() {
	old, err := remembered(d.cfg.StateDir)
	if err != nil {
		d.log.Warn("not known what an earlier daemon had in force", "err", err)
	}
	if old.Protocol == 0 {
		old.Protocol = route.Protocol
	}
	if d.expected, err = rememberedPeers(d.cfg.StateDir); err != nil {
		d.log.Warn("not known which BGP peers an earlier daemon had from listen ranges", "err", err)
	}
	d.restarting = foundRoutes(uint8(old.Protocol))
	d.bgpLog = newSeverity(d.log.Handler())
	d.speaker = bgp.New(bgp.Options{Log: slog.New(d.bgpLog).With("part", "bgp"), TrackNextHops: true, Restarting: d.restarting, Expected: d.expected})
}

// openFilter opens the packet filter. What is in the kernel from an earlier life
// stays until the datastore has been read.
func (d *Daemon) openFilter() error {
	kept, err := keeper.Take(d.cfg.RunDir)
	if err != nil {
		return err
	}
	d.acl, err = openFiltering(acl.Options{Log: d.log.With("part", "acl"), Prefixes: []string{defaultPrefix}, HostAction: acl.HostDrop,
		Own: d.cfg.OwnTables, Socket: kept})
	if err != nil {
		return err
	}
	readAhead(d.acl)
	if kept != nil && !d.cfg.OwnTables {
		_, err = keeper.End(d.cfg.RunDir) // the socket is ours until the tables are replaced
	}
	return err
}

// The sources of routes, as the route table knows them.
const (
	sourceLocal = "local"
	sourceBGP   = "bgp"
)
