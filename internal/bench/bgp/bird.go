// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/muslin-net/muslin/internal/lab"
)

// bird is BIRD 2, with a configuration for the job and no more.
type bird struct {
	w       *world
	program string
	proc    *lab.Process
	control net.Conn
	answers *bufio.Reader
}

func (b *bird) name() string { return "bird" }

func (b *bird) file(name string) string { return filepath.Join(b.w.dir, "bird."+name) }

func (b *bird) configure(_ context.Context, w *world, j job) (err error) {
	b.w = w
	if b.program, err = exec.LookPath("bird"); err != nil {
		return err
	}
	var c strings.Builder
	fmt.Fprintf(&c, "log \"%s\" { warning, error, fatal, bug };\nrouter id %s;\nprotocol device { }\n", b.file("log"), routerAddr.Addr())
	if j.program {
		fmt.Fprint(&c, "protocol kernel kernel4 { persist; ipv4 { import none; export where source = RTS_BGP; }; }\n")
	}
	if len(j.own) > 0 {
		fmt.Fprint(&c, "protocol static own { ipv4;\n")
		for _, p := range j.own {
			fmt.Fprintf(&c, "route %s blackhole;\n", p)
		}
		fmt.Fprint(&c, "}\n")
	}
	for i := range j.peers + j.silent {
		fmt.Fprintf(&c, "protocol bgp peer%d { local %s as %d; neighbor %s as %d; hold time %d; graceful restart on; connect retry time 1;\n",
			i, routerAddr.Addr(), asn, neighbour(i), asn, holdTime)
		if i < j.peers {
			fmt.Fprint(&c, "passive on;\n")
		}
		if j.reflect {
			fmt.Fprintf(&c, "rr client; rr cluster id %s;\n", routerAddr.Addr())
		}
		fmt.Fprint(&c, "ipv4 { import all; export all; next hop self ebgp; };\n}\n")
	}
	return os.WriteFile(b.file("conf"), []byte(c.String()), 0o600)
}

func (b *bird) start(again bool) error {
	args := []string{"-f", "-c", b.file("conf"), "-s", b.file("ctl"), "-P", b.file("pid")}
	if again {
		args = append(args, "-R")
	}
	cmd := exec.Command(b.program, args...)
	cmd.Env, cmd.Stderr = lab.CleanEnv(), os.Stderr
	p, err := b.w.router.Host.Start(cmd)
	b.proc = p
	return err
}

func (b *bird) kill() {
	if b.control != nil {
		_ = b.control.Close()
		b.control = nil
	}
	if b.proc != nil {
		b.proc.Kill()
	}
}

func (b *bird) pid() int { return b.proc.Pid() }

func (b *bird) log() string {
	text, _ := os.ReadFile(b.file("log"))
	return string(text[max(0, len(text)-4000):])
}

// ask sends a command to the control socket and returns the answer's lines.
func (b *bird) ask(ctx context.Context, command string) (lines []string, err error) {
	if b.control == nil {
		b.control, err = (&net.Dialer{}).DialContext(ctx, "unix", b.file("ctl"))
		if err != nil {
			return nil, err
		}
		b.answers = bufio.NewReader(b.control)
		if _, err := b.answers.ReadString('\n'); err != nil { // greeting
			return nil, err
		}
	}
	_ = b.control.SetDeadline(time.Now().Add(b.w.o.limit))
	if _, err := fmt.Fprintln(b.control, command); err != nil {
		return nil, err
	}
	for {
		line, err := b.answers.ReadString('\n')
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
		// A code and a blank is the last line, with a code from 8000 on an error.
		if len(line) > 4 && line[4] == ' ' && strings.Trim(line[:4], "0123456789") == "" {
			if line[0] >= '8' {
				return nil, fmt.Errorf("bird: %s: %s", command, strings.TrimSpace(line))
			}
			return lines, nil
		}
	}
}

var birdRoutes = regexp.MustCompile(`Routes: +(\d+) imported,(?: \d+ filtered,)? (\d+) exported`)

// routes sums a column over the protocols whose names match.
func (b *bird) routes(ctx context.Context, pattern string, column int) (sum int, err error) {
	lines, err := b.ask(ctx, fmt.Sprintf("show protocols all \"%s\"", pattern))
	if err != nil {
		return 0, err
	}
	for _, l := range lines {
		if m := birdRoutes.FindStringSubmatch(l); m != nil {
			n, err := strconv.Atoi(m[column])
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

func (b *bird) received(ctx context.Context) (int, error)   { return b.routes(ctx, "peer*", 1) }
func (b *bird) programmed(ctx context.Context) (int, error) { return b.routes(ctx, "kernel*", 2) }
