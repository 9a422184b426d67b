// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"fmt"
	"slices"
	"strings"
	"time"

	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// PeerDetail is what beside the rest is known of a session. Times that are left
// are in seconds.
type PeerDetail struct {
	EBGP    bool   `json:"ebgp"`
	Passive bool   `json:"passive,omitempty"`
	Dynamic bool   `json:"dynamic,omitempty"` // it connected from a listen range
	Local   string `json:"local,omitempty"`   // our end of the connection
	Remote  string `json:"remote,omitempty"`  // the other
	Role    string `json:"role,omitempty"`    // ours (RFC 9234)
	// Capabilities are those of the OPENs, in words.
	Capabilities Capabilities `json:"capabilities,omitzero"`

	KeepaliveTime float64 `json:"keepaliveTimeSeconds,omitempty"`
	HoldLeft      float64 `json:"holdLeftSeconds,omitempty"`  // until the session counts as lost
	RetryLeft     float64 `json:"retryLeftSeconds,omitempty"` // until the next attempt to connect

	Failure *Failure `json:"lastFailure,omitempty"`
	Sent    *Notice  `json:"notificationSent,omitempty"`
	Got     *Notice  `json:"notificationReceived,omitempty"`

	Messages Messages                `json:"messages"`
	Errors   Errors                  `json:"errors,omitzero"`
	Family   map[string]FamilyStatus `json:"byFamily,omitempty"`
	Queue    Queue                   `json:"queue"`
	Restart  *Restart                `json:"restart,omitempty"`

	sentOpen, gotOpen []byte
}

// decode fills in what can be read outside of the loop.
func (d *PeerDetail) decode() {
	d.Capabilities = Capabilities{capabilityNames(d.sentOpen), capabilityNames(d.gotOpen)}
}

// Capabilities are what each end offered in its OPEN (RFC 5492).
type Capabilities struct {
	Sent     []string `json:"sent,omitempty"`
	Received []string `json:"received,omitempty"`
}

// Failure is how the last connection or attempt to connect ended.
type Failure struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

// Messages counts messages by type, of all connections since the start.
type Messages struct {
	Received map[string]uint64 `json:"received"`
	Sent     map[string]uint64 `json:"sent"`
}

// FamilyStatus is the part of one address family.
type FamilyStatus struct {
	Negotiated       bool `json:"negotiated"`
	Received         int  `json:"received"`
	Accepted         int  `json:"accepted"`
	Rejected         int  `json:"rejected"`
	Advertised       int  `json:"advertised"`
	Stale            int  `json:"stale,omitempty"`
	Repeating        bool `json:"repeating,omitempty"` // the peer repeats its table (RFC 7313)
	Due              int  `json:"due,omitempty"`       // routes that it has not repeated yet
	EndOfRIBReceived bool `json:"endOfRIBReceived"`
	EndOfRIBSent     bool `json:"endOfRIBSent"`
}

// Queue is what is to be sent and waits for the peer to read.
type Queue struct {
	Octets   int `json:"octets"`   // encoded
	Messages int `json:"messages"` // of the first table, not yet queued
	Prefixes int `json:"prefixes"` // that changed while the queue was full
}

// Restart is graceful restart (RFC 4724) as the peer announced it, and what of
// its routes is kept while it is away.
type Restart struct {
	PeerTime   float64  `json:"peerRestartTimeSeconds"`
	Families   []string `json:"families,omitempty"`   // that the peer can keep forwarding
	Forwarding []string `json:"forwarding,omitempty"` // of these, those it said to have kept
	Retained   []string `json:"retained,omitempty"`   // with stale routes here
	StaleLeft  float64  `json:"staleLeftSeconds,omitempty"`
}

// detail gathers it, in the loop.
func (p *peer) detail() PeerDetail {
	src := p.s.rib.sources[p.slot]
	d := PeerDetail{
		Errors: p.errors,
		EBGP:   p.ebgp, Role: p.role().String(), Passive: p.cfg.Passive, Dynamic: p.dynamic, Sent: p.history.sent, Got: p.history.got,
		Family:    map[string]FamilyStatus{},
		RetryLeft: p.retry.left() + p.resting.left(), // one at most is set
	}
	if p.history.failure != "" {
		d.Failure = &Failure{p.history.failed, p.history.failure}
	}
	var in, out messageCounts
	in.add(&p.in)
	out.add(&p.out)
	for _, c := range p.conns {
		in.add(&c.in)
		out.add(&c.out)
		// Of several connections the first shows what is being tried.
		if d.Local == "" || c == p.est {
			d.Local, d.Remote = c.nc.LocalAddr().String(), c.nc.RemoteAddr().String()
			d.sentOpen, d.gotOpen = c.sentOpen, c.gotOpen
		}
	}
	d.Messages = Messages{Received: in.byType(), Sent: out.byType()}
	c := p.est
	for f := range numFamilies {
		st := FamilyStatus{
			Received: src.received[f], Accepted: src.accepted[f], Rejected: src.received[f] - src.accepted[f],
			Stale: src.stale[f], Repeating: p.refreshing[f], Due: src.due[f], EndOfRIBReceived: p.gotEOR[f],
		}
		if c != nil {
			st.Negotiated = c.families[f]
			st.EndOfRIBSent = c.families[f] && !p.oweEOR[f]
			st.Advertised = p.group.out.count(f)
		}
		if st.Negotiated || st.Received > 0 {
			d.Family[f.String()] = st
		}
	}
	if c == nil {
		if p.retained != (familySet{}) {
			d.Restart = &Restart{Retained: p.retained.names(), StaleLeft: p.stale.left()}
		}
		return d
	}
	c.mu.Lock()
	d.KeepaliveTime, d.Queue.Octets = c.keepalive.Seconds(), c.queued
	c.mu.Unlock()
	d.Queue.Prefixes = p.dirty.len()
	for _, ch := range p.backlog {
		d.Queue.Messages += ch.msgs
	}
	if c.hold > 0 {
		d.HoldLeft = max(0, (c.hold - (time.Since(p.s.epoch) - time.Duration(c.lastRecv.Load()))).Seconds())
	}
	if c.open.gr {
		d.Restart = &Restart{PeerTime: c.open.grTime.Seconds(), Families: c.open.grFamilies.names(),
			Forwarding: c.open.grForward.names(), Retained: p.retained.names(), StaleLeft: p.stale.left()}
	}
	return d
}

// capabilityNames lists the capabilities of an OPEN in words.
func capabilityNames(open []byte) (list []string) {
	if len(open) < headerLen {
		return nil
	}
	m, err := wire.ParseBGPMessage(open)
	if err != nil {
		return nil
	}
	body, ok := m.Body.(*wire.BGPOpen)
	if !ok {
		return nil
	}
	for _, param := range body.OptParams {
		if p, ok := param.(*wire.OptionParameterCapability); ok {
			for _, c := range p.Capability {
				list = append(list, capabilityName(c))
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func capabilityName(c wire.ParameterCapabilityInterface) string {
	name := c.Code().String()
	var more []string
	switch c := c.(type) {
	case *wire.CapMultiProtocol:
		more = []string{c.CapValue.String()}
	case *wire.CapFourOctetASNumber:
		more = []string{fmt.Sprint(c.CapValue)}
	case *wire.CapGracefulRestart:
		more = []string{fmt.Sprintf("%d s", c.Time)}
		if c.Flags&0x8 != 0 {
			more = append(more, "restarting")
		}
		for _, t := range c.Tuples {
			word := wire.NewFamily(t.AFI, t.SAFI).String()
			if t.Flags&0x80 != 0 {
				word += " kept"
			}
			more = append(more, word)
		}
	case *wire.CapAddPath:
		for _, t := range c.Tuples {
			more = append(more, t.Family.String()+" "+t.Mode.String())
		}
	case *wire.CapExtendedNexthop:
		for _, t := range c.Tuples {
			more = append(more, fmt.Sprintf("%s by AFI %d", wire.NewFamily(t.NLRIAFI, uint8(t.NLRISAFI)), t.NexthopAFI))
		}
	case *wire.CapLongLivedGracefulRestart:
		for _, t := range c.Tuples {
			more = append(more, fmt.Sprintf("%s %d s", wire.NewFamily(t.AFI, t.SAFI), t.RestartTime))
		}
	case *wire.CapFQDN:
		more = []string{printable(c.HostName)}
	case *wire.CapSoftwareVersion:
		more = []string{printable(c.SoftwareVersion)}
	case *wire.CapUnknown:
		name = fmt.Sprintf("capability %d", c.Code())
		if c.Code() == capRole && len(c.CapValue) == 1 {
			name, more = "role", []string{roleFrom(c.CapValue[0]).String()}
		}
	}
	if len(more) == 0 {
		return name
	}
	return name + ": " + strings.Join(more, ", ")
}

// printable is a name that the peer gave, fit for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s[:min(len(s), 64)])
}

// Tables are the sizes of the tables.
type Tables struct {
	Prefixes   int
	Paths      int    // received or originated here
	Attributes int    // different sets of them
	Groups     int    // that are told the same
	Selections uint64 // how often the selection of a prefix has changed
}

// Tables returns the sizes of the tables; all are 0 when the engine does not run.
func (s *Speaker) Tables() (t Tables) {
	s.ask(func() {
		t = Tables{Prefixes: s.rib.table.Size(), Attributes: len(s.rib.attrs.sets), Groups: len(s.groups), Selections: s.selections}
		for _, src := range s.rib.sources {
			t.Paths += src.received[v4] + src.received[v6]
		}
	})
	return t
}
