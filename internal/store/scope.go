package store

// Scope says whose rows a query may touch. Every query of tenants' rows takes
// one and has it in its SQL, so a caller that names no workspace reads
// nothing: the zero Scope matches no row.
type Scope struct {
	workspace string
	all       bool
}

// OneWorkspace is the scope of one workspace's rows.
func OneWorkspace(id string) Scope { return Scope{workspace: id} }

// AllWorkspaces is the scope of every workspace's rows: the operator's.
func AllWorkspaces() Scope { return Scope{all: true} }

// args are the two values that the condition
// (workspace_id = $n OR $n+1 = 1) takes.
func (s Scope) args() (string, int64) { return s.workspace, flag(s.all) }
