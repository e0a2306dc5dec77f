// An agent with a key, some USDC and nothing else rents a GPU: node agent.mjs API RPC RECEIPT
// Prints a line of JSON for each thing that it found. Everything that speaks x402 is from the npm registry, but for the scheme.
import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { decodePaymentResponseHeader, wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { createPublicClient, createWalletClient, defineChain, http, parseAbi } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { WeirEscrowScheme } from "./weir-escrow.mjs";

const [api, rpc, receiptFile] = process.argv.slice(2);
// anvil's first account, as a faucet
const FAUCET = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const TOKEN = parseAbi(["function mint(address to, uint256 amount)", "function balanceOf(address) view returns (uint256)"]);

const say = (what, value) => console.log(JSON.stringify({ what, ...value }));
const json = async (path, options) => {
  const answer = await fetch(`${api}${path}`, options);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
};

const { chain_id } = await json("/v1/deployment");
const network = `eip155:${chain_id}`;
const chain = defineChain({
  id: chain_id,
  name: "local",
  nativeCurrency: { name: "POL", symbol: "POL", decimals: 18 },
  rpcUrls: { default: { http: [rpc] } },
});
const look = createPublicClient({ chain, transport: http(rpc), pollingInterval: 200 });
const tokens = await json("/v1/tokens");
const usdc = tokens.data.find((token) => token.symbol === "USDC").address;

const key = generatePrivateKey();
const agent = privateKeyToAccount(key);
const faucet = createWalletClient({ account: privateKeyToAccount(FAUCET), chain, transport: http(rpc) });
const minted = await faucet.writeContract({ address: usdc, abi: TOKEN, functionName: "mint", args: [agent.address, 5_000_000n] });
await look.waitForTransactionReceipt({ hash: minted });
const usdcOf = () => look.readContract({ address: usdc, abi: TOKEN, functionName: "balanceOf", args: [agent.address] });
const before = await usdcOf();

const offers = await json("/v1/offers?gpu_model=rtx-4090&duration_s=600&sort=price");
const order = {
  method: "POST",
  // without the wish, a lock that is in no block after 8 s is answered with 202
  headers: { "content-type": "application/json", "idempotency-key": crypto.randomUUID(), prefer: "wait=30" },
  body: JSON.stringify({ offer_id: offers.data[0].id, duration_s: 600, token: "USDC" }),
};

// a client that knows `exact` only finds nothing that it could pay, and so pays nothing
const stock = wrapFetchWithPayment(fetch, new x402Client().register("eip155:*", new ExactEvmScheme(agent)));
const refused = await stock(`${api}/v1/rentals`, order).then(() => "paid", (error) => error.message);
say("stock", { refused, spent: String(before - (await usdcOf())) });

let requests = 0;
const counted = (...call) => {
  requests += 1;
  return fetch(...call);
};
// what it may spend at once is the agent's own rule, held by the client library: the amount is the whole deposit
const purse = { allowedAssets: [{ network, asset: usdc, maxAmountPerPayment: "1000000" }] };
const schemes = [{ network: "eip155:*", client: new WeirEscrowScheme(agent) }];
const paying = wrapFetchWithPayment(counted, x402Client.fromConfig({ schemes, spendControls: purse }));
const answer = await paying(`${api}/v1/rentals`, order);
const body = await answer.json();
if (answer.status !== 201) throw new Error(`${answer.status}: ${JSON.stringify(body)}`);
const settled = decodePaymentResponseHeader(answer.headers.get("PAYMENT-RESPONSE"));
const mined = await look.getTransactionReceipt({ hash: settled.transaction });
say("rented", {
  requests,
  status: answer.status,
  network,
  settled,
  payer: agent.address,
  mined: mined.status,
  rental: body.rental.id,
  spent: String(before - (await usdcOf())),
  deposit: body.rental.deposit.base_units,
});

const mine = { headers: { authorization: `Bearer ${body.access.token}` } };
const path = `/v1/rentals/${body.rental.id}`;
const until = async (state) => {
  for (let tries = 0; tries < 600; tries += 1) {
    const rental = await json(path, mine);
    if (rental.state === state) return rental;
    await sleep(200);
  }
  throw new Error(`it never was ${state}`);
};
await until("active");
await sleep(3_000);
await json(`${path}/stop`, { method: "POST", headers: { ...mine.headers, "idempotency-key": crypto.randomUUID() } });
// what it does not sign may be held for a day: the end is signed with the same key
const end = await (async () => {
  for (let tries = 0; tries < 1_000; tries += 1) {
    const answer = await fetch(`${api}${path}/end`, mine);
    if (answer.ok) return answer.json();
    await sleep(100);
  }
  throw new Error("no end came to be signed");
})();
// viem leaves a chain's id out that is not a number
const domain = { ...end.typed_data.domain, chainId: Number(end.typed_data.domain.chainId) };
const signature = await agent.signTypedData({ ...end.typed_data, domain });
await json(`${path}/end`, {
  method: "POST",
  headers: { ...mine.headers, "content-type": "application/json" },
  body: JSON.stringify({ signature }),
});
await until("settled");
const sealed = await fetch(`${api}${path}/sealed-receipt`, mine);
if (!sealed.ok) throw new Error(await sealed.text());
await writeFile(receiptFile, Buffer.from(await sealed.arrayBuffer()));
const receipt = JSON.parse(JSON.stringify(await json(`${path}/sealed-receipt`, mine)));
say("settled", {
  billed: receipt.totals.billed,
  refund: receipt.totals.refund,
  spent: String(before - (await usdcOf())),
  coin: String(await look.getBalance({ address: agent.address })),
});
