// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The errors a caller can act on; test with errors.Is.
var (
	// ErrNotFound: the key or object does not exist.
	ErrNotFound = errors.New("does not exist")
	// ErrExists: the key or object exists already.
	ErrExists = errors.New("already exists")
	// ErrConflict: the key was changed since the revision given.
	ErrConflict = errors.New("was changed by someone else since it was read")
	// ErrUnavailable: no etcd endpoint answered in time, or etcd has no quorum.
	// The write may or may not have happened.
	ErrUnavailable = errors.New("etcd is not available")
	// ErrReadOnly: the object may not be written by users.
	ErrReadOnly = errors.New("is read-only")
	// ErrInUse: the object cannot be deleted while others refer to it.
	ErrInUse = errors.New("is in use")
)

// Error is a failed operation on one key or object.
type Error struct {
	Op     string // get, list, create, update, put, delete, commit, …
	Object string // the key, or Kind(namespace/name)
	Err    error
}

// Error reads "update /calico/…: was changed by someone else since it was read".
func (e *Error) Error() string { return e.Op + " " + e.Object + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// wrap names the operation and the object once, and sorts what gRPC reports
// into the errors above.
func (c *Client) wrap(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	return &Error{Op: op, Object: object, Err: c.classifyError(err)}
}

func (c *Client) classifyError(err error) error {
	for _, known := range []error{ErrNotFound, ErrExists, ErrConflict, ErrUnavailable} {
		if errors.Is(err, known) {
			return err
		}
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if isUnavailable(err) {
		return fmt.Errorf("%w at %s: %s", ErrUnavailable, strings.Join(c.endpoints, ","), c.why(err))
	}
	return err
}

// why prefers the last failure to connect to gRPC's "context deadline
// exceeded": it names the address and the reason.
func (c *Client) why(err error) string {
	if d := c.lastDialError(); d != nil {
		return d.Error()
	}
	return status.Convert(err).Message()
}

func isUnavailable(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	for _, e := range []error{rpctypes.ErrNoLeader, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail,
		rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrStopped, rpctypes.ErrUnhealthy} {
		if errors.Is(err, e) {
			return true
		}
	}
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		switch s.GRPCStatus().Code() {
		case codes.Unavailable, codes.DeadlineExceeded:
			return true
		}
	}
	return false
}
