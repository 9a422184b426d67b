// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	v3 "github.com/muslin-net/muslin/api/v3"
)

const clusterInformation = "ClusterInformation"

// EnsureInitialized makes an empty datastore usable: ClusterInformation with a
// GUID and datastoreReady, and the three tiers every policy engine expects.
// What exists is left alone, but for a missing GUID and a datastoreReady that
// was never said. Any number of nodes may do it at once.
//
// What exists and cannot be read is left as it is too, and does not keep the
// rest from being made: it is named in an error that is ErrUnreadable, and
// then everything else is done. With any other error it may not be.
func (c *Client) EnsureInitialized(ctx context.Context) error {
	var bad []error
	if err := c.ensureClusterInformation(ctx); errors.Is(err, ErrUnreadable) {
		bad = append(bad, err)
	} else if err != nil {
		return err
	}
	for _, t := range []struct {
		name, action string
		order        float64
	}{{"default", "Deny", 1000000}, {"kube-admin", "Pass", 1000}, {"kube-baseline", "Pass", 10000000}} {
		key := v3.Key("Tier", "", t.name)
		kv, err := c.Get(ctx, key)
		if err == nil {
			if _, err := decodeKV(kv); err != nil {
				bad = append(bad, unreadable(err))
			}
			continue
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		tier := newResource("Tier").(*v3.Tier)
		tier.Metadata.Name = t.name
		tier.Spec.Order, tier.Spec.DefaultAction = &t.order, t.action
		stamp(tier.Meta())
		if err := c.createStored(ctx, key, tier); err != nil && !errors.Is(err, ErrExists) {
			return err
		}
	}
	return errors.Join(bad...)
}

func (c *Client) ensureClusterInformation(ctx context.Context) error {
	key := v3.Key(clusterInformation, "", "default")
	for try := 0; ; try++ {
		kv, err := c.Get(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound):
			ci := newResource(clusterInformation).(*v3.ClusterInformation)
			ci.Metadata.Name = "default"
			stamp(ci.Meta())
			completeCluster(ci)
			err = c.createStored(ctx, key, ci)
		case err == nil:
			obj, derr := decodeKV(kv)
			if derr != nil {
				return unreadable(derr)
			}
			ci, ok := obj.(*v3.ClusterInformation)
			if !ok || !completeCluster(ci) {
				return nil
			}
			err = c.updateStored(ctx, kv, ci)
		}
		if err == nil || (!errors.Is(err, ErrExists) && !errors.Is(err, ErrConflict)) || try >= maxTries {
			return err
		}
		if !sleep(ctx, jitter(20*time.Millisecond)) {
			return ctx.Err()
		}
	}
}

// completeCluster fills in what is missing; it reports whether anything was.
func completeCluster(ci *v3.ClusterInformation) bool {
	missing := false
	if ci.Spec.ClusterGUID == "" {
		ci.Spec.ClusterGUID = strings.ReplaceAll(uuid.NewString(), "-", "")
		missing = true
	}
	if ci.Spec.DatastoreReady == nil {
		yes := true
		ci.Spec.DatastoreReady = &yes
		missing = true
	}
	return missing
}

// stamp gives a new object its identity.
func stamp(m *v3.ObjectMeta) {
	if m.UID == "" {
		m.UID = uuid.NewString()
	}
	if m.CreationTimestamp == nil || *m.CreationTimestamp == "" {
		now := time.Now().UTC().Format(time.RFC3339)
		m.CreationTimestamp = &now
	}
}

func newResource(kind string) v3.Resource {
	k, _ := v3.LookupKind(kind)
	return k.New()
}
