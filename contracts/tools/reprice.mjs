// Gas of a transaction in two price lists, told from its opcodes (`debug_traceTransaction`): Ethereum's of Prague and
// Polygon's since PIP-88. Shares nothing with test/PriceList.sol, which tells it from the slots of a state diff.

/** PIP-88 splits EIP-2929's COLD_SLOAD_COST in two; SSTORE's reset and refunds follow from the second. */
export const PRICES = {
  stock: { coldLoad: 2100, coldStore: 2100 },
  polygon: { coldLoad: 5460, coldStore: 2940 },
};

const WARM = 100;
const SET = 20000;
const RESET = 5000;
const KEY = 1900;
const ADDRESS = 2400;
const TX = 21000;

// BN254, blake2F and BLS12-381, which PIP-88 reprices too; 0x0a is left as it was.
const REPRICED = new Set([6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17]);
const CALLS = new Set(['CALL', 'STATICCALL', 'DELEGATECALL', 'CALLCODE']);
const GOOD_ENDS = new Set(['STOP', 'RETURN', 'SELFDESTRUCT']);

const hex = (word) => BigInt(word.startsWith('0x') ? word : `0x${word}`);
const address = (word) => `0x${(hex(word) & ((1n << 160n) - 1n)).toString(16).padStart(40, '0')}`;

/** One price list's running total of a transaction: what storage cost, and EIP-3529's refund counter. */
class Meter {
  constructor({ coldLoad, coldStore }) {
    Object.assign(this, { coldLoad, coldStore, cost: 0, refund: 0 });
    this.reset = RESET - coldStore;
    this.clear = this.reset + KEY;
  }

  load(cold) {
    const cost = cold ? this.coldLoad : WARM;
    this.cost += cost;
    return cost;
  }

  /** EIP-2200 by way of EIP-2929. */
  store(cold, original, current, next) {
    let cost = cold ? this.coldStore : 0;
    if (current === next) {
      cost += WARM;
    } else if (original === current) {
      cost += original === 0n ? SET : this.reset;
      if (original !== 0n && next === 0n) this.refund += this.clear;
    } else {
      cost += WARM;
      if (original !== 0n) {
        if (current === 0n) this.refund -= this.clear;
        else if (next === 0n) this.refund += this.clear;
      }
      if (original === next) this.refund += (original === 0n ? SET : this.reset) - WARM;
    }
    this.cost += cost;
    return cost;
  }
}

function intrinsic(input, accessList) {
  const bytes = Buffer.from(input.slice(2), 'hex');
  const zeros = bytes.filter((byte) => byte === 0).length;
  const tokens = zeros + 4 * (bytes.length - zeros);
  const keys = accessList.reduce((sum, entry) => sum + entry.storageKeys.length, 0);
  return { gas: TX + 4 * tokens + ADDRESS * accessList.length + KEY * keys, floor: TX + 10 * tokens };
}

/**
 * @param tx `to`, `input`, `gas` (limit, a number) and `accessList`
 * @param steps the trace's struct logs, with stacks
 * @param stored (address, slot) => value before the transaction
 * @returns `stock` and `polygon`, the gas used in each list, and `slots`, the storage touched
 * @throws where an opcode's price is not the one that the model gives it, or where the model does not reach
 */
export function reprice(tx, steps, stored) {
  const accessList = tx.accessList ?? [];
  const { gas: before, floor } = intrinsic(tx.input, accessList);
  const meters = { stock: new Meter(PRICES.stock), polygon: new Meter(PRICES.polygon) };
  const slots = new Map();
  const frames = [];
  let undo = [];

  const slotAt = (account, key) => {
    const name = `${account} ${key}`;
    if (!slots.has(name)) {
      const original = stored(account, key);
      slots.set(name, { account, key, original, current: original, warm: false });
    }
    return slots.get(name);
  };
  const set = (slot, field, value) => {
    const old = slot[field];
    undo.push(() => { slot[field] = old; });
    slot[field] = value;
  };
  const enter = (account) => {
    const refunds = Object.values(meters).map((meter) => meter.refund);
    frames.push({ account, undone: undo.length, refunds });
  };
  // A frame that fails makes its slots cold again, and takes its writes and refunds back.
  const leave = (failed) => {
    const { undone, refunds } = frames.pop();
    if (!failed) return;
    while (undo.length > undone) undo.pop()();
    Object.values(meters).forEach((meter, i) => { meter.refund = refunds[i]; });
  };

  for (const entry of accessList) {
    for (const key of entry.storageKeys) slotAt(entry.address.toLowerCase(), hex(key)).warm = true;
  }
  if (steps.length === 0) throw new Error('a transaction without code');
  if (steps[0].gas !== tx.gas - before) throw new Error(`intrinsic gas: ${tx.gas - steps[0].gas}, not ${before}`);
  enter(tx.to.toLowerCase());

  steps.forEach((step, i) => {
    const { op, depth, stack } = step;
    const next = steps[i + 1];
    const top = (n) => stack[stack.length - 1 - n];
    const { account } = frames[frames.length - 1];
    if (depth !== frames.length) throw new Error(`step ${i}: depth ${depth}, not ${frames.length}`);

    if (op === 'SLOAD' || op === 'SSTORE') {
      const slot = slotAt(account, hex(top(0)));
      const cold = !slot.warm;
      if (cold) set(slot, 'warm', true);
      const costs = Object.values(meters).map((meter) =>
        op === 'SLOAD' ? meter.load(cold) : meter.store(cold, slot.original, slot.current, hex(top(1))));
      if (costs[0] !== step.gasCost) throw new Error(`step ${i}: ${op} cost ${step.gasCost}, the model says ${costs[0]}`);
      if (op === 'SSTORE') set(slot, 'current', hex(top(1)));
    } else if (op.startsWith('CREATE')) {
      throw new Error('CREATE is not modelled');
    } else if (CALLS.has(op)) {
      if (hex(top(1)) < 256n && REPRICED.has(Number(hex(top(1))))) throw new Error('a precompile that PIP-88 reprices');
      if (next && next.depth > depth) enter(op === 'DELEGATECALL' || op === 'CALLCODE' ? account : address(top(1)));
    }
    if (next && next.depth < depth) leave(!GOOD_ENDS.has(op));
  });

  const last = steps[steps.length - 1];
  if (frames.length !== 1 || !GOOD_ENDS.has(last.op)) throw new Error('the transaction failed');
  const spent = before + steps[0].gas - (last.gas - last.gasCost);
  // EIP-3529: at most a fifth comes back; EIP-7623: calldata has a least price.
  const used = ({ cost, refund }) => {
    const gross = spent - meters.stock.cost + cost;
    return Math.max(gross - Math.min(refund, Math.floor(gross / 5)), floor);
  };
  return { stock: used(meters.stock), polygon: used(meters.polygon), slots: [...slots.values()] };
}

/** EIP-2930: the access list of every slot that the transaction touched. */
export function accessListOf(slots) {
  const keys = new Map();
  for (const { account, key } of slots) {
    if (!keys.has(account)) keys.set(account, []);
    keys.get(account).push(`0x${key.toString(16).padStart(64, '0')}`);
  }
  return [...keys].map(([account, storageKeys]) => ({ address: account, storageKeys }));
}
