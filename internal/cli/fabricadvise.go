// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muslin-net/muslin/internal/fabric"
	"github.com/muslin-net/muslin/internal/fabric/advise"
)

func (a *app) fabricAdviseCommand() *cobra.Command {
	var simple bool
	cmd := &cobra.Command{
		Use:   "advise FILE",
		Short: "Say which model to take, with the numbers of all",
		Long: `Designs the data centre of a file by every model and both kinds of spine, and says which to take:
AS per rack if the tables of ToR and spine hold every endpoint, growth included; Downward
Default if only those of the ToR do not; an Ethernet fabric if neither do, or with --simple;
AS per server on request. Of switches that the file says nothing about, 128,000 entries are
assumed. Each design is held against the rules, and simulated under every single failure.

The exit code is 0 if what it says to take has no finding that must be mended, 1 if it
has one, and 2 if the file cannot be read.`,
		Example: `  muslin fabric advise pod-a.yaml
  muslin fabric advise pod-a.yaml --simple -o json`,
		Args: args(cobra.ExactArgs(1)),
	}
	form := answerForm(cmd)
	cmd.Flags().BoolVar(&simple, "simple", false, "a simple Ethernet of switches is wanted")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if err := checkForm(*form, answerForms); err != nil {
			return err
		}
		f, err := a.readSpec(files[0], "advise")
		if err != nil {
			return err
		}
		advice := advise.Models(f, simple)
		advice.Check()
		if err := a.show(*form, advice, func() error { return a.showAdvice(f, advice) }); err != nil {
			return err
		}
		if o := advice.Pick; o.Problem != "" || len(o.Errors) > 0 {
			return fmt.Errorf("%s: by %s there is something to be mended: `muslin fabric validate` of it says what", f.Metadata.Name, o.Model)
		}
		return nil
	}
	return cmd
}

func (a *app) showAdvice(f *fabric.Fabric, advice *advise.Advice) error {
	fmt.Fprintf(a.Out, "%s: take %s\n", f.Metadata.Name, optionName(advice.Pick))
	fmt.Fprintf(a.Out, "  since %s\n\n", advice.Because)
	var rows [][]string
	assumed := false
	table := func(t *advise.Fill) string {
		if t == nil {
			return absent
		}
		text := fmt.Sprintf("%s of %s", fabric.Number(t.Used), fabric.Number(t.Holds))
		if t.Assumed {
			text, assumed = text+"*", true
		}
		if t.Grown > t.Used {
			text += ", grown " + fabric.Number(t.Grown)
		}
		return text
	}
	for _, o := range advice.Options {
		fits, reason := "yes", o.Reason
		if o == advice.Pick {
			reason = "taken"
		}
		if !o.Fits {
			fits = "no"
		}
		if o.Problem != "" {
			rows = append(rows, []string{optionName(o), "no", absent, absent, absent, absent, absent, absent, absent, o.Reason})
			continue
		}
		rows = append(rows, []string{optionName(o), fits, table(o.ToR), table(o.Top), fabric.Number(o.Paths), fmt.Sprintf("%s MB", fabric.Number(int((o.Memory+5e5)/1e6))),
			fabric.Number(o.Peers), fabric.Number(o.Updates), fabric.Number(len(o.Errors)), reason})
	}
	if err := writeTable(a.Out, []string{"MODEL", "FITS", "TOR TABLE", "SPINE TABLE", "PATHS", "BGPD", "PEERS", "UPDATES", "ERRORS", "REASON"}, rows); err != nil {
		return err
	}
	if assumed {
		fmt.Fprintf(a.Out, "\n* nothing is said of this switch, and %s entries are assumed: say it in switches\n", fabric.Number(advise.Usual))
	}
	for _, e := range advice.Pick.Errors {
		fmt.Fprintf(a.Out, "\nto be mended: %s\n", e)
	}
	return nil
}

// optionName is how a person calls an option.
func optionName(o *advise.Option) string {
	if o.Model == fabric.Ethernet {
		return string(o.Model)
	}
	return fmt.Sprintf("%s, %s", o.Model, o.Spine)
}
