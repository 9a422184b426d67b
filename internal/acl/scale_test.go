// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
)

var update = flag.Bool("update", false, "write golden files")

// TestText compares the tables of one plain endpoint with their golden file, and
// what a guest has beside.
func TestText(t *testing.T) {
	v := newView()
	v.set("web", policy.SetNets, netMembers("10.65.1.1/32", "fd65::1:1/128")...)
	p := v.policy(gnp("default.web", []policy.Rule{allow(func(r *policy.Rule) {
		toPort(tcp, port(80), port(443))(r)
		r.Src.Sets = []policy.SetID{"web"}
	})}, nil))
	pr := v.policy(profile("kns.default", nil, allowAll))
	ep := &policy.Endpoint{ID: policy.EndpointID{Namespace: "default", Name: "w"}, Interface: "cali0123456789a", HasMAC: true, MAC: [6]byte{2, 0, 0, 0, 0, 1},
		Addrs: addrs("10.65.0.1", "fd65::1")}
	ep.Effective = v.effective(&policy.Effective{ID: "abcdefghijklmnop", Profiles: []*policy.Policy{pr},
		Tiers: [2][]policy.TierPolicies{policy.Ingress: {tier("default", false, p)}}})
	v.endpoint(ep)
	o := Options{Prefixes: []string{"cali"}}
	must(t, o.check())
	golden(t, "endpoint.txt", text(&renderer{opts: o, text: true}, v))
	ep.Guest = true
	_, frames, _ := strings.Cut(text(&renderer{opts: o, text: true}, v), "table netdev")
	golden(t, "guest.txt", "table netdev"+frames)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestD02_Names puts hostile names in every field that comes from the
// datastore: the kernel takes them, and none becomes a name.
func TestD02_Names(t *testing.T) {
	inNetns(t)
	v := newView()
	var ps []*policy.Policy
	for i, n := range []string{"} flush ruleset {", `"`, `\`, "*", "drop", "accept", "map", "fwd", "$(id)", "a\nb", "a\x00b", "\xff\xfe", "\u202e", strings.Repeat("x", 300), strings.Repeat("x", 299) + "y"} {
		p := v.policy(gnp(n, allowAll, allowAll))
		q := *p
		q.Key.Kind, q.Key.Namespace = "NetworkPolicy", n
		ps = append(ps, p, v.policy(&q))
		pr := v.policy(profile(n, allowAll, nil))
		v.effective(&policy.Effective{ID: n, Tiers: both(tier(n, i%2 == 0, p, &q)), Profiles: []*policy.Policy{pr}})
		v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Namespace: n, Name: n}, Interface: fmt.Sprintf("cali%d", i), Effective: v.effectives[n]})
	}
	for _, iface := range []string{"", "lo", "eth0", "../x", "eth0; reboot", "cali/x", "cali x", "cali\n", "cali0123456789ab", "%d", "*"} {
		v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Name: "if" + iface}, Interface: iface, Effective: v.effectives["drop"]})
	}
	v.endpoint(&policy.Endpoint{ID: policy.EndpointID{Namespace: "zzz", Name: "second"}, Interface: "cali0", Effective: v.effectives["drop"]})
	seen := map[string]bool{}
	for _, p := range ps {
		n := policyChain(p.Key, policy.Ingress)
		if seen[n] {
			t.Errorf("%v shares its name with another", p.Key)
		}
		seen[n] = true
		if strings.Trim(n, "abcdefghijklmnopqrstuvwxyz234567-") != "" || len(n) > 30 {
			t.Errorf("chain name %q", n)
		}
	}
	tab := openTable(t)
	must(t, tab.Apply(v, v.flush()))
	if n := len(tab.Problems()); n != 12 {
		t.Errorf("%d problems, want the 11 bad interfaces and the one claimed twice: %v", n, tab.Problems())
	}
	quiet(t, tab, v)
	// The second gets the interface when the first leaves it.
	for id, e := range v.endpoints {
		if e.Interface == "cali0" && id.Name != "second" {
			v.removeEndpoint(id)
		}
	}
	must(t, tab.Apply(v, v.flush()))
	if n := len(tab.Problems()); n != 11 {
		t.Errorf("%d problems after the first claim left, want 11", n)
	}
	quiet(t, tab, v)
}

// oneOfEach applies one policy change, one endpoint, one member and the
// reverse of the last two, and returns the messages each took.
func oneOfEach(tb testing.TB, tab *Table, v *memView, variant int) (msgs [5]int) {
	step := func(i int, f func()) {
		before := tab.Stats()
		f()
		must(tb, tab.Apply(v, v.flush()))
		after := tab.Stats()
		want := 1
		if i == 0 { // two lists change, of ingress and egress
			want = 2
		}
		if n := after.Commits - before.Commits; n != want {
			tb.Fatalf("step %d: %d commits, want %d", i, n, want)
		}
		msgs[i] = after.Messages - before.Messages
	}
	id := policy.EndpointID{Namespace: "ns", Name: "extra"}
	member := policy.Member{Net: nets("10.99.0.1/32")[0]}
	step(0, func() { v.policy(scalePolicy(0, 10, 1, variant)) })
	step(1, func() {
		v.endpoint(&policy.Endpoint{ID: id, Interface: "caliextra", Addrs: addrs("10.98.0.1", "fd98::1"), Effective: v.effectives["eff0"]})
	})
	step(2, func() {
		v.members["set0"] = append(v.members["set0"], member)
		v.ch.Sets["set0"] = &policy.SetChange{Added: []policy.Member{member}}
	})
	step(3, func() {
		v.members["set0"] = v.members["set0"][:len(v.members["set0"])-1]
		v.ch.Sets["set0"] = &policy.SetChange{Removed: []policy.Member{member}}
	})
	step(4, func() { v.removeEndpoint(id) })
	return msgs
}

// TestMessagesDoNotGrow applies the same changes to a small and a large table.
func TestMessagesDoNotGrow(t *testing.T) {
	inNetns(t)
	measure := func(v *memView) [5]int {
		tab := openTable(t)
		must(t, tab.Resync(v))
		n := oneOfEach(t, tab, v, 1)
		quiet(t, tab, v)
		must(t, tab.Teardown())
		return n
	}
	small, large := measure(scale(2, 10, 10, 1, 10)), measure(scale(200, 500, 10, 1, 10000))
	t.Logf("messages for policy, endpoint, member, and back: %v", large)
	if small != large {
		t.Errorf("messages for the same changes: %v in a small table, %v in a large one", small, large)
	}
}

// TestManyElements fills sets beyond what one attribute or message holds.
func TestManyElements(t *testing.T) {
	inNetns(t)
	v := scale(1, 1, 1, 1, 20000)
	tab := openTable(t)
	must(t, tab.Resync(v))
	quiet(t, tab, v)
	// A network makes it an interval set of all of them.
	m := policy.Member{Net: nets("10.0.0.0/16")[0]}
	v.members["set0"] = append(v.members["set0"], m)
	v.ch.Sets["set0"] = &policy.SetChange{Added: []policy.Member{m}}
	before := tab.Stats()
	must(t, tab.Apply(v, v.flush()))
	if n := tab.Stats().Commits - before.Commits; n != 3 {
		t.Errorf("%d commits, want one for the interval sets, one for the change and one to remove the elements from the hash table", n)
	}
	quiet(t, tab, v)
}

// TestDumpWhileResizing reads hash tables right after they were filled, of sizes
// at which the kernel is then still moving the elements to a larger one.
func TestDumpWhileResizing(t *testing.T) {
	inNetns(t)
	tab := openTable(t)
	for n := 43000; n < 47000; n += 500 {
		v := scale(1, 1, 1, 1, n)
		must(t, tab.Resync(v))
		quiet(t, tab, v)
		must(t, tab.Teardown())
	}
}

func benchTable(b *testing.B) (*Table, *memView) {
	inNetns(b)
	v := scale(200, 500, 10, 3, 10000)
	tab := openTable(b)
	must(b, tab.Resync(v))
	return tab, v
}

func BenchmarkApplyPolicy(b *testing.B) {
	tab, v := benchTable(b)
	for i := 0; b.Loop(); i++ {
		v.policy(scalePolicy(7, 10, 3, i%100))
		must(b, tab.Apply(v, v.flush()))
	}
}

func BenchmarkApplyEndpoint(b *testing.B) {
	tab, v := benchTable(b)
	e := *v.endpoints[policy.EndpointID{Namespace: "ns", Name: "ep3"}]
	e.ID.Name, e.Interface, e.Addrs = "new", "calinew", addrs("10.98.0.1", "fd98::1")
	for b.Loop() {
		v.endpoint(&e)
		must(b, tab.Apply(v, v.flush()))
		v.removeEndpoint(e.ID)
		must(b, tab.Apply(v, v.flush()))
	}
}

func BenchmarkApplyMember(b *testing.B) {
	tab, v := benchTable(b)
	m := []policy.Member{{Net: nets("10.99.0.1/32")[0]}}
	for b.Loop() {
		for _, c := range []*policy.SetChange{{Added: m}, {Removed: m}} {
			v.ch.Sets["set0"] = c
			must(b, tab.Apply(v, v.flush()))
		}
	}
}

func BenchmarkResync(b *testing.B) {
	tab, v := benchTable(b)
	for b.Loop() {
		must(b, tab.Resync(v))
	}
}

func BenchmarkCold(b *testing.B) {
	tab, v := benchTable(b)
	for b.Loop() {
		b.StopTimer()
		must(b, tab.Teardown())
		b.StartTimer()
		must(b, tab.Resync(v))
	}
}
