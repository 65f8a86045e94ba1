package server

import (
	"maps"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/cluster"
	"github.com/keystile/keystile/internal/verify"
)

// metrics are this process's, in Prometheus's form. No label names a tenant
// or a key: that would make their number endless and their reader a tenant's
// rival.
type metrics struct {
	registry    *prometheus.Registry
	requests    *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	outcomes    atomic.Pointer[map[outcome]series] // of requests and durations, those seen so far
	decisions   map[keystile.Code]prometheus.Counter
	others      prometheus.Counter
	flushErrors prometheus.Counter
	delivered   prometheus.Histogram
	failed      prometheus.Counter
	givenUp     prometheus.Counter
	outboxAge   prometheus.Gauge
	draining    atomic.Bool
}

// decisionCodes are the outcomes of a key check.
func decisionCodes() []keystile.Code {
	return []keystile.Code{
		keystile.CodeValid, keystile.CodeMalformed, keystile.CodeUnknown, keystile.CodeWorkspaceSuspended,
		keystile.CodeRevoked, keystile.CodeDisabled, keystile.CodeExpired, keystile.CodeIPNotAllowed,
		keystile.CodeWrongWorkspace, keystile.CodeInsufficientPermission,
	}
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), decisions: map[keystile.Code]prometheus.Counter{}}
	m.outcomes.Store(&map[outcome]series{})
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keystile_http_requests_total", Help: "Answers, by route and status.",
	}, []string{"route", "status"})
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "keystile_http_request_duration_seconds", Help: "Time to answer, by route.",
		Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5, 15},
	}, []string{"route"})
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keystile_decisions_total", Help: "Keys checked, by outcome.",
	}, []string{"code"})
	for _, code := range decisionCodes() {
		m.decisions[code] = decisions.WithLabelValues(string(code))
	}
	m.others = decisions.WithLabelValues("other")
	m.flushErrors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "keystile_usage_flush_errors_total", Help: "Times that usage counts could not be written and were kept.",
	})
	m.delivered = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "keystile_delivery_duration_seconds", Help: "Time until an endpoint accepted an event; its count is that of deliveries.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
	})
	m.failed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "keystile_delivery_failures_total", Help: "Attempts at a delivery that were not accepted.",
	})
	m.givenUp = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "keystile_deliveries_given_up_total", Help: "Deliveries that were not accepted at the last attempt.",
	})
	m.outboxAge = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "keystile_outbox_age_seconds", Help: "For how long the oldest event that could be sent has been waiting.",
	})
	m.registry.MustRegister(m.delivered, m.failed, m.givenUp, m.outboxAge, m.requests, m.durations, decisions, m.flushErrors,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds what the node knows.
func (m *metrics) watch(n *cluster.Node, _ *verify.Recorder) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("keystile_index_keys", "Keys in the index of this node.", func() float64 {
		if x, ok := n.Index(); ok {
			return float64(x.Len())
		}
		return 0
	})
	gauge("keystile_node_usable", "1 while this node may answer from its index.", func() float64 {
		if _, ok := n.Index(); ok {
			return 1
		}
		return 0
	})
	gauge("keystile_node_stale", "1 while this node checks keys without a lease, from what it knew, as --partition has it.", func() float64 {
		if _, stale := n.Stale(); stale {
			return 1
		}
		return 0
	})
	gauge("keystile_node_lease_seconds", "For how long this node may answer without reaching the database again.", func() float64 {
		return n.Lease().Seconds()
	})
	gauge("keystile_replicas_attached", "Replicas that are attached to this node.", func() float64 { return float64(n.Children()) })
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "keystile_replicas_late_total", Help: "Times that a change waited for 3 s and longer for a replica that asked on for leases.",
	}, func() float64 { return float64(n.Late()) }))
	gauge("keystile_nodes", "Servers of the installation that this node knows of, itself among them.", func() float64 { return float64(n.Known()) })
	gauge("keystile_change_log_reported", "Position in the change log that this node and all replicas attached to it have reached.", func() float64 {
		return float64(n.Reported())
	})
	gauge("keystile_change_log_applied", "Position in the change log that this node has applied.", func() float64 {
		return float64(n.Applied())
	})
}

// outcome is what answers are counted by: a pattern of a route, of which there
// is a fixed number, and a status.
type outcome struct {
	route  string
	status int
}

// series is where answers of one outcome are counted.
type series struct {
	requests  prometheus.Counter
	durations prometheus.Observer
}

func (m *metrics) observe(route string, status int, took time.Duration) {
	o := outcome{route, status}
	s, ok := (*m.outcomes.Load())[o]
	if !ok {
		s = m.firstOf(o)
	}
	s.requests.Inc()
	s.durations.Observe(took.Seconds())
}

// firstOf looks up by label, which costs more than the counting, where an
// outcome is counted that was not before.
func (m *metrics) firstOf(o outcome) series {
	s := series{m.requests.WithLabelValues(o.route, strconv.Itoa(o.status)), m.durations.WithLabelValues(o.route)}
	for {
		old := m.outcomes.Load()
		more := maps.Clone(*old)
		more[o] = s
		if m.outcomes.CompareAndSwap(old, &more) {
			return s
		}
	}
}

// posted counts an attempt at a delivery.
func (m *metrics) posted(delivered, last bool, took time.Duration) {
	switch {
	case delivered:
		m.delivered.Observe(took.Seconds())
		return
	case last:
		m.givenUp.Inc()
	}
	m.failed.Inc()
}

func (m *metrics) decided(code keystile.Code, n int) {
	c, ok := m.decisions[code]
	if !ok {
		c = m.others
	}
	c.Add(float64(n))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
