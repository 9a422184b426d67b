// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/node/api"
)

const (
	// gcPercent is how much the heap may grow between two collections, in
	// percent of what is live. What lives is the model, which hardly changes, and
	// a change of policy allocates little: collecting early costs a few per cent
	// of a core that is idle anyway, and nearly halves the heap.
	gcPercent = 20
	// untouched is memory that nobody touches. It is none to the kernel, but
	// counts as live to the collector, which lets the heap grow in proportion:
	// a start allocates more before the first collection, and later it is 6 MB between
	// two of them, where gcPercent of what a small agent has is 2 MB.
	untouched = 8 << 20
	// lull is how long the loop must have had nothing to do before memory is
	// given back. After a start, sessions come up and routes are written until then.
	lull = time.Second
	// memorySlack is by how much the process's own memory may have grown before it is
	// worth a collection to give that back. Pages of the program do not count: those
	// that are used all the time are back in a second.
	memorySlack = 4 << 20
	// givePause bounds what a process costs that needs more than that.
	givePause = 3 * time.Second
	// busyPause is the same while the loop never rests. What changes then waits
	// for a whole collection and for the kernel to take the pages, some 50 ms: with
	// one in ten seconds that is one change in a hundred where a change takes 100 ms.
	busyPause = time.Minute
)

// economise gives back memory that is not needed any more: what the start used,
// when it is over, and then, in a lull or at long intervals, what changes or a
// full comparison with the kernel have left behind. A start reads everything from the
// datastore and from the kernel and allocates many times what stays of it, so
// until then the collector runs as Go's authors chose. GOGC and GOMEMLIMIT win
// if the operator has set them.
func (d *Daemon) economise(ctx context.Context) error {
	if tunable() {
		room := make([]byte, untouched)
		defer runtime.KeepAlive(room)
	}
	if _, ok := d.board.wait(ctx, func(s *api.Status) bool { return s.Live }); !ok {
		return nil
	}
	err := giveBack(ctx, d.loop.turns.Load, ownMemory, func(again bool) {
		if !again && tunable() {
			debug.SetGCPercent(gcPercent)
		}
		debug.FreeOSMemory()
		if err := forgetProgram(); err != nil {
			d.log.Debug("pages of the program stay mapped", "err", err)
		}
	})
	if err != nil {
		d.log.Debug("memory is given back no more", "err", err)
	}
	return nil
}

// giveBack decides when memory is given back: the loop rests as long as its turns stay
// the same, and size is what there may be to give.
func giveBack(ctx context.Context, turns func() uint64, size func() (int, error), give func(again bool)) error {
	seen, floor := turns(), 0
	last := time.Now()
	for pause(ctx, lull) {
		now := turns()
		busy := now != seen
		if seen = now; time.Since(last) < rest(floor > 0, busy) {
			continue
		}
		bytes, err := size()
		if err != nil {
			return err
		}
		if floor > 0 && bytes < floor+memorySlack {
			continue
		}
		give(floor > 0)
		if floor, err = size(); err != nil {
			return err
		}
		last = time.Now()
	}
	return nil
}

// rest is for how long memory is not given back after the last time, or, if there
// was none, after the start was over.
func rest(again, busy bool) time.Duration {
	switch {
	case busy:
		return busyPause
	case again:
		return givePause
	}
	return 0
}

// tunable: the operator has left the collector to us.
func tunable() bool { return os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" }

// ownMemory is the memory of this process that is in RAM and in no file, in bytes:
// the second field of /proc/PID/statm without the third (proc(5)).
func ownMemory() (bytes int, err error) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var total, pages, ofFiles int
	if _, err := fmt.Sscan(string(statm), &total, &pages, &ofFiles); err != nil {
		return 0, fmt.Errorf("/proc/self/statm: %w", err)
	}
	return (pages - ofFiles) * os.Getpagesize(), nil
}

// forgetProgram unmaps the pages of the program file. Many of them were only
// touched by the initialisation of packages and the start; they stay in the
// kernel's page cache, from where those that are used come back, several at a
// time, with a minor fault.
func forgetProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer maps.Close()
	clean, err := cleanMappings(maps, program)
	for _, m := range clean {
		// The pages are read-only and those of a file: nothing is lost.
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); e != 0 {
			return fmt.Errorf("madvise %x-%x: %w", m.start, m.end, e)
		}
	}
	return err
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// cleanMappings reads the format of /proc/PID/smaps (proc(5)) and returns the
// mappings of a file that nobody may write and of which no page was changed
// before it became read-only, as those with relocations are.
func cleanMappings(smaps io.Reader, file string) (clean []mapping, err error) {
	var m mapping
	of := false // m is a read-only mapping of file
	sc := bufio.NewScanner(smaps)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		var start, end uintptr
		if len(f) >= 5 && !strings.HasSuffix(f[0], ":") {
			if _, err := fmt.Sscanf(f[0], "%x-%x", &start, &end); err != nil {
				return nil, fmt.Errorf("mapping %q: %w", f[0], err)
			}
			m, of = mapping{start, end}, len(f) >= 6 && strings.HasPrefix(f[1], "r-") && strings.Join(f[5:], " ") == file
			continue
		}
		if of && len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0" {
			clean = append(clean, m)
		}
	}
	return clean, sc.Err()
}
