// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
)

// What is wrong with many devices alike is told once: a design held against a smaller copy of it was
// four lines for each server that is not there.
func TestCheckText(t *testing.T) {
	missing := func(device string) live.Finding {
		return live.Finding{Device: device, Kind: live.Device, Expected: "server", Seen: "no Node"}
	}
	session := live.Finding{Device: "r0-s1", Kind: live.Session, Peer: "r0-t0", Expected: "up", Seen: "Idle", Cause: "a cable"}
	answer := &live.Answer{Name: "dc", Findings: []live.Finding{missing("r0-s2"), session, missing("r0-s3"), missing("r1-s2"),
		{Device: "r0-s1", Kind: live.ASPath, Follows: true}}}
	const want = `dc: 0 of 0 vRouters asked; 0 sessions, 0 paths, 0 routes compared: 5 differences
r0-s2 and 2 like it: device
      expected  server
      seen      no Node
r0-s1: session with r0-t0
      expected  up
      seen      Idle
      cause     a cable
1 more follow from these; --all shows them
`
	if got := checkText(answer, &fabric.Design{}, false); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestSmallerCopy: a copy of no racks is refused, rather than to be the whole.
func TestSmallerCopy(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{"--racks", "1"}, ""},
		{[]string{"--racks", "0"}, "--racks 0: want 1 or more"},
		{[]string{"--racks", "2", "--servers", "-1"}, "--servers -1: want 1 or more"},
	} {
		cmd := &cobra.Command{}
		cmd.Flags().Int("racks", 0, "")
		cmd.Flags().Int("servers", 0, "")
		if err := cmd.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		if err := fromOne(cmd.Flags(), "racks", "servers"); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}
