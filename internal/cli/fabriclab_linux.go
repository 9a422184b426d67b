// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/live"
	"github.com/muslin-net/muslin/internal/lab/fabriclab"
)

func (a *app) fabricLabCommand() *cobra.Command {
	cmd := groupCommand("lab", "Boot a fabric on this machine, and hold it against the simulation",
		a.fabricLabUpCommand(), a.fabricLabStatusCommand(), a.fabricLabTestCommand(), a.fabricLabFailCommand(), a.fabricLabHealCommand(), a.fabricLabMoveCommand(), a.fabricLabDownCommand())
	cmd.Long = `Every device of the design becomes a network namespace, every cable a veth pair: FRR on
switches and borders with the files that emit writes, muslin run on every server, endpoints
as namespaces. What is up stays up until down, and is known by the name of the fabric. It
needs root, and touches nothing outside of its own namespaces.`
	return cmd
}

// labName is the lab that an argument means: a file's fabric, or a name.
func (a *app) labName(word string) (string, error) {
	if word != "-" {
		if _, err := os.Stat(word); errors.Is(err, fs.ErrNotExist) {
			return word, nil
		}
	}
	g, _, err := a.readFabric(word)
	if err != nil {
		return "", err
	}
	return g.Metadata.Name, nil
}

// onLab does something with a lab that is up.
func (a *app) onLab(word string, do func(*fabriclab.Lab) error) error {
	name, err := a.labName(word)
	if err != nil {
		return err
	}
	l, err := fabriclab.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(do(l), l.Close())
}

func (a *app) fabricLabUpCommand() *cobra.Command {
	var racks, servers, endpoints int
	var daemon string
	var install bool
	cmd := &cobra.Command{
		Use:   "up FILE",
		Short: "Boot a fabric",
		Long: `Boots the fabric and waits until every device has what the simulation says. A large one is
made smaller with --racks and --servers: what is left keeps its names, addresses and AS
numbers. Without --endpoints each server has two, or as many as the file says if that is
less. With --daemon switches and borders run FRR or BIRD, whatever the file says. Debian
packages of these that are missing are installed, and nothing of them is started on the
host; with --install=false they are named only.`,
		Example: `  muslin fabric lab up pod-a.yaml --racks 3 --servers 2
  muslin fabric lab test pod-a.yaml
  muslin fabric lab down pod-a.yaml`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	f := cmd.Flags()
	f.IntVar(&racks, "racks", 0, "`number` of racks, if less than in the file")
	f.IntVar(&servers, "servers", 0, "`number` of servers in each rack, if less than in the file")
	f.IntVar(&endpoints, "endpoints", 2, "`number` of endpoints on each server, if less than in the file")
	f.StringVar(&daemon, "daemon", "", "the `program` of switches and borders, frr or bird, instead of the file's")
	f.BoolVar(&install, "install", true, "install Debian packages of switches and borders that are missing")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		program := fabric.Software(daemon)
		if daemon != "" && program != fabric.FRR && program != fabric.BIRD {
			return usagef("--daemon %s: want frr or bird", daemon)
		}
		if err := fromOne(f, "racks", "servers", "endpoints"); err != nil {
			return err
		}
		g, file, err := a.readFabric(files[0])
		if err != nil {
			return err
		}
		switch {
		case file != nil:
			g = file.Scale(racks, servers, endpoints).Design()
		case racks+servers > 0 || f.Changed("endpoints"):
			return usagef("%s is a FabricDesign: only a Fabric can be made smaller", files[0])
		}
		if daemon != "" {
			fabriclab.SetDaemon(g, program)
		}
		if install {
			if err := a.labInstall(cmd.Context(), g, a.progress(*form)); err != nil {
				return err
			}
		}
		return a.labUp(cmd.Context(), g, *form)
	}
	return cmd
}

// progress is where a command says what it is doing: where the answer is for a program, that has its output for itself.
func (a *app) progress(form string) io.Writer {
	if form == formTable {
		return a.Out
	}
	return a.Err
}

// labInstall installs what the switches and borders of a design run, if it is missing.
func (a *app) labInstall(ctx context.Context, g *fabric.Design, progress io.Writer) error {
	missing, err := fabriclab.Missing(g)
	if err != nil || len(missing) == 0 {
		return err
	}
	fmt.Fprintf(progress, "installing Debian packages: %s\n", strings.Join(missing, " "))
	return fabriclab.Install(ctx, missing)
}

// labIsUp is what up answers.
type labIsUp struct {
	Name      string  `json:"name"`
	Summary   string  `json:"summary"`
	Endpoints int     `json:"endpoints"` // that are namespaces
	Seconds   float64 `json:"seconds"`   // until all was as simulated, or the wait for that was over
	*live.Comparison
}

func (a *app) labUp(ctx context.Context, g *fabric.Design, form string) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	start := time.Now()
	say := func(format string, v ...any) {
		fmt.Fprintf(a.progress(form), "[%5.1fs] %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, v...))
	}
	say("%s", g.Summary())
	l, err := fabriclab.Up(ctx, g, fabriclab.Options{Binary: binary, Say: say})
	if err != nil {
		return err
	}
	defer l.Close()
	say("waiting for what the simulation says")
	c, err := l.Settle(ctx, time.Minute)
	if err != nil {
		return err
	}
	say("up: %s", c.Summary())
	answer := labIsUp{l.Name, g.Summary(), len(l.Endpoints()), time.Since(start).Seconds(), c}
	if err := a.show(form, answer, func() error { return nil }); err != nil {
		return err
	}
	return a.labDifferences(c, form)
}

// labDifferences is an error if devices differ from the simulation, and prints where, if the answer has not said so.
func (a *app) labDifferences(c *live.Comparison, form string) error {
	for _, d := range c.Differences {
		if form == formTable {
			fmt.Fprintln(a.Out, d)
		}
	}
	if n := len(c.Differences); n > 0 {
		return fmt.Errorf("%d differences between the devices and the simulation", n)
	}
	return nil
}

func (a *app) fabricLabTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test FILE",
		Short: "Probe all pairs of endpoints, and compare every table with the simulation",
		Long: `Sends a packet from every endpoint to every other, in each family, and holds the RIB and the
FIB of every device against the simulation: each difference is named by device and prefix.
FILE is the file that the lab was booted from, or the name of the lab. The exit code is 1 if
a pair that should does not reach each other, or a table differs.`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		return a.onLab(words[0], func(l *fabriclab.Lab) error { return a.labTest(cmd.Context(), l, *form) })
	}
	return cmd
}

func (a *app) labTest(ctx context.Context, l *fabriclab.Lab, form string) error {
	var answer struct {
		Name string `json:"name"`
		*fabriclab.Reach
		*live.Comparison
		Outside *fabriclab.Crossing `json:"outside"`
	}
	answer.Name = l.Name
	var err error
	if answer.Comparison, err = l.Settle(ctx, 15*time.Second); err != nil {
		return err
	}
	if answer.Reach, err = l.Probe(ctx); err != nil {
		return err
	}
	if answer.Outside, err = l.Cross(ctx); err != nil {
		return err
	}
	err = a.show(form, answer, func() error {
		fmt.Fprintf(a.Out, "%d probes of all pairs of endpoints: %d of them not answered\n", answer.Probes, len(answer.Unreached))
		for _, u := range answer.Unreached {
			fmt.Fprintf(a.Out, "%s to %s (%s): %s\n", u.From, u.To, u.Addr, u.Why)
		}
		if answer.Outside.Tries > 0 {
			fmt.Fprintln(a.Out, answer.Outside.Summary())
		}
		for _, w := range answer.Outside.Wrong {
			fmt.Fprintln(a.Out, w)
		}
		fmt.Fprintln(a.Out, answer.Comparison.Summary())
		return nil
	})
	if err != nil {
		return err
	}
	err = a.labDifferences(answer.Comparison, form)
	if n := len(answer.Outside.Wrong); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d connections through the border failed, or were seen with the wrong address", n))
	}
	if n := len(answer.Unreached); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d probes were not answered", n))
	}
	return err
}

func (a *app) fabricLabDownCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down FILE",
		Short: "End a lab and remove it",
		Long: `Ends every process in the lab's namespaces, whoever started it, and removes the namespaces
and the lab's files. It goes by names, and so removes what a crash left, too. FILE is the
file that the lab was booted from, or the name of the lab.`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		name, err := a.labName(words[0])
		if err != nil {
			return err
		}
		found, err := fabriclab.Down(name)
		if err == nil && !found {
			err = fmt.Errorf("lab %s is not up", name)
		}
		if err != nil {
			return err
		}
		answer := struct {
			Name string `json:"name"`
			Down bool   `json:"down"`
		}{name, true}
		return a.show(*form, answer, func() error { return nil })
	}
	return cmd
}

func (a *app) fabricLabFailCommand() *cobra.Command {
	var silent, daemon bool
	cmd := &cobra.Command{
		Use:   "fail FILE NAME",
		Short: "Have a link, a port, a device or a daemon fail, and measure what flows lose",
		Long: `Takes down what NAME means: a link or a port, as A-B; a device, with all of its links; a
segment, or its switch. Both ends of a cable see it by the carrier; with --silent nobody
does, and no packet passes. With --daemon the routing daemon of a device is killed, and its
kernel goes on.

Meanwhile a flow runs between any two servers, 60 at most. It says what they lost until every
table is what the simulation says with that failure; a difference makes the exit code 1.`,
		Example: `  muslin fabric lab fail pod-a.yaml spine0-r0-t0
  muslin fabric lab fail pod-a.yaml spine0 --silent
  muslin fabric lab fail pod-a.yaml r0-s0 --daemon`,
		Args: args(cobra.ExactArgs(2)),
	}
	form := answerForm(cmd)
	cmd.Flags().BoolVar(&silent, "silent", false, "nobody sees it by the carrier")
	cmd.Flags().BoolVar(&daemon, "daemon", false, "kill the routing daemon of the device")
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		f := fabriclab.Failed{What: dashed(words[1]), How: fabriclab.ByCarrier}
		switch {
		case silent && daemon:
			return usagef("--silent and --daemon: want one of them")
		case silent:
			f.How = fabriclab.Silent
		case daemon:
			f.How = fabriclab.ByDaemon
		}
		return a.labEvent(cmd.Context(), words[0], *form, func(l *fabriclab.Lab) (string, func() error, error) {
			return fmt.Sprintf("%s (%s) down", f.What, f.How), func() error { return l.Fail(f) }, l.CanFail(f)
		})
	}
	return cmd
}

func (a *app) fabricLabHealCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "heal FILE [NAME]",
		Short: "Mend what was made to fail, and measure what flows lose",
		Long:  `Mends what NAME means, or all that has failed, and measures as fail does.`,
		Args:  args(cobra.RangeArgs(1, 2)),
	}
	form := answerForm(cmd)
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		return a.labEvent(cmd.Context(), words[0], *form, func(l *fabriclab.Lab) (string, func() error, error) {
			what := []string{}
			for _, w := range words[1:] {
				what = append(what, dashed(w))
				if err := l.CanHeal(dashed(w)); err != nil {
					return "", nil, err
				}
			}
			if len(what) == 0 {
				for _, f := range l.Failed {
					what = append(what, f.What)
				}
			}
			done := strings.Join(what, ", ") + " up"
			if len(what) == 0 {
				done = "nothing was down"
			}
			return done, func() (err error) {
				for _, name := range what {
					err = errors.Join(err, l.Heal(cmd.Context(), name))
				}
				return err
			}, nil
		})
	}
	return cmd
}

func (a *app) fabricLabMoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "move FILE ENDPOINT SERVER",
		Short: "Move an endpoint to another server, and measure what it loses",
		Long: `Attaches the endpoint to another server with the same addresses, and detaches it from its own 0.5 s later,
while flows of 200 packets a second run to it from a third server.`,
		Example: "  muslin fabric lab move pod-a.yaml r0-s0-e1 r2-s1",
		Args:    args(cobra.ExactArgs(3)),
	}
	form := answerForm(cmd)
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		return a.onLab(words[0], func(l *fabriclab.Lab) error {
			gaps, err := l.WatchMove(cmd.Context(), dashed(words[1]), dashed(words[2]), "")
			if err != nil {
				return err
			}
			return a.show(*form, gaps, func() error {
				return a.showGaps(gaps)
			})
		})
	}
	return cmd
}

// labEvent does something to a lab and shows what it did. What cannot be done is refused before flows run.
func (a *app) labEvent(ctx context.Context, word, form string, event func(*fabriclab.Lab) (string, func() error, error)) error {
	if err := checkForm(form, answerForms); err != nil {
		return err
	}
	return a.onLab(word, func(l *fabriclab.Lab) error {
		what, do, err := event(l)
		if err != nil {
			return err
		}
		e, err := l.Watch(ctx, what, do)
		if err != nil {
			return err
		}
		err = a.show(form, e, func() error {
			fmt.Fprintln(a.Out, e.Summary())
			if gaps := e.Affected(); len(gaps) > 0 {
				if err := a.showGaps(gaps); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(a.Out, "after %v: %s\n", e.Settled.Round(10*time.Millisecond), e.Comparison.Summary())
			return err
		})
		if err != nil {
			return err
		}
		return a.labDifferences(e.Comparison, form)
	})
}

// showGaps is what flows lost.
func (a *app) showGaps(gaps []fabriclab.Gap) error {
	var rows [][]string
	for _, g := range gaps {
		rows = append(rows, []string{g.From, g.To, g.Addr.String(), strconv.Itoa(g.Lost), g.Gap.Round(time.Millisecond).String()})
	}
	return writeTable(a.Out, []string{"FROM", "TO", "ADDRESS", "LOST", "GAP"}, rows)
}

func (a *app) fabricLabStatusCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "status FILE",
		Short: "Show what is up of a lab, and what was made to fail",
		Long: `Shows the devices, whether the daemon of each runs, and what was made to fail. With --out it
also draws the topology as it is now into DIR/status.svg: what is down is dashed red, and so
are devices whose tables are not what the simulation says with that.`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.Flags().StringVar(&out, "out", "", "draw into this `directory`")
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		return a.onLab(words[0], func(l *fabriclab.Lab) error {
			s, err := l.Status()
			if err == nil && out != "" {
				err = drawLab(cmd.Context(), l, out)
			}
			if err != nil {
				return err
			}
			return a.show(*form, s, func() error {
				fmt.Fprintf(a.Out, "%s: up for %v\n", s.Name, time.Since(s.Started).Round(time.Second))
				var rows [][]string
				for _, d := range s.Devices {
					rows = append(rows, []string{d.Name, string(d.Role), string(d.Software), d.State})
				}
				return writeTable(a.Out, []string{"DEVICE", "ROLE", "SOFTWARE", "STATE"}, rows)
			})
		})
	}
	return cmd
}

// drawLab writes the picture of a lab into a directory.
func drawLab(ctx context.Context, l *fabriclab.Lab, dir string) error {
	svg, err := l.Picture(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "status.svg"), []byte(svg), 0o644)
}
