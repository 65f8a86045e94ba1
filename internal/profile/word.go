package profile

import (
	"maps"
	"slices"
)

// followers are words that say the same as another one when the file gives
// only the other.
func followers() map[string]string {
	return map[string]string{
		"create_button_more": "create_button",
		"create_title":       "create_button",
		"revoke_title":       "revoke_confirm",
		"delete_title":       "delete_confirm",

		"secret_create_title":   "secret_create_button",
		"endpoint_create_title": "endpoint_create_button",
		"secret_revoke_title":   "secret_revoke_confirm",
	}
}

// checkWords holds the file's words against those of the default profile,
// which has them all.
func (f *file) checkWords(p *Profile) error {
	var known Profile
	if _, err := read("default.yaml", standard, &known); err != nil {
		return err
	}
	names := slices.Collect(maps.Keys(known.Words))
	for _, name := range p.WordNames() {
		path := "words." + name
		if _, ok := known.Words[name]; !ok {
			if !isName(name) {
				path = "words." + quote(name)
			}
			if near := nearest(name, names); near != "" {
				return f.fault(path, "unknown word; did you mean %s?", quote(near))
			}
			return f.fault(path, "unknown word; remove it, or use one of those in docs/configuration.md")
		}
		if p.Words[name] == "" {
			return f.fault(path, "empty; give the wording, or take the line out")
		}
	}
	for name, leader := range followers() {
		_, said := f.lines["words."+name]
		if _, led := f.lines["words."+leader]; led && !said {
			p.Words[name] = p.Words[leader]
		}
	}
	return nil
}
