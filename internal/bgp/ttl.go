// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// The generalized TTL security mechanism, RFC 5082. Whoever is n hops away
// and sends with the greatest TTL, arrives with 256-n or more; nobody further
// away can. We send with the greatest always, also to peers that do not ask
// for it, for the listening socket serves all of them and its SYN-ACK counts. What we
// demand is up to PeerConfig.TTLSecurity, and holds from the first packet:
// a floor set only on the finished connection would let in what a far sender
// queued before, and a whole session fits in there.

// maxTTL is what we send with.
const maxTTL = 255

// minTTL is the least TTL or hop limit that packets of the peer must have; 0
// means any.
func (p PeerConfig) minTTL() int {
	if p.TTLSecurity == 0 {
		return 0
	}
	return maxTTL + 1 - int(p.TTLSecurity)
}

// sendTTL sets what a socket sends with; connections inherit it from their
// listener.
func sendTTL(fd int, is6 bool, ttl int) error {
	if is6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl)
}

// dialPeer connects to a peer, by Options.Dial if there is one. Our own
// socket drops a SYN-ACK from too far away; one from outside gets its floor
// afterwards.
func (s *Speaker) dialPeer(ctx context.Context, pc PeerConfig) (net.Conn, error) {
	floor := pc.minTTL()
	if s.opt.Dial == nil {
		var nc net.Conn
		err := s.opt.Within(func() (err error) { nc, err = dialTCP(ctx, pc, maxTTL); return err })
		if late, ok := err.(net.Error); ok && late.Timeout() {
			if floor > 0 {
				err = fmt.Errorf("%w (or its packets arrive with a TTL below %d)", err, floor)
			}
			if !pc.Password.IsZero() {
				err = fmt.Errorf("%w (or it has another password, or none)", err)
			} else {
				err = fmt.Errorf("%w (or it wants a password)", err)
			}
		}
		return nc, err
	}
	nc, err := s.opt.Dial(ctx, pc.LocalAddr, pc.Addr)
	if err == nil && !pc.Password.IsZero() {
		_ = nc.Close()
		return nil, fmt.Errorf("a password needs a socket of our own (RFC 2385)")
	}
	if err == nil && floor > 0 {
		if err = control(nc, func(fd int) error { return demandTTL(fd, pc.Addr.Addr().Is6(), floor) }); err != nil {
			_ = nc.Close()
			return nil, fmt.Errorf("TTL security: %w", err)
		}
	}
	return nc, err
}

// dialTCP connects to a peer. It sends with the given TTL, takes no packet with
// less than the peer is allowed, and signs with the password if there is one.
func dialTCP(ctx context.Context, pc PeerConfig, ttl int) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	from := pc.LocalAddr
	if !from.IsValid() {
		from = sourceTo(pc.Addr.Addr())
	}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from.WithZone(""), 0))
	}
	d.SetMultipathTCP(false)
	is6 := pc.Addr.Addr().Is6()
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		return onSocket(raw, func(fd int) error {
			if err := bindToZone(fd, pc.Addr.Addr()); err != nil {
				return err
			}
			if err := sendTTL(fd, is6, ttl); err != nil {
				return err
			}
			if floor := pc.minTTL(); floor > 0 {
				if err := demandTTL(fd, is6, floor); err != nil {
					return err
				}
			}
			if pc.Password.IsZero() {
				return nil
			}
			return setMD5(fd, hostPrefix(pc.Addr.Addr()), pc.Password)
		})
	}
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(pc.Addr.Addr().WithZone(""), pc.Addr.Port()).String())
}

// admit judges an accepted connection by its SYN, and has the kernel drop
// what comes later with too low a TTL. Under SYN cookies there is no SYN to judge,
// and the peer is turned away: the connection we dial is not concerned.
func admit(nc net.Conn, pc PeerConfig) error {
	floor := pc.minTTL()
	if floor == 0 {
		return nil
	}
	return control(nc, func(fd int) error {
		is6 := pc.Addr.Addr().Is6()
		if err := demandTTL(fd, is6, floor); err != nil {
			return err
		}
		ttl, err := synTTL(fd)
		if err != nil {
			return fmt.Errorf("the SYN cannot be read: %w", err)
		}
		if ttl < floor {
			return fmt.Errorf("the peer connected with TTL %d, less than %d", ttl, floor)
		}
		return nil
	})
}

// control runs fn on the socket of a connection.
func control(nc net.Conn, fn func(fd int) error) error {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no socket", nc)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	return onSocket(raw, fn)
}

func onSocket(raw syscall.RawConn, fn func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); e != nil {
		return e
	}
	return err
}
