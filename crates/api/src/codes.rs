//! The one table of error codes. The pages under `/errors`, `docs/ERRORS.md` and every problem that is
//! sent are made from it.

use axum::http::StatusCode;

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $status:ident, $title:literal, $retryable:literal, $help:literal;)+) => {
        /// Why a request was not done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)+
        }

        impl Code {
            /// Every code, by status.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name, the last part of the problem's `type`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status it is sent with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// What it says in a few words; the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// What the caller can do about it.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)+ }
            }

            /// True if the same request may succeed later.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)+ }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid-request", BAD_REQUEST, "The request is malformed", false,
        "Read `detail` and `errors`: each names the place by a JSON pointer and says what is expected there.";
    InvalidCursor = "invalid-cursor", BAD_REQUEST, "The cursor is not one that this list gave out", false,
        "Start again without `cursor`, and change no filter or sort order between pages.";
    IdempotencyKeyMissing = "idempotency-key-missing", BAD_REQUEST, "The Idempotency-Key header is missing", false,
        "Send `Idempotency-Key` with 1 to 255 visible ASCII characters, new for each intent and the same for each retry of it.";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "No valid session", false,
        "Sign in at `/v1/auth/siwe` (or `/v1/agent/session`), or make a key at `/v1/api-keys`, and send the token as `Authorization: Bearer`.";
    SiweInvalid = "siwe-invalid", UNAUTHORIZED, "The sign-in message or its signature is not accepted", false,
        "Ask for a new nonce, build the ERC-4361 message from exactly the values of that answer, and sign it with the wallet it names.";
    SiweExpired = "siwe-expired", UNAUTHORIZED, "The sign-in message is out of its time", false,
        "Ask for a new nonce and sign again, with a clock that is right.";
    EnrollInvalid = "enroll-invalid", UNAUTHORIZED, "The enrolment is not accepted", false,
        "The token is used, unknown or expired, or the signature is not by `agent_address`. Make a new token at `/v1/machines/{id}/enroll-token`.";
    AgentInvalid = "agent-invalid", UNAUTHORIZED, "The agent's sign-in is not accepted", false,
        "Ask for a new challenge and sign it with the key that was enrolled for this machine.";
    PaymentRequired = "payment-required", PAYMENT_REQUIRED, "The rental is to be paid for", false,
        "The `PAYMENT-REQUIRED` header (x402, also as `payment`) says what to sign: send the same request with the same `Idempotency-Key` and `PAYMENT-SIGNATURE`.";
    PaymentInvalid = "payment-invalid", PAYMENT_REQUIRED, "The payment is not accepted", false,
        "`detail` says what is wrong with it. Nothing was booked and nothing is paid: send the request without `PAYMENT-SIGNATURE` for new requirements.";
    Forbidden = "forbidden", FORBIDDEN, "This session or key may not do that", false,
        "Agents use `/v1/agent` only, wallets everything else. Some routes take no API key, and a key may be limited to certain machines, offers, models or prices: `detail` says what is in the way.";
    ScopeMissing = "scope-missing", FORBIDDEN, "The key has not the scope for that", false,
        "`scope` names what is missing. Scopes of a key do not change: make another key that has it, or sign in with the wallet.";
    SpendCapExceeded = "spend-cap-exceeded", FORBIDDEN, "The key may not book that much", false,
        "`cap` names the cap that is in the way, `left` what the key may still book under it. Book less, wait until the day's cap allows it, or make another key.";
    NotFound = "not-found", NOT_FOUND, "There is nothing here", false,
        "Check the path and the id. What belongs to somebody else is not found either.";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The path does not take this method", false,
        "The `Allow` header lists the methods it takes.";
    OfferChanged = "offer-changed", CONFLICT, "The offer is not as it was", false,
        "`offer` holds the present version, price and state. Ask for a new quote if they suit you.";
    OfferTaken = "offer-taken", CONFLICT, "The GPUs are rented", false,
        "Somebody was first. Look for another offer, or try later.";
    MachineOffline = "machine-offline", CONFLICT, "The machine is not online", true,
        "Its agent has not been heard of lately. Look for another offer, or try later.";
    MachineMaintenance = "machine-maintenance", CONFLICT, "The rental would run into a maintenance window", false,
        "`window` tells when it is, and `longest_s` how long a rental can be that ends before it. Rent for less, or later.";
    RunsNoTemplates = "runs-no-templates", CONFLICT, "The machine runs no templates", false,
        "It starts its provider's own program. Leave `template` out if that suits you, or look for another offer.";
    NotForSoLong = "not-for-so-long", CONFLICT, "The machine is not to be had for so long", false,
        "`reason` says what is in the way, `longest_s` for how long it could be rented now; 0 means not at all. Ask for that, or look for another offer.";
    StateConflict = "state-conflict", CONFLICT, "The present state does not allow that", false,
        "Read the resource again: `detail` names the state that it is in.";
    AlreadyExists = "already-exists", CONFLICT, "It exists already", false,
        "Use the existing one; `detail` says which of the fields is taken.";
    ReceiptNotReady = "receipt-not-ready", CONFLICT, "The rental is not settled yet", true,
        "The receipt exists once the chain's settlement is final. Follow `/v1/rentals/{id}/events`.";
    WrongChain = "wrong-chain", CONFLICT, "The message is for another chain", false,
        "Switch the wallet to the chain of `/v1/deployment` and sign again.";
    ReadingGap = "reading-gap", CONFLICT, "Readings before this one are missing", false,
        "Send the readings from `expected_seq` on, in order.";
    ReadingConflict = "reading-conflict", CONFLICT, "Another reading has this place in the chain", false,
        "A number is given out once, and each reading names the hash of the one before. Go on from the head that the heartbeat answers.";
    IdempotencyInFlight = "idempotency-in-flight", CONFLICT, "The same request is still running", true,
        "Send it again after the seconds of `Retry-After`, with the same key.";
    QuoteExpired = "quote-expired", GONE, "The quote has expired", false,
        "Ask for a new quote and book it before its `expires_at`.";
    EtagMismatch = "etag-mismatch", PRECONDITION_FAILED, "It has changed since you read it", false,
        "Read it again, and send the new `ETag` as `If-Match`.";
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large", false,
        "Send at most the bytes that `detail` names.";
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is not JSON", false,
        "Send JSON with `Content-Type: application/json`.";
    ValidationFailed = "validation-failed", UNPROCESSABLE_ENTITY, "The values are not acceptable", false,
        "Read `errors`: each names the field by a JSON pointer and says what is accepted.";
    NotAPublicKey = "not-a-public-key", UNPROCESSABLE_ENTITY, "That is not an SSH public key", false,
        "Send the one line of the file that ends in `.pub`, such as `ssh-ed25519 AAAA...`: not its path, and never a private key.";
    IdempotencyMismatch = "idempotency-mismatch", UNPROCESSABLE_ENTITY, "The key was used for another request", false,
        "Use a new `Idempotency-Key` for a new intent, and the same body for a retry.";
    PriceAboveMax = "price-above-max", UNPROCESSABLE_ENTITY, "The price is above your `max_price`", false,
        "Raise `max_price` or choose a cheaper offer.";
    ReadingSignatureInvalid = "reading-signature-invalid", UNPROCESSABLE_ENTITY, "The reading is not signed by the machine's agent", false,
        "Sign the EIP-712 hash of the reading, with the contract's domain, with the key that was enrolled; s must be in the lower half.";
    ReadingTooLate = "reading-too-late", UNPROCESSABLE_ENTITY, "The reading covers time too long ago", false,
        "Begin at `not_before` or later. What was not shown in time is not billed.";
    ReadingInvalid = "reading-invalid", UNPROCESSABLE_ENTITY, "The reading's span is not acceptable", false,
        "Keep `from` before `to`, the span short, after the reading before it and inside the billed time; `not_before` and `not_after` give the bounds.";
    MachineDraining = "machine-draining", LOCKED, "The machine takes no new rentals", false,
        "Its provider lets what runs finish, and begins nothing new. Look for another offer.";
    PreconditionRequired = "precondition-required", PRECONDITION_REQUIRED, "The If-Match header is missing", false,
        "Read the resource, and send its `ETag` as `If-Match`.";
    RateLimited = "rate-limited", TOO_MANY_REQUESTS, "Too many requests", true,
        "Wait for the seconds of `Retry-After`. `RateLimit` tells with every answer under /v1 what is left, `RateLimit-Policy` what the limits are.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The service failed", false,
        "It is our fault and is logged under `request_id`. A write either happened whole or not at all: read before you repeat it.";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The service cannot answer now", true,
        "Wait for the seconds of `Retry-After` and send the same request again.";
    FxStale = "fx-stale", SERVICE_UNAVAILABLE, "Nobody vouches for the token's price", true,
        "Its oracle has not answered lately, says quite another price, or there is none: nothing is quoted at a price that nobody vouches for. Try again, or pay with another token of `/v1/tokens`.";
    TimedOut = "timed-out", SERVICE_UNAVAILABLE, "The request took too long", true,
        "A write may have happened all the same: send it again with the same `Idempotency-Key`.";
    ChainUnavailable = "chain-unavailable", SERVICE_UNAVAILABLE, "The chain does not answer", true,
        "Wait for the seconds of `Retry-After` and send the same request again.";
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "The service is not ready yet", true,
        "It is starting: the database is not migrated, no escrow contract is recorded, or the market is still being read. Wait.";
}

/// `docs/ERRORS.md`.
#[must_use]
pub fn markdown() -> String {
    use std::fmt::Write as _;

    let mut page = String::from(
        "# Error codes\n\n\
         Every error is `application/problem+json` with `type` (`/errors/{code}`), `title`, `status`, `detail`,\n\
         `instance`, `code`, `errors` (each a JSON `pointer` and a `message`), `retryable` and `request_id`.\n\
         This page is made from `crates/api/src/codes.rs`: `UPDATE_DOCS=1 cargo test -p api` rewrites it.\n\n\
         | status | code | meaning | retry | what to do |\n|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let retry = if code.retryable() { "yes" } else { "no" };
        // writing to a String cannot fail
        let _ok = writeln!(
            page,
            "| {} | `{}` | {} | {retry} | {} |",
            code.status().as_u16(),
            code.as_str(),
            code.title(),
            code.help(),
        );
    }
    page
}
