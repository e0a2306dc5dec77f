// The scheme `weir-escrow` for @x402/core: an EIP-3009 authorization whose nonce is the rental's id, so that whoever sends
// it can open that rental with that deposit and do nothing else.
import { getAddress, hashTypedData } from "viem";

const TERMS = [
  { name: "renter", type: "address" },
  { name: "provider", type: "address" },
  { name: "token", type: "address" },
  { name: "pricePerHour", type: "uint96" },
  { name: "feeBps", type: "uint16" },
  { name: "startBy", type: "uint40" },
  { name: "holdback", type: "uint32" },
  { name: "orderHash", type: "bytes32" },
];
const RECEIVE = [
  { name: "from", type: "address" },
  { name: "to", type: "address" },
  { name: "value", type: "uint256" },
  { name: "validAfter", type: "uint256" },
  { name: "validBefore", type: "uint256" },
  { name: "nonce", type: "bytes32" },
];

export class WeirEscrowScheme {
  scheme = "weir-escrow";

  /** @param signer anything with `address` and `signTypedData`, such as a viem account */
  constructor(signer) {
    this.signer = signer;
  }

  async createPaymentPayload(x402Version, requirements) {
    const { extra, network, asset, payTo, amount, maxTimeoutSeconds } = requirements;
    const chainId = Number(network.split(":")[1]);
    const terms = { ...extra.terms, renter: this.signer.address };
    if (getAddress(terms.token) !== getAddress(asset)) throw new Error("the terms are in another token");
    const nonce = hashTypedData({
      domain: { ...extra.escrow, chainId, verifyingContract: payTo },
      types: { Terms: TERMS },
      primaryType: "Terms",
      message: terms,
    });
    const authorization = {
      from: this.signer.address,
      to: payTo,
      value: amount,
      validAfter: "0",
      validBefore: String(Math.floor(Date.now() / 1000) + maxTimeoutSeconds),
      nonce,
    };
    const signature = await this.signer.signTypedData({
      domain: { name: extra.name, version: extra.version, chainId, verifyingContract: asset },
      types: { ReceiveWithAuthorization: RECEIVE },
      primaryType: "ReceiveWithAuthorization",
      message: authorization,
    });
    return { x402Version, payload: { signature, authorization } };
  }
}
