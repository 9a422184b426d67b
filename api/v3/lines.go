// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"regexp"
	"strconv"
	"strings"
)

// yamlKey is a block mapping's key with what follows the colon.
var yamlKey = regexp.MustCompile(`^(?:"([^"\\]*)"|'([^']*)'|([^\s#"'{}\[\],&*!|>%@` + "`" + `-][^#:]*?))[ \t]*:(?:[ \t]+(.*))?$`)

// yamlLines maps paths of a YAML document to their lines, counted from 1, for
// error messages. It understands the block style that people write and knows
// nothing of flow style: what it does not find has no line, which is no harm.
// The YAML parser in use does not tell positions.
func yamlLines(doc string) map[string]int {
	found := map[string]int{}
	// level is a mapping (its current key) or a sequence (its current item)
	// that starts in a column.
	type level struct {
		column int
		path   string
		parent string
		index  int // of a sequence's item; -1 for a mapping
	}
	var stack []level
	top := func() string {
		if len(stack) == 0 {
			return ""
		}
		return stack[len(stack)-1].path
	}
	literal := -1 // lines indented deeper than this belong to a block scalar
	for n, line := range strings.Split(doc, "\n") {
		line = strings.TrimRight(line, " \t\r")
		text := strings.TrimLeft(line, " ")
		column := len(line) - len(text)
		if text == "" || literal >= 0 && column > literal {
			continue
		}
		literal = -1
		for text == "-" || strings.HasPrefix(text, "- ") {
			for len(stack) > 0 && stack[len(stack)-1].column > column {
				stack = stack[:len(stack)-1]
			}
			if k := len(stack) - 1; k < 0 || stack[k].column < column || stack[k].index < 0 {
				stack = append(stack, level{column: column, parent: top(), index: -1})
			}
			l := &stack[len(stack)-1]
			l.index++
			l.path = l.parent + "[" + strconv.Itoa(l.index) + "]"
			found[l.path] = n + 1
			rest := strings.TrimLeft(text[1:], " ")
			if strings.HasPrefix(rest, "|") || strings.HasPrefix(rest, ">") {
				literal = column
			}
			column += len(text) - len(rest)
			text = rest
		}
		m := yamlKey.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		for len(stack) > 0 {
			l := stack[len(stack)-1]
			if l.column < column {
				break
			}
			stack = stack[:len(stack)-1]
		}
		path := joinPath(top(), m[1]+m[2]+m[3])
		stack = append(stack, level{column: column, path: path, parent: top(), index: -1})
		found[path] = n + 1
		if strings.HasPrefix(m[4], "|") || strings.HasPrefix(m[4], ">") {
			literal = column
		}
	}
	return found
}
