// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// inForceFile, in the state directory, remembers by what this daemon knows its
// own in the kernel. A start that cannot read its FelixConfiguration has no
// good version of it to go on with; falling back to the built-in prefix would
// leave every interface of another prefix to the rules of nobody. And before
// it has read anything, it has to know whether it forwards already.
const inForceFile = "in-force.json"

// inForce is what was in force when the file was written.
type inForce struct {
	Prefixes []string `json:"interfacePrefixes"`
	Protocol int      `json:"routeProtocol"`
}

// remembered reads what was in force; the zero value if nothing was.
func remembered(stateDir string) (f inForce, err error) {
	b, err := os.ReadFile(filepath.Join(stateDir, inForceFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return inForce{}, fmt.Errorf("remembered settings: %w", err)
	}
	return f, nil
}

// remember returns what to go by: what was resolved, and while settings are
// unread also the prefixes remembered. Otherwise it remembers it.
func remember(stateDir string, now inForce, unread bool) (inForce, error) {
	old, err := remembered(stateDir)
	if unread {
		all := slices.Clone(now.Prefixes)
		for _, p := range old.Prefixes {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
		now.Prefixes = all
		return now, err
	}
	if err == nil && slices.Equal(old.Prefixes, now.Prefixes) && old.Protocol == now.Protocol {
		return now, nil
	}
	b, err := json.Marshal(now)
	if err != nil {
		return now, err
	}
	// Renamed into place: a crash leaves the old file or the new one.
	path := filepath.Join(stateDir, inForceFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return now, fmt.Errorf("remember settings: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return now, fmt.Errorf("remember settings: %w", err)
	}
	return now, nil
}

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
