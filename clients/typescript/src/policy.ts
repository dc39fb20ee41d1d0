/** How long to wait after a refusal, and when to give up. Pure: the caller brings the clock. */

import type { BudgetRefusal } from "./refusals.js";

/** The bounds of waiting. */
export interface RetryPolicy {
  /** In all, from the first refusal on. Then the refusal is thrown, or passed on. 3,600 by default. */
  maxWaitSeconds: number;
  /** Calls in all, the first included. 1,000 by default. */
  maxAttempts: number;
  /**
   * HTTP does not announce a raise or a reset, so retry this often, also before `retry-after`. 60 by default.
   * null: only at `retry-after`; a refusal without it is then final.
   */
  pollSeconds: number | null;
}

export const DEFAULT_POLICY: Readonly<RetryPolicy> = { maxWaitSeconds: 3_600, maxAttempts: 1_000, pollSeconds: 60 };

/** What `onWait` gets before each wait. */
export interface Waiting {
  budget: string | null;
  /** Decimal texts of USD, as the refusal has them. */
  spentUsd: string | null;
  limitUsd: string | null;
  /** The latest time of the next attempt. */
  until: Date;
  /** When the budget's window ends, if the refusal said so. */
  reopensAt: Date | null;
  /** The number of refused calls so far. */
  attempt: number;
  /** In all so far. */
  waitedSeconds: number;
  waitSeconds: number;
}

/** The policy with these bounds. Throws RangeError: one of them cannot be. */
export function policyOf(given: Partial<RetryPolicy>): RetryPolicy {
  const {
    maxWaitSeconds = DEFAULT_POLICY.maxWaitSeconds,
    maxAttempts = DEFAULT_POLICY.maxAttempts,
    pollSeconds = DEFAULT_POLICY.pollSeconds,
  } = given;
  const bounds = { maxWaitSeconds, maxAttempts, pollSeconds: pollSeconds ?? 0 };
  for (const [name, value] of Object.entries(bounds)) {
    if (typeof value !== "number" || !(value >= 0)) throw new RangeError(`${name} is a number of at least 0, not ${value}`);
  }
  return { maxWaitSeconds, maxAttempts, pollSeconds };
}

/** One call through its refusals, until it is served or the policy ends. */
export class RetryState {
  readonly #policy: RetryPolicy;
  #beganSeconds: number | null = null;
  #attempts = 0;

  constructor(policy: RetryPolicy) {
    this.#policy = policy;
  }

  /** The wait until the next attempt; null to give up. `seconds` is of a monotonic clock. */
  refused(refusal: BudgetRefusal, seconds: number, now: Date): Waiting | null {
    this.#attempts += 1;
    this.#beganSeconds ??= seconds;
    const waited = seconds - this.#beganSeconds;
    const left = this.#policy.maxWaitSeconds - waited;
    const after = refusal.retryAfterSeconds;
    const wait = this.#wait(after, left);
    if (wait === null || left <= 0 || this.#attempts >= this.#policy.maxAttempts) return null;
    return {
      budget: refusal.budget,
      spentUsd: refusal.spentUsd,
      limitUsd: refusal.limitUsd,
      until: later(now, wait),
      reopensAt: after === null ? null : later(now, after),
      attempt: this.#attempts,
      waitedSeconds: waited,
      waitSeconds: wait,
    };
  }

  #wait(retryAfter: number | null, left: number): number | null {
    const poll = this.#policy.pollSeconds;
    // Give up now instead of after a wait that cannot help.
    if (retryAfter !== null && retryAfter > left && poll === null) return null;
    const waits = [retryAfter, poll].filter((seconds) => seconds !== null);
    return waits.length === 0 ? null : Math.min(...waits, left);
  }
}

// What a Date can hold.
const LAST_MS = 8.64e15;

function later(now: Date, seconds: number): Date {
  return new Date(Math.min(now.getTime() + 1_000 * seconds, LAST_MS));
}
