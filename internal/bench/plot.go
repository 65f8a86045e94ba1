package bench

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A plot is lines over the number of keys, whose axis is logarithmic.
type plot struct {
	file, title, unit string
	logarithmic       bool // the other axis too; it begins at 0 otherwise
	lines             []curve
}

type curve struct {
	name string
	y    func(*Report) float64
}

// Plots writes what was measured with several numbers of keys into a directory,
// as pictures in SVG.
func Plots(dir string, reports []*Report) error {
	for _, p := range []plot{
		{"bench-check.svg", "Time of one check", "ns", false, []curve{
			{"valid key", func(r *Report) float64 { return r.Verify }},
			{"valid key, first use", func(r *Report) float64 { return r.First }},
			{"unknown key", func(r *Report) float64 { return r.Unknown }},
			{"malformed key", func(r *Report) float64 { return r.Malformed }},
			{"floor: SHA-256 and a line of memory", func(r *Report) float64 { return r.Floor }},
		}},
		{"bench-memory.svg", "Memory", "MB", true, []curve{
			{"server", func(r *Report) float64 { return float64(r.Memory) / 1e6 }},
			{"index", func(r *Report) float64 { return r.BytesPerKey * float64(r.Keys) / 1e6 }},
		}},
		{"bench-start.svg", "Start of the server", "s", true, []curve{
			{"SQLite", func(r *Report) float64 { return r.Start }},
			{"bare scan, SQLite", func(r *Report) float64 { return r.Scan }},
			{"PostgreSQL", func(r *Report) float64 { return r.PostgresStart }},
			{"bare scan, PostgreSQL", func(r *Report) float64 { return r.PostgresScan }},
		}},
	} {
		if p.empty(reports) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, p.file), []byte(p.svg(reports)), 0o644); err != nil { //nolint:gosec // a picture for everyone
			return err
		}
	}
	return nil
}

// empty tells whether nothing of a plot was measured.
func (p plot) empty(reports []*Report) bool {
	return !slices.ContainsFunc(p.lines, func(l curve) bool {
		return slices.ContainsFunc(reports, func(r *Report) bool { return l.y(r) > 0 })
	})
}

// Size of a plot and of the space around its axes.
const (
	plotWidth, plotHeight           = 720, 400
	plotLeft, plotTop               = 70, 50
	plotRight, plotBottom           = 20, 110
	plotInnerWidth, plotInnerHeight = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
)

// svg draws a plot.
func (p plot) svg(reports []*Report) string {
	// Told apart by people who see few colours, and by their dashes (Okabe, Ito: Color Universal Design).
	colours := []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555"}
	dashes := []string{"", "6 3", "2 3", "10 3 2 3", "14 4"}
	first, last := math.Log10(float64(reports[0].Keys)), math.Log10(float64(reports[len(reports)-1].Keys))
	low, high := p.bounds(reports)
	at := func(r *Report, y float64) (float64, float64) {
		share := 0.5
		if last > first {
			share = (math.Log10(float64(r.Keys)) - first) / (last - first)
		}
		return plotLeft + share*plotInnerWidth, plotTop + plotInnerHeight*(1-(p.scale(y)-low)/(high-low))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" role="img">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", html.EscapeString(p.title))
	fmt.Fprintf(&b, `<text x="%d" y="24" font-size="16">%s (%s) against the number of keys</text>`+"\n", plotLeft, html.EscapeString(p.title), p.unit)
	for _, y := range p.ticks(low, high) {
		_, v := at(reports[0], y)
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, v, plotWidth-plotRight, plotLeft-8, v+4, strconv.FormatFloat(y, 'g', -1, 64))
	}
	for _, r := range reports {
		x, _ := at(r, 1)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x, plotTop+plotInnerHeight+20, short(r.Keys))
	}
	n := 0
	for i, line := range p.lines {
		var path strings.Builder
		for _, r := range reports {
			if y := line.y(r); y > 0 {
				px, py := at(r, y)
				fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(path.Len(), 1)], px, py)
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", px, py, colours[i])
			}
		}
		if path.Len() == 0 {
			continue
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>`+"\n", path.String(), colours[i], dashes[i])
		x, y := plotLeft+n%2*(plotInnerWidth/2), plotTop+plotInnerHeight+46+n/2*20
		fmt.Fprintf(&b, `<path d="M%d %dh30" stroke="%s" stroke-width="2" stroke-dasharray="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			x, y-4, colours[i], dashes[i], x+38, y, html.EscapeString(line.name))
		n++
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p plot) scale(y float64) float64 {
	if p.logarithmic {
		return math.Log10(y)
	}
	return y
}

// bounds returns the ends of the upright axis, scaled.
func (p plot) bounds(reports []*Report) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, r := range reports {
		for _, line := range p.lines {
			if y := line.y(r); y > 0 {
				low, high = min(low, p.scale(y)), max(high, p.scale(y))
			}
		}
	}
	if p.logarithmic {
		return math.Floor(low), max(math.Ceil(high), math.Floor(low)+1)
	}
	step := tickStep(high)
	return 0, math.Ceil(high/step) * step
}

func (p plot) ticks(low, high float64) (all []float64) {
	if p.logarithmic {
		for e := low; e <= high; e++ {
			all = append(all, math.Pow(10, e))
		}
		return all
	}
	for y := 0.0; y <= high; y += tickStep(high) {
		all = append(all, y)
	}
	return all
}

// tickStep divides an axis from 0 into five to ten parts of a round number.
func tickStep(high float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(high/2)))
	for _, times := range []float64{1, 2, 5} {
		if high/(step*times) <= 10 {
			return step * times
		}
	}
	return 10 * step
}

// short is a number of keys such as 10 k.
func short(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%d M", n/1_000_000)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%d k", n/1000)
	}
	return strconv.Itoa(n)
}
