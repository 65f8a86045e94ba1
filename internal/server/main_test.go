package server_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/keystile/keystile/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer func() {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
	}()
	return pgtest.Main(m)
}

// built is the program under test, built once for the whole test binary.
var built struct { //nolint:gochecknoglobals // see above
	once sync.Once
	dir  string
	path string
	out  []byte
	err  error
}

// program returns the path of the program, built from this tree.
func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "keystile-program-"); built.err != nil { //nolint:usetesting // outlives the test that is first
			return
		}
		built.path = filepath.Join(built.dir, "keystile")
		built.out, built.err = build(built.path)
	})
	if built.err != nil {
		t.Fatalf("building the program: %v\n%s", built.err, built.out)
	}
	return built.path
}

// build builds the program as it is released, without cgo.
func build(path string, flags ...string) ([]byte, error) {
	words := append([]string{"build", "-o", path}, flags...)
	cmd := exec.Command("go", append(words, "github.com/keystile/keystile/cmd/keystile")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd.CombinedOutput()
}
