// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// The forms of -o.
const (
	formTable = "table"
	formWide  = "wide"
	formYAML  = "yaml"
	formJSON  = "json"
	formName  = "name"
)

var (
	getForms    = []string{formTable, formWide, formYAML, formJSON, formName}
	answerForms = []string{formTable, formJSON, formYAML}
	wideForms   = []string{formTable, formWide, formJSON, formYAML}
)

// checkForm refuses a form of -o that the command does not have.
func checkForm(form string, forms []string) error {
	if slices.Contains(forms, form) {
		return nil
	}
	return usagef("-o %s: want one of %s", form, strings.Join(forms, ", "))
}

// found is what a question for resources gave.
type found struct {
	// kinds in the order asked for; each makes one table.
	kinds []v3.KindInfo
	items map[string][]v3.Resource // by kind
	// single: one object was asked for by name; it is shown without a list.
	single bool
	// revision of the datastore at which a list was read, 0 if unknown.
	revision int64
	// namespaces: show them in tables.
	namespaces bool
}

func (f *found) add(k v3.KindInfo, objects ...v3.Resource) {
	if f.items == nil {
		f.items = map[string][]v3.Resource{}
	}
	if _, ok := f.items[k.Kind]; !ok {
		f.kinds = append(f.kinds, k)
	}
	f.items[k.Kind] = append(f.items[k.Kind], objects...)
}

// write renders what was found.
func (f *found) write(w io.Writer, form string) error {
	switch form {
	case formYAML, formJSON:
		v, err := f.value()
		if err != nil {
			return err
		}
		return writeValue(w, form, v)
	case formName:
		for _, k := range f.kinds {
			for _, r := range f.items[k.Kind] {
				words := []string{strings.ToLower(k.Kind), r.Meta().Name}
				if k.Namespaced {
					words = slices.Insert(words, 1, r.Meta().Namespace)
				}
				if _, err := fmt.Fprintln(w, strings.Join(words, "/")); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for i, k := range f.kinds {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := f.table(w, k, form == formWide); err != nil {
			return err
		}
	}
	return nil
}

func (f *found) table(w io.Writer, k v3.KindInfo, wide bool) error {
	var cols []column
	if f.namespaces && k.Namespaced {
		cols = append(cols, column{head: "NAMESPACE", path: "metadata.namespace"})
	}
	for _, c := range columns(k.Kind) {
		if wide || !c.wide {
			cols = append(cols, c)
		}
	}
	var rows [][]string
	for _, r := range f.items[k.Kind] {
		cells, err := row(cols, r)
		if err != nil {
			return err
		}
		rows = append(rows, cells)
	}
	var heads []string
	for _, c := range cols {
		heads = append(heads, c.head)
	}
	return writeTable(w, heads, rows)
}

// list is several objects as one document, which -f reads back.
type list struct {
	Kind       string   `json:"kind"`
	APIVersion string   `json:"apiVersion"`
	Metadata   listMeta `json:"metadata"`
	Items      []any    `json:"items"`
}

type listMeta struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

// value is the one object asked for, or a list: of the kind, or of several.
func (f *found) value() (any, error) {
	out := list{Kind: "List", APIVersion: v3.APIVersion, Items: []any{}}
	if len(f.kinds) == 1 {
		out.Kind = f.kinds[0].Kind + "List"
	}
	if f.revision > 0 {
		out.Metadata.ResourceVersion = fmt.Sprint(f.revision)
	}
	for _, k := range f.kinds {
		for _, r := range f.items[k.Kind] {
			out.Items = append(out.Items, r)
		}
	}
	if f.single && len(out.Items) == 1 {
		return out.Items[0], nil
	}
	return out, nil
}

// writeValue renders v as YAML or JSON.
func writeValue(w io.Writer, form string, v any) error {
	var text []byte
	var err error
	if form == formYAML {
		text, err = yaml.Marshal(v)
	} else {
		// Not MarshalIndent: it writes selectors' && as escapes.
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err = e.Encode(v)
		text = b.Bytes()
	}
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// writeTable renders rows under headings.
func writeTable(w io.Writer, heads []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tw, strings.Join(heads, "\t"))
	for _, r := range rows {
		for i, c := range r {
			// A cell is one line, whatever an object holds.
			r[i] = strings.Map(func(c rune) rune {
				if c < ' ' {
					return ' '
				}
				return c
			}, c)
		}
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	return tw.Flush()
}

// oneLine keeps what another end sent from doing anything to the terminal.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
}
