// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// binary is the program under test, built once from this tree.
var binary string

func TestMain(m *testing.M) {
	if program := os.Getenv(tracedEnv); program != "" {
		fmt.Fprintln(os.Stderr, runTraced(program))
		os.Exit(1)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "muslin-e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binary, err = labtest.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		// Most of a test is waiting for timers of protocols.
		if err := flag.Set("test.parallel", fmt.Sprint(2*runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// servers returns n servers of a dual-stack segment.
func servers(n int) (list []cluster.Server) {
	for i := 1; i <= n; i++ {
		list = append(list, cluster.Server{
			Name: fmt.Sprintf("n%d", i),
			V4:   netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", i)),
			V6:   netip.MustParsePrefix(fmt.Sprintf("fd00::%d/64", i)),
		})
	}
	return list
}

// newCluster makes servers without starting their daemons. Everything goes
// away with the test; if it failed, the daemons' logs are shown.
func newCluster(t *testing.T, list []cluster.Server) *cluster.Cluster {
	t.Helper()
	return newClusterOn(t, "", list)
}

// newClusterOn is newCluster on a datastore that is there; "" is one inside the
// first server's daemon.
func newClusterOn(t *testing.T, etcd string, list []cluster.Server) *cluster.Cluster {
	t.Helper()
	labtest.Require(t)
	dir, err := os.MkdirTemp("/tmp", "mu")
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.New(cluster.Options{Binary: binary, Dir: dir, Servers: list, Etcd: etcd})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// startCluster makes n servers and waits until their daemons are live.
func startCluster(t *testing.T, n int) *cluster.Cluster {
	t.Helper()
	c := newCluster(t, servers(n))
	if err := c.StartAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c
}

// attach attaches a new namespace to a server.
func attach(t *testing.T, n *cluster.Node, name string, more ...string) *cluster.Workload {
	t.Helper()
	w, err := n.Attach(context.Background(), name, more...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// apply applies documents, in which apiVersion lines may be left out.
func apply(t *testing.T, c *cluster.Cluster, docs string) {
	t.Helper()
	if !strings.Contains(docs, "apiVersion:") {
		docs = strings.ReplaceAll("\n"+docs, "\nkind:", "\napiVersion: projectcalico.org/v3\nkind:")
	}
	if err := c.Apply(context.Background(), docs); err != nil {
		t.Fatal(err)
	}
}

// pools are one of each family, before another document.
const pools = `
kind: IPPool
metadata: {name: p4}
spec: {cidr: 10.65.0.0/16}
---
kind: IPPool
metadata: {name: p6}
spec: {cidr: "fd65::/48"}
---`

// allowAll lets every endpoint talk to every other.
const allowAll = `
kind: GlobalNetworkPolicy
metadata: {name: allow-all}
spec: {selector: all(), order: 1000, types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Allow}]}
`

// eventually polls until f returns nil, and fails with its last error.
func eventually(t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", within, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
