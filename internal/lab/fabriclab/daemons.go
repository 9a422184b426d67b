// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fabriclab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/emit"
	"github.com/muslin-net/muslin/internal/lab"
	"github.com/muslin-net/muslin/internal/node/api"
)

// SetDaemon has switches and borders run another program than the design says.
func SetDaemon(g *fabric.Design, s fabric.Software) {
	for i := range g.Devices {
		switch d := &g.Devices[i]; d.Role {
		case fabric.RoleToR, fabric.RoleSpine, fabric.RoleBorder:
			d.Software = s
		}
	}
}

// detach starts a program on a device, with its output in a file there. One that speaks BFD is scheduled before others, as
// that of a vRouter is: its peers wait 300 ms for it, and a machine that boots labs has more to do than it can.
func (l *Lab) detach(device, log, program string, args ...string) error {
	n, err := l.space(device)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(l.dir(device), log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = out, out, "/", lab.CleanEnv()
	pid, err := n.Detach(cmd)
	if base := filepath.Base(program); err == nil && (base == "bfdd" || base == filepath.Base(birdProgram)) {
		if err = unix.Setpriority(unix.PRIO_PROCESS, pid, -15); errors.Is(err, unix.ESRCH) {
			return nil // whoever waits for it says that it ended
		}
	}
	return err
}

// startRouter starts the daemons of a switch or a border.
func (l *Lab) startRouter(ctx context.Context, e *emit.Emitter, d *fabric.Device) error {
	text, err := e.Device(d, e.Target(d))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir(d.Name), 0o755); err != nil {
		return err
	}
	if d.Software == fabric.BIRD {
		return l.startBIRD(ctx, d, text)
	}
	return l.startFRR(ctx, d, text)
}

// startFRR starts FRR with one file for all daemons. It insists on a user of its
// own, who is in the group of its sockets.
func (l *Lab) startFRR(ctx context.Context, d *fabric.Device, text string) error {
	u, err := user.Lookup("frr")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir := l.dir(d.Name)
	file := filepath.Join(dir, "frr.conf")
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		return err
	}
	for _, name := range []string{dir, file} {
		if err := os.Chown(name, uid, gid); err != nil {
			return err
		}
	}
	daemons := []string{"zebra"}
	if len(d.Discard)+len(d.Static) > 0 {
		daemons = append(daemons, "staticd")
	}
	if strings.Contains(text, "\nbfd\n") {
		daemons = append(daemons, "bfdd")
	}
	for _, daemon := range append(daemons, "bgpd") {
		if err := l.startFRRDaemon(d.Name, daemon); err != nil {
			return err
		}
		wait := filepath.Join(dir, daemon+".vty")
		if daemon == "zebra" {
			wait = filepath.Join(dir, "zserv")
		}
		if err := appears(ctx, wait); err != nil {
			return fmt.Errorf("%s: %s does not start: %w: see %s", d.Name, daemon, err, filepath.Join(dir, daemon+".log"))
		}
	}
	return nil
}

func (l *Lab) startFRRDaemon(device, daemon string) error {
	dir := l.dir(device)
	at := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"-f", at("frr.conf"), "-i", at(daemon + ".pid"), "-z", at("zserv"), "--vty_socket", dir, "-u", "frr", "-g", "frr", "-P", "0",
		"--log", "stdout", "--log-level", "informational"} // as which it warns of too many prefixes
	if daemon == "bfdd" {
		args = append(args, "--bfdctl", at("bfdd.sock"))
	}
	return l.detach(device, daemon+".log", filepath.Join(frrDir, daemon), args...)
}

func appears(ctx context.Context, file string) error {
	return poll(ctx, 10*time.Second, func() error { _, err := os.Stat(file); return err })
}

// poll asks until the answer is nil, and returns the last one otherwise.
func poll(ctx context.Context, limit time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The management network has a subnet that no design has, and carries what
// servers say to the datastore. It is a bridge in the namespace of the one node
// on it that is not in the design, whose muslin run has the etcd inside.
const (
	management     = "management"
	managementLink = "mgmt"
)

var managementNet = netip.MustParsePrefix("fd6d:6c61:62::/64")

func managementAddr(n int) netip.Prefix {
	a := managementNet.Addr().As16()
	a[14], a[15] = byte(n>>8), byte(n)
	return netip.PrefixFrom(netip.AddrFrom16(a), managementNet.Bits())
}

func etcdURL() string {
	return "http://" + netip.AddrPortFrom(managementAddr(1).Addr(), 2379).String()
}

// startManagement lays the management network and starts the datastore.
func (l *Lab) startManagement(ctx context.Context) error {
	n, err := l.newSpace(management)
	if err != nil {
		return err
	}
	if err := n.SetSysctl("net/ipv6/conf/default/accept_dad", "0"); err != nil {
		return err
	}
	if err := n.AddBridge(managementLink); err != nil {
		return err
	}
	if err := n.AddAddr(managementLink, managementAddr(1)); err != nil {
		return err
	}
	port := 2
	for _, d := range l.vrouters() {
		link := fmt.Sprintf("m%d", port)
		if err := lab.Veth(lab.End{NS: n, Name: link}, lab.End{NS: l.spaces[d.Name], Name: managementLink}); err != nil {
			return err
		}
		if err := n.Enslave(link, managementLink); err != nil {
			return err
		}
		if err := l.spaces[d.Name].AddAddr(managementLink, managementAddr(port)); err != nil {
			return err
		}
		port++
	}
	args := []string{"--embedded-etcd", "--etcd-listen", etcdURL(), "--ip6", managementAddr(1).String()}
	if err := l.startMuslin(management, args...); err != nil {
		return err
	}
	return l.live(ctx, management)
}

// vrouters are the devices that run muslin.
func (l *Lab) vrouters() (list []*fabric.Device) {
	for i := range l.Design.Devices {
		if d := &l.Design.Devices[i]; d.Software == fabric.Muslin {
			list = append(list, d)
		}
	}
	return list
}

func (l *Lab) startMuslin(device string, more ...string) error {
	dir := l.dir(device)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return l.detach(device, "muslin.log", l.Binary, append([]string{"run", "--node", device, "--run-dir", dir, "--state-dir", filepath.Join(dir, "state")}, more...)...)
}

// startServer starts muslin run on a server or a reflector.
func (l *Lab) startServer(device string) error { return l.startMuslin(device, "--etcd", etcdURL()) }

// live waits until a vRouter is live at the datastore's revision of now.
func (l *Lab) live(ctx context.Context, device string) error {
	client := api.NewClient(l.dir(device))
	err := poll(ctx, 60*time.Second, func() error {
		s, err := client.Status(ctx, 10*time.Second)
		if err == nil && !s.Live {
			err = fmt.Errorf("not live: %s", strings.Join(s.Missing, "; "))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w: see %s", device, err, filepath.Join(l.dir(device), "muslin.log"))
	}
	return nil
}

// muslin runs the command line against the datastore. It is in no namespace of the lab, where down would find it, and so dies with
// the one that asked: if that is killed it does not go on, and write into the lab that is booted next. The kernel takes the thread
// for the one that asked.
func (l *Lab) muslin(ctx context.Context, stdin string, args ...string) error {
	cmd := exec.CommandContext(ctx, l.Binary, append(args, "--run-dir", l.dir(management))...)
	cmd.Env, cmd.Stdin = lab.CleanEnv(), strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("muslin %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// allowAll is the policy of the endpoints: what a lab looks at is reachability.
const allowAll = `---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: lab}
spec:
  selector: has(lab)
  types: [Ingress, Egress]
  ingress: [{action: Allow}]
  egress: [{action: Allow}]
`

// configure applies the resources of all vRouters.
func (l *Lab) configure(ctx context.Context, e *emit.Emitter) error {
	text, err := e.Common()
	if err != nil {
		return err
	}
	docs := text + allowAll
	for _, d := range l.vrouters() {
		text, err := e.Device(d, emit.VRouter)
		if err != nil {
			return err
		}
		docs += "---\n" + text
	}
	// The pools are the design's, and not those that a first start makes up.
	if err := l.muslin(ctx, "", "delete", "ippool", "default-ipv4-ippool", "default-ipv6-ippool"); err != nil {
		return err
	}
	return l.muslin(ctx, docs, "apply", "-f", "-")
}
