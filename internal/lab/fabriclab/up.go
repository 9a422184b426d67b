// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/emit"
)

// Options says how a lab is booted.
type Options struct {
	Binary string // the muslin that the servers run, from where this program runs
	// Say is told what is being done.
	Say func(format string, v ...any)
}

// Up boots a design. It returns when every daemon runs and every endpoint is attached;
// routes may still be on their way. If it fails, nothing is left.
func Up(ctx context.Context, g *fabric.Design, o Options) (l *Lab, err error) {
	name := g.Metadata.Name
	if err := errors.Join(checkName(name), checkPrograms(g), checkEndpoints(g), checkSpaces(g)); err != nil {
		return nil, err
	}
	binary, err := filepath.Abs(o.Binary) // daemons run in /
	if err != nil {
		return nil, err
	}
	lock, err := claim(name)
	if err != nil {
		return nil, err
	}
	there, err := left(name)
	if err == nil && len(there) > 0 {
		err = fmt.Errorf("lab %s is up, or was and crashed: `muslin fabric lab down %s` removes it", name, name)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	l = &Lab{Name: name, Binary: binary, Design: g, Started: time.Now(), lock: lock}
	l.prepare()
	if err := l.boot(ctx, o); err != nil {
		lock.Close()
		_, more := Down(name)
		return nil, errors.Join(err, more)
	}
	return l, nil
}

// parallel bounds what starts at once.
const parallel = 8

func (l *Lab) boot(ctx context.Context, o Options) error {
	e, err := emit.New(l.Design)
	if err != nil {
		return err
	}
	// What is there is of a lab whose namespaces somebody has removed: another cluster.
	if err := errors.Join(os.RemoveAll(l.dir("")), os.MkdirAll(l.dir(""), 0o755)); err != nil {
		return err
	}
	if err := l.save(); err != nil {
		return err
	}
	o.Say("%d devices, %d endpoints: namespaces and cables", len(l.Design.Devices), len(l.Endpoints()))
	if err := errors.Join(l.wire(), l.placeMachines()); err != nil {
		return err
	}
	for _, p := range l.Endpoints() {
		if _, err := l.newSpace(p.Name); err != nil {
			return err
		}
	}
	if err := l.startOutside(); err != nil {
		return err
	}
	o.Say("datastore, and the resources of %d vRouters", len(l.vrouters()))
	if err := l.startManagement(ctx); err != nil {
		return err
	}
	if err := l.configure(ctx, e); err != nil {
		return err
	}
	o.Say("%d vRouters, %d switches and borders", len(l.vrouters()), len(l.Design.Devices)-len(l.vrouters()))
	// Servers first: without a peer they send a packet of BFD each second (RFC 5880 section 6.8.3), and with one ten of
	// each family, which is half of two processors where there are 80.
	isServer := func(d *fabric.Device) bool { return d.Role == fabric.RoleServer }
	start := func(ctx context.Context, d *fabric.Device) error {
		if d.Software != fabric.Muslin {
			if err := l.startRouter(ctx, e, d); err != nil || !isServer(d) {
				return err
			}
			return l.attach(ctx, d)
		}
		if err := l.startServer(d.Name); err != nil {
			return err
		}
		if err := l.live(ctx, d.Name); err != nil {
			return err
		}
		return l.attach(ctx, d)
	}
	if err := l.each(ctx, isServer, start); err != nil {
		return err
	}
	return l.each(ctx, func(d *fabric.Device) bool { return !isServer(d) }, start)
}

// each does something with every device of a kind, several at once.
func (l *Lab) each(ctx context.Context, of func(*fabric.Device) bool, do func(context.Context, *fabric.Device) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range l.Design.Devices {
		if d := &l.Design.Devices[i]; of(d) {
			g.Go(func() error { return do(ctx, d) })
		}
	}
	return g.Wait()
}
