package courier_test

import (
	"os"
	"testing"

	"github.com/keystile/keystile/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
