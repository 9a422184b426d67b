// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/node/api"
)

// gcPercent is how much the heap may grow between two collections, in percent
// of what is live. What lives is the model, tens of megabytes that hardly
// change, and a change of policy allocates little: collecting early costs a few
// per cent of a core that is idle anyway, and nearly halves the heap.
const gcPercent = 20

// economiseEvery is how often memory that is not in use is given back.
const economiseEvery = 20 * time.Second

// economise gives memory back, for the first time when the node is live. A
// start reads everything from the datastore and from the kernel and allocates
// many times what stays of it, so until then the collector runs as Go's authors
// chose. Later comparisons with the kernel do the same on a smaller scale. GOGC
// and GOMEMLIMIT win if the operator has set them.
func (d *Daemon) economise(ctx context.Context) error {
	if _, ok := d.board.wait(ctx, func(s *api.Status) bool { return s.Live }); !ok {
		return nil
	}
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(gcPercent)
	}
	tick := time.NewTicker(economiseEvery)
	defer tick.Stop()
	for {
		debug.FreeOSMemory()
		unmapProgram()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// unmapProgram drops the read-only pages of the program from this process. Most
// of them were touched once, to initialise packages that this node does not
// use, such as etcd's server. They stay in the page cache, from which those
// that are needed come back, sixteen at a time, in a microsecond.
func unmapProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for in := bufio.NewScanner(maps); in.Scan(); {
		f := strings.Fields(in.Text())
		if len(f) < 6 || f[5] != self || strings.Contains(f[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || end <= start {
			continue
		}
		// The mapping is private, read-only and of a file: nothing can be lost.
		_ = madvise(uintptr(start), uintptr(end-start))
	}
}

func madvise(start, length uintptr) error {
	_, _, errno := unix.Syscall(unix.SYS_MADVISE, start, length, unix.MADV_DONTNEED)
	if errno != 0 {
		return errno
	}
	return nil
}
