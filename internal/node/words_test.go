// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/ipam"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

// TestWhoHasAnAddress: who asks for a taken address learns of the endpoint that has it,
// by the name that its user gave, and what frees it.
func TestWhoHasAnAddress(t *testing.T) {
	addr := netip.MustParseAddr("10.65.0.7")
	for handle, want := range map[string]string{
		"muslin.default.host1-muslin-three-eth0":       "endpoint default/three of node host1: `muslin endpoint detach three` there",
		"muslin.shop.rack.host--1-muslin-web--1-eth1":  "endpoint shop/web-1 of node rack.host-1: `muslin endpoint detach web-1 -n shop --interface eth1` there",
		"muslin.default.host1-muslin-dns-lo":           "`muslin endpoint detach dns` there",
		"k8s-pod-network.0123":                         "already assigned",
		"muslin.default.host1-openstack-three-eth0":    "already assigned",
		"other.muslin.default.host1-muslin-three-eth0": "already assigned",
	} {
		for _, err := range []error{&ipam.AssignedError{Addr: addr, Handle: handle}, fmt.Errorf("assign: %w", &ipam.AssignedError{Addr: addr, Handle: handle})} {
			if got := holder(err); !strings.Contains(got.Error(), want) || !strings.Contains(got.Error(), addr.String()) {
				t.Errorf("%s: %v; want %s", handle, got, want)
			}
		}
	}
	if err := errors.New("x"); holder(err) != err || holder(nil) != nil {
		t.Error("other errors are not as they were")
	}
}

func TestEndpointThatCannotBeAskedFor(t *testing.T) {
	down := &store.Error{Op: "get", Object: "WorkloadEndpoint(default/host--2-muslin-api-eth0)", Err: fmt.Errorf("%w at http://10.0.0.1:2379: refused", store.ErrUnavailable)}
	got := unread("default", "api", down).Error()
	if !strings.HasPrefix(got, "endpoint default/api ") || strings.Contains(got, "host--2") || !strings.Contains(got, "http://10.0.0.1:2379") {
		t.Error(got)
	}
}

// TestMissingProfileIsSaid: an endpoint whose profile does not exist denies everything,
// and says so.
func TestMissingProfileIsSaid(t *testing.T) {
	x := policy.NewIndex("n1")
	var r policy.Reader
	put := func(kind, namespace, name, value string) {
		o, err := v3.DecodeKV(v3.Key(kind, namespace, name), []byte(value))
		x.Put(r.Read(policy.Key{Kind: kind, Namespace: namespace, Name: name}, o, err))
		x.Flush()
	}
	said := func() (text string) {
		for e := range x.Endpoints() {
			text += missingProfiles(x, e)
		}
		return text
	}
	put("WorkloadEndpoint", "default", "n1-muslin-w-eth0", `{"spec":{"node":"n1","orchestrator":"muslin","workload":"w","endpoint":"eth0","interfaceName":"cali1","ipNetworks":["10.0.0.1/32"],"profiles":["nosuch","projectcalico-default-allow"]}}`)
	if got := said(); !strings.HasPrefix(got, "profile nosuch does not exist") {
		t.Errorf("of a missing profile is said %q", got)
	}
	put("Profile", "", "nosuch", `{"spec":{"ingress":[{"action":"Allow"}]}}`)
	if got := said(); got != "" {
		t.Errorf("of a profile that is there is said %q", got)
	}
}
