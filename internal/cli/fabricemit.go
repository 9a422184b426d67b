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

	"github.com/muslin-net/muslin/internal/fabric/emit"
)

// emitted is one file that was written.
type emitted struct {
	Device string      `json:"device,omitempty"`
	Target emit.Target `json:"target"`
	File   string      `json:"file"`
	Lines  int         `json:"lines"`
}

func (a *app) fabricEmitCommand() *cobra.Command {
	var out, device, target string
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
	f.StringVar(&out, "out", "", "write into this `directory`, a folder for each device")
	f.StringVar(&device, "device", "", "only one device, by `name`")
	f.StringVar(&target, "target", "", "only for this `program`: "+strings.Join(targetNames(), ", "))
	completeFlag(cmd, "target", targetNames()...)
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		if target != "" && !slices.Contains(emit.Targets, emit.Target(target)) {
			return usagef("--target %s: want one of %s", target, strings.Join(targetNames(), ", "))
		}
		if out == "" && device == "" {
			return usagef("give --out DIR, or --device NAME to print one")
		}
		g, _, err := a.readFabric(files[0])
		if err != nil {
			return err
		}
		if device != "" {
			if device, err = deviceOf(g, files[0], device); err != nil {
				return err
			}
		}
		e, err := emit.New(g)
		if err != nil {
			return err
		}
		var list []emitted
		write := func(device string, t emit.Target, name, text string) error {
			if out == "" {
				_, err := fmt.Fprint(a.Out, text)
				return err
			}
			file := filepath.Join(out, device, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return err
			}
			list = append(list, emitted{device, t, file, strings.Count(text, "\n")})
			return os.WriteFile(file, []byte(text), 0o644)
		}
		vrouters, found := false, false
		for i := range g.Devices {
			d := &g.Devices[i]
			t := e.Target(d)
			if target != "" {
				t = emit.Target(target)
			}
			if device != "" && d.Name != device || device == "" && target != "" && !e.Means(t, d) {
				continue
			}
			found, vrouters = true, vrouters || t == emit.VRouter
			text, err := e.Device(d, t)
			if err != nil {
				return err
			}
			if err := write(d.Name, t, emit.Files[t], text); err != nil {
				return err
			}
		}
		switch {
		case !found:
			return fmt.Errorf("%s has no device that %s is for: --device NAME writes one all the same", g.Metadata.Name, target)
		case out == "":
			return nil
		}
		if vrouters {
			text, err := e.Common()
			if err != nil {
				return err
			}
			if err := write("", emit.VRouter, "common.yaml", text); err != nil {
				return err
			}
		}
		return a.show(*form, list, func() error {
			var rows [][]string
			for _, x := range list {
				rows = append(rows, []string{dash(x.Device), string(x.Target), x.File, strconv.Itoa(x.Lines)})
			}
			return writeTable(a.Out, []string{"DEVICE", "TARGET", "FILE", "LINES"}, rows)
		})
	}
	return cmd
}

func targetNames() (names []string) {
	for _, t := range emit.Targets {
		names = append(names, string(t))
	}
	return names
}
