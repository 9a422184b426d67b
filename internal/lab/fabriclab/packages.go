// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
)

// Where Debian puts FRR, and what is not in PATH of everybody.
const frrDir = "/usr/lib/frr"

var programs = map[fabric.Software]struct {
	pkg   string
	files []string
}{
	fabric.FRR:  {"frr", []string{frrDir + "/zebra", frrDir + "/bgpd", frrDir + "/bfdd", frrDir + "/staticd", "/usr/bin/vtysh"}},
	fabric.BIRD: {"bird2", []string{birdProgram, birdClient}},
}

// policyFile is what Debian asks before it starts the service of a package that it has installed.
const policyFile = "/usr/sbin/policy-rc.d"

// Missing returns the Debian packages that the switches and borders of a design need and that are not here, in order. The
// error says which device runs what no lab has.
func Missing(g *fabric.Design) ([]string, error) {
	var missing []string
	for i := range g.Devices {
		d := &g.Devices[i]
		p, ok := programs[d.Software]
		if !ok && d.Software != fabric.Muslin {
			return nil, fmt.Errorf("%s runs %s: the lab has frr, bird and muslin: set switches.tor.software or switches.spine.software", d.Name, d.Software)
		}
		absent := func(file string) bool { _, err := os.Stat(file); return err != nil }
		if slices.ContainsFunc(p.files, absent) && !slices.Contains(missing, p.pkg) {
			missing = append(missing, p.pkg)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

// checkPrograms says which packages a design needs that are not here.
func checkPrograms(g *fabric.Design) error {
	missing, err := Missing(g)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("not installed: apt-get install %s", strings.Join(missing, " "))
	}
	return err
}

// Install installs Debian packages with apt-get, which must be root's. Their services are not started: a lab starts daemons
// of its own, in namespaces, and the host's routes are none of its business.
func Install(ctx context.Context, packages []string) error {
	words := strings.Join(packages, " ")
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return fmt.Errorf("%s: not installed, and there is no apt-get here: install what your distribution calls it", words)
	}
	release, err := holdServices()
	if err != nil {
		return err
	}
	defer release()
	run := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // killed, it would leave half a package
		return cmd.CombinedOutput()
	}
	install := append([]string{"install", "-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"}, packages...)
	if _, err := run(install...); err == nil { // the lists may be there already
		return nil
	}
	said, err := run("update", "-qq")
	if err == nil {
		said, err = run(install...)
	}
	if err != nil {
		return fmt.Errorf("apt-get install %s: %w: %s", words, err, strings.TrimSpace(string(said)))
	}
	return nil
}

// holdServices forbids packages to start their services until release is called. A policy that somebody else wrote stays.
func holdServices() (release func(), err error) {
	f, err := os.OpenFile(policyFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: installing packages needs root", err)
	}
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(policyFile))
	}
	return func() { os.Remove(policyFile) }, nil
}
