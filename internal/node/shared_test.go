// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestShared: an address that another node has counts while it does and for a while longer, and one that is here alone,
// or here no more, does not.
func TestShared(t *testing.T) {
	var s shared
	here := prefixes("10.65.0.1/32", "10.65.0.2/32", "fd65::1/128")
	var local []netip.Addr
	for _, p := range here {
		local = append(local, p.Addr())
	}
	start := time.Now()
	for _, c := range []struct {
		after     time.Duration
		local     []netip.Addr
		elsewhere []netip.Addr
		want      string
		waits     bool
	}{
		{0, local, nil, "[]", false},
		{time.Second, local, local[1:], "[10.65.0.2 fd65::1]", false},
		{time.Hour, local, local[1:], "[10.65.0.2 fd65::1]", false},
		{time.Hour + time.Second, local, local[2:], "[10.65.0.2 again fd65::1]", true},
		{time.Hour + 2*time.Second, local[1:], nil, "[10.65.0.2 again fd65::1 again]", true},
		{time.Hour + time.Second + linger, local, nil, "[fd65::1 again]", true},
		{time.Hour + 2*time.Second + linger, local, nil, "[]", true},
		{2 * time.Hour, local, local, "[10.65.0.1 10.65.0.2 fd65::1]", true},
		{3 * time.Hour, nil, nil, "[]", true},
		{3 * time.Hour, local, nil, "[]", true},
	} {
		s.look(c.local, func(a netip.Addr) bool { return slices.Contains(c.elsewhere, a) }, start.Add(c.after))
		got := []string{}
		for _, a := range local {
			if is := s.of(a); is != alone {
				got = append(got, a.String()+map[sharing]string{aloneAgain: " again"}[is])
			}
		}
		if fmt.Sprint(got) != c.want || (s.at != nil) != c.waits {
			t.Errorf("after %v: %v, want %s; it looks again: %v", c.after, got, c.want, s.at != nil)
		}
	}
}
