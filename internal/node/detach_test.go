// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/lab/labtest"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

// newDatastore is one of the test's own.
func newDatastore(t *testing.T) *store.Client {
	t.Helper()
	srv, err := store.StartEmbedded(t.Context(), store.EmbeddedConfig{Dir: t.TempDir(), ListenClient: []string{"http://127.0.0.1:0"}, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	client, err := store.Open(t.Context(), store.Config{Endpoints: srv.URLs()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// TestDetachGoesOn: a detach that could not wait for the node to be live keeps the
// addresses, and the next one, which finds no object any more, releases them, not before the
// node is live, whether the endpoint is a container or a process of this host.
func TestDetachGoesOn(t *testing.T) {
	client, log := newDatastore(t), slog.New(slog.DiscardHandler)
	var pools []*v3.IPPool
	for name, cidr := range map[string]string{"p4": "10.65.0.0/24", "p6": "fd00:65::/118"} {
		p := &v3.IPPool{}
		p.Metadata.Name, p.Spec.CIDR = name, cidr
		pools = append(pools, p)
	}
	ns := labtest.Namespace(t, labtest.New(t), "host")
	for _, iface := range []string{policy.Loopback, "eth0"} {
		t.Run(iface, func(t *testing.T) {
			d := &Daemon{cfg: Config{Node: "n1", InterfacePrefix: "cali"}, log: log, store: client, ipam: client.Allocator(), board: newBoard(api.Status{})}
			w, err := d.wanted(t.Context(), &api.Attach{Name: "x", Namespace: "ns", Interface: iface, HostProcess: iface == policy.Loopback})
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.ipam.AutoAssign(t.Context(), ipam.Request{Num4: 1, Num6: 1, Handle: handleOf(w), Node: "n1", Pools: pools, Use: ipam.UseWorkload})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range append(got.IPv4, got.IPv6...) {
				w.Spec.IPNetworks = append(w.Spec.IPNetworks, p.Addr().String())
			}
			rev, err := d.writeEndpoint(t.Context(), w, nil)
			if err != nil {
				t.Fatal(err)
			}
			detach := func(limit time.Duration) error {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				r := httptest.NewRequestWithContext(ctx, http.MethodDelete, "/v1/endpoints/ns/x", nil)
				r.SetPathValue("namespace", "ns")
				r.SetPathValue("name", "x")
				return ns.Do(func() error { _, err := d.deleteEndpoint(r); return err })
			}
			held := func(want int) {
				t.Helper()
				list, err := d.ipam.IPsByHandle(t.Context(), handleOf(w))
				if len(list) != want || err != nil && !errors.Is(err, ipam.ErrNotFound) {
					t.Errorf("%v are held (%v), want %d", list, err, want)
				}
			}
			d.board.publish(api.Status{Live: true, LiveRevision: rev})
			for range 2 {
				if err := detach(time.Second); err == nil || errors.Is(err, errNotFound) {
					t.Errorf("the node is not live where the endpoint is deleted: %v", err)
				}
				held(2)
			}
			d.board.publish(api.Status{Live: true, LiveRevision: rev + 100})
			if err := detach(10 * time.Second); err != nil {
				t.Error(err)
			}
			held(0)
			if err := detach(10 * time.Second); !errors.Is(err, errNotFound) {
				t.Errorf("once more: %v, want that there is none", err)
			}
		})
	}
}

// TestAttachThatFailsKeepsAddresses: what an attach that failed has allocated is free when its object, its routes and
// its interface are gone, and not before; the next attach begins with that.
func TestAttachThatFailsKeepsAddresses(t *testing.T) {
	t.Parallel()
	client := newDatastore(t)
	n := &v3.Node{}
	n.Kind, n.APIVersion, n.Metadata.Name = "Node", v3.APIVersion, "n1"
	objects := []v3.Resource{n}
	for name, cidr := range map[string]string{"p4": "10.65.0.0/24", "p6": "fd00:65::/118"} {
		p := &v3.IPPool{}
		p.Kind, p.APIVersion, p.Metadata.Name, p.Spec.CIDR = "IPPool", v3.APIVersion, name, cidr
		objects = append(objects, p)
	}
	for _, r := range objects {
		if _, err := client.Objects().Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	l := &loop{calls: make(chan func()), infrastructure: newInfrastructure(nil), model: newModel("n1", policy.NewIndex("n1"))}
	go func() {
		for f := range l.calls {
			f()
		}
	}()
	defer close(l.calls)
	d := &Daemon{cfg: Config{Node: "n1", InterfacePrefix: "cali"}, log: slog.New(slog.DiscardHandler), store: client, ipam: client.Allocator(), board: newBoard(api.Status{}), loop: l}
	lab := labtest.New(t)
	host, inside := labtest.Namespace(t, lab, "host"), labtest.Namespace(t, lab, "inside")
	a := &api.Attach{Name: "x", Namespace: "ns", Interface: "eth0", NetNS: inside.Path()}
	w, err := d.wanted(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	attach := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() { // its caller waits no longer once the object is there, however long that takes
			for pause(ctx, 10*time.Millisecond) {
				if w, err := d.getEndpoint(ctx, "ns", w.Metadata.Name); err == nil && w != nil {
					cancel()
				}
			}
		}()
		if err := host.Do(func() error { _, err := d.attachEndpoint(ctx, a); return err }); err == nil {
			t.Error("the node is not live, and the endpoint is attached")
		}
		if old, err := d.getEndpoint(t.Context(), "ns", w.Metadata.Name); err != nil || old != nil {
			t.Errorf("the object is still there: %v, %v", old, err)
		}
	}
	held := func(want int) {
		t.Helper()
		if list, err := d.ipam.IPsByHandle(t.Context(), handleOf(w)); len(list) != want || err != nil {
			t.Errorf("%v are held (%v), want %d", list, err, want)
		}
	}
	d.board.publish(api.Status{Live: true})
	attach()
	held(2)
	d.board.publish(api.Status{Live: true, LiveRevision: 1 << 40})
	attach()
	held(0)
}
