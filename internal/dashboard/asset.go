package dashboard

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/keystile/keystile/internal/profile"
)

//go:embed static
var static embed.FS

// assets are the style sheet, the scripts and the brand's colour, by a name
// that changes with their content, so that browsers keep them for ever.
type assets struct {
	files map[string]asset  // by the name in the address
	names map[string]string // name in the address by the name of the file
}

type asset struct {
	kind string
	text []byte
}

func newAssets(p *profile.Profile) (assets, error) {
	a := assets{files: map[string]asset{}, names: map[string]string{}}
	entries, err := fs.ReadDir(static, "static")
	if err != nil {
		return a, err
	}
	for _, e := range entries {
		text, err := fs.ReadFile(static, "static/"+e.Name())
		if err != nil {
			return a, err
		}
		a.add(e.Name(), text)
	}
	// A style in the page itself is what the content policy forbids.
	a.add("brand.css", []byte(":root{--brand:"+p.Branding.Colour+"}\n"))
	return a, nil
}

func (a *assets) add(name string, text []byte) {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	sum := sha256.Sum256(text)
	ext := path.Ext(name)
	addressed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
	a.files[addressed] = asset{kinds[ext], text}
	a.names[name] = "/assets/" + addressed
}

// ServeHTTP implements http.Handler for /assets/{name}.
func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(f.text) // fails when the client has gone
}
