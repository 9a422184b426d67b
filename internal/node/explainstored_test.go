// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

func TestExplainProtocols(t *testing.T) {
	for _, c := range []struct {
		proto, port string
		v4, v6      uint8 // 0: not asked
		echo        bool
	}{
		{"icmp", "", 1, 0, true}, {"ICMPv6", "", 0, 58, true}, {"ping", "", 1, 58, true},
		{"1", "", 1, 0, false}, {"58", "", 0, 58, false}, {"tcp", "80", 6, 6, false}, {"47", "", 47, 47, false},
	} {
		p, _, err := protocolAndPort(c.proto, c.port)
		if err != nil {
			t.Errorf("%s: %v", c.proto, err)
			continue
		}
		var got [2]uint8
		for i, six := range []bool{false, true} {
			if p.in(six) {
				got[i] = p.forFamily(six)
			}
		}
		if got != [2]uint8{c.v4, c.v6} || p.echo != c.echo {
			t.Errorf("%s: IPv4 %d, IPv6 %d, echo %v; want %+v", c.proto, got[0], got[1], p.echo, c)
		}
	}
	if _, _, err := protocolAndPort("icmpv4", ""); err == nil || !strings.Contains(err.Error(), "icmpv6") {
		t.Errorf("the protocols there are: %v", err)
	}
}

// TestExplainHost: every address of an interface of the server is the server's, but for
// those of its workloads and processes.
func TestExplainHost(t *testing.T) {
	w := &world{self: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	process := &v3.WorkloadEndpoint{}
	process.Spec.Node, process.Spec.InterfaceName, process.Spec.IPNetworks = "n1", "x", []string{"10.65.0.9/32"}
	w.Put(policy.Key{Kind: "WorkloadEndpoint", Namespace: "default", Name: "p"}, process, nil)
	w.Interfaces = map[string][]netip.Addr{}
	for iface, addrs := range map[string][]string{"cali1": {"169.254.1.1", "fe80::ecee:eeff:feee:eeee%cali1"}, "up1": {"198.51.100.1"}, "lo": {"127.0.0.1", "10.65.0.9"}} {
		for _, a := range addrs {
			w.Interfaces[iface] = append(w.Interfaces[iface], netip.MustParseAddr(a))
		}
	}
	for a, want := range map[string]bool{
		"192.0.2.1": true, "::ffff:192.0.2.1": true, "169.254.1.1": true, "fe80::ecee:eeff:feee:eeee": true, "198.51.100.1": true, "127.0.0.1": true,
		"10.65.0.9": false, "198.51.100.2": false,
	} {
		if e, err := w.end(a); err != nil || e.host != want {
			t.Errorf("%s is the server's: %v (%v), want %v", a, e.host, err, want)
		}
	}
}

const storedPolicy = `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"p"},"spec":{"selector":"all()","types":["Ingress"],"ingress":[{"action":"Allow"}]}}`

// explaining is a daemon that answers explain without a kernel or a datastore.
func explaining(t *testing.T) *Daemon {
	log := slog.New(slog.DiscardHandler)
	client, err := store.Open(t.Context(), store.Config{Endpoints: []string{"unix:///nowhere"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	d := &Daemon{cfg: Config{Node: "n1", StateDir: t.TempDir()}, store: client, log: log, speaker: bgp.New(bgp.Options{Log: log}), board: newBoard(api.Status{LiveRevision: 7})}
	d.loop = newLoop(d)
	yes := true
	d.loop.model.cluster = &v3.ClusterInformation{Spec: v3.ClusterInformationSpec{DatastoreReady: &yes}}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case f := <-d.loop.calls:
				f()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return d
}

// TestExplainSaysWhatDiffers: that the kernel holds the last good version of an object,
// or what was there before the datastore was not ready, is part of the answer.
func TestExplainSaysWhatDiffers(t *testing.T) {
	d := explaining(t)
	l := d.loop
	key := policy.Key{Kind: "GlobalNetworkPolicy", Name: "p"}
	var reader policy.Reader
	put := func(value string) policy.Object {
		r, err := v3.DecodeKV(v3.Key(key.Kind, "", key.Name), []byte(value))
		o := reader.Read(key, r, err)
		l.model.index.Put(reader.Read(key, r, err))
		return o
	}
	want := func(when string, o policy.Object, differs bool, note string) {
		t.Helper()
		notes, got := l.differences(reading{suspects: map[policy.Key]policy.Object{key: o}})
		if text := strings.Join(notes, "\n"); got != differs || !strings.Contains(text, note) || note == "" && text != "" {
			t.Errorf("%s: differs is %v, want %v; notes %q, want %q", when, got, differs, notes, note)
		}
	}
	const cannotBeRead = `{"spec":{"selector":7}}`
	want("never a good version", put(cannotBeRead), false, "GlobalNetworkPolicy p")
	want("a good one", put(storedPolicy), false, "")
	want("a bad one after it", put(cannotBeRead), true, "its last good version")
	want("a selector that is none", put(strings.Replace(storedPolicy, "all()", "a ==", 1)), true, "its last good version")
	want("good again", put(storedPolicy), false, "")
	no := false
	l.live, l.model.cluster.Spec.DatastoreReady = 7, &no
	want("not ready", put(storedPolicy), false, "not ready")
	l.held["x"] = change{}
	want("not ready, and changed since", put(storedPolicy), true, "not ready")
}

// TestExplainWithoutDatastore: the objects are those that were saved, and the answer
// says so; without any it says where the datastore is, and what to do.
func TestExplainWithoutDatastore(t *testing.T) {
	d := explaining(t)
	_, err := d.getExplain(httptest.NewRequest(http.MethodGet, "/v1/explain?src=192.0.2.1&dst=192.0.2.2&proto=tcp&port=80", nil))
	if err == nil || !strings.Contains(err.Error(), "unix:///nowhere") || !strings.Contains(err.Error(), "muslin acl show") || strings.Contains(err.Error(), "/calico/") {
		t.Errorf("without anything saved: %v", err)
	}
	rev := saveObjects(t, d.cfg.StateDir, map[string]string{v3.Key("GlobalNetworkPolicy", "", "p"): storedPolicy})
	for _, live := range []int64{rev, rev + 1} {
		d.board.publish(api.Status{LiveRevision: live})
		w, r, err := d.world(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(w.GlobalPolicies) != 1 || r.differs != (live != rev) || !strings.Contains(r.note, "unix:///nowhere") {
			t.Errorf("at revision %d: %+v, with %d policies", live, r, len(w.GlobalPolicies))
		}
	}
}

// saveObjects saves a datastore with these values as a daemon does.
func saveObjects(t *testing.T, dir string, values map[string]string) int64 {
	t.Helper()
	e, err := store.StartEmbedded(t.Context(), store.EmbeddedConfig{Dir: t.TempDir(), ListenClient: []string{"http://127.0.0.1:0"}, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c, err := store.Open(t.Context(), store.Config{Endpoints: e.URLs()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for key, value := range values {
		if _, err := c.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	rev, err := journalOf(dir).Save(t.Context(), c, "n1")
	if err != nil {
		t.Fatal(err)
	}
	return rev
}
