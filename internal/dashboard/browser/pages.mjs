// Every page there is: valid HTML, no accessibility violation, nothing wider
// than a telephone, in both themes; refusals and forms with errors too. The Go
// test names the routes, so a page that is added is looked at without a word
// here, unless its path names something new: say in `things` what.
import { walk, device, get, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  await house.signIn();
  const base = `${given.url}/w/${given.workspace}`;

  // Things for the paths to name. Each is made by a function when it is needed.
  const api = async (method, path, body) => {
    const answer = await house.api(method, path, { body });
    assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const inside = `/v1/workspaces/${given.workspace}`;
  let made = 0;
  const newKey = async (name = `Key number ${++made}`) => (await api("POST", `${inside}/keys`, { name })).key.id;
  const key = await newKey("A key of the walk, with a name that is rather long for a table");
  const old = await newKey("Rotated");
  const fresh = (await api("POST", `/v1/keys/${old}/rotate`, { overlap: "24h" })).key.id;
  const member = (await api("POST", `${inside}/members`, { person: { name: "Ada Byron", email: "ada@example.com" }, role: "developer" })).id;
  const role = (await api("POST", `${inside}/roles`, { name: "Auditor", permissions: ["api.key.view", "api.audit.view"] })).id;
  const secret = (await api("POST", `${inside}/webhook-secrets`, { label: "Orders", environment: "production" })).webhook_secret.id;
  // Nobody listens there, so that a delivery has attempts that failed.
  const endpoint = await api("POST", `${inside}/endpoints`, { url: "https://127.0.0.1:9/events-of-the-workspace/without-a-place-to-break", event_types: ["key.*"], allow_ranges: ["127.0.0.1/32"] });
  await api("POST", `/v1/keys/${await newKey("Leaked")}/revoke`, { reason: "exposure_suspected" });
  let delivery;
  for (let tries = 0; !delivery; tries++) {
    const list = await api("GET", `/v1/endpoints/${endpoint.endpoint.id}/deliveries`);
    delivery = list.data.find((d) => d.attempts > 0)?.id;
    assert.ok(tries < 300, `no delivery was tried: ${JSON.stringify(list)}`);
    if (!delivery) await new Promise((next) => { setTimeout(next, 100); });
  }
  await device(page);
  await page.goto(`${given.url}/account/passkeys/new`);
  await page.getByLabel("Your name").fill("Walker");
  await page.getByLabel("Name of the passkey").fill("Laptop");
  await page.getByRole("button", { name: "Add passkey" }).click();
  await page.getByText("Passkey added").waitFor();
  const [, passkey] = (await get(page, "/account")).text.match(/passkeys\/(pk_\w+)\/remove/);
  const things = {
    workspace: () => given.workspace,
    key: () => key,
    member: () => member,
    role: () => role,
    secret: () => secret,
    endpoint: () => endpoint.endpoint.id,
    signer: () => endpoint.webhook_secret.id,
    delivery: () => delivery,
    token: async () => given.links.pop(),
    id: () => passkey,
  };
  // Queries without which a page shows less, or nothing.
  const queries = {
    "/w/{workspace}/keys/revoke": () => `?key[]=${key}`,
    "/w/{workspace}/keys/delete": () => `?key[]=${key}`,
    "/w/{workspace}/usage": () => "?span=7d",
  };
  for (let i = 0; i < 30; i++) await house.verify(i % 3 ? given.secret : `${given.secret.slice(0, -1)}x`);

  const fill = async (path) => {
    let out = path.replace("{$}", "");
    for (const [hole, name] of path.matchAll(/\{(\w+)\}/g)) {
      assert.ok(things[name], `${path}: say in things what to put for ${hole}`);
      out = out.replace(hole, await things[name]());
    }
    return out + (queries[path]?.() ?? "");
  };

  // Twice: as most have it, and as it is hardest.
  const both = async (name, on = page) => {
    const size = on.viewportSize();
    await on.emulateMedia({ colorScheme: "light" });
    await house.look(`${name}, light and wide`, on);
    for (const width of [1024, 768]) {
      await on.setViewportSize({ width, height: 800 });
      await house.fits(name, on);
    }
    await on.emulateMedia({ colorScheme: "dark" });
    await on.setViewportSize({ width: 360, height: 740 });
    await house.look(`${name}, dark and narrow`, on, ["color-contrast", "target-size", "link-in-text-block", "scrollable-region-focusable"]);
    await on.emulateMedia({ colorScheme: null });
    await on.setViewportSize(size);
  };
  const visit = async (path, status, on = page) => {
    const answer = await on.goto(given.url + path);
    if (status) assert.equal(answer.status(), status, path);
    assert.ok(answer.status() < 500, `${path}: ${answer.status()}`);
    await both(`${answer.status()} ${path}`, on);
  };

  for (const path of given.routes) {
    if (path.endsWith("/export")) { // a file
      const file = await get(page, `${await fill(path)}?format=csv`);
      assert.match(file.name, /^attachment/);
      continue;
    }
    await visit(await fill(path));
  }
  await visit(`/w/${given.workspace}/keys/${old}`, 200);
  await visit(`/w/${given.workspace}/keys/${fresh}/rollback`, 200);
  await visit(`/w/${given.workspace}/keys?q=${"nothing".repeat(10)}`, 200);

  // What a form shows when it is not right, and what it has made.
  const send = async (path, status, fields = {}, on = page) => {
    await on.goto(given.url + path);
    const form = on.locator("main form[method=post]").first();
    await form.evaluate((f) => { f.noValidate = true; });
    for (const [name, value] of Object.entries(fields)) {
      const field = form.locator(`[name="${name}"]`).first();
      if (await field.evaluate((e) => e.tagName === "SELECT")) await field.selectOption(value);
      else if (await field.evaluate((e) => e.type === "radio" || e.type === "checkbox")) await field.check();
      else await field.fill(value);
    }
    const [answer] = await Promise.all([on.waitForResponse((r) => r.request().method() === "POST"), form.locator("button[type=submit]").last().click()]);
    await on.waitForLoadState();
    assert.equal(answer.status(), status, `${path}: ${JSON.stringify(fields)}: ${await on.locator("main").innerText()}`);
    await both(`${status} after ${path}`, on);
  };
  const w = `/w/${given.workspace}`;
  await send(`${w}/keys/new`, 422, { name: "" });
  await send(`${w}/keys/new`, 201, { name: "Shown once" });
  await page.reload().catch(() => {}); // the form is not sent again without being asked
  await send(`${w}/keys/${key}/edit`, 422, { name: "" });
  await send(`${w}/members/new`, 422, { name: "" });
  await send(`${w}/members/new`, 201, { name: "Somebody", role: "viewer" });
  await send(`${w}/members/${member}/link`, 201);
  await send(`${w}/members/${member}/role`, 303, { role: "viewer" });
  await send(`${w}/members/${member}/remove`, 303);
  await send(`${w}/roles/new`, 422, { name: "" });
  await send(`${w}/roles/${role}/edit`, 422, { name: "" });
  await send(`${w}/roles/${role}/delete`, 303);
  await send(`${w}/settings`, 422, { ip_allowlist: "home" });
  await send(`${w}/webhook-secrets/new`, 422, { label: "" });
  await send(`${w}/webhook-secrets/new`, 201, { label: "Shown once", environment: "production" });
  await send(`${w}/webhook-secrets/${secret}/rotate`, 201);
  await send(`${w}/endpoints/new`, 422, { url: "nowhere" });
  await send(`${w}/endpoints/${endpoint.endpoint.id}/test`, 200);
  await send("/workspaces/new", 422, { name: "" });
  await send(`${w}/keys/${await newKey()}/rotate`, 201);
  await send(`${w}/keys/${await newKey()}/revoke`, 303);
  await visit(`${w}/audit?since=yesterday`, 422);
  await visit(`${w}/usage?cursor=1.2`, 422);

  // Refusals.
  await visit("/nowhere", 404);
  await visit("/w/ws_none/keys", 404);
  await visit(`/link/${"A".repeat(43)}`, 401);
  const viewer = await house.somebody();
  await house.signIn(given.viewer, viewer);
  await visit(`${w}/keys`, 200, viewer);
  await visit(`${w}/keys/new`, 403, viewer);
  await visit(`${w}/members`, 200, viewer);
  await visit("/account", 200, viewer);
  // An address that tried too often. Trying is quick, and what is looked at is the end of it.
  let tries = 0;
  while ((await get(viewer, `/link/${"B".repeat(43)}`)).status !== 429) assert.ok(tries++ < 60, "an address may try for ever");
  await visit(`/link/${"B".repeat(43)}`, 429, viewer);

  // Nothing moves for those who asked for that; this walk did.
  await page.goto(`${base}/keys`);
  const moving = await page.evaluate(() => [...document.querySelectorAll("*")].filter((e) => {
    const s = getComputedStyle(e);
    return [s.transitionDuration, s.animationDuration].some((d) => d.split(", ").some((t) => parseFloat(t) > 0));
  }).length);
  assert.equal(moving, 0, "elements move in spite of prefers-reduced-motion");

  // By keyboard alone: to the content, to the first button, and out of its dialog again.
  await page.goto(`${base}/keys`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  for (let i = 0; i < 9 && (await page.evaluate(() => document.activeElement.textContent)) !== "Create API key"; i++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  assert.ok(await dialog.evaluate((d) => d.contains(document.activeElement)), "the dialog does not have the focus");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "BUTTON");
});
