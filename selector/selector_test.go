// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t testing.TB, text string) *Selector {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return s
}

// TestVectors holds the canonical forms and identifiers that other
// implementations of the language compute.
func TestVectors(t *testing.T) {
	const all = "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"
	for _, c := range []struct{ text, canonical, id string }{
		{"", "all()", all},
		{" all() ", "all()", all},
		{" (all() )", "all()", all},
		{"! (has( b)||! has(a ))", "!(has(b) || !has(a))", "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q"},
		{`a startswith '"'`, `a starts with '"'`, ""},
	} {
		s := mustParse(t, c.text)
		if got := s.String(); got != c.canonical {
			t.Errorf("Parse(%q) = %s, want %s", c.text, got, c.canonical)
		}
		if got := s.UniqueID(); c.id != "" && got != c.id {
			t.Errorf("UniqueID(%q) = %s, want %s", c.text, got, c.id)
		}
	}
}

func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"\t ":                          "all()",
		"all( )":                       "all()",
		"global(\t)":                   "global()",
		"a=='b'":                       `a == "b"`,
		`a == 'b"c'`:                   `a == 'b"c'`,
		`a == "b'c"`:                   `a == "b'c"`,
		"a\t!=  'b'":                   `a != "b"`,
		`a contains"x"`:                `a contains "x"`,
		`a starts  with "x"`:           `a starts with "x"`,
		`a startswith"x"`:              `a starts with "x"`,
		`a ends	with "x"`:              `a ends with "x"`,
		`a endswith ""`:                `a ends with ""`,
		`a in {'y','x', "y" }`:         `a in {"x", "y"}`,
		`a in{}`:                       `a in {}`,
		`a in {"x",}`:                  `a in {"x"}`,
		`a notin {"x"}`:                `a not in {"x"}`,
		`a not  in {"x" , }`:           `a not in {"x"}`,
		`!!has(a)`:                     `has(a)`,
		`! ! !has(a)`:                  `!has(a)`,
		`!(!has(a))`:                   `has(a)`,
		`!a == "b"`:                    `!a == "b"`,
		`((a=="b"))`:                   `a == "b"`,
		`has(a)&&has(b)||has(c)`:       `((has(a) && has(b)) || has(c))`,
		`has(a)&&(has(b)||has(c))`:     `(has(a) && (has(b) || has(c)))`,
		`has(a)&&has(b)&&has(c)`:       `(has(a) && has(b) && has(c))`,
		`(has(a)&&has(b))&&has(c)`:     `((has(a) && has(b)) && has(c))`,
		`in in {"x"}`:                  `in in {"x"}`,
		`has == "a"`:                   `has == "a"`,
		`not not in {"x"}`:             `not not in {"x"}`,
		`starts starts with "x"`:       `starts starts with "x"`,
		`all == "x"`:                   `all == "x"`,
		"contains contains 'contains'": `contains contains "contains"`,
		`9-x/y.z_ == "b"`:              `9-x/y.z_ == "b"`,
		`has(projectcalico.org/tier)`:  `has(projectcalico.org/tier)`,
		"a == 'line\nbreak'":           "a == \"line\nbreak\"",
	} {
		s, err := Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
			continue
		}
		if got := s.String(); got != want {
			t.Errorf("Parse(%q) = %s, want %s", text, got, want)
		}
		if again := mustParse(t, want).String(); again != want {
			t.Errorf("Parse(%q) = %s, want the same", want, again)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct {
		text   string
		offset int
		reason string
	}{
		{"a", 1, "want ==, !="},
		{"a = 'b'", 2, "want ==, !="},
		{"a == b", 5, `want a value in quotes, not "b"`},
		{"a == 'b", 5, "never closed"},
		{"'b' == a", 0, "want a label"},
		{"a == 'b' &&", 11, "want a label"},
		{"a == 'b' & c == 'd'", 9, "want && or ||"},
		{"a == 'b' c == 'd'", 9, "want && or ||"},
		{"has (a)", 4, "want ==, !="},
		{"has()", 4, "want a label"},
		{"has(a", 5, "want )"},
		{"has(a b)", 6, "want )"},
		{"all(x)", 4, "want )"},
		{"all ()", 4, "want ==, !="},
		{"(all()", 6, "want ), not the end"},
		{"all())", 5, "want && or ||"},
		{"a in 'x'", 5, "want a set"},
		{"a in {'x' 'y'}", 10, "want , or }"},
		{"a in {,}", 6, "want a value in quotes"},
		{"a in {'x'", 9, "want , or }"},
		{"a inn {'x'}", 2, "want ==, !="},
		{"a starts with b", 2, "want ==, !="},
		{"a containsx 'b'", 2, "want ==, !="},
		{"!= 'b'", 0, "want a label"},
		{"all()\n", 5, "want && or ||"},
		{"has(ä)", 4, `not "ä"`},
		{strings.Repeat("a", 513) + " == 'b'", 0, "limit is 512"},
		{"has(" + strings.Repeat("a", 513) + ")", 4, "limit is 512"},
		{strings.Repeat("(", 33) + "all()" + strings.Repeat(")", 33), 33, "deeper than 32"},
		{strings.Repeat(" ", 4097), 0, "limit is 4096"},
	} {
		_, err := Parse(c.text)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("Parse(%.60q): %v, want a *SyntaxError", c.text, err)
			continue
		}
		if syntax.Offset != c.offset || !strings.Contains(syntax.Reason, c.reason) {
			t.Errorf("Parse(%.60q): at %d: %s; want at %d: …%s…", c.text, syntax.Offset, syntax.Reason, c.offset, c.reason)
		}
		if len(err.Error()) > 600 {
			t.Errorf("Parse(%.60q): error of %d bytes", c.text, len(err.Error()))
		}
	}
}

func TestLimits(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("(", 32) + "all()" + strings.Repeat(")", 32),
		strings.Repeat("!", 4091) + "all()",
		strings.TrimSuffix(strings.Repeat("(all()) && ", 300), " && "),
	} {
		if _, err := Parse(text); err != nil {
			t.Error(err)
		}
	}
}

func TestMatch(t *testing.T) {
	labels := Map{"a": "apple", "empty": "", "projectcalico.org/namespace": "default"}
	for text, want := range map[string]bool{
		"":                             true,
		"global()":                     true,
		"a == 'apple'":                 true,
		"a == 'appl'":                  false,
		"b == ''":                      false,
		"empty == ''":                  true,
		"a != 'apple'":                 false,
		"a != 'pear'":                  true,
		"b != 'apple'":                 true,
		"a in {'pear', 'apple'}":       true,
		"a in {}":                      false,
		"b in {''}":                    false,
		"a not in {'pear'}":            true,
		"a not in {'apple'}":           false,
		"b not in {'apple'}":           true,
		"a not in {}":                  true,
		"a contains 'ppl'":             true,
		"a contains ''":                true,
		"b contains ''":                false,
		"a starts with 'app'":          true,
		"a starts with 'ple'":          false,
		"a ends with 'ple'":            true,
		"empty ends with ''":           true,
		"has(a)":                       true,
		"has(empty)":                   true,
		"has(b)":                       false,
		"!has(b)":                      true,
		"!a == 'apple'":                false,
		"has(a) && has(b)":             false,
		"has(a) || has(b)":             true,
		"has(b) && has(b) || has(a)":   true,
		"has(a) || has(b) && has(b)":   true,
		"(has(a) || has(b)) && has(b)": false,
		"projectcalico.org/namespace == 'default'": true,
	} {
		if got := mustParse(t, text).Match(labels); got != want {
			t.Errorf("Match(%s) = %v, want %v", text, got, want)
		}
	}
}

func TestZeroSelectorIsAll(t *testing.T) {
	var s Selector
	if !s.Match(nil) || s.String() != "all()" || !s.IsAll() {
		t.Errorf("zero Selector is %s", &s)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	s := mustParse(t, `!(a contains "x" || b starts with "y") && c in {"a", "b", "c"} && d not in {"q"} && e != "f" && has(c)`)
	labels := Map{"a": "1", "b": "2", "c": "c", "d": "4", "e": "5"}
	if !s.Match(labels) {
		t.Fatal("want a match")
	}
	if n := testing.AllocsPerRun(100, func() { s.Match(labels) }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

func TestBuild(t *testing.T) {
	for _, c := range []struct {
		got  *Selector
		want string
	}{
		{And(), "all()"},
		{Or(), "!all()"},
		{And(nil, Has("a"), nil), "has(a)"},
		{Or(Has("a")), "has(a)"},
		{And(mustParse(t, "a == 'b' || has(c)"), Equal("projectcalico.org/namespace", "n")),
			`((a == "b" || has(c)) && projectcalico.org/namespace == "n")`},
		{In("a", "y", "x", "y"), `a in {"x", "y"}`},
		{In("a"), "a in {}"},
		{Not(Not(Has("a"))), "has(a)"},
		{Not(Or(Has("a"), Has("b"))), "!(has(a) || has(b))"},
		{mustParse(t, `a == "b" && !(has(c) || d in {"a"}) && all()`).WithPrefix("pcns."),
			`(pcns.a == "b" && !(has(pcns.c) || pcns.d in {"a"}) && all())`},
		{mustParse(t, "all() || !all() || has(a)").ReplaceAll(Has("ns"), nil), "(has(ns) || !has(ns) || has(a))"},
		{Global().ReplaceAll(nil, Not(Has("ns"))), "!has(ns)"},
		{Not(Global()).ReplaceAll(nil, Not(Has("ns"))), "has(ns)"},
		{All().ReplaceAll(nil, Has("x")), "all()"},
	} {
		if got := c.got.String(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestBuildLeavesItsArgumentsAlone(t *testing.T) {
	s := mustParse(t, `a in {"x"} && (has(b) || !has(c))`)
	before := s.String()
	s.WithPrefix("p.")
	s.ReplaceAll(Has("x"), Has("y"))
	Not(And(s, s))
	for _, r := range s.Restrictions() {
		for i := range r.Values {
			r.Values[i] = "changed"
		}
	}
	if s.String() != before {
		t.Errorf("%s became %s", before, s)
	}
	values := []string{"z", "a"}
	if In("l", values...); values[0] != "z" {
		t.Error("In sorted its caller's slice")
	}
}

func TestGlobalQueries(t *testing.T) {
	for text, want := range map[string][2]bool{
		"global()":            {true, true},
		"(global())":          {true, true},
		"global() && has(a)":  {false, true},
		"!(has(a)||global())": {false, true},
		"all()":               {false, false},
		"global == 'x'":       {false, false},
	} {
		s := mustParse(t, text)
		if got := [2]bool{s.IsGlobal(), s.UsesGlobal()}; got != want {
			t.Errorf("%s: IsGlobal, UsesGlobal = %v, want %v", text, got, want)
		}
	}
}

func TestRestrictions(t *testing.T) {
	has := Restriction{}
	one := func(v ...string) Restriction { return Restriction{Values: append([]string{}, v...)} }
	for text, want := range map[string]map[string]Restriction{
		"":                                     {},
		"!all()":                               {},
		"a == 'x'":                             {"a": one("x")},
		"!(a != 'x')":                          {"a": one("x")},
		"a != 'x'":                             {},
		"!a == 'x'":                            {},
		"a in {'y', 'x'}":                      {"a": one("x", "y")},
		"a in {}":                              {"a": one()},
		"!(a not in {'x'})":                    {"a": one("x")},
		"a not in {'x'}":                       {},
		"has(a)":                               {"a": has},
		"!has(a)":                              {},
		"a contains 'x'":                       {"a": has},
		"a starts with 'x' && a ends with 'y'": {"a": has},
		"has(a) && a == 'x'":                   {"a": one("x")},
		"a == 'x' && b == 'y'":                 {"a": one("x"), "b": one("y")},
		"a == 'x' && a == 'y'":                 {"a": one()},
		"a in {'x','y'} && a in {'y','z'}":     {"a": one("y")},
		"a == 'x' || a == 'y'":                 {"a": one("x", "y")},
		"a == 'x' || has(a)":                   {"a": has},
		"a == 'x' || b == 'y'":                 {},
		"a == 'x' && has(b) || a == 'y'":       {"a": one("x", "y")},
		"a == 'x' || a in {}":                  {"a": one("x")},
		"a == 'x' || !all()":                   {"a": one("x")},
		"a == 'x' || all()":                    {},
		"!(a != 'x' || b != 'y')":              {"a": one("x"), "b": one("y")},
		"!(a != 'x' && a != 'y')":              {"a": one("x", "y")},
		"a in {} || b in {}":                   {"b": one()},
	} {
		if diff := cmp.Diff(want, mustParse(t, text).Restrictions()); diff != "" {
			t.Errorf("Restrictions(%s) (-want +got):\n%s", text, diff)
		}
	}
}

// A tree that never matches, nested as deep as it goes, must not make
// Restrictions walk any branch twice per level.
func TestRestrictionsIsLinear(t *testing.T) {
	text := "a in {}"
	for range MaxDepth {
		text = "(" + text + " || b in {})"
	}
	if r := mustParse(t, text).Restrictions(); r["b"].Allows("x") {
		t.Errorf("Restrictions = %v", r)
	}
}

func BenchmarkMatch(b *testing.B) {
	s := mustParse(b, `a == "x" && b in {"a", "b", "c"} && !has(d)`)
	labels := Map{"a": "x", "b": "c", "c": "v"}
	b.ReportAllocs()
	for b.Loop() {
		s.Match(labels)
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(`a == "x" && b in {"a", "b", "c"} && !has(d)`); err != nil {
			b.Fatal(err)
		}
	}
}
