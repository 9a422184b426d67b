// SPDX-License-Identifier: Apache-2.0

package v3

import "testing"

// What ParseAnyCommunity reads, String writes; of others it shows what can be said.
func TestAnyCommunityText(t *testing.T) {
	for _, text := range []string{"64512:1", "65535:65281", "4200000000:1:2", "rt:64512:7", "rt:64512:4294967295", "soo:65535:0", "rt:4200000000:65535", "soo:65536:1"} {
		c, err := ParseAnyCommunity(text)
		if err != nil || c.String() != text {
			t.Errorf("%s: %v %v", text, c, err)
		}
	}
	for text, e := range map[string][8]byte{
		"rt:64512:7":          {0, 2, 0xfc, 0, 0, 0, 0, 7},
		"rt:65535:4294967295": {0, 2, 255, 255, 255, 255, 255, 255},
		"rt:1.0:65535":        {2, 2, 0, 1, 0, 0, 255, 255},
		"soo:4200000000:1":    {2, 3, 250, 86, 234, 0, 0, 1},
	} {
		if c, err := ParseAnyCommunity(text); err != nil || c.Extended != e || c.Values != nil {
			t.Errorf("%s: % x %v", text, c.Extended, err)
		}
	}
	for want, e := range map[string][8]byte{
		"rt:10.0.0.1:7":      {1, 2, 10, 0, 0, 1, 0, 7},
		"0x0300000000000007": {3, 0, 0, 0, 0, 0, 0, 7},
		"0x4002000100000007": {0x40, 2, 0, 1, 0, 0, 0, 7}, // not transitive
		"0x000a000100000007": {0, 10, 0, 1, 0, 0, 0, 7},
	} {
		if got := (AnyCommunity{Extended: e}).String(); got != want {
			t.Errorf("% x: %s, want %s", e, got, want)
		}
	}
}
