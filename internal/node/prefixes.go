// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// prefixFile, in the state directory, remembers which prefixes were in force.
// They decide which interfaces are policed at all. A daemon that starts while
// its FelixConfiguration cannot be read has no good version of it to go on
// with; falling back to the built-in prefix would leave every interface of
// another prefix to the rules of nobody.
const prefixFile = "interface-prefixes"

// unreadSettings tells whether a FelixConfiguration that may concern this node
// cannot be read, and no good version of it is known.
func (m *model) unreadSettings() bool {
	for key := range m.bad {
		kind, _, name, ok := v3.ParseKey(key)
		if !ok || kind != "FelixConfiguration" || m.felix[name] != nil {
			continue
		}
		if !strings.HasPrefix(name, "node.") || name == "node."+m.self {
			return true
		}
	}
	return false
}

// rememberPrefixes returns the prefixes to use: those resolved, and while
// settings are unread also those remembered. Otherwise it remembers them.
func rememberPrefixes(stateDir string, resolved []string, unread bool) ([]string, error) {
	path := filepath.Join(stateDir, prefixFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return resolved, fmt.Errorf("remembered prefixes: %w", err)
	}
	old := strings.Fields(string(b))
	if unread {
		all := slices.Clone(resolved)
		for _, p := range old {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
		return all, nil
	}
	if slices.Equal(old, resolved) {
		return resolved, nil
	}
	// Renamed into place: a crash leaves the old ones or the new ones.
	if err := os.WriteFile(path+".new", []byte(strings.Join(resolved, "\n")+"\n"), 0o600); err != nil {
		return resolved, fmt.Errorf("remember prefixes: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return resolved, fmt.Errorf("remember prefixes: %w", err)
	}
	return resolved, nil
}

// isWorkload tells whether an interface is one of those that are policed.
func (s *settings) isWorkload(name string) bool {
	return slices.ContainsFunc(s.prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}
