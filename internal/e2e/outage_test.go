// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// outage is a datastore of its own and two servers of it, with members who may talk and a
// stranger who may not.
type outage struct {
	*cluster.Cluster
	ds                *datastore
	a, b, stranger, c *cluster.Workload // c is on the other server
}

const outageRestart = `---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeMeshMaxRestartTime: 6s}
`

func newOutage(t *testing.T) *outage {
	t.Helper()
	o := &outage{ds: newDatastore(t)}
	o.Cluster = newClusterOn(t, o.ds.url, servers(2))
	if err := o.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, o.Cluster, pools+guarded+outageRestart)
	n, other := o.Nodes[0], o.Nodes[1]
	o.a, o.b = attach(t, n, "a", "--label", "member=yes"), attach(t, n, "b", "--label", "member=yes", "--label", "target=yes")
	o.stranger, o.c = attach(t, n, "stranger"), attach(t, other, "c", "--label", "member=yes")
	for _, w := range []*cluster.Workload{o.a, o.b, o.stranger, o.c} {
		serve(t, w, 7)
	}
	passes(t, o.a, o.b, 15*time.Second)
	passes(t, o.c, o.a, 15*time.Second)
	for _, n := range o.Nodes {
		eventually(t, 20*time.Second, func() error {
			_, err := os.Stat(filepath.Join(n.StateDir(), "datastore.journal"))
			return err
		})
	}
	return o
}

// mute writes that the workload b is talked to by nobody, and waits until that is in force.
func (o *outage) mute(t *testing.T) {
	t.Helper()
	o.ds.object("GlobalNetworkPolicy", "", "closed", "", `"selector":"has(target)","order":1,"types":["Ingress"],"ingress":[{"action":"Deny"}]`)
	eventually(t, 10*time.Second, func() error { return o.reaches(t, o.a, o.b) })
}

// reaches is nil if nothing gets from one to the other.
func (o *outage) reaches(t *testing.T, from, to *cluster.Workload) error {
	for family, dst := range families(to) {
		if r := from.Probe(t.Context(), lab.Probe{Proto: lab.UDP, Dst: dst, Port: 7, Timeout: 200 * time.Millisecond}); r.Verdict == lab.Reached {
			return fmt.Errorf("%s reaches %s by %s", from.Name, to.Name, family)
		}
	}
	return nil
}

// goesOn waits until a daemon goes on with what was in force.
func (o *outage) goesOn(t *testing.T, n *cluster.Node) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		s, err := n.API().Status(t.Context(), 0)
		if err == nil && s.Counts["endpoints"] != 3 {
			err = fmt.Errorf("%d endpoints, missing %q", s.Counts["endpoints"], s.Missing)
		}
		return err
	})
}

// flushed takes the rules away by hand, ten times, and fails the test if they are not put back
// within a second, or more than that second's worth of what is forbidden arrives.
func (o *outage) flushed(t *testing.T, n *cluster.Node, want string, forbidden *streams, pps int) {
	t.Helper()
	table := openNFT(t, n.Namespace)
	var took spans
	for range 10 {
		before := forbidden.delivered()
		took = append(took, table.repaired(t, want, table.flushRuleset))
		time.Sleep(20 * time.Millisecond)
		if arrived := forbidden.delivered() - before; arrived > pps*len(forbidden.flows) {
			t.Errorf("%d forbidden datagrams arrived", arrived)
		}
	}
	t.Logf("repaired in %v", took)
	if worst := slices.Max(took); worst > repairLimit {
		t.Errorf("repaired after %v", worst)
	}
	before := forbidden.delivered()
	time.Sleep(200 * time.Millisecond)
	if more := forbidden.delivered() - before; more > 0 {
		t.Errorf("%d forbidden datagrams arrived after the repair", more)
	}
}

// TestP07_StartInAnOutage changes a policy after the datastore was saved, kills the agent, stops
// etcd, and starts the agent: what counts is the policy as it was last, rules are repaired, and
// the neighbour keeps its routes beyond the restart time, because there is a session. Packets of flows that
// are allowed are not lost by any of it. When etcd is back, what changed meanwhile is in force.
func TestP07_StartInAnOutage(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	n, other := o.Nodes[0], o.Nodes[1]
	o.mute(t)
	allowed := newStreams(21000)
	allowed.begin(t, o.c, o.a, 100, true)
	allowed.running(t)
	forbidden := newStreams(31000)
	forbidden.begin(t, o.a, o.b, 300, false)
	forbidden.begin(t, o.stranger, o.a, 300, false)
	want := openNFT(t, n.Namespace).ruleset(t)

	n.Kill()
	o.ds.stop()
	began := time.Now()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	o.goesOn(t, n)
	eventually(t, 20*time.Second, func() error {
		out, err := other.Muslin(t.Context(), "bgp", "peers")
		if err == nil && !strings.Contains(out, "Established") {
			err = errors.New(out)
		}
		return err
	})
	if wait := 12*time.Second - time.Since(began); wait > 0 {
		time.Sleep(wait) // twice the restart time
	}
	allowed.lossless(t)
	passes(t, o.c, o.a, time.Second)
	passes(t, o.a, o.c, time.Second)
	forbidden.silent(t)

	forbidden = newStreams(32000)
	forbidden.begin(t, o.a, o.b, 300, false)
	forbidden.begin(t, o.stranger, o.a, 300, false)
	o.flushed(t, n, want, forbidden, 300)

	// A second start in the same outage goes on with the same.
	n.Kill()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	o.goesOn(t, n)
	if err := o.reaches(t, o.a, o.b); err != nil {
		t.Error(err)
	}
	passes(t, o.c, o.a, 5*time.Second)

	o.ds.start()
	live(t, o.Cluster)
	if _, err := n.Muslin(t.Context(), "delete", "globalnetworkpolicy", "closed"); err != nil {
		t.Fatal(err)
	}
	passes(t, o.a, o.b, 10*time.Second)
}

// TestP07_StartOnHold starts an agent while the datastore says that nothing new is to be
// programmed: what was in force is repaired, what is written meanwhile is not in force, not for an agent that
// starts once more either, and is when the datastore says so.
func TestP07_StartOnHold(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	n := o.Nodes[0]
	hold := func(ready bool) {
		t.Helper()
		o.ds.object("ClusterInformation", "", "default", "", fmt.Sprintf(`"clusterGUID":%q,"datastoreReady":%t`,
			member(o.ds.tree("/calico/resources/v3/projectcalico.org/clusterinformations/default"), "spec", "clusterGUID"), ready))
	}
	hold(false)
	eventually(t, 10*time.Second, func() error {
		s, err := n.API().Status(t.Context(), 0)
		if err == nil && s.Datastore.Ready {
			err = fmt.Errorf("still ready")
		}
		return err
	})
	want := openNFT(t, n.Namespace).ruleset(t)
	o.ds.object("GlobalNetworkPolicy", "", "open", "", `"selector":"all()","order":1,"types":["Ingress"],"ingress":[{"action":"Allow"}]`)
	for range 2 {
		n.Kill()
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		o.goesOn(t, n)
		forbidden := newStreams(31000)
		forbidden.begin(t, o.stranger, o.a, 300, false)
		o.flushed(t, n, want, forbidden, 300)
		passes(t, o.a, o.b, 5*time.Second)
		if err := o.reaches(t, o.stranger, o.a); err != nil {
			t.Error(err)
		}
		forbidden.lost()
	}
	hold(true)
	passes(t, o.stranger, o.a, 15*time.Second)
	live(t, o.Cluster)
	n.Kill()
	o.ds.stop()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	o.goesOn(t, n)
	passes(t, o.stranger, o.a, 5*time.Second)
}
