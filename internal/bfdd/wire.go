// SPDX-License-Identifier: Apache-2.0

package bfdd

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/muslin-net/muslin/internal/bfd"
	"github.com/muslin-net/muslin/internal/lock"
)

// SocketName is the file name of the process's socket in the run directory. It
// carries JSON values, one after the other, both ways: requests to the
// process, reports from it.
const SocketName = "bfd.sock"

// Version is that of the requests and reports. An agent takes up a process of
// its own version, whatever release that is of; one of another it asks to end,
// which every version understands, and starts its own.
const Version = 1

// processLock is what the process claims.
var processLock = lock.Kind{What: "BFD process of muslin", Socket: "@muslin-bfd", File: "bfd.lock"}

// request is what the process is asked. The first report comes unasked.
type request struct {
	Want   *want `json:"want,omitempty"`
	Report bool  `json:"report,omitempty"` // an answer with fresh counters
	End    bool  `json:"end,omitempty"`
}

// want is the whole set of sessions.
type want struct {
	Version  int           `json:"version"`
	Sessions []session     `json:"sessions"`
	Linger   time.Duration `json:"linger"` // how long to keep them when the connection is gone
}

// session is bfd.Config as it crosses the socket, which root alone can reach:
// the key is in it.
type session struct {
	Name       string        `json:"name"`
	Peer       netip.Addr    `json:"peer"`
	Local      netip.Addr    `json:"local,omitzero"`
	Multihop   bool          `json:"multihop,omitempty"`
	Interval   time.Duration `json:"interval"`
	Multiplier uint8         `json:"multiplier"`
	MinTTL     uint8         `json:"minTTL,omitempty"`
	Passive    bool          `json:"passive,omitempty"`
	AuthType   bfd.AuthType  `json:"authType,omitempty"`
	AuthID     uint8         `json:"authID,omitempty"`
	AuthKey    []byte        `json:"authKey,omitempty"`
}

func sessionOf(c bfd.Config) session {
	return session{
		Name: c.Name, Peer: c.Peer, Local: c.Local, Multihop: c.Multihop, Interval: c.Interval, Multiplier: c.Multiplier,
		MinTTL: c.MinTTL, Passive: c.Passive, AuthType: c.Auth.Type, AuthID: c.Auth.ID, AuthKey: c.Auth.Key,
	}
}

// config is always of a session that does not share fate with the agent.
func (s session) config() bfd.Config {
	return bfd.Config{
		Name: s.Name, Key: bfd.Key{Peer: s.Peer, Local: s.Local, Multihop: s.Multihop}, Interval: s.Interval, Multiplier: s.Multiplier,
		MinTTL: s.MinTTL, Passive: s.Passive, Independent: true,
		Auth: bfd.Auth{Type: s.AuthType, ID: s.AuthID, Key: s.AuthKey},
	}
}

// Report is the state of the process, whole. Version comes first and stays.
type Report struct {
	Version  int          `json:"version"`
	PID      int          `json:"pid"`
	Release  string       `json:"release"` // of the binary that runs
	Started  time.Time    `json:"started"`
	Rights   string       `json:"rights"`             // what it has, and lacks
	Problems []string     `json:"problems,omitempty"` // what it cannot do, and why
	EndsAt   time.Time    `json:"endsAt,omitzero"`    // nobody is connected who wants the sessions
	Sessions []bfd.Status `json:"sessions"`
	// Strays counts packets that belonged to no session, by reason.
	Strays map[string]uint64 `json:"strays,omitempty"`
}

// errVersion is what an agent makes of a process of another version.
type errVersion struct{ theirs int }

func (e errVersion) Error() string {
	return fmt.Sprintf("the BFD process speaks version %d of the protocol, not %d", e.theirs, Version)
}

// Config is what the process is told when it starts.
type Config struct {
	RunDir  string
	Release string // of the binary
}
