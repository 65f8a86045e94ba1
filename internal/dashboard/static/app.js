// Pages work without this. With it, what is a page of its own shows as a
// dialog, copying is one click, and times are in the reader's zone.

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const from = document.getElementById(button.dataset.copy);
    await navigator.clipboard.writeText(from.textContent);
  });
}
