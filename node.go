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

// Nodes lists the servers of the installation. One that has died is listed
// until nobody has to wait for it any more, 15 s or a little longer.
func (c *Client) Nodes(ctx context.Context) (List[Node], error) {
	return fetch[List[Node]](ctx, c, get("/v1/nodes", nil))
}
