//go:build keystile_next_schema

package store

import (
	"fmt"
	"io/fs"
	"testing/fstest"
)

// migrations are those of this repository and one more. It is for a build that
// plays the next version: see TestRollingUpgrade.
func migrations() fs.FS {
	all := fstest.MapFS{}
	own := ownMigrations()
	names, err := fs.Glob(own, "*.sql")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(own, name)
		if err != nil {
			panic(err)
		}
		all[name] = &fstest.MapFile{Data: text}
	}
	all[fmt.Sprintf("%04d_next.sql", len(names)+1)] = &fstest.MapFile{Data: []byte(`-- +goose Up
ALTER TABLE keys ADD COLUMN next_note TEXT NOT NULL DEFAULT 'of the next version';
CREATE INDEX keys_next ON keys (next_note);
CREATE TABLE next_things (id TEXT PRIMARY KEY, key_id TEXT NOT NULL REFERENCES keys (id) ON DELETE CASCADE);
`)}
	return all
}
