package keystile_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/keystile/keystile"
)

func mint(t testing.TB, prefix, marker string) string {
	t.Helper()
	var markers []string
	if marker != "" {
		markers = append(markers, marker)
	}
	f, err := keystile.NewFormat(prefix, markers...)
	if err != nil {
		t.Fatal(err)
	}
	key, err := f.Mint(marker)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCredentialFrom(t *testing.T) {
	const key = "vx_secret"
	bearer, header := []string{"Authorization"}, []string{"X-API-Key"}
	tests := map[string]struct {
		accept  []string
		headers []string // name: value
		code    keystile.Code
		hint    keystile.Hint
		fix     string // part of the first one
	}{
		"bearer":                     {headers: []string{"Authorization: Bearer " + key}},
		"bearer in lower case":       {headers: []string{"Authorization: bearer " + key}},
		"X-API-Key":                  {headers: []string{"X-API-Key: " + key}},
		"a header of one's own":      {accept: []string{"voxum-key"}, headers: []string{"Voxum-Key: " + key}},
		"VX6 spaces at the edges":    {accept: header, headers: []string{"X-API-Key: \t " + key + " \t"}},
		"bearer, spaces at the edge": {headers: []string{"Authorization:   Bearer " + key + "  "}},
		"an empty one beside it":     {headers: []string{"Authorization:  ", "X-API-Key: " + key}},
		"VX6 narrowed, good":         {accept: header, headers: []string{"X-API-Key: " + key}},
		"narrowed, other header's":   {accept: header, headers: []string{"X-API-Key: " + key, "Authorization: Basic dTpw"}},
		"narrowed to bearer":         {accept: bearer, headers: []string{"Authorization: Bearer " + key, "X-API-Key: other"}},

		"none":                    {code: keystile.CodeMissingCredential, fix: "'Authorization: Bearer YOUR_KEY'"},
		"none, narrowed":          {accept: header, code: keystile.CodeMissingCredential, fix: "'X-API-Key: YOUR_KEY'"},
		"the word alone":          {headers: []string{"Authorization: Bearer "}, code: keystile.CodeMissingCredential, fix: "not empty"},
		"both headers":            {headers: []string{"Authorization: Bearer " + key, "X-API-Key: " + key}, code: keystile.CodeSeveralCredentials, fix: "one key"},
		"one header twice":        {headers: []string{"X-API-Key: " + key, "X-API-Key: " + key}, code: keystile.CodeSeveralCredentials},
		"lines joined by a comma": {headers: []string{"X-API-Key: " + key + ", " + key}, code: keystile.CodeSeveralCredentials},
		"bearers joined by a comma": {headers: []string{"Authorization: Bearer " + key + ", Bearer " + key},
			code: keystile.CodeSeveralCredentials},

		"VQ6 IP12 no scheme":      {headers: []string{"Authorization: " + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "'Authorization: Bearer YOUR_KEY'"},
		"IP12 another scheme":     {headers: []string{"Authorization: Basic dTpw"}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "Bearer"},
		"scheme with a colon":     {headers: []string{"Authorization: Bearer: " + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "Bearer"},
		"scheme without a space":  {headers: []string{"Authorization: Bearer" + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "Bearer"},
		"scheme twice":            {headers: []string{"Authorization: Bearer Bearer " + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "Bearer"},
		"scheme in X-API-Key":     {headers: []string{"X-API-Key: Bearer " + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "'X-API-Key: YOUR_KEY'"},
		"two spaces":              {headers: []string{"Authorization: Bearer  " + key}, code: keystile.CodeMalformed, hint: keystile.HintWhitespace, fix: "Bearer"},
		"a tab":                   {headers: []string{"Authorization: Bearer\t" + key}, code: keystile.CodeMalformed, hint: keystile.HintWhitespace, fix: "Bearer"},
		"a space and a tab":       {headers: []string{"Authorization: Bearer \t" + key}, code: keystile.CodeMalformed, hint: keystile.HintWhitespace, fix: "Bearer"},
		"an inner space":          {headers: []string{"Authorization: Bearer vx_ secret"}, code: keystile.CodeMalformed, hint: keystile.HintWhitespace, fix: "without any space"},
		"VX6 an inner space":      {accept: header, headers: []string{"X-API-Key: vx_ secret"}, code: keystile.CodeMalformed, hint: keystile.HintWhitespace, fix: "without any space"},
		"an inner tab":            {headers: []string{"X-API-Key: vx_\tsecret"}, code: keystile.CodeMalformed, hint: keystile.HintWhitespace},
		"VX6 in Authorization":    {accept: header, headers: []string{"Authorization: Bearer " + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "'X-API-Key: YOUR_KEY'"},
		"in X-API-Key":            {accept: bearer, headers: []string{"X-API-Key: " + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "'Authorization: Bearer YOUR_KEY'"},
		"VX6 a wrong header name": {accept: header, headers: []string{"Api-Key: " + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "'X-API-Key: YOUR_KEY'"},
		"an Authorisation":        {headers: []string{"Authorisation: Bearer " + key}, code: keystile.CodeMalformed, hint: keystile.HintScheme, fix: "'Authorization: Bearer YOUR_KEY'"},
		"far too long":            {headers: []string{"X-API-Key: " + strings.Repeat("x", 513)}, code: keystile.CodeMalformed, fix: "whole key"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			for _, line := range test.headers {
				name, value, _ := strings.Cut(line, ": ")
				h.Add(name, value)
			}
			secret, problem := keystile.CredentialFrom(h, test.accept)
			if test.code == "" {
				if problem != nil || secret != key {
					t.Fatalf("got %q, %v; want the key", secret, problem)
				}
				return
			}
			if problem == nil {
				t.Fatalf("let through as %q", secret)
			}
			if secret != "" {
				t.Error("a refused request still gave a key")
			}
			if problem.Code != test.code || problem.Hint != test.hint || problem.Status != test.code.Status() {
				t.Errorf("got %s %q, status %d; want %s %q", problem.Code, problem.Hint, problem.Status, test.code, test.hint)
			}
			if len(problem.Fixes) == 0 || !strings.Contains(problem.Fixes[0], test.fix) {
				t.Errorf("fixes %q do not begin with %q", problem.Fixes, test.fix)
			}
			if text := problem.Detail + strings.Join(problem.Fixes, ""); strings.Contains(text, "secret") && !strings.Contains(text, "secret that") {
				t.Error("the error shows the key")
			}
		})
	}
}

func TestKeyInQuery(t *testing.T) {
	key, marked := mint(t, "vx", ""), mint(t, "gw", "live")
	typo := key[:20] + "0" + key[20:]
	wrong := []byte(key)
	if wrong[10]++; wrong[10] > 'z' || wrong[10] == '9'+1 || wrong[10] == 'Z'+1 {
		wrong[10] = '0'
	}
	tests := map[string]struct {
		query string
		want  bool
	}{
		"nothing":                       {"", false},
		"other parameters":              {"q=inventory&limit=10", false},
		"a key":                         {"api_key=" + key, true},
		"a key with an environment":     {"apikey=" + marked, true},
		"a key in any parameter":        {"q=" + key, true},
		"a key as the name":             {key + "=1", true},
		"a key alone":                   {key, true},
		"a key among others":            {"a=1&b=2&X-API-Key=" + key + "&c=3", true},
		"a key behind a semicolon":      {"a=1;key=" + key, true},
		"a key behind its scheme":       {"Authorization=Bearer+" + key, true},
		"an encoded key":                {"key=" + strings.ReplaceAll(key, "_", "%5F"), true},
		"an encoded name":               {"api%5Fkey=" + string(wrong), true},
		"spaces around a key":           {"q=+" + key + "%20", true},
		"a broken escape before a key":  {"a=%zz&token=" + key, true},
		"a wrong character, named":      {"access_token=" + string(wrong), true},
		"a character too many, named":   {"token=" + typo, true},
		"a wrong character, not named":  {"q=" + string(wrong), false},
		"a truncated key":               {"key=" + key[:len(key)-9], false},
		"a Key ID":                      {"key=key_0ktv3m2a8s0c5f9b1d7e6g4h2j", false},
		"a cursor":                      {"cursor=" + url.QueryEscape("eyJhIjoxfQ=="), false},
		"a long word":                   {"token=" + strings.Repeat("a", 60), false},
		"somebody else's token":         {"token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln_bmF0dXJl", false},
		"an upper-case prefix":          {"token=VX" + key[2:], false},
		"a name of three parts":         {"token=a_b_c" + key[2:], false},
		"a name longer than any header": {strings.Repeat("key", 20) + "=" + string(wrong), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			problem := keystile.KeyInQuery(test.query)
			if (problem != nil) != test.want {
				t.Fatalf("refused: %t, want %t", problem != nil, test.want)
			}
			if problem != nil && (problem.Code != keystile.CodeKeyInQuery || problem.Status != http.StatusBadRequest) {
				t.Errorf("got %s, status %d", problem.Code, problem.Status)
			}
		})
	}
}

// FuzzCredentialFrom holds what must be true of any headers: a key or an error,
// never both, and no space in the key.
func FuzzCredentialFrom(f *testing.F) {
	f.Add("Bearer vx_secret", "", "")
	f.Add("", "vx_secret", "key=vx_secret")
	f.Add("Bearer  vx", "Bearer vx", "%5F&;=")
	f.Fuzz(func(t *testing.T, authorization, apiKey, query string) {
		h := http.Header{"Authorization": {authorization}, "X-Api-Key": {apiKey}}
		for _, accept := range [][]string{nil, {"Authorization"}, {"X-API-Key"}} {
			secret, problem := keystile.CredentialFrom(h, accept)
			if (secret == "") == (problem == nil) {
				t.Fatalf("key %q and error %v", secret, problem)
			}
			if strings.ContainsAny(secret, " \t") {
				t.Fatalf("a space in %q", secret)
			}
		}
		if problem := keystile.KeyInQuery(query); problem != nil && problem.Code != keystile.CodeKeyInQuery {
			t.Fatal(problem)
		}
	})
}
