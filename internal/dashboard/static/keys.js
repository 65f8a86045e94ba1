// What the pages about keys do beyond what every page does: permissions that
// follow the chosen role, a count of what is chosen in the list, and charts
// that can be read bar by bar.

const $$ = (query, root = document) => root.querySelectorAll(query);

// What a role allows, as keystile.Permissions has it: "*" is all of the
// product, "calls.*" all below calls.
const covers = (pattern, name) => pattern === name || (pattern === "*" ? !/^(api|platform)\./.test(name)
  : pattern.endsWith(".*") && name.length > pattern.length - 1 && name.startsWith(pattern.slice(0, -1)));

// The boxes show what the role allows; those of a narrowed key can be ticked
// among them.
function follow(form) {
  const fieldset = form.querySelector("fieldset[data-narrow]");
  const role = form.querySelector("select[name=role]")?.selectedOptions[0];
  if (!fieldset || !role?.hasAttribute("data-permissions")) return;
  const patterns = role.dataset.permissions.split(" ");
  const narrow = fieldset.querySelector("input[name=narrow][value='1']").checked;
  for (const box of $$("input[type=checkbox]", fieldset)) {
    const allowed = patterns.some((p) => covers(p, box.value));
    box.disabled = !narrow || !allowed;
    if (!narrow || !allowed) box.checked = allowed;
  }
}
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (event.target.name === "role") {
    const hint = document.getElementById(event.target.getAttribute("aria-describedby")?.split(" ")[0]);
    if (hint) hint.textContent = event.target.selectedOptions[0]?.dataset.hint ?? "";
  }
  if (form && (event.target.name === "role" || event.target.name === "narrow")) follow(form);
  if (event.target.matches("input[name='key[]'], input[data-all]")) count();
});

// What is chosen in the list is counted on the button that ends it.
function count() {
  const button = document.querySelector("form#bulk button");
  if (!button) return;
  const n = $$("input[name='key[]']:checked").length;
  button.dataset.words ??= button.textContent;
  button.textContent = n ? `${button.dataset.words} (${n})` : button.dataset.words;
  button.disabled = n === 0;
}

// Charts: the bar under the pointer, or the one that the arrow keys have
// reached, says its numbers.
const hour = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "numeric", minute: "2-digit" });
const short = new Intl.DateTimeFormat(undefined, { hour: "numeric" });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

function tellHours(root) {
  for (const text of $$("[data-hour]", root)) {
    const at = new Date(text.dataset.hour);
    text.textContent = (text.localName === "text" ? short : hour).format(at);
  }
  for (const name of $$("[data-zone]", root)) name.textContent = `your time, ${zone.replaceAll("_", " ")}`;
  for (const svg of $$("svg.chart", root)) svg.tabIndex = 0;
}

function read(svg, bar) {
  for (const other of $$(".step.read", svg)) other.classList.remove("read");
  const reading = svg.closest("figure")?.querySelector(".reading");
  if (!reading) return;
  bar?.classList.add("read");
  if (!bar) { reading.textContent = ""; return; }
  const at = bar.dataset.at ? hour.format(new Date(bar.dataset.at)) : bar.dataset.day;
  reading.textContent = `${at}: ${bar.dataset.says}`;
}
for (const kind of ["pointerover", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    const svg = event.target.closest?.("svg.chart");
    if (svg) read(svg, event.target.closest(".step"));
  });
}
document.addEventListener("pointerout", (event) => {
  const svg = event.target.closest?.("svg.chart");
  if (svg && !svg.contains(event.relatedTarget)) read(svg, null);
});
document.addEventListener("keydown", (event) => {
  const svg = event.target.closest?.("svg.chart");
  const way = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  if (!svg || !way) return;
  event.preventDefault();
  const bars = [...$$(".step", svg)];
  const now = bars.findIndex((bar) => bar.classList.contains("read"));
  const next = now < 0 && way === -1 ? bars.length - 1 : Math.min(Math.max(now + way, 0), bars.length - 1);
  read(svg, bars[next]);
});
document.addEventListener("focusout", (event) => { if (event.target.matches?.("svg.chart")) read(event.target, null); });

// Work that is done in parts goes on by itself.
function goOn(root) {
  const form = root.querySelector("form[data-go-on]");
  if (form) setTimeout(() => { if (form.isConnected) form.requestSubmit(form.querySelector("button[type=submit]")); }, 300);
}

function prepare(root) {
  for (const fieldset of $$("fieldset[data-narrow]", root)) follow(fieldset.form);
  count();
  tellHours(root);
  goOn(root);
}
document.addEventListener("shown", (event) => prepare(event.detail));
prepare(document);

// A row's menu opens at its button.
document.addEventListener("toggle", (event) => {
  const menu = event.target;
  if (!menu.matches?.(".menu[popover]") || event.newState !== "open") return;
  const at = document.querySelector(`[popovertarget="${menu.id}"]`).getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(8, at.right - width)}px`;
  menu.style.top = `${at.bottom + height > innerHeight ? at.top - height : at.bottom}px`;
  menu.querySelector("button")?.focus();
}, true);
addEventListener("scroll", () => { for (const menu of $$(".menu:popover-open")) menu.hidePopover(); }, true);
