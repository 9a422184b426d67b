// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric"
)

// variant is what a file may choose; an empty word is left out.
type variant struct {
	model, spine, tors, uplinks, as, families string
}

// variants are all combinations.
func variants() (list []variant) {
	for _, model := range []string{"as-per-rack", "as-per-server", "downward-default", "ethernet"} {
		for _, spine := range []string{"l2", "l3"} {
			for _, tors := range []string{"1", "2"} {
				for _, uplinks := range []string{"", "segment", "routed", "unnumbered"} {
					for _, as := range []string{"", "shared", "unique"} {
						for _, families := range []string{"ipv4", "ipv6", "ipv4, ipv6"} {
							list = append(list, variant{model, spine, tors, uplinks, as, families})
						}
					}
				}
			}
		}
	}
	return list
}

func (v variant) String() string {
	return fmt.Sprintf("%s,spine=%s,tors=%s,uplinks=%s,as=%s,%s", v.model, v.spine, v.tors, v.uplinks, v.as, strings.ReplaceAll(v.families, ", ", "+"))
}

func (v variant) file() string {
	spine, servers := "kind: "+v.spine, "perRack: 2"
	if v.as != "" {
		spine += ", as: " + v.as
	}
	if v.uplinks != "" {
		servers += ", uplinks: " + v.uplinks
	}
	return fmt.Sprintf(`apiVersion: fabric/v1
kind: Fabric
metadata: {name: a}
spec:
  model: %s
  families: [%s]
  spine: {%s}
  racks: {count: 3, tors: %s}
  servers: {%s}
  endpoints: {perServer: 4}
`, v.model, v.families, spine, v.tors, servers)
}

// refused is the field that a combination is refused for, or empty: what the models do not have.
func (v variant) refused() string {
	switch {
	case v.model == "ethernet" && v.spine == "l3":
		return "spec.spine.kind: "
	case v.spine == "l2" && v.as != "":
		return "spec.spine.as: "
	case v.model == "ethernet" && v.uplinks != "", v.model == "as-per-rack" && v.uplinks != "" && v.uplinks != "segment":
		return "spec.servers.uplinks: "
	}
	return ""
}

// TestEveryCleanDesignPasses: whatever a file combines, with nothing else in it, is designed without an error,
// or is refused as it is read, with the field and what to write instead.
func TestEveryCleanDesignPasses(t *testing.T) {
	designed := 0
	for _, v := range variants() {
		doc, err := fabric.Parse([]byte(v.file()))
		if field := v.refused(); field != "" {
			if err == nil || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), "want") && !strings.Contains(err.Error(), "leave it out") {
				t.Errorf("%s: %v; want it refused for %s with what to write instead", v, err, field)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v, err)
			continue
		}
		designed++
		for _, f := range Design(doc.Fabric.Design()) {
			if f.Severity == Error || f.Severity == Advanced {
				t.Errorf("%s: %s %s", v, f.ID, f.Message)
			}
		}
	}
	t.Logf("%d of %d combinations are designed, the others refused", designed, len(variants()))
}
