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
		{pattern: "GET /workspaces/new", serve: (*visit).newWorkspace, person: true, fresh: true},
		{pattern: "POST /workspaces", serve: (*visit).createWorkspace, person: true, fresh: true},

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
		{pattern: "POST /w/{workspace}/keys/{key}/enable", serve: (*visit).enableKey, member: true, needs: "api.key.update", fresh: true},
		{pattern: "POST /w/{workspace}/keys/{key}/review", serve: (*visit).reviewKey, member: true, needs: "api.key.update"},
		{pattern: "GET /w/{workspace}/hygiene", serve: (*visit).showHygiene, member: true, needs: "api.key.view"},
		{pattern: "GET /w/{workspace}/integrations", serve: (*visit).listThirdParties, member: true},
		{pattern: "GET /w/{workspace}/integrations/zapier", serve: (*visit).showZapier, member: true},

		{pattern: "GET /w/{workspace}/members", serve: (*visit).listMembers, member: true, needs: "api.member.view"},
		{pattern: "GET /w/{workspace}/members/new", serve: (*visit).newMember, member: true, needs: "api.member.create", fresh: true},
		{pattern: "POST /w/{workspace}/members", serve: (*visit).createMember, member: true, needs: "api.member.create", fresh: true},
		{pattern: "GET /w/{workspace}/members/{member}/role", serve: (*visit).editMember, member: true, needs: "api.member.update", fresh: true},
		{pattern: "POST /w/{workspace}/members/{member}/role", serve: (*visit).updateMember, member: true, needs: "api.member.update", fresh: true},
		{pattern: "GET /w/{workspace}/members/{member}/link", serve: (*visit).newInvitation, member: true, needs: "api.member.create", fresh: true},
		{pattern: "POST /w/{workspace}/members/{member}/link", serve: (*visit).createInvitation, member: true, needs: "api.member.create", fresh: true},
		{pattern: "GET /w/{workspace}/members/{member}/remove", serve: (*visit).leavingMember, member: true, needs: "api.member.delete", fresh: true},
		{pattern: "POST /w/{workspace}/members/{member}/remove", serve: (*visit).removeMember, member: true, needs: "api.member.delete", fresh: true},

		{pattern: "GET /w/{workspace}/roles", serve: (*visit).listRoles, member: true, needs: "api.role.view"},
		{pattern: "GET /w/{workspace}/roles/new", serve: (*visit).newRole, member: true, needs: "api.role.create", fresh: true},
		{pattern: "POST /w/{workspace}/roles", serve: (*visit).createRole, member: true, needs: "api.role.create", fresh: true},
		{pattern: "GET /w/{workspace}/roles/{role}/edit", serve: (*visit).editRole, member: true, needs: "api.role.update", fresh: true},
		{pattern: "POST /w/{workspace}/roles/{role}/edit", serve: (*visit).updateRole, member: true, needs: "api.role.update", fresh: true},
		{pattern: "GET /w/{workspace}/roles/{role}/delete", serve: (*visit).endingRole, member: true, needs: "api.role.delete", fresh: true},
		{pattern: "POST /w/{workspace}/roles/{role}/delete", serve: (*visit).deleteRole, member: true, needs: "api.role.delete", fresh: true},

		{pattern: "GET /w/{workspace}/settings", serve: (*visit).showSettings, member: true, needs: "api.workspace.view"},
		{pattern: "POST /w/{workspace}/settings", serve: (*visit).updateSettings, member: true, needs: "api.workspace.update"},
		{pattern: "GET /w/{workspace}/settings/plan", serve: (*visit).editPlan, member: true, needs: "platform.workspace.update", fresh: true},
		{pattern: "POST /w/{workspace}/settings/plan", serve: (*visit).updatePlan, member: true, needs: "platform.workspace.update", fresh: true},
		{pattern: "GET /w/{workspace}/settings/suspend", serve: (*visit).confirmSuspend, member: true, needs: "platform.workspace.suspend"},
		{pattern: "POST /w/{workspace}/settings/suspend", serve: (*visit).suspendWorkspace, member: true, needs: "platform.workspace.suspend"},
		{pattern: "POST /w/{workspace}/settings/resume", serve: (*visit).resumeWorkspace, member: true, needs: "platform.workspace.suspend", fresh: true},

		{pattern: "GET /w/{workspace}/plans", serve: (*visit).showPlans, member: true, needs: "api.workspace.view"},
		{pattern: "GET /w/{workspace}/usage", serve: (*visit).showUsage, member: true, needs: "api.usage.view"},
		{pattern: "GET /w/{workspace}/audit", serve: (*visit).showAudit, member: true, needs: "api.audit.view"},
		{pattern: "GET /w/{workspace}/audit/export", serve: (*visit).exportAudit, member: true, needs: "api.audit.view"},
	}
}
