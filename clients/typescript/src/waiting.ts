/** Calls that wait while their budget is spent and are then repeated. Nothing else is ever retried. */

import { policyOf, RetryState, type RetryPolicy, type Waiting } from "./policy.js";
import { readRefusal, refusalOf, STATUSES } from "./refusals.js";

/** The bounds of waiting, each with its default, and who hears of each wait. */
export interface WaitOptions extends Partial<RetryPolicy> {
  /** Called before each wait; a promise that it returns is awaited. What it throws ends the call. */
  onWait?: (waiting: Waiting) => unknown;
}

export interface FetchOptions extends WaitOptions {
  /** Makes the requests; by default the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/**
 * A `fetch` that repeats requests that a budget refused once they may be served, and passes on every other answer.
 *
 * A streamed answer needs nothing more, because a refusal comes before its first byte. A request whose body cannot
 * be sent twice (a stream) is not repeated: the refusal is its answer. An abort ends the wait at once.
 */
export function waitingFetch(options: FetchOptions = {}): typeof globalThis.fetch {
  const policy = policyOf(options);
  return async (input, init) => {
    const send = options.fetch ?? globalThis.fetch;
    const state = new RetryState(policy);
    const signal = signalOf(input, init);
    for (;;) {
      const response = await send(input instanceof Request ? input.clone() : input, init);
      if (!isRepeatable(init?.body) || !STATUSES.has(response.status)) return response;
      const kept = response.clone();
      const refusal = readRefusal(response.status, response.headers, await response.text());
      const waiting = refusal && state.refused(refusal, nowSeconds(), new Date());
      if (!waiting) return kept;
      await options.onWait?.(waiting);
      await pause(waiting.waitSeconds, signal);
    }
  };
}

/**
 * Make the call; while a budget refuses it, wait for the budget and make it again.
 *
 * Throws what the call throws: at once if it is not a budget's refusal, or the last refusal once the policy ends.
 * `signal` ends the wait with its reason.
 */
export async function whenBudgetAllows<T>(
  call: () => Promise<T>,
  options: WaitOptions & { signal?: AbortSignal | null } = {},
): Promise<T> {
  const state = new RetryState(policyOf(options));
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const refusal = refusalOf(error);
      const waiting = refusal && state.refused(refusal, nowSeconds(), new Date());
      if (!waiting) throw error;
      await options.onWait?.(waiting);
      await pause(waiting.waitSeconds, options.signal);
    }
  }
}

// A longer one fires at once.
const LONGEST_TIMER_SECONDS = 2_147_483;

/** Resolve after so many seconds. Rejects with the signal's reason once it is aborted. */
export async function pause(seconds: number, signal?: AbortSignal | null): Promise<void> {
  const until = nowSeconds() + seconds;
  for (let left = seconds; left > 0; left = until - nowSeconds()) {
    await timer(Math.min(left, LONGEST_TIMER_SECONDS), signal);
  }
  signal?.throwIfAborted();
}

function timer(seconds: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(running);
      reject(signal?.reason);
    };
    const running = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, Math.ceil(1_000 * seconds));
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

function signalOf(input: unknown, init: RequestInit | undefined): AbortSignal | null {
  if (init?.signal !== undefined) return init.signal;
  return input instanceof Request ? input.signal : null;
}

/** Whether a body of `init` can be sent twice; that of a Request can, because it is cloned. */
function isRepeatable(body: unknown): boolean {
  return (
    body === undefined ||
    body === null ||
    typeof body === "string" ||
    ArrayBuffer.isView(body) ||
    [ArrayBuffer, Blob, FormData, URLSearchParams].some((kind) => body instanceof kind)
  );
}

function nowSeconds(): number {
  return performance.now() / 1_000;
}
