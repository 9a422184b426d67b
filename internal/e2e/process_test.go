// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/cluster"
)

// TestHostProcess attaches a process of a server (annotation host-process) and one of
// another: they are announced, policed in both directions with workloads of both servers
// and with each other, and gone when detached; a restart of the agent changes nothing.
func TestHostProcess(t *testing.T) {
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	web := attach(t, n2, "web", "--label", "app=web")
	local := attach(t, n1, "local", "--label", "app=web")
	dns := attachProcess(t, n1, "dns", "--label", "app=dns")
	mail := attachProcess(t, n2, "mail", "--label", "app=mail")
	log := attachProcess(t, n1, "log", "--label", "app=mail")
	apply(t, c, `
kind: NetworkPolicy
metadata: {name: dns, namespace: default}
spec:
  selector: app == "dns"
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: TCP, source: {selector: "app in {'web', 'mail'}"}, destination: {ports: [8053]}}]
  egress: [{action: Allow, protocol: TCP, destination: {selector: app == "mail", ports: [8025]}}]
---
kind: NetworkPolicy
metadata: {name: others, namespace: default}
spec:
  selector: app != "dns"
  types: [Ingress, Egress]
  ingress: [{action: Allow}]
  egress: [{action: Allow}]
`)
	for _, n := range []*cluster.Node{n1, n2} {
		if _, err := n.Host.Serve(8053, 8025, 81); err != nil {
			t.Fatal(err)
		}
	}
	type place struct {
		ns    *lab.Namespace
		addrs []netip.Addr
	}
	at := map[string]place{
		"web": {web.Namespace, web.Addrs}, "local": {local.Namespace, local.Addrs},
		"dns": {n1.Host.Namespace, dns}, "mail": {n2.Host.Namespace, mail}, "log": {n1.Host.Namespace, log},
	}
	check := func(want bool, from, to string, port uint16) {
		t.Helper()
		for _, six := range []bool{false, true} {
			src, dst := family(at[from].addrs, six), family(at[to].addrs, six)
			eventually(t, 10*time.Second, func() error {
				timeout := 200 * time.Millisecond
				if want {
					timeout = 2 * time.Second
				}
				o := at[from].ns.Probe(context.Background(), lab.Probe{Proto: lab.TCP, Src: src, Dst: dst, Port: port, Timeout: timeout})
				if got := o.Verdict == lab.Reached; got != want {
					return fmt.Errorf("%s (%s) to %s (%s) port %d: %v (%v), want reached %v", from, src, to, dst, port, o.Verdict, o.Err, want)
				}
				return nil
			})
		}
		// The model says the same, where the process is, and so does a packet of its own.
		words := []string{"explain", from, to, "tcp", fmt.Sprint(port)}
		if at[from].ns == n1.Host.Namespace {
			words = append(words, "--live")
		}
		out, err := n1.Muslin(context.Background(), words...)
		if verdict := map[bool]string{true: ": ALLOWED", false: ": DENIED"}[want]; strings.Count(out, verdict) != 2 || strings.Contains(out, "not what the model says") {
			t.Errorf("explain %s %s tcp %d: %v\n%s", from, to, port, err, out)
		}
	}
	matrix := func() {
		t.Helper()
		for _, from := range []string{"web", "local", "mail"} {
			check(true, from, "dns", 8053)
			check(false, from, "dns", 81)
		}
		check(true, "dns", "mail", 8025)
		check(false, "dns", "mail", 81)
		check(true, "dns", "log", 8025) // on the same server
		check(true, "log", "dns", 8053)
		check(false, "log", "dns", 81)
		check(false, "dns", "log", 81)
		check(false, "dns", "web", 81)
		check(false, "dns", "local", 81)
		check(true, "mail", "web", 81)
	}
	for _, w := range []*cluster.Workload{web, local} {
		if _, err := w.Serve(81); err != nil {
			t.Fatal(err)
		}
	}
	matrix()
	if out, err := n1.Muslin(context.Background(), "endpoint", "list"); err != nil || !strings.Contains(out, "dns") || strings.Contains(out, "error") {
		t.Errorf("endpoint list: %v\n%s", err, out)
	}
	// Somebody takes an address away: it comes back.
	if err := n1.Host.DelAddr("lo", netip.PrefixFrom(dns[0], dns[0].BitLen())); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error { return hasOnLoopback(n1, dns, true) })

	if err := n2.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := hasOnLoopback(n2, mail, true); err != nil {
		t.Errorf("without the agent: %v", err)
	}
	if err := errors.Join(n2.Start(), n2.Live(context.Background(), 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := hasOnLoopback(n2, mail, true); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	check(true, "dns", "mail", 8025)
	check(false, "dns", "mail", 81)

	if list := allocated(t, c, n1, "dns", "lo"); len(list) != 2 {
		t.Errorf("dns has %v, want an address of each family", list)
	}
	if _, err := n1.Muslin(context.Background(), "endpoint", "detach", "dns"); err != nil {
		t.Fatal(err)
	}
	if err := hasOnLoopback(n1, dns, false); err != nil {
		t.Errorf("after detach: %v", err)
	}
	if list := allocated(t, c, n1, "dns", "lo"); len(list) > 0 {
		t.Errorf("after detach %v are still allocated", list)
	}
}

// attachProcess attaches a process of a server and returns its addresses.
func attachProcess(t *testing.T, n *cluster.Node, name string, more ...string) (addrs []netip.Addr) {
	t.Helper()
	out, err := n.Muslin(context.Background(), append([]string{"endpoint", "attach", name, "--host-process"}, more...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, text := range strings.Fields(out) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatalf("attach %s: %q", name, out)
		}
		addrs = append(addrs, a)
	}
	if len(addrs) != 2 {
		t.Fatalf("attach %s: %q, want an address of each family", name, out)
	}
	return addrs
}

func hasOnLoopback(n *cluster.Node, addrs []netip.Addr, want bool) error {
	have, err := n.Host.Addrs("lo")
	if err != nil {
		return err
	}
	for _, a := range addrs {
		got := false
		for _, p := range have {
			got = got || p.Addr() == a
		}
		if got != want {
			return fmt.Errorf("lo has %v: %s there is %v, want %v", have, a, got, want)
		}
	}
	return nil
}

func family(addrs []netip.Addr, six bool) netip.Addr {
	for _, a := range addrs {
		if a.Is6() == six {
			return a
		}
	}
	return netip.Addr{}
}
