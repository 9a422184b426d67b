// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"maps"
	"net/netip"
	"syscall"

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
