// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab"
)

// How is in which way a thing fails.
type How string

// The ways to fail.
const (
	ByCarrier How = "carrier" // both ends of a cable see it
	Silent    How = "silent"  // ends stay up, and no packet passes
	ByDaemon  How = "daemon"  // the routing daemon of a device is killed; its kernel goes on
)

// Failed is a thing that was made to fail.
type Failed struct {
	What string `json:"what"`
	How  How    `json:"how"`
}

// cut are the cables that a failure takes: those of a device, of a segment or of its switch, or the
// link between two devices, or the port of a device on a segment, with a dash between their names.
func (l *Lab) cut(what string) (list []Cable) {
	all := cables(l.x)
	on := func(segment, name string) bool { // it is there with a port, or carries it
		s := l.x.Segment(segment)
		return segment == name || s.Switch == name && name != "" ||
			slices.ContainsFunc(l.x.On(segment), func(a fabric.Attached) bool { return a.Device.Name == name })
	}
	for _, c := range all {
		isLink := l.x.Segment(c.Segment).Kind == fabric.Link
		if c.Segment == what || c.Bridge.Space == what || c.Port.Space == what || isLink && on(c.Segment, what) {
			list = append(list, c)
		}
	}
	for i := range what {
		if what[i] != '-' || len(list) > 0 {
			continue
		}
		a, b := what[:i], what[i+1:]
		for _, c := range all {
			isLink := l.x.Segment(c.Segment).Kind == fabric.Link
			if a != b && on(c.Segment, a) && on(c.Segment, b) && (isLink || c.Port.Space == a || c.Port.Space == b) {
				list = append(list, c)
			}
		}
	}
	return list
}

// CanFail says why a thing cannot fail, if it cannot.
func (l *Lab) CanFail(f Failed) error {
	if slices.ContainsFunc(l.Failed, func(x Failed) bool { return x.What == f.What }) {
		return fmt.Errorf("%s has failed already", f.What)
	}
	if f.How == ByDaemon {
		if l.x.Device(f.What) == nil {
			return fmt.Errorf("no device %q: a daemon fails on a device", f.What)
		}
	} else {
		s, err := l.simulate(l.Design.Families[0])
		if err != nil {
			return err
		}
		if _, err := s.Failure(append(l.downNames(), f.What)...); err != nil {
			return err
		}
		if len(l.cut(f.What)) == 0 {
			return fmt.Errorf("%s: no cable of the lab is that", f.What)
		}
	}
	return nil
}

// Fail makes a thing fail: a link, a port, a switch or a device, or its daemon. It is named as for the
// simulation.
func (l *Lab) Fail(f Failed) error {
	if err := l.CanFail(f); err != nil {
		return err
	}
	// Written down first, so that what is half done is healed; and not done if that cannot be.
	l.Failed = append(l.Failed, f)
	if err := l.save(); err != nil {
		l.Failed = l.Failed[:len(l.Failed)-1]
		return err
	}
	return l.inflict(f)
}

// CanHeal says why a thing cannot be mended, if it cannot.
func (l *Lab) CanHeal(what string) error {
	if !slices.ContainsFunc(l.Failed, func(f Failed) bool { return f.What == what }) {
		return fmt.Errorf("%s has not failed: %s", what, l.hasFailed())
	}
	return nil
}

// Heal mends a thing that was made to fail.
func (l *Lab) Heal(ctx context.Context, what string) error {
	if err := l.CanHeal(what); err != nil {
		return err
	}
	i := slices.IndexFunc(l.Failed, func(f Failed) bool { return f.What == what })
	f := l.Failed[i]
	if f.How == ByDaemon { // before it is forgotten: one that does not start may be healed again
		if err := l.restart(ctx, f.What); err != nil {
			return err
		}
		l.Failed = slices.Delete(l.Failed, i, i+1)
		return l.save()
	}
	l.Failed = slices.Delete(l.Failed, i, i+1)
	return errors.Join(l.plug(l.cut(f.What)), l.save())
}

// hasFailed says what has.
func (l *Lab) hasFailed() string {
	var list []string
	for _, f := range l.Failed {
		list = append(list, fmt.Sprintf("%s (%s)", f.What, f.How))
	}
	if list == nil {
		return "nothing has"
	}
	return "what has is " + strings.Join(list, ", ")
}

// downNames are what the simulation is told to be down: a daemon's routes are kept by its neighbours.
func (l *Lab) downNames() (names []string) {
	for _, f := range l.Failed {
		if f.How != ByDaemon {
			names = append(names, f.What)
		}
	}
	return names
}

func (l *Lab) inflict(f Failed) error {
	if f.How == ByDaemon {
		return l.killDaemon(f.What)
	}
	return l.plug(l.cut(f.What))
}

// plug makes cables what all that has failed says: each may be taken by several failures, in one way or in both. It is done at the
// bridge, so that the port of the device is up all the time.
func (l *Lab) plug(list []Cable) error {
	taken := map[How]map[Cable]bool{ByCarrier: {}, Silent: {}}
	for _, f := range l.Failed {
		for _, c := range l.cut(f.What) {
			if f.How != ByDaemon {
				taken[f.How][c] = true
			}
		}
	}
	var errs []error
	for _, c := range list {
		b, err := l.space(c.Bridge.Space)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		carrier, passes := b.LinkUp, func(link string) error { return b.Enslave(link, c.Bridge.Link) }
		if taken[ByCarrier][c] {
			carrier = b.LinkDown
		}
		if taken[Silent][c] {
			passes = b.Release
		}
		errs = append(errs, carrier(c.Link), passes(c.Link))
	}
	return errors.Join(append(errs, l.followBorders())...)
}

// daemons are the processes that speak BGP, by device. They are found by their command line:
// that of a vRouter which runs BFD is another.
func (l *Lab) daemons() (map[string]int, error) {
	names, err := left(l.Name)
	if err != nil {
		return nil, err
	}
	pids, err := lab.Inside(names...)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, pid := range pids {
		words := commandLine(pid)
		for i := range l.Design.Devices {
			d := &l.Design.Devices[i]
			if len(words) < 2 {
				continue
			}
			program := filepath.Base(words[0])
			speaks := d.Software == fabric.Muslin && words[1] == "run" || program == "bgpd" || program == "bird"
			if speaks && (slices.Contains(words, l.dir(d.Name)) || slices.Contains(words, l.birdSocket(d.Name))) {
				out[d.Name] = pid
			}
		}
	}
	return out, nil
}

// killDaemon ends the routing daemon of a device as a crash would.
func (l *Lab) killDaemon(device string) error {
	running, err := l.daemons()
	pid, ok := running[device]
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%s: its daemon does not run", device)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%s: kill %d: %w", device, pid, err)
	}
	return nil
}

// restart starts the daemon that was killed, unless somebody has.
func (l *Lab) restart(ctx context.Context, device string) error {
	running, err := l.daemons()
	if err != nil || running[device] != 0 {
		return err
	}
	switch l.x.Device(device).Software {
	case fabric.Muslin:
		if err := l.startServer(device); err != nil {
			return err
		}
		return l.live(ctx, device)
	case fabric.BIRD:
		return l.birdDaemon(device, "-R")
	}
	return l.startFRRDaemon(device, "bgpd")
}
