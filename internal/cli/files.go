// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v3 "github.com/muslin-net/muslin/api/v3"
)

// maxInput bounds one file or standard input, in bytes.
const maxInput = 64 << 20

// document is one object of a file. What is not an object has no ref, and says
// in check why.
type document struct {
	file string
	ref  ref
	obj  v3.Resource
	form error        // Decode would refuse it
	all  func() error // everything that is wrong with it
}

// check says everything that is wrong with an object, each line with its file.
func (d *document) check() error { return d.named(d.all()) }

func (d *document) named(err error) error {
	if err == nil {
		return nil
	}
	return prefixLines(d.file, err)
}

// documents reads every object of the files given with -f: a file, a folder
// (its *.yaml, *.yml and *.json, in order of name), or - for standard input.
// Namespaced objects without a namespace get the one of -n, and every object
// the defaults that are stored. The error is about files; what can be read is
// returned beside it.
func (a *app) documents(names []string, namespace string) ([]document, error) {
	var out []document
	var errs []error
	stdin := false
	for _, name := range names {
		files := []string{name}
		if name != "-" {
			var err error
			if files, err = expand(name); err != nil {
				errs = append(errs, err)
				continue
			}
		} else if stdin {
			errs = append(errs, usagef("-f - is given twice: standard input can be read once"))
			continue
		}
		stdin = stdin || name == "-"
		for _, f := range files {
			docs, err := a.readFile(f, namespace)
			if err != nil {
				errs = append(errs, err)
			}
			out = append(out, docs...)
		}
	}
	if len(out) == 0 && len(errs) == 0 {
		return nil, fmt.Errorf("no objects in %s", strings.Join(names, ", "))
	}
	return out, errors.Join(errs...)
}

func expand(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var out, folders []string
	for _, e := range entries {
		if e.IsDir() {
			folders = append(folders, filepath.Join(name, e.Name()))
		}
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			out = append(out, filepath.Join(name, e.Name()))
		}
	}
	if len(out) == 0 {
		err := fmt.Errorf("folder %s holds no .yaml, .yml or .json file", name)
		if len(folders) > 0 {
			const few = 5
			more := ""
			if n := len(folders) - few; n > 0 {
				folders, more = folders[:few], fmt.Sprintf(" and %d more", n)
			}
			err = fmt.Errorf("%w; folders in it are not looked into: name %s%s", err, strings.Join(folders, ", "), more)
		}
		return nil, err
	}
	return out, nil
}

func (a *app) readFile(name, namespace string) ([]document, error) {
	text, err := a.readInput(name)
	if name == "-" {
		name = "standard input"
	}
	if err != nil {
		return nil, err
	}
	objects, err := v3.DecodeDocuments(text)
	if err != nil {
		return nil, prefixLines(name, err)
	}
	var out []document
	for i := range objects {
		d := document{file: name, obj: objects[i].Resource, form: objects[i].Err(), all: objects[i].Check}
		if d.obj != nil {
			k, err := kind(d.obj.Type().Kind)
			if err != nil {
				return nil, prefixLines(name, err)
			}
			m := d.obj.Meta()
			if k.Namespaced && m.Namespace == "" {
				m.Namespace = namespace
			}
			v3.Default(d.obj)
			d.ref = ref{k, m.Namespace, m.Name}
		}
		out = append(out, d)
	}
	return out, nil
}

func (a *app) readInput(name string) ([]byte, error) {
	in := a.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("%s: larger than %d MiB", name, maxInput>>20)
	}
	return text, nil
}

// prefixLines puts a name before each line of an error, so that each line can
// be read on its own.
func prefixLines(name string, err error) error {
	lines := strings.Split(strings.TrimRight(err.Error(), "\n"), "\n")
	for i, l := range lines {
		lines[i] = name + ": " + l
	}
	return prefixed{strings.Join(lines, "\n"), err}
}

type prefixed struct {
	text string
	err  error
}

func (p prefixed) Error() string { return p.text }
func (p prefixed) Unwrap() error { return p.err }
