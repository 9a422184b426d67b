// SPDX-License-Identifier: Apache-2.0

//go:build linux

package route

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ne is the byte order of netlink headers.
var ne = binary.NativeEndian

const (
	nlHeader  = unix.SizeofNlMsghdr // length, type, flags, sequence number, port
	rtmHeader = unix.SizeofRtMsg

	// sendLimit is how much goes into one system call. The kernel works a
	// batch off before the call returns, so larger gains nothing.
	sendLimit = 128 << 10
	// ackBuffer holds the answers to one batch should every message of it fail.
	ackBuffer = 8 << 20
	// patience bounds the wait for an answer that the kernel owes us.
	patienceSeconds = 10

	typeMask = 0x3fff // the rest of an attribute's type are flags
)

// errLost says that the outcome of what was sent is not known: only reading the
// kernel again can tell.
var errLost = errors.New("netlink answer lost")

// kernelError is the kernel's refusal of one message.
type kernelError struct {
	errno unix.Errno
	text  string // extended acknowledgement, if the kernel gave one
}

func (e *kernelError) Error() string {
	if e.text == "" {
		return e.errno.Error()
	}
	return e.text + " (" + e.errno.Error() + ")"
}

func (e *kernelError) Unwrap() error { return e.errno }

// conn is a lasting request socket. It is not safe for concurrent use.
type conn struct {
	fd   int
	port uint32
	seq  uint32
	buf  []byte
	// fault, if set, is asked before each system call; tests inject errors.
	fault func(call string) error
}

// dial opens a request socket in the network namespace of the calling thread.
func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	// Each of these may be missing: texts are a comfort, short answers save
	// copying, and what a strict dump would leave out is left out again here.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	receiveBuffer(fd, ackBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*sendLimit)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patienceSeconds})
	return &conn{fd: fd, port: sa.(*unix.SockaddrNetlink).Pid, buf: make([]byte, 64<<10)}, nil
}

// receiveBuffer asks for a buffer beyond the system's limit, which needs
// CAP_NET_ADMIN, and takes the limit if it must.
func receiveBuffer(fd, bytes int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
	}
}

func (c *conn) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

func (c *conn) send(b []byte) error {
	if c.fault != nil {
		if err := c.fault("send"); err != nil {
			return fmt.Errorf("%w: send: %w", errLost, err)
		}
	}
	for {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		default:
			return fmt.Errorf("%w: send: %w", errLost, err)
		}
	}
}

// receive returns one datagram of the kernel's. It stays valid until the next call.
func (c *conn) receive() ([]byte, error) {
	if c.fault != nil {
		if err := c.fault("receive"); err != nil {
			return nil, fmt.Errorf("%w: receive: %w", errLost, err)
		}
	}
	for {
		n, from, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // ENOBUFS: an answer did not fit; EAGAIN: out of patience
			return nil, fmt.Errorf("%w: receive: %w", errLost, err)
		case n > len(c.buf):
			c.buf = make([]byte, n)
			return nil, fmt.Errorf("%w: answer of %d bytes was cut", errLost, n)
		}
		if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid == 0 {
			return c.buf[:n], nil
		}
	}
}

// message is one netlink message inside a datagram.
type message struct {
	typ, flags uint16
	seq, port  uint32
	data       []byte // after the header
}

// nextMessage splits the first message off b; ok is false at the end, and for
// a header that lies about its length.
func nextMessage(b []byte) (m message, rest []byte, ok bool) {
	if len(b) < nlHeader {
		return m, nil, false
	}
	n := int(ne.Uint32(b))
	if n < nlHeader || n > len(b) {
		return m, nil, false
	}
	m = message{ne.Uint16(b[4:]), ne.Uint16(b[6:]), ne.Uint32(b[8:]), ne.Uint32(b[12:]), b[nlHeader:n]}
	return m, b[min(align(n), len(b)):], true
}

func align(n int) int { return (n + 3) &^ 3 }

// parseError reads the payload of an NLMSG_ERROR: nil is an acknowledgement.
func parseError(m message) *kernelError {
	if len(m.data) < 4 {
		return &kernelError{errno: unix.EPROTO}
	}
	code := int32(ne.Uint32(m.data))
	if code == 0 {
		return nil
	}
	e := &kernelError{errno: unix.Errno(-code)}
	if m.flags&unix.NLM_F_ACK_TLVS == 0 || len(m.data) < 4+nlHeader {
		return e
	}
	tlvs := m.data[4+nlHeader:]
	if m.flags&unix.NLM_F_CAPPED == 0 { // the offending message is quoted in full
		tlvs = m.data[min(4+align(int(ne.Uint32(m.data[4:]))), len(m.data)):]
	}
	const nlmsgerrAttrMsg = 1
	for {
		typ, data, rest, ok := nextAttr(tlvs)
		if !ok {
			return e
		}
		if tlvs = rest; typ == nlmsgerrAttrMsg && len(data) > 1 {
			e.text = string(data[:len(data)-1])
		}
	}
}

// nextAttr splits the first attribute off b; ok is false at the end, and for
// an attribute that lies about its length.
func nextAttr(b []byte) (typ uint16, data, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, nil, false
	}
	n := int(ne.Uint16(b))
	if n < 4 || n > len(b) {
		return 0, nil, nil, false
	}
	return ne.Uint16(b[2:]) & typeMask, b[4:n], b[min(align(n), len(b)):], true
}

// exec sends the messages in b, count of them, already numbered from first on
// and the last one asking for an acknowledgement. The kernel answers a message
// that fails whether it asked or not, so success costs one answer per batch.
// failed is called for each failure with the message's place.
func (c *conn) exec(b []byte, first uint32, count int, failed func(i int, e *kernelError)) error {
	if err := c.send(b); err != nil {
		return err
	}
	for {
		d, err := c.receive()
		if err != nil {
			return err
		}
		for {
			m, rest, ok := nextMessage(d)
			if !ok {
				break
			}
			d = rest
			i := int(m.seq - first)
			if m.typ != unix.NLMSG_ERROR || i < 0 || i >= count {
				continue // an answer to something given up earlier
			}
			if e := parseError(m); e != nil {
				failed(i, e)
			}
			if i == count-1 {
				return nil
			}
		}
	}
}

// one sends a single request that asks for an acknowledgement, and returns the
// kernel's refusal if there is one.
func (c *conn) one(b []byte) (refused *kernelError, err error) {
	c.seq++
	ne.PutUint32(b[8:], c.seq)
	err = c.exec(b, c.seq, 1, func(_ int, e *kernelError) { refused = e })
	return refused, err
}

// errInterrupted says that the table changed under a dump.
var errInterrupted = errors.New("dump interrupted by changes")

// dump sends a request and calls each for every message of the answer. The
// data is valid during the call only. After an error what was seen is partial.
func (c *conn) dump(typ uint16, body []byte, each func(message)) error {
	c.seq++
	seq := c.seq
	req := make([]byte, nlHeader, nlHeader+len(body))
	req = append(req, body...)
	putHeader(req, typ, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, seq)
	if err := c.send(req); err != nil {
		return err
	}
	interrupted := false
	for {
		d, err := c.receive()
		if err != nil {
			return err
		}
		for {
			m, rest, ok := nextMessage(d)
			if !ok {
				break
			}
			d = rest
			if m.seq != seq {
				continue
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_DONE:
				if len(m.data) >= 4 {
					if code := int32(ne.Uint32(m.data)); code < 0 {
						return &kernelError{errno: unix.Errno(-code)}
					}
				}
				if interrupted {
					return errInterrupted
				}
				return nil
			case unix.NLMSG_ERROR:
				if e := parseError(m); e != nil {
					return e
				}
				return nil
			default:
				each(m)
			}
		}
	}
}

// putHeader writes the netlink header of the message that is all of b.
func putHeader(b []byte, typ, flags uint16, seq uint32) {
	ne.PutUint32(b, uint32(len(b)))
	ne.PutUint16(b[4:], typ)
	ne.PutUint16(b[6:], flags)
	ne.PutUint32(b[8:], seq)
	ne.PutUint32(b[12:], 0)
}

// appendAttr appends one attribute with padding.
func appendAttr(b []byte, typ uint16, data []byte) []byte {
	b = ne.AppendUint16(b, uint16(4+len(data)))
	b = ne.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func appendAttr32(b []byte, typ uint16, v uint32) []byte {
	b = ne.AppendUint16(b, 8)
	b = ne.AppendUint16(b, typ)
	return ne.AppendUint32(b, v)
}
