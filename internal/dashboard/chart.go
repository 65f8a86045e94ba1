package dashboard

import (
	"time"

	"github.com/keystile/keystile/internal/keyring"
)

// Sizes of a chart, in units of its view box.
const (
	chartWidth  = 720
	chartHeight = 140
	chartTop    = 20 // room for the scale's number
)

// chart is a bar chart of uses, as numbers that the template draws.
type chart struct {
	Caption      string
	Width        int
	Height       int // of the bars' part
	Total        int64
	Most         int64 // in one step: the height of the scale
	Hours        bool  // a step is less than a day
	Bars         []column
	Steps        []keyring.SeriesStep // those in which something happened
	First, Final time.Time
}

// column is one step: valid uses below, refused ones above them.
type column struct {
	X, Width            int
	Y, Height           int
	RefusedY, RefusedTo int
	At                  time.Time
	Valid, Refused      int64
}

func newChart(caption string, step time.Duration, steps []keyring.SeriesStep) chart {
	c := chart{Caption: caption, Width: chartWidth, Height: chartTop + chartHeight, Hours: step < 24*time.Hour}
	for _, s := range steps {
		c.Total += s.Valid + s.Refused
		c.Most = max(c.Most, s.Valid+s.Refused)
	}
	if len(steps) == 0 {
		return c
	}
	c.First, c.Final = steps[0].At, steps[len(steps)-1].At
	pitch := chartWidth / len(steps)
	for i, s := range steps {
		if s.Valid+s.Refused == 0 {
			continue
		}
		c.Steps = append(c.Steps, s)
		b := column{X: i*chartWidth/len(steps) + 1, Width: max(pitch-2, 2), At: s.At, Valid: s.Valid, Refused: s.Refused}
		b.Height, b.RefusedTo = c.scale(s.Valid), c.scale(s.Refused)
		b.Y = c.Height - b.Height
		b.RefusedY = b.Y - b.RefusedTo
		c.Bars = append(c.Bars, b)
	}
	return c
}

// scale is how high a number of uses is. What happened at all can be seen.
func (c chart) scale(n int64) int {
	if n == 0 {
		return 0
	}
	return max(2, int(float64(n)/float64(c.Most)*(chartHeight-4)))
}
