// What is to be deployed: a file of deploy/networks, and what the command line adds to it.
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { Refusal, viem } from './viem.mjs';

export const USAGE = `deploy/escrow NETWORK [options]   NETWORK is a file of deploy/networks: local, amoy, polygon

  --owner ADDRESS, --guardian, --treasury, --arbiter ADDRESS, --operator ADDRESS (may be repeated)
                       roles that the network's file leaves empty
  --dry-run            check everything and tell what would be deployed; send nothing, need no key
  --out FILE           the manifest; deploy/deployed/NETWORK.json if not given
  --ledger             sign with a Ledger, or
  --keystore FILE      with an encrypted key file (ETH_PASSWORD: a file with its password), or
                       with the key in the variable WEIR_DEPLOYER_KEY
  --allow-eoa-owner    on amoy and polygon: take an owner that is no contract, and so no multisig
  --allow-dirty        on amoy and polygon: deploy from sources that are not committed
`;

const PUBLIC_CHAINS = [137, 80_002];
const SINGLE_ROLES = ['owner', 'guardian', 'treasury', 'arbiter'];

function parse(args) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        owner: { type: 'string' },
        guardian: { type: 'string' },
        treasury: { type: 'string' },
        arbiter: { type: 'string' },
        operator: { type: 'string', multiple: true },
        out: { type: 'string' },
        keystore: { type: 'string' },
        ledger: { type: 'boolean' },
        'dry-run': { type: 'boolean' },
        'allow-eoa-owner': { type: 'boolean' },
        'allow-dirty': { type: 'boolean' },
        help: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new Refusal(`${error.message}\n\n${USAGE}`);
  }
}

function address(text, what) {
  if (!text) throw new Refusal(`${what} is not given: name it in the network's file or on the command line`);
  if (!viem.isAddress(text)) throw new Refusal(`${what} ${text} is no address, or its checksum is wrong`);
  const got = viem.getAddress(text);
  if (got === viem.zeroAddress) throw new Refusal(`${what} is the zero address`);
  return got;
}

/** A role from the file or from the command line, not from both: else it is not plain which one is meant. */
function role(file, options, name) {
  if (file[name] && options[name]) throw new Refusal(`${name} is in the network's file already`);
  return address(file[name] || options[name], name);
}

function requireDistinct(roles) {
  const holders = new Map();
  for (const [name, holder] of roles) {
    const other = holders.get(holder);
    // The treasury only receives, and may be the owner's multisig.
    const isHarmless = [name, other].sort().join() === 'owner,treasury';
    if (other && !isHarmless) throw new Refusal(`${holder} is both ${other} and ${name}: one stolen key would be two`);
    holders.set(holder, name);
  }
}

function token(entry, index, isPublic) {
  const what = `tokens[${index}] of the network's file`;
  if (typeof entry.symbol !== 'string' || !Number.isInteger(entry.decimals)) {
    throw new Refusal(`${what} needs symbol and decimals`);
  }
  if (entry.deploy) {
    if (isPublic) throw new Refusal(`${what} is a test token: on a local chain only`);
    return entry;
  }
  if (!viem.isAddress(entry.address ?? '')) throw new Refusal(`${what} has no address, or its checksum is wrong`);
  return { ...entry, address: viem.getAddress(entry.address) };
}

/** @returns null where only help was asked for. */
export function readConfig(args) {
  const { values: options, positionals } = parse(args);
  if (options.help) return null;
  const [network] = positionals;
  if (positionals.length !== 1 || !/^[a-z0-9-]+$/.test(network)) throw new Refusal(`name one network\n\n${USAGE}`);
  const path = new URL(`../networks/${network}.json`, import.meta.url);
  if (!fs.existsSync(path)) throw new Refusal(`there is no deploy/networks/${network}.json`);
  const file = JSON.parse(fs.readFileSync(path, 'utf8'));
  const isPublic = PUBLIC_CHAINS.includes(file.chainId);
  const roles = Object.fromEntries(SINGLE_ROLES.map((name) => [name, role(file, options, name)]));
  const operators = [...file.operators, ...(options.operator ?? [])].map((text) => address(text, 'operator'));
  if (operators.length === 0) throw new Refusal('operator is not given: name it in the network\'s file or on the command line');
  requireDistinct([...Object.entries(roles), ...operators.map((operator) => ['operator', operator])]);
  const rpc = process.env[file.rpcEnv];
  if (!rpc) throw new Refusal(`${file.rpcEnv} is not set: the RPC address of chain ${file.chainId}`);
  return {
    network,
    isPublic,
    rpc,
    chainId: file.chainId,
    confirmations: file.confirmations,
    roles: { ...roles, operators },
    tokens: file.tokens.map((entry, index) => token(entry, index, isPublic)),
    out: options.out ?? new URL(`../deployed/${network}.json`, import.meta.url).pathname,
    isDryRun: Boolean(options['dry-run']),
    allowsEoaOwner: Boolean(options['allow-eoa-owner']),
    allowsDirty: Boolean(options['allow-dirty']),
    ledger: Boolean(options.ledger),
    keystore: options.keystore,
  };
}
