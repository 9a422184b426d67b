// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
)

// State is where an affinity is on its way:
// absent → pending → confirmed → pendingDeletion → absent.
type State string

// The states that are stored. Only Confirmed means that the block is owned.
const (
	Pending         State = "pending"
	Confirmed       State = "confirmed"
	PendingDeletion State = "pendingDeletion"
)

// Affinity is the value of an affinity key. The zero Affinity is in no state;
// what the datastore says is read by DecodeAffinity.
type Affinity struct {
	State   State
	Deleted bool
	others  members
}

// DecodeAffinity reads the value of an affinity key. An empty value, or one
// without a state, is a confirmed affinity of old writers.
func DecodeAffinity(b []byte) (Affinity, error) {
	a := Affinity{State: Confirmed}
	m, err := decodeObject(b)
	if err != nil {
		return Affinity{}, fmt.Errorf("affinity: %w", err)
	}
	take(m, "state", &a.State, &err)
	take(m, "deleted", &a.Deleted, &err)
	if err != nil {
		return Affinity{}, fmt.Errorf("affinity: %w", err)
	}
	switch a.State {
	case "":
		a.State = Confirmed
	case Pending, Confirmed, PendingDeletion:
	default:
		return Affinity{}, fmt.Errorf("affinity: member \"state\": %.32q is none of pending, confirmed, pendingDeletion", a.State)
	}
	a.others = m
	return a, nil
}

// Encode returns the JSON to store.
func (a Affinity) Encode() ([]byte, error) {
	var o object
	o.set("state", a.State)
	o.set("deleted", a.Deleted)
	return o.end(a.others)
}

// ConfirmedBlock tells, from a key and its value, whether it makes a block
// the owner's: the block may then be routed to, and announced by, that owner.
// An affinity that is pending or about to go is not owned, and neither is what can be no block.
func ConfirmedBlock(o Owner, key string, value []byte) (cidr netip.Prefix, ok bool) {
	by, cidr, ok := ParseAffinityKey(key)
	if !ok || by != o || CheckBlock(cidr) != nil {
		return netip.Prefix{}, false
	}
	a, err := DecodeAffinity(value)
	if err != nil || a.Deleted || a.State != Confirmed {
		return netip.Prefix{}, false
	}
	return cidr, true
}
