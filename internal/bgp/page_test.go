// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"os"
	"strings"
	"testing"
)

// checkPage compares what stands between two marks of a page of the
// documentation with what the code says; -update writes it there.
func checkPage(t *testing.T, page, want string) {
	t.Helper()
	const begin, end = "<!-- table -->\n", "<!-- end of table -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(text), begin)
	have, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s: the marks around the table are not there", page)
	}
	if want == have {
		return
	}
	if *updateStories {
		if err := os.WriteFile(page, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s does not say what the code says (-update writes it):\n%s\nwant:\n%s", page, have, want)
}
