/** Which answers and errors are refusals of a budget, spendmeter's or LiteLLM's own. Pure. */

/** Statuses of a spent budget, by LiteLLM's version and setting (422, earlier 429 and 400); 503: unverified. */
export const STATUSES: ReadonlySet<number> = new Set([400, 422, 429, 503]);

const TYPES = ["budget_exceeded", "budget_unverified"];
// Routes in Anthropic's shape, and hooks that raise LiteLLM's own error, name another type.
const OPENINGS = ["Budget has been exceeded!", "Budget would be exceeded!", "Budget cannot be verified"];
const OTHER_TYPES = ["api_error", "invalid_request_error", ""];
const FIGURE = "(\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?)";
const SPENT = new RegExp(`Current cost: ${FIGURE}`, "i");
const LIMIT = new RegExp(`Max budget: ${FIGURE}`, "i");

/** The facts in a refusal; null for missing ones. Amounts are decimal texts, as the refusal has them. */
export interface BudgetRefusal {
  message: string;
  budget: string | null;
  spentUsd: string | null;
  limitUsd: string | null;
  /** When the window ends; null if it never does, or if LiteLLM itself refused. */
  retryAfterSeconds: number | null;
}

interface HeadersLike {
  get(name: string): string | null;
}

/** The refusal in an HTTP answer; null if it is anything else. `body` is text, or what its JSON says. */
export function readRefusal(status: number, headers: HeadersLike, body: unknown): BudgetRefusal | null {
  if (!STATUSES.has(status)) return null;
  const error = errorIn(body);
  const type = textOf(error.type);
  const message = textOf(error.message);
  const hasOpening = OPENINGS.some((opening) => message.includes(opening));
  if (!TYPES.includes(type) && !(hasOpening && OTHER_TYPES.includes(type))) return null;
  return {
    message,
    budget: headers.get("x-spendmeter-budget"),
    spentUsd: SPENT.exec(message)?.[1] ?? null,
    limitUsd: LIMIT.exec(message)?.[1] ?? null,
    retryAfterSeconds: secondsOf(headers.get("retry-after")),
  };
}

/** The refusal in an error of the OpenAI or Anthropic client (`status`, `headers`, `error`); else null. */
export function refusalOf(error: unknown): BudgetRefusal | null {
  if (typeof error !== "object" || error === null) return null;
  const { status, headers, error: body } = error as { status?: unknown; headers?: unknown; error?: unknown };
  if (typeof status !== "number") return null;
  return readRefusal(status, headersOf(headers), body);
}

function errorIn(body: unknown): Record<string, unknown> {
  const found = typeof body === "string" ? parsed(body) : body;
  if (!isRecord(found)) return {};
  // The OpenAI client passes on what is inside `error`; Anthropic's shape also has a `type` outside.
  const inner = "error" in found ? found.error : found;
  return isRecord(inner) ? inner : {};
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : value ? JSON.stringify(value) : "";
}

/** Headers of fetch, or a plain object, as older clients have it. */
function headersOf(headers: unknown): HeadersLike {
  if (isRecord(headers) && typeof headers.get === "function") return headers as unknown as HeadersLike;
  return { get: (name) => (isRecord(headers) && typeof headers[name] === "string" ? headers[name] : null) };
}

/** Whole seconds, as the gateway sends them; LiteLLM never sends a date. */
function secondsOf(text: string | null): number | null {
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}
