// The API as one caller uses it.
import { Problem, Unanswered } from "./problem.js";
import type { Answer, Init, Item, KeyedPath, ListPath, Method, Path, Rest, StreamPath } from "./routes.js";
import type { paths } from "./schema.js";
import { pause, send, sleep, type Call } from "./send.js";
import { frames, type Frame } from "./sse.js";

/** The service sends a word at least every 15 s. */
const SILENCE_MS = 45_000;
/** A stream that breaks off so often without telling anything is given up. */
const BREAKS = 8;

// one that is missing here, or is one too many, does not compile
const KEYED: Record<KeyedPath, true> = {
  "/v1/rentals": true,
  "/v1/rentals/{id}/authorization": true,
  "/v1/rentals/group": true,
  "/v1/rentals/{id}/stop": true,
};

export interface Options {
  /** A session's token, an API key, or the token of one rental. */
  token?: string;
  /** The domain that a sign-in message must name; the host of the address if left out. */
  domain?: string;
  /** The only escrow contract that anything is signed or sent for; the one that the service names if left out. */
  escrow?: string;
}

/** An answer with its status and headers, such as `ETag`. */
export interface Reply<B> {
  status: number;
  headers: Headers;
  body: B;
  /** The body as it came. */
  bytes: Uint8Array<ArrayBuffer>;
}

type Loose = {
  path?: Record<string, unknown>;
  query?: Record<string, unknown>;
  header?: Record<string, unknown>;
  body?: unknown;
  signal?: AbortSignal;
};
type Unconditional = { header?: { "If-None-Match"?: never } };

/** A client of one service. Every route is typed by the service's own description. */
export class Weir {
  readonly base: string;
  readonly domain: string;
  readonly escrow: string | undefined;
  token: string | undefined;

  constructor(base: string, options: Options = {}) {
    this.base = base.replace(/\/+$/, "");
    this.domain = options.domain ?? new URL(base).host;
    this.escrow = options.escrow;
    this.token = options.token;
  }

  /**
   * Asks, and throws a `Problem` if that is refused. What moves money gets a key of its own for each call, and reads and
   * such calls are sent again if they break off; `Unanswered` then means that even that did not help. With
   * `If-None-Match` the body of an answer 304 is undefined.
   */
  async request<M extends Method, P extends Path<M>>(
    method: M,
    path: P,
    ...init: Rest<Init<P, M>>
  ): Promise<Reply<Answer<P, M>>> {
    const [sent]: unknown[] = init;
    return this.#reply(method, path, sent as Loose | undefined);
  }

  async get<P extends Path<"get">>(path: P, ...init: Rest<Init<P, "get"> & Unconditional>): Promise<Answer<P, "get">> {
    return (await this.#reply<Answer<P, "get">>("get", path, init[0])).body;
  }

  async post<P extends Path<"post">>(path: P, ...init: Rest<Init<P, "post">>): Promise<Answer<P, "post">> {
    return (await this.#reply<Answer<P, "post">>("post", path, init[0])).body;
  }

  async put<P extends Path<"put">>(path: P, ...init: Rest<Init<P, "put">>): Promise<Answer<P, "put">> {
    return (await this.#reply<Answer<P, "put">>("put", path, init[0])).body;
  }

  async patch<P extends Path<"patch">>(path: P, ...init: Rest<Init<P, "patch">>): Promise<Answer<P, "patch">> {
    return (await this.#reply<Answer<P, "patch">>("patch", path, init[0])).body;
  }

  async delete<P extends Path<"delete">>(path: P, ...init: Rest<Init<P, "delete">>): Promise<Answer<P, "delete">> {
    return (await this.#reply<Answer<P, "delete">>("delete", path, init[0])).body;
  }

  /** Everything that a list holds, page by page as it is asked for. */
  async *list<P extends ListPath>(path: P, ...[init]: Rest<Init<P, "get">>): AsyncGenerator<Item<P>, void> {
    const first = (init ?? {}) as Loose;
    let cursor: unknown = first.query?.cursor;
    do {
      const query = { ...first.query, cursor };
      const sent = await send(this.#call("get", path, { ...first, query }));
      const page = JSON.parse(new TextDecoder().decode(sent.bytes)) as { data: Item<P>[]; next_cursor?: string | null };
      yield* page.data;
      cursor = page.next_cursor;
    } while (cursor);
  }

  /**
   * Events, taken up after the last id whenever the stream breaks off or the service asks to come again. It ends when
   * `over` said so before a stream was opened that then came to its end.
   */
  async *stream<P extends StreamPath>(
    path: P,
    init: Init<P, "get">,
    over: () => Promise<boolean> = async () => false,
  ): AsyncGenerator<Frame, void> {
    const { header, signal, ...rest } = init as Loose;
    let after = header?.["Last-Event-ID"];
    let breaks = 0;
    for (;;) {
      // what was over before is told whole
      const last = await over();
      const call = this.#call("get", path, { ...rest, header: { "Last-Event-ID": after } });
      const { response } = await send({ ...call, streams: true, signal });
      const begun = Date.now();
      let told = false;
      let again: number | undefined;
      let cause: unknown;
      try {
        if (response.body === null) throw new Error("no body");
        for await (const frame of frames(response.body, SILENCE_MS)) {
          told = true;
          after = frame.id ?? after;
          again = frame.retry ?? again;
          if (frame.type !== "reconnect") yield frame;
        }
        if (last && again === undefined) return;
      } catch (error) {
        signal?.throwIfAborted();
        cause = error;
      }
      breaks = told || Date.now() - begun > SILENCE_MS ? 1 : breaks + 1;
      if (breaks > BREAKS) throw new Unanswered(`GET ${path}`, undefined, cause);
      await sleep(again ?? pause(breaks), signal);
    }
  }

  async #reply<B>(method: Method, path: keyof paths, init: Loose | undefined): Promise<Reply<B>> {
    const { response, bytes } = await send(this.#call(method, path, init));
    const text = () => new TextDecoder().decode(bytes);
    const json = response.headers.get("content-type")?.startsWith("application/json");
    const body = bytes.length === 0 ? undefined : json ? JSON.parse(text()) : text();
    return { status: response.status, headers: response.headers, body: body as B, bytes };
  }

  #call(method: Method, path: keyof paths, init: Loose = {}): Call {
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(init.path?.[name])));
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(init.query ?? {})) {
      if (value !== undefined && value !== null) query.set(name, String(value));
    }
    const headers = new Headers();
    for (const [name, value] of Object.entries(init.header ?? {})) {
      if (value !== undefined && value !== null) headers.set(name, String(value));
    }
    if (this.token !== undefined) headers.set("authorization", `Bearer ${this.token}`);
    const keyed = method === "post" && path in KEYED;
    // one key for one intent: it goes with every try
    if (keyed && !headers.has("idempotency-key")) headers.set("idempotency-key", crypto.randomUUID());
    const call: Call = {
      method: method.toUpperCase(),
      url: `${this.base}${filled}${query.size > 0 ? `?${query}` : ""}`,
      headers,
      repeatable: keyed || method === "get",
      signal: init.signal,
    };
    if (init.body !== undefined) {
      headers.set("content-type", "application/json");
      call.body = JSON.stringify(init.body);
    }
    return call;
  }
}

export { Problem, Unanswered };
