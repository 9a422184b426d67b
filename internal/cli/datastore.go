// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/store"
)

// localEndpoint stands for the local daemon's datastore. It is never resolved:
// connections go through the daemon's socket.
const localEndpoint = "http://local-daemon:2379"

// datastore opens the datastore that the flags and the environment name, and
// otherwise the local daemon's. The caller closes it.
func (a *app) datastore(ctx context.Context) (*store.Client, error) {
	cfg, err := a.datastoreConfig(ctx)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, cfg, slog.New(slog.DiscardHandler))
}

func (a *app) datastoreConfig(ctx context.Context) (store.Config, error) {
	cfg, err := store.ConfigFromEnv()
	if err != nil {
		return cfg, usage(err)
	}
	if a.etcd != "" {
		// The flag replaces where; the environment still says who.
		cfg.Endpoints, cfg.DiscoverySRV = store.SplitEndpoints(a.etcd), ""
		return cfg, checkEndpoints(cfg.Endpoints, "")
	}
	if !cfg.IsZero() {
		return cfg, nil
	}
	daemon := api.NewClient(a.runDir)
	// Asked once beforehand: a missing daemon is said at once, with what to do,
	// rather than after the store's own attempts.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := daemon.DialDatastore(ctx, "")
	if err != nil {
		return cfg, fmt.Errorf("no datastore is named by --etcd or ETCD_ENDPOINTS, and %w", err)
	}
	conn.Close()
	return store.Config{Endpoints: []string{localEndpoint}, Dial: daemon.DialDatastore}, nil
}

// objects opens the datastore for the commands about resources.
func (a *app) objects(ctx context.Context) (objects, error) {
	c, err := a.datastore(ctx)
	if err != nil {
		return nil, err
	}
	// One answer beforehand, so that a datastore that is not there costs the
	// time of one request, and is not blamed on an object.
	if err := c.Ping(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c.Objects(), nil
}

// checkEndpoints finds what can be no endpoint before anything is dialled.
func checkEndpoints(list []string, discovery string) error {
	for _, e := range list {
		if err := store.CheckEndpoint(e); err != nil {
			return usage(err)
		}
	}
	if len(list) == 0 && discovery == "" {
		return usagef("--etcd: want http(s)://host:port, or several with commas between them")
	}
	return nil
}
