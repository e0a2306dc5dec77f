// A rental as it happens, until it has ended.
import type { Weir } from "./client.js";
import type { components } from "./schema.js";

/** `state`, `tx` and `notice` are entries of its timeline; `cost` is what it has come to. */
export type RentalEvent =
  | { type: "state" | "tx" | "notice"; id: string; data: { at: string; kind: string; [detail: string]: unknown } }
  | { type: "cost"; data: components["schemas"]["CostView"] };

const ENDED = new Set(["settled", "expired", "cancelled", "refunded", "resolved"]);

/** Whether a rental is in a state that is the end. */
export function hasEnded(rental: { state: string }): boolean {
  return ENDED.has(rental.state);
}

/** What happens to a rental from its beginning, or after an id, each entry once; it ends when the rental has. */
export async function* events(
  weir: Weir,
  rental: string,
  { after, signal }: { after?: string; signal?: AbortSignal } = {},
): AsyncGenerator<RentalEvent, void> {
  const stop = signal ? { signal } : {};
  const path = { id: rental };
  const header = after === undefined ? {} : { "Last-Event-ID": after };
  const over = async () => hasEnded(await weir.get("/v1/rentals/{id}", { path, ...stop }));
  for await (const frame of weir.stream("/v1/rentals/{id}/events", { path, header, ...stop }, over)) {
    const data = JSON.parse(frame.data);
    if (frame.type === "cost") yield { type: "cost", data };
    else if (frame.type === "state" || frame.type === "tx" || frame.type === "notice") yield { type: frame.type, id: frame.id ?? "", data };
  }
}

/** The receipt for everybody, to the byte: save it as it is; `weir verify` checks it. */
export async function sealedReceipt(weir: Weir, rental: string): Promise<Uint8Array<ArrayBuffer>> {
  return (await weir.request("get", "/v1/rentals/{id}/sealed-receipt", { path: { id: rental } })).bytes;
}
