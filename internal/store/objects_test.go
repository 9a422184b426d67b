// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
)

func parse(t *testing.T, doc string) v3.Resource {
	t.Helper()
	rs, err := v3.Decode([]byte(doc))
	if err != nil || len(rs) != 1 {
		t.Fatalf("%d objects, %v in %s", len(rs), err, doc)
	}
	return rs[0]
}

func doc(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
}

func stored(t *testing.T, c *Client, key string) map[string]any {
	t.Helper()
	kv := must[KV](t)(c.Get(context.Background(), key))
	var m map[string]any
	if err := json.Unmarshal(kv.Value, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

const resources = "/calico/resources/v3/projectcalico.org/"

func TestObjectsLifeOfEachKind(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	o := c.Objects()
	for _, tc := range []struct {
		kind, name, spec, change string
		key                      string
	}{
		{"Tier", "t1", "{order: 100}", "{order: 200}", "tiers/t1"},
		{"GlobalNetworkSet", "s", "{nets: [10.0.0.0/8]}", "{nets: [10.0.0.0/8, 2001:db8::/32]}", "globalnetworksets/s"},
		{"NetworkSet", "s", "{nets: [10.0.0.0/8]}", "{nets: [11.0.0.0/8]}", "networksets/default/s"},
		{"Profile", "p", "{ingress: [{action: Allow}]}", "{ingress: [{action: Deny}]}", "profiles/p"},
		{"NetworkPolicy", "web", "{selector: a == 'b'}", "{selector: a == 'c'}", "networkpolicies/default/web"},
		{"GlobalNetworkPolicy", "web", "{selector: a == 'b'}", "{selector: all()}", "globalnetworkpolicies/web"},
		{"Node", "n1", "{bgp: {ipv4Address: 10.0.0.1/24}}", "{bgp: {ipv4Address: 10.0.0.2/24}}", "nodes/n1"},
		{"IPPool", "pool", "{cidr: 10.65.0.0/16}", "{cidr: 10.65.0.0/16, natOutgoing: true}", "ippools/pool"},
		{"BGPConfiguration", "default", "{asNumber: 64513}", "{asNumber: 64514}", "bgpconfigurations/default"},
		{"BGPPeer", "peer", "{peerIP: 10.0.0.9, asNumber: 65000}", "{peerIP: 10.0.0.9, asNumber: 65001}", "bgppeers/peer"},
		{"FelixConfiguration", "default", "{interfacePrefix: cali}", "{interfacePrefix: tap}", "felixconfigurations/default"},
		{"WorkloadEndpoint", "n1-x-w-e", "{node: n1, orchestrator: x, workload: w, endpoint: e, interfaceName: cali1, ipNetworks: [10.65.0.1/32]}",
			"{node: n1, orchestrator: x, workload: w, endpoint: e, interfaceName: cali2, ipNetworks: [10.65.0.1/32]}", "workloadendpoints/default/n1-x-w-e"},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			first, second := parse(t, doc(tc.kind, tc.name, tc.spec)), parse(t, doc(tc.kind, tc.name, tc.change))
			if _, err := o.Replace(ctx, first); !errors.Is(err, ErrNotFound) {
				t.Fatalf("replace of nothing: %v", err)
			}
			made, err := o.Create(ctx, first)
			if err != nil {
				t.Fatal(err)
			}
			m := made.Meta()
			if m.UID == "" || m.CreationTimestamp == nil || m.ResourceVersion == "" || m.Name != tc.name {
				t.Fatalf("created %+v", m)
			}
			raw := stored(t, c, resources+tc.key)
			meta := raw["metadata"].(map[string]any)
			if meta["resourceVersion"] != nil || meta["uid"] != m.UID || raw["kind"] != tc.kind || raw["apiVersion"] != "projectcalico.org/v3" {
				t.Fatalf("stored %v", raw)
			}
			if _, err := o.Create(ctx, first); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), tc.kind) {
				t.Fatalf("created twice: %v", err)
			}
			changed, err := o.Apply(ctx, second)
			if err != nil || changed.Meta().UID != m.UID || *changed.Meta().CreationTimestamp != *m.CreationTimestamp || changed.Meta().ResourceVersion == m.ResourceVersion {
				t.Fatalf("applied %+v, %v", changed, err)
			}
			again, err := o.Apply(ctx, second)
			if err != nil || again.Meta().ResourceVersion != changed.Meta().ResourceVersion {
				t.Fatalf("an apply that changes nothing wrote: %v, %v", again, err)
			}
			stale := parse(t, doc(tc.kind, tc.name, tc.spec))
			stale.Meta().ResourceVersion = m.ResourceVersion
			if _, err := o.Update(ctx, stale); !errors.Is(err, ErrConflict) {
				t.Fatalf("update of an old version: %v", err)
			}
			got, err := o.Read(ctx, strings.ToLower(tc.kind), m.Namespace, tc.name)
			if err != nil || got.Meta().ResourceVersion != changed.Meta().ResourceVersion {
				t.Fatalf("read %v, %v", got, err)
			}
			all, rev, err := o.ReadAll(ctx, tc.kind, "")
			if err != nil || rev == 0 || len(all) == 0 {
				t.Fatalf("read all: %v, %v", all, err)
			}
			if err := o.Remove(ctx, tc.kind, m.Namespace, tc.name, m.ResourceVersion); !errors.Is(err, ErrConflict) {
				t.Fatalf("removal of an old version: %v", err)
			}
			if tc.kind == "Node" || tc.kind == "IPPool" {
				return // below
			}
			if err := o.Remove(ctx, tc.kind, m.Namespace, tc.name, changed.Meta().ResourceVersion); err != nil {
				t.Fatal(err)
			}
			if err := o.Remove(ctx, tc.kind, m.Namespace, tc.name, ""); !errors.Is(err, ErrNotFound) {
				t.Fatalf("removed twice: %v", err)
			}
		})
	}
}

func TestObjectsRefused(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	o := c.Objects()
	must[v3.Resource](t)(o.Create(ctx, parse(t, doc("IPPool", "a", "{cidr: 10.65.0.0/16, disabled: true}"))))
	must[int64](t)(c.Put(ctx, "/calico/ipam/v2/assignment/ipv4/block/10.70.0.0-28", []byte("{}")))
	must[v3.Resource](t)(o.Create(ctx, parse(t, doc("Node", "n1", "{bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: 'fd00::1/64'}}"))))
	must[v3.Resource](t)(o.Create(ctx, parse(t, doc("IPPool", "no-nat", "{cidr: 10.0.0.0/16, disabled: true}"))))
	for _, tc := range []struct{ doc, want string }{
		{doc("NetworkPolicy", "nosuch.web", "{tier: nosuch}"), `spec.tier: there is no tier "nosuch": apply it first`},
		{doc("NetworkPolicy", "knp.default.web", "{}"), "read-only"},
		{doc("ClusterInformation", "default", "{}"), "read-only"},
		{doc("Profile", "projectcalico-default-allow", "{}"), "read-only"},
		{doc("IPPool", "b", "{cidr: 10.65.128.0/24}"), "overlaps 10.65.0.0/16 of pool a"},
		{doc("IPPool", "b", "{cidr: 10.70.0.0/16}"), "block 10.70.0.0/28"},
		{doc("IPPool", "b", "{cidr: 'fd00::/112'}"), "spec.cidr: fd00::/112 has fd00::1 in it, the address of Node n1"},
		{doc("BGPPeer", "p", "{peerIP: 10.0.0.9, asNumber: 65000, filters: [nosuch]}"), `spec.filters[0]: there is no bgpfilter "nosuch"`},
		{doc("GlobalNetworkSet", "x", "{nets: [not-a-net]}"), "spec.nets[0]"},
		{doc("GlobalNetworkSet", "UPPER", "{}"), "metadata.name"},
		{"apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: x, resourceVersion: '7'}\n", "resourceVersion"},
	} {
		r := parse(t, tc.doc)
		if _, err := o.Create(ctx, r); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), r.Type().Kind) {
			t.Errorf("want %q, got %v for\n%s", tc.want, err, tc.doc)
		}
	}
	for _, tc := range []struct{ doc, want string }{
		{doc("IPPool", "a", "{cidr: 10.66.0.0/16}"), "spec.cidr: cannot be changed"},
		{doc("IPPool", "a", "{cidr: 10.65.0.0/16, blockSize: 28}"), "spec.blockSize: cannot be changed"},
		{doc("IPPool", "no-nat", "{cidr: 10.0.0.0/16}"), "spec.cidr: 10.0.0.0/16 has 10.0.0.1 in it, the address of Node n1"},
	} {
		if _, err := o.Apply(ctx, parse(t, tc.doc)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("want %q, got %v", tc.want, err)
		}
	}
	if _, err := o.Read(ctx, "Nonsense", "", "x"); err == nil {
		t.Error("read of an unknown kind")
	}
	for _, tier := range []string{"default", "kube-admin", "kube-baseline"} {
		if err := o.Remove(ctx, "Tier", "", tier, ""); !errors.Is(err, ErrInUse) {
			t.Errorf("tier %s: %v", tier, err)
		}
	}
}

func TestTierInUse(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	o := c.Objects()
	must[v3.Resource](t)(o.Create(ctx, parse(t, doc("Tier", "t1", "{}"))))
	for _, kind := range []string{"NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"} {
		p := must[v3.Resource](t)(o.Create(ctx, parse(t, doc(kind, "t1.web", "{tier: t1}"))))
		if err := o.Remove(ctx, "Tier", "", "t1", ""); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), kind) {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := o.Remove(ctx, kind, p.Meta().Namespace, "t1.web", ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Remove(ctx, "Tier", "", "t1", ""); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownMembersSurvive(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	o := c.Objects()
	key := resources + "globalnetworksets/s"
	must[int64](t)(c.Put(ctx, key, []byte(`{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","extra":1,
		"metadata":{"name":"s","uid":"u","creationTimestamp":null,"managedBy":"x"},"spec":{"nets":["10.0.0.0/8"],"future":{"a":[1]}}}`)))
	must[v3.Resource](t)(o.Apply(ctx, parse(t, doc("GlobalNetworkSet", "s", "{nets: [11.0.0.0/8]}"))))
	m := stored(t, c, key)
	spec, meta := m["spec"].(map[string]any), m["metadata"].(map[string]any)
	if m["extra"] == nil || spec["future"] == nil || meta["managedBy"] != "x" || meta["uid"] != "u" || fmt.Sprint(spec["nets"]) != "[11.0.0.0/8]" {
		t.Fatalf("stored %v", m)
	}
	if meta["creationTimestamp"] == nil {
		t.Error("an object without creation time gets one: calicoctl needs it")
	}
}

func TestPolicyNames(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	o := c.Objects()
	legacy := resources + "globalnetworkpolicies/default.old"
	must[int64](t)(c.Put(ctx, legacy, []byte(`{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.old"},"spec":{"tier":"default"}}`)))
	got := must[v3.Resource](t)(o.Read(ctx, "gnp", "", "old"))
	if got.Meta().Name != "old" || v3.KeyName(got) != "default.old" {
		t.Fatalf("read %+v", got.Meta())
	}
	if _, err := o.Create(ctx, parse(t, doc("GlobalNetworkPolicy", "old", "{}"))); !errors.Is(err, ErrExists) {
		t.Errorf("the same policy twice: %v", err)
	}
	must[v3.Resource](t)(o.Apply(ctx, parse(t, doc("GlobalNetworkPolicy", "old", "{order: 7}"))))
	m := stored(t, c, legacy)
	if m["spec"].(map[string]any)["order"] != 7.0 || m["metadata"].(map[string]any)["name"] != "default.old" {
		t.Fatalf("stored %v", m)
	}
	must[v3.Resource](t)(o.Create(ctx, parse(t, doc("GlobalNetworkPolicy", "new", "{}"))))
	meta := stored(t, c, resources+"globalnetworkpolicies/new")["metadata"].(map[string]any)
	if fmt.Sprint(meta["annotations"]) != `map[projectcalico.org/metadata:{"name":"new"}]` || fmt.Sprint(meta["labels"]) != "map[projectcalico.org/tier:default]" {
		t.Fatalf("stored %v", meta)
	}
	if a := must[v3.Resource](t)(o.Read(ctx, "gnp", "", "new")).Meta().Annotations; len(a) != 0 {
		t.Errorf("annotations shown: %v", a)
	}
	if err := o.Remove(ctx, "gnp", "", "old", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, legacy); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestVirtualProfileAndUnreadable(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	o := c.Objects()
	p := must[v3.Resource](t)(o.Read(ctx, "Profile", "", v3.DefaultAllowName)).(*v3.Profile)
	if len(p.Spec.Ingress) != 1 || len(p.Spec.Egress) != 1 {
		t.Error(p)
	}
	if err := o.Remove(ctx, "Profile", "", v3.DefaultAllowName, ""); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	must[int64](t)(c.Put(ctx, resources+"profiles/bad", []byte("nonsense")))
	must[v3.Resource](t)(o.Create(ctx, parse(t, doc("Profile", "good", "{}"))))
	all, _, err := o.ReadAll(ctx, "Profile", "")
	if len(all) != 2 || !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), "profiles/bad") {
		t.Fatalf("%d, %v", len(all), err)
	}
	if _, err := o.Read(ctx, "Profile", "", "bad"); err == nil {
		t.Error("read nonsense")
	}
	// Applying is how one repairs it.
	if _, err := o.Apply(ctx, parse(t, doc("Profile", "bad", "{}"))); err != nil {
		t.Error(err)
	}
}

func TestApplyFromManySides(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := c.Objects().Apply(ctx, parse(t, doc("GlobalNetworkSet", "s", fmt.Sprintf("{nets: [10.%d.0.0/16]}", i)))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestEnsureInitializedConcurrently(t *testing.T) {
	c, e := newStore(t)
	ctx := context.Background()
	var wg sync.WaitGroup
	for range 10 {
		other := openClient(t, e.URLs()...)
		wg.Go(func() {
			if err := other.EnsureInitialized(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	kvs, rev, err := c.List(ctx, "/")
	if err != nil || len(kvs) != 4 {
		t.Fatalf("%d keys, %v", len(kvs), err)
	}
	for _, kv := range kvs {
		if kv.Revision > 5 {
			t.Errorf("%s was written more than once", kv.Key)
		}
	}
	ci := stored(t, c, resources+"clusterinformations/default")["spec"].(map[string]any)
	if guid, _ := ci["clusterGUID"].(string); len(guid) != 32 || ci["datastoreReady"] != true || ci["calicoVersion"] != nil {
		t.Errorf("cluster information %v", ci)
	}
	for name, want := range map[string]string{"default": "map[defaultAction:Deny order:1e+06]", "kube-admin": "map[defaultAction:Pass order:1000]", "kube-baseline": "map[defaultAction:Pass order:1e+07]"} {
		if got := fmt.Sprint(stored(t, c, resources+"tiers/"+name)["spec"]); got != want {
			t.Errorf("tier %s: %s", name, got)
		}
	}
	if err := c.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	if now := must[int64](t)(c.Revision(ctx)); now != rev {
		t.Error("initialised twice")
	}
	// A locked datastore stays locked; a missing GUID is filled in and the rest kept.
	must[int64](t)(c.Put(ctx, resources+"clusterinformations/default", []byte(`{"metadata":{"name":"default"},"spec":{"datastoreReady":false,"calicoVersion":"v3.1","x":1}}`)))
	if err := c.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	ci = stored(t, c, resources+"clusterinformations/default")["spec"].(map[string]any)
	if ci["datastoreReady"] != false || ci["calicoVersion"] != "v3.1" || ci["x"] != 1.0 || len(ci["clusterGUID"].(string)) != 32 {
		t.Errorf("cluster information %v", ci)
	}
}

func TestEnsureInitializedAroundTheUnreadable(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	for _, key := range []string{"clusterinformations/default", "tiers/default"} {
		must[int64](t)(c.Put(ctx, resources+key, []byte("not json")))
	}
	err := c.EnsureInitialized(ctx)
	if !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), "clusterinformations/default") || !strings.Contains(err.Error(), "tiers/default") {
		t.Fatalf("want an ErrUnreadable that names both, got %v", err)
	}
	t.Log(err)
	for _, key := range []string{"clusterinformations/default", "tiers/default"} {
		if kv, err := c.Get(ctx, resources+key); err != nil || string(kv.Value) != "not json" {
			t.Errorf("%s was not left alone: %q, %v", key, kv.Value, err)
		}
	}
	for _, name := range []string{"kube-admin", "kube-baseline"} {
		if _, err := c.Objects().Read(ctx, "Tier", "", name); err != nil {
			t.Errorf("tier %s: %v", name, err)
		}
	}
	// The views make do with it, and without looking before every write.
	o := c.Objects()
	set := &v3.GlobalNetworkSet{}
	set.Metadata.Name = "s"
	if _, err := o.Create(ctx, set); err != nil || !o.initialized {
		t.Errorf("create: %v; initialized %v", err, o.initialized)
	}
	// A datastore that does not answer is not a matter of reading.
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.EnsureInitialized(ended); err == nil || errors.Is(err, ErrUnreadable) {
		t.Errorf("without an answer: %v", err)
	}
	for _, key := range []string{"clusterinformations/default", "tiers/default"} {
		if err := c.Delete(ctx, resources+key, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.EnsureInitialized(ctx); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

func TestRemoveRevision(t *testing.T) {
	c, _ := newStore(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	rev := must[int64](t)(c.Commit(ctx, []Op{OpPut(setKey(1), setValue(1)), OpPut(setKey(2), setValue(2))}))
	r := startWatch(t, c, func(s *tuning) { s.ping = time.Hour })
	r.synced(t)
	r.at(t, rev)
	// Others write all the time, what no watch reports.
	writing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for writing.Err() == nil {
			_, _ = c.Put(writing, "/unrelated", nil)
		}
	}()
	defer func() { stop(); <-done }()
	o := c.Objects()
	gone, err := o.RemoveRevision(ctx, "GlobalNetworkSet", "", "s00001", "")
	if err != nil {
		t.Fatal(err)
	}
	r.at(t, gone) // comes by itself: nobody asks for progress
	chs := changes(r.since(0))
	if last := chs[len(chs)-1]; !last.Deleted || last.Name != "s00001" || last.Revision != gone {
		t.Errorf("gone at %d, and the watch says %+v", gone, last)
	}
	if rev, err := o.RemoveRevision(ctx, "GlobalNetworkSet", "", "s00001", ""); rev != 0 || !errors.Is(err, ErrNotFound) {
		t.Errorf("removed again at %d: %v", rev, err)
	}
	if rev, err := o.RemoveRevision(ctx, "GlobalNetworkSet", "", "s00002", formatRevision(gone)); rev != 0 || !errors.Is(err, ErrConflict) {
		t.Errorf("removed at %d what was at another revision: %v", rev, err)
	}
}

// ledger records what a deletion asks of the allocator.
type ledger struct {
	freed []netip.Addr
	hosts []string
	pools []string
	seen  func()
}

func (l *ledger) ReleaseIPs(_ context.Context, list []ipam.Release) ([]netip.Addr, error) {
	for _, r := range list {
		l.freed = append(l.freed, r.Addr)
	}
	return nil, nil
}

func (l *ledger) RemoveHost(_ context.Context, node string) error {
	l.hosts = append(l.hosts, node)
	return nil
}

func (l *ledger) ReleasePoolAffinities(_ context.Context, p *v3.IPPool) error {
	l.pools = append(l.pools, p.Metadata.Name)
	if l.seen != nil {
		l.seen()
	}
	return nil
}

func TestNodeDeletion(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	o := c.Objects()
	for _, n := range []string{"n1", "n2"} {
		for _, d := range []string{
			doc("Node", n, "{bgp: {ipv4Address: 10.0.0.1/24, ipv4IPIPTunnelAddr: 10.65.0.9}, ipv4VXLANTunnelAddr: 10.65.0.10}"),
			doc("WorkloadEndpoint", n+"-x-w-e", "{node: "+n+", orchestrator: x, workload: w, endpoint: e, interfaceName: cali1, ipNetworks: [10.65.0.1/32, 'fd00::1/128']}"),
			doc("BGPPeer", "peer-"+n, "{node: "+n+", peerIP: 10.0.0.9, asNumber: 65000}"),
			doc("HostEndpoint", "hep-"+n, "{node: "+n+", interfaceName: eth0}"),
			doc("FelixConfiguration", "node."+n, "{}"),
			doc("BGPConfiguration", "node."+n, "{}"),
		} {
			must[v3.Resource](t)(o.Create(ctx, parse(t, d)))
		}
	}
	before, _, err := c.List(ctx, resources)
	if err != nil {
		t.Fatal(err)
	}
	var l ledger
	obj, err := reference("Node", "", "n1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.remove(ctx, obj, "", &l); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(l.freed); got != "[10.65.0.1 fd00::1 10.65.0.9 10.65.0.10]" || fmt.Sprint(l.hosts) != "[n1]" {
		t.Errorf("released %s of %v", got, l.hosts)
	}
	after, _, err := c.List(ctx, resources)
	if err != nil || len(before)-len(after) != 6 {
		t.Errorf("%d keys before, %d after, %v", len(before), len(after), err)
	}
	for _, kv := range after {
		if strings.Contains(kv.Key, "n1") {
			t.Errorf("left behind: %s", kv.Key)
		}
	}
	// And with the real allocator.
	if err := o.Remove(ctx, "Node", "", "n2", ""); err != nil {
		t.Fatal(err)
	}
}

func TestPoolDeletion(t *testing.T) {
	c, _ := newStore(t)
	ctx := context.Background()
	o := c.Objects()
	must[v3.Resource](t)(o.Create(ctx, parse(t, doc("IPPool", "p", "{cidr: 10.65.0.0/16}"))))
	l := ledger{seen: func() {
		if spec := stored(t, c, resources+"ippools/p")["spec"].(map[string]any); spec["disabled"] != true {
			t.Error("released before it was disabled")
		}
	}}
	obj, err := reference("pool", "", "p")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.remove(ctx, obj, "", &l); err != nil || fmt.Sprint(l.pools) != "[p]" {
		t.Fatalf("%v, %v", l.pools, err)
	}
	if _, err := o.Read(ctx, "IPPool", "", "p"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
