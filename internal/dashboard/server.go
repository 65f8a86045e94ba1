package dashboard

import (
	"errors"
	"net/http"

	"github.com/keystile/keystile"
	"github.com/keystile/keystile/internal/keyring"
)

// serversPage is the list of servers, each with its replicas.
type serversPage struct {
	Servers []keystile.Node
	Risks   []string // what somebody should see to
}

// listServers shows the servers of the installation to operators.
func (v *visit) listServers() error {
	a, err := v.keyring().Enter(v.r.Context(), v.session, keyring.OperatorWorkspace)
	if errors.Is(err, keystile.CodeNotFound) {
		return keystile.NewError(keystile.CodeInsufficientPermission, "Only the operator of this service sees its servers.")
	} else if err != nil {
		return err
	}
	list, err := v.keyring().Nodes(v.r.Context(), a)
	if err != nil {
		return err
	}
	v.door.Look(list.Data)
	v.show(http.StatusOK, "servers", "Servers", serversPage{Servers: list.Data})
	return nil
}
