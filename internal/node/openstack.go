// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
)

// openStack says what virtual machines may ask of their host whatever policy says. As
// Felix does, it takes the cluster for one of OpenStack if that is said of it, if
// interfaces of machines are workloads, or if metadata is elsewhere than by default.
func (s *settings) openStack(cluster *v3.ClusterInformation) (o acl.OpenStack) {
	o.Active = cluster != nil && strings.Contains(cluster.Spec.ClusterType, openStack) ||
		s.metadataAddr != netip.AddrFrom4([4]byte{127, 0, 0, 1}) || s.metadataPort != 8775
	for _, p := range s.prefixes {
		o.Active = o.Active || strings.HasPrefix(p, "tap")
	}
	if o.Active && s.metadataAddr.IsValid() {
		o.Metadata = netip.AddrPortFrom(s.metadataAddr, uint16(s.metadataPort))
	}
	return o
}

const openStack = "openstack"
