// Pages work without this. With it, what is a page of its own shows as a
// dialog, copying is one click, and times are in the reader's zone.

const $$ = (query, root = document) => root.querySelectorAll(query);

// Times: the reader's zone, with the exact instant on hover.
const near = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function tellTimes(root) {
  for (const time of $$("time[datetime]", root)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const minutes = (at - Date.now()) / 60000;
    if (time.dataset.form === "exact") time.textContent = whole.format(at);
    else if (Math.abs(minutes) < 60) time.textContent = near.format(Math.round(minutes), "minute");
    else if (Math.abs(minutes) < 60 * 24) time.textContent = near.format(Math.round(minutes / 60), "hour");
    else time.textContent = whole.format(at);
    time.title = `${exact.format(at)} · ${time.getAttribute("datetime")}`;
  }
}

// What happened, for eyes and for screen readers.
let said;
function say(text, where = document.body) {
  if (!said) {
    said = document.createElement("p");
    said.id = "said";
    said.className = "done";
    said.setAttribute("role", "status");
  }
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
    say(button.dataset.failed || "The browser does not let this page copy. It is selected: copy it yourself.", button.closest("dialog") || document.body);
    return;
  }
  button.closest("dialog")?.removeAttribute("data-uncopied");
  say(button.dataset.copied || document.body.dataset.copied || "Copied", button.closest("dialog") || document.body);
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
  dialog.append(...[...main.childNodes].map((node) => document.adoptNode(node)));
  unrepeat(dialog);
  const title = dialog.querySelector("h1");
  if (title) { title.id ||= "dialog-title"; dialog.setAttribute("aria-labelledby", title.id); }
  document.body.append(dialog);
  tellTimes(dialog);
  dialog.addEventListener("close", () => { dialog.remove(); opener?.focus(); });
  dialog.addEventListener("click", (event) => {
    const close = event.target.closest("[data-close]");
    if (close) { event.preventDefault(); dialog.close(); }
  });
  dialog.showModal();
  (dialog.querySelector("[autofocus], input:not([type=hidden], [type=checkbox]), select, textarea, button.primary") || dialog).focus();
}

// unrepeat keeps the ids of a dialog apart from those of the page behind it.
function unrepeat(dialog) {
  for (const element of $$("[id]", dialog)) {
    const id = element.id;
    if (!document.getElementById(id)) continue;
    const other = `dialog-${id}`;
    element.id = other;
    for (const name of ["for", "aria-describedby", "aria-labelledby", "data-copy", "form", "list"]) {
      for (const user of $$(`[${name}]`, dialog)) {
        const ids = user.getAttribute(name).split(" ");
        if (ids.includes(id)) user.setAttribute(name, ids.map((i) => (i === id ? other : i)).join(" "));
      }
    }
  }
}

// A dialog that a page comes with, such as the one that shows a new key, is
// made modal. It is not closed by accident while the key is not copied.
for (const dialog of $$("dialog[open]")) {
  dialog.close();
  dialog.showModal();
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    dialog.querySelector("form[method=get] button")?.click();
  });
  dialog.addEventListener("submit", (event) => {
    if (!dialog.hasAttribute("data-uncopied")) return;
    if (!confirm(dialog.dataset.uncopied)) event.preventDefault();
  });
}

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

tellTimes(document);

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
    if (!fresh || part.contains(document.activeElement)) continue;
    const ticked = new Set([...$$("input:checked", part)].map((box) => box.name + box.value));
    for (const box of $$("input[type=checkbox]", fresh)) box.checked = ticked.has(box.name + box.value);
    const folds = $$("details", fresh);
    $$("details", part).forEach((fold, i) => { if (folds[i]) folds[i].open = fold.open; });
    part.replaceChildren(...[...fresh.childNodes].map((node) => document.adoptNode(node)));
    tellTimes(part);
  }
}, 10_000);
