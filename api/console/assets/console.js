// What every page does: copy buttons, confirmations, the menu of small screens.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    // Browsers give the clipboard to secure origins only: the text is shown to be copied by hand.
    const text = document.createElement("textarea");
    text.readOnly = true;
    text.value = button.dataset.copy;
    text.setAttribute("aria-label", "The text to copy");
    button.after(text);
    text.select();
  }
  setTimeout(() => { button.textContent = label; }, 1500);
});

// A form with data-confirm asks before it is sent. Without scripts it is sent at once.
document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = event.submitter?.dataset.confirm ?? form.dataset.confirm;
  if (!question || form.dataset.confirmed) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "question");
  const text = document.createElement("p");
  text.id = "question";
  text.textContent = question;
  const yes = document.createElement("button");
  yes.className = "button danger";
  yes.textContent = event.submitter?.textContent.trim() || "Yes";
  const no = document.createElement("button");
  no.className = "button plain";
  no.textContent = "Cancel";
  const actions = document.createElement("p");
  actions.className = "actions";
  actions.append(yes, no);
  dialog.append(text, actions);
  document.body.append(dialog);
  no.addEventListener("click", () => dialog.close());
  yes.addEventListener("click", () => {
    form.dataset.confirmed = "yes";
    dialog.close();
    form.requestSubmit(event.submitter ?? undefined);
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    delete form.dataset.confirmed;
  });
  dialog.showModal();
  no.focus();
});

// The menu is closed on a small screen only: elsewhere it stands beside the page. Without scripts it stays open.
const menu = document.querySelector("details.menu");
const wide = matchMedia("(min-width: 60rem)");
const openMenu = () => { if (menu) menu.open = wide.matches; };
wide.addEventListener("change", openMenu);
openMenu();
