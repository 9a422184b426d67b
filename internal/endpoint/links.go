// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Links keeps the interfaces of live endpoints configured. It works in the
// network namespace of the goroutine that called Open; Sync, Resync, Remove
// and Prune must be called there too. Apart from Watch, which may run beside
// everything, methods must not be called concurrently.
type Links struct {
	opts Options
	wire *wire
	want map[string]Config
	last map[string]Status

	survey *survey // what to compare with; nil to look at each interface
}

// Open returns a Links that wants nothing yet.
func Open(o Options) (*Links, error) {
	w, err := openWire()
	if err != nil {
		return nil, err
	}
	return &Links{opts: o, wire: w, want: map[string]Config{}, last: map[string]Status{}}, nil
}

// Close releases the sockets. What was configured stays.
func (l *Links) Close() { l.wire.close() }

// Set states what an interface should have. It writes nothing; Sync does. It
// returns true if that is news.
func (l *Links) Set(name string, c Config) bool {
	old, ok := l.want[name]
	if ok && old.equal(c) {
		return false
	}
	c.Addrs, c.Host = slices.Clone(c.Addrs), slices.Clone(c.Host)
	l.want[name] = c
	return true
}

// Remove withdraws what Set stated and takes what is ours off the interface,
// if it is still there.
func (l *Links) Remove(name string) error {
	if _, ok := l.want[name]; !ok {
		return nil
	}
	delete(l.want, name)
	delete(l.last, name)
	if Check(name, l.opts.Prefixes, l.opts.Reserved) != nil {
		return nil // then nothing was ever done
	}
	link, err := l.wire.handle.LinkByName(name)
	if err == nil {
		err = l.clear(link.Attrs().Index)
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

// clear removes the addresses and neighbours that carry our mark.
func (l *Links) clear(index int) error {
	var changes []change
	addrs, err1 := l.wire.addrs(index)
	for _, a := range addrs {
		if a.proto == ownProtocol {
			changes = append(changes, l.wire.delAddr(index, a.prefix))
		}
	}
	neigh, err2 := l.wire.neighbours(index)
	for _, n := range neigh {
		if n.proto == ownProtocol {
			changes = append(changes, l.wire.delNeighbour(index, n.addr))
		}
	}
	return errors.Join(err1, err2, l.wire.write(changes...))
}

// Prune takes what is ours off all interfaces that nobody wants any more:
// what an earlier process put there for endpoints that have gone since. It is
// for when every endpoint has been Set once.
func (l *Links) Prune() error {
	addrs, err := l.wire.addrs(0)
	if err != nil {
		return err
	}
	neigh, err := l.wire.neighbours(0)
	if err != nil {
		return err
	}
	ours := map[int]bool{}
	for _, a := range addrs {
		if a.proto == ownProtocol {
			ours[a.index] = true
		}
	}
	for _, n := range neigh {
		if n.proto == ownProtocol {
			ours[n.index] = true
		}
	}
	var errs []error
	for index := range ours {
		link, err := l.wire.handle.LinkByIndex(index)
		if err == nil {
			name := link.Attrs().Name
			if _, ok := l.want[name]; ok || !hasPrefix(name, l.opts.Prefixes) {
				continue
			}
			l.opts.Log.Info("interface of no endpoint is cleared", "interface", name)
			err = l.clear(index)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("interface %d: %w", index, err))
		}
	}
	return errors.Join(errs...)
}

// Sync compares one interface with what it should have and writes what
// differs. An interface that was never Set is left alone. It is safe to call
// at any time and for any reason.
func (l *Links) Sync(name string) Status {
	c, ok := l.want[name]
	if !ok {
		return Status{}
	}
	s := l.sync(name, c)
	if s.Err != nil {
		s.State, s.Err = Failed, fmt.Errorf("interface %s: %w", name, s.Err)
	}
	l.last[name] = s
	return s
}

// Resync is Sync for all, and returns how many things were written.
func (l *Links) Resync() (writes int) {
	defer l.Survey()()
	for _, name := range slices.Sorted(maps.Keys(l.want)) {
		writes += l.Sync(name).Writes
	}
	return writes
}

// Enslaved reads which interfaces with a prefix are ports of something else.
func (l *Links) Enslaved() (map[string]bool, error) {
	all, err := l.wire.links()
	if err != nil {
		return nil, err
	}
	ports := map[string]bool{}
	for name, k := range all {
		if k.master != 0 && hasPrefix(name, l.opts.Prefixes) {
			ports[name] = true
		}
	}
	return ports, nil
}

// Status returns what the last Sync of an interface said.
func (l *Links) Status(name string) Status { return l.last[name] }

// All returns the last Status of every interface that was synced.
func (l *Links) All() iter.Seq2[string, Status] { return maps.All(l.last) }

func (l *Links) sync(name string, c Config) Status {
	if err := Check(name, l.opts.Prefixes, l.opts.Reserved); err != nil {
		return Status{Err: err}
	}
	k, addrs, neigh, err := l.look(name)
	if err != nil {
		if gone(err) {
			return Status{}
		}
		return Status{Err: err}
	}
	s := l.configure(&k, addrs, neigh, c)
	if s.Err == nil {
		return s
	}
	// Whatever failed because the interface went away, or was replaced, is not
	// an error: the kernel's notification brings us back.
	again, err := l.wire.link(name)
	if gone(err) || err == nil && again.index != s.Index {
		return Status{Writes: s.Writes}
	}
	return s
}

// configure does one interface. Kernel settings come first: an address that is
// added before accept_dad is off would wait for a second before it answers.
func (l *Links) configure(k *link, addrs []address, neigh []neighbour, c Config) Status {
	s := Status{Index: k.index, State: Down}
	switch {
	case k.flags&unix.IFF_LOOPBACK != 0:
		s.Err = fmt.Errorf("%w: a loopback interface cannot be routed to", ErrRefused)
		return s
	case k.master != 0:
		s.Err, s.Enslaved = fmt.Errorf("%w: it is in a bridge or the like, which would forward for it and ask no policy; take it out", ErrRefused), true
		return s
	}
	if k.up() {
		s.State = Ready
	}
	n, err1 := apply(hostSettings, k.name, k)
	v6 := hasIPv6()
	changes := append(l.addresses(k.index, addrs, c.Host, v6), l.statics(k.index, neigh, c, v6)...)
	err2 := l.wire.write(changes...)
	s.Writes = n + len(changes)
	s.Err = errors.Join(err1, err2)
	return s
}

// addresses adds the gateway addresses, and more, where they are missing, and
// takes away those of ours that are wanted no more. The kernel's
// own link-local address is the IPv6 one if the interface has the MAC
// ee:ee:ee:ee:ee:ee; that serves as well, once it is usable.
func (l *Links) addresses(index int, have []address, more []netip.Addr, v6 bool) (changes []change) {
	wanted := []netip.Prefix{gateway4, gateway6}
	for _, a := range more {
		wanted = append(wanted, netip.PrefixFrom(a, a.BitLen()))
	}
	for _, a := range have {
		if a.proto == ownProtocol && !slices.Contains(wanted, a.prefix) {
			changes = append(changes, l.wire.delAddr(index, a.prefix))
		}
	}
	for _, want := range wanted {
		if want.Addr().Is6() && !v6 {
			continue
		}
		i := slices.IndexFunc(have, func(a address) bool { return a.prefix.Addr() == want.Addr() })
		if i >= 0 {
			if have[i].flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
				continue
			}
			// It was added before duplicate address detection was turned off and
			// does not answer yet, or never will.
			changes = append(changes, l.wire.delAddr(index, have[i].prefix))
		}
		changes = append(changes, l.wire.addAddr(index, want))
	}
	return changes
}

// statics makes the neighbour entries of ours equal to what they should
// be. A permanent entry with the right content serves whoever made it; an
// entry that is not ours and not in the way is left alone.
func (l *Links) statics(index int, have []neighbour, c Config, v6 bool) (changes []change) {
	want := map[netip.Addr]bool{}
	if c.HasMAC {
		for _, a := range c.Addrs {
			if a.Is4() || v6 {
				want[a] = true
			}
		}
	}
	for _, n := range have {
		switch {
		case want[n.addr] && n.state&unix.NUD_PERMANENT != 0 && n.mac == c.MAC:
			delete(want, n.addr)
		case !want[n.addr] && n.proto == ownProtocol && n.state&unix.NUD_PERMANENT != 0:
			changes = append(changes, l.wire.delNeighbour(index, n.addr))
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(want), netip.Addr.Compare) {
		changes = append(changes, l.wire.setNeighbour(index, a, c.MAC))
	}
	return changes
}
