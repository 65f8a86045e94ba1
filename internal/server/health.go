package server

import (
	"context"
	"encoding/json"
	"log"
	"log/slog"
	"net/http"
	"time"
)

// healthz tells that the process runs. It fails only with the process.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{\"status\":\"ok\"}\n"))
}

// readyz tells whether this node should get requests.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	answer := struct {
		Ready    bool   `json:"ready"`
		Index    string `json:"index"`
		Database string `json:"database"`
		// Risks are how the database could lose what was answered with success,
		// and servers that lack the master key in use.
		Risks []string `json:"risks,omitempty"`
	}{true, "ok", "ok", nil}
	if until, stale := s.node.Stale(); stale {
		answer.Index = "stale: the database was not reached for too long; as --partition has it, keys are checked from what was known until " +
			until.UTC().Format(time.RFC3339) + ", and everything else is refused"
	} else if _, ok := s.node.Index(); !ok {
		answer.Ready, answer.Index = false, "no lease: the database was not reached for too long"
	}
	if err := s.store.Ping(ctx); err != nil {
		// Verification goes on from memory while the lease lasts; changes don't.
		answer.Database = "unreachable"
		s.config.Log.Debug("readyz: the database does not answer", "error", err)
	} else if answer.Risks, err = s.store.Durability(ctx); err != nil {
		s.config.Log.Debug("readyz: the database's settings can't be read", "error", err)
	} else if s.store.Postgres() {
		if risk, err := s.keyring.MasterKeyRisk(ctx); err != nil {
			s.config.Log.Debug("readyz: what master keys the servers hold can't be read", "error", err)
		} else if risk != "" {
			answer.Risks = append(answer.Risks, risk)
		}
	}
	if s.metrics.draining.Load() {
		answer.Ready, answer.Index = false, "shutting down"
	}
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// quietLog is for what net/http says by itself: clients that break off and
// bad handshakes, which are no one's concern unless looked for.
func quietLog(l *slog.Logger) *log.Logger {
	return slog.NewLogLogger(l.Handler(), slog.LevelDebug)
}
