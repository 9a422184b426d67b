// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"strings"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/bgp"
	"github.com/muslin-net/muslin/internal/node/api"
	"github.com/muslin-net/muslin/internal/store"
)

// TestLiveCoversOwnObjects: a node is live when what it has written itself is in
// force, and not before.
func TestLiveCoversOwnObjects(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	client, err := store.Open(t.Context(), store.Config{Endpoints: []string{"unix:///nowhere"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	l := newLoop(&Daemon{cfg: Config{Node: "n1"}, store: client, log: log, speaker: bgp.New(bgp.Options{Log: log}), board: newBoard(api.Status{})})
	ready := true
	l.model.cluster = &v3.ClusterInformation{Spec: v3.ClusterInformationSpec{DatastoreReady: &ready}}
	want := func(when string, live bool, word string) {
		t.Helper()
		l.publish()
		if s, _ := l.d.board.read(); s.Live != live || !strings.Contains(strings.Join(s.Missing, "\n"), word) {
			t.Errorf("%s: live is %v, want %v, missing %q", when, s.Live, live, s.Missing)
		}
	}
	at := func(seen, live int64) {
		l.take(update{Update: store.Update{Revision: seen, InSync: true, Connected: true}})
		l.live = live
	}
	at(5, 5)
	want("not registered yet", false, "the objects of this node")
	l.prepared(7, nil)
	want("registered, and the event is on its way", false, "revision 7")
	at(6, 6)
	want("another event", false, "revision 7")
	at(7, 6)
	want("read", false, "")
	at(7, 7)
	want("in force", true, "")
	l.prepared(0, store.ErrReadOnly)
	want("a later attempt is refused", true, "")
	at(3, 3)
	want("an older datastore is restored", true, "")
}
