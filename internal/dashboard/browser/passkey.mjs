// Passkeys as people have them, with the browser's own authenticator: an
// invitation, signing in, the proof that a sensitive page asks for, and the way
// back for one whose passkey is lost.
import { walk, device, given, assert } from "./house.mjs";

await walk(async (house, boss) => {
  await house.signIn();
  const base = `${given.url}/w/${given.workspace}`;
  const wait = (page, path) => page.waitForURL((at) => at.pathname === path);
  const signIn = async (page) => {
    await page.goto(`${given.url}/sign-in`);
    await page.getByRole("button", { name: "Sign in with a passkey" }).click();
    await page.waitForURL((at) => !at.pathname.startsWith("/sign-in"));
  };
  const add = async (page, name) => {
    await page.getByRole("button", { name: "Add a passkey" }).click();
    await page.getByLabel("Name of the passkey").fill(name);
    await house.look("the form of a passkey", page);
    await page.getByRole("button", { name: "Add passkey" }).click();
    await page.getByText("Passkey added").waitFor();
  };

  // An admin is invited, and adds a passkey.
  await boss.goto(`${base}/members`);
  await boss.getByRole("button", { name: "Invite member" }).click();
  let dialog = boss.getByRole("dialog");
  await dialog.getByLabel("Name").fill("Ada Byron");
  await dialog.getByLabel("Role").selectOption("admin");
  await dialog.getByRole("button", { name: "Invite" }).click();
  const invitation = (await boss.locator("output.secret").innerText()).trim();
  await house.look("the invitation", boss);
  // The page is left: nothing of the link is in what the browser may keep of it.
  const kept = await boss.evaluate(() => { dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })); return document.documentElement.outerHTML; });
  assert.ok(!kept.includes(invitation.split("/").at(-1)), "the page keeps the invitation's link");
  await boss.goto(`${base}/members`);

  const ada = await house.somebody();
  const phone = await device(ada);
  await ada.goto(invitation);
  await ada.getByText("Ada Byron").waitFor();
  await ada.getByRole("button", { name: "Sign in" }).click();
  await ada.waitForURL((at) => !at.pathname.startsWith("/link/"));
  await ada.goto(`${given.url}/account`);
  await ada.getByText("You have no passkey yet").waitFor();
  await house.look("an account without a passkey", ada);
  await add(ada, "Phone");
  await ada.getByRole("textbox", { name: "Name of the passkey" }).and(ada.locator("[value=Phone]")).waitFor();
  assert.equal((await phone.keys()).length, 1);
  await house.look("an account with a passkey", ada);

  // Out, and in again by it alone.
  await ada.getByRole("button", { name: "Sign out", exact: true }).click();
  await wait(ada, "/sign-in");
  await ada.goto(`${base}/keys`);
  await wait(ada, "/sign-in");
  await house.look("the sign-in page", ada);
  await ada.getByRole("button", { name: "Sign in with a passkey" }).click();
  await wait(ada, `/w/${given.workspace}/keys`); // to where she was going

  // What is sensitive asks for a new proof once the last is old, and is given it.
  assert.equal((await fetch(given.age)).status, 200);
  await ada.getByRole("button", { name: "Create API key" }).first().click();
  await wait(ada, "/sign-in");
  await ada.getByRole("heading", { name: "Sign in again" }).waitFor();
  await house.look("a fresh sign-in", ada);
  await ada.getByRole("button", { name: "Sign in with a passkey" }).click();
  await wait(ada, `/w/${given.workspace}/keys/new`);
  await ada.getByLabel("Name").first().fill("Made with a fresh proof");
  // One that went stale over the form asks again, and goes on with what was typed.
  assert.equal((await fetch(given.age)).status, 200);
  await ada.getByRole("button", { name: "Create", exact: false }).last().click();
  await ada.getByRole("heading", { name: "Sign in again" }).waitFor();
  await house.look("a form that waits", ada);
  await ada.getByRole("button", { name: "Sign in with a passkey" }).click();
  await ada.locator("output.secret").waitFor();

  // Somebody else's device opens nothing.
  const eve = await house.somebody();
  await device(eve);
  await eve.goto(`${given.url}/sign-in`);
  await eve.getByRole("button", { name: "Sign in with a passkey" }).click();
  await eve.getByText("You are not signed in").waitFor();
  await house.look("a sign-in that failed", eve);

  // The passkey is lost. Another admin makes a new link; what she had ends with it.
  const lost = await phone.keys();
  await phone.lose();
  await boss.goto(`${base}/members`);
  await house.row("Ada Byron", boss).getByRole("button", { name: "New link" }).click();
  dialog = boss.getByRole("dialog");
  await house.look("the form of a new link", boss);
  await dialog.getByRole("button", { name: /link/i }).click();
  const again = (await boss.locator("output.secret").innerText()).trim();
  const back = await house.somebody();
  const laptop = await device(back);
  await back.goto(again);
  await back.getByRole("button", { name: "Sign in" }).click();
  await back.waitForURL((at) => !at.pathname.startsWith("/link/"));
  await ada.goto(`${given.url}/account`);
  await wait(ada, "/sign-in"); // the session of before has ended
  const finder = await house.somebody(); // of the phone
  await device(finder, lost);
  await finder.goto(`${given.url}/sign-in`);
  await finder.getByRole("button", { name: "Sign in with a passkey" }).click();
  await finder.getByRole("heading", { name: "Not signed in" }).waitFor();
  await house.look("a passkey that is not good any more", finder);
  await back.goto(`${given.url}/account`);
  await back.getByText("You have no passkey yet").waitFor();
  await add(back, "Laptop");
  await boss.goto(`${base}/audit?actor=Ada+Byron`);
  for (const action of ["Member joined", "Member's access recovered", "Passkey added", "Signed in", "Signed out"]) await boss.getByRole("row").filter({ hasText: action }).first().waitFor();
  await boss.goto(`${base}/audit?action=member.link_created`);
  await house.row("Ada Byron", boss).first().waitFor();
  await house.look("the audit log", boss);

  // Sessions are listed, and ended from elsewhere.
  const other = await house.somebody();
  await device(other, await laptop.keys());
  await signIn(other);
  await back.goto(`${given.url}/account`);
  await back.getByText("This session").waitFor();
  await house.look("two sessions", back);
  await back.getByRole("button", { name: "End", exact: true }).click();
  await back.getByText("Ended.").waitFor();
  assert.equal(await back.getByRole("button", { name: "End", exact: true }).count(), 0);
  await other.goto(`${base}/keys`);
  await wait(other, "/sign-in");
  await signIn(other);
  await back.goto(`${given.url}/account`);
  await back.getByRole("button", { name: "Sign out everywhere" }).click();
  await wait(back, "/sign-in");
  await other.goto(`${base}/keys`);
  await wait(other, "/sign-in");
});
