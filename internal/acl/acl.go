// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/muslin-net/muslin/internal/policy"
	"golang.org/x/sys/unix"
)

// Table is the desired and the actual state of our table. Only Watch may run
// beside other methods.
type Table struct {
	opts   Options
	sock   *socket
	events *socket
	port   atomic.Uint32
	flags  uint32 // of our tables
	sub    subscription
	ahead  chan *actual    // what ReadAhead reads, until it is taken
	after  <-chan struct{} // closed when a commit may be made; nil for at once

	sure      uint32           // the generation at which the whole was found to be right; 0 if it was not since the last commit
	reached   epoch            // the last one that this Table has begun; 0 for none
	noFrames  bool             // the kernel cannot hook interfaces to come
	noZones   bool             // the kernel's connection tracking has no zones
	maybeShut bool             // workloads may be shut out by a table of another name
	state     *state           // nil before the first Resync, and when track was lost
	bad       map[string]error // quarantined objects, by owner
	stats     Stats
	kept      map[hitsOf]Hits // what chains that are gone had counted
	last      time.Time       // when the last transaction was committed

	refuse func(m *msgs) error // tests make transactions fail
}

// Open connects to nf_tables and checks that the kernel has what the table
// needs. It changes nothing; the first Apply or Resync does. If it fails because a table of
// ours belongs to another process, all workloads are closed.
func Open(opts Options) (*Table, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	t := &Table{opts: opts, bad: map[string]error{}, maybeShut: true}
	var err error
	if t.sock, err = openOwner(opts); err != nil {
		return nil, err
	}
	// The socket for Watch is opened here, in the caller's namespace.
	if t.events, err = openSocket(opts.NetNS); err != nil {
		t.sock.close()
		return nil, err
	}
	t.opts.Socket = nil // taken
	t.port.Store(t.sock.port())
	lacks, err := t.sock.probe()
	if errors.Is(err, unix.EPERM) {
		if a, rerr := t.sock.read(); rerr == nil {
			err = errors.Join(err, t.shutOut(a))
		}
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	if t.noFrames = lacks.frames != nil; t.noFrames {
		t.opts.Log.Warn("frames of workloads that are neither IP nor ARP are left to the kernel, and guests get no answers to ARP", "err", lacks.frames)
	}
	if t.noZones = lacks.zones != nil; t.noZones {
		t.opts.Log.Warn("workloads may not send from networks besides their addresses, whatever is allowed", "err", lacks.zones)
	}
	t.opts.AnySource = opts.AnySource && !t.noZones
	switch {
	case opts.Own && lacks.owners != nil:
		t.opts.Log.Warn("the tables do not belong to this agent: what others change is repaired", "err", lacks.owners)
	case opts.Own:
		t.flags = nftTableOwner | nftTablePersist
	}
	return t, nil
}

// Close ends the connection and leaves the table in force.
func (t *Table) Close() error {
	t.awaitAhead()
	return errors.Join(t.sock.close(), t.events.close())
}

// Teardown removes the tables: every workload is open afterwards.
func (t *Table) Teardown() error {
	t.awaitAhead()
	t.state = nil
	if err := t.sock.unshut(); err != nil {
		return fmt.Errorf("remove nftables table %s: %w", shutName, err)
	}
	var m msgs
	for _, table := range tables {
		flags, err := t.sock.tableFlags(table)
		if err != nil {
			return err
		}
		m.addTable(table, flags) // so that the next message finds one
		m.delTable(table)
	}
	if err := t.commit(&m); err != nil {
		return fmt.Errorf("remove nftables tables %s: %w", TableName, err)
	}
	return nil
}

// SetOptions changes the options, except Log, NetNS, Own and Socket. The next Apply or
// Resync puts them in force: most in one transaction of the size of the change, and by
// comparing the whole table those that are in every policy (see light).
func (t *Table) SetOptions(opts Options) error {
	opts.Log, opts.NetNS, opts.AnySource = t.opts.Log, t.opts.NetNS, opts.AnySource && !t.noZones
	opts.Own, opts.Socket = t.opts.Own, nil
	if err := opts.check(); err != nil {
		return err
	}
	t.opts = opts
	if t.state != nil && !t.state.opts.light(opts) {
		t.state = nil
	}
	return nil
}

// Stats returns the counters.
func (t *Table) Stats() Stats { return t.stats }

// Problems returns the objects that are closed because they could not be put
// in force, sorted by name.
func (t *Table) Problems() []Problem {
	all := map[string]error{}
	if t.state != nil {
		maps.Copy(all, t.state.problems)
	}
	maps.Copy(all, t.bad)
	var out []Problem
	for _, o := range slices.Sorted(maps.Keys(all)) {
		out = append(out, Problem{o, all[o]})
	}
	return out
}

func (t *Table) renderer() *renderer {
	return &renderer{opts: t.opts, flags: t.flags, noFrames: t.noFrames, bad: t.bad}
}

// Apply puts the change in force in one transaction, whose size depends on
// the change only; with nothing to change it writes nothing. New interval sets
// are made in one before it. If the kernel refuses it, the previous ruleset
// stays in force while the objects to blame are found; they are then closed and
// listed by Problems, and the rest is applied. An error means that the previous
// ruleset is in force, and that the next Apply or Resync starts from the whole
// view.
func (t *Table) Apply(view policy.View, ch policy.Changes) error {
	if t.state == nil || t.retries(&ch) {
		return t.Resync(view)
	}
	if ch.Empty() && t.state.opts.same(t.opts) {
		return nil
	}
	r := t.renderer()
	r.epoch = t.state.epoch.next()
	t.reached = r.epoch
	c := t.state.stage(r, view, &ch)
	if c.lost {
		return t.Resync(view)
	}
	before, m := incremental(c, view, r, t.state.epoch)
	if len(before.starts)+len(m.starts)+len(c.entryDel) == 0 {
		return nil
	}
	t.keepHits(c, &ch)
	t.await()
	if err := t.commit(before, m); err != nil {
		t.opts.Log.Warn("nftables change refused, comparing the whole table", "err", err)
		t.state = nil
		return t.Resync(view)
	}
	if len(m.starts) > 0 {
		t.state.epoch = r.epoch
	}
	if err := t.commit(leftovers(c, r)); err != nil {
		t.state = nil
		return err
	}
	return nil
}

// retries tells whether the change touches a quarantined object, and takes
// all out of quarantine if so.
func (t *Table) retries(ch *policy.Changes) bool {
	if len(t.bad) == 0 {
		return false
	}
	touched := false
	for k := range ch.Policies {
		touched = touched || t.bad[policyOwner(k)] != nil
	}
	for id := range ch.Effectives {
		touched = touched || t.bad[effectiveOwner(id)] != nil
	}
	for id := range ch.Endpoints {
		touched = touched || t.bad[endpointOwner(id)] != nil
	}
	for id := range ch.Sets {
		for _, f := range []*family{ipv4, ipv6} {
			for _, as := range forms {
				for _, denial := range []bool{false, true} {
					touched = touched || !as.nets() && t.bad[portSet(id, f, as, denial).owner()] != nil
					touched = touched || t.bad[memberSet(id, f, as, denial).owner()] != nil
				}
			}
		}
	}
	return touched
}

// Resync compares the whole view with the kernel, by content, and writes the
// difference in one transaction, after one with new interval sets; with none it
// writes nothing. Tables that are not there are made in several (create). What
// failed before is tried again.
func (t *Table) Resync(view policy.View) error {
	clear(t.bad)
	t.state = nil
	err := t.resync(view)
	for range maxBlame {
		var r refusals
		if !errors.As(err, &r) || !t.blame(r) {
			break
		}
		err = t.resync(view)
	}
	var r refusals
	if errors.As(err, &r) {
		err = t.bisect(view, err)
	}
	return err
}

// maxBlame bounds how often a transaction is tried again without the objects
// that the kernel named.
const maxBlame = 8

// blame quarantines the owners of the refused messages and tells whether
// there were new ones.
func (t *Table) blame(r refusals) bool {
	found := false
	for _, x := range r {
		if x.owner == "" || t.bad[x.owner] != nil {
			continue
		}
		t.bad[x.owner] = fmt.Errorf("nftables: %w", x.errno)
		t.opts.Log.Error("object refused by nftables, closed", "object", x.owner, "err", x.errno)
		found = true
	}
	return found
}

// resync is one attempt with the present quarantine. One transaction is committed
// while the next is worked out, if there are several.
func (t *Table) resync(view policy.View) error {
	list := make(chan *msgs)
	done := make(chan error)
	written := 0
	go func() {
		var err error
		for m := range list {
			written += len(m.starts)
			if err == nil { // else the others are in vain
				err = t.commit(m)
			}
		}
		done <- err
	}()
	st, gen, err := t.compare(view, func(m *msgs) { list <- m })
	close(list)
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	if written == 0 {
		t.sure = gen
	}
	if st.again {
		var end tx
		end.endAgain(t.renderer().again())
		if err := t.commit(end.all()); err != nil {
			return err
		}
	}
	if t.maybeShut {
		if err := t.sock.unshut(); err != nil {
			return err
		}
		t.maybeShut = false
	}
	t.state = st
	return nil
}

// shutOut closes all workloads: the tables that should do it belong to another process.
func (t *Table) shutOut(a *actual) error {
	if a.lastPolicy() {
		return nil
	}
	t.maybeShut = true
	return t.sock.shut(t.opts.Prefixes)
}

// Unchanged tells whether another Resync would find nothing, as long as the view
// is what it was: the whole has been compared and was right, and nobody has
// committed anything since.
func (t *Table) Unchanged() bool {
	if t.state == nil || t.sure == 0 || len(t.bad) > 0 || !t.state.opts.same(t.opts) {
		return false
	}
	gen, err := t.sock.generation()
	return err == nil && gen == t.sure
}

// compare gives the transactions that make the kernel equal to the view, one after
// the other, of which any may be empty. It returns what is in force after
// them, and the generation that they are for.
func (t *Table) compare(view policy.View, give func(*msgs)) (st *state, gen uint32, err error) {
	a, err := t.read()
	if err != nil {
		return nil, 0, err
	}
	for table, have := range a.tables {
		if have.owner != 0 && have.owner != t.port.Load() {
			err := fmt.Errorf("table %s belongs to another process (netlink port %d): stop it, or remove the table", tableWord(table), have.owner)
			return nil, 0, errors.Join(err, t.shutOut(a))
		}
	}
	r := t.renderer()
	was, steady := a.epoch(r)
	r.epoch = was.next()
	switch {
	case steady:
	case t.reached > 0: // somebody else has changed it since
		r.epoch = t.reached.next()
	default:
		r.epoch = t.freshEpoch(anyEpoch())
	}
	t.reached = r.epoch
	if a.tables[inetTable] == nil {
		return t.create(a, view, r, give), a.gen, nil
	}
	st, w := entire(r, view, a)
	st.epoch = r.epoch
	before, m, again, ok := w.repair(a, view, r, was, steady)
	if !ok {
		t.opts.Log.Warn("nftables tables, or objects of ours in them, have other definitions, replacing them", "tables", TableName)
		return t.replace(a, view, r, give), a.gen, nil
	}
	if len(before.starts)+len(m.starts) == 0 {
		st.epoch = was
	}
	st.again = again
	t.await()
	give(before)
	give(m)
	return st, a.gen, nil
}

// CommitAfter lets Apply and Resync work out what to write at once, and put it in
// force no sooner than ready is closed. nil takes that back.
func (t *Table) CommitAfter(ready <-chan struct{}) { t.after = ready }

func (t *Table) await() {
	if t.after != nil {
		<-t.after
	}
}

// grace is between two transactions. The kernel keeps the rules of two
// generations: a packet that is among those of one while two more come would
// read parts of the third, and slip through between a denial that has gone and
// one that is not there for it yet.
const grace = time.Millisecond

// commit puts transactions in force one after the other; an empty one is none.
func (t *Table) commit(list ...*msgs) error {
	for _, m := range list {
		if len(m.starts) == 0 {
			continue
		}
		if err := t.commitOne(m); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) commitOne(m *msgs) error {
	t.sure = 0
	if wait := grace - time.Since(t.last); wait > 0 {
		time.Sleep(wait)
	}
	defer func() { t.last = time.Now() }()
	if t.refuse != nil {
		if err := t.refuse(m); err != nil {
			t.stats.Failed++
			return err
		}
	}
	transact := func() error { return t.sock.transact(m) }
	var err error
	if len(m.data) < unobserved {
		err = transact()
	} else {
		err = t.quietly(transact)
	}
	if err != nil {
		t.stats.Failed++
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w (CAP_NET_ADMIN is needed, and no table %s may belong to another process)", err, TableName)
		}
		return err
	}
	t.stats.Commits++
	t.stats.Messages += len(m.starts)
	t.stats.Bytes += len(m.data)
	return nil
}

// bisect finds the objects whose presence makes the kernel refuse the whole
// without saying why. It closes all that the transaction is about, and lets
// them in again by halves.
func (t *Table) bisect(view policy.View, cause error) error {
	suspects := map[string]bool{}
	_, _, err := t.compare(view, func(m *msgs) {
		for _, o := range m.owners {
			if o != "" && t.bad[o] == nil {
				suspects[o] = true
			}
		}
	})
	if err != nil {
		return err
	}
	list := slices.Sorted(maps.Keys(suspects))
	slices.SortStableFunc(list, func(a, b string) int { return releaseRank(a) - releaseRank(b) })
	if len(list) == 0 {
		return cause
	}
	for _, o := range list {
		t.bad[o] = cause
	}
	if err := t.resync(view); err != nil {
		for _, o := range list {
			delete(t.bad, o)
		}
		return err // not an object's fault
	}
	t.release(view, list)
	for _, o := range list {
		if t.bad[o] != nil {
			t.opts.Log.Error("object refused by nftables, closed", "object", o, "err", cause)
		}
	}
	if t.state == nil {
		return t.resync(view)
	}
	return nil
}

// releaseRank orders objects for release: what uses a policy comes before the
// policy, so that each policy is tried in use and blamed alone.
func releaseRank(owner string) int {
	for i, prefix := range []string{setOwner(""), effectiveOwner(""), "WorkloadEndpoint "} {
		if strings.HasPrefix(owner, prefix) {
			return i
		}
	}
	return 3
}

// release takes the suspects out of quarantine as far as the kernel lets it.
func (t *Table) release(view policy.View, list []string) {
	saved := map[string]error{}
	for _, o := range list {
		saved[o] = t.bad[o]
		delete(t.bad, o)
	}
	err := t.resync(view)
	if err == nil {
		return
	}
	t.state = nil
	maps.Copy(t.bad, saved)
	if len(list) > 1 {
		t.release(view, list[:len(list)/2])
		t.release(view, list[len(list)/2:])
	}
}
