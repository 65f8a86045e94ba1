// What every walk uses: a browser, a way in, and the checks that hold on every
// page: valid HTML, no accessibility violation, nothing in the console, nothing
// loaded from elsewhere.
//
// The Go test that starts a walk says in WALK (JSON) where the server is.
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { HtmlValidate } from "html-validate";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const given = JSON.parse(process.env.WALK);
export { assert };

const html = new HtmlValidate({
  extends: ["html-validate:standard"],
  rules: {
    "no-inline-style": "error",
    "long-title": "off", // a workspace's name may be long
    "valid-id": ["error", { relaxed: true }],
    "tel-non-breaking": "off", // digits here are never telephone numbers
  },
});

// What the browser need not have. The first two are pages of its own for what
// is typed into its address bar, which nobody does here: loading them is half of
// what starting a browser costs. The list replaces playwright's, so the rest is
// what stands there of Chromium's.
const without = [
  "WebUIOmniboxPopup", "WebUIOmniboxAimPopup",
  "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning",
  "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch",
].join();

export class House {
  faults = [];
  #answers = [];
  #checked = 0;
  #seen = new Set();

  static async open(options = {}) {
    const house = new House();
    house.browser = await chromium.launch({
      executablePath: process.env.KEYSTILE_TEST_CHROMIUM || "/usr/bin/chromium",
      args: [`--disable-features=${without}`, `--host-resolver-rules=${Object.entries(given.hosts || {}).map(([name, at]) => `MAP ${name} ${at}`).join(", ")}`, "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    });
    house.context = await house.browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", ...options });
    await house.context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: given.url });
    house.page = await house.newPage();
    return house;
  }

  // somebody is at another computer.
  async somebody(options = {}) {
    return this.newPage(await this.browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", ...options }));
  }

  async newPage(context = this.context) {
    const page = await context.newPage();
    page.setDefaultTimeout(60_000); // so that no walk fails by the load of the machine
    page.on("pageerror", (error) => this.faults.push(`script error on ${page.url()}: ${error}`));
    page.on("console", (message) => {
      // A refusal is logged by the browser as a failed load; walks make them on purpose.
      if (message.type() === "error" && !/Failed to load resource/.test(message.text())) this.faults.push(`console on ${page.url()}: ${message.text()}`);
    });
    page.on("request", (request) => {
      const at = new URL(request.url());
      if (at.origin !== new URL(given.url).origin && !["data:", "blob:"].includes(at.protocol) && !(given.origins || []).includes(at.origin)) this.faults.push(`${page.url()} loads ${at.origin}`);
    });
    page.on("response", (response) => {
      if (response.request().resourceType() !== "document" || response.status() >= 300 && response.status() < 400) return;
      if (new URL(response.url()).origin !== new URL(given.url).origin) return;
      this.#answers.push(response.text().then((text) => ({ url: `${response.request().method()} ${response.url()}`, text, headers: response.headers() }), () => null));
    });
    return page;
  }

  // signIn comes in through a link.
  async signIn(link = given.link, page = this.page) {
    await page.goto(link);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL((at) => !at.pathname.startsWith("/link/"));
    await this.look("after the link", page);
    await page.goto(given.url + "/");
  }

  // look checks what is on the screen now. Rules, where they are given, are the
  // only ones: those that theme and width bear on, for a page that was looked at
  // before.
  //
  // The time of a look is that of its elements. So of a table's rows that are
  // built alike the first is looked at, and of pages built alike, at one width
  // and in one theme, one.
  async look(name, page = this.page, rules = null) {
    this.#checked++;
    const state = await page.evaluate(() => {
      globalThis.built = (e) => `${e.tagName}.${e.className}[${[...e.attributes].map((a) => a.name)}](${[...e.children].map(built)})${e.childElementCount || e.textContent.trim() ? "" : "empty"}`;
      return [innerWidth, matchMedia("(prefers-color-scheme: dark)").matches, built(document.documentElement)].join();
    });
    const seen = `${rules}: ${state}`;
    if (!this.#seen.has(seen)) {
      this.#seen.add(seen);
      if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(axe + "\n;0");
      const violations = await page.evaluate(async (only) => {
        const alike = [];
        for (const body of document.querySelectorAll("tbody")) {
          const seen = new Set();
          for (const row of body.rows) {
            const as = globalThis.built(row);
            if (seen.has(as)) alike.push(row);
            seen.add(as);
          }
        }
        const found = await globalThis.axe.run({ include: document, exclude: alike }, {
          runOnly: only ?? ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
          resultTypes: ["violations"], preload: false,
        });
        return found.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`);
      }, rules);
      for (const v of violations) this.faults.push(`${name} (${new URL(page.url()).pathname}): ${v}`);
    }
    await this.fits(name, page);
  }

  // fits checks that a page does not scroll sideways, nor a table in it, that no
  // cell of a table covers what another holds, and that a menu that scrolls shows
  // where one is.
  async fits(name, page = this.page) {
    const found = await page.evaluate(async () => {
      for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame); // what follows a new width
      const wide = (e) => e.scrollWidth - e.clientWidth;
      const faults = [];
      const strip = document.querySelector('nav[aria-label="Workspace"] ul'), current = strip?.querySelector("[aria-current]");
      if (current && wide(strip) > 1) {
        const box = strip.getBoundingClientRect(), at = current.getBoundingClientRect();
        if (at.left < box.left - 1 || at.right > box.right + 1) faults.push(`the menu does not show ${current.innerText}, where one is`);
      }
      if (wide(document.documentElement) > 1) faults.push(`the page is ${wide(document.documentElement)} px wider than the window`);
      const folded = [...document.querySelectorAll("details:has(table):not([open])")];
      for (const part of folded) part.open = true;
      for (const table of document.querySelectorAll("table")) {
        if (wide(table.parentElement) > 1) faults.push(`the table ${table.caption?.textContent} is ${wide(table.parentElement)} px too wide`);
        for (const row of [...table.rows].slice(0, 5)) {
          const held = [...row.cells].map((cell) => {
            const range = document.createRange();
            range.selectNodeContents(cell);
            const box = cell.getBoundingClientRect();
            // What is folded away has a place all the same.
            const { left, right, top, bottom } = cell.querySelector("details:not([open])") ? box : range.getBoundingClientRect();
            return { cell, left, right, top, bottom, over: getComputedStyle(cell).position === "sticky" ? box : { left, right, top, bottom } };
          }).filter((h) => h.right - h.left > 1);
          for (const a of held) {
            for (const b of held) {
              const x = Math.min(a.over.right, b.right) - Math.max(a.over.left, b.left), y = Math.min(a.over.bottom, b.bottom) - Math.max(a.over.top, b.top);
              if (a !== b && x > 2 && y > 2) faults.push(`“${a.cell.innerText}” covers “${b.cell.innerText}” in ${table.caption?.textContent}`);
            }
          }
        }
      }
      for (const part of folded) part.open = false;
      return faults;
    });
    for (const fault of found) this.faults.push(`${name}, ${page.viewportSize().width} px: ${fault}`);
  }

  // shoot looks at a page and takes its picture in both themes and two widths,
  // where pictures are wanted.
  async shoot(name, page = this.page) {
    const before = page.viewportSize();
    if (given.screenshots) { // no picture of what passes
      await page.mouse.move(0, 0);
      await page.waitForFunction(() => !document.getElementById("said")?.textContent);
    }
    for (const theme of ["light", "dark"]) {
      for (const [kind, width, height] of [["wide", 1280, 800], ["narrow", 360, 740]]) {
        // Both themes and both widths in two looks; the pictures take all four.
        if (!given.screenshots && (theme === "light") !== (kind === "wide")) continue;
        await page.emulateMedia({ colorScheme: theme });
        await page.setViewportSize({ width, height });
        await this.look(`${name} ${theme} ${kind}`, page);
        if (!given.screenshots) continue;
        mkdirSync(given.screenshots, { recursive: true });
        await page.evaluate(() => scrollTo(0, 0));
        await page.screenshot({ path: `${given.screenshots}/${name}-${theme}-${kind}.png` });
      }
    }
    await page.emulateMedia({ colorScheme: null });
    await page.setViewportSize(before);
  }

  // close ends the walk, and fails it for whatever was found on the way.
  async close() {
    const texts = new Set();
    for (const answer of (await Promise.all(this.#answers)).filter(Boolean)) {
      if (!(answer.headers["content-type"] || "").startsWith("text/html")) continue;
      if (!/no-store/.test(answer.headers["cache-control"] || "")) this.faults.push(`${answer.url} may be kept by a cache`);
      if (answer.text.length > 100_000) this.faults.push(`${answer.url} has ${answer.text.length} bytes`);
      if (texts.has(answer.text)) continue; // loaded again to see whether something has changed
      texts.add(answer.text);
      const report = html.validateStringSync(answer.text);
      for (const result of report.results) {
        for (const m of result.messages) this.faults.push(`${answer.url}:${m.line}: ${m.ruleId}: ${m.message}`);
      }
    }
    await this.browser.close();
    const once = [...new Set(this.faults)];
    assert.equal(once.length, 0, `${once.length} faults:\n  ` + once.join("\n  "));
    assert.ok(this.#checked > 0, "the walk looked at no page");
  }

  // api calls the server as a program would.
  async api(method, path, { key = given.operatorKey, body, headers = {} } = {}) {
    const answer = await fetch((given.api || given.url) + path, {
      method, headers: { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...(body ? { "Content-Type": "application/json" } : {}), ...headers },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, body: text && JSON.parse(text) };
  }

  // seed makes keys that look as those of a product in use, and uses them, so
  // that pictures show what people would see. A key is as the API takes it, with
  // the calls that are made and refused with it. It returns what was made, by name.
  async seed(keys) {
    const made = {};
    for (const { calls = 0, refused = 0, from = "203.0.113.24", program = "call-sync/2.4 (node 22)", ...key } of keys) {
      const answer = await this.api("POST", `/v1/workspaces/${given.workspace}/keys`, { body: key });
      assert.equal(answer.status, 201, JSON.stringify(answer.body));
      made[key.name] = answer.body;
      const use = (more) => this.verify(answer.body.secret, { ip: from, user_agent: program, ...more });
      for (let i = 0; i < calls; i++) assert.equal((await use()).valid, true, key.name);
      for (let i = 0; i < refused; i++) assert.equal((await use({ permission: "api.key.delete" })).valid, false, key.name);
    }
    return made;
  }

  // counted waits until a key's use shows in the list.
  async counted(name, page = this.page) {
    const used = () => this.row(name, page).first().locator("td time").count().then((n) => n > 1);
    for (let i = 0; i < 60 && !(await used()); i++) {
      await page.waitForTimeout(500);
      await page.reload();
    }
    assert.ok(await used(), `the use of ${name} does not show`);
    if (given.screenshots) assert.equal((await fetch(given.history)).status, 200);
  }

  verify(key, more = {}) {
    return this.api("POST", "/v1/verify", { body: { key, ...more } }).then((a) => a.body);
  }

  clipboard(page = this.page) {
    return page.evaluate(() => navigator.clipboard.readText());
  }

  // columns are the names of a table's columns as people read them.
  async columns(page = this.page) {
    return (await page.getByRole("columnheader").allInnerTexts()).map((s) => s.trim()).filter(Boolean);
  }

  row(text, page = this.page) {
    return page.getByRole("row").filter({ hasText: text });
  }
}

// get loads something as the page would, without going there.
export const get = (page, path) => page.evaluate(async (p) => {
  const answer = await fetch(p, { headers: { Accept: "text/html" } });
  return { status: answer.status, type: answer.headers.get("content-type"), name: answer.headers.get("content-disposition"), text: await answer.text() };
}, path);

// device gives a page an authenticator that says yes: a phone in its owner's hand.
export async function device(page, credentials = []) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", {
    options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  });
  for (const credential of credentials) await cdp.send("WebAuthn.addCredential", { authenticatorId, credential });
  return {
    keys: async () => (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials,
    lose: () => cdp.send("WebAuthn.clearCredentials", { authenticatorId }),
  };
}

// walk runs one walk to its end, and ends the process with 1 if it fails.
export async function walk(steps, options) {
  const house = await House.open(options);
  let failed;
  try {
    await steps(house, house.page);
  } catch (error) {
    failed = error;
    if (given.failures) {
      mkdirSync(given.failures, { recursive: true });
      await house.page.screenshot({ path: `${given.failures}/failed.png`, fullPage: true }).catch(() => {});
    }
    console.error(`at ${house.page.url()}:\n${error.stack}`);
  }
  await house.close().catch((error) => { failed ||= error; console.error(error.message); });
  process.exit(failed ? 1 : 0);
}
