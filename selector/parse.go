// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"fmt"
	"strings"
)

// SyntaxError is what Parse returns for text that is not a selector.
type SyntaxError struct {
	Text   string // the whole text
	Offset int    // in bytes: where reading stopped
	Reason string // what is wrong and what would be right
}

// Error names the text, the place (counted in bytes from 1) and what is wanted.
func (e *SyntaxError) Error() string {
	const show = 100
	text := e.Text
	if len(text) > show {
		text = strings.ToValidUTF8(text[:show], "") + "…"
	}
	return fmt.Sprintf("selector %q: at character %d: %s", text, e.Offset+1, e.Reason)
}

// Parse reads a selector. Empty or blank text is all(). An error is always a
// *SyntaxError.
//
//	or      = and { "||" and }
//	and     = unary { "&&" unary }
//	unary   = { "!" } primary
//	primary = "has(" label ")" | "all()" | "global()" | "(" or ")"
//	        | label ("==" | "!=" | "contains" | "starts with" | "ends with") string
//	        | label ("in" | "not in") "{" [ string { "," string } [","] ] "}"
//
// Blanks are spaces and tabs. A string is in double or single quotes and has
// no escapes. Keywords are not reserved: a label may be called "in" or "has".
func Parse(text string) (*Selector, error) {
	p := parser{text: text}
	if len(text) > MaxText {
		return nil, p.fail("%d bytes long; the limit is %d", len(text), MaxText)
	}
	p.blanks()
	if p.pos == len(text) {
		return All(), nil
	}
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.pos < len(text) {
		return nil, p.fail("want && or || or the end, not %s", p.here())
	}
	return &Selector{root}, nil
}

// parser reads by recursive descent. Before and after each method pos is not
// at a blank. Only parentheses recurse, and depth counts them.
type parser struct {
	text  string
	pos   int
	depth int
}

func (p *parser) fail(format string, args ...any) error {
	return &SyntaxError{Text: p.text, Offset: p.pos, Reason: fmt.Sprintf(format, args...)}
}

// here describes what stands at pos, for error messages.
func (p *parser) here() string {
	rest := p.text[p.pos:]
	if rest == "" {
		return "the end"
	}
	if n := labelLen(rest); n > 0 {
		return fmt.Sprintf("%q", rest[:min(n, 40)])
	}
	for _, r := range rest {
		return fmt.Sprintf("%q", string(r))
	}
	return "nothing"
}

func (p *parser) blanks() {
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos] == '\t') {
		p.pos++
	}
}

// take consumes the token and the blanks after it, if it is next.
func (p *parser) take(token string) bool {
	if !strings.HasPrefix(p.text[p.pos:], token) {
		return false
	}
	p.pos += len(token)
	p.blanks()
	return true
}

func (p *parser) or() (node, error)  { return p.list(opOr, "||", p.and) }
func (p *parser) and() (node, error) { return p.list(opAnd, "&&", p.unary) }

func (p *parser) list(o op, sep string, item func() (node, error)) (node, error) {
	var kids []node
	for {
		kid, err := item()
		if err != nil {
			return node{}, err
		}
		kids = append(kids, kid)
		if !p.take(sep) {
			return join(o, kids), nil
		}
	}
}

func (p *parser) unary() (node, error) {
	negated := false
	for !strings.HasPrefix(p.text[p.pos:], "!=") && p.take("!") {
		negated = !negated
	}
	n, err := p.primary()
	if err == nil && negated {
		n = negate(n)
	}
	return n, err
}

func (p *parser) primary() (node, error) {
	switch {
	case p.take("("):
		if p.depth++; p.depth > MaxDepth {
			return node{}, p.fail("parentheses nested deeper than %d", MaxDepth)
		}
		n, err := p.or()
		if err != nil {
			return node{}, err
		}
		p.depth--
		return n, p.closing()
	case p.take("has("):
		label, err := p.label()
		if err != nil {
			return node{}, err
		}
		return node{op: opHas, label: label}, p.closing()
	case p.take("all("):
		return node{op: opAll}, p.closing()
	case p.take("global("):
		return node{op: opGlobal}, p.closing()
	}
	label, err := p.label()
	if err != nil {
		return node{}, err
	}
	return p.comparison(label)
}

func (p *parser) closing() error {
	if !p.take(")") {
		return p.fail("want ), not %s", p.here())
	}
	return nil
}

func isLabelChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '_' || c == '.' || c == '/' || c == '-'
}

// labelLen returns how many characters of a label s starts with.
func labelLen(s string) int {
	n := 0
	for n < len(s) && isLabelChar(s[n]) {
		n++
	}
	return n
}

func (p *parser) label() (string, error) {
	n := labelLen(p.text[p.pos:])
	switch {
	case n == 0:
		return "", p.fail("want a label, has(…), all(), ! or (, not %s", p.here())
	case n > MaxLabel:
		return "", p.fail("label of %d characters; the limit is %d", n, MaxLabel)
	}
	label := p.text[p.pos : p.pos+n]
	p.pos += n
	p.blanks()
	return label, nil
}

// words consumes an operator made of one word or two, which may stand apart.
// A label character right after the last word (blanks skipped, for two words)
// means that it was no operator.
func (p *parser) words(first, second string) bool {
	start := p.pos
	ok := strings.HasPrefix(p.text[p.pos:], first)
	if ok {
		p.pos += len(first)
		if second != "" {
			p.blanks()
			if ok = strings.HasPrefix(p.text[p.pos:], second); ok {
				p.pos += len(second)
				p.blanks()
			}
		}
	}
	if !ok || p.pos < len(p.text) && isLabelChar(p.text[p.pos]) {
		p.pos = start
		return false
	}
	p.blanks()
	return true
}

func (p *parser) comparison(label string) (node, error) {
	n := node{label: label}
	switch {
	case p.take("=="):
		n.op = opEqual
	case p.take("!="):
		n.op = opNotEqual
	case p.words("contains", ""):
		n.op = opContains
	case p.words("starts", "with"):
		n.op = opStartsWith
	case p.words("ends", "with"):
		n.op = opEndsWith
	case p.words("in", ""):
		n.op = opIn
	case p.words("not", "in"):
		n.op = opNotIn
	default:
		return node{}, p.fail("want ==, !=, in, not in, contains, starts with or ends with after label %q, not %s", short(label), p.here())
	}
	var err error
	if n.op == opIn || n.op == opNotIn {
		n.values, err = p.set()
	} else {
		n.value, err = p.quoted()
	}
	return n, err
}

func short(label string) string { return label[:min(len(label), 40)] }

func (p *parser) set() ([]string, error) {
	if !p.take("{") {
		return nil, p.fail("want a set such as {\"a\", \"b\"}, not %s", p.here())
	}
	var values []string
	for !p.take("}") {
		v, err := p.quoted()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		if !p.take(",") && !strings.HasPrefix(p.text[p.pos:], "}") {
			return nil, p.fail("want , or } in a set, not %s", p.here())
		}
	}
	return set(values), nil
}

func (p *parser) quoted() (string, error) {
	rest := p.text[p.pos:]
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return "", p.fail("want a value in quotes, not %s", p.here())
	}
	n := strings.IndexByte(rest[1:], rest[0])
	if n < 0 {
		return "", p.fail("the quote %c is never closed", rest[0])
	}
	p.pos += n + 2
	p.blanks()
	return rest[1 : n+1], nil
}
