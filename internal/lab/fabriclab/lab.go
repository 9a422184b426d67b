// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/lab"
)

// root holds the directory of each lab: short, for the sockets in it.
const root = "/run/muslin-lab"

// Lab is a fabric that is up, or was.
type Lab struct {
	Name string `json:"name"`
	// Binary is the muslin that runs on the servers.
	Binary  string         `json:"binary"`
	Design  *fabric.Design `json:"design"`
	Started time.Time      `json:"started"`
	// Failed are the things that were made to fail, and how.
	Failed []Failed `json:"failed,omitempty"`
	// Moved are the endpoints that are not where the design has them: on which server, or none.
	Moved map[string]string `json:"moved,omitempty"`

	x     *fabric.Index
	names *live.Names
	lock  *os.File

	places   sync.Mutex      // the following, and Moved, while several endpoints move
	now      *fabric.Design  // with endpoints where they are
	underway map[string]bool // endpoints that move, or moved a moment ago

	mu     sync.Mutex
	spaces map[string]*lab.Namespace
	locals map[Plug]netip.Addr // link-local addresses, as they were found
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("lab %q: want a metadata.name of 1–32 letters, digits and dashes: it names network namespaces", name)
	}
	return nil
}

// checkSpaces tells of two things that would be one namespace: the lab has some beside those of devices.
func checkSpaces(g *fabric.Design) error {
	of := map[string]string{management: "the management network", cablesSpace: "the bridge of cables", outside: "the host outside"}
	var errs []error
	claims := func(name, what string) {
		if first := of[name]; first != "" {
			errs = append(errs, fmt.Errorf("%s: in the lab %s is called so, too: give it another name", what, first))
		}
		of[name] = what
	}
	for i := range g.Devices {
		claims(g.Devices[i].Name, string(g.Devices[i].Role)+" "+g.Devices[i].Name)
	}
	for i := range g.Devices {
		for _, e := range endpointsOf(&g.Devices[i]) {
			claims(e.Name, "endpoint "+e.Name)
		}
	}
	for _, m := range machinesOf(g) {
		if m.tor != nil { // else it is a device
			claims(m.Name, "machine "+m.Name)
		}
	}
	return errors.Join(errs...)
}

// prefix is what the names of the lab's namespaces begin with. No device's name
// has a dot, so that no lab's prefix is the beginning of another's.
func prefix(name string) string { return "lab." + name + "." }

// dir is where a device has its files.
func (l *Lab) dir(device string) string { return filepath.Join(root, l.Name, device) }

func stateFile(name string) string { return filepath.Join(root, name, "lab.json") }

// claim keeps others from changing the lab at the same time.
func claim(name string) (*os.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab is made of network namespaces: run it as root")
	}
	file := filepath.Join(root, name+".lock")
	for {
		if err := os.MkdirAll(root, 0o755); err != nil { // FRR's user goes through it
			return nil, err
		}
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) { // somebody's down has removed root
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, fmt.Errorf("lab %s: another command is at work on it", name)
		}
		mine, err1 := f.Stat()
		there, err2 := os.Stat(file)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close() // whoever had it removed it, and the next one makes another
	}
}

// Open finds a lab that is up. Close it.
func Open(name string) (*Lab, error) {
	lock, err := claim(name)
	if err != nil {
		return nil, err
	}
	l := &Lab{}
	text, err := os.ReadFile(stateFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("lab %s is not up: `muslin fabric lab up FILE` boots it", name)
		_ = os.Remove(lock.Name()) // which was not there before
	} else if err == nil {
		if err = json.Unmarshal(text, l); err != nil {
			err = fmt.Errorf("%s: %w: `muslin fabric lab down %s` removes what is there", stateFile(name), err, name)
		}
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	l.lock = lock
	l.prepare()
	return l, nil
}

func (l *Lab) prepare() {
	l.x, l.spaces, l.locals = l.Design.Index(), map[string]*lab.Namespace{}, map[Plug]netip.Addr{}
	l.names = live.NewNames(l.x)
	l.settlePlaces()
}

// Close lets others at the lab, which stays up.
func (l *Lab) Close() error { return l.lock.Close() }

// save writes what the lab is, in one step.
func (l *Lab) save() error {
	text, err := json.MarshalIndent(l, "", "\t")
	if err != nil {
		return err
	}
	next := stateFile(l.Name) + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, stateFile(l.Name))
}

// space is the namespace of a device, a plane or an endpoint.
func (l *Lab) space(name string) (*lab.Namespace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.spaces[name]; n != nil {
		return n, nil
	}
	n, err := lab.OpenNamespace(prefix(l.Name) + name)
	if err != nil {
		return nil, err
	}
	l.spaces[name] = n
	return n, nil
}

// newSpace makes one.
func (l *Lab) newSpace(name string) (*lab.Namespace, error) {
	n, err := lab.NewNamespace(prefix(l.Name) + name)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spaces[name] = n
	return n, nil
}

// commandLine is that of a process; empty if it has ended.
func commandLine(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// left are the namespaces of a lab that are there.
func left(name string) ([]string, error) {
	paths, err := filepath.Glob("/run/netns/" + prefix(name) + "*")
	for i, p := range paths {
		paths[i] = strings.TrimPrefix(p, "/run/netns/")
	}
	return paths, err
}

// Down ends every process in the lab's namespaces and removes them and the lab's directory.
// It goes by names, and so finds what a crash left, too.
func Down(name string) (found bool, err error) {
	lock, err := claim(name)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	names, err := left(name)
	if err != nil {
		return false, err
	}
	_, noDir := os.Stat(filepath.Join(root, name))
	if err := lab.EndInside(names...); err != nil {
		return true, err
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, lab.Remove(n))
	}
	errs = append(errs, os.RemoveAll(filepath.Join(root, name)), os.Remove(lock.Name()))
	_ = os.Remove(root) // unless others are in it
	return len(names) > 0 || noDir == nil, errors.Join(errs...)
}
