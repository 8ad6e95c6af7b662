/**
 * Paywright for TanStack Query: what to read, what to change, and what to read again after it.
 *
 * Copy this file beside client.ts. The functions return options for `useQuery`, `useInfiniteQuery` and `useMutation`
 * (`injectQuery`, `createQuery`, … in other frameworks): nothing here depends on one. Your adapter re-exports
 * `@tanstack/query-core`: import the types from it if the core is not installed by itself.
 */
import type { Query, QueryClient } from "@tanstack/query-core";
import type { Event, NewPayment, Payment, PaymentPage, PaymentsFilter, Paywright } from "./client.js";

export const keys = {
  /** Everything of Paywright: remove it when the user signs out. */
  all: ["paywright"],
  /** Every list of payments. */
  lists: ["paywright", "payments"],
  list: (filter: PaymentsFilter) => ["paywright", "payments", filter],
  payment: (id: string) => ["paywright", "payment", id],
} as const;

/** Payments and payment requests, newest first: an infinite query, a page of which is one request. */
export function paymentsQuery({ api, data }: Paywright, filter: PaymentsFilter = {}) {
  return {
    queryKey: keys.list(filter),
    queryFn: ({ pageParam, signal }: { pageParam: string | null; signal: AbortSignal }) => {
      const query = pageParam === null ? filter : { ...filter, cursor: pageParam };
      return data(api.GET("/api/payments", { params: { query }, signal }));
    },
    initialPageParam: null as string | null,
    getNextPageParam: (page: PaymentPage) => page.pagination.nextCursor,
  };
}

/**
 * One payment. With `live`, it is asked for again until it is final: by long polling, so the page shows a change at
 * once, at six requests a minute. Leave it out where `followEvents` runs: one stream then serves every query.
 */
export function paymentQuery({ api, data, isFinal }: Paywright, id: string, { live = false } = {}) {
  return {
    queryKey: keys.payment(id),
    queryFn: ({ client, signal }: { client: QueryClient; signal: AbortSignal }) => {
      const known = client.getQueryData<Payment>(keys.payment(id));
      const header = live && known && !isFinal(known) ? { Prefer: "wait=10" } : {};
      return data(api.GET("/api/payments/{paymentId}", { params: { path: { paymentId: id }, header }, signal }));
    },
    refetchInterval: ({ state }: Query<Payment>) => (live && state.data && !isFinal(state.data) ? 1000 : false),
  } as const;
}

/** Pays, or makes a payment request. The answer waits up to ten seconds for the payment to be settled. */
export function createPayment({ api, data }: Paywright, queries: QueryClient) {
  return {
    mutationFn: ({ body, idempotencyKey }: { body: NewPayment; idempotencyKey: string }) => {
      const header = { Prefer: "wait=10", "Idempotency-Key": idempotencyKey };
      return data(api.POST("/api/payments", { body, params: { header } }));
    },
    onSuccess: (payment: Payment) => show(queries, payment),
  };
}

/** Cancels a payment request or a payment that nobody charges yet. */
export function cancelPayment({ api, data }: Paywright, queries: QueryClient) {
  return {
    mutationFn: (id: string) => {
      const params = { path: { paymentId: id }, header: { Prefer: "wait=10" } };
      return data(api.DELETE("/api/payments/{paymentId}", { params }));
    },
    onSuccess: (payment: Payment) => show(queries, payment),
    // Refused, because it had moved on: show where it is now.
    onError: (_: Error, id: string) => queries.invalidateQueries({ queryKey: keys.payment(id) }),
  };
}

/** Reads again whatever the event stream says has changed, until `signal` is aborted. One for a whole page. */
export async function followEvents({ events }: Paywright, queries: QueryClient, signal: AbortSignal): Promise<void> {
  for await (const event of events({ signal })) {
    if (!isOfPayment(event)) continue;
    void queries.invalidateQueries({ queryKey: keys.payment(event.data.id) });
    void queries.invalidateQueries({ queryKey: keys.lists });
  }
}

function isOfPayment(event: Event): event is Event & { data: { id: string } } {
  return event.type.startsWith("payments:payment:");
}

async function show(queries: QueryClient, payment: Payment): Promise<void> {
  queries.setQueryData(keys.payment(payment.id), payment);
  await queries.invalidateQueries({ queryKey: keys.lists });
}
