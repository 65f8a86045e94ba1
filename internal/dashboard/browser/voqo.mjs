// Voqo's manual, step by step (rows VQ1 to VQ5 and VQ7 to VQ10).
import { createHmac } from "node:crypto";
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

  // VQ3: the webhook secret section of Developer Tools; one secret for each
  // consumer environment, with a label, shown once.
  await page.getByRole("navigation", { name: "Workspace" }).getByRole("link", { name: "Developer Tools" }).click();
  await page.getByRole("link", { name: "Webhook secrets", exact: true }).click();
  await page.getByRole("heading", { name: "Webhook secrets", exact: true }).waitFor();
  await house.look("no webhook secrets");
  const makeSecret = async (label, environment) => {
    await page.getByRole("button", { name: "Create webhook secret" }).click();
    let dialog = page.getByRole("dialog");
    await dialog.getByLabel("Label").fill(label);
    await dialog.getByLabel("Consumer environment").selectOption({ label: environment });
    await house.look("webhook secret dialog");
    await dialog.getByRole("button", { name: "Create", exact: true }).click();
    await page.getByRole("heading", { name: "Save your webhook secret" }).waitFor();
    dialog = page.getByRole("dialog");
    const secret = (await dialog.locator("output.secret").innerText()).trim();
    assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
    await house.look("created webhook secret");
    if (environment === "Staging") { // closing it uncopied asks
      let asked = "";
      page.once("dialog", (d) => { asked = d.message(); d.dismiss(); });
      await dialog.getByRole("button", { name: "Done" }).click();
      assert.match(asked, /not copied yet/);
    }
    await dialog.getByRole("button", { name: "Copy", exact: true }).click();
    await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
    assert.equal(await house.clipboard(), secret);
    await dialog.getByRole("button", { name: "Done" }).click();
    await house.row(label).first().waitFor();
    assert.ok(!(await page.content()).includes(secret), "the list shows the secret");
    return secret;
  };
  const production = await makeSecret("Order service", "Production");
  await makeSecret("Order service, staging", "Staging");
  await house.shoot("voqo-webhook-secrets");

  // A consumer verifies by the specification alone.
  const sign = async (payload, more) => {
    const answer = await house.api("POST", `/v1/workspaces/${given.workspace}/webhooks/sign`, { body: { payload, ...more } });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body.headers;
  };
  const accepts = (secret, headers, payload) => {
    const key = Buffer.from(secret.slice("whsec_".length), "base64");
    const mac = createHmac("sha256", key).update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${payload}`).digest("base64");
    return headers["webhook-signature"].split(" ").includes(`v1,${mac}`);
  };
  const payload = '{\n  "type": "call.ended",\n  "minutes": 12\n}';
  let headers = await sign(payload, { environment: "production" });
  assert.ok(accepts(production, headers, payload));

  // VQ4 for a webhook secret: replacement first, both sign, and the page shows
  // when each last signed and was last verified.
  await house.row("Order service").getByRole("link", { name: "Order service", exact: true }).click();
  const oldPage = page.url();
  await page.getByRole("button", { name: "Rotate" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Rotate" }).click();
  await page.getByRole("heading", { name: "Save your webhook secret" }).waitFor();
  const replacement = (await page.locator("output.secret").innerText()).trim();
  await page.getByRole("dialog").getByRole("button", { name: "Copy", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Done" }).click();
  await page.getByRole("heading", { name: "Old secret" }).waitFor();
  await page.getByText("Last verified").first().waitFor();
  await house.shoot("voqo-webhook-rotation");
  const newPage = page.url();
  headers = await sign(payload, { environment: "production" });
  assert.ok(accepts(production, headers, payload) && accepts(replacement, headers, payload), "both sign");
  headers = await sign(payload, { webhook_secret: newPage.split("/").pop() });
  assert.ok(!accepts(production, headers, payload) && accepts(replacement, headers, payload), "the new one signs alone");

  // VQ7: the debugger says why a webhook fails.
  const text = (given) => Object.entries(given).map(([name, value]) => `${name}: ${value}`).join("\n");
  const explain = async ({ lines = text(headers), body = payload, secret = "", environment = "Production" }) => {
    await page.goto(`${given.url}/w/${given.workspace}/webhook-debugger`);
    await page.getByLabel("Headers").fill(lines);
    await page.getByLabel("Body").fill(body);
    await page.getByLabel("Consumer environment").selectOption({ label: environment });
    await page.getByLabel("Secret that the consumer has").fill(secret);
    await page.getByRole("button", { name: "Explain" }).click();
    await page.locator("#verdict").waitFor();
    return page.getByRole("main").innerText();
  };
  assert.match(await explain({}), /The webhook is good[^]*Order service/);
  assert.match(await explain({ secret: replacement }), /The webhook is good/);
  await house.look("good webhook");
  assert.match(await explain({ secret: production }), /consumer has another one: one that is in use and did not sign/);
  assert.match(await explain({ body: JSON.stringify(JSON.parse(payload)) }), /parsed and written again/);
  await house.shoot("voqo-debugger-reserialized");
  assert.match(await explain({ environment: "Staging" }), /another consumer environment/);
  const mac = (algorithm, key, at) => createHmac(algorithm, key).update(`msg_1.${at}.${payload}`).digest("base64");
  const bytes = Buffer.from(replacement.slice("whsec_".length), "base64");
  const now = Math.floor(Date.now() / 1000);
  const made = (signature, at = now) => text({ "webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": `v1,${signature}` });
  assert.match(await explain({ lines: made(mac("sha1", bytes, now)) }), /HMAC-SHA1/);
  assert.match(await explain({ lines: made(mac("sha256", bytes, now - 600), now - 600) }), /more than five minutes ago/);
  assert.match(await explain({ lines: made(mac("sha256", replacement, now)) }), /text of the secret was used as the key/);
  assert.ok(!(await page.content()).includes(replacement), "the debugger shows the secret again");

  // Then the old one is safe to revoke, and is revoked with a reason.
  await page.waitForFunction(async (at) => (await (await fetch(at)).text()).includes("Safe to revoke"), oldPage, { polling: 500, timeout: 60000 });
  await page.goto(oldPage);
  await page.getByText("Safe to revoke").first().waitFor();
  await house.look("safe to revoke");
  await page.getByRole("button", { name: "Revoke the old secret" }).click();
  dialog = page.getByRole("dialog");
  await dialog.getByLabel("Reason").first().selectOption({ label: "No longer needed" });
  await house.look("revoke webhook secret");
  await dialog.getByRole("button", { name: "Revoke webhook secret" }).click();
  await page.getByText("It signs nothing from now on").waitFor();
  headers = await sign(payload, { environment: "production" });
  assert.ok(!accepts(production, headers, payload) && accepts(replacement, headers, payload), "the old one signs no more");
  assert.match(await explain({ secret: production }), /an old one that is revoked or expired/);
  await house.look("old secret");

  // VQ8: support details of a webhook secret, without the value.
  await page.goto(newPage);
  await page.getByRole("button", { name: /support details/i }).click();
  await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
  const about = await house.clipboard();
  assert.ok(about.includes(given.workspace) && about.includes("Order service") && !about.includes(replacement), about);

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
