package main

import (
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"24h": 24 * time.Hour, "90d": 90 * 24 * time.Hour, "0s": 0, "1h30m": 90 * time.Minute, "0d": 0, "65535d": 65535 * 24 * time.Hour,
		"": -1, "24": -1, "d": -1, "-1d": -1, "1.5d": -1, "65536d": -1, "1d12h": -1, "tomorrow": -1,
	} {
		got, ok := parseDuration(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("parseDuration(%q) = %v, %v, want %v", text, got, ok, want)
		}
	}
}

func TestMoment(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"1h": true, "30d": true, "2999-01-31T12:00:00Z": true, "2999-01-31T12:00:00+02:00": true,
		"0s": false, "-1h": false, "2001-01-31T12:00:00Z": false, "2999-01-31": false, "soon": false, "": false,
	} {
		var m moment
		if err := m.UnmarshalText([]byte(text)); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		} else if good && !m.time().After(time.Now()) {
			t.Errorf("%q is %v", text, m.time())
		}
	}
	if (*moment)(nil).time() != nil {
		t.Error("no moment became one")
	}
}

// TestMasked makes sure that no key gets into a message about the arguments.
func TestMasked(t *testing.T) {
	t.Parallel()
	f, err := keystile.NewFormat("vx", "live")
	if err != nil {
		t.Fatal(err)
	}
	for _, marker := range []string{"", "live"} {
		key, err := f.Mint(marker)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{key, "unexpected argument " + key, `"` + key + `"`, "--x=" + key + "," + key, key[:len(key)-3]} {
			if got := masked(text); strings.Contains(got, key[len(key)-20:len(key)-3]) || !strings.Contains(got, "vx_") {
				t.Errorf("%q became %q", text, got)
			}
		}
	}
	for _, text := range []string{"unknown flag --nme, did you mean \"--name\"?", "key_0ktv3m2a8s0c5f9b1d7e6g4h2j", "KEYSTILE_DATABASE"} {
		if got := masked(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
