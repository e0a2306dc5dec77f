// What must not compile. It is never run.
import type { Weir } from "@weir/client";

export async function misuse(weir: Weir): Promise<void> {
  const { data, next_cursor } = await weir.get("/v1/offers", { query: { gpu_model: "rtx-4090" } });
  const price: string | undefined = data[0]?.price.amount;
  for await (const offer of weir.list("/v1/offers")) offer.id satisfies string;
  // @ts-expect-error no such route
  await weir.get("/v1/ofers");
  // @ts-expect-error no such parameter
  await weir.get("/v1/offers", { query: { gpu_modle: "rtx-4090" } });
  // @ts-expect-error money is never a number
  (await weir.get("/v1/offers")).data[0]?.price.amount satisfies number | undefined;
  // @ts-expect-error the rental is not named
  await weir.post("/v1/rentals/{id}/stop");
  await weir.post("/v1/rentals", { body: { quote_id: "quo_1" }, header: { Prefer: "wait=5" } });
  // @ts-expect-error no such header
  await weir.post("/v1/rentals", { body: { quote_id: "quo_1" }, header: { Preefr: "wait=5" } });
  // @ts-expect-error a quote is of an offer
  await weir.post("/v1/quotes", { body: { duration_s: 600, token: "USDC" } });
  // @ts-expect-error a change is of the version that was read
  await weir.patch("/v1/offers/{id}", { path: { id: "ofr_1" }, body: {} });
  // @ts-expect-error it would not end: `stream` reads events
  await weir.get("/v1/rentals/{id}/events", { path: { id: "rnt_1" } });
  // @ts-expect-error it has no pages
  for await (const token of weir.list("/v1/tokens")) token satisfies object;
  // @ts-expect-error its entries are not all that it tells
  for await (const entry of weir.list("/v1/ledger", { query: { token: "USDC" } })) entry satisfies object;
  return void [price, next_cursor];
}
