// SPDX-License-Identifier: Apache-2.0

//go:build linux

package acl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socket is one lasting netlink socket to nf_tables. Not safe for concurrent use.
type socket struct {
	file *os.File
	raw  syscall.RawConn
	seq  uint32
	buf  []byte
	sent int // bytes the send buffer is known to hold
}

const recvBuffer = 32 << 20

// answerTimeout is how long the kernel may take for an answer. Tests shorten it.
var answerTimeout = 20 * time.Second

func openSocket(netns int) (*socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("open netfilter netlink socket: %w", err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	file, err := duplicate(raw)
	if err != nil {
		return nil, err
	}
	return newSocket(file)
}

// duplicate is another descriptor of the same socket.
func duplicate(raw syscall.RawConn) (*os.File, error) {
	var dup int
	var err error
	cerr := raw.Control(func(fd uintptr) { dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(cerr, err); err != nil {
		return nil, fmt.Errorf("duplicate netfilter netlink socket: %w", err)
	}
	return os.NewFile(uintptr(dup), "netlink"), nil
}

func newSocket(file *os.File) (*socket, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	s := &socket{file: file, raw: raw, seq: uint32(time.Now().Unix()), buf: make([]byte, 1<<16)}
	s.option(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, recvBuffer)
	s.grow(1 << 20)
	return s, nil
}

// option sets a buffer size beyond the system's limit, or up to it if that is
// not allowed here.
func (s *socket) option(force, plain, n int) {
	s.raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, force, n) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, plain, n)
		}
	})
}

// grow makes room for sending n bytes as one message.
func (s *socket) grow(n int) {
	if n > s.sent {
		s.option(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, n+n/2)
		s.sent = n
	}
}

// send sends the parts as one datagram, which spares a copy of large ones.
func (s *socket) send(parts ...[]byte) error {
	var err error
	werr := s.raw.Write(func(fd uintptr) bool {
		_, err = unix.SendmsgBuffers(int(fd), parts, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}, 0)
		return err != unix.EAGAIN
	})
	return errors.Join(werr, err)
}

// receive reads one datagram and calls f for each message in it.
func (s *socket) receive(f func(typ, flags uint16, seq, pid uint32, data []byte) error) error {
	var n int
	var err error
	rerr := s.raw.Read(func(fd uintptr) bool {
		for {
			var size int
			// The kernel says how much is waiting; what does not fit would be lost.
			size, _, err = unix.Recvfrom(int(fd), nil, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			if err == nil && size > len(s.buf) {
				s.buf = make([]byte, size)
			}
			if err == nil {
				n, _, err = unix.Recvfrom(int(fd), s.buf, unix.MSG_DONTWAIT)
			}
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if rerr != nil {
		return rerr
	}
	if err != nil {
		return err
	}
	for b := s.buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
		l := int(binary.NativeEndian.Uint32(b))
		if l < unix.NLMSG_HDRLEN || l > len(b) {
			return errors.New("netlink: malformed message")
		}
		if err := f(binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]),
			binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:]), b[unix.NLMSG_HDRLEN:l]); err != nil {
			return err
		}
		b = b[min((l+3)&^3, len(b)):]
	}
	return nil
}

func errnoOf(data []byte) syscall.Errno {
	if len(data) < 4 {
		return unix.EBADMSG
	}
	return syscall.Errno(-int32(binary.NativeEndian.Uint32(data)))
}

// refusal is one message of a transaction that the kernel refused. Owner is
// empty if the blame is not an object's, or not known.
type refusal struct {
	owner string
	errno syscall.Errno
}

// refusals is the error of a transaction that was not committed: nothing of it
// is in force.
type refusals []refusal

func (r refusals) Error() string {
	if r[0].owner == "" {
		return fmt.Sprintf("nftables transaction refused: %v", r[0].errno)
	}
	return fmt.Sprintf("nftables transaction refused: %s: %v", r[0].owner, r[0].errno)
}

func (r refusals) Unwrap() error { return r[0].errno }

// errUnknown means that the answer did not come: the transaction may be in force.
var errUnknown = errors.New("nftables transaction: outcome unknown")

// transact sends the messages as one transaction and waits for the outcome.
// It returns refusals if the kernel refused it.
func (s *socket) transact(m *msgs) error {
	if len(m.starts) == 0 {
		return nil
	}
	var begin, end msgs
	begin.header("", unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
	begin.end()
	end.header("", unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
	end.end()
	first, n := s.seq+1, len(m.starts)
	s.seq += uint32(n) + 2
	number := func(b []byte, i int) { binary.NativeEndian.PutUint32(b[8:], first+uint32(i)) }
	number(begin.data, 0)
	for i, at := range m.starts {
		number(m.data[at:], 1+i)
	}
	number(end.data, 1+n)
	// Only the last object is acknowledged: the answers to those before it,
	// which come only if they fail, arrive earlier.
	last := m.data[m.starts[n-1]:]
	binary.NativeEndian.PutUint16(last[6:], binary.NativeEndian.Uint16(last[6:])|unix.NLM_F_ACK)

	bytes := len(begin.data) + len(m.data) + len(end.data)
	s.grow(bytes)
	s.file.SetDeadline(time.Now().Add(answerTimeout))
	if err := s.send(begin.data, m.data, end.data); err != nil {
		return fmt.Errorf("send nftables transaction of %d bytes: %w", bytes, err)
	}
	var refused refusals
	for done := false; !done; {
		err := s.receive(func(typ, _ uint16, seq, _ uint32, data []byte) error {
			i := int(int32(seq - first))
			if typ != unix.NLMSG_ERROR || i < 0 || i >= n+2 {
				return nil // of an earlier request
			}
			if errno := errnoOf(data); errno != 0 {
				owner := ""
				if 1 <= i && i <= n {
					owner = m.owners[i-1]
				}
				refused = append(refused, refusal{owner, errno})
			}
			// An answer to the first message speaks for the whole batch.
			done = done || i == 0 || i == n
			return nil
		})
		if err != nil {
			return fmt.Errorf("%w: %w", errUnknown, err)
		}
	}
	if len(refused) > 0 {
		return refused
	}
	return nil
}

// errInterrupted means that the ruleset changed during a dump.
var errInterrupted = errors.New("netlink: dump interrupted")

// dump sends a request about one of our tables to nf_tables and calls f with the
// attributes of each answer.
func (s *socket) dump(table byte, typ uint16, flags uint16, put func(b *buf), f func(attrs []byte)) error {
	var m msgs
	m.begin("", table, typ, flags)
	if put != nil {
		put(&m.data)
	}
	m.end()
	return s.request(&m, flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP, f, func() error { return nil })
}

// request sends one message and calls f with the attributes of each answer, and
// piece after each datagram of them; of a dump there are many.
func (s *socket) request(m *msgs, dump bool, f func(attrs []byte), piece func() error) error {
	s.seq++
	want := s.seq
	binary.NativeEndian.PutUint32(m.data[8:], want)
	s.file.SetDeadline(time.Now().Add(answerTimeout))
	if err := s.send(m.data); err != nil {
		return err
	}
	interrupted := false
	for done := false; !done; {
		s.file.SetDeadline(time.Now().Add(answerTimeout))
		err := s.receive(func(typ, flags uint16, seq, _ uint32, data []byte) error {
			if seq != want {
				return nil
			}
			interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case typ == unix.NLMSG_DONE:
				done = true
				if errno := errnoOf(data); errno != 0 {
					return errno
				}
			case typ == unix.NLMSG_ERROR:
				done = true
				if errno := errnoOf(data); errno != 0 {
					return errno
				}
			case len(data) >= 4:
				f(data[4:])
				done = done || !dump
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := piece(); err != nil {
			return err
		}
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}

// each sends messages that the kernel acknowledges one by one, and calls f with
// the outcome of each.
func (s *socket) each(m *msgs, f func(i int, err error) error) error {
	first := s.seq + 1
	s.seq += uint32(len(m.starts))
	for i, at := range m.starts {
		binary.NativeEndian.PutUint32(m.data[at+8:], first+uint32(i))
	}
	s.grow(len(m.data))
	s.file.SetDeadline(time.Now().Add(answerTimeout))
	if err := s.send(m.data); err != nil {
		return err
	}
	for left := len(m.starts); left > 0; {
		err := s.receive(func(typ, _ uint16, seq, _ uint32, data []byte) error {
			i := int(int32(seq - first))
			if typ != unix.NLMSG_ERROR || i < 0 || i >= len(m.starts) {
				return nil // of an earlier request
			}
			left--
			if errno := errnoOf(data); errno != 0 {
				return f(i, errno)
			}
			return f(i, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// generation reads the number of commits in this network namespace.
func (s *socket) generation() (uint32, error) {
	var gen uint32
	err := s.dump(inetTable, unix.NFT_MSG_GETGEN, 0, nil, func(data []byte) {
		attrs(data, func(typ uint16, v []byte) bool {
			if typ == unix.NFTA_GEN_ID {
				gen = beU32(v)
			}
			return true
		})
	})
	if err != nil {
		return 0, fmt.Errorf("read nftables generation: %w", err)
	}
	return gen, nil
}

// port is the address the kernel knows the socket by; notifications name it.
func (s *socket) port() uint32 {
	var pid uint32
	s.raw.Control(func(fd uintptr) {
		if sa, err := unix.Getsockname(int(fd)); err == nil {
			if nl, ok := sa.(*unix.SockaddrNetlink); ok {
				pid = nl.Pid
			}
		}
	})
	return pid
}

// membership joins or leaves a multicast group: NETLINK_ADD_MEMBERSHIP or NETLINK_DROP_MEMBERSHIP.
func (s *socket) membership(option, group int) error {
	var err error
	cerr := s.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, option, group) })
	return errors.Join(cerr, err)
}

func (s *socket) join(group int) error { return s.membership(unix.NETLINK_ADD_MEMBERSHIP, group) }

func (s *socket) leave(group int) error { return s.membership(unix.NETLINK_DROP_MEMBERSHIP, group) }

func (s *socket) close() error { return s.file.Close() }
