// What was deployed, for people and programs: written once, and checked against the chain at every later run.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Refusal, viem } from './viem.mjs';

const root = new URL('../..', import.meta.url).pathname;
/** What the bytecode depends on. */
const SOURCES = ['contracts/src', 'contracts/foundry.toml', 'contracts/package-lock.json', 'crates/escrow/abi'];

function git(...args) {
  return execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}

/** The commit of the sources, and whether they are as committed; both null outside a checkout. */
export function sources() {
  try {
    return { commit: git('rev-parse', 'HEAD'), isClean: git('status', '--porcelain', '--', ...SOURCES) === '' };
  } catch {
    return { commit: null, isClean: null };
  }
}

/** The paths at which two values differ. */
function differences(a, b, at = '') {
  const isBranch = (value) => value !== null && typeof value === 'object';
  if (!isBranch(a) || !isBranch(b)) return a === b ? [] : [at];
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].flatMap((key) => differences(a[key], b[key], at ? `${at}.${key}` : key));
}

/** Writes the manifest, or holds the one that is there against it. Another commit may give the same bytecode. */
export function keep(file, manifest) {
  if (!fs.existsSync(file)) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, `${JSON.stringify(manifest, null, 2)}\n`);
    return 'written';
  }
  const kept = JSON.parse(fs.readFileSync(file, 'utf8'));
  const differing = differences(kept, manifest).filter((at) => !at.startsWith('source.') && !at.startsWith('tokens.'));
  if (differing.length !== 0) {
    throw new Refusal(`${file} differs from the chain in ${differing.join(', ')}: is it of another deployment?`);
  }
  // A token's code may be its issuer's to change; that is worth a look, and no fault of the deployment.
  const changed = differences(kept.tokens, manifest.tokens).map((at) => `tokens.${at}`);
  return changed.length === 0 ? 'unchanged' : `unchanged, but the chain now differs in ${changed.join(', ')}`;
}

export function describe({ config, genesisHash, escrow, lens, domain, tokens, create2 }) {
  const contract = ({ planned, runtime, origin }) => ({
    address: planned.address,
    ...origin,
    codeHash: viem.keccak256(runtime),
    initCodeHash: planned.initCodeHash,
    bytecodeHash: planned.bytecodeHash,
  });
  const { commit, isClean } = sources();
  return {
    network: config.network,
    chainId: config.chainId,
    genesisHash,
    escrow: { ...contract(escrow), arguments: { ...config.roles, tokens: tokens.map(({ address }) => address) } },
    lens: contract(lens),
    create2,
    domain,
    tokens,
    source: { commit, isClean },
  };
}
