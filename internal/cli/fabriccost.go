// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/advise"
)

// readSpec reads a file that must be a Fabric: its numbers are to be changed.
func (a *app) readSpec(name, what string) (*fabric.Fabric, error) {
	g, f, err := a.readFabric(name)
	if err == nil && f == nil {
		err = inputError{fmt.Errorf("%s: %s is a design: %s needs the Fabric that it follows from", name, g.Metadata.Name, what)}
	}
	return f, err
}

func (a *app) fabricCostCommand() *cobra.Command {
	var racks string
	cmd := &cobra.Command{
		Use:   "cost FILE",
		Short: "Show what a fabric comes to as it grows",
		Long: `Designs the fabric with ever more racks, and shows what the fullest device of each role then has:
paths, routes to endpoints and peers, memory of FRR's daemon; and in all of the fabric the
sessions, and the messages for one endpoint that comes or goes. It says at how many racks
the first limit is exceeded: of a table, of memory, of peers, of address pools or of AS
numbers. What switches hold is in the file (switches).

The exit code is 0 also where a limit is found, and 2 if the file cannot be read.`,
		Example: `  muslin fabric cost pod-a.yaml
  muslin fabric cost pod-a.yaml --racks 8..128
  muslin fabric cost pod-a.yaml --racks 10,20,40 -o json`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.Flags().StringVar(&racks, "racks", "", "`numbers` of racks: 8..128, which doubles, or 8,16,24; without it from the file's number to 16 times that")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		f, err := a.readSpec(files[0], "cost")
		if err != nil {
			return err
		}
		if f.Spec.Racks.List != nil {
			return inputError{fmt.Errorf("%s: spec.racks: a list: want racks: {count: %d}, since racks that are added must be like some", files[0], len(f.Spec.Racks.List))}
		}
		if racks == "" {
			racks = fmt.Sprintf("%d..%d", f.Spec.Racks.Count, 16*f.Spec.Racks.Count)
		}
		numbers, err := rackNumbers(racks)
		if err != nil {
			return err
		}
		if most := slices.Max(numbers) * f.Spec.Servers.PerRack; most > maxCostServers {
			return usagef("--racks %s: %s servers: at most %s are designed", racks, fabric.Number(most), fabric.Number(maxCostServers))
		}
		g := advise.Cost(f, numbers)
		return a.show(*form, g, func() error { return a.showCost(f, g) })
	}
	return cmd
}

// maxCostServers bounds the time that a question takes.
const maxCostServers = 100_000

// rackNumbers reads 8..128 or 8,16,24.
func rackNumbers(text string) (list []int, err error) {
	bad := usagef("--racks %s: want numbers of racks, 8..128 or 8,16,24", text)
	if from, to, ok := strings.Cut(text, ".."); ok {
		low, err1 := strconv.Atoi(from)
		high, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || low < 1 || high < low || high > maxCostServers {
			return nil, bad
		}
		for n := low; n < high; n *= 2 {
			list = append(list, n)
		}
		return append(list, high), nil
	}
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 || n > maxCostServers {
			return nil, bad
		}
		list = append(list, n)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// costRoles are the columns of the table, as far as a fabric has such devices.
var costRoles = []fabric.Role{fabric.RoleServer, fabric.RoleToR, fabric.RoleSpine, fabric.RoleReflector}

func (a *app) showCost(f *fabric.Fabric, g *advise.Growth) error {
	fmt.Fprintf(a.Out, "%s: %s, %s servers in a rack, %s endpoints on each; of each role the device that has most\n\n", f.Metadata.Name, f.Spec.Model,
		fabric.Number(f.Spec.Servers.PerRack), fabric.Number(f.Spec.Endpoints.PerServer))
	heads := []string{"RACKS", "ENDPOINTS"}
	var roles []fabric.Role
	for _, role := range costRoles {
		if slices.ContainsFunc(g.Rows, func(r advise.Row) bool { return r.Of(role) != nil }) {
			roles = append(roles, role)
			heads = append(heads, strings.ToUpper(string(role))+" PATHS/ROUTES/PEERS")
		}
	}
	heads = append(heads, "BGPD", "UPDATES", "SESSIONS", "LIMIT")
	var rows [][]string
	for i := range g.Rows {
		r := &g.Rows[i]
		cells := []string{fabric.Number(r.Racks), fabric.Number(r.Endpoints)}
		most := fabric.Bytes(0)
		for _, role := range roles {
			e := r.Of(role)
			if e == nil {
				cells = append(cells, absent)
				continue
			}
			most = max(most, e.Memory)
			cells = append(cells, fmt.Sprintf("%s/%s/%s", fabric.Number(e.Paths), fabric.Number(e.Routes), fabric.Number(e.Peers)))
		}
		limit := absent
		if len(r.Limits) > 0 {
			limit = strings.Split(r.Limits[0], "\n")[0]
		}
		rows = append(rows, append(cells, fmt.Sprintf("%s MB", fabric.Number(int((most+5e5)/1e6))), fabric.Number(r.Updates), fabric.Number(r.Sessions), limit))
	}
	if err := writeTable(a.Out, heads, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.Out)
	switch {
	case g.First > 0:
		fmt.Fprintf(a.Out, "the first limit is at %s racks:\n", fabric.Number(g.First))
		for _, l := range g.Limits {
			fmt.Fprintf(a.Out, "  %s\n", l)
		}
	case g.Known:
		fmt.Fprintln(a.Out, "no limit up to there")
	default:
		fmt.Fprintln(a.Out, "nothing is known of what switches hold: say it in switches, `muslin fabric switches` lists some")
	}
	return nil
}
