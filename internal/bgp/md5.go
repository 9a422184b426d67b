// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/secret"
)

// TCP MD5 signatures, RFC 2385. The kernel signs and checks; it is told the
// password of each address on the listening sockets, and on the socket that
// dials. It answers nothing to a segment with a wrong signature, without one, or with one
// that it does not expect: whoever has the wrong password sees a timeout.
//
// A new password cannot be agreed upon at both ends at one moment. The
// connection is given up without a NOTIFICATION, as one that broke, so that with
// graceful restart both ends keep their routes until they are at one again.

// MaxPassword is the kernel's limit, in octets.
const MaxPassword = unix.TCP_MD5SIG_MAXKEYLEN

// setMD5 sets the password for an address, or for a network, on a socket. Of several
// networks the kernel takes the longest prefix.
func setMD5(fd int, of netip.Prefix, password secret.Text) error {
	var sig unix.TCPMD5Sig
	from, opt := of.Addr(), unix.TCP_MD5SIG
	if !of.IsSingleIP() {
		opt, sig.Flags, sig.Prefixlen = unix.TCP_MD5SIG_EXT, unix.TCP_MD5SIG_FLAG_PREFIX, uint8(of.Bits())
	}
	sig.Keylen = uint16(copy(sig.Key[:], password.Reveal()))
	if from.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sig.Addr))
		sa.Family, sa.Addr = unix.AF_INET, from.As4()
	} else {
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sig.Addr))
		sa.Family, sa.Addr = unix.AF_INET6, from.As16()
	}
	if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, opt, &sig); err != nil {
		return fmt.Errorf("password for %s: %w", of, err)
	}
	return nil
}

// passwords are those that a listening socket asks for.
type passwords map[netip.Prefix]secret.Text

// set puts them on a socket that does not listen yet.
func (w passwords) set(raw syscall.RawConn) error {
	return onSocket(raw, func(fd int) error {
		for from, password := range w {
			if err := setMD5(fd, from, password); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w passwords) equal(o passwords) bool {
	return maps.EqualFunc(w, o, func(a, b secret.Text) bool { return a.Reveal() == b.Reveal() })
}

// ask has the listener demand these passwords. If they differ the socket is
// closed and a new one opened that knows them before it listens: on one that does
// already, connections may wait that were made without.
func (l *listener) ask(want passwords) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.want.equal(want) {
		return
	}
	l.want = want
	if l.l != nil {
		_ = l.l.Close()
		l.l = nil
	}
}
