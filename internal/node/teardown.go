// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/bfdd"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/keeper"
	"github.com/muslin-net/muslin/internal/lock"
	"github.com/muslin-net/muslin/internal/route"
)

// endBFDTime bounds the wait for the BFD process to end.
const endBFDTime = 10 * time.Second

// Teardown takes what a daemon put into the kernel out of it: first the
// process that watches the paths, then the
// routes, so that nothing reaches a workload any more, then what is on the
// interfaces, and the filter table last. No daemon may be running here. The
// interfaces themselves, sysctls, the datastore and the directories stay, but not what the
// datastore was saved as. What
// is ours is known by what the state directory remembers. It says what it
// removed, and of which workloads interfaces are left: those are not filtered
// any more, and not routed.
func Teardown(cfg Config, log *slog.Logger) (removed, left []string, err error) {
	if err := hasDataPlane(); err != nil {
		return nil, nil, err
	}
	if os.Geteuid() != 0 {
		return nil, nil, errors.New("muslin teardown changes the kernel: run it as root")
	}
	held, err := lock.Take(agentLock, cfg.RunDir, cfg.StateDir)
	if err != nil {
		return nil, nil, err
	}
	defer held.Release()
	f, err := remembered(cfg.StateDir)
	if err != nil {
		return nil, nil, err
	}
	if f.Protocol == 0 {
		f.Protocol = route.Protocol
	}
	if cfg.InterfacePrefix != "" {
		f.Prefixes = strings.Split(cfg.InterfacePrefix, ",")
	}
	if len(f.Prefixes) == 0 {
		f.Prefixes = []string{defaultPrefix}
	}

	ctx, cancel := context.WithTimeout(context.Background(), endBFDTime)
	defer cancel()
	ended, err := bfdd.End(ctx, cfg.RunDir)
	if err != nil {
		return nil, nil, err
	}
	if ended {
		removed = append(removed, "the BFD process")
	}

	routes, err := openForwarding(route.Options{Log: log, Sources: []string{sourceLocal}, Protocol: uint8(f.Protocol)})
	if err != nil {
		return nil, nil, err
	}
	defer routes.Close()
	if err := routes.SetComplete(sourceLocal); err != nil {
		return nil, nil, err
	}
	r, err := routes.Apply()
	if err != nil {
		return nil, nil, err
	}
	if r.Deleted > 0 {
		removed = append(removed, fmt.Sprintf("%d routes of protocol %d", r.Deleted, f.Protocol))
	}

	links, err := endpoint.Open(endpoint.Options{Log: log, Prefixes: f.Prefixes})
	if err != nil {
		return removed, nil, err
	}
	defer links.Close()
	if err := links.Prune(); err != nil {
		return removed, nil, err
	}
	still, err := endpoint.Workloads(f.Prefixes)
	if err != nil {
		return removed, nil, err
	}
	if len(still) > 0 {
		removed = append(removed, fmt.Sprintf("gateway addresses and neighbours on interfaces named %s…", strings.Join(f.Prefixes, "… and ")))
	}

	n, _, err := endpoint.SyncLoopback(nil, nil)
	if err != nil {
		return removed, nil, err
	}
	if n > 0 {
		removed = append(removed, fmt.Sprintf("%d addresses of processes on lo", n))
	}

	kept, err := keeper.Take(cfg.RunDir)
	if err != nil {
		return removed, nil, err
	}
	table, err := openFiltering(acl.Options{Log: log, Prefixes: f.Prefixes, Socket: kept})
	if err != nil {
		return removed, nil, err
	}
	defer table.Close()
	there, err := filters(table)
	if err != nil {
		return removed, nil, err
	}
	if err := table.Teardown(); err != nil {
		return removed, nil, err
	}
	if there {
		removed = append(removed, "nftables tables inet, arp and netdev "+acl.TableName)
	}
	if ended, err = keeper.End(cfg.RunDir); err != nil {
		return removed, nil, err
	}
	if ended {
		removed = append(removed, "the keeper of these tables")
	}
	for _, file := range []string{snapshotFile, journalFile, clusterFile} { // a boot is not to begin with it
		if err := os.Remove(filepath.Join(cfg.StateDir, file)); err == nil {
			removed = append(removed, filepath.Join(cfg.StateDir, file))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return removed, nil, err
		}
	}
	for _, w := range still {
		text := w.Name
		if w.Alias != "" {
			text = w.Alias + " (" + w.Name + ")"
		}
		left = append(left, text)
	}
	return removed, left, nil
}
