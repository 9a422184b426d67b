// SPDX-License-Identifier: Apache-2.0

package store

import "testing"

// Only a second listing of the same datastore, which misses the same objects,
// lifts the brake.
func TestE10_ListingsAgree(t *testing.T) {
	first := listing{clusterID: 1, rev: 7, removed: []string{"a", "b"}}
	for _, c := range []struct {
		name   string
		second listing
		want   bool
	}{
		{"same", listing{clusterID: 1, rev: 7, removed: []string{"a", "b"}}, true},
		{"another order", listing{clusterID: 1, rev: 7, removed: []string{"b", "a"}}, true},
		{"moved on", listing{clusterID: 1, rev: 8, removed: []string{"a", "b"}}, true},
		{"moved back", listing{clusterID: 1, rev: 6, removed: []string{"a", "b"}}, false},
		{"another cluster", listing{clusterID: 2, rev: 7, removed: []string{"a", "b"}}, false},
		{"one is back", listing{clusterID: 1, rev: 7, removed: []string{"a"}}, false},
		{"another object", listing{clusterID: 1, rev: 7, removed: []string{"a", "c"}}, false},
	} {
		if got := agree(&first, &c.second); got != c.want {
			t.Errorf("%s: agree is %v, want %v", c.name, got, c.want)
		}
	}
}
