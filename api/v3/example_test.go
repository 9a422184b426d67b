// SPDX-License-Identifier: Apache-2.0

package v3_test

import (
	"fmt"

	v3 "github.com/muslin-net/muslin/api/v3"
)

func ExampleDecode() {
	rs, err := v3.Decode([]byte(`
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: ops}
spec: {order: 10}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: production}
spec:
  tier: ops
  selector: role == "web"
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range rs {
		v3.Default(r)
		fmt.Println(v3.KeyOf(r), v3.Validate(r))
	}
	// Output:
	// /calico/resources/v3/projectcalico.org/tiers/ops <nil>
	// /calico/resources/v3/projectcalico.org/networkpolicies/production/web <nil>
}

func ExampleDecode_error() {
	_, err := v3.Decode([]byte(`
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: production}
spec:
  ingress:
  - action: Allow
    protocl: TCP
`))
	fmt.Println(err)
	// Output:
	// line 8: NetworkPolicy "production/web": spec.ingress[0].protocl: unknown field, did you mean "protocol"?
}

func ExampleValidate() {
	p := &v3.IPPool{Spec: v3.IPPoolSpec{CIDR: "10.0.0.0/16", BlockSize: 8}}
	p.Metadata.Name = "pool"
	v3.Default(p)
	fmt.Println(v3.Validate(p))
	// Output:
	// IPPool "pool": spec.blockSize: 8: want 20–32 for this family
}

// What other programs wrote beside the members of the model is kept.
func ExampleEncodeMerged() {
	stored := []byte(`{"metadata":{"name":"ops","uid":"5f6c"},"spec":{"order":10,"colour":"green"}}`)
	r, err := v3.DecodeKV(v3.Key("Tier", "", "ops"), stored)
	if err != nil {
		fmt.Println(err)
		return
	}
	order := 20.0
	r.(*v3.Tier).Spec.Order = &order
	b, _ := v3.EncodeMerged(r, stored)
	fmt.Println(string(b))
	// Output:
	// {"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"ops","uid":"5f6c"},"spec":{"order":20,"colour":"green"}}
}

func ExampleDecodeKV() {
	// Before version 3.32, Calico stored the policy "web" under this name.
	r, err := v3.DecodeKV(v3.Key("NetworkPolicy", "production", "default.web"), []byte(`{"spec":{"selector":"all()"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Meta().Name, v3.KeyName(r))
	// Output:
	// web default.web
}

func ExampleWorkloadEndpointName() {
	name, err := v3.WorkloadEndpointName(v3.WorkloadEndpointSpec{
		Node: "compute-01", Orchestrator: "openstack", Workload: "1f2e-aa", Endpoint: "77-bb",
	})
	fmt.Println(name, err)
	// Output:
	// compute--01-openstack-1f2e--aa-77--bb <nil>
}
