// Tokens as the chain has them, held against what the network's file expects.
import { Refusal, viem } from './viem.mjs';

const ABI = viem.parseAbi([
  'function symbol() view returns (string)',
  'function decimals() view returns (uint8)',
  'function name() view returns (string)',
  'function DOMAIN_SEPARATOR() view returns (bytes32)',
]);
/** Where proxies keep the address of their code: EIP-1967, Circle's, Polygon's bridge. */
const PROXY_SLOTS = [
  '0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc',
  viem.keccak256(viem.toHex('org.zeppelinos.proxy.implementation')),
  viem.keccak256(viem.toHex('matic.network.proxy.implementation')),
];

async function optional(client, address, functionName) {
  try {
    return await client.readContract({ address, abi: ABI, functionName });
  } catch (error) {
    if (error instanceof viem.ContractFunctionExecutionError) return null;
    throw error;
  }
}

async function implementationOf(client, address) {
  for (const slot of PROXY_SLOTS) {
    const word = await client.getStorageAt({ address, slot });
    const implementation = viem.getAddress(viem.slice(viem.padHex(word, { size: 32 }), 12));
    if (implementation !== viem.zeroAddress) {
      const code = await client.getCode({ address: implementation });
      return { address: implementation, codeHash: code ? viem.keccak256(code) : null };
    }
  }
  return null;
}

/** The name with which the token's own separator comes out; permits are signed for that one. */
function domainOf(entry, chainId, separator) {
  const name = entry.domain.names.find(
    (candidate) =>
      separator ===
      viem.domainSeparator({
        domain: { name: candidate, version: entry.domain.version, chainId, verifyingContract: entry.address },
      }),
  );
  if (name === undefined) {
    const expected = entry.domain.names.map((candidate) => JSON.stringify(candidate)).join(' or ');
    throw new Refusal(
      `token ${entry.symbol} ${entry.address}: DOMAIN_SEPARATOR() is ${separator ?? 'absent'}, not that of ${expected} ` +
        `version "${entry.domain.version}" on chain ${chainId}`,
    );
  }
  return { name, version: entry.domain.version, separator };
}

/** What the chain says about a token; refuses where it is not what the file says. */
export async function readToken(client, entry, chainId) {
  const { address, symbol, decimals } = entry;
  if (address === viem.zeroAddress) return { address, symbol, decimals };
  const code = await client.getCode({ address });
  if (!code) throw new Refusal(`token ${symbol} ${address}: there is no code on chain ${chainId}`);
  const actual = {
    symbol: await optional(client, address, 'symbol'),
    decimals: await optional(client, address, 'decimals'),
  };
  for (const field of ['symbol', 'decimals']) {
    if (actual[field] !== entry[field]) {
      throw new Refusal(
        `token ${symbol} ${address}: ${field} is ${JSON.stringify(actual[field])} on the chain, ` +
          `${JSON.stringify(entry[field])} in the network's file`,
      );
    }
  }
  const separator = await optional(client, address, 'DOMAIN_SEPARATOR');
  return {
    address,
    symbol,
    decimals,
    name: await optional(client, address, 'name'),
    codeHash: viem.keccak256(code),
    implementation: await implementationOf(client, address),
    domain: entry.domain ? domainOf(entry, chainId, separator) : null,
  };
}
