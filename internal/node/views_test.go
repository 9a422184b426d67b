// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/node/api"
)

// Endpoints are listed without their counters if these cannot be read, and the answer
// says so: none is not the same as not known.
func TestCountSpoofed(t *testing.T) {
	hits := map[string]acl.Hits{"cali1": {Packets: 7}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, `[{"spoofed":7},{}]`},
		{errors.New("netlink is away"), `[{"spoofedUnknown":"netlink is away"},{"spoofedUnknown":"netlink is away"}]`},
	} {
		list := []api.Endpoint{{Interface: "cali1"}, {Interface: "cali2"}}
		countSpoofed(list, hits, c.err)
		var told []map[string]any
		b, err := json.Marshal(list)
		if err == nil {
			err = json.Unmarshal(b, &told)
		}
		for _, e := range told {
			for name := range e {
				if name != "spoofed" && name != "spoofedUnknown" {
					delete(e, name)
				}
			}
		}
		if b, _ = json.Marshal(told); err != nil || string(b) != c.want {
			t.Errorf("with %v: %s, %v; want %s", c.err, b, err, c.want)
		}
	}
}
