/** On the real proxy and the real page, whose addresses pytest gives. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import OpenAI from "openai";
import { me, nanoUsd, refusalOf, waitingFetch, whenBudgetAllows, type Waiting } from "spendmeter-client";

const CHAT = { model: "gpt-4o-mini", messages: [{ role: "user" as const, content: "hi [[in=1000 out=100]]" }] };
const baseURL = process.env.OPENAI_BASE_URL ?? "";
const live: { key: string; budget: string; raise: string[] }[] = JSON.parse(process.env.SPENDMETER_TEST_SPENT ?? "[]");
const skip = live.length === 0 ? "SPENDMETER_TEST_SPENT names no key whose budget is spent; pytest makes some" : false;
const run = promisify(execFile);

/** The next key whose budget is spent, and how to raise that. */
function spent() {
  const { key, budget, raise } = live.shift()!;
  const [command = "", ...given] = raise;
  return { key, budget, raise: () => run(command, given) };
}

test("the OpenAI client is served after a raise", { skip }, async () => {
  const { key, budget, raise } = spent();
  const waits: Waiting[] = [];
  const onWait = async (waiting: Waiting) => {
    if (waits.push(waiting) === 1) await raise();
  };
  const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0, fetch: waitingFetch({ pollSeconds: 0.1, onWait }) });
  const stream = await client.chat.completions.create({ ...CHAT, stream: true });
  let text = "";
  for await (const part of stream) text += part.choices[0]?.delta.content ?? "";
  assert.ok(text.length > 0);
  assert.equal(waits[0]?.budget, budget);
  assert.equal(waits[0].reopensAt, null, "a lifetime never ends");
  assert.ok(nanoUsd(waits[0].spentUsd ?? "") >= nanoUsd(waits[0].limitUsd ?? ""));
  assert.ok((await client.chat.completions.create(CHAT)).choices.length > 0);
});

test("a refusal is the client's error when waiting ends, and nothing else is waited for", { skip }, async () => {
  const { key, budget, raise } = spent();
  const waits: Waiting[] = [];
  const fetch = waitingFetch({ pollSeconds: 0.05, maxAttempts: 3, onWait: (one) => waits.push(one) });
  const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0, fetch });
  const refused: unknown = await client.chat.completions.create(CHAT).catch((error: unknown) => error);
  assert.ok(refused instanceof OpenAI.APIError);
  assert.equal(refusalOf(refused)?.budget, budget);
  assert.equal(waits.length, 2);

  const left = await me({ url: process.env.SPENDMETER_WEB_URL ?? "", key });
  const account = left.accounts.find((one) => one.budget === budget);
  assert.equal(account?.state, "exceeded");
  assert.ok(account.refuses && nanoUsd(account.remaining_usd) < 0n);
  assert.equal(nanoUsd(account.limit_usd) - nanoUsd(account.spent_usd), nanoUsd(account.remaining_usd));

  const plain = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
  const onWait = async ({ attempt }: Waiting) => void (attempt === 1 && (await raise()));
  const answer = await whenBudgetAllows(() => plain.chat.completions.create(CHAT), { pollSeconds: 0.1, onWait });
  assert.ok(answer.choices.length > 0);

  await assert.rejects(client.chat.completions.create({ ...CHAT, model: "no-such-model" }), OpenAI.APIError);
  await assert.rejects(client.withOptions({ apiKey: "sk-nobody" }).models.list(), OpenAI.APIError);
  assert.equal(waits.length, 2);
});

test("a key that nobody knows", { skip }, async () => {
  await assert.rejects(me({ url: process.env.SPENDMETER_WEB_URL ?? "", key: "sk-nobody" }), { status: 401 });
});

test("the timeout of the OpenAI client bounds the wait, too", { skip }, async () => {
  const { key } = spent();
  const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0, timeout: 1_000, fetch: waitingFetch() });
  await assert.rejects(client.chat.completions.create(CHAT), OpenAI.APIConnectionTimeoutError);
});
