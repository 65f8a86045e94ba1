package server_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keystile/keystile/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run lets more tests run side by side than there are processors: most of the
// time they wait, for leases to end and for slow clients.
func run(m *testing.M) int {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	defer func() {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
	}()
	return pgtest.Main(m)
}

// built are the programs under test, each built once for the whole test binary.
var built struct { //nolint:gochecknoglobals // see above
	mu       sync.Mutex
	dir      string
	programs map[string]string // path by name
}

// program returns the path of the program, built from this tree.
func program(t testing.TB) string { return programOf(t, "keystile") }

// nextProgram is that of a version which knows one migration more.
func nextProgram(t testing.TB) string {
	return programOf(t, "keystile-next", "-ldflags", `-X "github.com/keystile/keystile/internal/store.next=`+strings.ReplaceAll(nextMigration, "\n", " ")+`"`)
}

func programOf(t testing.TB, name string, flags ...string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if path, ok := built.programs[name]; ok {
		return path
	}
	if built.dir == "" {
		var err error
		if built.dir, err = os.MkdirTemp("", "keystile-program-"); err != nil { //nolint:usetesting // outlives the test that is first
			t.Fatal(err)
		}
		built.programs = map[string]string{}
	}
	path := filepath.Join(built.dir, name)
	if out, err := build(path, flags...); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	built.programs[name] = path
	return path
}

// build builds the program as it is released, without cgo.
func build(path string, flags ...string) ([]byte, error) {
	words := append([]string{"build", "-o", path}, flags...)
	cmd := exec.Command("go", append(words, "github.com/keystile/keystile/cmd/keystile")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd.CombinedOutput()
}
