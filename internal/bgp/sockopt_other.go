// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"

	"github.com/muslin-net/muslin/internal/secret"
)

// MaxPassword is in octets, as elsewhere: a password that one system refuses is
// none for a fabric.
const MaxPassword = 80

// unsupported refuses what a peer was configured to have: a session without it
// would be another one than was asked for.
func unsupported(what string) error {
	return fmt.Errorf("%s: not on %s", what, runtime.GOOS)
}

func setMD5(int, netip.Prefix, secret.Text) error {
	return unsupported("TCP MD5 signatures (RFC 2385)")
}

func demandTTL(int, bool, int) error { return unsupported("TTL security (RFC 5082)") }

func synTTL(int) (int, error) { return 0, unsupported("TTL security (RFC 5082)") }

// prepareListener has a listening socket answer with the greatest TTL.
func prepareListener(is6 bool, raw syscall.RawConn) error {
	return onSocket(raw, func(fd int) error { return sendTTL(fd, is6, maxTTL) })
}

// bindToZone refuses sessions between link-local addresses.
func bindToZone(_ int, a netip.Addr) error {
	if a.Zone() == "" {
		return nil
	}
	return unsupported("a session on an interface")
}

// deviceOf knows of no interface.
func deviceOf(net.Conn) string { return "" }
