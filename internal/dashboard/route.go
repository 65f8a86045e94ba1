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
		{pattern: "POST /sign-in/passkey/options", serve: (*visit).passkeyOptions},
		{pattern: "POST /sign-in/passkey", serve: evenly((*visit).signInPasskey)},
		{pattern: "GET /sign-in/openid", serve: (*visit).toProvider},
		{pattern: "GET " + callback, serve: (*visit).fromProvider},
		{pattern: "GET /link/{token}", serve: (*visit).showLink},
		{pattern: "POST /link/{token}", serve: (*visit).openLink},
		{pattern: "GET /link/{token}/openid", serve: (*visit).acceptAtProvider},
		{pattern: "POST /sign-out", serve: (*visit).signOut, person: true},
		{pattern: "GET /account", serve: (*visit).account, person: true},
		{pattern: "GET /account/passkeys/new", serve: (*visit).newPasskey, person: true, fresh: true},
		{pattern: "POST /account/passkeys/options", serve: (*visit).newPasskeyOptions, person: true, fresh: true},
		{pattern: "POST /account/passkeys", serve: (*visit).addPasskey, person: true, fresh: true},
		{pattern: "POST /account/passkeys/{id}", serve: (*visit).renamePasskey, person: true},
		{pattern: "GET /account/passkeys/{id}/remove", serve: (*visit).askRemovePasskey, person: true, fresh: true},
		{pattern: "POST /account/passkeys/{id}/remove", serve: (*visit).removePasskey, person: true, fresh: true},
		{pattern: "POST /account/sessions/{id}/end", serve: (*visit).endSession, person: true},
		{pattern: "POST /account/sign-out-everywhere", serve: (*visit).signOutEverywhere, person: true},
		{pattern: "GET /workspaces", serve: (*visit).listWorkspaces, person: true},

		{pattern: "GET /w/{workspace}/{$}", serve: (*visit).enterWorkspace, member: true},
		{pattern: "GET /w/{workspace}/keys", serve: (*visit).listKeys, member: true, needs: "api.key.view"},
		{pattern: "GET /w/{workspace}/keys/new", serve: (*visit).newKey, member: true, needs: "api.key.create", fresh: true},
		{pattern: "POST /w/{workspace}/keys", serve: (*visit).createKey, member: true, needs: "api.key.create", fresh: true},
	}
}
