// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/node/api"
)

// muslinPaths asks a vRouter what it has accepted, and what it originates.
func (l *Lab) muslinPaths(ctx context.Context, d *fabric.Device, family fabric.Family, t live.Table) error {
	var seen live.Seen
	client := api.NewClient(l.dir(d.Name))
	err := errors.Join(client.Get(ctx, "/v1/bgp/routes", url.Values{"view": {"accepted"}}, &seen.Paths), client.Get(ctx, "/v1/bgp/peers", nil, &seen.Peers))
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	seen.AddPaths(t, l.names, d, family)
	return nil
}
