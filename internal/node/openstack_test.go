// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/acl"
)

// TestOpenStack: who is a host of OpenStack, and where its metadata is.
func TestOpenStack(t *testing.T) {
	stack := &v3.ClusterInformation{Spec: v3.ClusterInformationSpec{ClusterType: "openstack,bgp"}}
	other := &v3.ClusterInformation{Spec: v3.ClusterInformationSpec{ClusterType: "k8s"}}
	at := func(s string) acl.OpenStack { return acl.OpenStack{Active: true, Metadata: netip.MustParseAddrPort(s)} }
	for _, c := range []struct {
		name    string
		cluster *v3.ClusterInformation
		environ []string
		want    acl.OpenStack
	}{
		{"nobody says so", nil, nil, acl.OpenStack{}},
		{"another cluster", other, nil, acl.OpenStack{}},
		{"the cluster says so", stack, nil, at("127.0.0.1:8775")},
		{"interfaces of machines", nil, []string{"FELIX_INTERFACEPREFIX=cali,tap"}, at("127.0.0.1:8775")},
		{"metadata elsewhere", other, []string{"FELIX_METADATAADDR=192.0.2.9"}, at("192.0.2.9:8775")},
		{"another port", other, []string{"FELIX_METADATAPORT=80"}, at("127.0.0.1:80")},
		{"no metadata", stack, []string{"FELIX_METADATAADDR=None"}, acl.OpenStack{Active: true}},
		{"nonsense", other, []string{"FELIX_METADATAADDR=metadata.example", "FELIX_METADATAPORT=0"}, acl.OpenStack{}},
	} {
		s, problems := resolve(nil, felixSources{environ: c.environ})
		if got := s.openStack(c.cluster); got != c.want || (len(problems) > 0) != (c.name == "nonsense") {
			t.Errorf("%s: got %+v, want %+v; problems %v", c.name, got, c.want, problems)
		}
	}
}
