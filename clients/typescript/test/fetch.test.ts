import assert from "node:assert/strict";
import { test } from "node:test";

import { waitingFetch, type Waiting } from "spendmeter-client";
import { gateway, OF_BUDGET, REFUSED, type Answer } from "./gateway.js";

const SOON = { pollSeconds: 0.001 };
const REFUSAL: Answer = { status: 422, body: REFUSED, headers: OF_BUDGET };
const SERVED: Answer = { status: 200, body: '{"served":true}' };

test("a request is made again with its body until it is served, and each wait is said", async () => {
  await gateway([REFUSAL, REFUSAL, SERVED], async ({ url, asked }) => {
    const waits: Waiting[] = [];
    const response = await waitingFetch({ ...SOON, onWait: (one) => waits.push(one) })(url, { method: "POST", body: "a" });
    assert.deepEqual(await response.json(), { served: true });
    assert.deepEqual(asked, ["a", "a", "a"]);
    assert.deepEqual(
      waits.map(({ budget, spentUsd, limitUsd, attempt }) => ({ budget, spentUsd, limitUsd, attempt })),
      [1, 2].map((attempt) => ({ budget: "key-day", spentUsd: "2", limitUsd: "1", attempt })),
    );
  });
});

test("when the policy ends the refusal is the answer, whole", async () => {
  await gateway([REFUSAL], async ({ url, asked }) => {
    const response = await waitingFetch({ ...SOON, maxAttempts: 3 })(url);
    assert.equal(response.status, 422);
    assert.equal(response.headers.get("x-spendmeter-budget"), "key-day");
    assert.equal(response.url, `${url}/`);
    assert.equal(await response.text(), REFUSED);
    assert.equal(asked.length, 3);
  });
});

test("a limit on waiting ends it, however far the window's end is", async () => {
  await gateway([{ ...REFUSAL, headers: { "retry-after": "86400" } }], async ({ url }) => {
    const waits: Waiting[] = [];
    const limited = waitingFetch({ maxWaitSeconds: 0.05, onWait: (one) => waits.push(one) });
    assert.equal((await limited(url)).status, 422);
    assert.deepEqual(waits.map((one) => one.waitSeconds), [0.05]);
  });
});

for (const answer of [
  { status: 200 },
  { status: 400, body: '{"error":{"type":"invalid_request_error","message":"max_tokens is too large"}}' },
  { status: 401, body: REFUSED },
  { status: 403, body: '{"error":{"type":"budget_unpriced","message":"no price"}}' },
  { status: 429, body: '{"error":{"type":"rate_limit_error","message":"Rate limit reached"}}', headers: { "retry-after": "1" } },
  { status: 429, body: "slow down", headers: { "retry-after": "1" } },
  { status: 500, body: REFUSED },
  { status: 503, body: "" },
] satisfies Answer[]) {
  test(`${answer.status} ${answer.body ?? ""} is passed on at once`, async () => {
    await gateway([answer], async ({ url, asked }) => {
      const response = await waitingFetch(SOON)(url, { method: "POST", body: "a" });
      assert.equal(response.status, answer.status);
      assert.equal(await response.text(), answer.body ?? "{}");
      assert.equal(asked.length, 1);
    });
  });
}

function form(): FormData {
  const made = new FormData();
  made.set("file", new Blob(["inside"]), "a.txt");
  return made;
}

const BODIES: [string, () => BodyInit, string][] = [
  ["bytes", () => new TextEncoder().encode("inside"), "inside"],
  ["a buffer", () => new TextEncoder().encode("inside").buffer as ArrayBuffer, "inside"],
  ["a blob", () => new Blob(["inside"]), "inside"],
  ["parameters", () => new URLSearchParams({ a: "inside" }), "a=inside"],
  ["a form with a file", form, "inside"],
];

for (const [what, body, sent] of BODIES) {
  test(`${what} can be sent twice`, async () => {
    await gateway([REFUSAL, SERVED], async ({ url, asked }) => {
      assert.equal((await waitingFetch(SOON)(url, { method: "POST", body: body() })).status, 200);
      assert.equal(asked.length, 2);
      assert.ok(asked.every((one) => one.includes(sent)));
    });
  });
}

test("a body that cannot be sent twice is not waited for", async () => {
  const once = new TextEncoder().encode("once");
  async function* parts() {
    yield once;
  }
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue(once);
      controller.close();
    },
  });
  for (const body of [stream, parts() as unknown as BodyInit]) {
    await gateway([REFUSAL, SERVED], async ({ url, asked }) => {
      const init = { method: "POST", body, duplex: "half" } as RequestInit;
      assert.equal((await waitingFetch(SOON)(url, init)).status, 422);
      assert.deepEqual(asked, ["once"]);
    });
  }
});

test("a Request is sent again as it is, body and headers, and stays unread", async () => {
  await gateway([REFUSAL, SERVED], async ({ url, asked }) => {
    const request = new Request(url, { method: "POST", body: "a" });
    assert.equal((await waitingFetch(SOON)(request)).status, 200);
    assert.deepEqual(asked, ["a", "a"]);
    assert.equal(request.bodyUsed, false);
  });
});

test("an abort ends the wait with its reason, wherever the signal is", async () => {
  const reason = new Error("enough");
  for (const given of ["init", "request"]) {
    await gateway([REFUSAL], async ({ url, asked }) => {
      const stopping = new AbortController();
      const waiting = waitingFetch({ onWait: () => setImmediate(() => stopping.abort(reason)) });
      const call =
        given === "init"
          ? waiting(url, { signal: stopping.signal })
          : waiting(new Request(url, { signal: stopping.signal }));
      await assert.rejects(call, reason);
      assert.equal(asked.length, 1);
    });
  }
});

test("an abort in onWait ends the call before it waits; so does what onWait throws", async () => {
  await gateway([REFUSAL], async ({ url, asked }) => {
    const stopping = new AbortController();
    const aborted = waitingFetch({ onWait: () => stopping.abort() })(url, { signal: stopping.signal });
    await assert.rejects(aborted, { name: "AbortError" });
    const thrown = waitingFetch({ onWait: () => Promise.reject(new Error("no")) })(url);
    await assert.rejects(thrown, { message: "no" });
    assert.equal(asked.length, 2);
  });
});

test("calls at one time wait each by itself", async () => {
  await gateway([REFUSAL, REFUSAL, SERVED], async ({ url }) => {
    const waiting = waitingFetch(SOON);
    const served = await Promise.all([1, 2, 3, 4].map(() => waiting(url)));
    assert.deepEqual(served.map((one) => one.status), [200, 200, 200, 200]);
  });
});

test("a gateway that is away is the error of fetch", async () => {
  await assert.rejects(waitingFetch(SOON)("http://127.0.0.1:1"), TypeError);
});

for (const wrong of [{ maxWaitSeconds: -1 }, { maxAttempts: NaN }, { pollSeconds: -5 }]) {
  test(`${JSON.stringify(wrong)} cannot be`, () => {
    assert.throws(() => waitingFetch(wrong), RangeError);
  });
}
