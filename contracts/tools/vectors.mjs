#!/usr/bin/env node
// Typed data (EIP-712) as viem, which shares no code with us, hashes and signs it. Tests in Solidity and Rust hold their
// own digests, typehashes and signatures against these.
//   tools/vectors.mjs           writes crates/escrow/tests/vectors/typed-data.json
//   tools/vectors.mjs --check   fails where the file is not what this gives
// Rows `case-NN/...` belong together: one rental from its lock to its end, in values that the contract takes.
// Rows `edge-NN` are terms at the bounds of their types, for the hash alone.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodePacked, getAddress, hashTypedData, keccak256, toHex } from 'viem';
import { mnemonicToAccount } from 'viem/accounts';

const file = path.join(
  path.dirname(fileURLToPath(import.meta.url)),
  '../../crates/escrow/tests/vectors/typed-data.json',
);
const SEED = 'weir typed-data vectors 1';
const CASES = 20;
/** When every case is locked; test/Typehash.t.sol sets its clock to it. */
const LOCKED_AT = 1_800_000_000n;
/** anvil's well-known accounts: TEST ONLY. */
const signers = Array.from({ length: 10 }, (_, addressIndex) =>
  mnemonicToAccount('test test test test test test test test test test test junk', { addressIndex }),
);
const PERMIT2 = '0x000000000022D473030F116dDEE9F6B43aC78BA3';
const TOKEN = getAddress('0x00000000000000000000000000000000000055dc');
const NATIVE = '0x0000000000000000000000000000000000000000';
/** Four escrows on three chains, so that both parts of the domain count. */
const escrows = [
  { chainId: 137n, verifyingContract: '0x00000000000000000000000000000000000E5c01' },
  { chainId: 80002n, verifyingContract: '0x00000000000000000000000000000000000E5c02' },
  { chainId: 31337n, verifyingContract: '0x00000000000000000000000000000000000E5c03' },
  { chainId: 137n, verifyingContract: '0x00000000000000000000000000000000000E5c04' },
].map((domain) => ({ ...domain, verifyingContract: getAddress(domain.verifyingContract) }));

const fields = (text) =>
  text.split(',').map((field) => {
    const [type, name] = field.split(' ');
    return { name, type };
  });
const TERMS = fields(
  'address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash',
);
const structures = {
  Terms: { Terms: TERMS },
  End: { End: fields('bytes32 id,uint40 stoppedAt,uint32 creditSecs') },
  AgreedEnd: { AgreedEnd: fields('bytes32 id,uint32 billedSecs,uint40 validUntil') },
  PrepaidLock: { PrepaidLock: fields('Terms terms,uint96 deposit'), Terms: TERMS },
  Withdrawal: {
    Withdrawal: fields('address account,address token,address to,uint96 amount,uint256 nonce,uint256 deadline'),
  },
  ReceiveWithAuthorization: {
    ReceiveWithAuthorization: fields(
      'address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce',
    ),
  },
  PermitWitnessTransferFrom: {
    PermitWitnessTransferFrom: fields(
      'TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Terms witness',
    ),
    TokenPermissions: fields('address token,uint256 amount'),
    Terms: TERMS,
  },
};

let drawn = 0;
/** A random integer of so many bits, the same at every run. */
const bits = (width) =>
  BigInt(keccak256(encodePacked(['string', 'uint256'], [SEED, BigInt(drawn++)]))) >> BigInt(256 - width);
const between = (least, most) => least + (bits(160) % (most - least + 1n));
const pick = (...choices) => choices[Number(bits(32) % BigInt(choices.length))];
const max = (width) => (1n << BigInt(width)) - 1n;
/** Of any size up to `width` bits, small ones as likely as large ones; at least 1. */
const sized = (width) => bits(Number(between(1n, BigInt(width)))) || 1n;
const word = () => toHex(bits(256), { size: 32 });
const address = () => getAddress(toHex(bits(160), { size: 20 }));
const least = (a, b) => (a < b ? a : b);

const ours = (at) => ({ name: 'Weir Escrow', version: '1', ...at });

/** JSON has no exact large numbers: integers become decimal strings. */
const plain = (value) => JSON.parse(JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? v.toString() : v)));

const DOMAIN_FIELDS = fields('string name,string version,uint256 chainId,address verifyingContract');

async function row(name, primaryType, domain, message, signer) {
  const EIP712Domain = DOMAIN_FIELDS.filter((field) => field.name in domain);
  const types = { EIP712Domain, ...structures[primaryType] };
  const typed = { domain, types, primaryType, message };
  return {
    name,
    ...plain(typed),
    digest: hashTypedData(typed),
    signer: signer.address,
    signature: await signer.signTypedData(typed),
  };
}

/** Terms that `lock` takes at `LOCKED_AT`. The first two cases are the smallest and the largest. */
function lockable(index, renter, provider) {
  const extremes = [
    { pricePerHour: 1n, feeBps: 0n, startBy: LOCKED_AT, holdback: 0n, orderHash: toHex(0n, { size: 32 }) },
    {
      pricePerHour: max(96),
      feeBps: 1500n,
      startBy: LOCKED_AT + 86_400n,
      holdback: max(32),
      orderHash: toHex(max(256), { size: 32 }),
    },
  ];
  const random = {
    pricePerHour: sized(96),
    feeBps: between(0n, 1500n),
    startBy: LOCKED_AT + between(0n, 86_400n),
    holdback: pick(0n, 1n, between(0n, 7200n), sized(32)),
    orderHash: word(),
  };
  return { renter: renter.address, provider: provider.address, token: TOKEN, ...(extremes[index] ?? random) };
}

const nonces = new Map();

async function rental(index) {
  const at = escrows[index % escrows.length];
  const renter = signers[index % signers.length];
  const provider = signers[(index + 1 + Number(between(0n, 8n))) % signers.length];
  const terms = lockable(index, renter, provider);
  const deposit = [1n, max(96)][index] ?? least(max(96), terms.pricePerHour * sized(24) + sized(20));
  const id = hashTypedData({
    domain: ours(at),
    types: structures.Terms,
    primaryType: 'Terms',
    message: terms,
  });
  const elapsed = pick(0n, 1n, 599n, between(1n, 86_400n), sized(32), max(32) + 7n);
  const funded = least((deposit * 3600n) / terms.pricePerHour, max(32));
  const clock = least(elapsed, funded) || 1n;
  const end = { id, stoppedAt: LOCKED_AT + elapsed, creditSecs: pick(0n, 1n, sized(32), max(32)) };
  const validUntil = pick(end.stoppedAt, max(40));
  const agreed = { id, billedSecs: pick(1n, clock, between(1n, clock)), validUntil };
  const account = `${at.chainId} ${at.verifyingContract} ${renter.address}`;
  const nonce = nonces.get(account) ?? 0n;
  nonces.set(account, nonce + 1n);
  const withdrawal = {
    account: renter.address,
    token: pick(TOKEN, NATIVE),
    to: address(),
    amount: [0n, max(96)][index] ?? sized(96),
    nonce,
    deadline: pick(LOCKED_AT, LOCKED_AT + sized(40), max(256)),
  };
  const authorization = {
    from: renter.address,
    to: at.verifyingContract,
    value: deposit,
    validAfter: pick(0n, LOCKED_AT - 1n),
    validBefore: pick(LOCKED_AT + 1n, max(256)),
    nonce: id,
  };
  const permit = {
    permitted: { token: TOKEN, amount: deposit },
    spender: at.verifyingContract,
    nonce: bits(256),
    deadline: pick(LOCKED_AT, max(256)),
    witness: terms,
  };
  const token = { name: 'USD Coin', version: '1', chainId: at.chainId, verifyingContract: TOKEN };
  const permit2 = { name: 'Permit2', chainId: at.chainId, verifyingContract: PERMIT2 };
  const label = `case-${String(index).padStart(2, '0')}`;
  return Promise.all([
    row(`${label}/terms`, 'Terms', ours(at), terms, renter),
    row(`${label}/prepaid`, 'PrepaidLock', ours(at), { terms, deposit }, renter),
    row(`${label}/end-renter`, 'End', ours(at), end, renter),
    row(`${label}/end-provider`, 'End', ours(at), end, provider),
    row(`${label}/agreed-renter`, 'AgreedEnd', ours(at), agreed, renter),
    row(`${label}/agreed-provider`, 'AgreedEnd', ours(at), agreed, provider),
    row(`${label}/withdrawal`, 'Withdrawal', ours(at), withdrawal, renter),
    row(`${label}/authorization`, 'ReceiveWithAuthorization', token, authorization, renter),
    row(`${label}/permit2`, 'PermitWitnessTransferFrom', permit2, permit, renter),
  ]);
}

/** All fields least, all fields most, and each field alone at either bound among the other. */
function edges() {
  const bound = (field, high) => {
    if (field.type === 'address') return getAddress(toHex(high ? max(160) : 0n, { size: 20 }));
    if (field.type === 'bytes32') return toHex(high ? max(256) : 0n, { size: 32 });
    return high ? max(Number(field.type.slice(4))) : 0n;
  };
  const made = (high) => Object.fromEntries(TERMS.map((field, i) => [field.name, bound(field, high(i))]));
  const all = [made(() => false), made(() => true)];
  TERMS.forEach((_, odd) => all.push(made((i) => i === odd), made((i) => i !== odd)));
  for (let i = 0; i < 2; i += 1) {
    const random = (field) => (field.type === 'address' ? address() : bits(Number(field.type.slice(4))));
    const drawnFields = TERMS.map((f) => [f.name, f.type === 'bytes32' ? word() : random(f)]);
    all.push(Object.fromEntries(drawnFields));
  }
  return all;
}

async function main(args) {
  const rows = [];
  for (let index = 0; index < CASES; index += 1) rows.push(...(await rental(index)));
  for (const [index, terms] of edges().entries()) {
    const at = escrows[index % escrows.length];
    const name = `edge-${String(index).padStart(2, '0')}`;
    rows.push(await row(name, 'Terms', ours(at), terms, signers[index % signers.length]));
  }
  // A row a line: what changed can be seen.
  const text = `[\n${rows.map((r) => JSON.stringify(r)).join(',\n')}\n]\n`;
  if (args.includes('--check')) {
    if (fs.existsSync(file) && fs.readFileSync(file, 'utf8') === text) return 0;
    process.stderr.write('crates/escrow/tests/vectors/typed-data.json is stale: run `npm run vectors` in contracts\n');
    return 1;
  }
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
  process.stdout.write(`${rows.length} rows\n`);
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
