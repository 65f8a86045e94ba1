package dashboard

// route is a page or a form. This list is all there is.
type route struct {
	pattern string
	serve   func(*visit) error
	person  bool   // for people who are signed in
	member  bool   // and have a place in the workspace that the path names
	needs   string // permission without which the page refuses at once
	fresh   bool   // only for a while after signing in
}

func routes() []route {
	return []route{
		{pattern: "GET /{$}", serve: (*visit).start},
		{pattern: "GET /sign-in", serve: (*visit).signIn},
		{pattern: "GET /link/{token}", serve: (*visit).showLink},
		{pattern: "POST /link/{token}", serve: (*visit).openLink},
		{pattern: "POST /sign-out", serve: (*visit).signOut, person: true},
		{pattern: "GET /workspaces", serve: (*visit).listWorkspaces, person: true},

		{pattern: "GET /w/{workspace}/{$}", serve: (*visit).enterWorkspace, member: true},
		{pattern: "GET /w/{workspace}/keys", serve: (*visit).listKeys, member: true, needs: "api.key.view"},
		{pattern: "GET /w/{workspace}/keys/new", serve: (*visit).newKey, member: true, needs: "api.key.create", fresh: true},
		{pattern: "POST /w/{workspace}/keys", serve: (*visit).createKey, member: true, needs: "api.key.create", fresh: true},
		{pattern: "GET /w/{workspace}/keys/revoke", serve: (*visit).revokeKeysPage, member: true, needs: "api.key.delete"},
		{pattern: "POST /w/{workspace}/keys/revoke", serve: (*visit).revokeKeys, member: true, needs: "api.key.delete"},
		{pattern: "GET /w/{workspace}/keys/delete", serve: (*visit).deleteKeysPage, member: true, needs: "api.key.delete", fresh: true},
		{pattern: "POST /w/{workspace}/keys/delete", serve: (*visit).deleteKeys, member: true, needs: "api.key.delete", fresh: true},
		{pattern: "GET /w/{workspace}/keys/{key}", serve: (*visit).showKey, member: true, needs: "api.key.view"},
		{pattern: "GET /w/{workspace}/keys/{key}/edit", serve: (*visit).editKey, member: true, needs: "api.key.update"},
		{pattern: "POST /w/{workspace}/keys/{key}/edit", serve: (*visit).saveKey, member: true, needs: "api.key.update"},
		{pattern: "GET /w/{workspace}/keys/{key}/rotate", serve: (*visit).rotateKeyPage, member: true, needs: "api.key.create", fresh: true},
		{pattern: "POST /w/{workspace}/keys/{key}/rotate", serve: (*visit).rotateKey, member: true, needs: "api.key.create", fresh: true},
		{pattern: "GET /w/{workspace}/keys/{key}/rollback", serve: (*visit).rollBackPage, member: true, needs: "api.key.delete"},
		{pattern: "POST /w/{workspace}/keys/{key}/rollback", serve: (*visit).rollBack, member: true, needs: "api.key.delete"},
		{pattern: "GET /w/{workspace}/keys/{key}/revoke", serve: (*visit).revokeKeyPage, member: true, needs: "api.key.delete"},
		{pattern: "POST /w/{workspace}/keys/{key}/revoke", serve: (*visit).revokeKey, member: true, needs: "api.key.delete"},
		{pattern: "GET /w/{workspace}/keys/{key}/delete", serve: (*visit).deleteKeyPage, member: true, needs: "api.key.delete", fresh: true},
		{pattern: "POST /w/{workspace}/keys/{key}/delete", serve: (*visit).deleteKey, member: true, needs: "api.key.delete", fresh: true},
		{pattern: "GET /w/{workspace}/keys/{key}/disable", serve: (*visit).disableKeyPage, member: true, needs: "api.key.update"},
		{pattern: "POST /w/{workspace}/keys/{key}/disable", serve: (*visit).disableKey, member: true, needs: "api.key.update"},
		{pattern: "POST /w/{workspace}/keys/{key}/enable", serve: (*visit).enableKey, member: true, needs: "api.key.update"},
		{pattern: "POST /w/{workspace}/keys/{key}/review", serve: (*visit).reviewKey, member: true, needs: "api.key.update"},
		{pattern: "GET /w/{workspace}/hygiene", serve: (*visit).showHygiene, member: true, needs: "api.key.view"},
		{pattern: "GET /w/{workspace}/integrations", serve: (*visit).listThirdParties, member: true},
		{pattern: "GET /w/{workspace}/integrations/zapier", serve: (*visit).showZapier, member: true},
	}
}
