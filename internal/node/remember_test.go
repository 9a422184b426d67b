// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/store"
)

func TestRemember(t *testing.T) {
	dir := t.TempDir()
	for _, step := range []struct {
		resolved []string
		unread   bool
		want     []string
	}{
		{[]string{"cali"}, true, []string{"cali"}}, // nothing to remember yet
		{[]string{"cali", "tap"}, false, []string{"cali", "tap"}},
		{[]string{"cali"}, true, []string{"cali", "tap"}},
		{[]string{"cali"}, true, []string{"cali", "tap"}}, // and again at the next start
		{[]string{"cali"}, false, []string{"cali"}},
		{[]string{"cali"}, true, []string{"cali"}},
	} {
		got, err := remember(dir, inForce{Prefixes: step.resolved, Protocol: 80}, step.unread)
		if err != nil || !slices.Equal(got.Prefixes, step.want) || got.Protocol != 80 {
			t.Errorf("%+v: %v, %v", step, got, err)
		}
	}
	if old, err := remembered(dir); err != nil || !slices.Equal(old.Prefixes, []string{"cali"}) || old.Protocol != 80 {
		t.Errorf("remembered %+v, %v", old, err)
	}
	if got, err := remember(dir+"/missing", inForce{Prefixes: []string{"cali"}}, false); err == nil || len(got.Prefixes) != 1 {
		t.Errorf("a directory that is not there: %v, %v", got, err)
	}
}

// TestGoBy: what would claim an uplink is not gone by, nor remembered, for a guard
// would close it at the next boot.
func TestGoBy(t *testing.T) {
	dir := t.TempDir()
	uplinks := []string{"eth0"}
	for _, step := range []struct {
		resolved         []string
		fixed, unread    bool
		want, remembered []string
		problem          bool
	}{
		{[]string{"cali", "eth", "tap"}, false, false, []string{"cali", "tap"}, []string{"cali", "tap"}, true},
		{[]string{"cali", "eth"}, true, false, []string{"cali"}, []string{"cali"}, true},
		{[]string{"tap"}, false, true, []string{"tap", "cali"}, []string{"cali"}, false},
		{[]string{"tap"}, true, true, []string{"tap"}, []string{"cali"}, false},
		{[]string{"e"}, false, false, []string{"cali"}, nil, true},
	} {
		got, claims, err := goBy(dir, inForce{Prefixes: step.resolved, Protocol: 80}, uplinks, step.fixed, step.unread)
		if err != nil || !slices.Equal(got, step.want) || (claims != nil) != step.problem {
			t.Errorf("%+v: %v, %v, %v", step, got, claims, err)
		}
		if f, err := remembered(dir); err != nil || !slices.Equal(f.Prefixes, step.remembered) {
			t.Errorf("%+v: a guard would close %v, %v", step, f.Prefixes, err)
		}
	}
	// An uplink that has come since, or a file of an earlier version.
	if err := writeState(dir, inForceFile, inForce{Prefixes: []string{"eth", "cali"}, Protocol: 80}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := goBy(dir, inForce{Prefixes: []string{"tap"}, Protocol: 80}, uplinks, false, true); err != nil || !slices.Equal(got, []string{"tap", "cali"}) {
		t.Errorf("with what was remembered before: %v, %v", got, err)
	}
}

func TestUnreadSettings(t *testing.T) {
	m := newModel("n1", policy.NewIndex("n1"))
	put := func(name string, err error) {
		c := store.Change{Key: v3.Key("FelixConfiguration", "", name), Kind: "FelixConfiguration", Name: name, Err: err}
		if err == nil {
			c.Object = &v3.FelixConfiguration{}
		}
		m.apply(change{Change: c})
	}
	bad := errors.New("bad")
	put("node.other", bad)
	if m.unreadSettings() {
		t.Error("another node's settings are none of ours")
	}
	put("node.n1", bad)
	if !m.unreadSettings() {
		t.Error("our own settings cannot be read")
	}
	put("node.n1", nil)
	put("node.n1", bad)
	if m.unreadSettings() {
		t.Error("the last good version is known")
	}
}

// Peers of listen ranges: what was written is read, as nobody where nothing was.
func TestRememberedPeers(t *testing.T) {
	dir := t.TempDir()
	list := []netip.Addr{netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("fd00::7")}
	if got, err := rememberedPeers(dir); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, want := range [][]netip.Addr{list, nil, list[:1]} {
		if err := writeState(dir, dynamicFile, want); err != nil {
			t.Fatal(err)
		}
		if got, err := rememberedPeers(dir); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, dynamicFile), []byte(`["10.1.0.7`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := rememberedPeers(dir); err == nil || got != nil {
		t.Errorf("a file that is cut off: %v, %v", got, err)
	}
}
