// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/store"
)

// This page is about an endpoint that moves: both servers have it until it is detached from the one that it leaves, and
// its addresses are allocated to one of them all the time.

var anycast = v3.AnnotationPrefix + "anycast"

// leaves returns the handle that has an address which could not be assigned, if it is that of the endpoint on the
// server that it leaves, or of the endpoint here; both are of the same name.
func (d *Daemon) leaves(a *api.Attach, err error) (handle string, ok bool) {
	var taken *ipam.AssignedError
	if a.From == "" || !errors.As(err, &taken) || taken.Cooling {
		return "", false
	}
	w, ok := ofHandle(taken.Handle)
	return taken.Handle, ok && w.Metadata.Namespace == a.Namespace && w.Spec.Workload == a.Name && (w.Spec.Node == a.From || w.Spec.Node == d.cfg.Node)
}

// ofHandle tells whose a handle is: it has a name, and what that is made of.
func ofHandle(handle string) (*v3.WorkloadEndpoint, bool) {
	rest, ours := strings.CutPrefix(handle, orchestrator+".")
	namespace, name, ok := strings.Cut(rest, ".")
	spec, err := v3.ParseWorkloadEndpointName(name)
	if !ours || !ok || err != nil || spec.Orchestrator != orchestrator {
		return nil, false
	}
	w := &v3.WorkloadEndpoint{}
	w.Metadata.Namespace, w.Metadata.Name = namespace, name
	w.Spec.Node, w.Spec.Workload, w.Spec.Endpoint = spec.Node, spec.Workload, spec.Endpoint
	return w, true
}

// share has an endpoint that leaves its server let another one have its addresses, too. It may be gone already.
func (d *Daemon) share(ctx context.Context, handle string) error {
	of, ok := ofHandle(handle)
	if !ok {
		return nil
	}
	for {
		w, err := d.getEndpoint(ctx, of.Metadata.Namespace, of.Metadata.Name)
		if err != nil || w == nil || w.Metadata.Annotations[anycast] == "Enabled" {
			return err
		}
		annotations := maps.Clone(w.Metadata.Annotations)
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[anycast] = "Enabled"
		w.Metadata.Annotations = annotations
		if _, err = d.writeEndpoint(ctx, w, w); !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
}

// handOver allocates to an endpoint that is live here what the server that it leaves has still.
func (d *Daemon) handOver(ctx context.Context, w *v3.WorkloadEndpoint, from string, addrs []netip.Addr) error {
	for _, ip := range addrs {
		if err := d.ipam.HandOver(ctx, ip, from, handleOf(w), d.attrs(w)); err != nil {
			return fmt.Errorf("endpoint %s/%s is live here, and not all of its addresses are allocated to it; attach it again: %w", w.Metadata.Namespace, w.Spec.Workload, err)
		}
	}
	return nil
}

// attrs are what an address is allocated with.
func (d *Daemon) attrs(w *v3.WorkloadEndpoint) map[string]string {
	return map[string]string{"node": d.cfg.Node, "namespace": w.Metadata.Namespace, "workload": w.Spec.Workload}
}
