package bench

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// A goal is what a ratio must reach.
type goal struct {
	what, against string
	value, most   float64
	least         bool // most is the least
	keys          int  // how many keys it takes to tell
	detail        string
}

// reached judges the ratio as it is printed. Allocations are counted, not
// measured: one in a thousand checks is too many.
func (g goal) reached() bool {
	value := g.value
	if g.most >= 0.01 {
		value = math.Round(100*value) / 100
	}
	if g.least {
		return value >= g.most
	}
	return value <= g.most
}

func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// goals are those that were measured.
func (r *Report) goals() []goal {
	const million = 1_000_000
	most := 1.5
	if r.Keys < 100_000 {
		most = 1.8
	}
	ns := func(name string, v float64) string {
		s := r.Spread[name]
		if max(v, s[1]) >= 10_000 { // a slow machine is no reason for a longer line
			return fmt.Sprintf("%.1f µs (%.1f–%.1f)", v/1000, s[0]/1000, s[1]/1000)
		}
		return fmt.Sprintf("%.0f ns (%.0f–%.0f)", v, s[0], s[1])
	}
	seconds := func(a, b float64) string { return fmt.Sprintf("%.2f s / %.2f s", a, b) }
	all := []goal{
		{what: "check of a valid key", against: "SHA-256 and a line of memory", value: over(r.Verify, r.Floor), most: most,
			detail: ns("verify_ns", r.Verify) + " / " + ns("floor_ns", r.Floor)},
		{what: "check of a valid key, first use", against: "SHA-256 and a line of memory", value: over(r.First, r.Floor), detail: ns("first_use_ns", r.First)},
		{what: "one key on two processors", against: "one processor", value: r.TwoCores, most: 1.8, least: true},
		{what: "malformed key", against: "a valid key", value: over(r.Malformed, r.Verify), most: 0.3, detail: ns("malformed_ns", r.Malformed)},
		{what: "unknown key", against: "a valid key", value: over(r.Unknown, r.Verify), most: 1, detail: ns("unknown_ns", r.Unknown)},
		{what: "allocations for a check", value: r.Allocs, most: 0.001},
		{what: "bytes for a key", value: r.BytesPerKey, most: 128, keys: 100_000},
		{what: "memory of the server", against: "1.5 GiB", value: float64(r.Memory) / (3 << 29), most: 1, keys: 100_000, detail: fmt.Sprintf("%d MiB", r.Memory>>20)},
		{what: "collector under load", against: "an empty index", value: r.Collector, most: 1.1},
		{what: "POST /v1/verify, processor time", against: "a bare net/http server", value: r.HTTP, most: 1.15},
		{what: "/v1/forward-auth, processor time", against: "a bare net/http server", value: r.ForwardAuth, most: 1.15},
		{what: "POST /v1/verify on a unix socket", against: "a bare net/http server on a port", value: r.Socket},
		{what: "batch of 10", against: "as many checks in process", value: r.Batch10},
		{what: "batch of 100", against: "as many checks in process", value: r.Batch100},
		{what: "batch of 1000", against: "as many checks in process", value: r.Batch, most: 3},
		{what: "start on SQLite", against: "a bare scan of the rows", value: over(r.Start, r.Scan), most: 2, keys: million, detail: seconds(r.Start, r.Scan)},
		{what: "start on PostgreSQL", against: "a bare scan of the rows", value: over(r.PostgresStart, r.PostgresScan), most: 2, keys: million, detail: seconds(r.PostgresStart, r.PostgresScan)},
		{what: "keys created a second, 32 clients", against: "bare transactions of one client", value: over(r.Creates, r.Bare), most: 1, least: true,
			detail: fmt.Sprintf("%.0f / %.0f", r.Creates, r.Bare)},
		{what: fmt.Sprintf("99th percentile, %.0f changes a second", r.Changes), against: "checks in quiet", value: over(r.Busy, r.Quiet), most: 2,
			detail: fmt.Sprintf("%.0f ns / %.0f ns", r.Busy, r.Quiet)},
	}
	return slices.DeleteFunc(all, func(g goal) bool { return g.value == 0 && g.what != "allocations for a check" })
}

// Print writes the report as a table of at most 80 columns: a line with the ratio
// and its goal, and below it what it was measured against and, where there are
// any, the two absolute figures.
func (r *Report) Print(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d keys · %s · %s, %s/%s\n%d processors", r.Keys, r.At.Format("2006-01-02 15:04 MST"), r.GoVersion, r.OS, r.Arch, r.Processors)
	if r.CPU != "" {
		fmt.Fprintf(&b, ", %.60s", r.CPU)
	}
	fmt.Fprintf(&b, "\n\n%-39s %8s  %s\n", "what", "ratio", "goal")
	for _, g := range r.goals() {
		fmt.Fprintf(&b, "%-39s %8.2f", g.what, g.value)
		if g.most != 0 {
			bound, verdict := "≤", "reached"
			if g.least {
				bound = "≥"
			}
			switch {
			case r.Keys < g.keys:
				verdict = fmt.Sprintf("from %d keys on", g.keys)
			case !g.reached():
				verdict = "not reached"
			}
			fmt.Fprintf(&b, "  %s %-5g  %s", bound, g.most, verdict)
		}
		b.WriteByte('\n')
		switch {
		case g.against != "" && g.detail != "":
			fmt.Fprintf(&b, "  beside %s: %s\n", g.against, g.detail)
		case g.against+g.detail != "":
			fmt.Fprintf(&b, "  beside %s\n", g.against+g.detail)
		}
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// Benchstat writes the samples in the format of Go's benchmarks, of which
// benchstat compares two.
func (r *Report) Benchstat(w io.Writer) {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/keystile/keystile/internal/bench\ncpu: %s\n", r.OS, r.Arch, r.CPU)
	names := make([]string, 0, len(r.samples))
	for name := range r.samples {
		names = append(names, name)
	}
	slices.Sort(names)
	const most = 10 // lines for each, as many as benchstat asks for
	for _, name := range names {
		base, unit, _ := cutLast(name, '_')
		if unit == "ns" {
			unit = "ns/op"
		}
		s := r.samples[name]
		n := min(most, len(s.all))
		for i := range n {
			one := series{s.all[i*len(s.all)/n : (i+1)*len(s.all)/n]} // in the order of time
			fmt.Fprintf(w, "Benchmark%s/keys=%d 1 %.6g %s\n", strings.ToUpper(base[:1])+base[1:], r.Keys, one.median(), unit)
		}
	}
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// processor is the name of the processor, where the system tells it.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(text, []byte("model name"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	_, name, _ := bytes.Cut(line, []byte(":"))
	return string(bytes.TrimSpace(name))
}
