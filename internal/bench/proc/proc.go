// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package proc reads what a process costs, as the kernel accounts for it, and
// what machine that was on. Every benchmark reports with it, so that figures of
// different programs mean the same.
package proc

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Memory is what a process occupies, in bytes.
type Memory struct {
	RSS       int64 `json:"rss"`       // VmRSS: what budgets are about
	Peak      int64 `json:"peak"`      // VmHWM
	Anonymous int64 `json:"anonymous"` // of it, heap and stacks
	Private   int64 `json:"private"`   // of it, not shared with another process
	File      int64 `json:"file"`      // of it, pages of the program's file
}

// ReadMemory reads it from /proc.
func ReadMemory(pid int) (m Memory, err error) {
	fields := map[string]*int64{
		"VmRSS": &m.RSS, "VmHWM": &m.Peak, "RssFile": &m.File, "Anonymous": &m.Anonymous, "Private_Clean": &m.Private, "Private_Dirty": &m.Private,
	}
	for _, name := range []string{"status", "smaps_rollup"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return m, err
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			if to := fields[key]; to != nil {
				kb, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
				if err != nil {
					return m, fmt.Errorf("/proc/%d/%s: %w", pid, name, err)
				}
				*to += kb << 10
			}
		}
	}
	return m, nil
}

// CPU is what all threads of a process have used, user and system: the clock
// that clock_getcpuclockid(3) names, in nanoseconds where /proc has ticks.
func CPU(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED of the whole process
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Hardware is one line about this machine.
func Hardware() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	_ = unix.Uname(&u)
	var mem unix.Sysinfo_t
	_ = unix.Sysinfo(&mem)
	return fmt.Sprintf("%d × %s, %d GB, Linux %s, %s", runtime.NumCPU(), model,
		(uint64(mem.Totalram)*uint64(mem.Unit)+1<<29)>>30, unix.ByteSliceToString(u.Release[:]), runtime.Version())
}

// Samples are times of one kind of event.
type Samples []time.Duration

// Quantile is the smallest sample that is not exceeded by a share q of all.
func (s Samples) Quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	i := int(q*float64(len(sorted)) + 0.999999)
	return sorted[min(max(i-1, 0), len(sorted)-1)]
}
