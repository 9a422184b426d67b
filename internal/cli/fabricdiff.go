// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/change"
	"github.com/muslin-net/muslin/internal/fabric/emit"
)

func (a *app) fabricDiffCommand() *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use:   "diff FILE NEWFILE",
		Short: "Say what a change takes, in which order, and what it breaks meanwhile",
		Long: `Compares two fabrics or designs: which devices change what. Devices that change alike are a step,
and follow one another. The steps are put into the order in which least is lost, which is
found by simulation of the states in between: when the first device of a step has its new
configuration, half of them, and all. A session is up while both ends expect each other as
they are at the moment. What is counted are pairs of servers that are in both files.

With --device the lines of its configuration that go and come.

The exit code is 0 if nothing is lost on the way, 1 if something is, and 2 if a file cannot be
read.`,
		Example: `  muslin fabric diff pod-a.yaml pod-a-new.yaml
  muslin fabric diff pod-a.yaml pod-a-new.yaml --device r0-t0`,
		Args: args(cobra.ExactArgs(2)),
	}
	form := answerForm(cmd)
	cmd.Flags().StringVar(&device, "device", "", "the lines that differ of one device, by `name`")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		old, _, err := a.readFabric(files[0])
		if err != nil {
			return err
		}
		now, _, err := a.readFabric(files[1])
		if err != nil {
			return err
		}
		if device != "" {
			lines, err := configLines(old, now, device)
			if err != nil {
				return err
			}
			return a.show(*form, lines, func() error {
				for _, l := range lines {
					fmt.Fprintln(a.Out, l)
				}
				return nil
			})
		}
		c, err := change.Plan(old, now)
		if err != nil {
			return err
		}
		if err := a.show(*form, c, func() error { return a.showChange(c) }); err != nil {
			return err
		}
		if !c.Counted() {
			return fmt.Errorf("%s: no server is in both", now.Metadata.Name)
		}
		if !c.Lossless() {
			return fmt.Errorf("%s: traffic is lost on the way", now.Metadata.Name)
		}
		return nil
	}
	return cmd
}

func (a *app) showChange(c *change.Change) error {
	fmt.Fprintf(a.Out, "from %s\nto   %s\n", c.From, c.To)
	if len(c.Steps) == 0 {
		_, err := fmt.Fprintln(a.Out, "no device changes")
		return err
	}
	if c.Before.Cut+c.Before.Partly > 0 {
		fmt.Fprintf(a.Out, "BROKEN before any change: %s\n", lossOf(&c.Before.Reach))
	}
	fmt.Fprintln(a.Out)
	var rows [][]string
	for i, s := range c.Steps {
		devices := s.Devices[0]
		if n := len(s.Devices); n > 1 {
			devices += fmt.Sprintf(" and %s more, one by one", fabric.Number(n-1))
		}
		lost := "not counted"
		if c.Counted() {
			lost = meanwhile(&s.Worst, len(s.Devices))
		}
		rows = append(rows, []string{strconv.Itoa(i + 1), devices, strings.Join(s.What, "; "), lost})
	}
	if err := writeTable(a.Out, []string{"STEP", "DEVICES", "CHANGE", "MEANWHILE"}, rows); err != nil {
		return err
	}
	if !c.Counted() {
		fmt.Fprint(a.Out, "\nno server is in both, by its name: nothing is known of what is lost on the way\n")
	}
	for _, f := range c.Ends {
		fmt.Fprintf(a.Out, "\n%s is routed by the first alone: what it carries ends on the way, and is not counted\n", f)
	}
	after := "nothing is lost"
	if c.After.Cut+c.After.Partly > 0 {
		after = lossOf(&c.After.Reach)
	}
	_, err := fmt.Fprintf(a.Out, "\nin the end, with what is new in use: %s\n", after)
	return err
}

// meanwhile is the worst state of a step.
func meanwhile(s *change.State, all int) string {
	switch {
	case s.Restless != nil:
		return strings.Join(s.Restless, "; ")
	case s.Cut+s.Partly+s.Apart == 0:
		return "nothing is lost"
	}
	text := ""
	if s.Cut+s.Partly > 0 {
		text = lossOf(&s.Reach)
	}
	if s.Apart > 0 {
		text = strings.TrimPrefix(fmt.Sprintf("%s; %s pairs have no cables between them", text, fabric.Number(s.Apart)), "; ")
	}
	if s.Done < all {
		text = fmt.Sprintf("after %s of them: %s", fabric.Number(s.Done), text)
	}
	return text
}

// configLines are the lines of a device's configuration that go and come, with where they
// stand.
func configLines(old, now *fabric.Design, device string) ([]string, error) {
	name, near := findDevice(now, device)
	if name == "" {
		name, _ = findDevice(old, device)
	}
	text := func(g *fabric.Design) ([]string, error) {
		e, err := emit.New(g)
		if err != nil {
			return nil, err
		}
		for i := range g.Devices {
			if d := &g.Devices[i]; d.Name == name {
				text, err := e.Device(d, e.Target(d))
				_, body, _ := strings.Cut(text, "\n") // the header names the design
				return strings.Split(strings.TrimRight(body, "\n"), "\n"), err
			}
		}
		return nil, nil
	}
	was, err := text(old)
	if err != nil {
		return nil, err
	}
	is, err := text(now)
	if err != nil {
		return nil, err
	}
	if was == nil && is == nil {
		if near == "" {
			near = "`muslin fabric design FILE` lists them"
		}
		return nil, fmt.Errorf("no device %q in either: %s", device, near)
	}
	return lineDiff(was, is), nil
}

// lineDiff marks the lines of a that are not in b with -, and those of b that are not in a with +,
// by a longest common subsequence. A line with neither is the last one above at a lower
// indentation, so that a setting is seen in its section.
func lineDiff(a, b []string) (out []string) {
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	indent := func(s string) int { return len(s) - len(strings.TrimLeft(s, " \t")) }
	var section string
	shown := true
	mark := func(sign, line string) {
		if indent(line) > indent(section) && !shown {
			out, shown = append(out, "  "+section), true
		}
		out = append(out, sign+" "+line)
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			if indent(a[i]) == 0 {
				section, shown = a[i], false
			}
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			mark("-", a[i])
			i++
		default:
			mark("+", b[j])
			j++
		}
	}
	return out
}
