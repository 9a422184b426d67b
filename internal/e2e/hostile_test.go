// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// passes waits until packets get from one workload to another in each family.
func passes(t *testing.T, from, to *cluster.Workload, within time.Duration) {
	t.Helper()
	eventually(t, within, func() error {
		for _, a := range to.Addrs {
			if o := from.Probe(t.Context(), lab.Probe{Proto: lab.UDP, Dst: a, Port: 7, Timeout: 300 * time.Millisecond}); o.Verdict != lab.Reached {
				return fmt.Errorf("%s to %s: %v %v", from.Name, a, o.Verdict, o.Err)
			}
		}
		return nil
	})
}

// pair attaches a workload to each of two servers and lets all talk to all.
func pair(t *testing.T, c *cluster.Cluster) (a, b *cluster.Workload) {
	t.Helper()
	apply(t, c, allowAll)
	a, b = attach(t, c.Nodes[0], "a"), attach(t, c.Nodes[1], "b")
	serve(t, a, 7)
	serve(t, b, 7)
	passes(t, a, b, 15*time.Second)
	return a, b
}

// An endpoint that claims the address of a server, or of the datastore, must
// not cut anybody off, not even until somebody deletes it.
func TestD09_EndpointClaimsServer(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	a, b := pair(t, c)
	ds := openDatastore(t, c)
	evil := func(node, addr4, addr6 string) string {
		name := node + "-muslin-evil-eth0"
		body := fmt.Sprintf(`{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":%q,"namespace":"default","labels":{"projectcalico.org/namespace":"default"}},`+
			`"spec":{"orchestrator":"muslin","workload":"evil","node":%q,"endpoint":"eth0","interfaceName":"calievil","ipNetworks":[%q,%q]}}`, name, node, addr4, addr6)
		if _, err := ds.Put(t.Context(), v3.Key("WorkloadEndpoint", "default", name), []byte(body)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	// A plugged interface, so that only the address stands in the way.
	m, err := c.Lab.Workload("evil")
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Veth(lab.End{NS: c.Nodes[1].Namespace, Name: "calievil"}, lab.End{NS: m, Name: "eth0"}); err != nil {
		t.Fatal(err)
	}
	evil("n2", "10.0.0.1/32", "fd00::1/128")
	problem(t, c.Nodes[1], "evil", "10.0.0.1", "Node n1")
	for _, n := range c.Nodes {
		for _, r := range routesOf(t, n) {
			if r.Prefix == "10.0.0.1/32" || r.Prefix == "fd00::1/128" {
				t.Errorf("%s has %+v", n.Server.Name, r)
			}
		}
	}
	live(t, c)
	passes(t, a, b, time.Second)
}

// An endpoint may not have an interface that is the host's own; it gets no
// route through it either.
func TestD03_EndpointOnUplink(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	ds := openDatastore(t, c)
	for i, iface := range []string{"eth0", "lo", "cali"} {
		body := fmt.Sprintf(`{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1-muslin-x%d-eth0","namespace":"default"},`+
			`"spec":{"orchestrator":"muslin","workload":"x%d","node":"n1","endpoint":"eth0","interfaceName":%q,"ipNetworks":["10.99.0.%d/32"]}}`, i, i, iface, i+1)
		if _, err := ds.Put(t.Context(), v3.Key("WorkloadEndpoint", "default", fmt.Sprintf("n1-muslin-x%d-eth0", i)), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	live(t, c)
	for _, r := range routesOf(t, c.Nodes[0]) {
		if strings.HasPrefix(r.Prefix, "10.99.") {
			t.Errorf("route %+v", r)
		}
	}
}

// A datastore that lost its ClusterInformation is not ready: what is enforced
// stays, and is repaired.
func TestE10_ClusterInformationDeleted(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	pair(t, c)
	n := c.Nodes[0]
	table := openNFT(t, n.Namespace)
	want := table.ruleset(t)
	if err := openDatastore(t, c).Delete(t.Context(), v3.Key("ClusterInformation", "", "default"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() error {
		s, err := n.API().Status(t.Context(), 0)
		if err == nil && s.Live {
			err = errors.New("still live")
		}
		return err
	})
	if took := table.repaired(t, want, table.flushRuleset); took > repairLimit {
		t.Errorf("repaired after %v", took)
	}
}

// A setting of the kernel that somebody switches off is switched on again.
func TestT06_ForwardingSwitchedOff(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	a, b := pair(t, c)
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := c.Nodes[0].SetSysctl(key, "0"); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, func() error {
			if v, err := c.Nodes[0].Sysctl(key); err != nil || v != "1" {
				return fmt.Errorf("%s is %q, %v", key, v, err)
			}
			return nil
		})
		passes(t, a, b, 5*time.Second)
	}
}

// A Node that somebody deletes while its daemon runs comes back.
func TestNodeDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	a, b := pair(t, c)
	if err := openDatastore(t, c).Delete(t.Context(), v3.Key("Node", "", "n2"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		out, err := c.Nodes[0].Muslin(t.Context(), "get", "node", "n2", "-o", "yaml")
		if err == nil && !strings.Contains(out, "10.0.0.2") {
			err = errors.New(out)
		}
		return err
	})
	passes(t, a, b, 20*time.Second)
}

// A Node that cannot be read keeps a daemon from being registered, and not
// from enforcing what it reads.
func TestI9_OwnNodeUnreadable(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.Nodes[0]
	apply(t, c, allowAll)
	a, b := attach(t, n, "a"), attach(t, n, "b")
	serve(t, b, 7)
	passes(t, a, b, 5*time.Second)
	// The datastore goes with its daemon, so the value is put before that.
	if _, err := openDatastore(t, c).Put(t.Context(), v3.Key("Node", "", "n1"), []byte("{not json")); err != nil {
		t.Fatal(err)
	}
	problem(t, n, "Node n1")
	n.Kill()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.Live(t.Context(), 15*time.Second); err != nil {
		t.Fatal(err)
	}
	problem(t, n, "Node n1")
	passes(t, a, b, 5*time.Second)
}

// Asked again, attach completes what is missing; it does not pretend to have
// given other addresses.
func TestAttachAgain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.Nodes[0]
	w := attach(t, n, "w")
	if _, err := n.AttachNamespace(t.Context(), w.Namespace, "w"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	_, err := n.AttachNamespace(t.Context(), w.Namespace, "w", "--ip", "10.77.0.1")
	if err == nil || !strings.Contains(err.Error(), "attached already") || !strings.Contains(err.Error(), w.V4.String()) {
		t.Errorf("another address: %v", err)
	}
	x, err := c.Lab.Workload("x")
	if err != nil {
		t.Fatal(err)
	}
	for ip, why := range map[string]string{"10.0.0.1": "10.0.0.0/24", "10.0.0.255": "10.0.0.0/24", "fd00::9": "fd00::/64", "255.255.255.255": "routed", w.V4.String(): "detach w"} {
		start := time.Now()
		_, err := n.AttachNamespace(t.Context(), x, "x", "--ip", ip)
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), ip) || time.Since(start) > 5*time.Second {
			t.Errorf("--ip %s: %v after %v", ip, err, time.Since(start))
		}
	}
}

// A mark of our own in the kernel is known at the next start, and by teardown.
func TestTeardownByWhatWasInForce(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.Nodes[0]
	apply(t, c, "kind: FelixConfiguration\nmetadata: {name: default}\nspec: {deviceRouteProtocol: 80, interfacePrefix: \"cali,tap\"}\n")
	problem(t, n, "deviceRouteProtocol", "80")
	w := attach(t, n, "w")
	apply(t, c, "kind: FelixConfiguration\nmetadata: {name: node.other}\nspec: {}\n")
	live(t, c)
	problem(t, n, "deviceRouteProtocol", "80") // still
	if err := n.Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	out, err := teardown(n)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "protocol 177") || !strings.Contains(out, "tap") {
		t.Errorf("teardown says:\n%s", out)
	}
	if !containsAll(out, []string{"warning: still attached: default/w (" + w.Interface + ")", "NOT FILTERED"}) {
		t.Errorf("teardown does not say who is attached:\n%s", out)
	}
	if err := n.DeleteLink(w.Interface); err != nil {
		t.Fatal(err)
	}
	if out, err := teardown(n); err != nil || strings.Contains(out, "attached") || strings.Contains(out, "nftables") || !strings.Contains(out, "nothing to remove") {
		t.Errorf("teardown without workloads: %v\n%s", err, out)
	}
	left, err := routes(n.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range left {
		if r.Protocol == 177 {
			t.Errorf("route %v is left", r)
		}
	}
	if text, err := openNFT(t, n.Namespace).text(); err != nil || strings.Contains(text, "muslin") {
		t.Errorf("the table is left: %v\n%s", err, text)
	}
}

// teardown runs the command in the server's namespace.
func teardown(n *cluster.Node) (string, error) {
	cmd := n.Command()
	cmd.Args = []string{cmd.Args[0], "teardown", "--run-dir", n.Dir, "--state-dir", n.StateDir()}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := n.Host.Start(cmd)
	if err != nil {
		return "", err
	}
	err = p.Wait()
	return out.String(), err
}
