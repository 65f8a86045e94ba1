// Pages work without this. With it, what is a page of its own shows as a
// dialog, copying is one click, and times are in the reader's zone.

const $$ = (query, root = document) => root.querySelectorAll(query);

// Times: the reader's zone, with the exact instant on hover.
const near = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function tellTimes(root) {
  for (const time of $$("time[datetime]", root)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const minutes = (at - Date.now()) / 60000;
    if (time.dataset.form === "exact") time.textContent = whole.format(at);
    else if (Math.abs(minutes) < 0.5) time.textContent = "just now";
    else if (Math.abs(minutes) < 60) time.textContent = near.format(Math.round(minutes), "minute");
    else if (Math.abs(minutes) < 60 * 24) time.textContent = near.format(Math.round(minutes / 60), "hour");
    else time.textContent = (time.dataset.form === "day" ? day : whole).format(at);
    time.title = `${exact.format(at)} · ${time.getAttribute("datetime")}`;
  }
}

// What happened, for eyes and for screen readers.
let said;
function say(text, where = document.body, kind = "done") {
  if (!said) {
    said = document.createElement("p");
    said.id = "said";
    said.setAttribute("role", "status");
  }
  said.className = kind;
  where.append(said); // inside a dialog, since what is behind one is not read
  said.textContent = "";
  setTimeout(() => { said.textContent = text; }, 50);
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.textContent = ""; }, 6000);
}

// Copying.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const from = document.getElementById(button.dataset.copy);
  const text = "value" in from && from.tagName !== "OUTPUT" ? from.value : from.textContent;
  try {
    await navigator.clipboard.writeText(text.trim());
  } catch {
    getSelection().selectAllChildren(from); // copied by hand then
    say(button.dataset.failed || "The browser does not let this page copy. It is selected: copy it yourself.", button.closest("dialog") || document.body, "problem");
    return;
  }
  button.closest("dialog")?.removeAttribute("data-uncopied");
  say(button.dataset.copied || document.body.dataset.copied || "Copied", button.closest("dialog") || document.body);
});

// By hand is as good.
document.addEventListener("copy", () => {
  const chosen = getSelection();
  for (const secret of $$("dialog[data-uncopied] .secret")) {
    if (chosen.rangeCount && chosen.getRangeAt(0).intersectsNode(secret)) secret.closest("dialog").removeAttribute("data-uncopied");
  }
});

// A form marked data-dialog leads to a page; its main part is shown here.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-dialog][method=get]")) return;
  event.preventDefault();
  const address = new URL(form.action);
  for (const [name, value] of new FormData(form, event.submitter)) address.searchParams.append(name, value);
  const answer = await fetch(address, { headers: { Accept: "text/html" } }).catch(() => null);
  // Whatever is not the page itself, such as the sign-in page, is gone to.
  if (!answer || !answer.ok || answer.redirected) { location.assign(address); return; }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const main = page.querySelector("main");
  if (!main) { location.assign(address); return; }
  show(main, event.submitter);
});

function show(main, opener) {
  const dialog = document.createElement("dialog");
  dialog.dataset.fetched = "";
  fill(dialog, main);
  document.body.append(dialog);
  const menu = opener?.closest("[popover]");
  const back = menu ? document.querySelector(`[popovertarget="${menu.id}"]`) : opener;
  dialog.addEventListener("close", () => { dialog.remove(); back?.focus(); });
  dialog.addEventListener("click", (event) => {
    const close = event.target.closest("[data-close]");
    if (close) { event.preventDefault(); dialog.close(); }
  });
  dialog.showModal();
  attend(dialog);
}

// fill puts the main part of a page into a dialog.
function fill(dialog, main) {
  dialog.replaceChildren(...[...main.childNodes].map((node) => document.adoptNode(node)));
  unrepeat(dialog);
  const title = dialog.querySelector("h1");
  if (title) { title.id ||= "dialog-title"; dialog.setAttribute("aria-labelledby", title.id); }
  prepare(dialog);
}

// attend leads to what is wrong, or else to the first thing to fill in. What
// stands above it stays in view.
function attend(root) {
  root.scrollTop = 0;
  const wrong = root.querySelector("[aria-invalid=true]");
  const first = wrong || root.querySelector("[autofocus], input:not([type=hidden], [type=checkbox], [type=radio]), select, textarea, button.primary, button.danger");
  (first || root).focus({ preventScroll: !wrong });
}

// prepare makes the most of what has just come into the page.
function prepare(root) {
  tellTimes(root);
  document.dispatchEvent(new CustomEvent("shown", { detail: root }));
}

// A form in a dialog is sent from there. A refusal is read in the dialog, with
// what was typed; "back" and a reload stay those of the page behind, and no
// browser asks whether to send a form again.
document.addEventListener("submit", async (event) => {
  const form = event.target, dialog = form.closest("dialog[data-fetched]");
  if (event.defaultPrevented || !dialog || form.method !== "post" || form.dataset.passkey) return;
  event.preventDefault();
  if (form.dataset.sent) return;
  form.dataset.sent = "1";
  const to = new URL(form.getAttribute("action"), location.href);
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const answer = await fetch(to, { method: "POST", body, headers: { Accept: "text/html", "Keystile-Dialog": "1" } }).catch(() => null);
  delete form.dataset.sent;
  if (!answer) { say("The server was not reached. What you typed is still here: try again.", dialog, "problem"); return; }
  const leads = answer.headers.get("Location");
  if (leads) { go(new URL(leads, location.href)); return; }
  // A page asks for a fresh sign-in and keeps the form meanwhile. Nothing was done yet.
  if (answer.status === 401) { form.submit(); return; }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const main = page.querySelector("main");
  const same = main && [...$$("form[method=post]", main)].some((f) => f.getAttribute("action") === form.getAttribute("action"));
  if (same) { fill(dialog, main); attend(dialog); } else if (main && answer.ok) become(page, main, dialog);
  else refused(form, main);
});

// go goes to a page, even to the one that is shown.
function go(to) {
  const here = to.href.split("#")[0] === location.href.split("#")[0];
  location.assign(to);
  if (here && to.hash) location.reload();
}

// become shows an answer in place of this page, such as a key that was just made.
function become(page, main, dialog) {
  dialog.remove();
  const place = document.querySelector("main");
  place.replaceChildren(...[...main.childNodes].map((node) => document.adoptNode(node)));
  document.title = page.title;
  prepare(place);
  if (!hold(place)) place.focus();
}

// refused says above a form why it was, and leaves the form as it is.
function refused(form, main) {
  const note = document.createElement("div");
  note.className = "problem";
  note.setAttribute("role", "alert");
  if (main) note.append(...[...main.childNodes].map((node) => document.adoptNode(node)));
  else note.textContent = "The server did not answer as it should. Nothing is known to have been done: look before you try again.";
  for (const title of $$("h1", note)) { const strong = document.createElement("strong"); strong.append(...title.childNodes); title.replaceWith(strong); }
  for (const link of $$("a", note)) link.target = "_blank"; // what was typed stays
  form.querySelector(":scope > .problem")?.remove();
  form.prepend(note);
  note.scrollIntoView({ block: "nearest" });
}

// unrepeat keeps the ids of a dialog apart from those of the page behind it.
function unrepeat(dialog) {
  for (const element of $$("[id]", dialog)) {
    const id = element.id;
    if (dialog.contains(document.getElementById(id) ?? dialog)) continue;
    const other = `dialog-${id}`;
    element.id = other;
    for (const name of ["for", "aria-describedby", "aria-labelledby", "data-copy", "form", "list"]) {
      for (const user of $$(`[${name}]`, dialog)) {
        const ids = user.getAttribute(name).split(" ");
        if (ids.includes(id)) user.setAttribute(name, ids.map((i) => (i === id ? other : i)).join(" "));
      }
    }
    for (const link of $$("a[href^='#']", dialog)) if (link.getAttribute("href") === `#${id}`) link.setAttribute("href", `#${other}`);
  }
}

// A dialog that a page comes with, which shows a new key, is made modal. While
// the key is not copied, nothing closes it, and nothing leaves the page, without
// a question. (Only the first "cancel" of an Escape can be prevented: browsers
// let a second one through. So Escape is caught before it becomes one.)
function hold(root) {
  const dialog = root.querySelector("dialog[open]");
  if (!dialog) return false;
  const leave = dialog.querySelector("form[method=get]");
  dialog.removeAttribute("open");
  dialog.setAttribute("closedby", "none");
  dialog.showModal();
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); leave?.querySelector("button").click(); });
  dialog.addEventListener("close", () => { if (dialog.isConnected && !dialog.open) dialog.showModal(); });
  dialog.addEventListener("submit", (event) => {
    if (!dialog.hasAttribute("data-uncopied") || event.target !== leave) return;
    if (confirm(dialog.dataset.uncopied)) dialog.removeAttribute("data-uncopied");
    else event.preventDefault();
  });
  // A reload and "back" lead to where Done leads, not to the form once more.
  if (leave && root === document) history.replaceState(null, "", leave.getAttribute("action"));
  return true;
}
hold(document);
addEventListener("keydown", (event) => {
  const dialog = document.querySelector("dialog[closedby=none]:modal");
  if (event.key !== "Escape" || !dialog) return;
  event.preventDefault();
  if (!event.repeat) dialog.querySelector("form[method=get] button")?.click();
}, true);
addEventListener("beforeunload", (event) => { if (document.querySelector("dialog[data-uncopied]")) event.preventDefault(); });

// Nor is any secret in the page that the browser may keep for "back".
addEventListener("pagehide", () => { for (const secret of $$(".secret, [data-secret]")) secret.textContent = ""; });

// The switcher of workspaces closes when the reader turns elsewhere.
const switcher = document.querySelector("details.switcher");
document.addEventListener("click", (event) => { if (switcher?.open && !switcher.contains(event.target)) switcher.open = false; });
switcher?.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !switcher.open) return;
  switcher.open = false;
  switcher.querySelector("summary").focus();
});

// Choosing all rows of a table.
document.addEventListener("change", (event) => {
  const all = event.target.closest("input[data-all]");
  if (!all) return;
  for (const one of $$(`input[name="${all.dataset.all}"]`, all.closest("form") || document)) one.checked = all.checked;
});

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "1";
});
addEventListener("pageshow", () => { for (const form of $$("form[data-sent]")) delete form.dataset.sent; });

prepare(document);
document.querySelector("main [aria-invalid=true]")?.focus();

// Where the menu is a strip, the page that one is on stands in it.
const strip = document.querySelector('nav[aria-label="Workspace"] ul');
const at = strip?.querySelector("[aria-current]");
if (at) new ResizeObserver(() => { strip.scrollLeft = at.offsetLeft - (strip.clientWidth - at.offsetWidth) / 2; }).observe(strip);

// Live parts are looked at again while the page is. What is ticked or unfolded
// in them stays so, and nothing moves under the one who is in it.
const live = [...$$("[data-live][id]")];
if (live.length > 0) setInterval(async () => {
  if (document.hidden || document.querySelector("dialog[open]")) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || !answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of live) {
    const fresh = page.getElementById(part.id);
    if (!fresh || !part.isConnected || part.contains(document.activeElement)) continue;
    const ticked = new Set([...$$("input:checked", part)].map((box) => box.name + box.value));
    for (const box of $$("input[type=checkbox]", fresh)) box.checked = ticked.has(box.name + box.value);
    const folds = $$("details", fresh);
    $$("details", part).forEach((fold, i) => { if (folds[i]) folds[i].open = fold.open; });
    part.replaceChildren(...[...fresh.childNodes].map((node) => document.adoptNode(node)));
    prepare(part);
  }
}, 10_000);
