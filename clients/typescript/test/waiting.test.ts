import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { refusalOf, whenBudgetAllows, type Waiting } from "spendmeter-client";
import { pause } from "../src/waiting.js";

const SOON = { pollSeconds: 0.001 };
// As the OpenAI client throws it.
const REFUSED = Object.assign(new Error("422"), {
  status: 422,
  headers: new Headers({ "retry-after": "90" }),
  error: { type: "budget_exceeded", message: "Budget has been exceeded! Current cost: 2, Max budget: 1e-03" },
});

function refusedTimes(refusals: number, then?: Error) {
  const call = mock.fn(async () => {
    if (call.mock.callCount() < refusals) throw REFUSED;
    if (then) throw then;
    return "served";
  });
  return call;
}

test("a call waits until it is served", async () => {
  const waits: Waiting[] = [];
  const onWait = async (one: Waiting) => void waits.push(one);
  assert.equal(await whenBudgetAllows(refusedTimes(2), { ...SOON, onWait }), "served");
  assert.deepEqual(waits.map((one) => [one.attempt, one.limitUsd]), [[1, "1e-03"], [2, "1e-03"]]);
});

test("what is no refusal is thrown at once, and the last refusal when the policy ends", async () => {
  const other = new Error("another");
  await assert.rejects(whenBudgetAllows(refusedTimes(1, other), SOON), other);
  const call = refusedTimes(9);
  await assert.rejects(whenBudgetAllows(call, { ...SOON, maxAttempts: 3 }), REFUSED);
  assert.equal(call.mock.callCount(), 3);
});

test("an abort ends the wait with its reason", async () => {
  const stopping = new AbortController();
  const call = refusedTimes(9);
  const onWait = () => setImmediate(() => stopping.abort("enough"));
  await assert.rejects(whenBudgetAllows(call, { onWait, signal: stopping.signal }), (reason) => reason === "enough");
  assert.equal(call.mock.callCount(), 1);
});

test("an error that is no refusal is none, whatever is thrown", () => {
  for (const odd of [null, undefined, "422", 422, {}, { status: "422" }, { status: 422 }, { status: 422, error: [] }]) {
    assert.equal(refusalOf(odd), null);
  }
  const plain = { ...REFUSED, headers: { "retry-after": "7" } };
  assert.equal(refusalOf(plain)?.retryAfterSeconds, 7);
  assert.equal(refusalOf(REFUSED)?.retryAfterSeconds, 90);
});

test("a wait of months is no timer that fires at once", async () => {
  const stopping = new AbortController();
  const timer = mock.method(globalThis, "setTimeout");
  try {
    const waiting = pause(90 * 86_400, stopping.signal);
    assert.equal(timer.mock.calls[0]?.arguments[1], 2_147_483_000);
    stopping.abort(new Error("enough"));
    await assert.rejects(waiting, { message: "enough" });
  } finally {
    timer.mock.restore();
  }
});

test("a signal that many waits share keeps no listener of those that are over", async () => {
  const { signal } = new AbortController();
  const added = mock.method(signal, "addEventListener");
  const removed = mock.method(signal, "removeEventListener");
  await whenBudgetAllows(refusedTimes(5), { ...SOON, signal });
  assert.ok(added.mock.callCount() >= 5);
  assert.equal(removed.mock.callCount(), added.mock.callCount());
});
