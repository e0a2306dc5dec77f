// Contracts at addresses that follow from their code and arguments (CREATE2), by the deployer that every chain has.
import fs from 'node:fs';
import { Refusal, viem } from './viem.mjs';

export const CREATE2_DEPLOYER = '0x4e59b44847b379578588920cA78FbF26c0B4956C';
const CREATE2_DEPLOYER_CODE =
  '0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3';
export const SALT = viem.keccak256(viem.toHex('Weir Escrow, deployment 1'));

function artefact(name) {
  const path = new URL(`../../crates/escrow/abi/${name}.json`, import.meta.url);
  const { abi, bytecode } = JSON.parse(fs.readFileSync(path, 'utf8'));
  return { abi, bytecode: bytecode.object };
}

/** Code with its arguments, and where it comes to lie. */
export function plan(name, args) {
  const { abi, bytecode } = artefact(name);
  const initCode = viem.encodeDeployData({ abi, bytecode, args });
  const address = viem.getContractAddress({
    opcode: 'CREATE2',
    from: CREATE2_DEPLOYER,
    salt: SALT,
    bytecode: initCode,
  });
  return { name, abi, bytecodeHash: viem.keccak256(bytecode), initCode, initCodeHash: viem.keccak256(initCode), address };
}

export async function requireDeployer(client) {
  const code = await client.getCode({ address: CREATE2_DEPLOYER });
  if (code !== CREATE2_DEPLOYER_CODE) throw new Refusal(`the CREATE2 deployer ${CREATE2_DEPLOYER} is not on this chain`);
}

/**
 * The code that the constructor returns at that address, immutables and all: the init code is run in place of the
 * contract, so that it sees the contract's own address.
 */
export async function runtimeOf(client, { name, abi, address, initCode }) {
  try {
    const { data } = await client.call({ to: address, stateOverride: [{ address, code: initCode }] });
    if (data) return data;
  } catch (error) {
    const revert = error.walk?.((cause) => cause.data !== undefined || cause.raw !== undefined);
    const data = revert?.data?.data ?? revert?.data ?? revert?.raw;
    throw new Refusal(`${name}'s constructor refuses these arguments: ${reason(abi, data) ?? error.shortMessage}`);
  }
  throw new Refusal('this RPC ignores state overrides of eth_call, by which the code is checked: use another one');
}

function reason(abi, data) {
  try {
    const { errorName, args } = viem.decodeErrorResult({ abi, data });
    return `${errorName}(${(args ?? []).join(', ')})`;
  } catch {
    return null;
  }
}

/** Whether the contract is there already. Refuses where something else is, which only another chain's rules could do. */
export async function isDeployed(client, planned, runtime) {
  const code = await client.getCode({ address: planned.address });
  if (!code) return false;
  if (code !== runtime) {
    throw new Refusal(
      `${planned.name} ${planned.address}: the code's hash is ${viem.keccak256(code)}, not ${viem.keccak256(runtime)}`,
    );
  }
  return true;
}

/** The first block that has the contract, from the newest one backwards: old states are asked for only if need be. */
async function firstBlock(client, address, newest) {
  const has = async (blockNumber) => Boolean(await client.getCode({ address, blockNumber }));
  let without = -1n;
  let known = newest;
  for (let step = 1n; known > 0n; step *= 2n) {
    const earlier = known > step ? known - step : 0n;
    if (!(await has(earlier))) {
      without = earlier;
      break;
    }
    known = earlier;
  }
  while (known - without > 1n) {
    const middle = (known + without) / 2n;
    if (await has(middle)) known = middle;
    else without = middle;
  }
  return known;
}

/** Block and transaction that the contract came with. */
export async function originOf(client, address, receipt) {
  if (receipt) return { block: Number(receipt.blockNumber), transaction: receipt.transactionHash };
  const newest = await client.getBlockNumber();
  let block;
  try {
    block = await firstBlock(client, address, newest);
  } catch (error) {
    throw new Refusal(`this RPC keeps no old states, to find the block of ${address} by: ${error.shortMessage}`);
  }
  const { transactions } = await client.getBlock({ blockNumber: block, includeTransactions: true });
  const made = ({ to, input }) =>
    to &&
    viem.isAddressEqual(to, CREATE2_DEPLOYER) &&
    viem.size(input) > 32 &&
    address ===
      viem.getContractAddress({
        opcode: 'CREATE2',
        from: CREATE2_DEPLOYER,
        salt: viem.slice(input, 0, 32),
        bytecode: viem.slice(input, 32),
      });
  // None where another contract called the deployer.
  return { block: Number(block), transaction: transactions.find(made)?.hash ?? null };
}
