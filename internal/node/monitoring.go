// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/netip"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp/bmp"
)

// stations are the monitoring stations of this node. Mistakes in the annotation
// are problems of the sessions.
func stations(global, own *v3.BGPConfiguration) []netip.AddrPort {
	s, _ := v3.SettingsOn(global, own)
	return s.BMP
}

// exportTo brings the exports to stations to what is wanted. One that is wanted
// still goes on.
func (l *loop) exportTo(wanted []netip.AddrPort) {
	want := map[netip.AddrPort]bool{}
	for _, a := range wanted {
		want[a] = true
	}
	for a, end := range l.exports {
		if !want[a] {
			end()
			delete(l.exports, a)
		}
	}
	for a := range want {
		if l.exports[a] != nil {
			continue
		}
		if l.exports == nil {
			l.exports = map[netip.AddrPort]func(){}
		}
		ctx, cancel := context.WithCancel(l.ctx)
		done := make(chan struct{})
		e := &bmp.Export{Engine: l.d.speaker, Station: a, Name: l.d.cfg.Node, Version: l.d.cfg.Version, Log: l.d.log.With("part", "bmp")}
		go func() {
			defer close(done)
			e.Run(ctx)
		}()
		l.exports[a] = func() { cancel(); <-done }
	}
}
