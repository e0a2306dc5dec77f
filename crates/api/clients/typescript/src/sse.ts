// Server-sent events, read from the bytes of a body as the HTML standard says.

export interface Frame {
  type: string;
  /** The last id that was told, by this event or one before it. */
  id: string | undefined;
  data: string;
  /** After how many milliseconds to come again, if it was told. */
  retry: number | undefined;
}

/** A line is at most so long, in characters. */
const LONGEST = 1_048_576;

/** The events of a body. One that breaks off is none. Throws if nothing at all comes for so long. */
export async function* frames(body: ReadableStream<Uint8Array>, silenceMs: number): AsyncGenerator<Frame, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let id: string | undefined;
  let fresh = empty();
  try {
    for (;;) {
      const { value, done } = await within(reader.read(), silenceMs);
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      // a carriage return at the end may be half of a line's end
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      if (rest.length > LONGEST) throw new Error("an event is too long");
      for (const line of lines) {
        if (line !== "") {
          id = take(fresh, line) ?? id;
        } else {
          const { type, data, retry } = fresh;
          fresh = empty();
          if (data.length > 0) yield { type, id, data: data.join("\n"), retry };
        }
      }
    }
  } finally {
    // whoever stops reading leaves
    reader.cancel().catch(() => undefined);
  }
}

interface Fresh {
  type: string;
  data: string[];
  retry: number | undefined;
}

function empty(): Fresh {
  return { type: "message", data: [], retry: undefined };
}

/** Takes a line into an event; an id is returned. */
function take(event: Fresh, line: string): string | undefined {
  const colon = line.indexOf(":");
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "event") event.type = value;
  else if (name === "data") event.data.push(value);
  else if (name === "retry" && /^\d+$/.test(value)) event.retry = Number(value);
  else if (name === "id" && !value.includes("\0")) return value;
  return undefined;
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came for ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
