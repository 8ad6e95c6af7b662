// Keeps a live page current: fetches it again and replaces the elements with `data-live` that have changed.
//
// <main data-events> does so after each event of the event stream, <main data-events="ID"> after those that
// name this payment, <main data-every="5"> every five seconds. Both may be set.
// A <form data-stay> is sent without leaving the page, which then shows what came of it.

const main = document.querySelector("main");
const connection = document.querySelector("#connection");
const SETTLE_MS = 150;
const MAX_RETRY_MS = 10_000;
// How long a response may take: a server that does not answer must not end the refreshes.
const ANSWER_MS = 15_000;

let failedSince = null;
let underway = false;
let again = false;
let timer = 0;
let due = Infinity;
let retryMs = 1000;

function report(problem) {
  document.documentElement.classList.remove("is-live");
  failedSince ??= new Date();
  connection.classList.add("warn");
  connection.hidden = false;
  connection.textContent = `${problem} This page shows what was known at ${failedSince.toLocaleTimeString()}. `
    + "It is loaded again by itself; nothing has to be done.";
}

function recovered() {
  document.documentElement.classList.add("is-live");
  // Without a failure before, the text is the result of a form, and stays.
  if (failedSince) connection.hidden = true;
  failedSince = null;
  retryMs = 1000;
}

async function refresh() {
  if (underway) { again = true; return; }
  underway = true;
  try {
    const response = await fetch(location.href, {
      headers: { Accept: "text/html" },
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (response.redirected && new URL(response.url).pathname === "/console/sign-in") {
      location.assign(response.url);
      return;
    }
    if (!response.ok) {
      report(`The server answered with status ${response.status}.`);
      schedule(retryMs = Math.min(MAX_RETRY_MS, retryMs * 2));
    } else {
      replace(new DOMParser().parseFromString(await response.text(), "text/html"));
      recovered();
    }
  } catch {
    report("The server cannot be reached.");
    schedule(retryMs = Math.min(MAX_RETRY_MS, retryMs * 2));
  } finally {
    underway = false;
    if (again) { again = false; schedule(SETTLE_MS); }
  }
}

function replace(page) {
  // An open dialog asks about a form, which must still exist when the answer comes.
  if (document.querySelector("dialog[open]")) { schedule(1000); return; }
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh || fresh.outerHTML === old.outerHTML) continue;
    if (withoutAges(fresh) === withoutAges(old)) { renewAges(old, fresh); continue; }
    // A field in which the visitor types is not replaced.
    if (old.contains(document.activeElement?.closest("input, textarea, select"))) continue;
    const focused = old.contains(document.activeElement) ? identity(document.activeElement) : null;
    old.replaceWith(document.adoptNode(fresh));
    // Without the focus, the next Tab would begin at the top of the page.
    if (focused) [...fresh.querySelectorAll("*")].find((each) => identity(each) === focused)?.focus();
  }
}

const withoutAges = (element) => element.outerHTML.replace(/(<time datetime="[^"]*")[^>]*>[^<]*/g, "$1");

function renewAges(old, fresh) {
  const times = fresh.querySelectorAll("time");
  old.querySelectorAll("time").forEach((time, index) => {
    time.title = times[index].title;
    time.textContent = times[index].textContent;
  });
}

// Identifies a control, also after its element was replaced: by its text, its link, and what its form sends.
function identity(control) {
  const form = control.closest("form");
  const sent = form ? new URLSearchParams(new FormData(form)).toString() : "";
  return [control.tagName, control.id, control.getAttribute("href"), control.textContent.trim(), sent].join("|");
}

async function send(event) {
  const form = event.target;
  if (event.defaultPrevented || form.dataset.stay === undefined) return;
  event.preventDefault();
  const button = event.submitter;
  if (button) button.disabled = true;
  try {
    const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, button)) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (button) button.disabled = false;
    replace(page);
    const said = page.querySelector("[role=alert], main > .notice:not(#connection)");
    connection.hidden = !said;
    if (said) connection.textContent = said.textContent.trim();
    connection.classList.toggle("warn", !response.ok);
  } catch {
    report("The server cannot be reached.");
  } finally {
    if (button) button.disabled = false;
  }
}

// A later call never postpones a refresh that is due: the page is also refreshed while events keep coming.
function schedule(delayMs) {
  const at = performance.now() + delayMs;
  if (at >= due) return;
  clearTimeout(timer);
  due = at;
  timer = setTimeout(() => { due = Infinity; refresh(); }, delayMs);
}

function listen() {
  const about = main.dataset.events;
  const stream = new EventSource("/console/events");
  stream.onmessage = (event) => { if (!about || event.data.includes(about)) schedule(SETTLE_MS); };
  // Something may have happened since the page was made, or since the connection was interrupted.
  stream.onopen = () => schedule(0);
  stream.onerror = () => {
    report("The connection to the server is interrupted.");
    if (stream.readyState !== EventSource.CLOSED) return;
    // After an error response the browser does not reconnect: a refresh shows the error, and a timer reconnects.
    setTimeout(listen, retryMs = Math.min(MAX_RETRY_MS, retryMs * 2));
    schedule(0);
  };
}

document.addEventListener("submit", send);
if (main?.dataset.events !== undefined || main?.dataset.every) document.documentElement.classList.add("is-live");
if (main?.dataset.events !== undefined) listen();
if (main?.dataset.every) setInterval(() => { if (!document.hidden) refresh(); }, 1000 * Number(main.dataset.every));
document.addEventListener("visibilitychange", () => { if (!document.hidden && main?.dataset.every) refresh(); });
