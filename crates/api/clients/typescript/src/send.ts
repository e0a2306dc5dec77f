// One request and its retries, all bounded.
import { Problem, Unanswered } from "./problem.js";

/** A request is made so many times at most. */
const TRIES = 5;
/** One try may take this long; for a stream, until it begins. */
const TRY_MS = 60_000;
/** A service that wants to be left alone for longer is not waited for. */
const LONGEST_MS = 30_000;
/** The first pause; each one after it is twice as long. */
const PAUSE_MS = 250;

export interface Call {
  method: string;
  url: string;
  headers: Headers;
  body?: string;
  /** Nothing happens twice if it is sent twice: a read, or a write with a key. */
  repeatable: boolean;
  /** The answer is to be read as it comes. */
  streams?: boolean;
  signal?: AbortSignal | undefined;
}

export interface Sent {
  response: Response;
  /** Empty for a stream. */
  bytes: Uint8Array<ArrayBuffer>;
}

/** Sends until it is answered. Throws a `Problem`, or `Unanswered` where there was no answer. */
export async function send(call: Call): Promise<Sent> {
  for (let tries = 1; ; tries += 1) {
    let wait: number | undefined;
    let failure: unknown;
    try {
      const sent = await once(call);
      if (sent.response.ok || sent.response.status === 304) return sent;
      const problem = Problem.of(sent.response, sent.bytes);
      failure = problem;
      wait = pauseAfter(problem, call.repeatable, tries);
    } catch (error) {
      call.signal?.throwIfAborted();
      failure = new Unanswered(`${call.method} ${call.url}`, call.headers.get("idempotency-key") ?? undefined, error);
      wait = call.repeatable ? pause(tries) : undefined;
    }
    if (wait === undefined || tries >= TRIES) throw failure;
    await sleep(wait, call.signal);
  }
}

async function once(call: Call): Promise<Sent> {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(new Error(`nothing within ${TRY_MS} ms`)), TRY_MS);
  try {
    const response = await fetch(call.url, {
      method: call.method,
      headers: call.headers,
      body: call.body ?? null,
      // a token goes nowhere else
      redirect: "error",
      signal: call.signal ? AbortSignal.any([call.signal, stop.signal]) : stop.signal,
    });
    const later = call.streams && response.ok;
    return { response, bytes: later ? new Uint8Array() : new Uint8Array(await response.arrayBuffer()) };
  } finally {
    clearTimeout(timer);
  }
}

/** How long to wait before the same request is sent again; `undefined` if it is not to be. */
function pauseAfter(problem: Problem, repeatable: boolean, tries: number): number | undefined {
  // who was one too many has done nothing yet
  if (!problem.retryable || !(repeatable || problem.status === 429)) return undefined;
  const said = problem.retryAfter === undefined ? undefined : problem.retryAfter * 1_000;
  if (said !== undefined) return said <= LONGEST_MS ? said + Math.random() * PAUSE_MS : undefined;
  // what waits for the world to change is for the caller to decide
  return problem.status >= 500 || problem.code === "idempotency-in-flight" ? pause(tries) : undefined;
}

/** A pause that grows, and is not the same for all. */
export function pause(tries: number): number {
  return Math.min(PAUSE_MS * 2 ** (tries - 1), LONGEST_MS) * (0.5 + Math.random() / 2);
}

export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const done = () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    };
    const timer = setTimeout(done, ms);
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
  });
}
