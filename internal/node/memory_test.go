// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const smapsExample = `00400000-01174000 r-xp 00000000 fe:00 9978693                            /opt/my programs/muslin
Size:              13776 kB
Rss:               12496 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01174000-020e1000 r--p 00d74000 fe:00 9978693                            /opt/my programs/muslin
Rss:               13932 kB
Anonymous:             0 kB
020e1000-020f0000 r--p 01ce1000 fe:00 9978693                            /opt/my programs/muslin
Anonymous:            12 kB
020f0000-02177000 rw-p 01ce1000 fe:00 9978693                            /opt/my programs/muslin
Anonymous:             0 kB
02177000-02178000 r--p 00000000 fe:00 326269                             /opt/my programs/muslin.so
Anonymous:             0 kB
1b584000-1b5a5000 rw-p 00000000 00:00 0                                  [heap]
Anonymous:             0 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Anonymous:             0 kB
`

func TestCleanMappings(t *testing.T) {
	got, err := cleanMappings(strings.NewReader(smapsExample), "/opt/my programs/muslin")
	want := []mapping{{0x400000, 0x1174000}, {0x1174000, 0x20e1000}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("mappings %x, %v; want %x", got, err, want)
	}
	if _, err := cleanMappings(strings.NewReader("zz r-xp 0 0 0 x\n"), "x"); err == nil {
		t.Error("no error for a line that is no mapping")
	}
}

// TestForgetProgram goes on running after its own code was unmapped.
func TestForgetProgram(t *testing.T) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	resident := func() (kb int) {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
				for _, c := range strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")) {
					kb = 10*kb + int(c-'0')
				}
			}
		}
		return kb
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	clean, err := cleanMappings(f, program)
	if err != nil || len(clean) < 2 {
		t.Fatalf("%d mappings of %s, %v; want text and read-only data", len(clean), program, err)
	}
	before := resident()
	if err := forgetProgram(); err != nil {
		t.Fatal(err)
	}
	if after := resident(); after >= before {
		t.Errorf("%d kB of files are mapped, %d kB before", after, before)
	}
}

// An agent that never rests gives back what its start used, too.
func TestRest(t *testing.T) {
	for _, c := range []struct {
		again, busy bool
		want        time.Duration
	}{{false, false, 0}, {true, false, givePause}, {false, true, busyPause}, {true, true, busyPause}} {
		if got := rest(c.again, c.busy); got != c.want {
			t.Errorf("again %t, busy %t: %v, want %v", c.again, c.busy, got, c.want)
		}
	}
}
