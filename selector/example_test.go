// SPDX-License-Identifier: Apache-2.0

package selector_test

import (
	"fmt"

	"github.com/muslin-net/muslin/selector"
)

func ExampleParse() {
	s, err := selector.Parse(`role in {'web', "db"} && !has(quarantined)`)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s)
	fmt.Println(s.Match(selector.Map{"role": "web"}))
	fmt.Println(s.Match(selector.Map{"role": "web", "quarantined": ""}))
	// Output:
	// (role in {"db", "web"} && !has(quarantined))
	// true
	// false
}

func ExampleParse_error() {
	_, err := selector.Parse("role = 'web'")
	fmt.Println(err)
	// Output:
	// selector "role = 'web'": at character 6: want ==, !=, in, not in, contains, starts with or ends with after label "role", not "="
}

// A namespaceSelector selects by the labels of the namespace, which endpoints
// carry with a prefix; all() then means any namespace, and global() none.
func ExampleSelector_ReplaceAll() {
	inNamespace := selector.Has("projectcalico.org/namespace")
	for _, text := range []string{"env == 'prod'", "all()", "global()"} {
		s, _ := selector.Parse(text)
		fmt.Println(s.WithPrefix("pcns.").ReplaceAll(inNamespace, selector.Not(inNamespace)))
	}
	// Output:
	// pcns.env == "prod"
	// has(projectcalico.org/namespace)
	// !has(projectcalico.org/namespace)
}

func ExampleSelector_Restrictions() {
	s, _ := selector.Parse("role == 'web' || role == 'db' && has(site)")
	for label, r := range s.Restrictions() {
		fmt.Println(label, r.Values)
	}
	// Output:
	// role [db web]
}
