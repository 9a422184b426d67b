// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/muslin-net/muslin/internal/lab"
)

// world is something of every kind that the first release has.
const world = `
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: guard}
spec: {order: 5, defaultAction: Pass}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: guard.stop}
spec: {tier: guard, selector: has(stop), types: [Ingress], ingress: [{action: Deny}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web}
spec: {selector: role == 'web', types: [Ingress, Egress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Allow, protocol: UDP, destination: {ports: [9999]}}], egress: [{action: Allow}]}
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: open}
spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: offices}
spec: {nets: [203.0.113.0/24]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: partners}
spec: {nets: ["2001:db8::/32"]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: spare}
spec: {cidr: 10.200.0.0/16, disabled: true}
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 64512}
---
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: rack}
spec: {importV4: [{action: Accept}]}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {node: elsewhere, peerIP: 192.0.2.1, asNumber: 65000, filters: [rack]}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {interfacePrefix: cali}
`

func TestCLI(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	run := func(code int, args ...string) string {
		t.Helper()
		out, errs, got := command(t, "", append(args, "--run-dir", n1.Dir)...)
		if got != code || code == 0 && errs != "" && !strings.HasPrefix(errs, "muslin: warning: Profile open was named by endpoints, 1 of them") && !strings.HasPrefix(errs, "muslin: warning: BGPFilter rack was named") || code != 0 && !strings.HasPrefix(errs, "muslin: ") {
			t.Errorf("muslin %s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, code, out, errs)
		}
		return out + errs
	}
	want := func(text string, words ...string) {
		t.Helper()
		if !containsAll(text, words) {
			t.Errorf("want the words %q in:\n%s", words, text)
		}
	}
	file := filepath.Join(t.TempDir(), "world.yaml")
	if err := os.WriteFile(file, []byte(world), 0o600); err != nil {
		t.Fatal(err)
	}

	// Writing: create refuses what exists, replace what does not.
	objects := strings.Count(world, "\nkind:")
	out := run(1, "replace", "-f", file)
	want(out, "GlobalNetworkPolicy(guard.stop)", "does not exist", fmt.Sprintf("%d of %d objects failed", objects, objects))
	out = run(0, "create", "-f", file)
	if strings.Count(out, "created ") != objects {
		t.Errorf("create: %s", out)
	}
	out = run(1, "create", "-f", file)
	want(out, "NetworkPolicy(default/web)", "already exists", fmt.Sprintf("%d of %d objects failed", objects, objects))
	want(run(0, "create", "-f", file, "--skip-exists"), "exists NetworkPolicy default/web")
	want(run(0, "replace", "-f", file), "unchanged Tier guard")
	want(run(0, "apply", "-f", file), "unchanged Profile open")

	// Endpoints.
	ns, err := c.Lab.Workload("a")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Addresses []string
		State     string
	}
	if err := json.Unmarshal([]byte(run(0, "endpoint", "attach", "a", "--netns", ns.Path(), "--label", "role=web", "-o", "json")), &got); err != nil || len(got.Addresses) != 2 || got.State != "live" {
		t.Errorf("attach: %v: %+v", err, got)
	}
	a := &machine{Namespace: ns, node: n1, addr: map[bool]netip.Addr{}}
	for _, s := range got.Addresses {
		x := netip.MustParseAddr(s)
		a.addr[x.Is6()] = x
	}
	// Asked again it completes what is missing, which is nothing.
	if again := strings.Fields(run(0, "endpoint", "attach", "a", "--netns", ns.Path(), "--label", "role=web")); strings.Join(again, " ") != strings.Join(got.Addresses, " ") {
		t.Errorf("attach again gave %v, first %v", again, got.Addresses)
	}
	run(1, "endpoint", "attach", "b", "--netns", "/run/netns/no-such-namespace")
	run(2, "endpoint", "attach", "b")
	b := machineOf(attach(t, n2, "b", "--label", "role=web", "--profile", "open"))
	serve(t, a, 80, 81)
	serve(t, b, 80, 81)
	routed(t, n1, b.addr[false], b.addr[true])
	routed(t, n2, a.addr[false], a.addr[true])
	live(t, c)

	// Every kind in every form; what yaml and json show can be applied.
	for _, k := range []struct{ kind, name, wide string }{
		{"nodes", "n1", "10.0.0.1/24"}, {"workloadendpoints", "n1-muslin-a-eth0", a.addr[false].String() + "/32"}, {"profiles", "open", "open"},
		{"networkpolicies", "web", "role == 'web'"}, {"globalnetworkpolicies", "guard.stop", "has(stop)"}, {"tiers", "guard", "Pass"},
		{"networksets", "offices", "203.0.113.0/24"}, {"globalnetworksets", "partners", "2001:db8::/32"}, {"ippools", "spare", "10.200.0.0/16"},
		{"bgpconfigurations", "default", "64512"}, {"bgppeers", "tor", "192.0.2.1"}, {"felixconfigurations", "default", "default"}, {"clusterinformations", "default", "true"},
	} {
		want(run(0, "get", k.kind), map[bool]string{false: k.name, true: a.addr[false].String()}[k.kind == "workloadendpoints"])
		want(run(0, "get", k.kind, "-o", "wide"), k.wide)
		want(run(0, "get", k.kind, "-A", "-o", "name"), "/"+k.name)
		want(run(0, "get", k.kind, k.name, "-o", "wide"), k.wide)
		for _, form := range []string{"yaml", "json"} {
			for _, args := range [][]string{{k.kind}, {k.kind, k.name}} {
				text := run(0, append(append([]string{"get"}, args...), "-o", form)...)
				var v struct {
					Kind string
				}
				err := json.Unmarshal([]byte(text), &v)
				if form == "yaml" {
					err = yaml.Unmarshal([]byte(text), &v)
				}
				if err != nil || v.Kind == "" {
					t.Errorf("get %v -o %s: %v: %s", args, form, err, text)
				}
				if k.kind == "clusterinformations" {
					continue
				}
				if _, errs, code := command(t, text, "apply", "-f", "-", "--run-dir", n1.Dir); code != 0 {
					t.Errorf("get %v -o %s | apply: %d: %s", args, form, code, errs)
				}
			}
		}
	}
	want(run(1, "get", "tier", "nobody"), "Tier(nobody)", "does not exist")
	want(run(2, "get", "teirs"), "teirs", "tier")
	want(run(2, "get", "tiers", "-o", "xml"), "xml", "yaml")
	want(run(0, "get", "-f", file, "-o", "name"), "networkset/default/offices")
	if text := run(0, "get", "wep", "-A", "-l", "role == 'web'", "-o", "name"); strings.Count(text, "\n") != 2 {
		t.Errorf("get -l: %s", text)
	}

	// Questions to the daemon, in every form.
	for _, q := range []struct {
		args  []string
		words []string
	}{
		{[]string{"status"}, []string{"Live", "n1"}},
		{[]string{"status", "--wait", "1s"}, []string{"Live", "n1"}},
		{[]string{"endpoint", "list"}, []string{"a", got.Addresses[0], "live"}},
		{[]string{"bgp", "peers"}, []string{"n2", "10.0.0.2", "Established"}},
		{[]string{"bgp", "routes"}, []string{"10.0.0.2", "n2"}},
		{[]string{"bgp", "routes", "--advertised", "--peer", "n2"}, []string{"10.0.0.1"}},
		{[]string{"bgp", "routes", "--count"}, []string{"ipv4", "ipv6", "4"}},
		{[]string{"route", "list"}, []string{got.Addresses[0] + "/32", "blackhole", "10.0.0.2"}},
		{[]string{"explain", "a", "b", "tcp", "80"}, []string{"ipv4", "ipv6", "web"}},
	} {
		want(run(0, q.args...), q.words...)
		for _, form := range []string{"json", "yaml"} {
			text := run(0, append(q.args, "-o", form)...)
			var v any
			err := json.Unmarshal([]byte(text), &v)
			if form == "yaml" {
				err = yaml.Unmarshal([]byte(text), &v)
			}
			if err != nil || v == nil {
				t.Errorf("muslin %s -o %s: %v: %s", strings.Join(q.args, " "), form, err, text)
			}
		}
		run(2, append(q.args, "-o", "nonsense")...)
		run(2, append(q.args, "--nonsense")...)
		if _, errs, code := command(t, "", append(q.args, "--run-dir", filepath.Join(n1.Dir, "nobody"))...); code != 1 || !strings.Contains(errs, "nobody") {
			t.Errorf("muslin %v without a daemon: %d: %s", q.args, code, errs)
		}
	}
	want(run(0, "bgp"), "peers", "routes")
	run(2, "bgp", "nonsense")
	run(2, "nonsense")
	run(2, "explain", "a", "b", "tcp")
	run(2, "explain", "a", "b", "tcp", "70000")
	want(run(1, "explain", "a", "nobody", "tcp", "80"), "nobody")

	// What explain says is what packets do, by name, by address, and for the
	// host.
	for _, q := range []struct {
		src, dst string
		to       *machine
		proto    lab.Proto
		port     string
	}{
		{"a", "b", b, lab.TCP, "80"}, {"default/a", "default/b", b, lab.TCP, "81"}, {"a", b.addr[false].String(), b, lab.TCP, "80"},
		{a.addr[true].String(), "b", b, lab.UDP, "80"}, {a.addr[false].String(), b.addr[false].String(), b, lab.TCP, "80"}, {"a", "b", b, lab.ICMP, ""},
		{"a", "host", nil, lab.TCP, "80"},
	} {
		words := []string{"explain", q.src, q.dst, q.proto.String()}
		port := 0
		if q.port != "" {
			words = append(words, q.port)
			fmt.Sscan(q.port, &port)
		}
		text := run(0, append(words, "-o", "json")...)
		var v struct {
			Families []struct {
				Family  string
				Allowed bool
				Steps   []struct{ Object string }
			}
		}
		if err := json.Unmarshal([]byte(text), &v); err != nil || len(v.Families) == 0 || len(v.Families[0].Steps) == 0 {
			t.Fatalf("%v: %v: %s", words, err, text)
		}
		for _, f := range v.Families {
			six := f.Family == "ipv6"
			dst := n1.V4.Addr()
			if six {
				dst = n1.V6.Addr()
			}
			if q.to != nil {
				dst = q.to.addr[six]
			}
			judge(t, []question{{from: a.Namespace, src: a.addr[six], to: dst, proto: q.proto, port: uint16(port), pass: f.Allowed, text: strings.Join(words, " ")}})
		}
	}
	want(run(0, "explain", "a", "host", "tcp", "80"), "DENIED", "defaultEndpointToHostAction")
	want(run(0, "explain", "192.0.2.7", "a", "tcp", "80"), "ipv4", "ALLOWED", "NetworkPolicy")

	// Applying again what is there changes nothing, for the datastore and for
	// a flow.
	flow, err := lab.StartFlow(lab.FlowConfig{From: a.Namespace, Src: a.addr[true], To: b.Namespace, Dst: netip.AddrPortFrom(b.addr[true], 9999), PPS: 200})
	if err != nil {
		t.Fatal(err)
	}
	before := revisionOf(t, n1)
	run(0, "apply", "-f", file)
	if after := revisionOf(t, n1); after != before {
		t.Errorf("applying what is there took the datastore from revision %d to %d", before, after)
	}
	if r := flow.Stop(time.Second); r.Lost > 0 || r.Delivered == 0 {
		t.Errorf("applying what is there lost packets: %v", r)
	}

	// Detaching and deleting.
	want(run(0, "endpoint", "detach", "a"), "detached default/a")
	want(run(1, "endpoint", "detach", "a"), "default/a")
	want(run(1, "delete", "tier", "guard"), "guard", "in use")
	out = run(0, "delete", "bgpfilter", "rack")
	want(out, "deleted BGPFilter rack", "warning", "BGPPeers, 1 of them")
	run(0, "create", "-f", file, "--skip-exists")
	out = run(0, "delete", "-f", file)
	if strings.Count(out, "deleted ") != objects {
		t.Errorf("delete -f: %s", out)
	}
	want(run(1, "delete", "-f", file), "does not exist")
	want(run(0, "delete", "-f", file, "--skip-not-exists"), "does not exist Tier guard")
	want(run(1, "delete", "tier", "default"), "default")
	run(2, "delete", "tier")
	run(2, "apply")
	eventually(t, 5*time.Second, func() error {
		if names, err := n1.Links(); err != nil || regexp.MustCompile(`\bcali`).MatchString(strings.Join(names, " ")) {
			return fmt.Errorf("links of n1: %v, %v", names, err)
		}
		return nil
	})

	// Completion.
	for shell, check := range map[string][]string{"bash": {"bash", "-n"}, "zsh": {"zsh", "-n"}, "fish": {"fish", "--no-execute"}} {
		script, errs, code := command(t, "", "completion", shell)
		if code != 0 || errs != "" || !strings.Contains(script, "__complete") {
			t.Errorf("completion %s: %d: %s", shell, code, errs)
		}
		if _, err := exec.LookPath(check[0]); err == nil {
			cmd := exec.Command(check[0], check[1:]...)
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("completion %s: %v: %s", shell, err, out)
			}
		}
	}
	for line, word := range map[string]string{"get globalnetworkp": "globalnetworkpolicy", "delete node n": "n2", "bgp routes --peer ": "n2", "endpoint detach --run-dir " + n2.Dir + " ": "b"} {
		args := append([]string{"__complete", "--run-dir", n1.Dir}, strings.Split(line, " ")...)
		out, _, code := command(t, "", args...)
		if code != 0 || !regexp.MustCompile(`(?m)^`+word+`\b`).MatchString(out) {
			t.Errorf("completing %q: %d, want %s: %s", line, code, word, out)
		}
	}
	if err := n1.Process().Signal(0); errors.Is(err, os.ErrProcessDone) {
		t.Error("the daemon is gone")
	}
}
