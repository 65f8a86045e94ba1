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
