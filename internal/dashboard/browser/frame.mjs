// The portal in a frame of the product's own page.
import { walk, given, assert } from "./house.mjs";

await walk(async (house, page) => {
  const portal = async (more = {}) => {
    const answer = await house.api("POST", `/v1/workspaces/${given.workspace}/portal-sessions`, {
      body: { person: { subject: "user-7", name: "Eve" }, role: "admin", return_url: "https://app.product.test/left", ...more },
    });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    return answer.body.url;
  };
  const framed = (origin, src) => `${origin}/?src=${encodeURIComponent(src)}`;

  // In the product's page: sign in, look, make a key and copy it.
  await page.goto(framed("https://app.product.test", await portal()));
  const inside = page.frameLocator("iframe");
  const frame = () => page.frames().find((f) => f.parentFrame() === page.mainFrame());
  await inside.getByText("as Eve").waitFor();
  await house.look("the link in a frame", frame());
  await inside.getByRole("button", { name: "Sign in" }).click();
  await inside.getByRole("heading", { name: "API keys", exact: true }).waitFor();
  await house.look("keys in a frame", frame());
  await inside.getByRole("button", { name: "Create API key" }).click();
  const dialog = inside.getByRole("dialog");
  await dialog.getByLabel("Name").first().fill("Made in a frame");
  await dialog.getByRole("button", { name: /create/i }).click();
  const secret = (await inside.locator("output.secret").innerText()).trim();
  assert.equal((await house.verify(secret)).valid, true);
  await inside.getByRole("dialog").getByRole("button", { name: "Copy", exact: true }).first().click();
  await inside.getByRole("dialog").getByText("Copied").waitFor();
  await house.look("a new key in a frame", frame());
  await inside.locator("dialog form[method=get] button").click();
  await house.row("Made in a frame", inside).waitFor();
  // Who is a member is the product's to say.
  await inside.getByRole("link", { name: "Members" }).click();
  await inside.getByRole("heading", { name: "Members" }).waitFor();
  assert.equal(await inside.getByRole("button", { name: /invite|remove/i }).count(), 0);

  // Its cookie counts in frames of this site alone.
  const cookies = async () => (await page.context().cookies()).filter((c) => c.name.startsWith("__Host-keystile"));
  const [own, ...more] = await cookies();
  assert.equal(more.length, 0);
  assert.equal(own.name, "__Host-keystile-portal");
  assert.equal(own.partitionKey, "https://product.test");
  assert.ok(own.secure && own.httpOnly && own.sameSite === "None");
  const alone = await house.newPage();
  await alone.goto(`${given.url}/account`);
  assert.equal(new URL(alone.url()).pathname, "/sign-in", "the frame's session counts in a tab of its own");

  // Leave goes back to the product.
  await inside.getByRole("button", { name: "Leave" }).click();
  await inside.getByText("/left").waitFor();
  assert.deepEqual(await cookies(), []);

  // In anybody else's page there is nothing to see.
  const other = await page.context().newPage(); // what it says in the console is no fault of ours
  const refusals = [];
  other.on("console", (message) => refusals.push(message.text()));
  for (const src of [await portal(), `${given.url}/sign-in`, `${given.url}/account`]) {
    await other.goto(framed("https://app.other.test", src));
    const shut = other.frames().find((f) => f.parentFrame() === other.mainFrame());
    await shut.waitForURL(/^chrome-error:/);
  }
  assert.ok(refusals.some((text) => /frame-ancestors/.test(text)), refusals.join("\n"));
}, { ignoreHTTPSErrors: true });
