// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/keeper"
	"github.com/muslin-net/muslin/internal/lock"
)

// Guard keeps every workload of this host closed until an agent knows what it may
// do; it is for the boot, before there are interfaces. It says for which prefixes of
// interfaces, and whether there was nothing in force yet: what an agent has left, or
// has in force at this moment, is not touched.
func Guard(cfg Config, log *slog.Logger) (prefixes []string, made bool, err error) {
	if err := hasDataPlane(); err != nil {
		return nil, false, err
	}
	if os.Geteuid() != 0 {
		return nil, false, errors.New("muslin guard changes the kernel: run it as root")
	}
	f, err := remembered(cfg.StateDir)
	if err != nil {
		log.Warn("not known which prefixes an earlier agent had; guarding those that are known", "err", err)
	}
	prefixes = f.Prefixes
	if cfg.InterfacePrefix != "" {
		prefixes = strings.Split(cfg.InterfacePrefix, ",")
	}
	if len(prefixes) == 0 {
		prefixes = []string{defaultPrefix}
	}
	held, err := lock.Take(agentLock, cfg.RunDir)
	var other *lock.ErrHeld
	if errors.As(err, &other) {
		return prefixes, false, nil // an agent runs
	}
	if err != nil {
		return prefixes, false, err
	}
	defer held.Release()
	kept, err := keeper.Take(cfg.RunDir)
	if err != nil {
		return prefixes, false, err
	}
	filter, err := openFiltering(acl.Options{Log: log, Prefixes: prefixes, HostAction: acl.HostDrop, Socket: kept})
	if err != nil {
		return prefixes, false, err
	}
	defer filter.Close()
	made, err = filter.Guard()
	return prefixes, made, err
}
