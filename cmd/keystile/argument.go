package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// checkID refuses what is no ID of its kind before it gets into a URL, and does
// not repeat it: it may be a key.
func checkID(id []byte, prefix, name, verb string) (string, error) {
	if !bytes.HasPrefix(id, []byte(prefix)) {
		return "", fmt.Errorf("this is no %s: those begin with %s, and 'keystile %s list' shows them", name, prefix, verb)
	}
	return string(id), nil
}

// keyID is an argument that names a key.
type keyID string

// UnmarshalText reads the argument.
func (id *keyID) UnmarshalText(text []byte) error {
	checked, err := checkID(text, "key_", "Key ID", "keys")
	*id = keyID(checked)
	return err
}

// workspaceID is an argument that names a workspace.
type workspaceID string

// UnmarshalText reads the argument.
func (id *workspaceID) UnmarshalText(text []byte) error {
	checked, err := checkID(text, "ws_", "workspace's id", "workspaces")
	*id = workspaceID(checked)
	return err
}

// moment is an argument that names a time to come.
type moment time.Time

// UnmarshalText reads a duration from now on, or a time (RFC 3339).
func (m *moment) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		d, ok := parseDuration(string(text))
		if !ok {
			return errors.New("give a duration such as 24h or 90d, or a time such as 2027-01-31T12:00:00Z")
		}
		at = time.Now().Add(d)
	}
	if !at.After(time.Now()) {
		return errors.New("this is not in the future: give a duration such as 24h or 90d, or a time such as 2027-01-31T12:00:00Z")
	}
	*m = moment(at)
	return nil
}

// time is the moment for the wire, nil if none was given.
func (m *moment) time() *time.Time {
	if m == nil {
		return nil
	}
	at := time.Time(*m).UTC().Truncate(time.Second)
	return &at
}

// span is an argument that says how long.
type span time.Duration

// UnmarshalText reads a duration.
func (s *span) UnmarshalText(text []byte) error {
	d, ok := parseDuration(string(text))
	if !ok || d < 0 {
		return errors.New("give a duration such as 0s, 24h or 7d")
	}
	*s = span(d)
	return nil
}

// list is a flag with one or more words: separated by commas, and repeated. An
// empty one is refused, since a variable that is not set would otherwise lift
// a restriction that was meant.
type list []string

// UnmarshalText adds the words of one flag.
func (l *list) UnmarshalText(text []byte) error {
	for word := range strings.SplitSeq(string(text), ",") {
		if word = strings.TrimSpace(word); word == "" {
			return errors.New("a value is empty: give one, or leave the flag out")
		}
		*l = append(*l, word)
	}
	return nil
}

// parseDuration reads Go's form, and whole days as profiles have them: 90d.
func parseDuration(s string) (time.Duration, bool) {
	if digits, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseUint(digits, 10, 16) // no overflow: 65535 days are 180 years
		return time.Duration(days) * 24 * time.Hour, err == nil
	}
	d, err := time.ParseDuration(s)
	return d, err == nil
}

// masked hides what has the form of a key of any product in a text about the
// arguments, which must not carry one but sometimes do.
func masked(text string) string {
	keyForm := regexp.MustCompile(`([a-z][a-z0-9]*_(?:[a-z][a-z0-9]*_)?)[0-9A-Za-z]{33,}`)
	secretForm := regexp.MustCompile(`(whsec_)[0-9A-Za-z+/_-]{8,}=*`)
	return secretForm.ReplaceAllString(keyForm.ReplaceAllString(text, "${1}••••••••"), "${1}••••••••")
}
