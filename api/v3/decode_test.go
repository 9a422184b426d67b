// SPDX-License-Identifier: Apache-2.0

package v3

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goodPolicy = `# a comment
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: web
  namespace: production
spec:
  order: 100
  selector: role == "web"
  ingress:
  - action: Allow
    protocol: TCP
    source:
      selector: role == 'lb'
    destination:
      ports: [80, "8000:8010", http]
  egress:
    - action: Deny
`

func TestDecode(t *testing.T) {
	rs, err := Decode([]byte(goodPolicy))
	if err != nil {
		t.Fatal(err)
	}
	order, tcp := 100.0, ProtocolName("TCP")
	want := &NetworkPolicy{Spec: PolicySpec{
		Order:    &order,
		Selector: `role == "web"`,
		Ingress: []Rule{{
			Action: "Allow", Protocol: &tcp,
			Source:      EntityRule{Selector: "role == 'lb'"},
			Destination: EntityRule{Ports: []Port{SinglePort(80), {Min: 8000, Max: 8010}, {Name: "http"}}},
		}},
		Egress: []Rule{{Action: "Deny"}},
	}}
	want.TypeMeta = TypeMeta{"NetworkPolicy", APIVersion}
	want.Metadata = ObjectMeta{Name: "web", Namespace: "production"}
	if diff := cmp.Diff([]Resource{want}, rs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeShapes(t *testing.T) {
	const tier = `{"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "NAME"}, "spec": {}}`
	one := func(name string) string { return strings.Replace(tier, "NAME", name, 1) }
	for name, c := range map[string]struct {
		input string
		want  string // names of the tiers
	}{
		"nothing":         {"", ""},
		"comments only":   {"# nothing\n---\n# here\n---\n", ""},
		"JSON":            {one("a"), "a"},
		"YAML flow":       {strings.ReplaceAll(one("a"), `"kind"`, "kind"), "a"},
		"JSON documents":  {one("a") + "\n---\n" + one("b"), "a b"},
		"blank between":   {"---\n" + one("a") + "\n---\n\n---\n" + one("b") + "\n...\n", "a b"},
		"separator tail":  {"--- # first\n" + one("a") + "\n--- " + one("b"), "a b"},
		"CRLF":            {strings.ReplaceAll("---\n"+one("a")+"\n---\n"+one("b")+"\n", "\n", "\r\n"), "a b"},
		"BOM":             {"\ufeff" + one("a"), "a"},
		"JSON after JSON": {one("a") + "\n" + one("b") + one("c") + " # the last\n# one\n" + one("d"), "a b c d"},
		"JSON after text": {"# first\n" + one("a") + "\n# second\n" + one("b"), "a b"},
		"arrays":          {"[" + one("a") + "]\n[" + one("b") + "]", "a b"},
		"end, and more":   {one("a") + "\n...\n" + one("b") + "\n... # end\n" + one("c"), "a b c"},
		"end of YAML":     {"%YAML 1.1\n---\n" + strings.ReplaceAll(one("a"), `"kind"`, "kind") + "\n...\n%YAML 1.1\n---\n" + one("b"), "a b"},
		"tab":             {one("a") + "\n---\t" + one("b"), "a b"},
		"array":           {"[" + one("a") + "," + one("b") + "]", "a b"},
		"List":            {`{"apiVersion":"v1","kind":"List","items":[` + one("a") + "," + one("b") + "]}", "a b"},
		"TierList": {"apiVersion: projectcalico.org/v3\nkind: TierList\nmetadata: {resourceVersion: '7'}\nitems:\n" +
			"- metadata: {name: a}\n  spec: {order: 3}\n- kind: Tier\n  apiVersion: projectcalico.org/v3\n  metadata: {name: b}\n", "a b"},
		"empty list":            {"apiVersion: projectcalico.org/v3\nkind: TierList\nitems: null\n", ""},
		"what others print":     {strings.Replace(one("a"), `"name": "a"`, `"name": "a", "selfLink": "", "managedFields": [], "creationTimestamp": null, "uid": "u"`, 1), "a"},
		"a separator in a text": {"apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata:\n  name: a\n  annotations:\n    x: |\n      ---\n      y\n", "a"},
	} {
		rs, err := Decode([]byte(c.input))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var names []string
		for _, r := range rs {
			if _, ok := r.(*Tier); !ok || *r.Type() != (TypeMeta{"Tier", APIVersion}) {
				t.Errorf("%s: %T %v", name, r, r.Type())
			}
			names = append(names, r.Meta().Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// YAML turns texts that look like numbers into numbers; where a text is wanted
// they are taken as such, as other tools do.
func TestDecodeTextThatLooksOtherwise(t *testing.T) {
	rs, err := Decode([]byte("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata:\n  name: a\n  labels: {version: 2, on: true, big: 12345678901234567890}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"version": "2", "true": "true", "big": "12345678901234567890"}
	if diff := cmp.Diff(want, rs[0].Meta().Labels); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What YAML changed is not taken for what was meant.
func TestDecodeTextThatYAMLChanged(t *testing.T) {
	const doc = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata:\n  name: %s\n  labels:\n    a: %s\n    %s: b\n"
	for _, c := range []struct{ name, value, label, want string }{
		{"n1", "1.5", "x", ""},
		{"n1", "true", "true", ""},
		{"n1", `"n"`, `"y"`, ""},
		{"n", "b", "x", "line 4: metadata.name"},
		{"n1", "1.10", "x", "line 6: metadata.labels.a"},
		{"n1", "010", "x", "line 6: metadata.labels.a"},
		{"n1", "12.30.45", "x", ""},
		{"n1", "yes", "x", "line 6: metadata.labels.a"},
		{"n1", "b", "on", "line 5: metadata.labels"},
	} {
		_, err := Decode(fmt.Appendf(nil, doc, c.name, c.value, c.label))
		var f *FieldError
		got := ""
		if errors.As(err, &f) {
			got = fmt.Sprintf("line %d: %s", f.Line, f.Path)
		}
		if got != c.want || err != nil && !strings.Contains(err.Error(), "put it in quotes") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(goodPolicy, old) {
			t.Fatalf("%q is not in the policy", old)
		}
		return strings.Replace(goodPolicy, old, new, 1)
	}
	const web = `NetworkPolicy "production/web": `
	for _, c := range []struct{ input, want string }{
		{edit("protocol: TCP", "protocl: TCP"), "line 12: " + web + `spec.ingress[0].protocl: unknown field, did you mean "protocol"?`},
		{edit("action: Deny", "Action: Deny"), "line 18: " + web + `spec.egress[0].Action: unknown field, did you mean "action"?`},
		{edit("protocol: TCP", "ports: [80]"), "line 12: " + web + `spec.ingress[0].ports: unknown field, did you mean "source.ports" or "destination.ports"?`},
		{edit("spec:", "spce:"), "line 7: " + web + `spce: unknown field, did you mean "spec"?`},
		{edit("selector: role == 'lb'", "zzz: 1"), "line 14: " + web + "spec.ingress[0].source.zzz: unknown field; known are nets, notNets, selector, notSelector, namespaceSelector, services, ports, notPorts, serviceAccounts"},
		{edit("order: 100", "order: high"), "line 8: " + web + `spec.order: "high": want a number, without quotes`},
		{edit("- action: Allow", "- action: [Allow]"), "line 11: " + web + "spec.ingress[0].action: want text, not a list"},
		{edit("80, ", "80000, "), "line 16: " + web + "spec.ingress[0].destination.ports[0]: port 80000: want 0–65535"},
		{edit("8000:8010", "8010:8000"), "line 16: " + web + `spec.ingress[0].destination.ports[1]: port range "8010:8000": want min:max within 0–65535, min not above max`},
		{edit("  order: 100", "  order: 100\n  order: 200"), "line 9: " + `key "order" already set in map`},
		{edit("kind: NetworkPolicy", "kind: NetworkPolcy"), `line 3: kind: "NetworkPolcy": unknown kind, did you mean "NetworkPolicy"?`},
		{edit("kind: NetworkPolicy", "kind: gnp"), `line 3: kind: "gnp": unknown kind, did you mean "GlobalNetworkPolicy"?`},
		{edit("kind: NetworkPolicy", "kind: Fabric"), "line 3: kind: \"Fabric\": unknown kind of the datastore: `muslin fabric emit` makes objects of such a file"},
		{edit("kind: NetworkPolicy", "kind: Pod"), `line 3: kind: "Pod": unknown kind; want one of ` + kindNames()},
		{edit("kind: NetworkPolicy", "type: x"), "line 2: kind: missing: want one of " + kindNames()},
		{edit("projectcalico.org/v3", "v1"), "line 2: " + web + `apiVersion: "v1": want "projectcalico.org/v3"`},
		{edit("apiVersion: projectcalico.org/v3\n", ""), "line 2: " + web + `apiVersion: missing: want "projectcalico.org/v3"`},
		{edit("name: web", "generateName: web-"), `line 5: NetworkPolicy "production/": metadata.generateName: not supported: give metadata.name instead`},
		{edit("metadata:", "metadata: x\nother:"), `line 4: NetworkPolicy "": metadata: want members (name: value), not "x"` + "\n" +
			`line 5: NetworkPolicy "": other: unknown field; known are kind, apiVersion, metadata, spec, status`},
		{"a: b: c", "line 1: not YAML: mapping values are not allowed in this context"},
		{"just text", `line 1: want an object with apiVersion, kind, metadata and spec, not "just text"`},
		{"apiVersion: projectcalico.org/v3\nkind: TierList\nitem: []\n", `line 3: TierList "": item: unknown field, did you mean "items"?`},
		{"apiVersion: projectcalico.org/v3\nkind: TierList\nitems:\n- metadata:\n    name: a\n- metadata:\n    name: b\n  spec:\n    oder: 3\n",
			`line 9: Tier "b": spec.oder: unknown field, did you mean "order"?`},
		{goodPolicy + "---\n" + edit("protocol: TCP", "protocl: TCP"), "document 2, line 31: " + web + `spec.ingress[0].protocl: unknown field, did you mean "protocol"?`},
		{"{\"kind\": \"TierList\", \"apiVersion\": \"v1\"}\n\ngarbage after", `document 2, line 3: want an object with apiVersion, kind, metadata and spec, not "garbage after"`},
		{"{\"kind\": \"TierList\", \"apiVersion\": \"v1\"}\n{\n\"kind\": \"Teir\"}", `document 2, line 3: kind: "Teir": unknown kind, did you mean "Tier"?`},
		{"{kind: TierList, apiVersion: v1}\n{kind: Teir}", `line 2: not YAML: what follows the object belongs to none: begin another document with a line "---"`},
		{"{kind: TierList, apiVersion: v1} x", `line 1: not YAML: what follows the object belongs to none: begin another document with a line "---"`},
		{"kind: TierList\napiVersion: v1\n...\ngarbage", `document 2, line 4: want an object with apiVersion, kind, metadata and spec, not "garbage"`},
		{"kind: TierList\rapiVersion: v1\r---\rgarbage", "line 1: not YAML: another document begins within a line"},
		{goodPolicy + "---\nx: [", "document 2, line 20: not YAML: did not find expected node content"},
		{"{\n\"apiVersion\": \"projectcalico.org/v3\",\n\"kind\": \"Tier\",\n\"metadata\": {\"name\": \"a\"},\n\"spec\": {\n  \"oder\": 1}}",
			`line 6: Tier "a": spec.oder: unknown field, did you mean "order"?`},
		{"{\"kind\": \"Tier\",\n\"kind\": \"Tier\"}", "line 2: kind: the member occurs twice"},
		{"apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\nspec:\n  asNumber: 1.10\n",
			`line 5: BGPConfiguration "default": spec.asNumber: AS number 1.1: put the dotted form in quotes`},
		{"apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec:\n  disabled: \"yes\"\n  blockSize: 26.5\n",
			`line 5: IPPool "p": spec.disabled: "yes": want true or false, without quotes` + "\n" +
				`line 6: IPPool "p": spec.blockSize: 26.5: want a whole number`},
	} {
		rs, err := Decode([]byte(c.input))
		if err == nil {
			t.Errorf("no error for:\n%s\nwant %s", c.input, c.want)
			continue
		}
		if rs != nil {
			t.Errorf("objects together with %v", err)
		}
		if got := err.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	head := "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: a}\nspec:\n  nets:\n"
	for name, c := range map[string]struct{ input, want string }{
		"too deep, JSON": {strings.Repeat("[", 100000), "deeper than 64"},
		"too deep, YAML": {"a: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "deeper than 64"},
		"too large":      {head + strings.Repeat("  - 10.0.0.0/8\n", 140000), "the datastore accepts 1572864 in one object"},
		"aliases": {"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
			"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n", "excessive aliasing"},
	} {
		_, err := Decode([]byte(c.input))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %.200v, want …%s…", name, err, c.want)
		}
	}
	many := head + strings.Repeat("  - zzz: 1\n", 1000)
	if _, err := Decode([]byte(many)); err == nil || strings.Count(err.Error(), "\n") != maxFaults || !strings.HasSuffix(err.Error(), "and 980 more") {
		t.Errorf("errors are not bounded: %.3000v", err)
	}
}

func TestFieldErrorIsAValue(t *testing.T) {
	_, err := Decode([]byte(strings.Replace(goodPolicy, "protocol", "protocl", 1)))
	var f *FieldError
	if !errors.As(err, &f) {
		t.Fatalf("%T is no *FieldError", err)
	}
	want := FieldError{Line: 12, Kind: "NetworkPolicy", Namespace: "production", Name: "web", Path: "spec.ingress[0].protocl", Problem: f.Problem}
	if diff := cmp.Diff(want, *f); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestYAMLLines(t *testing.T) {
	const doc = `top: 1

list:
- a: 1
  b:
    - x
    - "quoted key": 2
- - nested
  - deeper: 3
text: |
  not: a key
  - nor an item
folded: >-
    fake: x
last:
  "labels/x": y   # comment
  'single': z
  empty:
`
	want := map[string]int{
		"top": 1, "list": 3, "list[0]": 4, "list[0].a": 4, "list[0].b": 5, "list[0].b[0]": 6, "list[0].b[1]": 7,
		`list[0].b[1]["quoted key"]`: 7, "list[1]": 8, "list[1][0]": 8, "list[1][1]": 9, "list[1][1].deeper": 9,
		"text": 10, "folded": 13, "last": 15, `last["labels/x"]`: 16, "last.single": 17, "last.empty": 18,
	}
	if diff := cmp.Diff(want, yamlLines(doc)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParentPath(t *testing.T) {
	for path, want := range map[string]string{
		"spec": "", "spec.ingress": "spec", "spec.ingress[0]": "spec.ingress", "spec.ingress[0].action": "spec.ingress[0]",
		`metadata.labels["a.b/c"]`: "metadata.labels", "[0]": "", "": "",
	} {
		if got := parentPath(path); got != want {
			t.Errorf("parentPath(%s) = %q, want %q", path, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"protocl", "protocol", 1}, {"oder", "order", 1}, {"spce", "spec", 1}, {"abc", "", 3}, {"", "ab", 2}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%s, %s) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
