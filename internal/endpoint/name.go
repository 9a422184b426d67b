// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrRefused is the class of errors for an interface that no endpoint may have.
var ErrRefused = errors.New("interface is refused")

const maxName = 15 // IFNAMSIZ without the final zero

// HostName returns the name for the host side of an endpoint's interface pair:
// the prefix, filled up to 15 characters with hex digits of the SHA-1 of
// "namespace.workload.interface", with "/" between them if one has a "." itself: no two
// endpoints have one name. It is the same on every call and every node.
func HostName(prefix, namespace, workload, inner string) string {
	between := "."
	if strings.Contains(namespace+workload+inner, ".") {
		between = "/"
	}
	sum := sha1.Sum([]byte(namespace + between + workload + between + inner))
	prefix = prefix[:min(len(prefix), maxName)]
	return prefix + hex.EncodeToString(sum[:])[:maxName-len(prefix)]
}

// ValidName tells whether the kernel and a path below /proc/sys can both carry
// an interface name. The error names what is wrong.
func ValidName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	if name == "" || len(name) > maxName || strings.Trim(name, ".") == "" || strings.Trim(name, letters) != "" {
		return fmt.Errorf("interface name %.40q: want 1–%d of letters, digits, '_', '.', '-'", name, maxName)
	}
	return nil
}

// Check tells whether an endpoint may have an interface of this name: it must
// begin with one of the prefixes, so that no endpoint can claim what belongs
// to the host, and must not be reserved. The error is ErrRefused.
func Check(name string, prefixes, reserved []string) error {
	if err := ValidName(name); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if name == "lo" || name == "all" || name == "default" || slices.Contains(reserved, name) {
		return fmt.Errorf("%w: %s is the host's own", ErrRefused, name)
	}
	if !hasPrefix(name, prefixes) {
		return fmt.Errorf("%w: %s begins with none of the interface prefixes %s", ErrRefused, name, strings.Join(prefixes, ", "))
	}
	return nil
}

// hasPrefix is true for a name that is longer than one of the prefixes and
// begins with it. An empty prefix matches nothing.
func hasPrefix(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool {
		return p != "" && len(name) > len(p) && strings.HasPrefix(name, p)
	})
}
