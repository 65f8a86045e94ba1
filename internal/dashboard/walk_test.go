package dashboard_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/dashboard"
	"github.com/keystile/keystile/internal/keyring"
	"github.com/keystile/keystile/keystiletest"
)

// TestWalk follows each product's manual, step by step, in a real browser.
// Every page on the way is valid HTML, has no accessibility violation, and
// loads nothing from elsewhere. The walks are in browser/; scripts/tools.sh
// installs what they need.
//
// With KEYSTILE_SCREENSHOTS naming a directory they leave pictures there.
func TestWalk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ product, rows string }{
		{"voqo", "VQ1_VQ2_VQ3_VQ4_VQ5_VQ7_VQ8_VQ9_VQ10"},
		{"voxum", "VX1_VX2_VX3_VX4_VX5_VX7"},
		{"ipaware", "IP2_IP3_IP4_IP5_IP6_IP7_IP8_IP11_IP13_IP14"},
		{"vozagent", "VZ1_VZ2_VZ3_VZ4_VZ5_VZ6_VZ7"},
		{"tenant", "TN1_TN2_TN3_TN4_TN5"},
	} {
		t.Run(c.product+"/"+c.rows, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := keystiletest.New(t, keystiletest.Profile(filepath.Join("..", "..", "examples", c.product+".yaml")),
				keystiletest.FlushInterval(time.Second), keystiletest.Dir(dir)) // pictures show what was used
			walk(t, s, c.product+".mjs", given{"history": history(t, dir)})
		})
	}
}

// named is how people reach the server in walks that use passkeys, which need a
// host name. The browser is told where it is.
const named = "http://keys.localhost"

// TestWalkPasskeys: from an invitation to a passkey, signing in with it, the
// proof that a sensitive page asks for, a lost passkey recovered through another
// admin, and sessions ended; with the browser's own authenticator.
func TestWalkPasskeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := keystiletest.New(t, keystiletest.PublicURL(named), keystiletest.Dir(dir))
	walk(t, s, "passkey.mjs", given{"url": named, "age": aging(t, dir)})
}

// TestWalkEveryPage looks at every page of the list of routes, and at what forms
// and refusals show.
func TestWalkEveryPage(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL(named), keystiletest.FlushInterval(time.Second),
		keystiletest.ProfileText("product: Every Page\nprefix: ev\nthird_parties: [zapier]\n"))
	var routes []string
	for _, r := range dashboard.Routes() {
		if path, ok := strings.CutPrefix(r.Pattern, "GET "); ok {
			routes = append(routes, path)
		}
	}
	links := []string{}
	for range strings.Count(strings.Join(routes, " "), "{token}") {
		links = append(links, path.Base(s.SignInLink("")))
	}
	walk(t, s, "pages.mjs", given{
		"url": named, "routes": routes, "links": links, "secret": s.Key(s.Workspace, keystile.CreateKey{Name: "In use"}).Secret,
		"viewer": named + "/link/" + invite(t, s, keyring.Operator("test"), newMember(t, s, s.Workspace, "Vera", "viewer")),
	})
}

// TestWalkReaders: without JavaScript, in another time zone, and on a page that
// is left open.
func TestWalkReaders(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.FlushInterval(time.Second))
	walk(t, s, "reader.mjs", given{"second": s.SignInLink(s.Workspace), "third": s.SignInLink(s.Workspace)})
}

// TestWalkSecret: a secret that is shown once is not lost by accident, and a
// form that is refused stays in its dialog.
func TestWalkSecret(t *testing.T) {
	t.Parallel()
	walk(t, keystiletest.New(t), "secret.mjs", nil)
}

// TestWalkFrame: the portal in a frame of the product's page, which is another
// site's and reached by TLS, as it will be; and in that of one who was not asked.
func TestWalkFrame(t *testing.T) {
	t.Parallel()
	s := keystiletest.New(t, keystiletest.PublicURL("https://keys.example.test"), keystiletest.TrustedProxy("127.0.0.0/8"),
		keystiletest.ProfileText("product: Framed\nprefix: fr\nsign_in: {embed: [https://app.product.test]}\n"))
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	keys := overTLS(t, httputil.NewSingleHostReverseProxy(at))
	app := overTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><title>App</title><h1>App</h1><p>%s</p>`, r.URL.Path)
		if src := r.URL.Query().Get("src"); src != "" {
			fmt.Fprintf(w, `<iframe src="%s" title="API keys" allow="clipboard-write" width="1000" height="700"></iframe>`, src)
		}
	}))
	walk(t, s, "frame.mjs", given{
		"url": "https://keys.example.test", "origins": []string{"https://app.product.test"},
		"hosts": given{"keys.example.test": keys, "app.product.test": app, "app.other.test": app},
	})
}

// overTLS serves with a certificate of nobody's, and returns the address.
func overTLS(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the browser says first that it does not know the certificate
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// history is an address at which every key that was used was used for ninety
// days before as well, so that pictures show what people would see.
func history(t testing.TB, dir string) string {
	t.Helper()
	db := openDatabase(t, dir)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// More by day than by night, less at the weekend, and never the same.
		if _, err := db.ExecContext(r.Context(), `WITH RECURSIVE h (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM h WHERE i < 2160),
			used AS (SELECT key_id, workspace_id, rank, at, i, at / 3600000 - i AS hour FROM h,
				(SELECT u.key_id, k.workspace_id, u.at, row_number() OVER (ORDER BY u.key_id) AS rank FROM key_use u JOIN keys k ON k.id = u.key_id))
			INSERT INTO usage (key_id, hour, code, workspace_id, count)
			SELECT key_id, hour * 3600000, 'valid', workspace_id,
				(CASE WHEN hour % 24 BETWEEN 7 AND 18 THEN 30 ELSE 8 END - CASE WHEN hour / 24 % 7 IN (2, 3) THEN 6 ELSE 0 END + (hour * 7919 + rank * 31) % 13) * (1 + 7 / rank)
			FROM used WHERE true ON CONFLICT DO NOTHING`); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if err := sumUsage(r.Context(), db); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// sumUsage makes the sums of usage anew, as the migration does.
func sumUsage(ctx context.Context, db *sql.DB) error {
	for _, q := range []string{
		`DELETE FROM usage_sums`, `DELETE FROM workspace_usage`,
		`INSERT INTO usage_sums (key_id, days, at, code, workspace_id, count)
			SELECT key_id, d.days, hour - hour % (d.days * 86400000), code, workspace_id, SUM(count)
			FROM usage, (SELECT 1 AS days UNION SELECT 10) d GROUP BY 1, 2, 3, 4, 5`,
		`INSERT INTO workspace_usage SELECT workspace_id, at, code, SUM(count) FROM usage_sums WHERE days = 1 GROUP BY 1, 2, 3`,
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// aging is an address at which everyone's last proof becomes an old one.
func aging(t testing.TB, dir string) string {
	t.Helper()
	db := openDatabase(t, dir)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := age(db); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// given is what a walk is told.
type given map[string]any

// walk runs one of the scripts in browser/ against a server.
func walk(t testing.TB, s *keystiletest.Server, script string, more given) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed: run scripts/tools.sh")
	}
	if _, err := os.Stat(filepath.Join("browser", "node_modules", "playwright-core")); err != nil {
		t.Fatal("the browser tests' packages are not installed: run scripts/tools.sh")
	}
	in := given{
		"url": s.URL, "api": s.URL, "workspace": s.Workspace, "operatorKey": s.OperatorKey,
		"screenshots": os.Getenv("KEYSTILE_SCREENSHOTS"), "failures": os.Getenv("KEYSTILE_FAILURES"),
		"hosts": given{"keys.localhost": strings.TrimPrefix(s.URL, "http://")},
	}
	maps.Copy(in, more)
	in["link"] = in["url"].(string) + strings.TrimPrefix(s.SignInLink(""), s.URL) //nolint:forcetypeassert // as above
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, script)
	cmd.Dir = "browser"
	cmd.Env = append(os.Environ(), "WALK="+string(text))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s", script, err, out.String())
	}
}
