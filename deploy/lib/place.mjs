// Puts a contract at an address of a local anvil, constructor and all, as if it had been deployed there:
//   node place.mjs RPC ARTEFACT ADDRESS [ARGUMENT..]
import fs from 'node:fs';
import { viem } from './viem.mjs';

const [rpc, artefact, address, ...args] = process.argv.slice(2);
const { abi, bytecode } = JSON.parse(fs.readFileSync(artefact, 'utf8'));
const initCode = viem.encodeDeployData({ abi, bytecode: bytecode.object, args });
const client = viem.createTestClient({ mode: 'anvil', transport: viem.http(rpc) }).extend(viem.publicActions);
const from = '0x00000000000000000000000000000000000000d0';

// As code of the account the constructor answers with the code that is to stay, and a transaction writes its storage.
await client.setCode({ address, bytecode: initCode });
const { data: runtime } = await client.call({ to: address });
await client.setBalance({ address: from, value: viem.parseEther('1') });
await client.impersonateAccount({ address: from });
const hash = await client.request({ method: 'eth_sendTransaction', params: [{ from, to: address, gas: '0x500000' }] });
const { status } = await client.waitForTransactionReceipt({ hash, pollingInterval: 50 });
if (status !== 'success') throw new Error(`the constructor of ${artefact} fails at ${address}`);
await client.setCode({ address, bytecode: runtime });
