// Voqo's manual, step by step (rows VQ1, VQ2, VQ4, VQ5, VQ8 to VQ10; webhook
// secrets come with their own issue).
import { walk, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  await house.signIn();

  // What others have made before.
  await house.seed([
    { name: "Nightly reporting", role: "reporting", description: "Warehouse job in eu-west", calls: 17, from: "198.51.100.7", program: "reporting/1.9 (go)" },
    { name: "CRM contacts import", owner: "Sales operations", calls: 9 },
    { name: "Campaign starter", environment: "staging", calls: 4, refused: 1 },
    { name: "Load test", environment: "development", expires_at: new Date(Date.now() + 5 * 864e5).toISOString() },
    { name: "Quality dashboard", role: "reporting", calls: 6 },
    { name: "Laptop of a contractor", role: "reporting", environment: "development" },
  ]);

  // VQ1: the target workspace is chosen; Developer Tools.
  await page.goto(`${given.url}/workspaces`);
  await house.shoot("voqo-workspaces");
  await page.getByRole("main").getByRole("link", { name: "Default" }).click();
  await page.getByRole("navigation", { name: "Workspace" }).getByRole("link", { name: "Developer Tools" }).click();
  await page.getByRole("heading", { name: "API keys", exact: true }).waitFor();

  // VQ2: a key with a usage label, shown once.
  await page.getByRole("button", { name: "Create API key" }).click();
  let dialog = page.getByRole("dialog");
  await dialog.getByLabel("Usage label").fill("Call sync");
  await house.look("create dialog");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  dialog = page.getByRole("dialog");
  const secret = (await dialog.locator("output.secret").innerText()).trim();
  await dialog.getByRole("button", { name: "Copy", exact: true }).click();
  await dialog.getByRole("button", { name: "Done" }).click();
  await house.row("Call sync").waitFor();
  for (let i = 0; i < 25; i++) assert.equal((await house.verify(secret, { ip: "203.0.113.24", user_agent: "call-sync/2.4 (node 22)" })).valid, true);
  await house.counted("Call sync");
  await house.shoot("voqo-keys");

  // VQ8: support details that never hold the value.
  await house.row("Call sync").getByRole("link", { name: "Call sync" }).click();
  await page.getByRole("button", { name: /support details/i }).click();
  await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
  const details = await house.clipboard();
  assert.ok(details.includes(given.workspace) && details.includes("Call sync") && !details.includes(secret), details);
  await house.shoot("voqo-key");

  // VQ4: replacement first; both valid; the page shows the last use of both.
  await page.getByRole("button", { name: "Rotate" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Rotate" }).click();
  const fresh = (await page.locator("output.secret").innerText()).trim();
  await page.getByRole("button", { name: "Copy", exact: true }).first().click();
  await page.getByRole("button", { name: "Done" }).click();
  assert.equal((await house.verify(secret)).valid, true);
  assert.equal((await house.verify(fresh)).valid, true);
  await page.getByText(/last used/i).first().waitFor();

  // VQ5: revoke with a reason, which is kept and shown.
  await page.goto(`${given.url}/w/${given.workspace}/keys`);
  const old = await house.api("GET", `/v1/workspaces/${given.workspace}/keys?status=active`);
  const replaced = old.body.data.find((k) => k.replaced_by);
  await page.goto(`${given.url}/w/${given.workspace}/keys/${replaced.id}`);
  await page.getByRole("button", { name: /^Revoke/ }).first().click();
  dialog = page.getByRole("dialog");
  const reason = dialog.getByLabel("Reason");
  for (const offered of ["No longer needed", "Ownership changed", "Exposure suspected"]) {
    assert.ok((await dialog.innerText()).includes(offered) || (await dialog.innerHTML()).includes(offered), offered);
  }
  await reason.first().selectOption({ label: "Ownership changed" });
  await dialog.getByRole("button", { name: /^Revoke/ }).click();
  await page.getByText("Ownership changed").first().waitFor();
  assert.equal((await house.verify(secret)).code, "revoked");

  // VQ9: what is due and what is idle.
  await page.getByRole("link", { name: /hygiene/i }).click();
  await page.getByRole("heading", { level: 1 }).waitFor();
  await house.shoot("voqo-hygiene");

  // VQ10: the plan and permission matrix.
  await page.getByRole("link", { name: /plan/i }).first().click();
  await page.getByRole("heading", { level: 1 }).waitFor();
  for (const plan of ["Starter", "Growth", "Enterprise"]) await page.getByText(plan, { exact: true }).first().waitFor();
  await house.shoot("voqo-plans");

  // VQ1: a member whose role carries no developer tools is refused, in words.
  const member = await house.api("POST", `/v1/workspaces/${given.workspace}/portal-sessions`, { body: { person: { subject: "u-1", name: "Grace" }, role: "agent" } });
  assert.equal(member.status, 201, JSON.stringify(member.body));
  const other = await house.browser.newContext();
  const guest = await other.newPage();
  await guest.goto(member.body.url);
  await guest.getByRole("button", { name: "Sign in" }).click();
  const refused = await guest.goto(`${given.url}/w/${given.workspace}/keys`);
  assert.equal(refused.status(), 403);
  await guest.getByText("administrator of the workspace").first().waitFor();
  assert.equal((await house.api("GET", `/v1/workspaces/${given.workspace}/keys`, { key: fresh })).status, 403);
});
