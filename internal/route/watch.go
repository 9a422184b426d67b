// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/unread"
)

const (
	// watchBuffer is the kernel's room for notifications that we have not read.
	watchBuffer = 64 << 20
	// queueLimit is how many of them wait for Apply; beyond, it reads the table.
	queueLimit = 16 << 10
	// reopenDelay paces attempts to replace a broken socket.
	reopenDelay = 100 * time.Millisecond
)

// fact is one notification, read.
type fact struct {
	kind    uint16 // RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR, RTM_NEWNEXTHOP, RTM_DELNEXTHOP
	flags   uint16
	route   kernelRoute // of an address: its family only
	lost    bool        // of a link: it went down or away
	ifindex uint32      // of a link or an address
	link    linkState   // of a link
	object  uint32      // of a next-hop object: its number
}

// queue takes notifications from the kernel to Apply.
type queue struct {
	mu       sync.Mutex
	file     *os.File
	facts    []fact
	overflow bool // some are missing
	overruns uint64
	told     bool // notify was called, and Apply has not looked yet
	closed   bool
}

// subscribe opens the notification socket in the namespace of the calling
// thread, unless it is open, and hides from it what the request socket with
// the given port number causes: 500,000 routes of our own would only overrun it.
//
// Of addresses we hear those that go. With the last IPv4 address of an
// interface the kernel drops every IPv4 route through it and tells of none
// (fib_disable_ip); for IPv6 it can be told to do the same
// (skip_notify_on_dev_down). An address that comes brings routes that are told of.
func (q *queue) subscribe(ownPort uint32) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errClosed
	}
	if q.file == nil {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("notification socket: %w", err)
		}
		receiveBuffer(fd, watchBuffer)
		groups := uint32(1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) |
			1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) | 1<<(rtnlgrpNexthop-1))
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
			unix.Close(fd)
			return fmt.Errorf("subscribe to routes, links and addresses: %w", err)
		}
		q.file = os.NewFile(uintptr(fd), "route notifications")
	}
	raw, err := q.file.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = attachFilter(int(fd), ownPort) }); err != nil {
		return err
	}
	return ferr
}

// attachFilter keeps back notifications about what ownPort requested, about
// tables other than main, and about addresses that come or whose lifetimes are
// renewed, which happens all the time.
func attachFilter(fd int, ownPort uint32) error {
	// The filter loads words big-endian; headers are in the machine's order.
	var port [4]byte
	ne.PutUint32(port[:], ownPort)
	typ := func(t uint16) uint32 {
		var b [2]byte
		ne.PutUint16(b[:], t)
		return uint32(binary.BigEndian.Uint16(b[:]))
	}
	const drop, take = 0, 0xffffffff
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12}, // nlmsg_pid
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(port[:]), Jt: 7},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4}, // nlmsg_type
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: typ(unix.RTM_NEWADDR), Jt: 5},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: typ(unix.RTM_NEWROUTE), Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: typ(unix.RTM_DELROUTE), Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: atTable},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.RT_TABLE_MAIN, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: take},
		{Code: unix.BPF_RET | unix.BPF_K, K: drop},
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	if err != nil {
		return fmt.Errorf("filter notifications: %w", err)
	}
	return nil
}

func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.file == nil {
		return nil
	}
	err := q.file.Close()
	q.file = nil
	return err
}

// Watch reads notifications until ctx ends or the table is closed, which is no
// error; a broken socket is replaced, and what was missed read anew. It calls
// notify, from its own goroutine, when an Apply would find something to look
// at: a route of ours changed or gone, a link up or down, a subnet that came,
// an address that went. Between two calls of Apply it calls notify once. notify
// must not block and must not call into the table.
func (t *Table) Watch(ctx context.Context, notify func()) error {
	q := &t.events
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil {
		q.mu.Lock()
		file := q.file
		q.mu.Unlock()
		err := q.read(ctx, file, buf, notify)
		q.mu.Lock()
		closed := q.closed
		q.mu.Unlock()
		if closed || ctx.Err() != nil {
			return nil
		}
		if t.log != nil {
			t.log.Warn("route notifications interrupted, opening them again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reopenDelay):
		}
		if err := t.reopen(); err == nil {
			q.tell(notify)
		}
	}
	return nil
}

// reopen replaces a broken notification socket. What was missed is read anew.
func (t *Table) reopen() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := &t.events
	q.mu.Lock()
	if q.file != nil {
		q.file.Close()
	}
	q.file, q.overflow = nil, true
	q.mu.Unlock()
	return t.inside(func() error { return q.subscribe(t.conn.port) })
}

// read takes notifications in until the socket fails or ctx ends.
func (q *queue) read(ctx context.Context, file *os.File, buf []byte, notify func()) error {
	if file == nil {
		return errors.New("no socket")
	}
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { file.SetReadDeadline(time.Unix(1, 0)) })()
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(rerr, unix.EAGAIN) && !errors.Is(rerr, unix.EINTR)
		})
		switch {
		case err != nil:
			return err
		case errors.Is(rerr, unix.ENOBUFS): // said once, however many were lost
			if err := raw.Control(func(fd uintptr) { unread.Discard(int(fd)) }); err != nil {
				return err
			}
			q.mu.Lock()
			q.overflow, q.facts = true, nil
			q.overruns++
			q.mu.Unlock()
			q.tell(notify)
			continue
		case rerr != nil:
			return rerr
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // not from the kernel
		}
		if q.take(buf[:n]) {
			q.tell(notify)
		}
	}
}

// take files the notifications in a datagram and tells whether there were any.
func (q *queue) take(d []byte) (any bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		m, rest, ok := nextMessage(d)
		if !ok {
			return any
		}
		d = rest
		f := fact{kind: m.typ, flags: m.flags}
		switch m.typ {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if !f.route.parse(m.data) || f.route.table != unix.RT_TABLE_MAIN {
				continue
			}
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			// A bridge tells of its ports with the same message types.
			if len(m.data) < unix.SizeofIfInfomsg || m.data[0] != unix.AF_UNSPEC {
				continue
			}
			if f.ifindex, f.link = parseLink(m.data); m.typ == unix.RTM_DELLINK {
				f.link = linkState{}
			}
			f.lost = !f.link.up
		case unix.RTM_DELADDR:
			if len(m.data) < unix.SizeofIfAddrmsg {
				continue
			}
			f.route.family, f.ifindex = m.data[0], ne.Uint32(m.data[4:])
		case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
			if f.object = objectNumber(m.data); f.object == 0 {
				continue
			}
		default:
			continue
		}
		any = true
		if len(q.facts) >= queueLimit {
			q.overflow = true
		}
		if q.overflow {
			q.facts = nil
			continue
		}
		q.facts = append(q.facts, f)
	}
}

func (q *queue) tell(notify func()) {
	q.mu.Lock()
	told := q.told
	q.told = true
	q.mu.Unlock()
	if !told {
		notify()
	}
}

// takeIn applies the notifications that Watch has read since the last time.
func (t *Table) takeIn() {
	q := &t.events
	q.mu.Lock()
	facts, overflow := q.facts, q.overflow
	q.facts, q.overflow, q.told = nil, false, false
	q.mu.Unlock()
	if overflow {
		t.stale = true
	}
	if t.stale {
		return // the table is about to be read, which supersedes them
	}
	now := t.now()
	var lost map[uint32]bool // links: what their addresses took with them is known
	for i := range facts {
		f := &facts[i]
		var again reread
		switch {
		case f.kind == unix.RTM_NEWLINK || f.kind == unix.RTM_DELLINK:
			t.linked = t.topo.observeLink(f.ifindex, f.link) || t.linked || len(t.v4.problems)+len(t.v6.problems) > 0
			// The kernel drops those of a link that goes down or loses its carrier,
			// and takes what it refused when it comes back.
			t.objs.stale = t.objs.stale || t.objs.lead(f.ifindex) || len(t.objs.failed) > 0
			if f.lost {
				if lost == nil {
					lost = map[uint32]bool{}
				}
				lost[f.ifindex] = true
				lost4, lost6 := t.v4.linkLost(f.ifindex), t.v6.linkLost(f.ifindex)
				if lost4 || lost6 {
					t.relink, again = true, rereadOurs
				}
			}
		case f.kind == unix.RTM_NEWNEXTHOP || f.kind == unix.RTM_DELNEXTHOP:
			t.observeObject(f.object, f.kind == unix.RTM_DELNEXTHOP)
		case f.kind == unix.RTM_DELADDR:
			switch {
			case lost[f.ifindex]:
			case f.route.family == unix.AF_INET && t.v4.uses(f.ifindex), f.route.family == unix.AF_INET6 && t.v6.uses(f.ifindex):
				again = rereadAll
			}
		case f.route.family == unix.AF_INET:
			again = t.v4.observe(&f.route, f.kind == unix.RTM_DELROUTE, f.flags, now)
		default:
			again = t.v6.observe(&f.route, f.kind == unix.RTM_DELROUTE, f.flags, now)
		}
		switch again {
		case rereadAll:
			t.stale = true
			return
		case rereadOurs:
			t.staleOwn = true
		case rereadForeign:
			if t.staleOf == nil {
				t.staleOf = map[foreignPart]bool{}
			}
			t.staleOf[foreignPart{f.route.family, f.route.proto}] = true
		}
	}
}

// observeObject takes in that somebody made, changed or removed a next-hop
// object. With it the kernel drops its routes, those of IPv4 without a word.
func (t *Table) observeObject(id uint32, deleted bool) {
	_, ours := t.objs.have[id]
	if ours || id >= objectBase && id <= objectBase|objectMask {
		t.objs.stale = true
	}
	if !deleted {
		return
	}
	if ours {
		t.objs.lost[id] = true
		return
	}
	gone := func(r *foreignRoute) bool { return r.object == id }
	if t.topo.objects[id] > 0 {
		t.v4.dropAllForeign(gone)
		t.v6.dropAllForeign(gone)
	}
}
