// What differs from reader to reader: no JavaScript, another time zone, a page
// that is left open while things change.
import { walk, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  await house.signIn();
  const keys = `${given.url}/w/${given.workspace}/keys`;
  const newKey = async (name) => (await house.api("POST", `/v1/workspaces/${given.workspace}/keys`, { body: { name } })).body;
  const urgent = { revoke: await newKey("To revoke"), disable: await newKey("To disable"), bulk: await newKey("To revoke with others") };
  const watched = await newKey("Watched");

  // Without JavaScript: signing in, reading, making a key, and all that is urgent.
  const plain = await house.somebody({ javaScriptEnabled: false, viewport: { width: 360, height: 740 } });
  await plain.goto(given.second);
  await plain.getByRole("button", { name: "Sign in" }).click();
  await plain.goto(keys);
  await plain.getByRole("button", { name: "Create API key" }).click();
  assert.ok(plain.url().startsWith(`${keys}/new`), "the form is a page of its own");
  await plain.getByLabel("Name").first().fill("Made without a script");
  await plain.locator("main form[method=post] button[type=submit]").click();
  const secret = (await plain.locator("output.secret").innerText()).trim();
  assert.equal((await house.verify(secret)).valid, true);
  await plain.locator("dialog form[method=get] button").click();
  for (const [what, word, code] of [["revoke", /^Revoke/, "revoked"], ["disable", /^Disable/, "disabled"]]) {
    await plain.goto(`${keys}/${urgent[what].key.id}`);
    await plain.locator("main").getByRole("button", { name: word }).click();
    assert.ok(plain.url().includes(`/${what}`), plain.url());
    await plain.locator("main form[method=post] button[type=submit]").click();
    assert.equal((await house.verify(urgent[what].secret)).code, code);
  }
  await plain.goto(keys);
  await house.row("To revoke with others", plain).getByRole("checkbox").check();
  await plain.getByRole("button", { name: /selected/ }).click();
  await plain.locator("main form[method=post] button[type=submit]").click();
  assert.equal((await house.verify(urgent.bulk.secret)).code, "revoked");
  await plain.getByText("All of them are refused from now on").waitFor();

  // In another zone: the reader's time, with the exact instant on hover.
  const tokyo = await house.somebody({ timezoneId: "Asia/Tokyo", locale: "en-GB" });
  await tokyo.goto(given.third);
  await tokyo.getByRole("button", { name: "Sign in" }).click();
  await tokyo.waitForURL((at) => !at.pathname.startsWith("/link/"));
  await tokyo.goto(`${given.url}/w/${given.workspace}/audit`);
  const time = tokyo.locator("td time").first();
  const instant = await time.getAttribute("datetime");
  const inTokyo = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "Asia/Tokyo", ...options }).format(new Date(instant));
  assert.equal(await time.innerText(), inTokyo({ dateStyle: "medium", timeStyle: "short" }));
  assert.equal(await time.getAttribute("title"), `${inTokyo({ dateStyle: "full", timeStyle: "long" })} · ${instant}`);

  // Left open: what others do shows by itself, and what was ticked stays ticked.
  await page.clock.install();
  await page.goto(keys);
  await house.row("Made without a script").getByRole("checkbox").check();
  await page.evaluate(() => document.activeElement.blur());
  await house.row("Watched").getByText("Never").first().waitFor();
  assert.equal((await house.verify(watched.secret)).valid, true);
  await house.api("POST", `/v1/keys/${watched.key.id}/revoke`, { body: { reason: "unneeded" } });
  for (let i = 0; i < 30 && !(await house.row("Watched").getByText("Revoked").count()); i++) {
    await page.clock.runFor(10_500);
    await page.waitForLoadState("networkidle");
  }
  await house.row("Watched").getByText("Revoked").first().waitFor();
  assert.ok(await house.row("Made without a script").getByRole("checkbox").isChecked(), "what was ticked is not any more");
  await house.look("keys that came by themselves");
});
