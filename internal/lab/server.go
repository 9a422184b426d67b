// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Server accepts TCP connections and echoes what arrives, and echoes UDP
// datagrams, on all addresses of a namespace, v4 and v6.
type Server struct {
	ns    *Namespace
	close context.CancelFunc
	work  sync.WaitGroup

	mu    sync.Mutex
	conns map[io.Closer]struct{}
}

// idleLimit ends TCP connections that nobody uses, so that probes which vanish
// leave nothing behind.
const idleLimit = time.Minute

// Serve starts echo servers on TCP and UDP for each port. They run until Close
// or the namespace's Delete.
func (n *Namespace) Serve(ports ...uint16) (*Server, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{ns: n, close: cancel, conns: map[io.Closer]struct{}{}}
	n.adopt(s)
	for _, port := range ports {
		addr := net.JoinHostPort("::", strconv.Itoa(int(port)))
		l, err := n.Listen("tcp", addr)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("serve in %s: %w", n.name, err)
		}
		s.work.Go(func() { s.accept(ctx, l) })
		c, err := n.listenUDP(addr)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("serve in %s: %w", n.name, err)
		}
		s.work.Go(func() { s.echo(ctx, c) })
	}
	return s, nil
}

// Close ends the servers and their connections and waits for them.
func (s *Server) Close() {
	s.close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
	s.ns.release(s)
}

func (s *Server) end() { s.Close() }

// hold closes c when the server closes; the result must be called when c is
// done with.
func (s *Server) hold(ctx context.Context, c io.Closer) (done func()) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	if ctx.Err() != nil { // Close may have looked before c was there
		c.Close()
	}
	return func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}
}

func (s *Server) accept(ctx context.Context, l net.Listener) {
	defer s.hold(ctx, l)()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors: do not spin
			continue
		}
		s.work.Go(func() {
			defer s.hold(ctx, c)()
			buf := make([]byte, 4096)
			for {
				c.SetDeadline(time.Now().Add(idleLimit))
				k, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err := c.Write(buf[:k]); err != nil {
					return
				}
			}
		})
	}
}

// listenUDP makes a socket that learns the destination address of what it
// receives, so that an answer comes from the address that was asked: a host has
// several, and its routing would choose another one.
func (n *Namespace) listenUDP(addr string) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if cerr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	var c net.PacketConn
	err := n.Do(func() (err error) {
		c, err = lc.ListenPacket(context.Background(), "udp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func (s *Server) echo(ctx context.Context, c *net.UDPConn) {
	defer s.hold(ctx, c)()
	buf := make([]byte, 65536)
	oob := make([]byte, 256)
	for {
		k, ok, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error about an earlier answer
		}
		// A refused or unroutable answer is the prober's to notice.
		_, _, _ = c.WriteMsgUDPAddrPort(buf[:k], answerFrom(oob[:ok]), from)
	}
}

// answerFrom keeps the packet-info message of what was received, which says
// where to answer from (RFC 3542 section 6.2). The interface counts for
// link-local addresses only; elsewhere routing decides.
func answerFrom(oob []byte) []byte {
	const infoLen = 20 // struct in6_pktinfo: 16 bytes of address, 4 of interface
	cms, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range cms {
		if m.Header.Level != unix.IPPROTO_IPV6 || m.Header.Type != unix.IPV6_PKTINFO || len(m.Data) < infoLen {
			continue
		}
		a := netip.AddrFrom16([16]byte(m.Data[:16]))
		out := make([]byte, unix.CmsgSpace(infoLen))
		h := cmsg(out, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, infoLen)
		copy(h, m.Data[:16])
		if a.IsLinkLocalUnicast() && a.Is6() {
			copy(h[16:], m.Data[16:infoLen])
		}
		return out
	}
	return nil
}

// cmsg writes the header of a control message into b, which has room for it
// and for n bytes of data, and returns where the data goes.
func cmsg(b []byte, level, typ int32, n int) []byte {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(n))
	return b[unix.CmsgLen(0):unix.CmsgLen(n)]
}
