/**
 * A client of Paywright's API: typed calls, tokens that renew themselves, safe retries, cached reads, live events.
 *
 * Copy this file and write schema.d.ts beside it; README.md has the commands. It needs `fetch`, and two small
 * packages: openapi-fetch and eventsource-parser. It knows no framework.
 */
import { createParser, type EventSourceMessage } from "eventsource-parser";
import createClient, { type RequestBodyOption } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
export type AuthResult = Schemas["AuthResult"];
export type ErrorCode = Schemas["ErrorCode"];
export type Event = Schemas["Event"];
export type NewPayment = RequestBodyOption<paths["/api/payments"]["post"]>["body"];
export type Payment = Schemas["Payment"];
export type PaymentPage = Schemas["PaymentPage"];
export type PaymentsFilter = Omit<NonNullable<paths["/api/payments"]["get"]["parameters"]["query"]>, "cursor">;
export type PaymentStatus = Schemas["PaymentStatus"];
export type User = Schemas["User"];

/** What the store of tokens keeps. `userId` keeps the cached reads of two users apart. */
export interface Tokens {
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly userId: string;
}

/** Where the tokens are between two calls. It is asked before each call, so several tabs may share one. */
export interface TokenStore {
  get(): Tokens | null | Promise<Tokens | null>;
  set(tokens: Tokens | null): unknown;
}

export interface Options {
  /** The server's address without `/api`, as `https://pay.example`. Empty: the server that the page is from. */
  readonly baseUrl: string;
  /** `memoryTokens()` by default: a reload of the page signs the user out. */
  readonly tokens?: TokenStore;
  /** The session has ended: it expired, was ended elsewhere, or the account was closed. */
  readonly onSignedOut?: () => void;
  /** The W3C `traceparent` of the next request, if you trace. */
  readonly traceparent?: () => string | undefined;
  readonly fetch?: typeof fetch;
  /** How often a request is sent at most: 4 by default. */
  readonly maxTries?: number;
  /** A longer `Retry-After` is an error at once: 20 seconds by default. */
  readonly maxRetryAfterS?: number;
  /** How long one try may take. Above the 10 seconds for which the API waits at most: 30 seconds by default. */
  readonly timeoutMs?: number;
}

/** The API refused a request. `code` says why, to a program; `message` to its developer. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  /** `UNKNOWN` if something in between answered: a proxy, for instance. */
  readonly code: ErrorCode | "UNKNOWN";
  readonly details: Readonly<Record<string, unknown>>;
  /** Tell it to support: the server's log and audit log have the same. */
  readonly requestId: string | null;
  /** Seconds after which another try may succeed. */
  readonly retryAfter: number | null;

  constructor(response: Response, body: unknown) {
    const error = (body as Partial<Schemas["ErrorResponse"]> | null | undefined)?.error;
    super(error?.message ?? `The server answered with status ${String(response.status)}.`);
    this.status = response.status;
    this.code = error?.code ?? "UNKNOWN";
    this.details = error?.details ?? {};
    this.requestId = response.headers.get("X-Request-ID");
    this.retryAfter = retryAfterOf(response);
  }

  /** The messages of a VALIDATION_ERROR by the name of the field, to show them in a form. */
  get fields(): Readonly<Record<string, string>> {
    const faults = (this.details["fields"] ?? []) as Schemas["FieldError"][];
    return Object.fromEntries(faults.map(({ field, message }) => [field, message]));
  }
}

/** No answer arrived, after every try: whether the request was executed is unknown. `cause` is the last failure. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
}

/** Keeps the tokens until the page is closed or loaded anew: no script of another origin can steal them later. */
export function memoryTokens(): TokenStore {
  let kept: Tokens | null = null;
  return { get: () => kept, set: (tokens) => (kept = tokens) };
}

/** Keeps the tokens in `sessionStorage` (this tab) or `localStorage` (every tab, until the user signs out). */
export function storedTokens(storage: Storage, name = "paywright"): TokenStore {
  return {
    get: () => JSON.parse(storage.getItem(name) ?? "null") as Tokens | null,
    set: (tokens) => {
      if (tokens) storage.setItem(name, JSON.stringify(tokens));
      else storage.removeItem(name);
    },
  };
}

/** A key for an Idempotency-Key. Make one when a form is opened, and a second click pays nothing twice. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether nothing changes this payment any more. */
export function isFinal(payment: Pick<Payment, "status">): boolean {
  return ["completed", "failed", "cancelled"].includes(payment.status);
}

export type Paywright = ReturnType<typeof createPaywright>;

// The routes that execute a request once for each Idempotency-Key.
const KEYED = /\/api\/payments(\/[^/]+\/status)?$/;
// Answers that say nothing of the request itself: it may be sent again where that cannot do harm.
const PASSING = new Set([502, 503, 504]);
const CACHED_ANSWERS = 200;
// The server says something every few seconds, if only a comment. After this long the connection is dead.
const STREAM_SILENCE_MS = 45_000;

export function createPaywright(options: Options) {
  const { tokens = memoryTokens(), maxTries = 4, maxRetryAfterS = 20, timeoutMs = 30_000 } = options;
  const baseUrl = options.baseUrl.replace(/\/$/, "");
  const api = createClient<paths>({ baseUrl, fetch: send });
  const cache = new Map<string, { etag: string; body: ArrayBuffer; headers: Headers }>();
  let renewal: Promise<Tokens | null> | undefined;

  /** Sends a request of openapi-fetch, as often as is safe and useful. */
  async function send(request: Request): Promise<Response> {
    if (request.method === "POST" && KEYED.test(new URL(request.url).pathname)) {
      // One for all tries: the API executes the request once, whichever answer gets lost.
      if (!request.headers.has("Idempotency-Key")) request.headers.set("Idempotency-Key", newKey());
    }
    const traceparent = options.traceparent?.();
    if (traceparent) request.headers.set("traceparent", traceparent);
    const harmless = ["GET", "HEAD"].includes(request.method) || request.headers.has("Idempotency-Key");
    return withRetries(harmless, request.signal, () => withTokens(request, cached));
  }

  async function withRetries(
    harmless: boolean,
    signal: AbortSignal | undefined,
    attempt: () => Promise<Response>,
  ): Promise<Response> {
    for (let tries = 1; ; tries++) {
      let response: Response | undefined;
      let failure: unknown;
      try {
        response = await attempt();
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof ApiError) throw error;
        failure = error;
      }
      const again = tries < maxTries && mayRepeat(harmless, response);
      const after = (response && retryAfterOf(response)) ?? 0;
      if (!again || after > maxRetryAfterS) {
        if (response) return response;
        throw new ConnectionError("The server did not answer.", { cause: failure });
      }
      // Spread out, because many clients were refused at the same moment.
      await pause(after * 1000 + Math.random() * 250 * 2 ** tries, signal);
    }
  }

  /** Sends a request with the access token; renews that once if it has expired. */
  async function withTokens(request: Request, sender: (request: Request, userId?: string) => Promise<Response>) {
    const used = await tokens.get();
    const response = await sender(signed(request, used), used?.userId);
    if (response.status !== 401 || !used) return response;
    const { details } = new ApiError(response, await response.clone().json().catch(() => null));
    // Also invalid, as after the server's keys were replaced: a refresh token does not depend on them.
    if (details["reason"] === "token_expired" || details["reason"] === "token_invalid") {
      const renewed = await renew(used);
      return renewed ? sender(signed(request, renewed), renewed.userId) : response;
    }
    if (details["reason"] === "token_revoked") await forget(used);
    return response;
  }

  /** Exchanges the refresh token, once for all requests that wait for it. Null: the user has to sign in. */
  function renew(expired: Tokens): Promise<Tokens | null> {
    renewal ??= exchange(expired).finally(() => (renewal = undefined));
    return renewal;
  }

  async function exchange(expired: Tokens): Promise<Tokens | null> {
    const current = await tokens.get();
    // Another user has signed in: what the last one asked for is never done in their name.
    if (current?.userId !== expired.userId) return null;
    // Another call, or another tab, was faster.
    if (current.accessToken !== expired.accessToken) return current;
    const body = JSON.stringify({ refreshToken: current.refreshToken });
    const headers = { "Content-Type": "application/json" };
    const request = new Request(`${baseUrl}/api/auth/refresh`, { method: "POST", headers, body });
    // Safe to repeat: for ten seconds the API gives the same successor for a token.
    const response = await withRetries(true, undefined, () => timed(request.clone()));
    const answer = (await response.json().catch(() => null)) as { data: AuthResult } | null;
    if (response.ok && answer) return remember(answer.data, current);
    if (response.status !== 401) throw new ApiError(response, answer);
    await forget(current);
    return null;
  }

  /** Stores new tokens. Not if these replace others and the user has signed out, or in again, meanwhile. */
  async function remember({ accessToken, refreshToken, user }: AuthResult, replaced?: Tokens): Promise<Tokens> {
    const next = { accessToken, refreshToken, userId: user.id };
    if (!replaced || (await tokens.get())?.refreshToken === replaced.refreshToken) await tokens.set(next);
    return next;
  }

  async function forget(ended: Tokens): Promise<void> {
    if ((await tokens.get())?.accessToken !== ended.accessToken) return;
    cache.clear();
    await tokens.set(null);
    options.onSignedOut?.();
  }

  /** Sends a request; a GET with the ETag of the last answer, which it returns again if that still holds. */
  async function cached(request: Request, userId = ""): Promise<Response> {
    if (request.method !== "GET" || request.headers.has("If-None-Match")) return timed(request);
    const key = [userId, request.url, request.headers.get("Accept")].join(" ");
    const known = cache.get(key);
    if (known) request.headers.set("If-None-Match", known.etag);
    const response = await timed(request);
    if (response.status === 304 && known) {
      // Its other headers are news, as X-Request-ID.
      response.headers.delete("Content-Length");
      const headers = new Headers({ ...Object.fromEntries(known.headers), ...Object.fromEntries(response.headers) });
      return new Response(known.body, { status: 200, headers });
    }
    const etag = response.headers.get("ETag");
    cache.delete(key);
    if (response.ok && etag) {
      cache.set(key, { etag, body: await response.clone().arrayBuffer(), headers: response.headers });
      const oldest = cache.keys().next().value;
      if (cache.size > CACHED_ANSWERS && oldest !== undefined) cache.delete(oldest);
    }
    return response;
  }

  /** One try. It reads the whole body: an answer that breaks off is no answer. */
  async function timed(request: Request): Promise<Response> {
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(timeoutMs)]);
    const response = await (options.fetch ?? fetch)(request, { signal });
    const body = await response.arrayBuffer();
    const { status, statusText, headers } = response;
    return new Response(body.byteLength ? body : null, { status, statusText, headers });
  }

  /** Returns the `data` of an answer. Throws an ApiError if the API refused the request. */
  async function data<E extends object>(
    call: Promise<{ data?: E; error?: unknown; response: Response }>,
  ): Promise<E extends { data: infer T } ? T : null> {
    const { data: envelope, error, response } = await call;
    if (!envelope) throw new ApiError(response, error);
    return (envelope as { data: E extends { data: infer T } ? T : null }).data;
  }

  async function signIn(email: string, password: string): Promise<User> {
    const result = await data(api.POST("/api/auth/login", { body: { email, password } }));
    await remember(result);
    return result.user;
  }

  async function register(body: Schemas["Registration"]): Promise<User> {
    const result = await data(api.POST("/api/auth/register", { body }));
    await remember(result);
    return result.user;
  }

  /** Ends the session here even if the server cannot be reached. */
  async function signOut(): Promise<void> {
    try {
      await data(api.POST("/api/auth/logout", { body: {} }));
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 401)) throw error;
    } finally {
      cache.clear();
      await tokens.set(null);
    }
  }

  /** Waits until a payment is completed, failed or cancelled: by long polling, six requests a minute. */
  async function settled(paymentId: string, signal?: AbortSignal): Promise<Payment> {
    let version = 0;
    for (;;) {
      const asked = Date.now();
      const header = version ? { Prefer: "wait=10" } : {};
      const params = { path: { paymentId }, header };
      const payment = await data(api.GET("/api/payments/{paymentId}", { params, signal: signal ?? null }));
      if (isFinal(payment)) return payment;
      // The API answers at once if too many requests wait already.
      if (payment.version === version && Date.now() - asked < 1000) await pause(1000, signal);
      version = payment.version;
    }
  }

  /**
   * The events that the user may see, as they happen; after `after`, if you give the `seq` of the last one you know.
   *
   * It connects again whenever the connection breaks, and goes on after the last event. It ends when `signal` is
   * aborted, and throws an ApiError when the session has ended.
   */
  async function* events({ after, signal }: { after?: number; signal?: AbortSignal } = {}): AsyncGenerator<Event, void> {
    let last = after?.toString() ?? "";
    for (let failures = 0; !signal?.aborted; failures = Math.min(failures + 1, 6)) {
      const connection = new AbortController();
      const ended = signal ? AbortSignal.any([signal, connection.signal]) : connection.signal;
      let silence: ReturnType<typeof setTimeout> | undefined;
      let retryAfterS = 0;
      try {
        const request = new Request(`${baseUrl}/api/events/stream`, {
          headers: { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) },
        });
        const response = await withTokens(request, (copy) => (options.fetch ?? fetch)(copy, { signal: ended }));
        if (!response.ok || !response.body) {
          throw new ApiError(response, await response.json().catch(() => null));
        }
        // Where this stream begins: without it, what happens before the first event would be missed by the next one.
        last = response.headers.get("Last-Event-ID") ?? last;
        const received: EventSourceMessage[] = [];
        const parser = createParser({ onEvent: (event) => received.push(event) });
        // A request loses its signal when it is garbage-collected, which node does while its answer is still read.
        const reader = response.body.pipeThrough(new TextDecoderStream(), { signal: ended }).getReader();
        for (;;) {
          silence = setTimeout(() => { connection.abort(); }, STREAM_SILENCE_MS);
          const { done, value } = await reader.read();
          clearTimeout(silence);
          if (done) break;
          failures = 0;
          parser.feed(value);
          for (const event of received.splice(0)) {
            yield JSON.parse(event.data) as Event;
            last = event.id ?? last;
          }
        }
      } catch (error) {
        if (error instanceof ApiError) {
          if (error.status !== 429 && !PASSING.has(error.status)) throw error;
          retryAfterS = error.retryAfter ?? 0;
        }
      } finally {
        clearTimeout(silence);
        connection.abort();
      }
      await pause(retryAfterS * 1000 + Math.random() * 500 * 2 ** failures, signal).catch(() => undefined);
    }
  }

  return { api, data, signIn, register, signOut, settled, events, isFinal };
}

function signed(request: Request, tokens: Tokens | null): Request {
  const copy = request.clone();
  if (tokens) copy.headers.set("Authorization", `Bearer ${tokens.accessToken}`);
  return copy;
}

/** Whether a request may be sent again after this answer, or after none. */
function mayRepeat(harmless: boolean, response: Response | undefined): boolean {
  // Refused before it was executed.
  if (response?.status === 429 || response?.status === 408) return true;
  // Of the 409s, only IDEMPOTENCY_IN_PROGRESS says when to ask again.
  const waits = response?.status === 409 && retryAfterOf(response) !== null;
  return harmless && (!response || PASSING.has(response.status) || waits);
}

function retryAfterOf(response: Response): number | null {
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return Number.isNaN(seconds) ? null : seconds;
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => { clearTimeout(timer); reject(signal?.reason as Error); };
    const timer = setTimeout(() => { signal?.removeEventListener("abort", abort); resolve(); }, ms);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}
