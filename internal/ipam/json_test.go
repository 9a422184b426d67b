// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// plain decodes JSON for comparison; numbers keep all their digits.
func plain(t *testing.T, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}

const goldenBlock = `{
 "cidr":"10.65.0.0/29","affinity":"host:node1","affinity_claim_time":"2026-08-22T10:00:00Z",
 "allocations":[0,null,1,1,2,null,null,3],
 "unallocated":[1,6,5],
 "attributes":[
  {"handle_id":"ipip-tunnel-addr-node1","secondary":{"node":"node1","type":"ipipTunnelAddress"}},
  {"handle_id":"k8s-pod-network.abc","secondary":{"namespace":"ns","node":"node1","pod":"p"},"alternateOwnerAttrs":{"node":"node2"}},
  {"releasedAt":"2026-08-22T10:05:00Z"},
  {"secondary":{"node":"node1"},"future":{"a":[1,null]}}],
 "sequenceNumber":1755856800000000123,
 "sequenceNumberForAllocation":{"0":1755856800000000001,"2":1755856800000000002,"3":1755856800000000002,"4":1755856800000000003,"7":1755856800000000004},
 "deleted":false,"future":{"b":12345678901234567890}}`

func TestBlockRoundTripKeepsEverything(t *testing.T) {
	b, err := DecodeBlock([]byte(goldenBlock))
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(plain(t, []byte(goldenBlock)), plain(t, out)); d != "" {
		t.Error(d)
	}
	if got := b.ByHandle("k8s-pod-network.abc"); len(got) != 2 || got[0] != netip.MustParseAddr("10.65.0.2") {
		t.Errorf("ByHandle: %v", got)
	}
	if o, ok := b.Owned(netip.MustParseAddr("10.65.0.4")); !ok || !o.Cooling {
		t.Errorf("10.65.0.4: %+v, %v; want cooling down", o, ok)
	}

	// A change of one address leaves what others stored about the rest.
	if _, _, err := b.Put([]Release{{Addr: netip.MustParseAddr("10.65.0.0")}}); err != nil {
		t.Fatal(err)
	}
	out, _ = b.Encode()
	want := `{"cidr":"10.65.0.0/29","affinity":"host:node1","affinity_claim_time":"2026-08-22T10:00:00Z",
	"allocations":[null,null,0,0,1,null,null,2],"unallocated":[1,6,5,0],
	"attributes":[
	 {"handle_id":"k8s-pod-network.abc","secondary":{"namespace":"ns","node":"node1","pod":"p"},"alternateOwnerAttrs":{"node":"node2"}},
	 {"releasedAt":"2026-08-22T10:05:00Z"},
	 {"secondary":{"node":"node1"},"future":{"a":[1,null]}}],
	"sequenceNumber":1755856800000000123,
	"sequenceNumberForAllocation":{"2":1755856800000000002,"3":1755856800000000002,"4":1755856800000000003,"7":1755856800000000004},
	"deleted":false,"future":{"b":12345678901234567890}}`
	if d := cmp.Diff(plain(t, []byte(want)), plain(t, out)); d != "" {
		t.Error(d)
	}
}

func TestNewBlockJSON(t *testing.T) {
	at := time.Date(2026, 8, 22, 10, 0, 0, 123, time.UTC)
	b := NewBlock(netip.MustParsePrefix("2001:db8::8/126"), HostOwner("n"), at)
	out, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cidr":"2001:db8::8/126","affinity":"host:n","affinity_claim_time":"2026-08-22T10:00:00Z",
	"allocations":[null,null,null,null],"unallocated":[0,1,2,3],"attributes":[],
	"sequenceNumber":1787392800000000123,"sequenceNumberForAllocation":{},"deleted":false}`
	if d := cmp.Diff(plain(t, []byte(want)), plain(t, out)); d != "" {
		t.Error(d)
	}
	b.Take(4, "h", map[string]string{"node": "n"})
	b.Affinity, b.ClaimTime = "", time.Time{}
	out, _ = b.Encode()
	want = `{"cidr":"2001:db8::8/126","affinity":null,"allocations":[0,0,0,0],"unallocated":[],
	"attributes":[{"handle_id":"h","secondary":{"node":"n"}}],"sequenceNumber":1787392800000000123,
	"sequenceNumberForAllocation":{"0":1787392800000000123,"1":1787392800000000123,"2":1787392800000000123,"3":1787392800000000123},"deleted":false}`
	if d := cmp.Diff(plain(t, []byte(want)), plain(t, out)); d != "" {
		t.Error(d)
	}
}

func TestBlockLegacyAffinity(t *testing.T) {
	b, err := DecodeBlock([]byte(`{"cidr":"10.0.0.0/31","hostAffinity":"old","allocations":[null,null],"unallocated":[0,1],"attributes":null}`))
	if err != nil || b.Affinity != "host:old" {
		t.Fatalf("%+v, %v", b, err)
	}
}

func TestBlockThatContradictsItself(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":            `x`,
		"array":               `[]`,
		"no cidr":             `{}`,
		"host bits":           `{"cidr":"10.0.0.1/31","allocations":[null,null]}`,
		"mapped":              `{"cidr":"::ffff:10.0.0.0/127","allocations":[null,null]}`,
		"huge":                `{"cidr":"::/0"}`,
		"short":               `{"cidr":"10.0.0.0/31","allocations":[null]}`,
		"no such attribute":   `{"cidr":"10.0.0.0/31","allocations":[0,null]}`,
		"negative attribute":  `{"cidr":"10.0.0.0/31","allocations":[-2,null]}`,
		"free and taken":      `{"cidr":"10.0.0.0/31","allocations":[0,null],"attributes":[{}],"unallocated":[0]}`,
		"free twice":          `{"cidr":"10.0.0.0/31","allocations":[null,null],"unallocated":[1,1]}`,
		"free outside":        `{"cidr":"10.0.0.0/31","allocations":[null,null],"unallocated":[2]}`,
		"wrong type":          `{"cidr":"10.0.0.0/31","allocations":"all"}`,
		"wrong type in depth": `{"cidr":"10.0.0.0/31","allocations":[null,null],"attributes":[{"secondary":3}]}`,
	} {
		if b, err := DecodeBlock([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, b)
		}
	}
}

func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte(goldenBlock))
	f.Add([]byte(`{"cidr":"10.0.0.0/31","allocations":[null,null],"unallocated":[1,0]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := DecodeBlock(in)
		if err != nil {
			return
		}
		b.Put([]Release{{Addr: b.Addr(0)}})
		b.Take(2, "h", nil)
		out, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeBlock(out); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	})
}

func TestAffinityJSON(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want State // empty: refused
		out  string
	}{
		{``, Confirmed, `{"state":"confirmed","deleted":false}`},
		{`{}`, Confirmed, `{"state":"confirmed","deleted":false}`},
		{`{"state":"pending","deleted":false,"x":1}`, Pending, `{"state":"pending","deleted":false,"x":1}`},
		{`{"state":"pendingDeletion"}`, PendingDeletion, `{"state":"pendingDeletion","deleted":false}`},
		{`{"state":"sold"}`, "", ``},
		{`7`, "", ``},
	} {
		a, err := DecodeAffinity([]byte(tt.in))
		if (err == nil) != (tt.want != "") || a.State != tt.want {
			t.Errorf("%s: %q, %v", tt.in, a.State, err)
			continue
		}
		if err != nil {
			continue
		}
		if out, _ := a.Encode(); string(out) != tt.out {
			t.Errorf("%s: got %s", tt.in, out)
		}
	}
}

func TestHandleJSON(t *testing.T) {
	h, err := DecodeHandle([]byte(`{"block":{"10.65.0.0/26":2,"odd":1},"deleted":false,"x":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	h.Add(netip.MustParsePrefix("2001:db8::/122"), 1)
	h.Add(netip.MustParsePrefix("10.65.0.0/26"), -3)
	out, _ := h.Encode()
	if want := `{"block":{"2001:db8::/122":1,"odd":1},"deleted":false,"x":[]}`; string(out) != want {
		t.Errorf("got %s", out)
	}
}

func TestConfigJSON(t *testing.T) {
	full := `{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"kubeVirtVMAddressPersistence":"Enabled","ipCooldownSeconds":30,"x":0}`
	c, err := DecodeConfig([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := c.Encode(); string(out) != full {
		t.Errorf("got %s", out)
	}
	// A stored value without the member means false; only an absent key means
	// the default.
	if c, _ = DecodeConfig([]byte(`{"strict_affinity":true}`)); c.AutoAllocateBlocks {
		t.Error("auto_allocate_blocks must be false when a stored value does not have it")
	}
	if !DefaultConfig().AutoAllocateBlocks || DefaultConfig().StrictAffinity {
		t.Error("the default is auto and not strict")
	}
	if out, _ := (Config{}).Encode(); string(out) != `{}` {
		t.Errorf("zero: %s", out)
	}
}

func TestKeys(t *testing.T) {
	p4, p6 := netip.MustParsePrefix("10.65.0.0/26"), netip.MustParsePrefix("2001:db8::/122")
	if got := BlockKey(p4); got != "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26" {
		t.Error(got)
	}
	if got := BlockKey(p6); got != "/calico/ipam/v2/assignment/ipv6/block/2001:db8::-122" {
		t.Error(got)
	}
	for _, o := range []Owner{HostOwner("node-1.example%2f"), LoadBalancer} {
		for _, p := range []netip.Prefix{p4, p6} {
			k, err := AffinityKey(o, p)
			if err != nil {
				t.Fatal(err)
			}
			if o2, p2, ok := ParseAffinityKey(k); !ok || o2 != o || p2 != p {
				t.Errorf("%s: %v %v %v", k, o2, p2, ok)
			}
		}
	}
	if k, _ := AffinityKey("host:n", p4); k != "/calico/ipam/v2/host/n/ipv4/block/10.65.0.0-26" {
		t.Error(k)
	}
	if k, _ := AffinityKey(LoadBalancer, p4); k != "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.65.0.0-26" {
		t.Error(k)
	}
	// Handles stand in the key as they are.
	if k, err := HandleKey("k8s-pod-network.a%b c"); err != nil || k != "/calico/ipam/v2/handle/k8s-pod-network.a%b c" {
		t.Error(k, err)
	}
	for _, id := range []string{"", "a/b", "x\x00"} {
		if k, err := HandleKey(id); err == nil {
			t.Errorf("handle %q accepted: %s", id, k)
		}
	}
	for _, k := range []string{
		"/calico/ipam/v2/host/n", "/calico/ipam/v2/host/n/ipv4/block/10.0.0.1-26", "/calico/ipam/v2/host/n/ipv6/block/10.0.0.0-26",
		"/calico/ipam/v2/host/n/ipv4/block/10.0.0.0-33", "/calico/ipam/v2/host/n/ipv4/block/10.0.0.0", "/calico/ipam/v2/host//ipv4/block/10.0.0.0-26",
		"/calico/ipam/v2/host/n/ipv6/block/2001:DB8::-122", "/calico/ipam/v2/handle/x",
	} {
		if o, p, ok := ParseAffinityKey(k); ok {
			t.Errorf("%s accepted as %v %v", k, o, p)
		}
	}
	if p, ok := ConfirmedBlock("host:n", "/calico/ipam/v2/host/n/ipv4/block/10.65.0.0-26", nil); !ok || p != p4 {
		t.Error("an empty value is a confirmed affinity")
	}
	if _, ok := ConfirmedBlock("host:n", "/calico/ipam/v2/host/n/ipv4/block/10.65.0.0-26", []byte(`{"state":"pending"}`)); ok {
		t.Error("a pending affinity is not owned")
	}
	if _, ok := ConfirmedBlock("host:m", "/calico/ipam/v2/host/n/ipv4/block/10.65.0.0-26", nil); ok {
		t.Error("another's affinity is not owned")
	}
}
