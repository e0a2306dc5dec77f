// What a wallet does: sign in, lock a deposit, sign the end. It signs nothing that is not what the booking says.
import { encodeFunctionData, erc20Abi, hashTypedData, isAddressEqual, parseAbi, zeroAddress } from "viem";
import type { Account, Address, Chain, Hex, PublicClient, Transport, TypedDataDefinition, WalletClient } from "viem";
import type { Weir } from "./client.js";
import { Problem } from "./problem.js";
import type { components } from "./schema.js";
import { sleep } from "./send.js";

type Schemas = components["schemas"];
export type Booking = Schemas["BookingView"];
export type Rental = Schemas["RentalView"];
export type Wallet = WalletClient<Transport, Chain, Account>;

const ESCROW = parseAbi([
  "struct Terms { address renter; address provider; address token; uint96 pricePerHour; uint16 feeBps; uint40 startBy; uint32 holdback; bytes32 orderHash; }",
  "function lock(Terms terms, uint96 deposit) payable returns (bytes32)",
]);

/** Who signs: an account of viem with a key, or a wallet by `signerOf`. */
export interface Signer {
  address: Address;
  signMessage(asked: { message: string }): Promise<Hex>;
  signTypedData(asked: TypedDataDefinition): Promise<Hex>;
}

/** A wallet that asks its owner, such as a browser's. */
export function signerOf(wallet: Wallet): Signer {
  return {
    address: wallet.account.address,
    signMessage: ({ message }) => wallet.signMessage({ message, account: wallet.account }),
    signTypedData: (asked) => wallet.signTypedData({ ...asked, account: wallet.account }),
  };
}

/** Something is not what it should be, so it was not signed. */
export class NotSigned extends Error {
  override readonly name = "NotSigned";
}

function must(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new NotSigned(otherwise);
}

/** Signs in (ERC-4361); `weir` is then this wallet's. The account is made at the first time. */
export async function signIn(weir: Weir, signer: Signer): Promise<Schemas["SessionAnswer"]> {
  const asked = await weir.post("/v1/auth/siwe/nonce");
  // somebody between could pass on the nonce of another service, and sign in there with what is signed here
  must(asked.domain === weir.domain, `the service says that it is ${asked.domain}, not ${weir.domain}`);
  const message = [
    `${asked.domain} wants you to sign in with your Ethereum account:`,
    signer.address,
    "",
    asked.statement,
    "",
    `URI: ${asked.uri}`,
    "Version: 1",
    `Chain ID: ${asked.chain_id}`,
    `Nonce: ${asked.nonce}`,
    `Issued At: ${new Date().toISOString()}`,
    `Expiration Time: ${asked.expires_at}`,
  ].join("\n");
  const signature = await signer.signMessage({ message });
  const session = await weir.post("/v1/auth/siwe/verify", { body: { message, signature } });
  weir.token = session.token;
  return session;
}

/** Ends the session. */
export async function signOut(weir: Weir): Promise<void> {
  await weir.post("/v1/auth/logout");
  weir.token = undefined;
}

/** Locks the deposit by a signature (EIP-3009): the service sends it, and the wallet needs no coin of the chain. */
export async function fundBySignature(weir: Weir, signer: Signer, booking: Booking): Promise<Schemas["AuthorizedView"]> {
  const { rental, funding } = booking;
  must(agreed(weir, signer.address, booking), "the terms are not those of this rental");
  const asked = funding.typed_data.authorization;
  must(asked !== null && asked !== undefined, "the token takes no signatures: lock by a transaction");
  const typed = typedData(asked);
  const { from, to, value, nonce, validAfter, validBefore } = typed.message;
  const token = typedData(funding.typed_data.terms).message.token;
  must(
    typed.primaryType === "ReceiveWithAuthorization" &&
      typed.domain?.chainId === funding.chain_id &&
      same(typed.domain.verifyingContract, token) &&
      same(from, signer.address) &&
      same(to, funding.to) &&
      value === rental.deposit.base_units &&
      nonce === rental.escrow_id,
    "the authorization is not for this deposit of this rental",
  );
  const signature = await signer.signTypedData(typed);
  const body = { valid_after: Number(validAfter), valid_before: Number(validBefore), signature };
  return weir.post("/v1/rentals/{id}/authorization", { path: { id: rental.id }, body });
}

/** Locks the deposit by the wallet's own transactions. Returns the one that locks it, once it is in a block. */
export async function fundByTransaction(weir: Weir, wallet: Wallet, chain: PublicClient, booking: Booking): Promise<Hex> {
  const { account, chain: on } = wallet;
  const { funding } = booking;
  must(agreed(weir, account.address, booking), "the terms are not those of this rental");
  must(on.id === funding.chain_id, `the wallet is on another chain than ${funding.chain_id}`);
  const escrow = funding.to as Address;
  const { token, calldata, deposit } = lockOf(booking);
  const native = token === zeroAddress;
  must(
    funding.calldata.toLowerCase() === calldata && BigInt(funding.value) === (native ? deposit : 0n),
    "the transaction does not lock this deposit for this rental",
  );
  const sent = async (to: Address, data: Hex, value: bigint) => {
    const hash = await wallet.sendTransaction({ account, chain: on, to, data, value });
    const receipt = await chain.waitForTransactionReceipt({ hash });
    if (receipt.status !== "success") throw new Error(`the transaction ${hash} was reverted`);
    return hash;
  };
  const approve = encodeFunctionData({ abi: erc20Abi, functionName: "approve", args: [escrow, deposit] });
  if (!native) await sent(token, approve, 0n);
  return sent(escrow, calldata, native ? deposit : 0n);
}

/** What locks the deposit, by the terms that were shown. */
function lockOf({ rental, funding }: Booking): { token: Address; calldata: Hex; deposit: bigint } {
  const told = typedData(funding.typed_data.terms).message;
  const terms = {
    renter: told.renter as Address,
    provider: told.provider as Address,
    token: told.token as Address,
    pricePerHour: BigInt(told.pricePerHour ?? ""),
    feeBps: Number(told.feeBps),
    startBy: Number(told.startBy),
    holdback: Number(told.holdback),
    orderHash: told.orderHash as Hex,
  };
  const deposit = BigInt(rental.deposit.base_units);
  return {
    token: terms.token,
    calldata: encodeFunctionData({ abi: ESCROW, functionName: "lock", args: [terms, deposit] }),
    deposit,
  };
}

/** The end of a rental, once there is one to sign; it is signed, so that nothing is held back. */
export async function signEnd(
  weir: Weir,
  signer: Signer,
  rental: Rental,
  { withinMs = 60_000, signal }: { withinMs?: number; signal?: AbortSignal } = {},
): Promise<Schemas["EndView"]> {
  const path = { id: rental.id };
  const until = Date.now() + withinMs;
  for (;;) {
    try {
      const end = await weir.get("/v1/rentals/{id}/end", signal ? { path, signal } : { path });
      const typed = typedData(end.typed_data);
      must(
        typed.primaryType === "End" && typed.message.id === rental.escrow_id,
        "the end is not that of this rental",
      );
      must(escrowIs(weir, typed.domain?.verifyingContract), "the end is for another contract");
      const signature = await signer.signTypedData(typed);
      return await weir.post("/v1/rentals/{id}/end", { path, body: { signature } });
    } catch (error) {
      // the machine's last reading is on its way
      const early = error instanceof Problem && error.code === "state-conflict";
      if (!early || Date.now() > until) throw error;
      await sleep(200, signal);
    }
  }
}

/** Whether the id under which the contract will know the rental is the hash of terms of this renter, in this contract. */
function agreed(weir: Weir, renter: Address, { rental, funding }: Booking): boolean {
  const terms = typedData(funding.typed_data.terms);
  return (
    terms.primaryType === "Terms" &&
    same(terms.message.renter, renter) &&
    same(terms.domain?.verifyingContract, funding.to) &&
    terms.domain?.chainId === funding.chain_id &&
    escrowIs(weir, funding.to) &&
    hashTypedData(terms) === rental.escrow_id
  );
}

function escrowIs(weir: Weir, contract: string | undefined): boolean {
  return weir.escrow === undefined || same(weir.escrow, contract);
}

function same(one: unknown, other: unknown): boolean {
  return typeof one === "string" && typeof other === "string" && isAddressEqual(one as Address, other as Address);
}

type Told = TypedDataDefinition & { message: Record<string, string> };

/** Typed data as viem takes it: it leaves out a chain's id that is not a number. */
function typedData(told: unknown): Told {
  const typed = told as Told;
  return { ...typed, domain: { ...typed.domain, chainId: Number(typed.domain?.chainId) } } as Told;
}
