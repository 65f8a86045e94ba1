package keystiletest_test

import (
	"testing"

	"github.com/keystile/keystile/keystiletest"
)

func TestZZ(t *testing.T) {
	for range 30 {
		t.Run("x", func(t *testing.T) { keystiletest.New(t) })
	}
}
