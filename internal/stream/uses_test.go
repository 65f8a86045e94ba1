package stream_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/stream"
)

// loser is a server whose answers get lost for a while, though it takes what it
// is sent.
type loser struct {
	mu    sync.Mutex
	lose  bool
	part  int64
	count int64 // of uses, taken by part as a server takes them
}

func (l *loser) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
	switch r.Method {
	case http.MethodGet:
		answer.Header.Set("Content-Type", stream.ContentType)
		in, out := io.Pipe()
		answer.Body = in
		go func() {
			w := stream.NewWriter(out)
			frames := []stream.Frame{
				{Kind: stream.KindHello, Hello: &stream.Hello{Attachment: "rep_1", Protocol: stream.Protocol, Prefix: "tt"}},
				{Kind: stream.KindLoaded, Seq: 1},
			}
			for r.Context().Err() == nil {
				for _, f := range frames {
					if w.Write(f) != nil || w.Flush() != nil {
						return
					}
				}
				frames = []stream.Frame{{Kind: stream.KindAlive}}
				select {
				case <-time.After(5 * time.Second):
				case <-r.Context().Done():
				}
			}
			_ = out.CloseWithError(r.Context().Err())
		}()
	case http.MethodPost:
		var ask stream.Ask
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if ask.Part > l.part {
			l.part = ask.Part
			for _, u := range ask.Uses {
				l.count += u.Count
			}
		}
		if l.lose {
			return nil, errors.New("the answer is lost")
		}
		text, err := json.Marshal(stream.Grant{Head: 1, For: 12 * time.Second, Now: time.Now()})
		if err != nil {
			return nil, err
		}
		answer.Body = io.NopCloser(bytes.NewReader(text))
	}
	return answer, nil
}

// TestUsesWhoseAnswerIsLost: uses that came home are not counted again, and those
// that were counted meanwhile are not forgotten with them.
func TestUsesWhoseAnswerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &loser{}
		r, err := stream.Open(t.Context(), stream.Options{
			URLs: []string{"http://keys.example"}, Key: "key", HTTP: &http.Client{Transport: l}, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		use := func(times int) {
			for range times {
				if d, err := r.Verify(t.Context(), keystile.VerifyRequest{Key: "tt_nothing"}); err != nil || d.Valid {
					t.Fatalf("%+v, %v", d, err)
				}
			}
		}
		losing := func(lose bool) {
			l.mu.Lock()
			l.lose = lose
			l.mu.Unlock()
		}
		use(2)
		time.Sleep(9900 * time.Millisecond)
		losing(true)
		time.Sleep(1500 * time.Millisecond) // after ten seconds they are sent, again and again
		use(3)
		time.Sleep(9100 * time.Millisecond) // and these would be sent with them
		losing(false)
		time.Sleep(time.Minute)
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if l.count != 5 {
			t.Errorf("%d uses are counted of 5", l.count)
		}
	})
}
