// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
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
	if err := writeState(stateDir, inForceFile, now); err != nil {
		return now, fmt.Errorf("remember settings: %w", err)
	}
	return now, nil
}

// goBy returns the prefixes to go by, and remembers what is in force. What would claim
// an uplink is spared before: at the next boot a guard closes whatever is remembered,
// when there is no uplink yet to be known by, and the agent would wait for a datastore
// behind it for ever. fixed are prefixes that nothing remembered adds to; claims is
// what was spared.
func goBy(stateDir string, now inForce, uplinks []string, fixed, unread bool) (prefixes []string, claims, err error) {
	now.Prefixes, claims = spareUplinks(now.Prefixes, uplinks)
	prefixes = now.Prefixes
	all, err := remember(stateDir, now, unread)
	if !fixed {
		prefixes, _ = spareUplinks(all.Prefixes, uplinks)
	}
	if len(prefixes) == 0 {
		prefixes = []string{defaultPrefix}
	}
	return prefixes, claims, err
}

// writeState writes a file of the state directory. It is renamed into place: a
// crash leaves the old one or the new one.
func writeState(stateDir, file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := filepath.Join(stateDir, file)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// dynamicFile, in the state directory, remembers the BGP peers that came from
// listen ranges: the next start waits for them before it removes their routes.
const dynamicFile = "bgp-dynamic.json"

// rememberedPeers reads who they were; nobody if there is no such file.
func rememberedPeers(stateDir string) (list []netip.Addr, err error) {
	b, err := os.ReadFile(filepath.Join(stateDir, dynamicFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("remembered peers of listen ranges: %w", err)
	}
	return list, nil
}

// followDynamic writes them down. Where there never were any there is no file.
func (d *Daemon) followDynamic(ctx context.Context) error {
	for written := d.expected; ; {
		list, err := d.speaker.DynamicPeers(ctx)
		if err != nil {
			return nil // the context has ended, and with it the speaker
		}
		if slices.Equal(list, written) {
			continue
		}
		if err := writeState(d.cfg.StateDir, dynamicFile, list); err != nil {
			d.log.Warn("a restart will not wait for the BGP peers of listen ranges", "err", err)
			continue
		}
		written = list
	}
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
