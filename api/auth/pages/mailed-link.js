// Sends the token of a mailed link when its button is pressed. Opening the page alone changes nothing.

const token = new URLSearchParams(location.search).get("token") ?? "";
// Keep the token out of the browser's history.
history.replaceState(null, "", location.pathname);

const form = document.querySelector("form");
const button = form.querySelector("button");
const status = document.querySelector("[role=status]");
const alert = document.querySelector("[role=alert]");

function messageFor(error) {
  const errors = error?.details?.fields ?? [];
  if (errors.some((item) => item.field === "token")) {
    return "This link is unknown, used or expired. Request a new one.";
  }
  return errors.length ? `The password ${errors[0].message}.` : error?.message ?? "The request failed. Try again.";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  status.textContent = alert.textContent = "";
  try {
    const response = await fetch(form.dataset.action, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token, ...Object.fromEntries(new FormData(form)) }),
    });
    if (response.ok) {
      status.textContent = form.dataset.done;
      form.remove();
    } else {
      const body = await response.json().catch(() => ({}));
      alert.textContent = messageFor(body.error);
    }
  } catch {
    alert.textContent = "The service cannot be reached. Try again in a moment.";
  }
  button.disabled = false;
});
