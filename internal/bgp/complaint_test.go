// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// A NOTIFICATION that ends a connection before there is a session is logged with its code
// and reason: once, while both ends try again and again; again when it is another
// one, and when there was a session in between.
func TestRFC4271_6_RefusalsAreLogged(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	n, r := rawTarget(t, 64999, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	lines := func(what string) (list []string) {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, what) {
				list = append(list, line)
			}
		}
		return list
	}
	const sent, got = `msg="BGP connection refused"`, `msg="BGP peer refuses the connection"`
	wrongAS := func() {
		r.connect(n)
		r.write(rawOpen(64998, r.addr))
		for typ, _ := r.read(); typ != 0 && typ != msgNotification; typ, _ = r.read() {
		}
	}
	refuse := func(sub uint8) {
		r.connect(n)
		r.write(rawOpen(64999, r.addr))
		r.write((&notification{code: codeOpen, sub: sub}).marshal())
		for typ, _ := r.read(); typ != 0; typ, _ = r.read() {
		}
	}
	for range 3 {
		wrongAS()
	}
	eventually(t, "the refusal is logged", func() bool { return len(lines(sent)) > 0 })
	if l := lines(sent); len(l) != 1 || !strings.Contains(l[0], "code=2 subcode=2") || !strings.Contains(l[0], "64998") || !strings.Contains(l[0], "peer=") || !strings.Contains(l[0], "address="+r.addr.String()) {
		t.Errorf("logged %q", l)
	}
	for range 2 {
		refuse(subPeerAS)
	}
	eventually(t, "what the peer says is logged", func() bool { return len(lines(got)) > 0 })
	refuse(subIdentifier)
	eventually(t, "another reason is logged", func() bool { return len(lines(got)) > 1 })
	if l := lines(got); len(l) != 2 || !strings.Contains(l[0], "code=2 subcode=2") || !strings.Contains(l[1], "code=2 subcode=3") {
		t.Errorf("logged %q", l)
	}
	// To stop is no refusal.
	r.connect(n)
	r.write(rawOpen(64999, r.addr))
	if typ, _ := r.read(); typ != msgOpen {
		t.Fatalf("no OPEN but %d", typ)
	}
	stopped := n.cfg
	stopped.Peers = slices.Clone(n.cfg.Peers)
	stopped.Peers[0].Shutdown = true
	if err := n.SetConfig(stopped); err != nil {
		t.Fatal(err)
	}
	for typ, _ := r.read(); typ != 0; typ, _ = r.read() {
	}
	eventually(t, "it is shut down", func() bool { return n.peer(r.addr).State == "Idle" })
	if err := n.SetConfig(n.cfg); err != nil {
		t.Fatal(err)
	}
	if l := lines(sent); len(l) != 1 {
		t.Errorf("logged %q", l)
	}
	r.establish(n, 64999)
	_ = r.nc.Close()
	eventually(t, "the session is gone", func() bool { return n.peer(r.addr).State != "Established" })
	refuse(subIdentifier)
	eventually(t, "it is said again after a session", func() bool { return len(lines(got)) > 2 })
}
