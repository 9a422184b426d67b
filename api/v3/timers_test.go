// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"testing"
	"time"
)

// What timers need of each other: RFC 4271 section 4.4 and RFC 9687.
func TestTimers(t *testing.T) {
	for _, c := range []struct {
		keepalive       time.Duration // in the BGPPeer's own field
		hold, sendHold  string
		faulty          string
		wantHold, wantS time.Duration
	}{
		{10 * time.Second, "30s", "31s", "", 30 * time.Second, 31 * time.Second},
		{0, "0s", "60s", "", 0, 60 * time.Second},
		{30 * time.Second, "0s", "0s", "", 0, 0},
		{30 * time.Second, "30s", "1m", "hold-time", 0, 0},
		{0, "30s", "30s", "send-hold-time", 0, 0},
		{0, "30s", "0s", "", 30 * time.Second, 0},
	} {
		p := annotated(t, "BGPPeer", map[string]string{"muslin/hold-time": c.hold, "muslin/send-hold-time": c.sendHold}).(*BGPPeer)
		if c.keepalive > 0 {
			p.Spec.KeepaliveTime = &Duration{c.keepalive}
		}
		want := ""
		if c.faulty != "" {
			want = `metadata.annotations["muslin/` + c.faulty + `"]`
		}
		if got := paths(Validate(p)); got != want {
			t.Errorf("%+v: faults %q, want %q", c, got, want)
		}
		s, _ := p.Settings()
		if c.faulty == "" && (*s.Timers.Hold != c.wantHold || *s.Timers.SendHold != c.wantS) {
			t.Errorf("%+v: %v, %v", c, *s.Timers.Hold, *s.Timers.SendHold)
		}
	} // Without a hold time of its own it is 9 s, or three times the keepalive time.
	for keepalive, sendHold := range map[time.Duration]string{0: "9s", 10 * time.Second: "30s"} {
		p := annotated(t, "BGPPeer", map[string]string{"muslin/send-hold-time": sendHold}).(*BGPPeer)
		p.Spec.KeepaliveTime = &Duration{keepalive}
		if got := paths(Validate(p)); got != `metadata.annotations["muslin/send-hold-time"]` {
			t.Errorf("send-hold-time %s, keepalive %v: faults %q", sendHold, keepalive, got)
		}
	}
}
