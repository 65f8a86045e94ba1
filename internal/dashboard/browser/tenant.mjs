// Tenant's manual, step by step (rows TN1 to TN5).
import { walk, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  await house.signIn();
  const create = async (name, environment) => {
    await page.getByRole("button", { name: "Create API key" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill(name);
    await dialog.getByLabel("Environment").selectOption(environment);
    await dialog.getByRole("button", { name: "Create", exact: true }).click();
    const shown = page.getByRole("dialog", { name: "Copy your API key now" });
    const secret = (await shown.locator("output.secret").innerText()).trim();
    await shown.getByRole("button", { name: "Copy", exact: true }).click();
    await shown.getByRole("button", { name: "Done" }).click();
    await house.row(name).waitFor();
    return secret;
  };

  // TN1, TN4: shown once; one key for each environment, told by the key itself.
  await page.getByRole("link", { name: "API Keys", exact: true }).click();
  const dev = await create("Development", "development");
  const stage = await create("Staging", "staging");
  const prod = await create("Production", "production");
  await house.seed([
    { name: "Invoices", environment: "production", calls: 12 },
    { name: "Warehouse export", environment: "production", role: "read-only", description: "Every night at two", calls: 7 },
    { name: "Browser tests", environment: "development", calls: 3 },
    { name: "Laptop of Maria", environment: "development" },
  ]);
  assert.match(dev, /^tn_dev_/);
  assert.match(stage, /^tn_stage_/);
  assert.match(prod, /^tn_prod_/);
  for (const key of [dev, stage, prod]) assert.equal((await house.verify(key)).valid, true);
  for (let i = 0; i < 20; i++) for (const key of [prod, stage]) await house.verify(key, { ip: "203.0.113.24", user_agent: "shop/5.1" });
  await house.counted("Staging");
  await house.shoot("tenant-keys");

  // TN2: rotate; both are valid; both are side by side; roll back revokes the new one.
  const rotate = async () => {
    await page.goto(`${given.url}/w/${given.workspace}/keys`);
    await page.getByRole("link", { name: "Production", exact: true }).first().click();
    await page.getByRole("button", { name: "Rotate" }).click();
    const dialog = page.getByRole("dialog");
    await house.look("rotate dialog");
    await dialog.getByRole("button", { name: "Rotate" }).click();
    const secret = (await page.locator("output.secret").innerText()).trim();
    await page.getByRole("button", { name: "Copy", exact: true }).first().click();
    await page.getByRole("button", { name: "Done" }).click();
    return secret;
  };
  const first = await rotate();
  assert.equal((await house.verify(prod)).valid, true);
  assert.equal((await house.verify(first)).valid, true);
  await page.getByRole("button", { name: /roll back/i }).waitFor();
  await house.shoot("tenant-rotation");
  await page.getByRole("button", { name: /roll back/i }).click();
  await page.getByRole("dialog").getByRole("button", { name: /roll back/i }).click();
  await page.getByRole("status").first().waitFor();
  assert.equal((await house.verify(first)).code, "revoked");
  assert.equal((await house.verify(prod)).valid, true);

  // TN3, TN5: revoke shows recent calls; from then on requests get 401.
  await page.goto(`${given.url}/w/${given.workspace}/keys`);
  await house.row("Staging").getByRole("button", { name: /^Revoke/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText(/recent calls/i).first().waitFor();
  await house.shoot("tenant-revoke");
  // The bars can be told from what is behind them, however dark the brand's
  // colour is (WCAG 1.4.11).
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const contrast = await dialog.evaluate((d) => {
      const pen = document.createElement("canvas").getContext("2d");
      const luminance = (color) => {
        pen.fillStyle = color;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const [a, b] = [getComputedStyle(d.querySelector(".chart .bar")).fill, getComputedStyle(d).backgroundColor].map(luminance);
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
    assert.ok(contrast >= 3, `bars have a contrast of ${contrast} in the ${colorScheme} theme`);
  }
  await page.emulateMedia({ colorScheme: null });
  await dialog.getByRole("button", { name: "Revoke key" }).click();
  await house.row("Staging").getByText("Revoked").first().waitFor();
  assert.equal((await house.api("GET", "/v1/me", { key: stage })).status, 401);
});
