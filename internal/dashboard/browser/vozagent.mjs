// VozAgent's manual, step by step (rows VZ1 to VZ7).
import { walk, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  await house.signIn();

  // VZ1: Integrations in the sidebar, the tab API Keys, the empty state.
  await page.getByRole("navigation", { name: "Workspace" }).getByRole("link", { name: "Integrations" }).click();
  await page.getByRole("link", { name: "API Keys", exact: true }).click();
  await page.getByText("No API Keys Yet").waitFor();
  await house.shoot("vozagent-empty");

  // VZ2: Create API Key opens a dialog; Name is required, Description is not.
  await page.getByRole("button", { name: "Create API Key", exact: true }).click();
  let dialog = page.getByRole("dialog");
  await dialog.waitFor();
  assert.equal(await dialog.getByLabel("Name").getAttribute("required"), "");
  await house.look("create dialog");
  await dialog.getByLabel("Name").fill("Zapier Production");
  await dialog.getByLabel("Description").fill("For our live Zapier integration");
  await dialog.getByRole("button", { name: "Create API Key" }).click();

  // VZ3: the full key, once; copying says so; Done.
  dialog = page.getByRole("dialog");
  await dialog.getByText("This is the only time you will see the full key").waitFor();
  const secret = (await dialog.locator("output.secret").innerText()).trim();
  assert.match(secret, /^gw_[0-9A-Za-z]{30,}$/);
  await house.look("created dialog");
  await dialog.getByRole("button", { name: "Copy", exact: true }).click();
  await page.getByRole("status").filter({ hasText: "Copied to the clipboard" }).waitFor();
  assert.equal(await house.clipboard(), secret);
  await dialog.getByRole("button", { name: "Done" }).click();
  await page.waitForURL(/\/keys$/);
  assert.ok(!(await page.content()).includes(secret), "the list shows the key");
  // The browser would have to send the form again, and asks; whatever it shows
  // is not the key.
  await page.goBack({ timeout: 5000 }).catch(() => {});
  await page.waitForTimeout(500);
  assert.ok(!(await page.content().catch(() => "")).includes(secret), "going back shows the key again");
  await page.goto(`${given.url}/w/${given.workspace}/keys`);
  assert.equal((await house.verify(secret)).valid, true);

  // VZ4: the columns.
  assert.deepEqual(await house.columns(), ["Name", "Key", "Created", "Actions"]);
  await house.seed([
    { name: "CRM bridge", description: "Contacts, both ways", calls: 6 }, { name: "Call recordings", description: "Copies to the archive", calls: 3 },
    { name: "Analytics", calls: 9 }, { name: "Staging tests" }, { name: "Website widget", calls: 4 },
  ]);
  await page.reload();
  const row = house.row("Zapier Production");
  await row.getByText("For our live Zapier integration").waitFor();
  const preview = (await row.locator("code").first().innerText()).trim();
  assert.match(preview, /^gw_[•….]+[0-9A-Za-z]{4,}$/);
  assert.ok(preview.endsWith(secret.slice(-4)), preview);
  await house.shoot("vozagent-keys");

  // VZ5: Copy in the table copies the preview, which is told apart when sent.
  await row.getByRole("button", { name: /^Copy/ }).click();
  await page.getByRole("status").filter({ hasText: "Copied to the clipboard" }).waitFor();
  assert.equal(await house.clipboard(), preview);
  const told = await house.verify(preview);
  assert.equal(told.code, "malformed");
  assert.equal(told.hint, "masked_preview");

  // VZ2: with a key there, the button is called Create New API Key.
  await page.getByRole("button", { name: "Create New API Key" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("Development Testing");
  await page.getByRole("dialog").getByRole("button", { name: "Create API Key" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Copy", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Done" }).click();
  await house.row("Development Testing").waitFor();

  // VZ6: the trash icon asks, naming the key; Delete deletes at once.
  await house.row("Zapier Production").getByRole("button", { name: /^Delete/ }).click();
  dialog = page.getByRole("dialog");
  await dialog.getByText("Zapier Production").first().waitFor();
  await house.look("delete dialog");
  await dialog.getByRole("button", { name: "Delete", exact: true }).click();
  await house.row("Zapier Production").waitFor({ state: "detached" });
  assert.equal((await house.verify(secret)).code, "unknown");

  // VZ7: Integrations > Third Parties > Zapier.
  await page.getByRole("link", { name: "Third Parties" }).click();
  await page.getByRole("link", { name: "Zapier" }).click();
  await page.getByRole("heading", { name: /Zapier/ }).waitFor();
  await house.shoot("vozagent-zapier");
});
