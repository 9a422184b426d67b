// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The defaults of a session.
const (
	DefaultInterval   = 300 * time.Millisecond
	DefaultMultiplier = 3
)

// The bounds of an interval that can be configured.
const (
	MinInterval = 10 * time.Millisecond
	MaxInterval = 60 * time.Second
)

// slowest is the least interval of transmissions while a session is not Up:
// RFC 5880 section 6.8.3.
const slowest = time.Second

// Config is one session. A session is known by its Key: all else may change
// while it is up.
type Config struct {
	// Name is for people.
	Name string
	Key
	// Interval is how often we want to send (Desired Min TX Interval) and are
	// ready to receive (Required Min RX Interval); 0 means DefaultInterval.
	Interval time.Duration
	// Multiplier is how many intervals without a packet make a failure, at
	// the neighbour; ours is what the neighbour says. 0 means DefaultMultiplier.
	Multiplier uint8
	// MinTTL is the least TTL or hop limit of packets over several hops; 0
	// means any. Over one hop it is 255, whatever this says (RFC 5881 section 5).
	MinTTL uint8
	// Passive waits for the neighbour's first packet: RFC 5880 section 6.1.
	Passive bool
	// Independent says that BFD does not share fate with the control plane (the C bit).
	Independent bool
	Auth        Auth
}

// Key is what makes two sessions different: the neighbour, and whether it is
// one hop away or several. A link-local neighbour carries its interface as
// zone. Local is the address to send from; invalid leaves it to the kernel.
type Key struct {
	Peer     netip.Addr
	Local    netip.Addr
	Multihop bool
}

// id is the part of the key that tells arrivals apart while they carry no
// discriminator of ours: there is one session with a neighbour (RFC 5881
// section 3).
func (k Key) id() Key { return Key{Peer: k.Peer, Multihop: k.Multihop} }

// Validate checks a session; the error names it and the field.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("BFD session %q (%s): %s", c.Name, c.Peer, fmt.Sprintf(format, a...)))
	}
	switch a := c.Peer; {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6():
		bad("Peer is not an address of a neighbour")
	case a.IsLinkLocalUnicast() && a.Is6() && a.Zone() == "":
		bad("Peer is link-local and lacks its interface")
	case c.Local.IsValid() && c.Local.Is4() != a.Is4():
		bad("Local %s is of the other family", c.Local)
	case c.Local == a:
		bad("Peer is our own address")
	}
	if c.Interval < 0 || c.Interval > 0 && c.Interval < MinInterval || c.Interval > MaxInterval {
		bad("Interval %v: want %v to %v", c.Interval, MinInterval, MaxInterval)
	}
	if err := c.Auth.validate(); err != nil {
		bad("%v", err)
	}
	return errors.Join(errs...)
}

// withDefaults fills in what is left out.
func (c Config) withDefaults() Config {
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Multiplier == 0 {
		c.Multiplier = DefaultMultiplier
	}
	if !c.Multihop {
		c.MinTTL = 255
	}
	return c
}

// Equal tells whether nothing differs.
func (c Config) Equal(o Config) bool {
	return c.Auth.equal(o.Auth) && c.Name == o.Name && c.Key == o.Key && c.Interval == o.Interval && c.Multiplier == o.Multiplier &&
		c.MinTTL == o.MinTTL && c.Passive == o.Passive && c.Independent == o.Independent
}

// Status is what is known of a session.
type Status struct {
	Name     string     `json:"name"`
	Peer     netip.Addr `json:"peer"`
	Local    netip.Addr `json:"local,omitzero"`
	Multihop bool       `json:"multihop,omitempty"`

	State       string    `json:"state"`
	Since       time.Time `json:"since"`
	Diag        string    `json:"diagnostic,omitempty"`
	RemoteState string    `json:"remoteState"`
	RemoteDiag  string    `json:"remoteDiagnostic,omitempty"`
	// Failures counts how often the session left Up because the path was lost.
	Failures uint64 `json:"failures"`
	Ups      uint64 `json:"ups"`
	// Independent: neither end's BFD shares fate with its control plane.
	Independent bool `json:"controlPlaneIndependent"`

	Discriminator       uint32        `json:"discriminator"`
	RemoteDiscriminator uint32        `json:"remoteDiscriminator,omitempty"`
	Transmit            time.Duration `json:"transmitNanoseconds"`         // interval, before jitter
	Detect              time.Duration `json:"detectNanoseconds,omitempty"` // detection time; 0 until the neighbour was heard
	Multiplier          uint8         `json:"multiplier"`                  // ours
	Auth                string        `json:"authentication"`
	PacketsIn           uint64        `json:"packetsIn"`
	PacketsOut          uint64        `json:"packetsOut"`
	Discarded           uint64        `json:"discarded,omitempty"`
	LastDiscard         string        `json:"lastDiscard,omitempty"`
}
