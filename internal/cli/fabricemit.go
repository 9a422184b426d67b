// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/emit"
)

// emitted is one file that was written.
type emitted struct {
	Device string      `json:"device,omitempty"`
	Target emit.Target `json:"target"`
	File   string      `json:"file"`
	Lines  int         `json:"lines"`
	Text   string      `json:"text,omitempty"` // if it was written nowhere
}

// emission is a question for configurations, and what has been written of the answer.
type emission struct {
	out    string // directory; empty to print
	device string // the only one, if it is said
	target emit.Target
	list   []emitted
}

func (a *app) fabricEmitCommand() *cobra.Command {
	var e emission
	var target string
	cmd := &cobra.Command{
		Use:   "emit FILE",
		Short: "Write the configurations of routers and vRouters",
		Long: `Writes the configuration of every device, by the software that it has in the design: frr.conf
and bird.conf of switches, and for vRouters the resources that muslin apply takes. What all
vRouters have in common is common.yaml, which is applied first.

With --device and without --out the configuration of one device is printed. --target writes
switches and borders for another program than the design says, and leaves the others out: also
for eos, junos, nxos and sonic, which was not run on any device, as the header says.`,
		Example: `  muslin fabric emit pod-a.yaml --out out
  muslin fabric emit pod-a.yaml --device r0-t0
  muslin fabric emit pod-a.yaml --device r0-t0 --target bird`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	f := cmd.Flags()
	f.StringVar(&e.out, "out", "", "write into this `directory`, a folder for each device")
	f.StringVar(&e.device, "device", "", "only one device, by `name`")
	f.StringVar(&target, "target", "", "only for this `program`: "+strings.Join(targetNames(), ", "))
	completeFlag(cmd, "target", targetNames()...)
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		if target != "" && !slices.Contains(emit.Targets, emit.Target(target)) {
			return usagef("--target %s: want one of %s", target, strings.Join(targetNames(), ", "))
		}
		if e.out == "" && e.device == "" {
			return usagef("give --out DIR, or --device NAME to print one")
		}
		g, _, err := a.readFabric(files[0])
		if err != nil {
			return err
		}
		if e.device != "" {
			if e.device, err = deviceOf(g, files[0], e.device); err != nil {
				return err
			}
		}
		e.target = emit.Target(target)
		if err := a.emit(&e, g); err != nil {
			return err
		}
		return a.show(*form, e.list, func() error {
			if e.out == "" {
				_, err := fmt.Fprint(a.Out, e.list[0].Text)
				return err
			}
			var rows [][]string
			for _, x := range e.list {
				rows = append(rows, []string{dash(x.Device), string(x.Target), x.File, strconv.Itoa(x.Lines)})
			}
			return writeTable(a.Out, []string{"DEVICE", "TARGET", "FILE", "LINES"}, rows)
		})
	}
	return cmd
}

// emit writes the configurations that are asked for, and what vRouters have in common if there are any among them.
func (a *app) emit(e *emission, g *fabric.Design) error {
	w, err := emit.New(g)
	if err != nil {
		return err
	}
	vrouters, found := false, false
	for i := range g.Devices {
		d := &g.Devices[i]
		t, wanted := e.wants(w, d)
		if !wanted {
			continue
		}
		found, vrouters = true, vrouters || t == emit.VRouter
		text, err := w.Device(d, t)
		if err == nil {
			err = e.file(d.Name, t, emit.Files[t], text)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case found:
	case g.Model == fabric.Ethernet && e.target != emit.VRouter:
		return fmt.Errorf("%s is an Ethernet fabric: its switches do not route, and there is nothing to write for %s", g.Metadata.Name, e.target)
	default:
		return fmt.Errorf("%s has no device that %s is for: --device NAME writes one all the same", g.Metadata.Name, e.target)
	}
	if !vrouters || e.out == "" {
		return nil
	}
	text, err := w.Common()
	if err != nil {
		return err
	}
	return e.file("", emit.VRouter, "common.yaml", text)
}

// wants tells whether a device is asked for, and for which program it is written.
func (e *emission) wants(w *emit.Emitter, d *fabric.Device) (emit.Target, bool) {
	t := e.target
	if t == "" {
		t = w.Target(d)
	}
	if e.device != "" {
		return t, d.Name == e.device
	}
	return t, e.target == "" || w.Means(t, d)
}

// file writes one configuration into the directory, or keeps it to be printed.
func (e *emission) file(device string, t emit.Target, name, text string) error {
	x := emitted{Device: device, Target: t, File: filepath.Join(e.out, device, name), Lines: strings.Count(text, "\n")}
	if e.out == "" {
		x.File, x.Text = name, text
	}
	e.list = append(e.list, x)
	if e.out == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(x.File), 0o755); err != nil {
		return err
	}
	return os.WriteFile(x.File, []byte(text), 0o644)
}

func targetNames() (names []string) {
	for _, t := range emit.Targets {
		names = append(names, string(t))
	}
	return names
}
