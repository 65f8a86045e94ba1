package keystile

import (
	"context"
	"time"
)

// Node is a server process that answers verifications from memory.
type Node struct {
	ID        string    `json:"id" doc:"Of this process; another one after each start"`
	Name      string    `json:"name" doc:"Host name"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	// Applied is the position in the change log that the node and all replicas
	// attached to it have reached, and Lag how many changes are behind it.
	Applied int64 `json:"applied" doc:"Position in the change log that it and its replicas have reached"`
	Lag     int64 `json:"lag" doc:"How many changes that is behind the newest"`
	// Lease is for how long it may answer at most without reaching the database
	// again, as far as the server knows that was asked.
	Lease string `json:"lease,omitempty" example:"11s" doc:"For how long it may answer at most without reaching the database again, as far as the server that answers can tell; absent: it can't"`
	Self  bool   `json:"self,omitempty" doc:"It is the server that answers"`
	// StaleFor is for how long it goes on checking keys after its lease.
	StaleFor string `json:"stale_for,omitempty" example:"5m0s" doc:"For how long it goes on checking keys without a lease, as --partition has it; absent: not at all"`
	// Replicas are those attached to it, the first hundred, as it said a few
	// seconds ago; ReplicaCount is how many there are.
	Replicas     []Replica `json:"replicas" nullable:"false" doc:"Attached to it, the first 100, as of a few seconds ago"`
	ReplicaCount int       `json:"replica_count"`
	// MasterKeys are the IDs of the master keys that it holds; absent when it
	// has not said.
	MasterKeys []string `json:"master_keys,omitempty" doc:"IDs of the master keys that it holds; absent: none, or it has not said"`
}

// Replica is a process that answers verifications from a copy of a server's
// index: a program with package replica, or an agent.
type Replica struct {
	Address string `json:"address,omitempty" doc:"Where it attached from"`
	Program string `json:"program,omitempty" doc:"What it says it is"`
	Applied int64  `json:"applied" doc:"Position in the change log that it has reached"`
	Leased  bool   `json:"leased" doc:"It may answer now"`
	KeyID   string `json:"key_id,omitempty" doc:"Of the key that it has attached with"`
	// Late is how many changes have waited for it for 3 s and longer. After the
	// third within five minutes it gets no lease for five minutes.
	Late         int        `json:"late,omitempty" doc:"How many changes have waited for it for 3 s and longer in the last five minutes, while it asked on for leases"`
	RefusedUntil *time.Time `json:"refused_until,omitempty" doc:"Until then it gets no lease, because three changes waited for it"`
}

// UnreachedHeader is the header of an answer that names servers as a list of
// [Unreached] in JSON, whatever the answer's body.
const UnreachedHeader = "X-Keystile-Unreached"

// Unreached is a server that a change which takes access away has not reached:
// it has lost the database, and was set to go on checking keys for a while from
// what it knew (--partition serve-stale).
type Unreached struct {
	Node  string    `json:"node" doc:"ID of the process, as GET /v1/nodes has it"`
	Name  string    `json:"name,omitempty" doc:"Host name"`
	Until time.Time `json:"until" doc:"From then on it refuses what was taken away, or everything; sooner if it reaches the database again"`
}

// Nodes lists the servers of the installation. One that has died is listed
// until nobody has to wait for it any more, 15 s or a little longer.
func (c *Client) Nodes(ctx context.Context) (List[Node], error) {
	return fetch[List[Node]](ctx, c, get("/v1/nodes", nil))
}
