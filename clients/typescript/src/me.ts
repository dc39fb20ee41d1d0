/** What the holder of a key may still spend, from the page of spendmeter (`spendmeter web`). */

/** A budget that the key counts against, and how it stands in its present window. Fields are those of `/v1/me`. */
export interface Account {
  account: string;
  budget: string;
  subject: Record<string, string>;
  key_alias: string | null;
  /** Amounts are decimal texts of USD, exact to the nano-dollar: `nanoUsd` makes integers of them. */
  limit_usd: string;
  spent_usd: string;
  /** Below 0 where more was spent than the limit. */
  remaining_usd: string;
  state: "ok" | "warning" | "exceeded" | (string & {});
  /** False where the budget only warns, or is paused. */
  refuses: boolean;
  /** Times are RFC 3339. */
  window_start: string;
  /** The end of the window; null of a lifetime. */
  resets_at: string | null;
  /** When it reaches its limit at the rate of late, if that is before the reset. */
  runs_out_at: string | null;
  /** What the window held before the budget began is not in it yet: more was spent than it says. */
  opening: boolean;
  /** Of the figures; null where nothing was spent in this window. */
  as_of: string | null;
}

/** What the holder of a key may still spend. */
export interface Me {
  key_alias: string | null;
  /** Closest to its limit first: the next request is refused by the first that refuses and is exceeded. */
  accounts: Account[];
}

export interface MeOptions {
  /** Of the page, such as https://spend.example.com. */
  url: string;
  /** The key that you call the gateway with. */
  key: string;
  signal?: AbortSignal | null;
  /** Makes the request; by default the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

/** The page does not answer the question; the message is its own. */
export class MeError extends Error {
  /** Of HTTP. 401: nothing is known of this key; 429: too often. */
  readonly status: number;
  /** When to try again, if the page said so. */
  readonly retryAfterSeconds: number | null;

  constructor(message: string, status: number, retryAfterSeconds: number | null = null) {
    super(message);
    this.name = "MeError";
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** What is left of the key's budgets. Throws MeError; TypeError for what is no key; what `fetch` throws. */
export async function me({ url, key, signal = null, fetch = globalThis.fetch }: MeOptions): Promise<Me> {
  // fetch would show the key in its error.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new TypeError("the key is empty, or has characters that no key has");
  const response = await fetch(`${url.replace(/\/+$/, "")}/v1/me`, {
    headers: { authorization: `Bearer ${key}` },
    // What would be followed is a sign-in, and the key is not its business.
    redirect: "manual",
    signal,
  });
  const said = parsed(await response.text());
  if (response.status === 200 && Array.isArray(said.accounts)) return said as unknown as Me;
  const message =
    typeof said.error === "string" ? said.error : `${url} answers ${response.status}, not as spendmeter's page does`;
  throw new MeError(message, response.status, Number(response.headers.get("retry-after")) || null);
}

const USD = /^(-?)(\d+)(?:\.(\d{1,9}))?$/;

/** An amount of USD in nano-dollars, to compare and to add up. Throws RangeError: it is no such amount. */
export function nanoUsd(usd: string): bigint {
  const [, sign, whole, fraction = ""] = USD.exec(usd) ?? [];
  if (whole === undefined) throw new RangeError(`${JSON.stringify(usd)} is no amount of USD with up to nine decimals`);
  const amount = BigInt(whole + fraction.padEnd(9, "0"));
  return sign ? -amount : amount;
}

function parsed(text: string): Record<string, unknown> {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === "object" && found !== null ? (found as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
