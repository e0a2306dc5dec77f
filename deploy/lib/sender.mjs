// Who signs and pays. The key is in the environment, in a key file or on a Ledger, never on a command line.
import { execFileSync } from 'node:child_process';
import { Refusal, privateKeyToAccount, viem } from './viem.mjs';

const CAST = process.env.CAST ?? new URL('../../contracts/node_modules/.bin/cast', import.meta.url).pathname;

/** Asks what is asked (a password, the Ledger) at the terminal. */
function cast(args, rpc) {
  try {
    const env = { ...process.env, ETH_RPC_URL: rpc };
    return execFileSync(CAST, args, { env, stdio: ['inherit', 'pipe', 'inherit'], encoding: 'utf8' }).trim();
  } catch {
    throw new Refusal(`cast ${args[0]} failed: see above`);
  }
}

function castSender(flags, rpc) {
  return {
    address: viem.getAddress(cast(['wallet', 'address', ...flags], rpc)),
    send: async ({ to, data, gas }) =>
      JSON.parse(cast(['send', '--json', '--gas-limit', String(gas), ...flags, to, data], rpc)).transactionHash,
  };
}

function keySender(key, client, rpc) {
  const hex = key.startsWith('0x') ? key : `0x${key}`;
  let account;
  try {
    account = privateKeyToAccount(hex);
  } catch {
    throw new Refusal('WEIR_DEPLOYER_KEY is no private key');
  }
  const wallet = viem.createWalletClient({ account, chain: client.chain, transport: viem.http(rpc) });
  return { address: account.address, send: (transaction) => wallet.sendTransaction(transaction) };
}

export function openSender(config, client) {
  const ways = [config.ledger, config.keystore, process.env.WEIR_DEPLOYER_KEY].filter(Boolean);
  if (ways.length !== 1) throw new Refusal('give one of WEIR_DEPLOYER_KEY, --keystore FILE and --ledger');
  if (config.ledger) return castSender(['--ledger'], config.rpc);
  if (config.keystore) return castSender(['--keystore', config.keystore], config.rpc);
  return keySender(process.env.WEIR_DEPLOYER_KEY, client, config.rpc);
}
