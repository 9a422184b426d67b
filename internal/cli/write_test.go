// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	v3 "github.com/muslin-net/muslin/api/v3"
	"github.com/muslin-net/muslin/internal/store"
)

// TestWriteStopsWhereItIsHopeless: a datastore that is gone is not asked once more for each object; an object that is
// refused keeps none of the others back.
func TestWriteStopsWhereItIsHopeless(t *testing.T) {
	srv, err := store.StartEmbedded(t.Context(), store.EmbeddedConfig{Dir: t.TempDir(), ListenClient: []string{"http://127.0.0.1:0"}, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "sets.yaml")
	var text string
	for i := range 3 {
		text += fmt.Sprintf("---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s%d}\n", i)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{Streams: Streams{Out: io.Discard, Err: io.Discard}, etcd: srv.URLs()[0]}
	for _, c := range []struct {
		err   error
		asked int
	}{{fmt.Errorf("write: %w", store.ErrUnavailable), 1}, {context.Canceled, 1}, {store.ErrExists, 3}} {
		asked := 0
		err := a.write(t.Context(), writeFlags{files: []string{file}}, action{created, func(context.Context, objects, v3.Resource) (v3.Resource, error) {
			asked++
			return nil, c.err
		}})
		if asked != c.asked || !errors.Is(err, c.err) {
			t.Errorf("%v: asked for %d objects, want %d; said %v", c.err, asked, c.asked, err)
		}
	}
}
