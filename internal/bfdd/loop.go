// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bfdd

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/bfd"
)

const (
	// reportEvery is the least time between two reports: when a link with a
	// thousand sessions dies, whoever listens hears of it a few times, not a thousand.
	reportEvery = 10 * time.Millisecond
	// reopenEvery is how often a socket that could not be opened is tried again.
	reopenEvery = time.Second
	// endTime bounds how long neighbours are told that we go.
	endTime = 3 * time.Second
)

// loop owns the engine and the UDP sockets. Everything but post belongs to run.
type loop struct {
	log     *slog.Logger
	engine  *bfd.Engine
	bag     *mailbag
	inlets  map[inlet]int // the sockets of those that are needed; -1 could not be opened
	outlets map[bfd.Key]*outlet
	ports   map[int]bool
	poll    []unix.PollFd
	polled  []inlet // beside poll, from its second element on
	refused map[inlet]string
	reopen  time.Time

	now      time.Time
	ending   time.Time // when to go in any case; zero: not ending
	linger   time.Duration
	deadline time.Time // nobody wants the sessions any more; zero: somebody does
	handed   bool      // a set was handed over, once
	told     time.Time // last report
	publish  func(Report)
	base     Report

	mu    sync.Mutex
	calls []func()
	wake  int // eventfd
}

func newLoop(log *slog.Logger, base Report, publish func(Report)) (*loop, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{
		log: log, bag: newMailbag(), inlets: map[inlet]int{}, outlets: map[bfd.Key]*outlet{}, ports: map[int]bool{},
		refused: map[inlet]string{}, publish: publish, base: base, wake: wake, now: time.Now(),
	}
	l.engine = bfd.New(bfd.Options{Log: log, Send: l.send})
	// A process that nobody hands anything to has no reason to be.
	l.deadline = l.now.Add(30 * time.Second)
	return l, nil
}

// post has fn run by the loop.
func (l *loop) post(fn func()) {
	l.mu.Lock()
	l.calls = append(l.calls, fn)
	l.mu.Unlock()
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// set takes what is wanted.
func (l *loop) set(configs []bfd.Config, linger time.Duration) error {
	err := l.engine.Set(l.now, configs)
	l.linger, l.deadline, l.handed = linger, time.Time{}, true
	l.match()
	return err
}

// abandoned says that whoever wanted the sessions is gone.
func (l *loop) abandoned() {
	l.deadline = l.now.Add(l.linger)
	l.log.Info("the agent is gone; sessions are kept for it", "for", l.linger)
	l.tell()
}

// end says AdminDown everywhere, and has run return when that was heard.
func (l *loop) end() {
	if l.ending.IsZero() {
		l.ending = l.now.Add(endTime)
		_ = l.engine.Set(l.now, nil)
	}
}

// match opens the sockets that the sessions need, and closes the others.
func (l *loop) match() {
	need := map[inlet]bool{}
	sessions := map[bfd.Key]bool{}
	for _, k := range l.engine.Keys() {
		need[inletOf(k)], sessions[k] = true, true
		if l.outlets[k] == nil {
			l.outlets[k] = &outlet{fd: -1}
		}
	}
	for k, o := range l.outlets {
		if !sessions[k] {
			o.close(l.ports)
			delete(l.outlets, k)
		}
	}
	for i, fd := range l.inlets {
		if !need[i] {
			unix.Close(fd)
			delete(l.inlets, i)
		}
	}
	clear(l.refused)
	l.reopen = time.Time{}
	for i := range need {
		if _, open := l.inlets[i]; open {
			continue
		}
		fd, err := i.listen()
		if err != nil {
			l.refused[i] = err.Error()
			l.reopen = l.now.Add(reopenEvery)
			continue
		}
		l.inlets[i] = fd
	}
	l.poll = append(l.poll[:0], unix.PollFd{Fd: int32(l.wake), Events: unix.POLLIN})
	l.polled = l.polled[:0]
	for i, fd := range l.inlets {
		l.poll = append(l.poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		l.polled = append(l.polled, i)
	}
}

// send is the engine's way out. A session whose address is not there yet tries
// again with its next packet.
func (l *loop) send(k bfd.Key, packet []byte) {
	o := l.outlets[k]
	if o == nil {
		o = &outlet{fd: -1}
		l.outlets[k] = o
	}
	if o.fd < 0 && o.open(k, l.ports) != nil {
		return
	}
	err := unix.Sendto(o.fd, packet, unix.MSG_DONTWAIT, o.to)
	if err == unix.ECONNREFUSED { // what an earlier packet met; this one was not sent
		err = unix.Sendto(o.fd, packet, unix.MSG_DONTWAIT, o.to)
	}
	if (err == nil) != (o.err == nil) {
		l.told = time.Time{}
	}
	o.err = err
	switch err {
	case unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENODEV:
		o.close(l.ports) // the address or interface went: bind again
	case unix.ENETUNREACH:
		if k.Peer.Zone() != "" { // one of that name may be there, and another one
			o.close(l.ports)
		}
	}
}

// report is the state of everything.
func (l *loop) report() Report {
	r := l.base
	r.Sessions, r.Strays, r.EndsAt = l.engine.Sessions(), l.engine.Strays(), l.deadline
	for _, text := range l.refused {
		r.Problems = append(r.Problems, text)
	}
	for k, o := range l.outlets {
		if o.err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("cannot send to %s: %s", k.Peer, errText(o.err)))
		}
	}
	slices.Sort(r.Problems)
	return r
}

func (l *loop) tell() {
	l.told = l.now
	l.publish(l.report())
}

// run is the process's life. It is to be called on a locked thread. It returns
// when no session is wanted by anybody any more.
func (l *loop) run() error {
	l.match()
	changed := false
	for {
		l.now = time.Now()
		l.engine.Tick(l.now)
		if changed = l.engine.Changed() || changed; changed && l.now.Sub(l.told) >= reportEvery {
			changed = false
			l.match() // a session may have left
			l.tell()
		}
		if !l.reopen.IsZero() && !l.now.Before(l.reopen) {
			l.match()
			changed = true
		}
		if !l.deadline.IsZero() && !l.now.Before(l.deadline) {
			l.log.Info("no agent came back; sessions end")
			l.deadline = time.Time{}
			l.end()
		}
		switch {
		case l.engine.Empty() && (l.handed && l.deadline.IsZero() || !l.ending.IsZero()):
			return nil
		case !l.ending.IsZero() && !l.now.Before(l.ending):
			return nil
		}
		if err := l.wait(changed); err != nil {
			return err
		}
	}
}

// wait sleeps until something arrives, is posted or is due, and takes it.
func (l *loop) wait(reportDue bool) error {
	next := l.now.Add(time.Minute)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if due, ok := l.engine.Next(); ok {
		sooner(due)
	}
	sooner(l.deadline)
	sooner(l.ending)
	sooner(l.reopen)
	if reportDue {
		sooner(l.told.Add(reportEvery))
	}
	timeout := unix.NsecToTimespec(max(0, time.Until(next)).Nanoseconds())
	n, err := unix.Ppoll(l.poll, &timeout, nil)
	if err != nil && err != unix.EINTR {
		return os.NewSyscallError("ppoll", err)
	}
	if n <= 0 {
		return nil
	}
	l.now = time.Now()
	for i, in := range l.polled {
		if l.poll[i+1].Revents != 0 {
			// What is left of more than a few batches waits for the next
			// round: somebody who floods us must not keep us from sending.
			for range 4 {
				if !l.bag.receive(int(l.poll[i+1].Fd), in, l.take) {
					break
				}
			}
		}
	}
	if l.poll[0].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(l.wake, b[:])
		l.mu.Lock()
		calls := l.calls
		l.calls = nil
		l.mu.Unlock()
		for _, fn := range calls {
			fn()
		}
	}
	return nil
}

// take hands a packet to the engine, which counts what it discards.
func (l *loop) take(a bfd.Arrival) { _ = l.engine.Receive(l.now, a) }

// close gives everything back.
func (l *loop) close() {
	for _, fd := range l.inlets {
		unix.Close(fd)
	}
	for _, o := range l.outlets {
		o.close(l.ports)
	}
	unix.Close(l.wake)
}
