// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// TestNATOutgoing: a host that knows no way back to the pools is reached from a pool
// with natOutgoing, and from one without it is not.
func TestNATOutgoing(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	pools := func(nat bool) string {
		return fmt.Sprintf("kind: IPPool\nmetadata: {name: p4}\nspec: {cidr: 10.65.0.0/16, natOutgoing: %v}\n---\nkind: IPPool\nmetadata: {name: p6}\nspec: {cidr: fd65::/48, natOutgoing: %v}\n", nat, nat)
	}
	apply(t, c, pools(true)+"---"+allowAll)
	outside, err := c.Lab.Host(c.Fabric, "outside", netip.MustParsePrefix("10.0.0.200/24"), netip.MustParsePrefix("fd00::200/64"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := outside.Serve(80); err != nil {
		t.Fatal(err)
	}
	w := attach(t, c.Nodes[0], "w", "--ip", "10.65.0.5", "--ip", "fd65::5")
	live(t, c)
	reaches := func(want bool) {
		t.Helper()
		for _, to := range []string{"10.0.0.200", "fd00::200"} {
			eventually(t, 10*time.Second, func() error {
				o := w.Probe(t.Context(), lab.Probe{Proto: lab.TCP, Dst: netip.MustParseAddr(to), Port: 80, Timeout: 300 * time.Millisecond})
				if got := o.Verdict == lab.Reached; got != want {
					return fmt.Errorf("%s: %v, want reached %v", to, o.Verdict, want)
				}
				return nil
			})
		}
	}
	reaches(true)
	apply(t, c, pools(false))
	live(t, c)
	reaches(false)
}
