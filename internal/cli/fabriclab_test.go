// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/fabric/live"
)

// TestLabDifferences: a difference is an error in every form of the answer; in all but the table the answer has it already.
func TestLabDifferences(t *testing.T) {
	differs := &live.Comparison{Differences: []live.Difference{{Device: "r0-t0"}}}
	for _, form := range answerForms {
		var out bytes.Buffer
		a := &app{Streams: Streams{Out: &out}}
		if err := a.labDifferences(differs, form); err == nil {
			t.Errorf("%s: a difference is no error", form)
		}
		if said := strings.Contains(out.String(), "r0-t0"); said != (form == formTable) {
			t.Errorf("%s: printed %q", form, out.String())
		}
		if err := a.labDifferences(&live.Comparison{}, form); err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
}
