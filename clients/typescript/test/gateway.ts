/** A server that answers as a gateway does, and what it was sent. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export const REFUSED = JSON.stringify({
  error: { type: "budget_exceeded", message: "Budget has been exceeded! Current cost: 2, Max budget: 1" },
});
export const OF_BUDGET = { "x-spendmeter-budget": "key-day" };

export interface Answer {
  status: number;
  body?: string;
  headers?: Record<string, string>;
}

export interface Gateway {
  url: string;
  /** The bodies that came, in their order. */
  asked: string[];
}

/** Answers in turn, the last for ever, while the block runs. */
export async function gateway(answers: Answer[], block: (gateway: Gateway) => Promise<void>): Promise<void> {
  const asked: string[] = [];
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    asked.push(Buffer.concat(parts).toString());
    const { status, body = "{}", headers = {} } = answers[Math.min(asked.length, answers.length) - 1]!;
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  try {
    await block({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
