// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/node/api"
)

// watched waits until BFD is up on both ends of every session that the design has it watch. BGP is there a second or
// two earlier (RFC 5880 section 6.8.3), and what fails silently meanwhile is left to the hold time. While something
// has failed already it does not wait: not all of them will come up.
func (l *Lab) watched(ctx context.Context) error {
	if len(l.Failed) > 0 {
		return nil
	}
	for i := range l.Design.Devices {
		d := &l.Design.Devices[i]
		want := l.bfdSessions(d)
		if want == 0 {
			continue
		}
		if err := poll(ctx, 15*time.Second, func() error {
			up, err := l.bfdUp(ctx, d)
			if err == nil && up < want {
				err = fmt.Errorf("BFD of %s is up on %d sessions, want %d", d.Name, up, want)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// bfdSessions is how many sessions of a device the design has BFD watch: one for each address of a neighbour, or for
// each that is known by its port alone.
func (l *Lab) bfdSessions(d *fabric.Device) (n int) {
	for _, p := range l.x.Neighbours(d) {
		if p.Profile != nil && p.Profile.BFD.On() {
			n += max(1, len(p.Address))
		}
	}
	return n
}

// bfdUp asks a device how many sessions its BFD has up.
func (l *Lab) bfdUp(ctx context.Context, d *fabric.Device) (n int, err error) {
	switch d.Software {
	case fabric.Muslin:
		var answer api.Peers
		if err := api.NewClient(l.dir(d.Name)).Get(ctx, "/v1/bgp/peers", nil, &answer); err != nil {
			return 0, fmt.Errorf("%s: %w", d.Name, err)
		}
		for _, p := range answer.Peers {
			if p.BFD != nil && p.BFD.State == "Up" {
				n++
			}
		}
		return n, nil
	case fabric.BIRD:
		out, err := exec.CommandContext(ctx, birdClient, "-s", l.birdSocket(d.Name), "show", "bfd", "sessions").CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%s: birdc: show bfd sessions: %w: %s", d.Name, err, out)
		}
		for line := range strings.Lines(string(out)) { // address, interface, state
			if words := strings.Fields(line); len(words) > 2 && words[2] == "Up" {
				n++
			}
		}
		return n, nil
	}
	out, err := l.vty(ctx, d, "bfdd", "show bfd peers json")
	if err != nil {
		return 0, err
	}
	var peers []struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(out, &peers); err != nil {
		return 0, fmt.Errorf("%s: bfdd's sessions: %w", d.Name, err)
	}
	for _, p := range peers {
		if p.Status == "up" {
			n++
		}
	}
	return n, nil
}
