// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"

	"github.com/muslin-net/muslin/internal/acl"
	"github.com/muslin-net/muslin/internal/dataplane"
	"github.com/muslin-net/muslin/internal/policy"
	"github.com/muslin-net/muslin/internal/route"
)

func hasDataPlane() error { return nil }

func openFiltering(o acl.Options) (dataplane.Filtering, error) {
	t, err := acl.Open(o)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// readAhead has the packet filter that is there read while something else is waited for.
func readAhead(f dataplane.Filtering) {
	if t, ok := f.(*acl.Table); ok {
		t.ReadAhead()
	}
}

// filters tells whether anything of the packet filter is in the kernel.
func filters(f dataplane.Filtering) (bool, error) {
	if t, ok := f.(*acl.Table); ok {
		return t.Exists()
	}
	return true, nil
}

// socketOf is the socket to which the packet filter belongs; nil if it belongs to nobody.
func socketOf(f dataplane.Filtering) (*os.File, error) {
	if t, ok := f.(*acl.Table); ok {
		return t.Socket()
	}
	return nil, nil
}

func openForwarding(o route.Options) (dataplane.Forwarding, error) {
	t, err := route.Open(o)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// foundRoutes tells whether an earlier daemon has left routes.
func foundRoutes(protocol uint8) bool { return route.Found(protocol) }

// wayOf asks which way a packet goes.
func wayOf(q route.Query) (route.Way, error) { return route.Ask(q) }

func openFlows() (flowTable, error) {
	f, err := acl.OpenFlows(0)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func openDenied() (deniedLog, error) {
	l, err := acl.OpenDenied(0)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// spoofed is what came from each interface under the names of others.
func spoofed() (map[string]acl.Hits, error) { return acl.Spoofed(0) }

func ledgerOf(f dataplane.Filtering) (ledger, error) {
	t, ok := f.(*acl.Table)
	if !ok {
		return nil, fmt.Errorf("the data plane in use counts nothing")
	}
	return t.Ledger(), nil
}

// filterText is what f wants in the kernel, for people.
func filterText(f dataplane.Filtering, v policy.View) string {
	if t, ok := f.(*acl.Table); ok {
		return t.Text(v)
	}
	return ""
}
