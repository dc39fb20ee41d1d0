/** The same rules as in Python: cases with their answers, which the Python client gave. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { policyOf, RetryState } from "../src/policy.js";
import { readRefusal, type BudgetRefusal } from "../src/refusals.js";

/** Amounts as numbers: Python has no text of them any more. */
type Figures = Omit<BudgetRefusal, "spentUsd" | "limitUsd"> & { spentUsd: number | null; limitUsd: number | null };

interface Cases {
  refusals: { status: number; headers: Record<string, string>; body: unknown; refusal: Figures | null }[];
  waits: {
    policy: { maxWaitSeconds: number; maxAttempts: number; pollSeconds: number | null };
    refused: { retryAfterSeconds: number | null; atSeconds: number; waitSeconds: number | null }[];
  }[];
}

const file = process.env.SPENDMETER_TEST_CASES;
const cases: Cases = file ? JSON.parse(readFileSync(file, "utf8")) : { refusals: [], waits: [] };
const skip = file ? false : "SPENDMETER_TEST_CASES names no file; pytest makes one";

test("what is a refusal, and what it says", { skip }, () => {
  assert.ok(cases.refusals.length > 100);
  for (const { status, headers, body, refusal } of cases.refusals) {
    const found = figures(readRefusal(status, new Headers(headers), body));
    assert.deepEqual(found, refusal, JSON.stringify({ status, headers, body }));
  }
});

test("how long is waited, and when it ends", { skip }, () => {
  assert.ok(cases.waits.length > 100);
  for (const { policy, refused } of cases.waits) {
    const state = new RetryState(policyOf(policy));
    for (const { retryAfterSeconds, atSeconds, waitSeconds } of refused) {
      const refusal = { message: "", budget: null, spentUsd: null, limitUsd: null, retryAfterSeconds };
      assert.equal(state.refused(refusal, atSeconds, new Date())?.waitSeconds ?? null, waitSeconds, JSON.stringify(policy));
    }
  }
});

function figures(refusal: BudgetRefusal | null): Figures | null {
  const number = (text: string | null) => (text === null ? null : Number(text));
  return refusal && { ...refusal, spentUsd: number(refusal.spentUsd), limitUsd: number(refusal.limitUsd) };
}
