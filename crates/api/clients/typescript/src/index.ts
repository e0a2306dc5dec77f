// A typed client of Weir: GPUs by the second, with the money in an escrow contract.
export { Weir, type Options, type Reply } from "./client.js";
export { Problem, Unanswered, type FieldError } from "./problem.js";
export { events, hasEnded, sealedReceipt, type RentalEvent } from "./rental.js";
export { type Answer, type Init, type Item } from "./routes.js";
export type { components, paths } from "./schema.js";
export { type Frame } from "./sse.js";
export {
  fundBySignature,
  fundByTransaction,
  NotSigned,
  signEnd,
  signerOf,
  signIn,
  signOut,
  type Booking,
  type Rental,
  type Signer,
  type Wallet,
} from "./wallet.js";
