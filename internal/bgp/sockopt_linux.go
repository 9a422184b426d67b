// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/secret"
)

// What sockets are told that no standard says how: another system has its own ways.

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

// demandTTL has the kernel drop what arrives with less.
func demandTTL(fd int, is6 bool, ttl int) error {
	if is6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, ttl)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, ttl)
}

// prepareListener has a listening socket answer with the greatest TTL and
// keep each SYN for admit.
func prepareListener(is6 bool, raw syscall.RawConn) error {
	return onSocket(raw, func(fd int) error {
		if err := sendTTL(fd, is6, maxTTL); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1)
	})
}

// synTTL is the TTL or hop limit of the SYN that opened a connection.
func synTTL(fd int) (int, error) {
	var b [256]byte // its IP and TCP headers: 120 octets at most
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_SAVED_SYN,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	switch {
	case errno != 0:
		return 0, errno
	case n >= 20 && b[0]>>4 == 4:
		return int(b[8]), nil
	case n >= 40 && b[0]>>4 == 6:
		return int(b[7]), nil
	}
	return 0, fmt.Errorf("the kernel kept none")
}

// bindToZone binds a socket to the interface that is an address's zone, if it has one,
// in whatever network namespace the socket is.
func bindToZone(fd int, a netip.Addr) error {
	if a.Zone() == "" {
		return nil
	}
	return unix.BindToDevice(fd, a.Zone())
}

// deviceOf is the interface that a connection is bound to, empty if it is bound
// to none. The kernel binds one between link-local addresses.
func deviceOf(nc net.Conn) (name string) {
	_ = control(nc, func(fd int) (err error) {
		name, err = unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
		return err
	})
	return name
}
