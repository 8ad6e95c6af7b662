// The pages that mailed links lead to: a button sends what the link carries, and nothing happens without it.

const token = new URLSearchParams(location.search).get("token") ?? "";
// The token is not to stay in the browser's history.
history.replaceState(null, "", location.pathname);

const form = document.querySelector("form");
const button = form.querySelector("button");
const status = document.querySelector("[role=status]");
const alert = document.querySelector("[role=alert]");

function refusal(error) {
  const faults = error?.details?.fields ?? [];
  if (faults.some((fault) => fault.field === "token")) {
    return "This link is unknown, used or expired. Ask for another one.";
  }
  return faults.length ? `The password ${faults[0].message}.` : error?.message ?? "That did not work. Try again.";
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
      const answer = await response.json().catch(() => ({}));
      alert.textContent = refusal(answer.error);
    }
  } catch {
    alert.textContent = "The service did not answer. Try again in a moment.";
  }
  button.disabled = false;
});
