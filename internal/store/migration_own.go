//go:build !keystile_next_schema

package store

import "io/fs"

func migrations() fs.FS { return ownMigrations() }
