// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// AuthType is a kind of authentication: RFC 5880 section 4.1.
type AuthType uint8

// The kinds. What is called simple sends the password in clear.
const (
	AuthNone AuthType = iota
	AuthSimple
	AuthMD5
	AuthMeticulousMD5
	AuthSHA1
	AuthMeticulousSHA1
)

var authNames = [...]string{"none", "simple", "md5", "meticulous-md5", "sha1", "meticulous-sha1"}

// String returns the name that ParseAuthType reads.
func (t AuthType) String() string {
	if int(t) < len(authNames) {
		return authNames[t]
	}
	return fmt.Sprintf("AuthType(%d)", uint8(t))
}

// ParseAuthType reads a name.
func ParseAuthType(s string) (AuthType, error) {
	for i, n := range authNames {
		if s == n {
			return AuthType(i), nil
		}
	}
	return 0, fmt.Errorf("%q: want none, simple, md5, meticulous-md5, sha1 or meticulous-sha1", s)
}

// keyLen is the greatest length of a key or password: 16 octets, 20 for SHA1.
func (t AuthType) keyLen() int {
	if t == AuthSHA1 || t == AuthMeticulousSHA1 {
		return sha1.Size
	}
	return md5.Size
}

// Auth is how a session authenticates. The zero value does not.
type Auth struct {
	Type AuthType
	ID   uint8 // Auth Key ID
	Key  []byte
}

// String names the kind and the key's number, and never the key.
func (a Auth) String() string {
	if a.Type == AuthNone {
		return a.Type.String()
	}
	return fmt.Sprintf("%s, key %d", a.Type, a.ID)
}

// GoString keeps the key out of %#v, too.
func (a Auth) GoString() string { return "bfd.Auth(" + a.String() + ")" }

func (a Auth) equal(b Auth) bool {
	return a.Type == b.Type && a.ID == b.ID && subtle.ConstantTimeCompare(a.Key, b.Key) == 1
}

func (a Auth) validate() error {
	switch {
	case a.Type == AuthNone:
		return nil
	case a.Type > AuthMeticulousSHA1:
		return fmt.Errorf("Auth: unknown type %d", a.Type)
	case len(a.Key) == 0 || len(a.Key) > a.Type.keyLen():
		return fmt.Errorf("Auth: %s wants a key of 1 to %d octets, not %d", a.Type, a.Type.keyLen(), len(a.Key))
	}
	return nil
}

// Lengths of the digest sections: RFC 5880 sections 4.3 and 4.4.
const (
	md5Len  = 8 + md5.Size
	sha1Len = 8 + sha1.Size
)

func (t AuthType) sectionLen() int {
	if t == AuthSHA1 || t == AuthMeticulousSHA1 {
		return sha1Len
	}
	return md5Len
}

// authState is what a session keeps of authentication: RFC 5880 section 6.8.1.
type authState struct {
	Auth
	known bool   // bfd.AuthSeqKnown
	rcv   uint32 // bfd.RcvAuthSeq
	xmit  uint32 // bfd.XmitAuthSeq
}

// seal appends an authentication section to an encoded header, and sets the
// header's flag and length. The sequence number grows with every packet, which
// is what the meticulous kinds ask for and the others allow (section 6.7.3).
func (a *authState) seal(b []byte) []byte {
	switch a.Type {
	case AuthNone:
		return b
	case AuthSimple:
		b[1] |= flagAuth
		b[3] = byte(headerLen + 3 + len(a.Key))
		return append(append(b, byte(a.Type), byte(3+len(a.Key)), a.ID), a.Key...)
	}
	n := a.Type.sectionLen()
	b[1] |= flagAuth
	b[3] = byte(headerLen + n)
	b = append(b, byte(a.Type), byte(n), a.ID, 0)
	b = binary.BigEndian.AppendUint32(b, a.xmit)
	a.xmit++
	start := len(b)
	var field [sha1.Size]byte // the key, padded with zeros, stands where the digest goes
	copy(field[:], a.Key)
	b = append(b, field[:n-8]...)
	a.digest(b[start:], b)
	return b
}

// digest writes the digest of a packet whose digest field holds the key.
func (a *authState) digest(dst, packet []byte) {
	if a.Type.sectionLen() == sha1Len {
		sum := sha1.Sum(packet)
		copy(dst, sum[:])
		return
	}
	sum := md5.Sum(packet)
	copy(dst, sum[:])
}

// Reasons to discard a packet for its authentication.
var (
	errAuthMissing  = errors.New("authentication is missing")
	errAuthUnasked  = errors.New("authentication is not configured")
	errAuthKind     = errors.New("authentication of another type, length or key ID")
	errAuthKey      = errors.New("authentication failed: another key")
	errAuthSequence = errors.New("authentication failed: sequence number out of its window")
)

// check judges a packet: raw is all of it, p what decode made of it. RFC 5880
// sections 6.7.2 to 6.7.4.
func (a *authState) check(p *packet, raw []byte) error {
	switch {
	case p.auth == nil && a.Type == AuthNone:
		return nil
	case p.auth == nil:
		return errAuthMissing
	case a.Type == AuthNone:
		return errAuthUnasked
	case AuthType(p.auth[0]) != a.Type || len(p.auth) < 3 || p.auth[2] != a.ID:
		return errAuthKind
	}
	s := p.auth[:p.auth[1]]
	if a.Type == AuthSimple {
		if len(s) != 3+len(a.Key) {
			return errAuthKey
		}
		if subtle.ConstantTimeCompare(s[3:], a.Key) != 1 {
			return errAuthKey
		}
		return nil
	}
	if len(s) != a.Type.sectionLen() || len(s) != len(p.auth) {
		return errAuthKind
	}
	seq := binary.BigEndian.Uint32(s[4:])
	if a.known {
		first := a.rcv
		if a.Type == AuthMeticulousMD5 || a.Type == AuthMeticulousSHA1 {
			first++
		}
		// A circular space: the distance decides.
		if seq-first > a.rcv+3*uint32(p.detectMult)-first {
			return errAuthSequence
		}
	}
	var copied [maxPacket]byte
	b := copied[:copy(copied[:], raw[:headerLen+len(s)])]
	field := b[headerLen+8:]
	clear(field)
	copy(field, a.Key)
	var sum [sha1.Size]byte
	a.digest(sum[:], b)
	if subtle.ConstantTimeCompare(sum[:len(field)], s[8:]) != 1 {
		return errAuthKey
	}
	a.known, a.rcv = true, seq
	return nil
}
