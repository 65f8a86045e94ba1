package server_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// inFiles fails if any of the texts is in any file of a directory: database,
// write-ahead log and all else that is there.
func inFiles(t testing.TB, dir string, texts ...string) {
	t.Helper()
	read := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read += len(content)
		for _, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read == 0 {
		t.Fatalf("%s holds no files", dir)
	}
}
