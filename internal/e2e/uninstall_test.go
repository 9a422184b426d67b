// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestUninstall takes a server out as the documentation says: the others forget
// it, and its addresses are free.
func TestUninstall(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	attach(t, n1, "stays")
	w := attach(t, n2, "w")
	routed(t, n1, w.Addrs...)
	for _, addr := range w.Addrs {
		if out := exampleRun(t, n1, "bgp", "routes"); !strings.Contains(out, "n2") {
			t.Fatalf("%s is not announced:\n%s", addr, out)
		}
	}
	exampleRun(t, n2, "endpoint", "detach", "w")
	if err := n2.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	out, err := teardown(n2)
	if err != nil || strings.Contains(out, "attached") {
		t.Fatalf("teardown: %v\n%s", err, out)
	}
	exampleRun(t, n1, "delete", "node", "n2")
	eventually(t, 20*time.Second, func() error {
		for _, args := range [][]string{{"get", "nodes"}, {"bgp", "peers"}, {"bgp", "routes"}, {"route", "list"}} {
			out, err := n1.Muslin(t.Context(), args...)
			if err != nil {
				return err
			}
			if strings.Contains(out, "n2") || strings.Contains(out, n2.V4.Addr().String()) {
				return fmt.Errorf("%v still has n2:\n%s", args, out)
			}
		}
		return nil
	})
	for _, key := range []string{"/calico/ipam/v2/host/n2/", "/calico/resources/v3/projectcalico.org/workloadendpoints/default/n2-"} {
		kvs, _, err := openDatastore(t, c).List(t.Context(), key)
		if err != nil || len(kvs) > 0 {
			t.Errorf("left in the datastore: %v %v", kvs, err)
		}
	}
}
