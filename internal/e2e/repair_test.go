// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// repairLimit is how long anything of ours may be missing.
const repairLimit = time.Second

// spans are measured times.
type spans []time.Duration

func (s spans) String() string {
	s = slices.Sorted(slices.Values(s))
	if len(s) == 0 {
		return "none"
	}
	return fmt.Sprintf("median %v, worst %v of %d", s[len(s)/2].Round(10*time.Microsecond), s[len(s)-1].Round(10*time.Microsecond), len(s))
}

// program runs a program of the host's in a namespace.
func program(t *testing.T, ns *lab.Namespace, name string, args ...string) error {
	t.Helper()
	_, err := output(ns, name, args...)
	return err
}

// output is program, and what it says on its standard output.
func output(ns *lab.Namespace, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	p, err := ns.Start(cmd)
	if err != nil {
		return "", err
	}
	if err := p.Wait(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

// delivered adds up what has arrived.
func (s *streams) delivered() (n int) {
	for _, f := range s.flows {
		n += f.Report().Delivered
	}
	return n
}

// lost ends the flows and adds up.
func (s *streams) lost() (lost, sent int) {
	for _, f := range s.flows {
		r := f.Stop(200 * time.Millisecond)
		lost, sent = lost+r.Lost, sent+r.Sent
	}
	return lost, sent
}

// TestT01_FlushRuleset takes the rules away while forbidden packets wait for
// it: they are back within a second, so that no more than a second's worth of
// what is forbidden can ever arrive, and the flows that got in are cut.
func TestT01_FlushRuleset(t *testing.T) {
	labtest.Programs(t, "nftables", "/usr/sbin/nft")
	g := startGuarded(t, 2)
	n := g.Nodes[0]
	const pps = 500
	allowed, forbidden := newStreams(20000), newStreams(30000)
	allowed.begin(t, g.members[0], g.members[1], 200, true)
	allowed.begin(t, g.members[2], g.members[0], 200, true)
	forbidden.begin(t, g.strangers[0], g.members[0], pps, false)
	forbidden.begin(t, g.mutes[0], g.members[2], pps, false)
	allowed.running(t)

	table := openNFT(t, n.Namespace)
	want := table.ruleset(t)
	if !strings.Contains(want, "muslin chain") {
		t.Fatalf("no ruleset to take away:\n%s", want)
	}
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"flush ruleset", table.flushRuleset},
		{"delete table", table.deleteTable},
		{"nft flush ruleset", func() error { return program(t, n.Namespace, "nft", "flush", "ruleset") }},
	} {
		var took spans
		leaked := 0
		for range 20 {
			before := forbidden.delivered()
			took = append(took, table.repaired(t, want, c.do))
			time.Sleep(20 * time.Millisecond) // what was let in arrives
			arrived := forbidden.delivered() - before
			leaked += arrived
			if limit := pps * len(forbidden.flows); arrived > limit {
				t.Errorf("%s: %d forbidden datagrams arrived, a second's worth is %d", c.name, arrived, limit)
			}
		}
		t.Logf("%s: repaired in %v; %d forbidden datagrams arrived in all, at %d a second", c.name, took, leaked, pps*len(forbidden.flows))
		if worst := slices.Max(took); worst > repairLimit {
			t.Errorf("%s: repaired after %v", c.name, worst)
		}
	}
	before := forbidden.delivered()
	time.Sleep(300 * time.Millisecond)
	if more := forbidden.delivered() - before; more > 0 {
		t.Errorf("%d forbidden datagrams arrived after the repair", more)
	}
	// Of what is allowed some may be lost, because the way back to the rules is
	// closed and not open; afterwards nothing is.
	lost, sent := allowed.lost()
	t.Logf("%d of %d allowed datagrams lost", lost, sent)
	allowed = newStreams(22000)
	allowed.begin(t, g.members[0], g.members[1], 200, true)
	allowed.begin(t, g.members[2], g.members[0], 200, true)
	allowed.running(t)
	allowed.lossless(t)
}

// repaired takes something away and returns how long it was missing: from the
// first commit that is not ours to the one after which all is as wanted.
func (n *nft) repaired(t *testing.T, want string, tamper func() error) time.Duration {
	t.Helper()
	before := n.generation(t)
	last := before
	var first, at time.Time
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- tamper() }()
	for {
		g := n.generation(t)
		if g != last {
			last, at = g, time.Now()
			if first.IsZero() {
				first = at
			}
		}
		text, err := "", error(nil)
		if g != before {
			if text, err = n.text(); err == nil && text == want && n.generation(t) == g {
				break
			}
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("not repaired after 10 s: %v\n%s\nwant\n%s", err, text, want)
		}
		time.Sleep(50 * time.Microsecond)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return at.Sub(first)
}

var tampers = flag.Int("tampers", 3, "how often TestT06_T07_Verbs does each of its verbs")

// settingLimit is how long a kernel setting may be wrong.
const settingLimit = 5 * time.Second

// TestT06_T07_Verbs does with ip(8) and to files of /proc/sys what a careless administrator may do to routes, neighbours,
// addresses and settings of workloads, under an agent that has tables of its own as well as under one that has not: all of it is
// put back, other routes stay as they are, and afterwards nothing is lost.
func TestT06_T07_Verbs(t *testing.T) {
	labtest.Programs(t, "iproute2", "/usr/sbin/ip")
	g := startGuarded(t, 2)
	n, w, remote := g.Nodes[0], g.members[0], g.members[2]
	if err := program(t, n.Namespace, "ip", "route", "add", "192.0.2.0/24", "dev", n.Uplink); err != nil { // somebody else's
		t.Fatal(err)
	}
	mac, err := w.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	etcd, key := openDatastore(t, g.Cluster), v3.Key("WorkloadEndpoint", "default", "n1-muslin-a1-eth0")
	kv, err := etcd.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	fixed := strings.Replace(string(kv.Value), `"interfaceName"`, fmt.Sprintf(`"mac":%q,"interfaceName"`, mac), 1) // and so are its neighbours
	if _, err := etcd.Update(t.Context(), key, []byte(fixed), kv.Revision); err != nil {
		t.Fatal(err)
	}
	live(t, g.Cluster)
	conf4, conf6 := "net/ipv4/conf/"+w.Interface+"/", "net/ipv6/conf/"+w.Interface+"/"
	settings := []map[string]string{
		{
			"net/ipv4/ip_forward": "0", "net/ipv6/conf/all/forwarding": "0", conf4 + "rp_filter": "1", conf4 + "forwarding": "0", conf6 + "forwarding": "0",
			conf4 + "proxy_arp": "1", conf6 + "proxy_ndp": "1",
		},
		{conf6 + "accept_ra": "2", conf4 + "route_localnet": "1", conf6 + "accept_redirects": "1"}, // of these the kernel tells nobody
	}
	// all is what an administrator sees of it.
	all := func() string {
		t.Helper()
		text := ""
		for _, words := range []string{"-4 route show", "-6 route show", "neigh show nud permanent", "-o addr show dev " + w.Interface, "rule show", "-6 rule show"} {
			out, err := output(n.Namespace, "ip", strings.Fields(words)...)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.ReplaceAll(out, " nodad", ""), "\n")
			slices.Sort(lines)
			text += strings.Join(lines, "\n") + "\n"
		}
		for _, some := range settings {
			for _, key := range slices.Sorted(maps.Keys(some)) {
				value, err := n.Sysctl(key)
				if err != nil {
					t.Fatal(err)
				}
				text += key + " = " + value + "\n"
			}
		}
		return text
	}
	for _, own := range []bool{false, true} {
		t.Run(map[bool]string{false: "repaired", true: "owned"}[own], func(t *testing.T) {
			if own {
				n.Kill()
				n.Args = append(n.Args, "--own-tables")
				if err := n.Start(); err != nil {
					t.Fatal(err)
				}
				live(t, g.Cluster)
				if strings.Contains(n.Log(), "lacks owners") {
					t.Skip("the kernel lacks owners of tables that stay")
				}
			}
			want := all()
			for _, a := range w.Addrs {
				if !strings.Contains(want, a.String()+" dev "+w.Interface+" lladdr") {
					t.Fatalf("%s has no fixed neighbour:\n%s", a, want)
				}
			}
			back := func(verb string, limit time.Duration) time.Duration {
				t.Helper()
				start := time.Now()
				eventually(t, limit, func() error {
					if now := all(); now != want {
						return fmt.Errorf("after %s:\n%s", verb, difference(strings.Split(want, "\n"), strings.Split(now, "\n")))
					}
					return nil
				})
				return time.Since(start)
			}
			verbs := []string{"link set IF down; link set IF up"}
			for _, f := range []struct {
				flag        string
				addr, other netip.Addr
				gateway     string
				length      int
			}{{"-4", w.V4, remote.V4, "169.254.1.1/32", 32}, {"-6", w.V6, remote.V6, "fe80::ecee:eeff:feee:eeee/64", 128}} {
				route := fmt.Sprintf("%s/%d", f.addr, f.length)
				for _, v := range []string{
					"route del R", "route replace R dev eth0 metric 1024", "route replace blackhole R metric 1024", "route replace R dev IF metric 1024 proto 177 mtu 1300",
					"route del R; route add R dev IF metric 2000 proto 177", "route add R dev IF metric 7 proto 177", "route add blackhole R metric 9 proto 177",
					"route flush table main proto 177", "route flush dev IF proto 177", "neigh del A dev IF", "neigh replace A dev IF lladdr 02:00:00:00:00:99 nud permanent", "addr del G dev IF",
				} {
					v = strings.NewReplacer("R", route, "A", f.addr.String(), "G", f.gateway).Replace(v)
					verbs = append(verbs, f.flag+" "+strings.ReplaceAll(v, "; ", "; "+f.flag+" "))
				}
			}
			var took spans
			for _, v := range verbs {
				v = strings.ReplaceAll(v, "IF", w.Interface)
				for range *tampers {
					for _, words := range strings.Split(v, "; ") {
						if err := program(t, n.Namespace, "ip", strings.Fields(words)...); err != nil {
							t.Fatal(err)
						}
					}
					took = append(took, back("ip "+v, repairLimit))
				}
			}
			t.Logf("%d verbs of ip: put back in %v", len(verbs), took)
			for _, some := range settings {
				for key, bad := range some {
					if err := n.SetSysctl(key, bad); err != nil {
						t.Fatal(err)
					}
				}
				t.Logf("%d settings: put back in %v", len(some), back("a change of settings", settingLimit).Round(time.Millisecond))
			}
			allowed := newStreams(21000)
			allowed.begin(t, g.members[1], w, 200, true)
			allowed.begin(t, w, remote, 200, true)
			allowed.running(t)
			allowed.lossless(t)
		})
	}
}

// TestT06_DeleteRoute deletes each kind of route by hand, of both families.
func TestT06_DeleteRoute(t *testing.T) {
	labtest.Programs(t, "iproute2", "/usr/sbin/ip")
	g := startGuarded(t, 2)
	n, local, remote := g.Nodes[0], g.members[0], g.members[2]
	flows := newStreams(20000)
	flows.begin(t, g.members[1], local, 200, true)
	flows.begin(t, g.members[1], remote, 200, true)
	flows.running(t)
	h, err := n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	tampered := 0
	for _, family := range []string{"IPv4", "IPv6"} {
		for name, match := range map[string]func(netlink.Route) bool{
			"workload route": func(r netlink.Route) bool { return r.Dst.IP.Equal(families(local)[family].AsSlice()) && isHost(r) },
			"blackhole": func(r netlink.Route) bool {
				return r.Type == unix.RTN_BLACKHOLE && (r.Dst.IP.To4() != nil) == (family == "IPv4")
			},
			"BGP route": func(r netlink.Route) bool {
				return r.Type == unix.RTN_UNICAST && r.Dst.Contains(families(remote)[family].AsSlice())
			},
		} {
			victim, ok := ourRoute(t, n.Namespace, match)
			if !ok {
				t.Fatalf("%s: no %s in\n%s", family, name, strings.Join(routesText(t, n.Namespace), "\n"))
			}
			want := routesText(t, n.Namespace)
			var took spans
			for range 20 {
				start := time.Now()
				if err := h.RouteDel(&victim); err != nil {
					t.Fatalf("delete %s: %v", routeText(victim), err)
				}
				took = append(took, routesBack(t, n, start, want))
				tampered++
			}
			t.Logf("%s %s: repaired in %v", family, name, took)
			if worst := slices.Max(took); worst > repairLimit {
				t.Errorf("%s %s: repaired after %v", family, name, worst)
			}
		}
	}
	for _, family := range []string{"-4", "-6"} {
		want := routesText(t, n.Namespace)
		start := time.Now()
		if err := program(t, n.Namespace, "ip", family, "route", "flush", "proto", fmt.Sprint(ownProtocol)); err != nil {
			t.Fatal(err)
		}
		tampered++
		took := routesBack(t, n, start, want)
		t.Logf("ip %s route flush proto %d: repaired in %v", family, ownProtocol, took.Round(10*time.Microsecond))
		if took > repairLimit {
			t.Errorf("ip %s route flush: repaired after %v", family, took)
		}
	}
	lost, sent := flows.lost()
	t.Logf("%d of %d datagrams lost to %d deletions", lost, sent, tampered)
	flows = newStreams(21000)
	flows.begin(t, g.members[1], local, 200, true)
	flows.begin(t, g.members[1], remote, 200, true)
	flows.running(t)
	flows.lossless(t)
}

func isHost(r netlink.Route) bool {
	ones, bits := r.Dst.Mask.Size()
	return ones == bits
}

// routesBack returns after what time the routes of a server were as wanted.
func routesBack(t *testing.T, n *cluster.Node, start time.Time, want []string) time.Duration {
	t.Helper()
	for {
		if got := routesText(t, n.Namespace); slices.Equal(got, want) {
			return time.Since(start)
		} else if time.Since(start) > 10*time.Second {
			t.Fatalf("not repaired after 10 s:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// TestDatastoreNotReady says in the datastore that it is not ready: what is
// enforced stays and is repaired, also across a restart of the agent, and what
// is new waits until the datastore is ready again.
func TestDatastoreNotReady(t *testing.T) {
	g := startGuarded(t, 2)
	ctx := context.Background()
	allowed, forbidden := newStreams(20000), newStreams(30000)
	for i, a := range g.members[:3] {
		allowed.begin(t, a, g.members[i+1], 100, true)
	}
	for i := range 2 {
		forbidden.begin(t, g.strangers[i], g.members[2*i], 200, false)
		forbidden.begin(t, g.mutes[i], g.members[2*i], 200, false)
	}
	allowed.running(t)
	etcd, key := openDatastore(t, g.Cluster), v3.Key("ClusterInformation", "", "default")
	ready := func(yes bool) {
		t.Helper()
		kv, err := etcd.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		now := strings.Replace(string(kv.Value), fmt.Sprintf(`"datastoreReady":%t`, !yes), fmt.Sprintf(`"datastoreReady":%t`, yes), 1)
		if _, err := etcd.Update(ctx, key, []byte(now), kv.Revision); err != nil || now == string(kv.Value) {
			t.Fatalf("set datastoreReady in %s: %v", kv.Value, err)
		}
		for _, n := range g.Nodes {
			eventually(t, 10*time.Second, func() error {
				s, err := n.API().Status(ctx, 0)
				if err == nil && s.Datastore.Ready != yes {
					err = fmt.Errorf("%s: datastore ready %t", n.Server.Name, s.Datastore.Ready)
				}
				return err
			})
		}
	}
	n := g.Nodes[0]
	table := openNFT(t, n.Namespace)
	want, wantRoutes := table.ruleset(t), routesText(t, n.Namespace)
	ready(false)
	generation := table.generation(t)
	apply(t, g.Cluster, allowAllFirst)
	time.Sleep(aftermath)
	if got := table.generation(t); got != generation {
		t.Errorf("%d nftables commits although the datastore is not ready", got-generation)
	}
	if s, err := n.API().Status(ctx, 0); err != nil || s.Live && s.LiveRevision == s.SeenRevision {
		t.Errorf("status says that a change that waits is live: %+v %v", s, err)
	}
	if n := forbidden.delivered(); n > 0 {
		t.Errorf("%d forbidden datagrams arrived although the datastore is not ready", n)
	}

	var took spans
	for range 5 {
		took = append(took, table.repaired(t, want, table.deleteTable))
	}
	victim, _ := ourRoute(t, n.Namespace, func(r netlink.Route) bool { return isHost(r) })
	h, err := n.Handle()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := h.RouteDel(&victim); err != nil {
		t.Fatal(err)
	}
	took = append(took, routesBack(t, n, start, wantRoutes))
	t.Logf("repaired while the datastore is not ready in %v", took)
	lost, sent := allowed.lost()
	t.Logf("%d of %d allowed datagrams lost to what was taken away", lost, sent)
	if worst := slices.Max(took); worst > repairLimit {
		t.Errorf("repaired after %v", worst)
	}

	// A new life does not know what was in force, and leaves the kernel alone.
	allowed = newStreams(21000)
	for i, a := range g.members[:3] {
		allowed.begin(t, a, g.members[i+1], 100, true)
	}
	allowed.running(t)
	generation = table.generation(t)
	monitor := watchKernel(t, n.Namespace)
	arrived := forbidden.delivered()
	n.Kill()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		s, err := n.API().Status(ctx, 0)
		if err == nil && (s.SeenRevision == 0 || s.Live) {
			err = fmt.Errorf("seen %d, live %t", s.SeenRevision, s.Live)
		}
		return err
	})
	time.Sleep(aftermath)
	quiet(t, "restart while the datastore is not ready", monitor)
	if got := table.generation(t); got != generation {
		t.Errorf("%d nftables commits by a restart while the datastore is not ready", got-generation)
	}
	if more := forbidden.delivered() - arrived; more > 0 {
		t.Errorf("%d forbidden datagrams arrived over the restart", more)
	}

	ready(true)
	if err := g.AllLive(ctx, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, f := range forbidden.flows {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := f.WaitDelivered(ctx, arrived+3); err != nil {
			t.Errorf("the policy that waited is not in force: %v", err)
		}
	}
	allowed.lossless(t)
}

// allowAllFirst overrules every other policy.
const allowAllFirst = `
kind: GlobalNetworkPolicy
metadata: {name: everybody}
spec: {selector: all(), order: 1, types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Allow}]}
`
