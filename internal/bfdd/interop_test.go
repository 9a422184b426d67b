// SPDX-License-Identifier: Apache-2.0

package bfdd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/lab/labtest"
)

// TestInterop_FRR: FRR's bfdd at the other end, over one hop and over several,
// IPv4 and IPv6; and a path that dies is noticed by both.
func TestInterop_FRR(t *testing.T) {
	labtest.Require(t)
	labtest.Programs(t, "frr", "/usr/lib/frr/bfdd", "/usr/lib/frr/zebra")
	for _, multihop := range []bool{false, true} {
		t.Run(map[bool]string{false: "one hop", true: "multihop"}[multihop], func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			f := labtest.Fabric(t, l, "seg")
			ha := labtest.Host(t, l, f, "a", a4+"/24", a6+"/64")
			hb := labtest.Host(t, l, f, "b", b4+"/24", b6+"/64")
			env, kind := []string{"INTERVAL=100ms"}, ""
			if multihop {
				env, kind = append(env, "MULTIHOP=1"), " multihop"
			}
			ask := startFRR(t, hb, fmt.Sprintf(`bfd
 peer %s%s local-address %s
  receive-interval 100
  transmit-interval 100
 exit
 peer %s%s local-address %s
  receive-interval 100
  transmit-interval 100
 exit
exit
`, a4, kind, b4, a6, kind, b6))
			a := newServer(t, ha, env, a4, b4, a6, b6)
			a.start()
			up := func() {
				t.Helper()
				a.want("Up")
				labtest.Poll(t, 15*time.Second, func() error {
					if out := ask("show bfd peers brief"); strings.Count(out, " up") != 2 {
						return fmt.Errorf("FRR: %s", out)
					}
					return nil
				})
			}
			up()
			for _, s := range a.report().Sessions {
				if s.Detect != 300*time.Millisecond || s.Multihop != multihop {
					t.Errorf("%+v", s)
				}
			}
			if err := hb.Port.Isolate(); err != nil {
				t.Fatal(err)
			}
			a.want("Down")
			if n := failures(a.report()); n != 2 {
				t.Errorf("%d failures", n)
			}
			if err := hb.Port.Join(); err != nil {
				t.Fatal(err)
			}
			up()
		})
	}
}

// startFRR runs zebra and bfdd in a namespace and returns a shell to bfdd.
func startFRR(t *testing.T, h *lab.Host, conf string) (ask func(string) string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mufrr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"zebra.conf": "", "bfdd.conf": conf} {
		if err := os.WriteFile(path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "-R", "frr:frr", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{
		{"/usr/lib/frr/zebra", "-f", path("zebra.conf")},
		{"/usr/lib/frr/bfdd", "-f", path("bfdd.conf"), "--bfdctl", path("bfdd.sock")},
	} {
		args = append(args, "-z", path("zserv.api"), "--vty_socket", dir, "-i", path(filepath.Base(args[0])+".pid"), "--log", "file:"+path("log"))
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
		if _, err := h.Start(cmd); err != nil {
			t.Fatal(err)
		}
		labtest.Poll(t, 10*time.Second, func() error {
			_, err := os.Stat(path(filepath.Base(args[0]) + ".vty"))
			return err
		})
	}
	return func(command string) string {
		out, _ := exec.Command("/usr/bin/vtysh", "--vty_socket", dir, "-d", "bfdd", "-c", command).CombinedOutput()
		return string(out)
	}
}
