// Refusals of the service (RFC 9457), and what it is when there was no answer at all.
import type { components } from "./schema.js";

export type FieldError = components["schemas"]["FieldError"];

/** The service refused. `code` is stable; the service has a page about each at `/errors/{code}`. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly code: string;
  readonly status: number;
  readonly title: string;
  /** The places of the request that are wrong, each by a JSON pointer or as `?name`. */
  readonly errors: FieldError[];
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** Under which the service logged it. */
  readonly requestId: string | undefined;
  /** After how many seconds to come again, if the service said so. */
  readonly retryAfter: number | undefined;
  /** The whole answer: some codes have members of their own, such as `offer` or `scope`. */
  readonly body: Readonly<Record<string, unknown>>;

  constructor(status: number, body: Record<string, unknown>, retryAfter?: number) {
    const text = (name: string) => (typeof body[name] === "string" ? body[name] : undefined);
    super(text("detail") ?? text("title") ?? `the answer was ${status}`);
    this.code = text("code") ?? `http-${status}`;
    this.status = status;
    this.title = text("title") ?? "";
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    // a proxy on the way that knows no problems
    this.retryable = typeof body.retryable === "boolean" ? body.retryable : [502, 503, 504].includes(status);
    this.requestId = text("request_id");
    this.retryAfter = retryAfter;
    this.body = body;
  }

  static of(response: Response, bytes: Uint8Array): Problem {
    const text = new TextDecoder().decode(bytes);
    const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
    return new Problem(response.status, members(text), Number.isNaN(seconds) ? undefined : seconds);
  }
}

function members(text: string): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null) return body as Record<string, unknown>;
  } catch {
    // not a problem of ours
  }
  return { detail: text.slice(0, 200) };
}

/** There was no answer, so that it is not known what came of the request. */
export class Unanswered extends Error {
  override readonly name = "Unanswered";
  /** Send the same request with this `Idempotency-Key`: it is done once, and the answer tells. */
  readonly key: string | undefined;

  constructor(what: string, key: string | undefined, cause: unknown) {
    super(`no answer to ${what}`, { cause });
    this.key = key;
  }
}
