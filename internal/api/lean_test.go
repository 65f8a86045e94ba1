package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keystile/keystile"
)

// bodies of verify and its batch, right and wrong in many ways.
var bodies = []string{
	`{"key":"ks_1"}`, `{"key":"ks_1","permission":"read","workspace":"ws_1","ip":"10.0.0.1","user_agent":"a b"}`, ` { "key" : "a" } ` + "\r\n\t",
	`{}`, `{"key":"a","key":"b"}`, `{"Key":"a"}`, `{"key":null}`, `{"key":1}`, `{"key":{}}`, `{"key":["a"]}`, `{"key":"\u0061"}`, `{"key":"é"}`,
	"{\"key\":\"\xff\"}", "{\"key\":\"a\nb\"}", `{"key":"a"}x`, `{"key":"a"}{}`, `{"key":"a",}`, `{,"key":"a"}`, `{"key" "a"}`, `{"key":"a"`, `{"key":"a`,
	`{"key"`, `{`, ``, ` `, `null`, `[]`, `"a"`, `1`, `{"kex":"a"}`, `{"":"a"}`, "{\"key\":\"a\"}\x00", "\xef\xbb\xbf{}",
	`{"requests":[{"key":"a"},{"key":"b","ip":"::1"}]}`, `{"requests":[]}`, `{"requests":null}`, `{"requests":{}}`, `{"requests":[{"key":"a"}],"requests":[]}`,
	`{"requests":[{"key":"a"},]}`, `{"requests":[,{"key":"a"}]}`, `{"requests":[{"key":"a"} {"key":"b"}]}`, `{"requests":[{"key":"a"}]`, `{"requests":[null]}`,
	`{"Requests":[{"key":"a"}]}`, `{"requests":[{"kex":"a"}]}`, `{"requests":[{"key":"a"}],"more":1}`, `{"requests":[{"key":"a"}]}]`, `{"requests":["a"]}`,
	`{"requests":[` + strings.Repeat(`{"key":"a"},`, 999) + `{"key":"a"}]}`, `{"requests":[` + strings.Repeat(`{"key":"a"},`, 1000) + `{"key":"a"}]}`,
	`{"key":"` + strings.Repeat("a", 9000) + `"}`, `{"key":"a"}` + strings.Repeat(" ", 9000),
}

// sameAsJSON reads a body both ways, which must end the same: with the same
// question, or the same refusal in the same words.
func sameAsJSON(t interface{ Fatalf(string, ...any) }, text string) {
	both(t, text, maxVerifyBody, (*scanner).request)
	both(t, text, maxBatchBody, (*scanner).batch)
}

func both[T any](t interface{ Fatalf(string, ...any) }, text string, most int64, scan func(*scanner, *T)) {
	var lean, plain T
	request := func() *http.Request { return httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text)) }
	got := read(&API{}, httptest.NewRecorder(), request(), most, &lean, scan)
	want := readJSON(httptest.NewRecorder(), request(), most, &plain)
	if !reflect.DeepEqual(got, want) || want == nil && !reflect.DeepEqual(lean, plain) {
		t.Fatalf("%.200q: read as %.200v with %v, encoding/json says %.200v with %v", text, lean, got, plain, want)
	}
}

func TestBodiesAreReadAsEncodingJSONReadsThem(t *testing.T) {
	for _, text := range bodies {
		sameAsJSON(t, text)
	}
	taken := scanner{text: bodies[1]}
	if taken.request(&keystile.VerifyRequest{}); !taken.done() {
		t.Error("the scanner does not take what nearly all clients send")
	}
	piece := rapid.SampledFrom([]string{
		`{`, `}`, `[`, `]`, `,`, `:`, ` `, "\n", `"key"`, `"ip"`, `"user_agent"`, `"requests"`, `"a"`, `"é"`, `"\n"`, `null`, `1`, `"`, `\`,
		`{"key":"a"}`, `"key":"b"`, `{"requests":[`, `]}`, "\x7f", "\x00", "\xff",
	})
	rapid.Check(t, func(t *rapid.T) {
		sameAsJSON(t, strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "text"), ""))
	})
}

// Eight bytes at once are looked at as one is.
func TestPlain(t *testing.T) {
	for c := range 256 {
		want := c >= ' ' && c < 0x80 && c != '"' && c != '\\'
		for length := 1; length < 20; length++ {
			for at := range length {
				for _, fill := range []byte{' ', '!', '#', '[', ']', 'a', 0x7f} {
					s := bytes.Repeat([]byte{fill}, length)
					s[at] = byte(c)
					if plain(string(s)) != want {
						t.Fatalf("%q: %t", s, !want)
					}
				}
			}
		}
	}
}

func FuzzBody(f *testing.F) {
	for _, text := range bodies {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { sameAsJSON(t, text) })
}

// A body that breaks off is refused as before, whatever had come of it.
func TestBodyThatBreaksOff(t *testing.T) {
	for _, text := range []string{``, `{`, `{"key":"a"`, `{"key":"a"}`, `{"kex":1`} {
		request := func() *http.Request {
			r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader(text), broken{}))
			r.ContentLength = 100
			return r
		}
		var lean, plain keystile.VerifyRequest
		got := read(&API{}, httptest.NewRecorder(), request(), maxVerifyBody, &lean, (*scanner).request)
		want := readJSON(httptest.NewRecorder(), request(), maxVerifyBody, &plain)
		if got == nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, encoding/json says %v", text, got, want)
		}
	}
}

// What is of another type than it should be is told in words of JSON.
func TestBodyOfAnotherType(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                         "The body is not one JSON object.",
		`"key"`:                      "The body is not one JSON object.",
		`{"requests": {}}`:           "It must be a list.",
		`{"requests": ["key"]}`:      "Each entry must be an object.",
		`{"requests": [{"key": 1}]}`: "It must be a text.",
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text))
		if problem := readJSON(httptest.NewRecorder(), r, maxVerifyBody, &batch{}); problem == nil || !strings.Contains(problem.Error(), want) {
			t.Errorf("%s: %v, want %s", text, problem, want)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestDecisionsAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`[ -~]{0,20}`),
		rapid.SampledFrom([]string{"<&>", `"\`, "\u2028\u2029", "\xff", "a\tb\x00", "日本", "\x7f"}))
	texts := rapid.SliceOfN(text, 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		d := keystile.Decision{
			Valid: rapid.Bool().Draw(t, "valid"), Code: keystile.Code(text.Draw(t, "code")), Hint: keystile.Hint(text.Draw(t, "hint")),
			Status: rapid.Int().Draw(t, "status"), Detail: text.Draw(t, "detail"), Fixes: texts.Draw(t, "fixes"),
			KeyID: text.Draw(t, "key"), WorkspaceID: text.Draw(t, "workspace"), Role: text.Draw(t, "role"),
			Permissions: texts.Draw(t, "permissions"), Environment: text.Draw(t, "environment"), Owner: text.Draw(t, "owner"),
			Metadata: rapid.MapOfN(text, text, 0, 3).Draw(t, "metadata"),
		}
		if rapid.Bool().Draw(t, "expires") {
			at := time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "at")).UTC() // to the end of the year 9999
			d.ExpiresAt = &at
		}
		var want bytes.Buffer
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(d); err != nil {
			t.Fatal(err)
		}
		if got := string(appendDecision(nil, &d)) + "\n"; got != want.String() {
			t.Fatalf("wrote %s, encoding/json writes %s", got, want.String())
		}
	})
	// What is left out of the list above would not be written.
	if n := reflect.TypeFor[keystile.Decision]().NumField(); n != 14 {
		t.Errorf("a decision has %d members: teach appendDecision the new ones", n)
	}
}
