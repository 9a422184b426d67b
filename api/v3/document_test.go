// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocumentCheck: what is wrong with the form and with the meaning is said
// together, and what follows from a mistake is not said again.
func TestDocumentCheck(t *testing.T) {
	const head = "apiVersion: projectcalico.org/v3\n"
	docs, err := DecodeDocuments([]byte(head + `kind: IPPool
metadata: {name: misspelt}
spec:
  cdir: 10.0.0.0/16
  nodeSelector: a ==
---
` + head + `kind: GlobalNetworkPolicy
metadata: {name: list}
spec:
  selector: a ==
  ingress:
  - action: Allow
    source: {nets: [10.0.0.0/33, {a: 7}]}
---
kind: Tier
metadata: {name: Bad}
---
` + head + `kind: Tier
metadata: {name: good}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`document 1, line 5: IPPool "misspelt": spec.cdir: unknown field, did you mean "cidr"?
document 1, line 6: IPPool "misspelt": spec.nodeSelector: selector "a ==": at character 5: want a value in quotes, not the end`,
		`document 2, line 12: GlobalNetworkPolicy "list": spec.selector: selector "a ==": at character 5: want a value in quotes, not the end
document 2, line 15: GlobalNetworkPolicy "list": spec.ingress[0].source.nets[1]: want text, not members`,
		`document 3, line 17: Tier "Bad": apiVersion: missing: want "projectcalico.org/v3"
document 3, line 18: Tier "Bad": metadata.name: "Bad": want 1–63 of a–z, 0–9 and '-', which neither begins nor ends with '-'`,
		"",
	}
	for i := range docs {
		got := ""
		if docs[i].Resource != nil {
			Default(docs[i].Resource)
		}
		if err := docs[i].Check(); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("document %d (-want +got):\n%s", i+1, diff)
		}
	}
}
