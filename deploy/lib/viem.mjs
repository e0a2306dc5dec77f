// viem, as contracts/package-lock.json pins it.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../contracts/package.json', import.meta.url));

export const viem = require('viem');
export const { privateKeyToAccount } = require('viem/accounts');

/** Why nothing, or nothing more, is deployed; told in one line. */
export class Refusal extends Error {}
