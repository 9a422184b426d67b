// SPDX-License-Identifier: Apache-2.0

//go:build linux

package endpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/unread"
)

// watchBuffer is the receive buffer of the watching socket: room for the
// notifications of some ten thousand interfaces at once.
const watchBuffer = 32 << 20

// Watcher reports interfaces that changed in the kernel.
type Watcher struct {
	sock     *nl.NetlinkSocket
	prefixes []string
	names    map[int]string // interfaces with one of our prefixes
	wire     *wire
}

// Watch subscribes, in the network namespace of the caller, to notifications
// about links, addresses, neighbours and forwarding. From its return on no
// change is missed; Run delivers them, and may be called on any goroutine.
func (l *Links) Watch() (*Watcher, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	// Without the right to exceed the system's limit, the limit has to do; what
	// does not fit is noticed and leads to a look at everything.
	if s.SetReceiveBufferSize(watchBuffer, true) != nil {
		_ = s.SetReceiveBufferSize(watchBuffer, false)
	}
	w := &Watcher{sock: s, prefixes: l.opts.Prefixes, wire: l.wire}
	if err := w.list(); err != nil {
		s.Close()
		return nil, err
	}
	return w, nil
}

// list learns the names of all interfaces: notifications about addresses and
// neighbours have only the index.
func (w *Watcher) list() error {
	links, err := w.wire.handle.LinkList()
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) { // what changed meanwhile is notified
		return fmt.Errorf("list interfaces: %w", err)
	}
	w.names = map[int]string{}
	for _, l := range links {
		if hasPrefix(l.Attrs().Name, w.prefixes) {
			w.names[l.Attrs().Index] = l.Attrs().Name
		}
	}
	return nil
}

// Run calls changed with the names of interfaces that may differ from what
// they were, in no order, or with nil when any of them may. It is called on
// two goroutines and should only take note. Run returns nil when ctx ends; it
// closes the Watcher.
func (w *Watcher) Run(ctx context.Context, changed func(names []string)) error {
	stop := context.AfterFunc(ctx, w.sock.Close)
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { w.lookAtSettings(ctx, changed) })
	defer func() {
		cancel()
		looking.Wait()
		if stop() {
			w.sock.Close()
		}
	}()
	for {
		msgs, from, err := w.sock.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			// Some notifications are lost: all names may be wrong by now.
			unread.Discard(w.sock.GetFd())
			if err := w.list(); err != nil {
				return err
			}
			changed(nil)
			continue
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return fmt.Errorf("watch interfaces: %w", err)
		case from.Pid != nl.PidKernel:
			continue // another process cannot tell us anything
		}
		names, all := w.read(msgs)
		if all {
			changed(nil)
		} else if len(names) > 0 {
			changed(names)
		}
	}
}

const (
	// lookEvery is how often settings are looked at: of some, as accept_ra and route_localnet, the kernel
	// tells nobody.
	lookEvery = 4 * time.Second
	// lookShare bounds which part of a processor that takes, where interfaces are very many.
	lookShare = 300
)

// lookAtSettings finds interfaces whose settings are not as Sync leaves them.
func (w *Watcher) lookAtSettings(ctx context.Context, changed func(names []string)) {
	for pause := lookEvery; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		start := time.Now()
		links, err := w.wire.links()
		pause = max(lookEvery, lookShare*time.Since(start))
		if err != nil {
			continue // there is another look
		}
		var names []string
		for name, k := range links {
			if hasPrefix(name, w.prefixes) && !k.asSet() {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			changed(names)
		}
	}
}

// read returns the names that a batch of notifications is about, once each.
func (w *Watcher) read(msgs []syscall.NetlinkMessage) (names []string, all bool) {
	seen := map[string]bool{}
	note := func(name string, ok bool) {
		if ok && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, m := range msgs {
		switch m.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			for _, name := range w.link(m) {
				note(name, true)
			}
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			if a, ok := parseAddr(m.Data); ok {
				name, ours := w.names[a.index]
				note(name, ours)
			}
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			// Entries come and go with traffic. Only those with our mark matter;
			// one that was changed by somebody else keeps it.
			if n, ok := parseNeighbour(m.Data); ok && n.proto == ownProtocol {
				name, ours := w.names[n.index]
				note(name, ours)
			}
		case unix.RTM_NEWNETCONF:
			name, ours, every := w.netconf(m.Data)
			note(name, ours)
			all = all || every
		}
	}
	return names, all
}

// link follows the name of an interface through creation, renaming and
// deletion, and returns the names concerned, the former one included.
func (w *Watcher) link(m syscall.NetlinkMessage) (names []string) {
	if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] == unix.AF_BRIDGE {
		return nil
	}
	index := int(binary.NativeEndian.Uint32(m.Data[4:]))
	old, had := w.names[index]
	name := ""
	for typ, v := range attributes(m.Data[unix.SizeofIfInfomsg:]) {
		if typ == unix.IFLA_IFNAME {
			name = unix.ByteSliceToString(v)
			break
		}
	}
	if had && old != name {
		names = append(names, old)
	}
	delete(w.names, index)
	if hasPrefix(name, w.prefixes) {
		names = append(names, name)
		if m.Header.Type == unix.RTM_NEWLINK {
			w.names[index] = name
		}
	}
	return names
}

// netconf reads a notification about forwarding or reverse-path settings.
func (w *Watcher) netconf(b []byte) (name string, ours, all bool) {
	if len(b) < unix.NLA_ALIGNTO { // struct netconfmsg is one byte, aligned
		return "", false, false
	}
	for typ, v := range attributes(b[unix.NLA_ALIGNTO:]) {
		if typ != netconfaIfindex || len(v) != 4 {
			continue
		}
		index := int32(binary.NativeEndian.Uint32(v))
		if index == -1 { // "all": the kernel changed every interface
			return "", false, true
		}
		name, ours = w.names[int(index)]
	}
	return name, ours, false
}
