/** The kit of docs/frontend against a running stack. tests/flows/pooled/test_frontend_kit.py runs this. */
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import {
  environmentManager,
  InfiniteQueryObserver,
  MutationObserver,
  QueryClient,
  QueryObserver,
} from "@tanstack/query-core";
import {
  ApiError,
  ConnectionError,
  createPaywright,
  isFinal,
  memoryTokens,
  type Options,
  type Payment,
} from "./client.js";
import { cancelPayment, createPayment, followEvents, paymentQuery, paymentsQuery } from "./queries.js";

const baseUrl = process.env["BASE_URL"] ?? "";
const password = "correct horse battery";
// TanStack Query fetches nothing again on a server, and takes node for one.
environmentManager.setIsServer(() => false);

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  status?: number;
}

/** A signed-in user with everything that the client sent. */
async function signedIn(role: "CUSTOMER" | "VENDOR" = "CUSTOMER", options: Partial<Options> = {}) {
  const sent: Sent[] = [];
  const tokens = memoryTokens();
  const recorded: typeof fetch = async (input, init) => {
    const request = new Request(input, init);
    const entry: Sent = { method: request.method, path: new URL(request.url).pathname, headers: request.headers };
    sent.push(entry);
    const response = await (options.fetch ?? fetch)(request);
    entry.status = response.status;
    return response;
  };
  const paywright = createPaywright({ baseUrl, tokens, ...options, fetch: recorded });
  const email = `${randomUUID()}@example.com`;
  await paywright.register({ email, password, name: "Jo", role });
  return { paywright, sent, tokens, email };
}

/** The same access token, but it expired an hour ago. */
function expired(token: string): string {
  const [header = "", payload = ""] = token.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
  const past = Math.floor(Date.now() / 1000) - 3600;
  const text = `${header}.${Buffer.from(JSON.stringify({ ...claims, iat: past - 900, exp: past })).toString("base64url")}`;
  return `${text}.${createHmac("sha256", process.env["JWT_SECRET"] ?? "").update(text).digest("base64url")}`;
}

/** Without the timers that forget a result after five minutes: the test would end after them. */
function newQueries(): QueryClient {
  return new QueryClient({ defaultOptions: { queries: { gcTime: Infinity, retry: false }, mutations: { gcTime: Infinity } } });
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await setTimeout(20);
}

type Kit = Awaited<ReturnType<typeof signedIn>>;

function pay({ paywright: { api, data } }: Pick<Kit, "paywright">, simulate: string, wait = "wait=10"): Promise<Payment> {
  const body = { type: "payment", amount: "12.50", metadata: { simulate } } as const;
  return data(api.POST("/api/payments", { body, params: { header: { Prefer: wait } } }));
}

async function refused(call: Promise<unknown>): Promise<ApiError> {
  const error: unknown = await call.then(() => null, (reason: unknown) => reason);
  assert(error instanceof ApiError, String(error));
  return error;
}

await test("a payment completes, is declined, or takes its time", async () => {
  const kit = await signedIn();
  assert.equal((await pay(kit, "approve")).status, "completed");
  const declined = await pay(kit, "decline:insufficient_funds");
  assert.deepEqual([declined.status, declined.failure?.code], ["failed", "insufficient_funds"]);
  const slow = await pay(kit, "slow", "wait=1");
  assert(!isFinal(slow));
  assert.equal((await kit.paywright.settled(slow.id)).status, "completed");
});

await test("a payment whose answer was lost is asked for again and made once", async () => {
  let lost = 0;
  const kit = await signedIn("CUSTOMER", {
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (response.url.endsWith("/api/payments") && (input as Request).method === "POST" && lost++ < 2) {
        throw new TypeError("the connection broke");
      }
      return response;
    },
  });
  const payment = await pay(kit, "approve");
  const posts = kit.sent.filter(({ method, path }) => method === "POST" && path === "/api/payments");
  assert.equal(posts.length, 3);
  assert.equal(new Set(posts.map(({ headers }) => headers.get("Idempotency-Key"))).size, 1);
  const { items } = await kit.paywright.data(kit.paywright.api.GET("/api/payments"));
  assert.deepEqual(items.map(({ id }) => id), [payment.id]);
});

await test("twenty calls with an expired token renew it once", async () => {
  const { paywright, sent, tokens } = await signedIn();
  const before = await tokens.get();
  assert(before);
  await tokens.set({ ...before, accessToken: expired(before.accessToken) });
  const me = await Promise.all(Array.from({ length: 20 }, () => paywright.data(paywright.api.GET("/api/auth/me"))));
  assert.equal(new Set(me.map(({ id }) => id)).size, 1);
  assert.equal(sent.filter(({ path }) => path === "/api/auth/refresh").length, 1);
  assert.notEqual((await tokens.get())?.refreshToken, before.refreshToken);
});

await test("what one user asked for is not done for the next one who signs in", async () => {
  const next = await signedIn();
  const kit = await signedIn("CUSTOMER", {
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (response.status === 401) await kit.tokens.set(await next.tokens.get());
      return response;
    },
  });
  const known = await kit.tokens.get();
  assert(known);
  await kit.tokens.set({ ...known, accessToken: expired(known.accessToken) });
  assert.equal((await refused(pay(kit, "approve"))).status, 401);
  assert.equal(kit.sent.filter(({ path }) => path === "/api/payments").length, 1);
});

await test("a session that was ended elsewhere signs the user out", async () => {
  let told = 0;
  const { paywright, tokens, email } = await signedIn("CUSTOMER", { onSignedOut: () => told++ });
  const elsewhere = createPaywright({ baseUrl });
  await elsewhere.signIn(email, password);
  await elsewhere.data(elsewhere.api.POST("/api/auth/logout", { body: { everywhere: true } }));
  const error = await refused(paywright.data(paywright.api.GET("/api/auth/me")));
  assert.deepEqual([error.status, error.code, error.details["reason"]], [401, "UNAUTHORIZED", "token_revoked"]);
  assert.deepEqual([await tokens.get(), told], [null, 1]);

  // The same with a token that had expired: its refresh token is refused.
  const other = await signedIn("CUSTOMER", { onSignedOut: () => told++ });
  const known = await other.tokens.get();
  assert(known);
  await other.paywright.data(other.paywright.api.POST("/api/auth/logout", { body: {} }));
  await other.tokens.set({ ...known, accessToken: expired(known.accessToken) });
  assert.equal((await refused(other.paywright.data(other.paywright.api.GET("/api/auth/me")))).status, 401);
  assert.deepEqual([await other.tokens.get(), told], [null, 2]);
});

await test("a payment that has not changed is not sent again", async () => {
  const kit = await signedIn();
  const paid = await pay(kit, "approve");
  const { api, data } = kit.paywright;
  const read = () => data(api.GET("/api/payments/{paymentId}", { params: { path: { paymentId: paid.id } } }));
  assert.deepEqual(await read(), paid);
  assert.deepEqual(await read(), paid);
  assert.deepEqual(kit.sent.slice(-2).map(({ status }) => status), [200, 304]);
});

await test("a refusal for too many attempts is waited for, if it is short", async () => {
  const { email } = await signedIn();
  const impatient = createPaywright({ baseUrl, maxRetryAfterS: 0 });
  let error = await refused(impatient.signIn(email, "wrong"));
  while (error.code === "INVALID_CREDENTIALS") error = await refused(impatient.signIn(email, "wrong"));
  assert.deepEqual([error.status, error.code], [429, "RATE_LIMITED"]);
  assert(error.retryAfter);
  const began = Date.now();
  assert.equal((await refused(createPaywright({ baseUrl }).signIn(email, "wrong"))).code, "INVALID_CREDENTIALS");
  assert(Date.now() - began >= error.retryAfter * 1000 - 1000);
});

await test("an error says what a form and the support need", async () => {
  const { paywright } = await signedIn();
  const body = { type: "payment", amount: "12.505", currency: "USD" } as const;
  const error = await refused(paywright.data(paywright.api.POST("/api/payments", { body })));
  assert.deepEqual([error.status, error.code], [400, "VALIDATION_ERROR"]);
  assert(error.fields["amount"]);
  assert(error.requestId);
});

await test("a call that is aborted ends, and is not repeated", async () => {
  const kit = await signedIn();
  const { api, data, events } = kit.paywright;
  // It ends after eight seconds: on a loaded machine its first response may take three.
  const slow = await pay(kit, "late", "wait=1");
  const signal = AbortSignal.timeout(200);
  await assert.rejects(kit.paywright.settled(slow.id, signal), { name: "TimeoutError" });
  const before = kit.sent.length;
  await assert.rejects(data(api.GET("/api/payments", { signal: AbortSignal.abort() })), { name: "AbortError" });
  assert(kit.sent.length <= before + 1);
  assert.deepEqual(await events({ signal }).next(), { done: true, value: undefined });
});

await test("without a server, only what can do no harm is sent again", async () => {
  let tries = 0;
  const away = createPaywright({ baseUrl, maxTries: 3, fetch: () => (tries++, Promise.reject(new TypeError("away"))) });
  await assert.rejects(away.data(away.api.GET("/api/payments")), ConnectionError);
  assert.equal(tries, 3);
  await assert.rejects(away.data(away.api.PUT("/api/profile", { body: { bio: "x" } })), ConnectionError);
  assert.equal(tries, 4);
  await assert.rejects(pay({ paywright: away }, "approve"), ConnectionError);
  assert.equal(tries, 7);
});

/** Breaks each event stream after its first event, when `broken` says so. */
function breaking(broken: (stream: number) => boolean): { fetch: typeof fetch; positions: (string | null)[] } {
  const positions: (string | null)[] = [];
  const unreliable: typeof fetch = async (input, init) => {
    const request = new Request(input, init);
    const response = await fetch(request);
    if (!request.url.endsWith("/api/events/stream")) return response;
    positions.push(request.headers.get("Last-Event-ID"));
    if (!response.body || !broken(positions.length)) return response;
    const breaks = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        controller.enqueue(chunk);
        if (new TextDecoder().decode(chunk).includes("data:")) controller.error(new TypeError("the connection broke"));
      },
    });
    return new Response(response.body.pipeThrough(breaks), { headers: response.headers });
  };
  return { fetch: unreliable, positions };
}

await test("an event stream that breaks goes on where it was, without a gap", async () => {
  const { fetch, positions } = breaking((stream) => stream <= 2);
  const kit = await signedIn("CUSTOMER", { fetch });
  const stop = new AbortController();
  const events = kit.paywright.events({ signal: stop.signal });
  const first = events.next();
  await until(() => positions.length === 1);
  const ids = [(await pay(kit, "approve")).id];
  const seen: Record<string, string[]> = {};
  for (let next = await first; !next.done; next = await events.next()) {
    const { type, data } = next.value;
    const types = (seen[String(data["id"])] ??= []);
    if (types.push(type.replace("payments:payment:", "")) < 4) continue;
    // The stream has broken after its first events: this payment is made while there is none.
    if (ids.length < 3) ids.push((await pay(kit, "approve")).id);
    else stop.abort();
  }
  const all = ["created", "updated", "updated", "completed"];
  assert.deepEqual(seen, Object.fromEntries(ids.map((id) => [id, all])));
  assert.equal(positions[0], null);
  assert(positions.length >= 3 && positions.slice(1).every((position) => position !== null));
});

await test("an event stream renews an expired token, and ends with its session", async () => {
  const { paywright, tokens } = await signedIn();
  const before = await tokens.get();
  assert(before);
  await tokens.set({ ...before, accessToken: expired(before.accessToken) });
  const ended = refused(paywright.events().next());
  await until(async () => (await tokens.get())?.refreshToken !== before.refreshToken);
  await paywright.data(paywright.api.POST("/api/auth/logout", { body: {} }));
  assert.equal((await ended).code, "UNAUTHORIZED");
  assert.equal(await tokens.get(), null);
});

await test("an event stream ends when it is aborted, however long it was open", { timeout: 120_000 }, async () => {
  const kit = await signedIn();
  const stop = new AbortController();
  const events = kit.paywright.events({ signal: stop.signal });
  const first = events.next();
  await until(() => kit.sent.some(({ path, status }) => path === "/api/events/stream" && status === 200));
  await pay(kit, "approve");
  await first;
  const end = (async () => { while (!(await events.next()).done); })();
  // A request that nobody holds any more is collected then, and passes the signal on to nothing.
  await setTimeout(500);
  assert(gc);
  gc();
  stop.abort();
  await end;
});

await test("queries that follow the events are read again when something has changed", async () => {
  const kit = await signedIn();
  const queries = newQueries();
  const list = new InfiniteQueryObserver(queries, paymentsQuery(kit.paywright));
  const statuses = new Set<string>();
  const completed = new Promise<void>((resolve) => {
    list.subscribe(({ data }) => {
      for (const { status } of data?.pages.flatMap(({ items }) => items) ?? []) statuses.add(status);
      if (statuses.has("completed")) resolve();
    });
  });
  const stop = new AbortController();
  const following = followEvents(kit.paywright, queries, stop.signal);
  await until(() => kit.sent.some(({ path, status }) => path === "/api/events/stream" && status === 200));
  await pay(kit, "slow", "wait=1");
  await completed;
  stop.abort();
  await following;
  list.destroy();
  queries.clear();
});

await test("TanStack Query pages through the payments, pays, and cancels", async () => {
  const kit = await signedIn("VENDOR");
  const queries = newQueries();
  const create = new MutationObserver(queries, createPayment(kit.paywright, queries));
  const requests: Payment[] = [];
  for (const amount of ["1.00", "2.00", "3.00"]) {
    requests.unshift(await create.mutate({ body: { type: "initiate", amount }, idempotencyKey: randomUUID() }));
  }
  const list = new InfiniteQueryObserver(queries, paymentsQuery(kit.paywright, { limit: 2 }));
  await list.refetch();
  const { data, hasNextPage } = await list.fetchNextPage();
  assert.deepEqual(data?.pages.map(({ items }) => items.map(({ amount }) => amount)), [["3.00", "2.00"], ["1.00"]]);
  assert.equal(hasNextPage, false);

  const id = requests[0]?.id ?? "";
  const cancel = new MutationObserver(queries, cancelPayment(kit.paywright, queries));
  assert.equal((await cancel.mutate(id)).status, "cancelled");
  assert.equal((await refused(cancel.mutate(id))).code, "INVALID_TRANSITION");
  queries.clear();
});

await test("a live query shows each change of a payment until it is final", async () => {
  const kit = await signedIn();
  const queries = newQueries();
  const { id } = await pay(kit, "slow", "wait=1");
  const payment = new QueryObserver(queries, paymentQuery(kit.paywright, id, { live: true }));
  const seen = await new Promise<string[]>((resolve) => {
    const statuses: string[] = [];
    payment.subscribe(({ data }) => {
      if (data && statuses.at(-1) !== data.status) statuses.push(data.status);
      if (data?.status === "completed") resolve(statuses);
    });
  });
  assert.deepEqual(seen.slice(-2), ["processing", "completed"]);
  const polls = kit.sent.filter(({ method, path }) => method === "GET" && path.endsWith(id));
  assert(polls.length <= 5, `${String(polls.length)} requests for one change`);
  payment.destroy();
  queries.clear();
});
