// The one dialog that must not be lost: a key's secret, shown once. Escape, a
// link, a reload and "back", before and after it was copied; and a form that is
// refused in its dialog.
import { walk, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  await house.signIn();
  const keys = `${given.url}/w/${given.workspace}/keys`;
  const asked = []; // what the browser asked, and here always answers with no
  page.on("dialog", (d) => { asked.push(`${d.type()}: ${d.message()}`); d.dismiss(); });
  const answered = async (n) => { // so many questions, no more
    for (let i = 0; asked.length < n && i < 600; i++) await page.waitForTimeout(50);
    assert.equal(asked.length, n, asked.join(", "));
  };
  const create = async (name) => {
    await page.getByRole("button", { name: "Create API key" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill(name);
    await page.getByRole("dialog").getByRole("button", { name: "Create", exact: true }).click();
    await page.locator("output.secret").waitFor();
    return (await page.locator("output.secret").innerText()).trim();
  };
  const shown = async (secret, after) => {
    assert.equal((await page.locator("dialog:modal output.secret").innerText().catch(() => "nothing")).trim(), secret, `after ${after}`);
  };

  // A refusal is read in the dialog, at its field, and what was typed is there.
  await page.goto(keys);
  await page.getByRole("button", { name: "Create API key" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.locator("form").evaluate((f) => { f.noValidate = true; });
  await dialog.getByLabel("Description").fill("Typed with care");
  await dialog.getByText(/^More/).click();
  await dialog.getByLabel("Allowed addresses").fill("home\n203.0.113.7\noffice");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  await dialog.getByRole("alert").waitFor();
  assert.equal(page.url(), keys, "the refusal has left the page");
  assert.equal(await dialog.getByLabel("Description").inputValue(), "Typed with care");
  const name = dialog.getByLabel("Name").first();
  assert.equal(await name.getAttribute("aria-invalid"), "true");
  assert.ok(await name.evaluate((e) => e === document.activeElement), "the field that is wrong has no focus");
  const said = (await name.getAttribute("aria-describedby")).split(" ").map((id) => page.locator(`#${id}`));
  assert.ok((await Promise.all(said.map((e) => e.innerText()))).some((t) => /Name is missing/.test(t)), "nothing at the field says what is wrong");
  await house.look("refused in the dialog");
  await name.fill("Nightly export");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  await dialog.getByText(/Entry 1 .*is not an IP address/).first().waitFor();
  await dialog.getByText(/Entry 3 .*is not an IP address/).first().waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });

  // Not copied: whatever one does, the browser asks, and no means no.
  const secret = await create("Key 1");
  assert.equal(await page.getByRole("link", { name: "descriptive name" }).count(), 0, "a link leads away from a key that is not copied");
  for (let i = 1; i <= 3; i++) { // a second Escape is one that a page can't refuse
    await page.keyboard.press("Escape");
    await answered(i);
    await shown(secret, `Escape number ${i}`);
  }
  await page.getByRole("button", { name: "Done" }).click();
  await answered(4);
  await shown(secret, "Done");
  assert.match(asked.at(-1), /^confirm: .*not copied/);
  page.reload().catch(() => {}); // one that was answered with no never ends
  await answered(5);
  assert.match(asked.at(-1), /^beforeunload/);
  await shown(secret, "a reload");
  await page.evaluate(() => { document.querySelector("header a.product").click(); });
  await answered(6);
  await shown(secret, "a link");
  const before = asked.length;

  // Copied: nothing asks any more, and nothing brings the secret back.
  await page.getByRole("dialog").getByRole("button", { name: "Copy", exact: true }).click();
  await page.getByRole("link", { name: "descriptive name" }).waitFor();
  await page.getByRole("button", { name: "Done" }).click();
  await house.row("Key 1").waitFor();
  for (const step of ["goBack", "goForward", "reload"]) {
    await page[step]();
    await page.getByRole("heading", { name: "API keys" }).waitFor();
    assert.ok(!(await page.content()).includes(secret), `${step} shows the key again`);
  }
  assert.equal(asked.length, before, asked.join(", "));

  // The same where the form was a page of its own: no question whether to send it again.
  await page.goto(`${keys}/new`);
  await page.getByLabel("Name").first().fill("Made on a page");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.locator("output.secret").waitFor();
  const other = (await page.locator("output.secret").innerText()).trim();
  await page.getByRole("dialog").getByRole("button", { name: "Copy", exact: true }).click();
  await page.getByRole("button", { name: "Done" }).click();
  await house.row("Made on a page").waitFor();
  await page.goBack();
  await page.getByRole("heading", { name: "API keys" }).waitFor();
  assert.ok(!(await page.content()).includes(other), "back shows the key again");
  await page.reload();
  assert.equal(await house.row("Made on a page").count(), 1);
});
