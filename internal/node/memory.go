// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/muslin-net/muslin/internal/node/api"
)

// gcPercent is how much the heap may grow between two collections, in percent
// of what is live. What lives is the model, tens of megabytes that hardly
// change, and a change of policy allocates little: collecting early costs a few
// per cent of a core that is idle anyway, and nearly halves the heap.
const gcPercent = 20

// economise gives memory back once the node is live for the first time. A
// start reads everything from the datastore and from the kernel and allocates
// many times what stays of it, so until then the collector runs as Go's authors
// chose. GOGC and GOMEMLIMIT win if the operator has set them.
func (d *Daemon) economise(ctx context.Context) error {
	if _, ok := d.board.wait(ctx, func(s *api.Status) bool { return s.Live }); !ok {
		return nil
	}
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(gcPercent)
	}
	debug.FreeOSMemory()
	return nil
}
