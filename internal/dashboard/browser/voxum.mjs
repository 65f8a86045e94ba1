// Voxum's manual, step by step (rows VX1 to VX7).
import { walk, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  await house.signIn();

  // VX1: API Keys in the left menu.
  await page.getByRole("navigation", { name: "Workspace" }).getByRole("link", { name: "API Keys" }).click();
  await page.getByText("No API Keys").waitFor();

  // VX2: the name is required; a name that says nothing gets a nudge.
  await page.getByRole("button", { name: "Create API Key" }).click();
  let dialog = page.getByRole("dialog");
  await dialog.getByText("descriptive name").first().waitFor();
  await dialog.getByLabel("Name").fill("Key 1");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  // The nudge is no refusal: the key is there, and the page says what would be better.
  dialog = page.getByRole("dialog");
  await dialog.locator("output.secret").waitFor();
  await page.getByText(/Key 1.*(tells|says|say)/).first().waitFor();
  await dialog.getByRole("button", { name: "Copy", exact: true }).click();
  await dialog.getByRole("button", { name: "Done" }).click();

  // VX3: shown once; begins with vx_. Closing it uncopied asks first.
  await page.getByRole("button", { name: "Create API Key" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("Inventory Integration");
  await page.getByRole("dialog").getByRole("button", { name: "Create", exact: true }).click();
  dialog = page.getByRole("dialog", { name: "Save Your Key" });
  await dialog.waitFor();
  const secret = (await dialog.locator("output.secret").innerText()).trim();
  assert.match(secret, /^vx_/);
  const curl = await dialog.locator("pre").innerText();
  assert.ok(curl.includes("X-API-Key: "), curl);
  await house.shoot("voxum-created");
  let asked = "";
  page.once("dialog", (d) => { asked = d.message(); d.dismiss(); });
  await dialog.getByRole("button", { name: "Done" }).click();
  assert.match(asked, /copied/i);
  await dialog.getByRole("button", { name: "Copy", exact: true }).click();
  await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
  assert.equal(await house.clipboard(), secret);
  // A reload of the page that showed it makes no second key and shows no secret.
  await page.reload();
  assert.ok(!(await page.content()).includes(secret), "a reload shows the key again");
  await page.goto(`${given.url}/w/${given.workspace}/keys`);
  assert.equal(await house.row("Inventory Integration").count(), 1);

  await house.seed([
    { name: "Point of sale", calls: 14 }, { name: "Warehouse scanner", calls: 9 }, { name: "Price labels", calls: 3 },
    { name: "Accounting export", description: "Monthly" }, { name: "Supplier portal", calls: 5 },
  ]);
  for (let i = 0; i < 20; i++) await house.verify(secret, { ip: "203.0.113.24", user_agent: "inventory/3.0" });
  await house.counted("Inventory Integration");

  // VX4: the columns.
  assert.deepEqual(await house.columns(), ["Name", "Key preview", "Created", "Last used", "Status", "Actions"]);
  assert.equal((await house.api("GET", "/v1/me", { key: null, headers: { "X-API-Key": secret } })).status, 200);
  const row = house.row("Inventory Integration");
  const preview = (await row.locator("code").first().innerText()).trim();
  assert.ok(preview.startsWith(secret.slice(0, 6)), preview);
  await row.getByText("Active").waitFor();
  await house.shoot("voxum-keys");

  // VX5: Revoke asks; the key stops at once; the record stays as Revoked.
  await row.getByRole("button", { name: /^Revoke/ }).click();
  dialog = page.getByRole("dialog", { name: "Revoke API Key" });
  await dialog.waitFor();
  await dialog.getByText("The key stops working immediately").waitFor();
  await house.look("revoke dialog");
  await dialog.getByRole("button", { name: "Revoke Key" }).click();
  await house.row("Inventory Integration").getByText("Revoked").first().waitFor();
  const refused = await house.api("GET", "/v1/me", { key: null, headers: { "X-API-Key": secret } });
  assert.equal(refused.status, 401);
  assert.equal(refused.body.title, "Unauthorized"); // VX6
  assert.equal(refused.body.code, "revoked");

  // VX7: what a key may do, and how it was used.
  await house.row("Inventory Integration").getByRole("link", { name: "Inventory Integration" }).click();
  await page.getByText("inventory.*").first().waitFor();
  await house.shoot("voxum-key");
});
