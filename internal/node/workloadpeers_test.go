// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/selector"
)

// localWorkloadSelector, localWorkloadPeeringIPV4 and localWorkloadPeeringIPV6:
// the sessions, where this node waits for them, and what interfaces and packet
// filter do for them.
func TestPeeringWithWorkloads(t *testing.T) {
	const peer = `---
kind: BGPPeer
metadata: {name: routers}
spec: {nodeSelector: rack == 'one', localWorkloadSelector: role == 'router', asNumber: 65020, keepaliveTime: 10s SOURCE}
---
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false HOST}
`
	const both = ", localWorkloadPeeringIPV4: 192.0.2.254, localWorkloadPeeringIPV6: '2001:db8::254'"
	for _, c := range []struct {
		name, self, source, host string
		want, listen, addrs      string
		problems                 int
	}{
		{name: "its own addresses", self: "a",
			want: "10.65.0.1:179 from 10.0.0.9 [fd65::1]:179 from fd00::9", listen: "10.0.0.9:179 [fd00::9]:179", addrs: "[]"},
		{name: "addresses for workloads", self: "a", host: both,
			want: "10.65.0.1:179 from 192.0.2.254 [fd65::1]:179 from 2001:db8::254", addrs: "[192.0.2.254 2001:db8::254]",
			listen: "10.0.0.9:179 192.0.2.254:179 [2001:db8::254]:179 [fd00::9]:179"},
		{name: "for one family", self: "a", host: ", localWorkloadPeeringIPV6: '2001:db8::254'",
			want: "10.65.0.1:179 from 10.0.0.9 [fd65::1]:179 from 2001:db8::254", addrs: "[2001:db8::254]",
			listen: "10.0.0.9:179 [2001:db8::254]:179 [fd00::9]:179"},
		{name: "at every address", self: "a", host: both + ", bindMode: None", source: ", sourceAddress: None",
			want: "10.65.0.1:179 from invalid IP [fd65::1]:179 from invalid IP", listen: "0.0.0.0:179 [::]:179", addrs: "[192.0.2.254 2001:db8::254]"},
		{name: "a node that is not meant", self: "b", host: both, listen: "10.0.0.10:179 [fd00::10]:179", addrs: "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input(t, c.self, threeNodes+strings.NewReplacer("SOURCE", c.source, "HOST", c.host).Replace(peer))
			in.workloads = func(s *selector.Selector) (list []workload) {
				for _, w := range []struct {
					role string
					workload
				}{
					{"router", workload{policy.EndpointID{Namespace: "default", Name: "r"}, "calir", []netip.Addr{netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("fd65::1")}}},
					{"web", workload{policy.EndpointID{Namespace: "default", Name: "w"}, "caliw", []netip.Addr{netip.MustParseAddr("10.65.0.2")}}},
				} {
					if s.Match(selector.Map{"role": w.role}) {
						list = append(list, w.workload)
					}
				}
				return list
			}
			cfg, _, problems := peering(in)
			var got []string
			for _, p := range cfg.Peers {
				if !p.Passive || p.ASN != 65020 || p.Name != "default/r" || p.Keepalive.Seconds() != 10 {
					t.Errorf("%+v", p)
				}
				got = append(got, fmt.Sprintf("%s from %s", p.Addr, p.LocalAddr))
			}
			if s := strings.Join(got, " "); s != c.want || len(problems) != c.problems {
				t.Errorf("sessions %s, want %s; problems %v", s, c.want, problems)
			}
			slices.SortFunc(cfg.Listen, netip.AddrPort.Compare)
			if s := strings.Trim(fmt.Sprint(cfg.Listen), "[]"); s != strings.Trim(c.listen, "[]") {
				t.Errorf("listens on %s, want %s", s, c.listen)
			}
			now := in.speaking()
			if s := fmt.Sprint(now.host); s != c.addrs {
				t.Errorf("addresses on interfaces %s, want %s", s, c.addrs)
			}
			if want := map[bool]string{true: "[calir]", false: "[]"}[c.want != ""]; fmt.Sprint(now.interfaces()) != want {
				t.Errorf("speakers %v, want %s", now.interfaces(), want)
			}
		})
	}
}
