// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// twin is a selector as a closure beside its text, built at random: the obvious
// evaluator that the real one is held against.
type twin struct {
	text string
	eval func(Map) bool
}

var (
	drawLabel  = rapid.SampledFrom([]string{"a", "b", "in", "has", "not", "x.y/z-1_"})
	drawValue  = rapid.SampledFrom([]string{"", "x", "xy", "y", "yx", "it's", `"`})
	drawBlanks = rapid.SampledFrom([]string{"", " ", "\t", "  "})
	drawLabels = rapid.MapOfN(drawLabel, drawValue, 0, 5)
)

func quote(v string) string {
	if strings.Contains(v, "'") {
		return `"` + v + `"`
	}
	return "'" + v + "'"
}

func drawTwin(depth int) *rapid.Generator[twin] {
	return rapid.Custom(func(t *rapid.T) twin {
		sp := func() string { return drawBlanks.Draw(t, "blanks") }
		kinds := 11
		if depth == 0 {
			kinds = 8
		}
		switch kind := rapid.IntRange(0, kinds-1).Draw(t, "kind"); kind {
		case 0:
			return twin{"all(" + sp() + ")", func(Map) bool { return true }}
		case 1:
			l := drawLabel.Draw(t, "label")
			return twin{"has(" + sp() + l + sp() + ")", func(m Map) bool {
				for k := range m {
					if k == l {
						return true
					}
				}
				return false
			}}
		case 2, 3, 4, 5:
			l, v := drawLabel.Draw(t, "label"), drawValue.Draw(t, "value")
			word := []string{"==", "!=", "contains", "starts" + sp() + "with"}[kind-2]
			return twin{l + sp() + " " + word + sp() + quote(v), func(m Map) bool {
				got, ok := m[l]
				switch kind {
				case 2:
					return ok && got == v
				case 3:
					return !(ok && got == v)
				case 4:
					for i := 0; ok && i+len(v) <= len(got); i++ {
						if got[i:i+len(v)] == v {
							return true
						}
					}
					return false
				}
				return ok && len(got) >= len(v) && got[:len(v)] == v
			}}
		case 6, 7:
			l := drawLabel.Draw(t, "label")
			vs := rapid.SliceOfN(drawValue, 0, 4).Draw(t, "values")
			var q []string
			for _, v := range vs {
				q = append(q, sp()+quote(v)+sp())
			}
			word := []string{" in", " not" + sp() + "in"}[kind-6]
			return twin{l + word + sp() + "{" + strings.Join(q, ",") + "}", func(m Map) bool {
				in := false
				for _, v := range vs {
					got, ok := m[l]
					in = in || ok && got == v
				}
				return in == (kind == 6)
			}}
		case 8:
			k := drawTwin(depth-1).Draw(t, "kid")
			n := rapid.IntRange(1, 3).Draw(t, "nots")
			return twin{strings.Repeat("!"+sp(), n) + "(" + k.text + ")", func(m Map) bool {
				v := k.eval(m)
				for range n {
					v = !v
				}
				return v
			}}
		default:
			kids := rapid.SliceOfN(drawTwin(depth-1), 1, 3).Draw(t, "kids")
			var texts []string
			for _, k := range kids {
				texts = append(texts, "("+sp()+k.text+sp()+")")
			}
			sep := []string{"&&", "||"}[kind-9]
			return twin{sp() + strings.Join(texts, sp()+sep+sp()), func(m Map) bool {
				and, or := true, false
				for _, k := range kids {
					v := k.eval(m)
					and, or = and && v, or || v
				}
				if kind == 9 {
					return and
				}
				return or
			}}
		}
	})
}

func TestAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawTwin(3).Draw(t, "selector")
		labels := Map(drawLabels.Draw(t, "labels"))
		s, err := Parse(w.text)
		if err != nil {
			if len(w.text) > MaxText {
				t.Skip("too long")
			}
			t.Fatal(err)
		}
		want := w.eval(labels)
		if got := s.Match(labels); got != want {
			t.Fatalf("%s on %v = %v, want %v", s, labels, got, want)
		}
		if err := checkLaws(s, labels); err != nil {
			t.Fatal(err)
		}
	})
}

// checkLaws holds what must be true of any parsed selector and any labels.
func checkLaws(s *Selector, labels Map) error {
	matched := s.Match(labels)
	if text := s.String(); len(text) <= MaxText {
		again, err := Parse(text)
		if err != nil {
			// The canonical form may add up to two pairs of parentheses.
			if strings.Contains(err.Error(), "nested") {
				return nil
			}
			return fmt.Errorf("canonical form does not parse: %w", err)
		}
		if again.String() != text || again.UniqueID() != s.UniqueID() || !again.Equal(s) {
			return fmt.Errorf("Parse(%s) = %s", text, again)
		}
		if again.Match(labels) != matched {
			return fmt.Errorf("%s and its canonical form differ on %v", s, labels)
		}
	}
	if Not(s).Match(labels) == matched {
		return fmt.Errorf("%s and its negation agree on %v", s, labels)
	}
	prefixed := Map{}
	for k, v := range labels {
		prefixed["pcns."+k] = v
	}
	if s.WithPrefix("pcns.").Match(prefixed) != matched {
		return fmt.Errorf("%s with a prefix differs on %v", s, labels)
	}
	for _, n := range []*Selector{s, Not(s)} {
		if !n.Match(labels) {
			continue
		}
		for label, r := range n.Restrictions() {
			if v, ok := labels[label]; !ok || !r.Allows(v) {
				return fmt.Errorf("%s matches %v against its restriction %s: %v", n, labels, label, r)
			}
		}
	}
	return nil
}

// FuzzParse looks for text that panics, or that breaks the laws. The seeds are
// one per production of the grammar and per known trap.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"",                                      // blank is all()
		"all() && global()",                     // constants
		"has(a) && !has(b)",                     // presence
		`a == "x" || a != 'y'`,                  // both quotes
		"a starts with 'x' || a endswith 'y'",   // two words, apart and together
		`a contains "it's"`,                     // a quote within the other
		"a in {'x', 'y',} || b not in {}",       // trailing comma, empty set
		"in in {'x'} && has == 'a'",             // keywords as labels
		"!!(!(!has(a)))",                        // negations collapse
		"((((has(a)))))",                        // redundant parentheses
		"has(" + strings.Repeat("a", 513) + ")", // label one too long
		strings.Repeat("(", 40),                 // too deep
		"a == \"\xff\"",                         // not UTF-8
		"has(a)\n",                              // a line break is no blank
	} {
		f.Add(text, "a", "x")
	}
	f.Fuzz(func(t *testing.T, text, label, value string) {
		s, err := Parse(text)
		if err != nil {
			_ = err.Error()
			return
		}
		for _, labels := range []Map{nil, {label: value}, {label: value, "b": "y"}} {
			if err := checkLaws(s, labels); err != nil {
				t.Fatal(err)
			}
		}
	})
}
