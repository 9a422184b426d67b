// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/node/api"
)

func TestEachCommandOnce(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		seen := map[string]bool{}
		for _, sub := range c.Commands() {
			if seen[sub.Name()] {
				t.Errorf("%s is there twice", sub.CommandPath())
			}
			seen[sub.Name()] = true
			walk(sub)
		}
	}
	walk(New("test", Streams{}))
}

func TestEndpointErrorsDoNotStutter(t *testing.T) {
	for text, want := range map[string]string{
		"endpoint default/x: attach calidd1: no link": "attach default/x: calidd1: no link",
		"endpoint default/x: no enabled IPPool":       "attach default/x: no enabled IPPool",
		"endpoint default/x on node a: not found":     "attach default/x on node a: not found",
		"the datastore is away":                       "attach default/x: the datastore is away",
	} {
		if got := about("attach", "default", "x", errors.New(text)).Error(); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}

// A BGPPeer without an address says where its neighbours are, and which AS numbers they may have.
func TestBGPPeerColumns(t *testing.T) {
	for want, p := range map[string]*v3.BGPPeer{
		"x 10.0.0.9 (global) 64999":          {Spec: v3.BGPPeerSpec{PeerIP: "10.0.0.9", ASNumber: 64999}},
		"x eth1,eth2 (global) External":      {Object: v3.Object{Metadata: v3.ObjectMeta{Annotations: map[string]string{"muslin/interface": "eth1,eth2", "muslin/remote-as": "External"}}}},
		"x eth1 (global) 64999":              {Object: v3.Object{Metadata: v3.ObjectMeta{Annotations: map[string]string{"muslin/interface": "eth1"}}}, Spec: v3.BGPPeerSpec{ASNumber: 64999}},
		"x 10.9.0.0/24 (global) 64999-65009": {Object: v3.Object{Metadata: v3.ObjectMeta{Annotations: map[string]string{"muslin/listen-range": "10.9.0.0/24", "muslin/listen-as": "64999-65009"}}}},
	} {
		p.Metadata.Name = "x"
		cells, err := row(columns("BGPPeer"), p)
		if got := strings.Join(cells[:4], " "); err != nil || got != want {
			t.Errorf("%q, want %q: %v", got, want, err)
		}
	}
}

// A route that is used beside the best is told from one that is not used.
func TestBGPRouteFlags(t *testing.T) {
	for _, c := range []struct {
		r    api.BGPRoute
		want string
	}{
		{api.BGPRoute{}, "-"},
		{api.BGPRoute{Best: true}, "best"},
		{api.BGPRoute{Equal: true, Stale: true}, "equal,stale"},
	} {
		var out strings.Builder
		a := &app{}
		a.Out = &out
		c.r.Prefix, c.r.Communities = "10.1.0.0/24", []string{"64512:1", "rt:64512:7"}
		if err := a.showBGPRoutes([]api.BGPRoute{c.r}, true); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		fields := strings.Fields(lines[len(lines)-1])
		if fields[len(fields)-1] != c.want || !strings.Contains(fmt.Sprint(fields), "64512:1 rt:64512:7") {
			t.Errorf("%+v: %q", c.r, lines)
		}
	}
}
