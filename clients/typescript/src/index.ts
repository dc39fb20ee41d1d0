/** Clients of a gateway that spendmeter meters: calls that wait for their budget, and what is left of it. */
export { me, MeError, nanoUsd, type Account, type Me, type MeOptions } from "./me.js";
export { DEFAULT_POLICY, type RetryPolicy, type Waiting } from "./policy.js";
export { readRefusal, refusalOf, type BudgetRefusal } from "./refusals.js";
export { waitingFetch, whenBudgetAllows, type FetchOptions, type WaitOptions } from "./waiting.js";
