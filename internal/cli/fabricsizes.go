// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/sim"
)

// sizes is what muslin fabric sizes answers.
type sizes struct {
	Name    string           `json:"name"`
	Summary string           `json:"summary"`
	Devices []fabric.Entries `json:"devices"`
	Updates int              `json:"updates"` // for one endpoint or block that comes or goes

	updateCost string
}

func (a *app) fabricSizesCommand() *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use:   "sizes FILE",
		Short: "Show what devices have to hold, and what they can",
		Long: `Shows the paths, routes and peers of each kind of device of a healthy fabric, beside what its
tables hold. Devices that hold as much are one row. The formulas are those of the model; of
a design that was written by hand, after none, it is what the simulation counts.`,
		Example: `  muslin fabric sizes pod-a.yaml
  muslin fabric sizes pod-a.yaml --device r0-t0 -o json`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.Flags().StringVar(&device, "device", "", "show the kind of one device, by `name`")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		g, _, err := a.readFabric(files[0])
		if err != nil {
			return err
		}
		x := g.Index()
		list, alike, updates, err := sim.Entries(x)
		if err != nil {
			return fmt.Errorf("%s: %w", g.Metadata.Name, err)
		}
		if device != "" {
			name, err := deviceOf(g, files[0], device)
			if err != nil {
				return err
			}
			if list, err = kindOf(alike, list, name); err != nil {
				return err
			}
		}
		s := sizes{g.Metadata.Name, g.Summary(), list, updates, x.UpdateCost(updates)}
		return a.show(*form, s, func() error { return a.showSizes(s) })
	}
	return cmd
}

// kindOf is the row that a device is in.
func kindOf(alike map[string]string, list []fabric.Entries, name string) ([]fabric.Entries, error) {
	for _, e := range list {
		if e.Device == alike[name] {
			e.Device, e.Devices = name, 1
			return []fabric.Entries{e}, nil
		}
	}
	return nil, fmt.Errorf("%s has no tables to size: leave --device out for all that have", name)
}

func (a *app) showSizes(s sizes) error {
	if _, err := fmt.Fprintf(a.Out, "%s\n\n", s.Summary); err != nil {
		return err
	}
	var rows [][]string
	for _, e := range s.Devices {
		paths := fabric.Number(e.Paths)
		if e.UpTo {
			paths = "up to " + paths
		}
		table, filled := absent, absent
		if e.Holds > 0 {
			table = fmt.Sprintf("%s of %s %s", fabric.Number(e.Used), fabric.Number(int(e.Holds)), dash(string(e.Table)))
			filled = strconv.Itoa(100*e.Used/int(e.Holds)) + " %"
			if e.Grown > e.Used {
				filled += fmt.Sprintf(", %d %% grown", 100*e.Grown/int(e.Holds))
			}
		}
		rows = append(rows, []string{e.Device, fabric.Number(e.Devices), string(e.Role), fabric.Number(e.Peers), paths, fabric.Number(e.Routes), fabric.Number(e.Other),
			fmt.Sprintf("%d MB", (e.Memory+5e5)/1e6), table, filled})
	}
	if err := writeTable(a.Out, []string{"DEVICE", "DEVICES", "ROLE", "PEERS", "PATHS", "ENDPOINT ROUTES", "OTHER", "BGPD", "TABLE", "FILLED"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.Out, "\n%s\n", s.updateCost)
	return err
}
