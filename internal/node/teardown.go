// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/endpoint"
	"github.com/muslin-net/muslin/internal/route"
)

// Teardown takes what a daemon put into the kernel out of it: first the
// routes, so that nothing reaches a workload any more, then what is on the
// interfaces, and the filter table last. No daemon may be running here. The
// interfaces themselves, sysctls, the datastore and the directories stay. It
// says what it removed.
func Teardown(cfg Config, log *slog.Logger) (removed []string, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("muslin teardown changes the kernel: run it as root")
	}
	held, err := takeLocks(cfg.RunDir, cfg.StateDir)
	if err != nil {
		return nil, err
	}
	defer held.release()
	file, err := readFelixFile(cfg.felixFile())
	if err != nil {
		return nil, err
	}
	s, _ := resolve(map[string]string{"interfacePrefix": cfg.InterfacePrefix}, felixSources{environ: os.Environ(), file: file, node: cfg.Node})

	routes, err := route.Open(route.Options{Log: log, Sources: []string{sourceLocal}, Protocol: uint8(s.routeProtocol)})
	if err != nil {
		return nil, err
	}
	defer routes.Close()
	if err := routes.SetComplete(sourceLocal); err != nil {
		return nil, err
	}
	r, err := routes.Apply()
	if err != nil {
		return nil, err
	}
	removed = append(removed, fmt.Sprintf("%d routes of protocol %d", r.Deleted, s.routeProtocol))

	links, err := endpoint.Open(endpoint.Options{Log: log, Prefixes: s.prefixes})
	if err != nil {
		return removed, err
	}
	defer links.Close()
	if err := links.Prune(); err != nil {
		return removed, err
	}
	removed = append(removed, fmt.Sprintf("gateway addresses and neighbours on interfaces named %v…", s.prefixes))

	table, err := acl.Open(acl.Options{Log: log, Prefixes: s.prefixes})
	if err != nil {
		return removed, err
	}
	defer table.Close()
	if err := table.Teardown(); err != nil {
		return removed, err
	}
	return append(removed, "nftables table inet "+acl.TableName), nil
}
