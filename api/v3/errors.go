// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// FieldError is one fault in one object: Decode and Validate return these,
// joined with errors.Join if there are several.
type FieldError struct {
	Document  int // from 1; 0 if the input has only one, or is no document
	Line      int // of the whole input, from 1; 0 if unknown
	Kind      string
	Namespace string // empty for cluster-scoped kinds
	Name      string
	Path      string // such as spec.ingress[0].protocol; empty for the whole object
	Problem   string // what is wrong and what would be right
}

// Error names the place, the object, the field and the problem.
func (e *FieldError) Error() string {
	var b strings.Builder
	switch {
	case e.Document > 0 && e.Line > 0:
		fmt.Fprintf(&b, "document %d, line %d: ", e.Document, e.Line)
	case e.Document > 0:
		fmt.Fprintf(&b, "document %d: ", e.Document)
	case e.Line > 0:
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Kind != "" {
		name := e.Name
		if e.Namespace != "" {
			name = e.Namespace + "/" + name
		}
		fmt.Fprintf(&b, "%s %q: ", e.Kind, name)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Problem)
	return b.String()
}

// faults collects the FieldErrors of one object. It keeps a bounded number, so
// that a document which is wrong throughout stays readable.
type faults struct {
	template FieldError
	list     []*FieldError
	more     int
}

const maxFaults = 20

func (f *faults) add(path, format string, args ...any) {
	if len(f.list) == maxFaults {
		f.more++
		return
	}
	e := f.template
	e.Path, e.Problem = path, fmt.Sprintf(format, args...)
	f.list = append(f.list, &e)
}

// err returns all that was added, in the order of lines, or nil.
func (f *faults) err() error {
	slices.SortStableFunc(f.list, func(a, b *FieldError) int { return cmp.Compare(a.Line, b.Line) })
	errs := make([]error, 0, len(f.list)+1)
	for _, e := range f.list {
		errs = append(errs, e)
	}
	if f.more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", f.more))
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
