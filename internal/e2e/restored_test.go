// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/store"
)

// TestE09_RestoredToTheSameRevision restores etcd from a copy, below an agent that runs, and
// writes until it is at the revision of before, with another policy at the revision of the one in
// force, and without an endpoint. What the datastore holds now is what packets meet, in both families.
func TestE09_RestoredToTheSameRevision(t *testing.T) {
	t.Parallel()
	ds := newDatastore(t)
	c := newClusterOn(t, ds.url, servers(1))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := c.Nodes[0]
	apply(t, c, pools)
	port := func(p int) string {
		return fmt.Sprintf(`"selector":"all()","order":1,"types":["Ingress","Egress"],"egress":[{"action":"Allow"}],`+
			`"ingress":[{"action":"Allow","protocol":"UDP","destination":{"ports":[%d]}}]`, p)
	}
	a, b := attach(t, n, "a"), attach(t, n, "b")
	serve(t, b, 7, 9)
	copied := filepath.Join(ds.dir, "copy")
	ds.stop()
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(ds.dir, "data"))); err != nil {
		t.Fatal(err)
	}
	ds.start()
	gone := attach(t, n, "gone")
	serve(t, gone, 7)
	ds.object("GlobalNetworkPolicy", "", "gate", "", port(7))
	gate, err := ds.Get(t.Context(), v3.Key("GlobalNetworkPolicy", "", "gate"))
	if err != nil {
		t.Fatal(err)
	}
	live(t, c)
	become(t, a, b, 7, true)
	become(t, a, b, 9, false)
	become(t, a, gone, 7, true)

	rev, err := ds.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ds.stop()
	if err := errors.Join(os.RemoveAll(filepath.Join(ds.dir, "data")), os.Rename(copied, filepath.Join(ds.dir, "data"))); err != nil {
		t.Fatal(err)
	}
	url := ds.url
	ds.url += ".aside" // nobody follows it there
	ds.start()
	aside, err := store.Open(t.Context(), store.Config{Endpoints: []string{ds.url}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer aside.Close()
	for at := int64(0); at < rev; {
		key, value := "/unrelated", "{}"
		if at == gate.Revision-1 {
			key = gate.Key
			value = `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"gate"},"spec":{` + port(9) + `}}`
		}
		if at, err = aside.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	ds.stop()
	ds.url = url
	ds.start()

	become(t, a, b, 9, true)
	become(t, a, b, 7, false)
	become(t, a, gone, 7, false)
	live(t, c)
}

// become waits until UDP of both families to a port arrives, or until none does.
func become(t *testing.T, from, to *cluster.Workload, port uint16, arrive bool) {
	t.Helper()
	eventually(t, 25*time.Second, func() error {
		for family, dst := range families(to) {
			o := from.Probe(t.Context(), lab.Probe{Proto: lab.UDP, Dst: dst, Port: port, Timeout: 300 * time.Millisecond})
			if (o.Verdict == lab.Reached) != arrive {
				return fmt.Errorf("%s from %s to port %d of %s: %v %v, want it to arrive: %v", family, from.Name, port, to.Name, o.Verdict, o.Err, arrive)
			}
		}
		return nil
	})
}
