package dashboard

import (
	"strconv"
	"time"

	"github.com/keystile/keystile/internal/keyring"
)

// Sizes of a chart, in units of its view box.
const (
	chartWidth  = 720
	chartHeight = 196
	chartLeft   = 56  // where the bars begin, right of the scale's numbers
	chartTop    = 14  // the scale's uppermost line
	chartBase   = 166 // the line that the bars stand on
)

// chart is a bar chart of uses, as numbers that the template draws.
type chart struct {
	Caption string
	Hours   bool // a step is an hour, not a day (UTC)

	Width, Height, Left, Base int

	Total, Valid, Refused int64
	Most                  int64 // in one step
	Lines                 []gridLine
	Bars                  []column
	Ticks                 []timeTick
	Steps                 []keyring.SeriesStep // those in which something happened
}

// gridLine is a line of the scale.
type gridLine struct {
	Y     int
	Label string
}

// timeTick is a point in time below the bars.
type timeTick struct {
	X     int
	At    time.Time
	Minor bool // left out where there is little room
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
	c := chart{
		Caption: caption, Hours: step < 24*time.Hour,
		Width: chartWidth, Height: chartHeight, Left: chartLeft, Base: chartBase,
	}
	for _, s := range steps {
		c.Valid += s.Valid
		c.Refused += s.Refused
		c.Most = max(c.Most, s.Valid+s.Refused)
	}
	c.Total = c.Valid + c.Refused
	if c.Total == 0 {
		return c
	}
	top := roundUp(c.Most)
	at := func(i int) int { return chartLeft + i*(chartWidth-chartLeft)/len(steps) }
	// What happened at all can be seen.
	scale := func(n int64) int {
		if n == 0 {
			return 0
		}
		return max(2, int(float64(n)/float64(top)*(chartBase-chartTop)))
	}
	c.Lines = []gridLine{{chartBase, "0"}, {chartTop, short(top)}}
	if top%2 == 0 {
		c.Lines = append(c.Lines, gridLine{(chartBase + chartTop) / 2, short(top / 2)})
	}
	every := tickEvery(len(steps))
	for i, s := range steps {
		if (len(steps)-1-i)%every == 0 {
			c.Ticks = append(c.Ticks, timeTick{(at(i) + at(i+1)) / 2, s.At, (len(steps)-1-i)%(2*every) != 0})
		}
		if s.Valid+s.Refused == 0 {
			continue
		}
		c.Steps = append(c.Steps, s)
		b := column{X: at(i) + 1, Width: max(at(i+1)-at(i)-2, 2), At: s.At, Valid: s.Valid, Refused: s.Refused}
		b.Height, b.RefusedTo = scale(s.Valid), scale(s.Refused)
		b.Y = chartBase - b.Height
		b.RefusedY = b.Y - b.RefusedTo
		c.Bars = append(c.Bars, b)
	}
	return c
}

// tickEvery is after how many steps the time is said again.
func tickEvery(steps int) int {
	switch {
	case steps <= 7:
		return 1
	case steps <= 24:
		return 4
	case steps <= 31:
		return 5
	}
	return 15
}

// roundUp is the end of a scale for numbers up to n: 1, 2, 4, 6, 8, 10, 20, 40, …
func roundUp(n int64) int64 {
	for ten := int64(1); ; ten *= 10 {
		for _, digit := range []int64{1, 2, 4, 6, 8} {
			if top := digit * ten; n <= top || ten > 1e17 {
				return max(top, n)
			}
		}
	}
}

// short writes a number of a scale in a few characters: 800, 20k, 4M.
func short(n int64) string {
	switch {
	case n >= 1e6 && n%1e5 == 0:
		return strconv.FormatFloat(float64(n)/1e6, 'f', -1, 64) + "M"
	case n >= 1e4 && n%100 == 0:
		return strconv.FormatFloat(float64(n)/1e3, 'f', -1, 64) + "k"
	}
	return strconv.FormatInt(n, 10)
}
