// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"net/netip"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// TestPathIntoPrefix: any address in a prefix that an appliance announces, or that its ToR announces for it, is the
// appliance's, and none beside it.
func TestPathIntoPrefix(t *testing.T) {
	for _, c := range []struct{ spec, to, end string }{
		{", machines: [{name: lb, rack: r1, attach: port, prefixes: [203.0.113.0/28]}]", "203.0.113.3", "delivered"},
		{", machines: [{name: fw, rack: r1, routing: static, prefixes: [203.0.113.0/28]}]", "203.0.113.3", "delivered"},
		{", machines: [{name: lb, rack: r1, attach: port, prefixes: [203.0.113.0/28]}]", "203.0.113.16", "no route"},
	} {
		s, err := New(designed(t, "model: as-per-rack"+c.spec, 2, 2), fabric.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Path("r0-s1", netip.MustParseAddr(c.to), Failure{})
		if err != nil || len(p.Branches) == 0 {
			t.Fatal(err)
		}
		for _, b := range p.Branches {
			if b.End != c.end {
				t.Errorf("%s: %s is %s, want %s", c.spec, c.to, b.End, c.end)
			}
		}
	}
}
