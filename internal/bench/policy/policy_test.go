// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestBenchmarkRuns keeps the benchmark working. It judges no figure: what a
// busy machine shows says nothing.
func TestBenchmarkRuns(t *testing.T) {
	labtest.Programs(t, "nftables", nft)
	labtest.Require(t)
	for _, family := range []string{"4", "6"} {
		var out, progress bytes.Buffer
		err := run(t.Context(), []string{"-family", family, "-rules", "1,30", "-rounds", "1", "-span", "5ms", "-local", "3", "-policies", "5", "-members", "50", "-changes", "4"}, &out, &progress)
		if err != nil {
			t.Fatalf("%v\n%s", err, &progress)
		}
		for _, want := range []string{"UDP flow", "first packets", "TCP connects", "like Felix", "of no filter", "another network", "p99"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in:\n%s", want, &out)
			}
		}
		t.Logf("%s", &out)
	}
}
