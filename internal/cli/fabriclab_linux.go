// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/lab/fabriclab"
)

func (a *app) fabricLabCommand() *cobra.Command {
	cmd := groupCommand("lab", "Boot a fabric on this machine, and hold it against the simulation",
		a.fabricLabUpCommand(), a.fabricLabTestCommand(), a.fabricLabDownCommand())
	cmd.Long = `Every device of the design becomes a network namespace, every cable a veth pair: FRR or BIRD on
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
	cmd := &cobra.Command{
		Use:   "up FILE",
		Short: "Boot a fabric",
		Long: `Boots the fabric and waits until every device has what the simulation says. A large one is
made smaller with --racks and --servers: what is left keeps its names, addresses and AS
numbers. Without --endpoints each server has two, or as many as the file says if that is
less.`,
		Example: `  muslin fabric lab up pod-a.yaml --racks 3 --servers 2
  muslin fabric lab test pod-a.yaml
  muslin fabric lab down pod-a.yaml`,
		Args: args(cobra.ExactArgs(1)),
	}
	f := cmd.Flags()
	f.IntVar(&racks, "racks", 0, "`number` of racks, if less than in the file")
	f.IntVar(&servers, "servers", 0, "`number` of servers in each rack, if less than in the file")
	f.IntVar(&endpoints, "endpoints", 2, "`number` of endpoints on each server, if less than in the file")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		if racks < 0 || servers < 0 || endpoints < 0 {
			return usagef("--racks, --servers and --endpoints: want numbers from 1 on")
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
		return a.labUp(cmd.Context(), g)
	}
	return cmd
}

func (a *app) labUp(ctx context.Context, g *fabric.Design) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	start := time.Now()
	say := func(format string, v ...any) {
		fmt.Fprintf(a.Out, "[%5.1fs] %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, v...))
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
	return a.labDifferences(c)
}

// labDifferences prints where devices differ from the simulation, and is an error if any do.
func (a *app) labDifferences(c *fabriclab.Comparison) error {
	for _, d := range c.Differences {
		fmt.Fprintln(a.Out, d)
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
		*fabriclab.Comparison
	}
	answer.Name = l.Name
	var err error
	if answer.Comparison, err = l.Settle(ctx, 15*time.Second); err != nil {
		return err
	}
	if answer.Reach, err = l.Probe(ctx); err != nil {
		return err
	}
	err = a.show(form, answer, func() error {
		fmt.Fprintf(a.Out, "%d probes of all pairs of endpoints: %d of them not answered\n", answer.Probes, len(answer.Unreached))
		for _, u := range answer.Unreached {
			fmt.Fprintf(a.Out, "%s to %s (%s): %s\n", u.From, u.To, u.Addr, u.Why)
		}
		fmt.Fprintln(a.Out, answer.Comparison.Summary())
		return nil
	})
	if err != nil {
		return err
	}
	if form == formTable {
		err = a.labDifferences(answer.Comparison)
	}
	if n := len(answer.Unreached); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d probes were not answered", n))
	}
	return err
}

func (a *app) fabricLabDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down FILE",
		Short: "End a lab and remove it",
		Long: `Ends every process in the lab's namespaces, whoever started it, and removes the namespaces
and the lab's files. It goes by names, and so removes what a crash left, too. FILE is the
file that the lab was booted from, or the name of the lab.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, words []string) error {
			name, err := a.labName(words[0])
			if err != nil {
				return err
			}
			found, err := fabriclab.Down(name)
			if err == nil && !found {
				err = fmt.Errorf("lab %s is not up", name)
			}
			return err
		},
	}
}
