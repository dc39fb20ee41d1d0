import assert from "node:assert/strict";
import { test } from "node:test";

import { me, MeError, nanoUsd } from "spendmeter-client";
import { gateway, type Answer } from "./gateway.js";

const KEY = "sk-secret";

async function refused(answer: Answer): Promise<MeError> {
  let found: unknown;
  await gateway([answer], async ({ url }) => {
    found = await me({ url, key: KEY }).catch((error: unknown) => error);
  });
  assert.ok(found instanceof MeError);
  assert.ok(!found.message.includes(KEY));
  return found;
}

test("the page's own words are the error's", async () => {
  const error = await refused({ status: 429, body: '{"error":"too often; try again in 3 s"}', headers: { "retry-after": "3" } });
  assert.deepEqual([error.status, error.retryAfterSeconds, error.message], [429, 3, "too often; try again in 3 s"]);
  assert.equal((await refused({ status: 401, body: '{"error":"nothing is known of this key"}' })).retryAfterSeconds, null);
});

test("what is no page of spendmeter's is named", async () => {
  for (const answer of [
    { status: 200, body: "<html>Sign in</html>" },
    { status: 200, body: '{"accounts": 1}' },
    { status: 200, body: "null" },
    { status: 502, body: "" },
  ]) {
    assert.match((await refused(answer)).message, new RegExp(`answers ${answer.status}, not as spendmeter's page does`));
  }
});

test("a key is not sent on to where a page redirects", async () => {
  await gateway([{ status: 200 }], async (other) => {
    const error = await refused({ status: 302, headers: { location: other.url } });
    assert.equal(error.status, 302);
    assert.deepEqual(other.asked, []);
  });
});

test("what is no key is not shown in the error", async () => {
  for (const key of ["", "sk-a\nb", "sk-ä"]) {
    await assert.rejects(me({ url: "http://127.0.0.1:1", key }), (error: Error) => !key || !error.message.includes(key));
  }
});

test("amounts are exact to the nano-dollar", () => {
  assert.equal(nanoUsd("0.000000001"), 1n);
  assert.equal(nanoUsd("9007199254.740993"), 9_007_199_254_740_993_000n);
  assert.equal(nanoUsd("-0.0105"), -10_500_000n);
  assert.equal(nanoUsd("3"), 3_000_000_000n);
  for (const odd of ["", "1e-3", "0.0000000001", ".5", "1.", "-", "NaN", "1 "]) {
    assert.throws(() => nanoUsd(odd), RangeError);
  }
});
