// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// BFD is what annotations say of BFD (RFC 5880): on a BGPPeer for its
// sessions, on a BGPConfiguration for those of the mesh between nodes. What is zero
// is left to the defaults.
type BFD struct {
	Enabled    bool
	Interval   time.Duration
	Multiplier uint8
	// SingleHop and Multihop overrule what follows from the addresses: over
	// one hop if each end's subnet has the other's address.
	SingleHop, Multihop bool
	Auth                string // kind of authentication
	AuthKeyID           uint8
	AuthSecret          SecretKeyRef
}

// The bounds of BFD's interval.
const (
	minBFDInterval = 10 * time.Millisecond
	maxBFDInterval = 60 * time.Second
)

var bfdAuthKinds = []string{"simple", "md5", "meticulous-md5", "sha1", "meticulous-sha1"}

// bfdAnnotations are the annotations of a kind whose settings have a BFD.
func bfdAnnotations[T any](of func(*T) *BFD) []annotation[T] {
	return []annotation[T]{
		{"bfd", func(s *T, v string) error { return readSwitch(&of(s).Enabled, v) }},
		{"bfd-interval", func(s *T, v string) error {
			d, err := time.ParseDuration(v)
			if err != nil || d < minBFDInterval || d > maxBFDInterval {
				return fmt.Errorf("%q: want a duration of %v to %v, such as 300ms", v, minBFDInterval, maxBFDInterval)
			}
			of(s).Interval = d
			return nil
		}},
		{"bfd-multiplier", func(s *T, v string) error { return readNumber(&of(s).Multiplier, v, 1) }},
		{"bfd-multihop", func(s *T, v string) error {
			b := of(s)
			err := readSwitch(&b.Multihop, v)
			b.SingleHop = err == nil && !b.Multihop
			return err
		}},
		{"bfd-auth", func(s *T, v string) error {
			if !slices.Contains(bfdAuthKinds, v) {
				return fmt.Errorf("%q: want %s", v, strings.Join(bfdAuthKinds, ", "))
			}
			of(s).Auth = v
			return nil
		}},
		{"bfd-auth-key-id", func(s *T, v string) error { return readNumber(&of(s).AuthKeyID, v, 0) }},
		{"bfd-auth-secret", func(s *T, v string) error {
			name, key, ok := strings.Cut(v, "/")
			if !ok || !isSubdomain(name) || !isQualifiedName(key) || strings.Contains(key, "/") {
				return fmt.Errorf("%q: want the name of a secret, '/' and a key of it", v)
			}
			of(s).AuthSecret = SecretKeyRef{Name: name, Key: key}
			return nil
		}},
	}
}

func readNumber(into *uint8, v string, least uint64) error {
	n, err := strconv.ParseUint(v, 10, 8)
	if err != nil || n < least {
		return fmt.Errorf("%q: want %d–255", v, least)
	}
	*into = uint8(n)
	return nil
}

// check judges the settings against each other; r is the object they are of.
func (b BFD) check(r Resource) []error {
	info, _ := InfoFor(r)
	f := newFaults(info, r)
	bad := func(name, format string, args ...any) {
		f.add("metadata.annotations["+strconv.Quote(AnnotationPrefix+name)+"]", format, args...)
	}
	for _, name := range []string{"bfd-interval", "bfd-multiplier", "bfd-multihop", "bfd-auth", "bfd-auth-key-id", "bfd-auth-secret"} {
		if _, given := r.Meta().Annotations[AnnotationPrefix+name]; given && !b.Enabled {
			if _, said := r.Meta().Annotations[AnnotationPrefix+"bfd"]; !said {
				bad(name, "has no effect without %sbfd: Enabled", AnnotationPrefix)
			}
		}
	}
	switch {
	case b.Auth != "" && b.AuthSecret == (SecretKeyRef{}):
		bad("bfd-auth", "needs %sbfd-auth-secret", AnnotationPrefix)
	case b.Auth == "" && b.AuthSecret != (SecretKeyRef{}):
		bad("bfd-auth-secret", "needs %sbfd-auth: %s", AnnotationPrefix, strings.Join(bfdAuthKinds, ", "))
	}
	var errs []error
	for _, e := range f.list {
		errs = append(errs, e)
	}
	return errs
}

// IsBFDAnnotation tells whether the path of a FieldError is one of the
// annotations of BFD.
func IsBFDAnnotation(path string) bool {
	return strings.HasPrefix(path, `metadata.annotations["`+AnnotationPrefix+"bfd")
}
