// Rents twice through a line that breaks: node rent.js API RPC RECEIPT. Prints a line of JSON for each thing that it found.
import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { createPublicClient, createWalletClient, defineChain, http, parseAbi, parseEther, type Address } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import * as client from "@weir/client";
import { Weir, type Booking, type RentalEvent, type Signer } from "@weir/client";
import { Proxy } from "./proxy.js";

const [api, rpc, receiptFile] = process.argv.slice(2) as [string, string, string];
// anvil's first account, as a faucet
const FAUCET = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const TOKEN = parseAbi(["function mint(address to, uint256 amount)"]);

const say = (what: string, value: object) => console.log(JSON.stringify({ what, ...value }));
const all = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
};
const failure = async (asked: Promise<unknown>) => asked.then(() => undefined, (error: unknown) => error);

const proxy = await Proxy.before(api);
const weir = new Weir(proxy.url, { domain: new URL(api).host });
const account = privateKeyToAccount(generatePrivateKey());

const { chain_id } = await weir.get("/v1/deployment");
const chain = defineChain({
  id: chain_id,
  name: "local",
  nativeCurrency: { name: "POL", symbol: "POL", decimals: 18 },
  rpcUrls: { default: { http: [rpc] } },
});
const look = createPublicClient({ chain, transport: http(rpc), pollingInterval: 200 });
const faucet = createWalletClient({ account: privateKeyToAccount(FAUCET), chain, transport: http(rpc) });
const usdc = (await weir.get("/v1/tokens")).data.find((token) => token.symbol === "USDC")?.address as Address;
const mint = { address: usdc, abi: TOKEN, functionName: "mint", args: [account.address, 5_000_000n] } as const;
await look.waitForTransactionReceipt({ hash: await faucet.writeContract(mint) });

// what is refused is told in a form that programs can read
const order = { offer_id: "ofr_nonsense", duration_s: 600, token: "USDC" };
const stranger = await failure(weir.post("/v1/quotes", { body: order }));
const elsewhere = await failure(client.signIn(new Weir(proxy.url), account));
await client.signIn(weir, account);
const problem = (await failure(weir.post("/v1/quotes", { body: order }))) as client.Problem;
say("refused", {
  stranger: stranger instanceof client.Problem && stranger.code,
  elsewhere: elsewhere instanceof client.NotSigned && elsewhere.message,
  problem: problem instanceof client.Problem,
  code: problem.code,
  status: problem.status,
  pointer: problem.errors[0]?.pointer,
  retryable: problem.retryable,
  logged: problem.requestId?.length,
});

const book = async (): Promise<Booking> => {
  const found = await weir.get("/v1/offers", { query: { gpu_model: "rtx-4090", duration_s: 600, sort: "price" } });
  const offer = found.data[0];
  if (offer === undefined) throw new Error("nothing is for rent");
  const quote = await weir.post("/v1/quotes", { body: { offer_id: offer.id, duration_s: 600, token: "USDC" } });
  return weir.post("/v1/rentals", { body: { quote_id: quote.id } });
};
/** Uses a rental for some seconds and ends it, and tells what happened. */
const use = async (booking: Booking, signer: Signer, begun: () => void): Promise<RentalEvent[]> => {
  const seen: RentalEvent[] = [];
  let ending: Promise<unknown> | undefined;
  const path = { id: booking.rental.id };
  for await (const event of client.events(weir, path.id)) {
    seen.push(event);
    if (ending !== undefined || event.type !== "state" || event.data.state !== "active") continue;
    begun();
    ending = (async () => {
      await sleep(3_000);
      await weir.post("/v1/rentals/{id}/stop", { path });
      await client.signEnd(weir, signer, booking.rental);
    })();
  }
  await ending;
  return seen;
};
const ids = (events: RentalEvent[]) => events.flatMap((event) => (event.type === "cost" ? [] : [event.id]));

// the answer of the first booking is lost on its way: it is made once
proxy.loseBooking();
const first = await book();
const held = await all(weir.list("/v1/rentals"));
say("booked", { cuts: proxy.cuts, rentals: held.map((rental) => rental.id), rental: first.rental.id });

// nothing is signed that is not what was booked
const dearer = structuredClone(first);
(dearer.funding.typed_data.authorization as { message: { value: string } }).message.value = "4000000";
const other = structuredClone(first);
(other.funding.typed_data.terms as { message: { provider: string } }).message.provider = account.address;
const pinned = new Weir(proxy.url, { escrow: usdc });
const notSigned = [
  await failure(client.fundBySignature(weir, account, dearer)),
  await failure(client.fundBySignature(weir, account, other)),
  await failure(client.fundBySignature(pinned, account, first)),
];
say("careful", { notSigned: notSigned.map((error) => error instanceof client.NotSigned && error.message) });

await client.fundBySignature(weir, account, first);
const live = await use(first, account, () => proxy.tearEvent());
const told = await all(client.events(weir, first.rental.id));
const rest = await all(client.events(weir, first.rental.id, { after: ids(live)[1] ?? "" }));
say("followed", {
  cuts: proxy.cuts,
  live: ids(live),
  told: ids(told),
  rest: ids(rest),
  costs: live.filter((event) => event.type === "cost").length,
  states: live.flatMap((event) => (event.type === "state" ? [event.data.state] : [])),
});

const receipt = await client.sealedReceipt(weir, first.rental.id);
await writeFile(receiptFile, receipt);
const coin = await look.getBalance({ address: account.address });
say("settled", { rental: first.rental.id, coin: String(coin) });

// the same wallet pays its own way
const gas = await faucet.sendTransaction({ to: account.address, value: parseEther("1") });
await look.waitForTransactionReceipt({ hash: gas });
const wallet = createWalletClient({ account, chain, transport: http(rpc) });
proxy.refuseBooking();
const asked = Date.now();
const second = await book();
const patient = Date.now() - asked;
const more = structuredClone(second);
more.rental.deposit.base_units += "0";
const notSent = await failure(client.fundByTransaction(weir, wallet, look, more));
const lock = await client.fundByTransaction(weir, wallet, look, second);
const lived = await use(second, client.signerOf(wallet), () => proxy.sendAway());
const retold = await all(client.events(weir, second.rental.id));
const pages = await all(weir.list("/v1/rentals", { query: { limit: 1 } }));
const etag = (await weir.request("get", "/v1/tokens")).headers.get("etag") ?? "";
const same = await weir.request("get", "/v1/tokens", { header: { "If-None-Match": etag } });
await client.signOut(weir);
say("again", {
  patient,
  notSent: notSent instanceof client.NotSigned && notSent.message,
  away: proxy.away,
  live: ids(lived),
  told: ids(retold),
  lock: (await look.getTransactionReceipt({ hash: lock })).to,
  escrow: second.funding.to,
  states: pages.map((rental) => [rental.id, rental.state]),
  rentals: [second.rental.id, first.rental.id],
  unchanged: same.status,
  token: weir.token,
});
proxy.close();
