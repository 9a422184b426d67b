// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// serverVersion is major, minor, patch. Its zero value is older than any.
type serverVersion [3]int

func parseVersion(s string) serverVersion {
	var v serverVersion
	for i, part := range strings.SplitN(s, ".", 3) {
		part, _, _ = strings.Cut(part, "-")
		v[i], _ = strconv.Atoi(part)
	}
	return v
}

// atLeast reports whether v is in one of the release lines given, at or after
// the release given, or in a later line than all of them. The lines are in
// order.
func (v serverVersion) atLeast(lines ...serverVersion) bool {
	for _, l := range lines {
		if v[0] == l[0] && v[1] == l[1] {
			return v[2] >= l[2]
		}
	}
	last := lines[len(lines)-1]
	return v[0] > last[0] || v[0] == last[0] && v[1] > last[1]
}

// progressInOrder: before these releases the answer to a progress request
// could overtake events.
func (v serverVersion) progressInOrder() bool {
	return v.atLeast(serverVersion{3, 4, 25}, serverVersion{3, 5, 8})
}

// authorises: before these releases a user who is limited to some keys could
// read and write others.
func (v serverVersion) authorises() bool {
	return v.atLeast(serverVersion{3, 5, 33}, serverVersion{3, 6, 14}, serverVersion{3, 7, 1})
}

// answersProgress: before this release progress requests were not known.
func (v serverVersion) answersProgress() bool { return v.atLeast(serverVersion{3, 4, 0}) }

// version asks the server. Zero, the worst, if it may not say. It also says
// once if the server is too old to be trusted with authentication.
func (c *Client) version(ctx context.Context) (serverVersion, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	etcd, err := c.client(ctx)
	if err != nil {
		return serverVersion{}, err
	}
	st, err := pb.NewMaintenanceClient(etcd.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		if isUnavailable(err) {
			return serverVersion{}, c.wrap("read", "etcd status", err)
		}
		return serverVersion{}, nil
	}
	v := parseVersion(st.Version)
	if !v.authorises() && !c.oldSaid.Swap(true) {
		if c.auth {
			c.log.Error("this etcd does not keep its users apart; upgrade it to 3.5.33, 3.6.14, 3.7.1 or later", "version", st.Version)
		} else {
			c.log.Info("this etcd works, but do not rely on its authentication before 3.5.33, 3.6.14 or 3.7.1", "version", st.Version)
		}
	}
	return v, nil
}
