// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// Bad input: each a clear message with the object and the field; nothing that
// is stored or enforced is lost, and the rest keeps working.

// command runs the program as a user does and returns its exit code.
func command(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = lab.CleanEnv(), strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("muslin %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestBadInput_CommandLine(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.Nodes[0]
	a, b := machineOf(attach(t, n, "a", "--label", "role=web")), machineOf(attach(t, n, "b", "--label", "role=web"))
	serve(t, b, 80, 81)
	const good = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  selector: role == 'web'
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]
  egress: [{action: Allow}]
`
	apply(t, c, good)
	live(t, c)
	before := revisionOf(t, n)
	for _, bad := range []struct {
		name, doc string
		words     []string
	}{
		{"an unknown field", strings.Replace(good, "selector:", "selecter:", 1), []string{"GlobalNetworkPolicy", "web", "spec.selecter", "selector"}},
		{"an unknown field in a rule", strings.Replace(good, "protocol:", "proto:", 1), []string{"web", "spec.ingress[0].proto"}},
		{"a bad selector", strings.Replace(good, "role == 'web'", "role = 'web", 1), []string{"GlobalNetworkPolicy", "web", "spec.selector"}},
		{"a selector of a rule", strings.Replace(good, "destination: {ports: [80]}", "source: {selector: 'has('}", 1), []string{"web", "spec.ingress[0].source.selector"}},
		{"a bad CIDR", strings.Replace(good, "destination: {ports: [80]}", "source: {nets: [10.0.0.0/33]}", 1), []string{"web", "spec.ingress[0].source.nets[0]", "10.0.0.0/33"}},
		{"a bad IPv6 CIDR", strings.Replace(good, "destination: {ports: [80]}", "source: {nets: ['fd00:::/64']}", 1), []string{"web", "spec.ingress[0].source.nets[0]", "fd00:::/64"}},
		{"a bad port", strings.Replace(good, "ports: [80]", "ports: [80, 90000]", 1), []string{"web", "spec.ingress[0].destination.ports[1]", "90000"}},
		{"a bad action", strings.Replace(good, "action: Allow, protocol", "action: Permit, protocol", 1), []string{"web", "spec.ingress[0].action", "Permit"}},
		{"a wrong kind", strings.Replace(good, "GlobalNetworkPolicy", "GlobalNetworkPolice", 1), []string{"GlobalNetworkPolice", "GlobalNetworkPolicy"}},
		{"no kind", strings.Replace(good, "kind: GlobalNetworkPolicy", "", 1), []string{"kind"}},
		{"a wrong type", strings.Replace(good, "types: [Ingress, Egress]", "types: 7", 1), []string{"web", "spec.types"}},
		{"a wrong apiVersion", strings.Replace(good, "projectcalico.org/v3", "v1", 1), []string{"apiVersion", "v1"}},
		{"a bad name", strings.Replace(good, "name: web", "name: We b", 1), []string{"metadata.name", "We b"}},
		{"no YAML", "kind: [", []string{"standard input", "line 1"}},
		{"no object", "hello", []string{"standard input", "line 1", "hello"}},
		{"a good one first", strings.Replace(good, "name: web", "name: other", 1) + "---" + strings.Replace(good, "role == 'web'", "(", 1), []string{"web", "spec.selector"}},
		{"a pool that is no network", "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.1.2.0/33}\n", []string{"IPPool", "p", "spec.cidr"}},
	} {
		out, text, code := command(t, bad.doc, "apply", "-f", "-", "--run-dir", n.Dir)
		if code != 1 || out != "" || !containsAll(text, bad.words) {
			t.Errorf("%s: exit code %d, want 1, and words %q in:\n%s%s", bad.name, code, bad.words, out, text)
		}
	}
	if after := revisionOf(t, n); after != before {
		t.Errorf("the datastore went from revision %d to %d", before, after)
	}
	judge(t, a.asks("still allowed", b, lab.TCP, 80, true), a.asks("still denied", b, lab.TCP, 81, false))
	noProblems(t, n)
}

// revisionOf is the datastore's newest revision of a key that matters.
func revisionOf(t *testing.T, n *cluster.Node) int64 {
	t.Helper()
	s, err := n.API().Status(t.Context(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return s.Target
}

func TestBadInput_Stored(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	c := newClusterOn(t, d.url, servers(2))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, c, pools+`
kind: Tier
metadata: {name: first}
spec: {order: 10, defaultAction: Pass}
---
kind: GlobalNetworkPolicy
metadata: {name: first.blocked}
spec: {tier: first, selector: has(blocked), types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: [82]}}]}
---
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  order: 10
  selector: role == 'web'
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80, 82]}}, {action: Allow, protocol: UDP, source: {selector: trusted == 'yes'}}]
  egress: [{action: Allow}]
---
kind: Profile
metadata: {name: open}
spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}
---
kind: GlobalNetworkSet
metadata: {name: friends, labels: {trusted: "yes"}}
spec: {nets: [10.0.0.0/24, "fd00::/64"]}
---
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Accept}
---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: true}
`)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	a := machineOf(attach(t, n1, "a", "--label", "role=web", "--label", "blocked=yes"))
	b := machineOf(attach(t, n1, "b", "--profile", "open"))
	r := machineOf(attach(t, n2, "r", "--label", "role=web"))
	host1 := &machine{Namespace: n1.Namespace, node: n1, addr: map[bool]netip.Addr{false: n1.V4.Addr(), true: n1.V6.Addr()}}
	host2 := &machine{Namespace: n2.Namespace, node: n2, addr: map[bool]netip.Addr{false: n2.V4.Addr(), true: n2.V6.Addr()}}
	for _, m := range []*machine{a, b, r, host1} {
		serve(t, m, 80, 81, 82)
	}
	for _, m := range []*machine{a, b, r} {
		routed(t, n1, m.addr[false], m.addr[true])
		routed(t, n2, m.addr[false], m.addr[true])
	}
	live(t, c)
	asBefore := func(when string) {
		t.Helper()
		judge(t,
			r.asks(when+": the policy allows", a, lab.TCP, 80, true),
			r.asks(when+": the policy does not allow", a, lab.TCP, 81, false),
			r.asks(when+": the first tier denies", a, lab.TCP, 82, false),
			r.asks(when+": the profile allows", b, lab.TCP, 81, true),
			host2.asks(when+": a member of the set", a, lab.UDP, 80, true),
			r.asks(when+": no member of the set", a, lab.UDP, 80, false),
			b.asks(when+": the host accepts", host1, lab.TCP, 80, true),
		)
	}
	asBefore("at first")

	kinds := map[string]string{ // object → key
		"GlobalNetworkPolicy web":               v3.Key("GlobalNetworkPolicy", "", "web"),
		"Tier first":                            v3.Key("Tier", "", "first"),
		"WorkloadEndpoint default/n1-muslin-a-": v3.Key("WorkloadEndpoint", "default", "n1-muslin-a-eth0"),
		"WorkloadEndpoint default/n2-muslin-r-": v3.Key("WorkloadEndpoint", "default", "n2-muslin-r-eth0"),
		"Profile open":                          v3.Key("Profile", "", "open"),
		"GlobalNetworkSet friends":              v3.Key("GlobalNetworkSet", "", "friends"),
		"Node n2":                               v3.Key("Node", "", "n2"),
		"IPPool p4":                             v3.Key("IPPool", "", "p4"),
		"FelixConfiguration default":            v3.Key("FelixConfiguration", "", "default"),
		"BGPConfiguration default":              v3.Key("BGPConfiguration", "", "default"),
		"ClusterInformation default":            v3.Key("ClusterInformation", "", "default"),
	}
	kvs, _, err := d.List(t.Context(), "/calico/ipam/v2/host/n1/")
	if err != nil || len(kvs) < 2 {
		t.Fatal("no affinities:", kvs, err)
	}
	for _, kv := range kvs {
		kinds["IPAMAffinity n1/"+strings.ReplaceAll(kv.Key[strings.LastIndex(kv.Key, "/")+1:], "-", "/")] = kv.Key
	}
	good := map[string]string{}
	for _, key := range kinds {
		kv, err := d.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		good[key] = string(kv.Value)
	}
	for _, bad := range []struct{ name, value string }{
		{"not JSON", "\x00\xff{not json"},
		{"wrong types", `{"kind":7,"apiVersion":[],"metadata":"x","spec":[1],"state":{"a":1}}`},
		{"cut off", `{"kind":"X","metadata":{"name":"x"},"spec":{"selector":"role == 'we`},
		{"nothing but brackets", strings.Repeat("[", 1<<20)},
		{"deep objects", `{"spec":` + strings.Repeat(`{"a":`, 100000) + "1" + strings.Repeat("}", 100001)},
	} {
		for _, key := range kinds {
			d.put(key, bad.value)
		}
		for object := range kinds {
			problem(t, n1, object)
		}
		live(t, c)
		asBefore("all objects are " + bad.name)
		if s, err := n1.API().Status(t.Context(), 0); err != nil || !s.Live {
			t.Errorf("%s: not live: %v %v", bad.name, s, err)
		}
	}
	// A daemon that starts now has the last good versions, though it saw none of them,
	// and so has one whose state directory knows nothing, as long as etcd does.
	for _, forgotten := range []bool{false, true} {
		for _, n := range c.Nodes {
			n.Kill()
			if forgotten {
				if err := os.Remove(filepath.Join(n.StateDir(), "last-good.json")); err != nil {
					t.Error(err)
				}
			}
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for object := range kinds {
			problem(t, n1, object)
		}
		for _, m := range []*machine{a, b, r} {
			routed(t, n1, m.addr[false], m.addr[true])
			routed(t, n2, m.addr[false], m.addr[true])
		}
		asBefore(fmt.Sprintf("started again, state directory forgotten: %v", forgotten))
	}
	wantVia(t, n2.Namespace, a.addr[false].String()+"/32", "") // the block is what is announced, still
	// A change to what is well has its effect all the same.
	apply(t, c, "kind: GlobalNetworkPolicy\nmetadata: {name: more}\nspec: {order: 5, selector: role == 'web', types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [81]}}]}\n")
	live(t, c)
	judge(t, r.asks("a good policy beside bad ones", a, lab.TCP, 81, true))
	if _, err := n1.Muslin(t.Context(), "delete", "gnp", "more"); err != nil {
		t.Fatal(err)
	}
	for key, value := range good {
		d.put(key, value)
	}
	live(t, c)
	noProblems(t, n1)
	asBefore("mended")

	// Without a good version: an endpoint is closed, a profile denies, a policy
	// denies what it can be seen to select, and anything else is absent.
	d.object("GlobalNetworkPolicy", "", "fresh", "", `"order":1,"selector":"role == 'web'","types":["Ingress"],"ingress":[{"action":"Allow","source":{"nets":["300.1.1.1/8"]}}]`)
	problem(t, n1, "GlobalNetworkPolicy fresh", "spec.ingress[0].source.nets[0]", "300.1.1.1/8")
	live(t, c)
	judge(t, r.asks("a bad policy denies what it selects", a, lab.TCP, 80, false), r.asks("and nothing else", b, lab.TCP, 81, true))
	// Nothing of this one can be read but its selector.
	if err := d.Delete(t.Context(), v3.Key("GlobalNetworkPolicy", "", "fresh"), 0); err != nil {
		t.Fatal(err)
	}
	live(t, c)
	judge(t, r.asks("without it", a, lab.TCP, 80, true))
	d.object("GlobalNetworkPolicy", "", "fresh", "", `"order":1,"selector":"role == 'web'","ingress":"all of it"`)
	problem(t, n1, "GlobalNetworkPolicy fresh", "spec.ingress")
	live(t, c)
	judge(t, r.asks("a policy with a readable selector", a, lab.TCP, 80, false))
	d.object("GlobalNetworkPolicy", "", "fresh", "", `"order":1,"selector":"role == ","types":["Ingress"],"ingress":[{"action":"Deny"}]`)
	problem(t, n1, "GlobalNetworkPolicy fresh", "spec.selector")
	d.object("Profile", "", "broken", "", `"ingress":[{"action":"Allow","source":{"nets":["300.1.1.1/8"]}}],"egress":[{"action":"Allow"}]`)
	problem(t, n1, "Profile broken", "spec.ingress[0].source.nets[0]", "300.1.1.1/8")
	p := machineOf(attach(t, n1, "p", "--profile", "broken"))
	serve(t, p, 80)
	d.put(v3.Key("WorkloadEndpoint", "default", "n1-muslin-z-eth0"), `{"spec":{"node":"n1","interfaceName":"caliz","ipNetworks":["10.65.99.1/32"`)
	z := plug(t, c, n1, "z", "caliz", "", "10.65.99.1")
	problem(t, n1, "WorkloadEndpoint default/n1-muslin-z-eth0")
	live(t, c)
	judge(t,
		r.asks("a profile without a good version denies", p, lab.TCP, 80, false),
		p.asks("a profile without a good version denies", b, lab.TCP, 81, false),
		z.asks("an endpoint without a good version is closed", b, lab.TCP, 81, false),
	)
	if err := d.Delete(t.Context(), v3.Key("GlobalNetworkPolicy", "", "fresh"), 0); err != nil {
		t.Fatal(err)
	}
	live(t, c)
	asBefore("at last")
}

func TestBadInput_UnknownInterface(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.Nodes[0]
	apply(t, c, allowAll+`
---
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Accept}
`)
	a := machineOf(attach(t, n, "a"))
	serve(t, a, 80)
	serve(t, n, 80)
	stray := plug(t, c, n, "stray", "calistray", "", "10.77.0.1", "fd77::1")
	serve(t, stray, 80)
	live(t, c)
	// All that a route could do for it is done by hand, and what its questions for
	// the gateway would have to, which are not let through either: what remains is the policy.
	mac, err := n.MAC("calistray")
	for _, err := range []error{
		err, stray.AddNeighbour("eth0", netip.MustParseAddr("169.254.1.1"), mac), stray.AddNeighbour("eth0", netip.MustParseAddr("fe80::ecee:eeff:feee:eeee"), mac),
		n.AddAddr("calistray", netip.MustParsePrefix("169.254.1.1/32")), n.AddAddr("calistray", netip.MustParsePrefix("fe80::ecee:eeff:feee:eeee/64")),
		n.AddRoute(netip.MustParsePrefix("10.77.0.1/32"), netip.Addr{}, "calistray"), n.AddRoute(netip.MustParsePrefix("fd77::1/128"), netip.Addr{}, "calistray"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	host := &machine{Namespace: n.Namespace, node: n, addr: map[bool]netip.Addr{false: n.V4.Addr(), true: n.V6.Addr()}}
	cap, err := n.Capture("calistray")
	if err != nil {
		t.Fatal(err)
	}
	defer cap.Close()
	judge(t,
		stray.asks("to an endpoint", a, lab.TCP, 80, false), stray.asks("to the host", host, lab.TCP, 80, false),
		a.asks("from an endpoint", stray, lab.TCP, 80, false), host.asks("from the host", stray, lab.TCP, 80, false),
		stray.asks("ping", a, lab.ICMP, 0, false),
		a.asks("a known one beside it", host, lab.TCP, 80, true),
	)
	families := map[bool]bool{}
	eventually(t, 20*time.Second, func() error {
		judge(t, stray.asks("to the host", host, lab.TCP, 80, false))
		frames, err := cap.Drain(func(f lab.Frame) bool { return !f.Outgoing && f.DstPort == 80 && f.Proto == lab.ProtoTCP })
		for _, f := range frames {
			families[f.Src.Is6()] = true
		}
		if err == nil && len(families) != 2 {
			err = fmt.Errorf("the stray's packets did not reach the server, so that nothing is shown: %v", frames)
		}
		return err
	})
	// And as soon as it has an endpoint, it is one like any other.
	apply(t, c, `
kind: WorkloadEndpoint
metadata: {name: n1-muslin-stray-eth0, namespace: default}
spec: {node: n1, orchestrator: muslin, workload: stray, endpoint: eth0, interfaceName: calistray, ipNetworks: [10.77.0.1/32, "fd77::1/128"]}
`)
	live(t, c)
	judge(t, stray.asks("as an endpoint", a, lab.TCP, 80, true), a.asks("as an endpoint", stray, lab.TCP, 80, true))
}

// statusOf is what `muslin status` says, whatever it is.
func statusOf(t *testing.T, n *cluster.Node, more ...string) (string, int) {
	t.Helper()
	out, errs, code := command(t, "", append([]string{"status", "--run-dir", n.Dir}, more...)...)
	return out + errs, code
}

func TestBadInput_DatastoreUnreachableAtStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, servers(2))
	n1, n2 := c.Nodes[0], c.Nodes[1]
	if err := n1.Port.Down(); err != nil { // silent, not refusing
		t.Fatal(err)
	}
	if err := n2.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, func() error {
		if out, code := statusOf(t, n2); code != 0 || !containsAll(out, []string{"Live", "no:", "missing: the datastore", "not connected", "http://10.0.0.1:2379"}) {
			return errors.New(out)
		}
		return nil
	})
	if out, code := statusOf(t, n2, "--wait", "300ms"); code != 1 || !containsAll(out, []string{"n2 is not live", "datastore"}) {
		t.Errorf("status --wait: exit code %d, want 1: %s", code, out)
	}
	_, text, code := command(t, "", "get", "nodes", "--run-dir", n2.Dir)
	if code != 1 || !strings.Contains(text, "datastore") {
		t.Errorf("get: exit code %d, want 1: %s", code, text)
	}
	// It has nothing to enforce yet, and an interface of ours passes nothing.
	stray := plug(t, c, n2, "stray", "calistray", "", "10.77.0.1")
	host := &machine{Namespace: n2.Namespace, node: n2, addr: map[bool]netip.Addr{false: n2.V4.Addr()}}
	serve(t, n2, 80)
	if err := errors.Join(n2.AddAddr("calistray", netip.MustParsePrefix("169.254.1.1/32")), n2.AddRoute(netip.MustParsePrefix("10.77.0.1/32"), netip.Addr{}, "calistray")); err != nil {
		t.Fatal(err)
	}
	if err := n1.Port.Up(); err != nil {
		t.Fatal(err)
	}
	if err := n1.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() error {
		if out, code := statusOf(t, n2, "--wait", "1s"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	judge(t, stray.asks("no endpoint", host, lab.TCP, 80, false))
	a, b := machineOf(attach(t, n1, "a")), machineOf(attach(t, n2, "b"))
	serve(t, b, 80)
	apply(t, c, allowAll)
	live(t, c)
	routed(t, n1, b.addr[false], b.addr[true])
	routed(t, n2, a.addr[false], a.addr[true])
	judge(t, a.asks("all works", b, lab.TCP, 80, true))
}

func TestBadInput_DatastoreUnreachableLater(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	c := newClusterOn(t, d.url, servers(2))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1, n2 := c.Nodes[0], c.Nodes[1]
	apply(t, c, pools+allowAll)
	a, b := machineOf(attach(t, n1, "a")), machineOf(attach(t, n2, "b", "--label", "shut=yes"))
	serve(t, b, 80)
	routed(t, n1, b.addr[false], b.addr[true])
	routed(t, n2, a.addr[false], a.addr[true])
	live(t, c)
	var flows []*lab.Flow
	for _, six := range []bool{false, true} {
		f, err := lab.StartFlow(lab.FlowConfig{From: a.Namespace, Src: a.addr[six], To: b.Namespace, Dst: netip.AddrPortFrom(b.addr[six], 9999), Echo: true})
		if err != nil {
			t.Fatal(err)
		}
		flows = append(flows, f)
	}
	d.stop()
	for _, n := range c.Nodes {
		eventually(t, 10*time.Second, func() error {
			if out, code := statusOf(t, n); code != 0 || !containsAll(out, []string{"not connected", "missing: the connection to the datastore; what is enforced stays"}) {
				return errors.New(out)
			}
			return nil
		})
	}
	if out, code := statusOf(t, n1, "--wait", "300ms"); code != 1 || !strings.Contains(out, "datastore") {
		t.Errorf("status --wait: exit code %d, want 1: %s", code, out)
	}
	if _, text, code := command(t, "apiVersion: projectcalico.org/v3"+allowAll, "apply", "-f", "-", "--run-dir", n1.Dir); code != 1 || !strings.Contains(text, "datastore") && !strings.Contains(text, "etcd") {
		t.Errorf("apply: exit code %d, want 1: %s", code, text)
	}
	// What was broken by hand meanwhile is put back from memory.
	if err := n1.DelRoute(netip.PrefixFrom(a.addr[false], 32), a.tap); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, func() error {
		if len(kernelRoutes(t, n1.Namespace, netip.PrefixFrom(a.addr[false], 32))) != 1 {
			return errors.New("the route is not back")
		}
		return nil
	})
	// An agent that starts again without its datastore leaves what is there.
	n2.Kill()
	if err := n2.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		if out, _ := statusOf(t, n2); !strings.Contains(out, "missing: the datastore") {
			return errors.New(out)
		}
		return nil
	})
	judge(t, a.asks("still enforced", b, lab.TCP, 80, true))
	for _, f := range flows {
		before := f.Report().Returned
		if err := f.WaitDelivered(t.Context(), before+50); err != nil {
			t.Fatal(err)
		}
	}
	d.start()
	live(t, c)
	for i, f := range flows {
		// The route that was deleted by hand costs the first flow what passes
		// until it is back; nothing else does.
		if r := f.Stop(time.Second); r.Lost > []int{20, 0}[i] {
			t.Errorf("without a datastore packets were lost: %v", r)
		}
	}
	apply(t, c, "kind: GlobalNetworkPolicy\nmetadata: {name: shut}\nspec: {order: 1, selector: has(shut), types: [Ingress], ingress: [{action: Deny}]}\n")
	live(t, c)
	judge(t, a.asks("a change after the return", b, lab.TCP, 80, false))
	routed(t, n1, b.addr[false], b.addr[true])
}

// TestI9_SettingsUnreadableAtStart: which interfaces are policed must not
// depend on whether a daemon was running when its settings broke.
func TestI9_SettingsUnreadableAtStart(t *testing.T) {
	t.Parallel()
	d := newDatastore(t)
	openstackBase(d)
	openstackGroup(d, "sg1", `{"action":"Allow","protocol":6,"destination":{"ports":[22]}}`, `{"action":"Allow"}`)
	openstackPort(d, "n1", "dev-1", "port-1", "tapport-1", "fa:16:3e:00:00:01", "sg1", "", "10.65.0.2", "fd65::2")
	openstackPort(d, "n1", "dev-2", "port-2", "tapport-2", "fa:16:3e:00:00:02", "sg1", "", "10.65.0.3", "fd65::3")
	c := newClusterOn(t, d.url, servers(1))
	n := c.Nodes[0]
	a := plug(t, c, n, "vm-a", "tapport-1", "fa:16:3e:00:00:01", "10.65.0.2", "fd65::2")
	b := plug(t, c, n, "vm-b", "tapport-2", "fa:16:3e:00:00:02", "10.65.0.3", "fd65::3")
	serve(t, a, 22, 80)
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect := func(when string, open bool) {
		t.Helper()
		live(t, c)
		judge(t, b.asks(when, a, lab.TCP, 22, open), b.asks(when, a, lab.TCP, 80, false))
	}
	expect("at first", true)
	key := v3.Key("FelixConfiguration", "", "default")
	d.put(key, "{")
	expect("with a good version known", true)
	restart := func() {
		t.Helper()
		n.Kill()
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	expect("with the prefixes remembered", true)
	problem(t, n, "FelixConfiguration default")
	// Without a memory etcd's history tells.
	n.Kill()
	if err := os.RemoveAll(n.StateDir()); err != nil {
		t.Fatal(err)
	}
	restart()
	expect("with the version before", true)
	// Without a version that was ever good the interfaces are nobody's, and so
	// nothing is routed to them.
	n.Kill()
	if err := errors.Join(os.RemoveAll(n.StateDir()), d.Delete(t.Context(), key, 0)); err != nil {
		t.Fatal(err)
	}
	d.put(key, "{")
	restart()
	expect("with nothing to go by", false)
	problem(t, n, "WorkloadEndpoint openstack/n1-openstack-dev--1-port--1", "spec.interfaceName", "tapport-1")
	openstackBase(d)
	expect("mended", true)
	noProblems(t, n)
}
