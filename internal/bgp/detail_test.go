// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"slices"
	"strings"
	"testing"
)

// Everything about one session, while it lives and after it has ended.
func TestPeerDetail(t *testing.T) {
	t.Parallel()
	a, b := pair(t, 64512, 64513, nil)
	addr := b.cfg.RouterID
	a.waitUp(addr)
	b.originate("10.1.0.0/16", "fd01::/48", "fd02::/48")
	a.originate("10.2.0.0/16")
	a.waitHops("fd02::/48", b.cfg.NextHop6.String())
	eventually(t, "b has heard of it", func() bool { return b.hops("10.2.0.0/16") != "" })

	p := a.peer(addr)
	for _, want := range []string{"multiprotocol: ipv4-unicast", "multiprotocol: ipv6-unicast", "4-octet-as: 64513", "route-refresh", "graceful-restart: 120 s, ipv4-unicast, ipv6-unicast"} {
		if !slices.Contains(p.Capabilities.Received, want) {
			t.Errorf("capabilities received: %q, want %q among them", p.Capabilities.Received, want)
		}
	}
	if !slices.Contains(p.Capabilities.Sent, "4-octet-as: 64512") {
		t.Errorf("capabilities sent: %q", p.Capabilities.Sent)
	}
	// b's routes do not go back to it: its AS is in the path.
	if f := p.Family["ipv6-unicast"]; !f.Negotiated || f.Received != 2 || f.Accepted != 2 || f.Advertised != 0 {
		t.Errorf("IPv6: %+v", f)
	}
	eventually(t, "End-of-RIB in both directions", func() bool {
		f := a.peer(addr).Family
		return f["ipv4-unicast"].EndOfRIBReceived && f["ipv6-unicast"].EndOfRIBReceived && f["ipv4-unicast"].EndOfRIBSent && f["ipv6-unicast"].EndOfRIBSent
	})
	if f := p.Family["ipv4-unicast"]; f.Received != 1 || f.Advertised != 1 || f.Rejected != 0 {
		t.Errorf("IPv4: %+v", f)
	}
	if !p.EBGP || p.KeepaliveTime != 3 || p.HoldLeft <= 0 || p.HoldLeft > 9 || !strings.HasPrefix(p.Local, a.cfg.RouterID.String()) {
		t.Errorf("timers and ends: %+v", p.PeerDetail)
	}
	if p.Messages.Received["open"] == 0 || p.Messages.Received["update"] < 2 || p.Messages.Sent["update"] == 0 || p.Messages.Received["keepalive"] == 0 {
		t.Errorf("messages: %+v", p.Messages)
	}
	if p.Restart == nil || p.Restart.PeerTime != 120 || len(p.Restart.Families) != 2 {
		t.Errorf("restart: %+v", p.Restart)
	}

	if got := a.Tables(); got.Prefixes != 4 || got.Paths != 4 || got.Groups != 1 || got.Attributes == 0 || got.Selections < 4 {
		t.Errorf("tables: %+v", got)
	}

	// b gives the session up, and says so.
	cfg := b.cfg
	cfg.Peers = nil
	if err := b.SetConfig(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the NOTIFICATION is remembered", func() bool { return a.peer(addr).Got != nil })
	p = a.peer(addr)
	if p.Got.Code != codeCease || p.Got.Subcode != ceaseDeconfigured || p.Got.Time.IsZero() || p.Failure == nil || p.Failure.Text == "" {
		t.Errorf("got %+v, failure %+v", p.Got, p.Failure)
	}
	if p.Messages.Received["notification"] != 1 {
		t.Errorf("messages: %+v", p.Messages)
	}
	eventually(t, "it tries again", func() bool { return a.peer(addr).RetryLeft > 0 })

	// An end without a word keeps the routes, for as long as was agreed.
	if err := b.SetConfig(b.cfg); err != nil {
		t.Fatal(err)
	}
	a.waitHops("10.1.0.0/16", addr.String())
	if got := a.peer(addr).Got; got == nil || got.Subcode != ceaseDeconfigured {
		t.Errorf("the new session has forgotten how the last one ended: %+v", got)
	}
	b.stop()
	eventually(t, "routes are stale", func() bool {
		r := a.peer(addr).Restart
		return r != nil && len(r.Retained) == 2 && r.StaleLeft > 100
	})
}

// RFC 9003: the message of whoever shut the session down reaches the operator,
// and cannot do anything to his terminal.
func TestRFC9003_ShutdownMessageIsShown(t *testing.T) {
	for data, want := range map[string]string{
		"\x05hello":      `cease (6/2): "hello"`,
		"\x04\x1b[2J":    `cease (6/2): "\x1b[2J"`,
		"\x00":           `cease (6/2)`,
		"\x09too short ": `cease (6/2): "too short"`,
	} {
		n := decodeNotification(append([]byte{codeCease, ceaseShutdown}, data...))
		var h history
		h.ended(nil, n)
		if h.got == nil || h.got.Text != want {
			t.Errorf("%q: %+v, want %s", data, h.got, want)
		}
	}
}
