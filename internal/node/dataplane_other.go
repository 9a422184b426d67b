// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package node

import (
	"fmt"
	"os"
	"runtime"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

// hasDataPlane says that an agent cannot run here.
func hasDataPlane() error {
	return fmt.Errorf("there is no data plane for %s: the agent forwards and filters on Linux only. Commands about resources and fabrics work here, with --etcd", runtime.GOOS)
}

func openFiltering(acl.Options) (dataplane.Filtering, error) { return nil, hasDataPlane() }

func readAhead(dataplane.Filtering) {}

func filters(dataplane.Filtering) (bool, error) { return false, hasDataPlane() }

func socketOf(dataplane.Filtering) (*os.File, error) { return nil, nil }

func openForwarding(route.Options) (dataplane.Forwarding, error) { return nil, hasDataPlane() }

func foundRoutes(uint8) bool { return false }

func wayOf(route.Query) (route.Way, error) { return route.Way{}, hasDataPlane() }

func openFlows() (flowTable, error) { return nil, hasDataPlane() }

func openDenied() (deniedLog, error) { return nil, hasDataPlane() }

func spoofed() (map[string]acl.Hits, error) { return nil, hasDataPlane() }

func ledgerOf(dataplane.Filtering) (ledger, error) { return nil, hasDataPlane() }

func filterText(dataplane.Filtering, policy.View) string { return "" }
