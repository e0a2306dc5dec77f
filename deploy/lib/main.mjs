// Deploys the escrow and its lens, or finds them; checks everything that can be read from the chain.
import { USAGE, readConfig } from './config.mjs';
import { CREATE2_DEPLOYER, SALT, isDeployed, originOf, plan, requireDeployer, runtimeOf } from './contract.mjs';
import { describe, keep, sources } from './manifest.mjs';
import { openSender } from './sender.mjs';
import { readToken } from './tokens.mjs';
import { Refusal, viem } from './viem.mjs';

const say = (line) => process.stdout.write(`${line}\n`);
const PERMIT2 = '0x000000000022D473030F116dDEE9F6B43aC78BA3';

function connect(config) {
  const chain = viem.defineChain({
    id: config.chainId,
    name: config.network,
    nativeCurrency: { name: 'POL', symbol: 'POL', decimals: 18 },
    rpcUrls: { default: { http: [config.rpc] } },
  });
  return viem.createPublicClient({ chain, transport: viem.http(config.rpc), pollingInterval: 500, cacheTime: 0 });
}

async function requireChain(client, config) {
  let chainId;
  try {
    chainId = await client.getChainId();
  } catch (error) {
    // Without the address, which may hold a secret.
    throw new Refusal(`the chain does not answer: ${error.details ?? error.shortMessage ?? 'no reason given'}`);
  }
  if (chainId !== config.chainId) throw new Refusal(`the RPC serves chain ${chainId}, ${config.network} is ${config.chainId}`);
}

async function requireMultisig(client, config) {
  if (!config.isPublic || config.allowsEoaOwner) return;
  const { owner } = config.roles;
  if (!(await client.getCode({ address: owner }))) {
    throw new Refusal(`owner ${owner} has no code on chain ${config.chainId}, so it is no multisig (--allow-eoa-owner)`);
  }
}

function requireCommitted(config) {
  if (!config.isPublic || config.allowsDirty) return;
  if (!sources().isClean) throw new Refusal('the contract\'s sources are not as committed (--allow-dirty)');
}

/** Signs only if need be: a run that finds everything needs no key. */
function lazySender(config, client) {
  let sender;
  return () => {
    if (!sender) {
      sender = openSender(config, client);
      const roles = Object.entries(config.roles).flatMap(([name, holder]) => [holder].flat().map((one) => [name, one]));
      const own = roles.find(([, holder]) => holder === sender.address);
      if (own) throw new Refusal(`the deployer ${sender.address} has the role ${own[0]}: deploy with a key of no power`);
    }
    return sender;
  };
}

async function afford(client, sender, gas) {
  const { maxFeePerGas } = await client.estimateFeesPerGas();
  const cost = gas * maxFeePerGas;
  const balance = await client.getBalance({ address: sender.address });
  say(`  at most ${viem.formatEther(cost)} of the native coin, deployer ${sender.address} has ${viem.formatEther(balance)}`);
  if (balance < cost) throw new Refusal(`the deployer ${sender.address} has too little for gas`);
}

/** Where the contract is, with the code that its constructor gives; deployed now if it was not. */
async function ensure(client, config, planned, senderOf) {
  const runtime = await runtimeOf(client, planned);
  const contract = { planned, runtime };
  if (await isDeployed(client, planned, runtime)) {
    say(`${planned.name} ${planned.address}: found`);
    return { ...contract, isNew: false, origin: config.isDryRun ? null : await originOf(client, planned.address) };
  }
  if (config.isDryRun) {
    say(`${planned.name} ${planned.address}: would be deployed, code hash ${viem.keccak256(runtime)}`);
    return { ...contract, isNew: true, origin: null };
  }
  const sender = senderOf();
  const call = { to: CREATE2_DEPLOYER, data: viem.concat([SALT, planned.initCode]) };
  say(`${planned.name} ${planned.address}: deploying`);
  const gas = ((await client.estimateGas({ ...call, account: sender.address })) * 11n) / 10n;
  await afford(client, sender, gas);
  const hash = await sender.send({ ...call, gas });
  say(`  transaction ${hash}, waiting for ${config.confirmations} confirmation(s)`);
  const receipt = await client.waitForTransactionReceipt({ hash, confirmations: config.confirmations, timeout: 600_000 });
  if (receipt.status !== 'success') throw new Refusal(`transaction ${hash} failed`);
  if (!(await isDeployed(client, planned, runtime))) throw new Refusal(`${planned.name} ${planned.address} has no code`);
  say(`  block ${receipt.blockNumber}, ${receipt.gasUsed} gas`);
  return { ...contract, isNew: true, origin: await originOf(client, planned.address, receipt) };
}

/** Roles, tokens and domain as the contract itself says, against what was asked for. */
async function stateDifferences(client, config, escrow, tokens, domain) {
  const { address, abi } = escrow.planned;
  const read = (functionName, ...args) => client.readContract({ address, abi, functionName, args });
  const found = [];
  const compare = (what, actual, expected) => {
    if (actual !== expected) found.push(`${what} is ${actual}, not ${expected}`);
  };
  for (const name of ['owner', 'guardian', 'treasury', 'arbiter']) compare(name, await read(name), config.roles[name]);
  compare('pendingOwner', await read('pendingOwner'), viem.zeroAddress);
  for (const operator of config.roles.operators) compare(`isOperator(${operator})`, await read('isOperator', operator), true);
  for (const token of tokens) {
    const [listed, paused] = await read('tokenState', token.address);
    compare(`listed(${token.symbol})`, listed, true);
    compare(`paused(${token.symbol})`, paused, false);
  }
  compare('domainSeparator', await read('domainSeparator'), domain.separator);
  return found;
}

function domainOf(config, verifyingContract) {
  const domain = { name: 'Weir Escrow', version: '1', chainId: config.chainId, verifyingContract };
  return { ...domain, separator: viem.domainSeparator({ domain }) };
}

async function testTokens(client, config, senderOf) {
  const entries = [];
  for (const entry of config.tokens) {
    if (!entry.deploy) {
      entries.push(entry);
      continue;
    }
    const { planned, isNew } = await ensure(client, config, plan(entry.deploy, []), senderOf);
    if (config.isDryRun && isNew) return null;
    entries.push({ ...entry, address: planned.address });
  }
  return entries;
}

async function run(config) {
  const client = connect(config);
  await requireChain(client, config);
  await requireDeployer(client);
  requireCommitted(config);
  await requireMultisig(client, config);
  const senderOf = lazySender(config, client);
  const listed = await testTokens(client, config, senderOf);
  // Without its test tokens the escrow cannot be tried.
  if (!listed) return;
  const tokens = [];
  for (const entry of listed) {
    tokens.push(await readToken(client, entry, config.chainId));
    say(`token ${entry.symbol} ${entry.address}: as expected`);
  }
  if (!(await client.getCode({ address: PERMIT2 }))) say('note: Permit2 is not on this chain, lockWithPermit2 cannot be used');

  const { owner, guardian, treasury, arbiter, operators } = config.roles;
  const settings = { owner, guardian, treasury, arbiter, operators, tokens: tokens.map(({ address }) => address) };
  const escrow = await ensure(client, config, plan('Escrow', [settings]), senderOf);
  if (config.isDryRun && escrow.isNew) {
    say(`Lens ${plan('Lens', [escrow.planned.address]).address}: would be deployed`);
    return;
  }
  const domain = domainOf(config, escrow.planned.address);
  const differing = await stateDifferences(client, config, escrow, tokens, domain);
  if (escrow.isNew && differing.length !== 0) throw new Refusal(`deployed, but ${differing.join('; ')}`);
  for (const line of differing) say(`note: changed since the deployment: ${line}`);
  const lens = await ensure(client, config, plan('Lens', [escrow.planned.address]), senderOf);
  if (config.isDryRun) return;

  const { hash: genesisHash } = await client.getBlock({ blockNumber: 0n });
  const create2 = { deployer: CREATE2_DEPLOYER, salt: SALT };
  const manifest = describe({ config, genesisHash, escrow, lens, domain, tokens, create2 });
  say(`manifest ${config.out}: ${keep(config.out, manifest)}`);
  say(`for the service: WEIR_ESCROW=${escrow.planned.address}`);
}

try {
  const config = readConfig(process.argv.slice(2));
  if (config) await run(config);
  else say(USAGE);
} catch (error) {
  if (!(error instanceof Refusal)) {
    // viem's long message would tell the RPC's address.
    process.stderr.write(`escrow: ${error.shortMessage ?? error.stack}${error.details ? `: ${error.details}` : ''}\n`);
  } else {
    process.stderr.write(`escrow: ${error.message}\n`);
  }
  process.exitCode = 1;
}
