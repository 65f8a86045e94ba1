// IPAware's manual, step by step (rows IP1 to IP9, IP11, IP13, IP14).
import { walk, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  await house.signIn();
  const keys = `${given.url}/w/${given.workspace}/keys`;

  // IP2: API Keys, + Create New Key, Key Name and Role, Create.
  await page.getByRole("link", { name: "API Keys", exact: true }).first().click();
  await page.getByRole("button", { name: "+ Create New Key" }).click();
  let dialog = page.getByRole("dialog");
  await dialog.getByLabel("Key Name").fill("Production Server");
  await dialog.getByLabel("Role").selectOption({ index: 1 });
  await house.shoot("ipaware-create");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  dialog = page.getByRole("dialog");
  const secret = (await dialog.locator("output.secret").innerText()).trim();
  const id = (await dialog.getByText(/^key_[0-9a-z]+$/).first().innerText()).trim();
  await dialog.getByRole("button", { name: "Copy", exact: true }).first().click();
  await dialog.getByRole("button", { name: "I have copied it" }).click();
  await house.row("Production Server").waitFor();

  await house.api("PATCH", `/v1/workspaces/${given.workspace}`, { body: { plan: "enterprise" } }); // the free one has room for few
  await house.seed([
    { name: "Fraud check", calls: 21 }, { name: "Checkout page", calls: 8 }, { name: "Sign-up form", calls: 5 },
    { name: "Reports of finance", role: "reporting" }, { name: "Staging Server", environment: "staging", calls: 2 },
  ]);
  await page.reload();

  // IP3: the columns, a green badge.
  assert.deepEqual(await house.columns(), ["Name", "Key ID", "Role", "Created", "Status", "Actions"]);
  const row = house.row("Production Server");
  await row.getByText(id).waitFor();
  const colour = await row.getByText("Active", { exact: true }).evaluate((e) => getComputedStyle(e).color);
  const [r, g, b] = colour.match(/[\d.]+/g).map(Number);
  assert.ok(g > r && g > b, `the badge is ${colour}`);
  await house.shoot("ipaware-keys");

  // IP4: Edit changes name and role; a change of role takes effect at once.
  await row.getByRole("button", { name: /^Edit/ }).click();
  dialog = page.getByRole("dialog");
  await dialog.getByLabel("Key Name").fill("Production Server v2");
  const role = await dialog.getByLabel("Role").locator("option").nth(2).getAttribute("value");
  await dialog.getByLabel("Role").selectOption(role);
  assert.ok(!(await dialog.innerHTML()).includes(secret));
  await house.look("edit dialog");
  await dialog.getByRole("button", { name: "Save Changes" }).click();
  await house.row("Production Server v2").waitFor();
  assert.equal((await house.verify(secret)).role, role);

  // IP6: a custom role of one's own, and IP7's permissions are what it can be made of.
  await page.getByRole("link", { name: "Roles" }).click();
  await page.getByRole("button", { name: /role/i }).first().click();
  dialog = page.getByRole("dialog");
  await dialog.getByLabel(/name/i).first().fill("Auditor");
  for (const p of ["api.key.view", "api.audit.view"]) await dialog.getByLabel(p, { exact: false }).first().check();
  await house.look("role dialog");
  await dialog.getByRole("button", { name: /create/i }).click();
  await page.getByText("Auditor").first().waitFor();
  await house.shoot("ipaware-roles");

  // IP13: members are invited and hold roles.
  await page.getByRole("link", { name: "Members" }).click();
  await page.getByRole("button", { name: /invite/i }).click();
  dialog = page.getByRole("dialog");
  await dialog.getByLabel(/name/i).first().fill("Ada Byron");
  await dialog.getByLabel("Role").selectOption("Auditor");
  await dialog.getByRole("button", { name: /invite/i }).click();
  const link = (await page.locator("output.secret").innerText()).trim();
  assert.match(link, /\/link\/[\w-]{43}$/);
  await house.look("invited");

  // IP5: Revoke warns; Revoke Key confirms; it fails at once and leaves the table.
  await page.goto(keys);
  await house.row("Production Server v2").getByRole("button", { name: /^Revoke/ }).click();
  dialog = page.getByRole("dialog");
  await dialog.getByText("Applications using this key will stop working").waitFor();
  await house.look("revoke dialog");
  await dialog.getByRole("button", { name: "Revoke Key" }).click();
  await house.row("Production Server v2").waitFor({ state: "detached" });
  assert.equal((await house.verify(secret)).code, "revoked");
  await page.getByRole("link", { name: "Audit log" }).click();
  await page.getByText("Production Server v2").first().waitFor();
  await house.shoot("ipaware-audit");

  // The invited member comes in, and sees what the role opens and no more.
  const other = await house.browser.newContext();
  const guest = await other.newPage();
  await guest.goto(link);
  await guest.getByText("Ada Byron").waitFor();
  await guest.getByRole("button", { name: "Sign in" }).click();
  await guest.goto(keys);
  assert.equal(await guest.getByRole("button", { name: "+ Create New Key" }).count(), 0);
  const refused = await guest.goto(`${keys}/new`);
  assert.equal(refused.status(), 403);
  await guest.getByText("api.key.create").first().waitFor();

  // IP14: a key that others may have is revoked; its log of use opens, and whoever
  // manages keys is told.
  const { body: leaked } = await house.api("POST", `/v1/workspaces/${given.workspace}/keys`, { body: { name: "Mobile app" } });
  await house.api("GET", "/v1/me", { key: leaked.secret });
  await page.goto(keys);
  await house.row("Mobile app").getByRole("button", { name: /^Revoke/ }).click();
  dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").selectOption({ label: "Exposure suspected" });
  await dialog.getByRole("button", { name: "Revoke Key" }).click();
  await page.getByRole("heading", { name: "Log of use" }).waitFor();
  await page.goto(keys);
  await page.getByText("Mobile app was revoked for suspected exposure").waitFor();
  await house.look("an exposure above the list");
  await page.getByRole("link", { name: /^Alerts \d new$/ }).click();
  await page.getByRole("heading", { name: "Exposure suspected: Mobile app" }).waitFor();

  // IP11: an alert on failed authentication attempts, with its facts.
  const requests = Array.from({ length: 120 }, (_, i) => ({ key: leaked.secret, ip: `203.0.113.${i % 3}`, user_agent: "old-app/1.2" }));
  assert.ok((await house.api("POST", "/v1/verify/batch", { body: { requests } })).body.data.every((d) => d.code === "revoked"));
  for (const heading of ["Failed authentication", "Ended key still tried: Mobile app"]) {
    for (let i = 0; !(await page.getByRole("heading", { name: heading }).count()); i++) {
      assert.ok(i < 120, `${heading} is not told of after a minute`);
      await page.waitForTimeout(500);
      await page.reload();
    }
  }
  await page.getByText("203.0.113.2").first().waitFor();
  await page.getByText("old-app/1.2").first().waitFor();
  await house.shoot("ipaware-alerts");
  await page.getByRole("button", { name: "Mark as seen" }).first().click();
  await page.getByText("Noted.").waitFor();
  await page.getByRole("link", { name: "See the log of use" }).first().click();
  await page.getByRole("heading", { name: "Log of use" }).waitFor();

  // IP8: the workspace's whitelist; what would lock its editor out is asked about.
  await page.getByRole("link", { name: "Settings" }).click();
  await page.getByLabel(/addresses/i).fill("203.0.113.0/24\n2001:db8::/32");
  await page.getByRole("button", { name: /save/i }).last().click();
  await house.look("settings");
  const shut = await guest.goto(keys);
  assert.equal(shut.status(), 403);
  await guest.getByText("certain addresses only").waitFor();
});
