// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice What a renter and a provider agree on. Its EIP-712 digest is the rental's id; the terms are emitted
/// whole at `lock`, never stored, and handed in again by whoever acts on the rental.
/// @param renter Pays, and gets back what is not used.
/// @param provider Is paid by the second.
/// @param token ERC-20 address, or 0 for the chain's native coin.
/// @param pricePerHour Gross price of an hour, fee included, in the token's base units; never 0.
/// @param feeBps The treasury's part of the gross, in 1/10,000; at most `MAX_FEE_BPS`.
/// @param startBy Unix second after which the rental can be neither locked nor started.
/// @param holdback Seconds at the end of the billed time that `release` leaves unpaid and the renter may dispute.
/// @param orderHash Ties hardware, image and service level to the money; doubles as the salt of the id.
struct Terms {
    address renter;
    address provider;
    address token;
    uint96 pricePerHour;
    uint16 feeBps;
    uint40 startBy;
    uint32 holdback;
    bytes32 orderHash;
}

/// @notice One rental of a `startBatch`.
struct StartItem {
    Terms terms;
    uint40 startedAt;
}

/// @notice One rental of a `closeBatch`.
struct CloseItem {
    Terms terms;
    uint40 stoppedAt;
    uint32 creditSecs;
}

/// @notice One rental of a `lockBatch`: paid from the renter's balance, signed as `PrepaidLock`.
struct PrepaidItem {
    Terms terms;
    uint96 deposit;
    bytes signature;
}

/// @notice What the two sides signed about an end. Empty: that side did not sign. The caller's own consent need not be
/// signed in `closeAgreed`.
struct EndSignatures {
    bytes renter;
    bytes provider;
}

/// @notice Where a rental stands. `Contested`: the clock has stopped, all but some held seconds is paid out.
enum Status {
    None,
    Locked,
    Active,
    Contested,
    Closed
}

/// @notice How a rental ended: the first six as in `Contested`, where seconds were held; `Closed` carries all.
/// @param Agreed Both sides signed the billed time.
/// @param Conceded One side gave the held seconds up.
/// @param Resolved The arbiter split the held seconds.
/// @param Undisputed Nobody disputed in the window.
/// @param Defaulted Somebody disputed, and the arbiter stayed silent: the chain's clock decides.
enum Outcome {
    Cancelled,
    Reclaimed,
    StoppedByRenter,
    StoppedByProvider,
    Exhausted,
    ClosedByOperator,
    Agreed,
    Conceded,
    Resolved,
    Undisputed,
    Defaulted
}

/// @notice What the owner can change only `CHANGE_DELAY` after saying so.
enum Change {
    ListToken,
    AddOperator,
    SetTreasury,
    SetArbiter,
    SetGuardian
}

/// @notice A rental as stored.
/// @param status `None` for an id never locked, and for one closed after its `startBy`.
/// @param deposit Base units locked so far, payments not subtracted; 0 once closed.
/// @param since Unix second of the lock while `Locked`, of the start while `Active`, else 0.
/// @param settledSecs Seconds that are paid for good.
/// @param contestedSecs Seconds after those that are held while `Contested`.
/// @param claimSecs The first of the held seconds, billed so far, that the renter may dispute; the others are the
/// operator's credit, which the provider may dispute.
/// @param deadline While `Contested`: the last Unix second to dispute, or for the arbiter once disputed.
/// @param renterDisputes Whether the renter disputes the claim.
/// @param providerDisputes Whether the provider disputes the credit.
struct Rental {
    Status status;
    uint96 deposit;
    uint40 since;
    uint32 settledSecs;
    uint32 contestedSecs;
    uint32 claimSecs;
    uint40 deadline;
    bool renterDisputes;
    bool providerDisputes;
}

/// @title Weir's rental escrow
/// @notice Holds a renter's deposit, pays the provider and the treasury by the second, returns the rest.
///
/// Money: `gross(s) = min(deposit, floor(s * pricePerHour / 3600))` for `s` seconds, `s` bounded by
/// `floor(deposit * 3600 / pricePerHour)` and at least 1 once started; `fee = floor(gross * feeBps / 10000)`;
/// `net = gross - fee`. Every payment is the difference of two cumulative values, so it does not matter in how many
/// parts a rental is paid. Provider and treasury are credited and withdraw; the renter's refund is pushed, and
/// credited when the push fails.
///
/// The end: the chain's clock is the rule. Against it there are two claims, both about unreleased seconds, which are
/// held: the renter's, that up to `holdback` of the last ones were worth nothing, and the operator's credit for an outage.
/// A claim that the losing side lets pass, concedes or has signed beforehand holds; one that it disputes holds if and
/// as far as the arbiter says so within `ARBITRATION`; else the clock's time is paid.
///
/// Nobody's money can be moved by owner, guardian, operator or arbiter other than along the rental's own terms and
/// within those held seconds. Pausing a token stops money coming in (`lock` and its kin, `topUp`, `prepay`), nothing
/// else.
interface IEscrow {
    /// @notice A deposit is in and the clock of the terms is set. `prepaid`: it came from the renter's balance here.
    event Locked(
        bytes32 indexed id, address indexed renter, address indexed provider, Terms terms, uint96 deposit, bool prepaid
    );
    /// @notice `deposit` is the new total.
    event ToppedUp(bytes32 indexed id, address from, uint96 amount, uint96 deposit);
    event Started(bytes32 indexed id, uint40 startedAt);
    /// @notice `net` and `fee` are what this call paid; `settledSecs` is the new total.
    event Released(bytes32 indexed id, uint32 settledSecs, uint96 net, uint96 fee);
    /// @notice The clock has stopped; `settledSecs` are paid for good, the `contestedSecs` after them are held until
    /// `deadline`, of which the first `claimSecs` go to the provider and the others to the renter unless somebody
    /// disputes. `renterDisputes`: the renter did so in the same call. `net`, `fee`, `refund`: what this call paid.
    event Contested(
        bytes32 indexed id,
        Outcome outcome,
        uint32 settledSecs,
        uint32 contestedSecs,
        uint32 claimSecs,
        uint40 deadline,
        bool renterDisputes,
        uint96 net,
        uint96 fee,
        uint96 refund,
        bool refundPushed
    );
    /// @notice `by`, the renter or the provider, will not have what would come of silence; the arbiter has until
    /// `deadline`.
    event Disputed(bytes32 indexed id, address indexed by, uint40 deadline);
    /// @notice The end. `billedSecs` is the total; `net`, `fee` and `refund` are what this call paid, earlier payments
    /// not included. `refundPushed` is false only where the refund was credited because the renter did not take it.
    event Closed(
        bytes32 indexed id, Outcome outcome, uint32 billedSecs, uint96 net, uint96 fee, uint96 refund, bool refundPushed
    );
    /// @notice A refund that the renter did not take waits for `withdraw`.
    event Credited(address indexed account, address indexed token, uint96 amount);
    /// @notice `from` paid `amount` into `account`'s balance.
    event Prepaid(address indexed account, address indexed token, address from, uint96 amount);
    event Withdrawn(address indexed account, address indexed token, address to, uint96 amount);
    /// @notice `account` signed a `withdrawBySig`; its next one is signed with `nonce + 1`.
    event NonceUsed(address indexed account, uint256 nonce);
    /// @notice A batch item was left as it is; `reason` is the selector of the error that the single call reverts with.
    event Skipped(bytes32 indexed id, bytes4 reason);
    event AgentSet(address indexed account, address indexed agent, uint40 expiresAt);

    event OperatorSet(address indexed operator, bool allowed);
    event TreasurySet(address indexed treasury);
    event ArbiterSet(address indexed arbiter);
    event GuardianSet(address indexed guardian);
    event TokenListed(address indexed token);
    event TokenPaused(address indexed token, bool paused);
    event ChangeScheduled(Change indexed change, address indexed subject, uint40 readyAt);
    event ChangeCancelled(Change indexed change, address indexed subject);

    /// @notice Only the renter of the terms may do this.
    error NotRenter();
    /// @notice Only an operator may do this.
    error NotOperator();
    /// @notice Only an operator or the rental's provider may do this.
    error NotOperatorOrProvider();
    /// @notice Only the renter, the provider or an agent of theirs may do this. Anyone may stop `CLOSE_WINDOW` after the
    /// deposit is used up.
    error NotRenterOrProvider();
    /// @notice Only the arbiter may do this.
    error NotArbiter();
    /// @notice Only the guardian or the owner may do this.
    error NotGuardianOrOwner();
    /// @notice The escrow cannot be left without an owner.
    error OwnerRequired();
    /// @notice Not signed by whom it must be, or other things were signed.
    error BadSignature();
    /// @notice The signature's deadline has passed.
    error SignatureExpired();

    error ZeroAddress();
    error ZeroAmount();
    error ZeroPrice();
    /// @notice Renter and provider are the same account.
    error SelfRental();
    /// @notice The escrow itself can never withdraw what it earns.
    error PayeeIsEscrow();
    /// @notice `feeBps` is above `MAX_FEE_BPS`.
    error FeeTooHigh();
    /// @notice `startBy` has passed, or is more than `MAX_START_BY` ahead.
    error StartByOutOfRange();
    /// @notice These terms were locked before; a new rental needs a new `orderHash`.
    error IdUsed();
    error TokenNotListed();
    error TokenIsPaused();
    /// @notice An address without code cannot be listed as an ERC-20.
    error NotAContract();
    /// @notice This way of paying is for ERC-20 tokens only.
    error NativeToken();
    /// @notice The native coin sent is not the amount named, or was sent along with an ERC-20 rental.
    error WrongValue();
    /// @notice The token moved another amount than asked.
    error InexactTransfer();
    /// @notice The deposit would not fit 96 bits.
    error DepositOverflow();

    /// @notice The rental is not waiting to be started.
    error NotLocked();
    /// @notice The rental is not running.
    error NotActive();
    /// @notice Nothing of the rental is held.
    error NotContested();
    /// @notice `startedAt` is outside [lockedAt, startBy], in the future, or older than `START_WINDOW`.
    error StartOutOfWindow();
    /// @notice `stoppedAt` is before the start, in the future, or older than `CLOSE_WINDOW`.
    error StopOutOfWindow();
    /// @notice The operator can still start this rental.
    error ReclaimTooEarly();
    /// @notice The operator can no longer start this rental: reclaim it.
    error StartWindowOver();
    /// @notice The deposit is used up.
    error FundedTimeOver();
    /// @notice Nothing older than the holdback is unpaid.
    error NothingToRelease();
    /// @notice `contest` takes 1 to `holdback` seconds, of which some must be unsettled beyond the first: else `stop`.
    error ContestOutOfRange();
    /// @notice The billed time agreed on is less than is settled, or 0, or more than has elapsed or is funded.
    error AgreedSecsOutOfRange();
    /// @notice Nothing that goes to the other side by default is held, or the caller disputes it already.
    error NothingToDispute();
    /// @notice The window for disputes is over.
    error DisputeWindowOver();
    /// @notice The other side can still dispute its part.
    error DisputeWindowOpen();
    /// @notice Nobody disputes.
    error NotDisputed();
    /// @notice The arbiter's time is over: anyone may `finalize`.
    error ArbitrationOver();
    /// @notice The arbiter may move disputed seconds only.
    error ResolutionOutOfRange();
    /// @notice The window for disputes, or the arbiter's time, is not over.
    error FinalizeTooEarly();
    /// @notice More items than `MAX_BATCH`, or with signatures `MAX_SIGNED_BATCH`.
    error BatchTooLarge();
    /// @notice As many signatures as items, or none.
    error SignatureCountMismatch();

    /// @notice The balance is smaller than the amount asked, or empty.
    error InsufficientBalance();
    /// @notice The recipient did not take the native coin, or the recipient is the escrow.
    error WithdrawFailed();
    /// @notice An agent's right must end in the future; agent 0 with expiry 0 revokes.
    error AgentExpiryInPast();

    /// @notice This change was not scheduled.
    error ChangeNotScheduled();
    /// @notice `CHANGE_DELAY` is not over.
    error ChangeTooEarly();
    /// @notice `CHANGE_GRACE` is over: schedule it anew.
    error ChangeTooLate();

    /// @notice Pulls `deposit` from the caller, who must be the renter, and opens the rental.
    /// @dev The token must be listed and open and must move exactly `deposit`; native: `msg.value` is `deposit`.
    /// @return id The EIP-712 digest of the terms.
    function lock(Terms calldata t, uint96 deposit) external payable returns (bytes32 id);

    /// @notice `lock` after an EIP-2612 permit of the renter. A permit that fails is ignored: somebody may have
    /// sent it first, and the allowance decides.
    function lockWithPermit(
        Terms calldata t,
        uint96 deposit,
        uint256 permitDeadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    )
        external
        returns (bytes32 id);

    /// @notice Anyone: `lock` paid by an EIP-3009 `ReceiveWithAuthorization` of the renter whose nonce is the rental's
    /// id and whose value is the deposit, so that whoever sends it can change nothing.
    /// @param signature 65 bytes (r, s, v); anything else goes to the token as it is, for smart wallets.
    function lockWithAuthorization(
        Terms calldata t,
        uint96 deposit,
        uint256 validAfter,
        uint256 validBefore,
        bytes calldata signature
    )
        external
        returns (bytes32 id);

    /// @notice Anyone: `lock` paid by a Permit2 `PermitWitnessTransferFrom` of the renter whose witness is the terms and
    /// whose amount is the deposit.
    function lockWithPermit2(
        Terms calldata t,
        uint96 deposit,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    )
        external
        returns (bytes32 id);

    /// @notice `lock` paid from the renter's balance here. The renter may leave the signature empty; anyone else brings
    /// the renter's over `PrepaidLock(Terms terms,uint96 deposit)`.
    function lockPrepaid(Terms calldata t, uint96 deposit, bytes calldata signature) external returns (bytes32 id);

    /// @notice `lockPrepaid` of each; an item that cannot be locked is skipped.
    function lockBatch(PrepaidItem[] calldata items) external;

    /// @notice Adds to a deposit; anyone may, and pays from the own account. While locked: until the start window is
    /// over; while active: until the funded time is over. What is not used goes to the renter, whoever paid it.
    function topUp(Terms calldata t, uint96 amount) external payable;

    /// @notice Pays into `account`'s balance here, from the caller's account.
    function prepay(address account, address token, uint96 amount) external payable;

    /// @notice Operator: starts the clock at `startedAt`, within [lockedAt, startBy] and the last `START_WINDOW`.
    function start(Terms calldata t, uint40 startedAt) external;

    /// @notice `start` of each; an item that cannot be started is skipped.
    function startBatch(StartItem[] calldata items) external;

    /// @notice Operator or provider: gives a rental that has not started back to the renter.
    function cancel(Terms calldata t) external;

    /// @notice Anyone, once the operator can no longer start it: gives the rental back to the renter.
    function reclaim(Terms calldata t) external;

    /// @notice Stops the clock now. Renter or an agent: all is paid at once. Provider or an agent, and anyone
    /// `CLOSE_WINDOW` after the deposit is used up: the last `holdback` seconds, as far as they are unreleased, are held
    /// for `DISPUTE_WINDOW`, in which the renter may dispute them.
    function stop(Terms calldata t) external;

    /// @notice Renter: stops the clock now and disputes the last `secs` unreleased seconds, 1 to `holdback`.
    function contest(Terms calldata t, uint32 secs) external;

    /// @notice Operator: closes at `stoppedAt`, within the last `CLOSE_WINDOW`. `creditSecs` of outage are taken off the
    /// seconds that the clock bills, as far as they are unreleased, and held for `DISPUTE_WINDOW`, in which the provider may
    /// dispute them; the last `holdback` billed seconds are held too, which the renter may dispute. A side that signed
    /// `End(bytes32 id,uint40 stoppedAt,uint32 creditSecs)`, itself or by its agent, has nothing to dispute: no second is
    /// held for it.
    function close(Terms calldata t, uint40 stoppedAt, uint32 creditSecs, EndSignatures calldata signatures) external;

    /// @notice `close` of each; an item that cannot be closed is skipped.
    /// @param signatures None at all, or one pair for each item.
    function closeBatch(CloseItem[] calldata items, EndSignatures[] calldata signatures) external;

    /// @notice Anyone, with what both sides signed as
    /// `AgreedEnd(bytes32 id,uint32 billedSecs,uint40 validUntil)`, until `validUntil`: closes an active or contested rental
    /// with that many seconds billed, from what is settled (at least 1) up to what the clock says. Whoever signs first
    /// should sign for a short time: the other side chooses when to send it.
    function closeAgreed(
        Terms calldata t,
        uint32 billedSecs,
        uint40 validUntil,
        EndSignatures calldata signatures
    )
        external;

    /// @notice Anyone: pays the provider and the treasury what is older than the holdback.
    function release(Terms calldata t) external;

    /// @notice `release` of each; an item with nothing to release is skipped.
    function releaseBatch(Terms[] calldata items) external;

    /// @notice Renter or provider or an agent, in the window: asks the arbiter for the held seconds that go to the other side by
    /// default. The arbiter has `ARBITRATION` from the end of the window.
    function dispute(Terms calldata t) external;

    /// @notice Renter or provider or an agent, against itself: gives all held seconds to the other side at once.
    function concede(Terms calldata t) external;

    /// @notice Arbiter, in time: `secsToRenter` of the held seconds go to the renter, the others to the provider. What is
    /// not disputed stays where it goes by default; while the window is open both parts must be disputed, or empty.
    function resolve(Terms calldata t, uint32 secsToRenter) external;

    /// @notice Anyone, after the deadline: undisputed seconds go where they go by default, disputed ones to the provider.
    function finalize(Terms calldata t) external;

    /// @notice `finalize` of each; an item that cannot be finalised is skipped.
    function finalizeBatch(Terms[] calldata items) external;

    /// @notice Sends of the caller's balance to any address.
    /// @param amount Base units; 0 sends everything.
    function withdraw(address token, address to, uint96 amount) external;

    /// @notice Anyone, with `account`'s signature over
    /// `Withdrawal(address account,address token,address to,uint96 amount,uint256 nonce,uint256 deadline)`, the nonce
    /// being `nonces(account)`: `withdraw` for it.
    function withdrawBySig(
        address account,
        address token,
        address to,
        uint96 amount,
        uint256 deadline,
        bytes calldata signature
    )
        external;

    /// @notice Lets the key `agent` stop, contest, dispute and concede for the caller and sign ends, until `expiresAt`; never
    /// take money. The most that it can cost: a renter its claim, a provider what is held and, together with an operator,
    /// by a signed credit, what is unreleased. Replaces the agent before; 0 and 0 for none.
    function setAgent(address agent, uint40 expiresAt) external;

    /// @notice Owner: begins the delay of a change. Anew for one scheduled already.
    function scheduleChange(Change change, address subject) external;

    /// @notice Owner: makes a change, `CHANGE_DELAY` to `CHANGE_DELAY + CHANGE_GRACE` after it was scheduled.
    /// `ListToken`: new deposits in the token are taken. List only tokens that move if and only if they answer `true` or
    /// nothing: one that moves and answers otherwise would be paid twice. `SetTreasury`: where fees earned from now on are
    /// credited; what was credited stays with the former treasury. `SetArbiter`, `SetGuardian`: 0 for nobody.
    function executeChange(Change change, address subject) external;

    /// @notice Owner: drops a scheduled change.
    function cancelChange(Change change, address subject) external;

    /// @notice Guardian or owner, at once. What the operator alone may do can then be done by nobody, or another one.
    function removeOperator(address operator) external;

    /// @notice Guardian or owner, at once: nobody decides disputes any more, all goes by the clock.
    function removeArbiter() external;

    /// @notice Guardian or owner: stops money in `token` coming in; nothing else.
    function pauseToken(address token) external;

    /// @notice Owner: ends a pause.
    function unpauseToken(address token) external;

    /// @notice The rental as stored.
    function rental(bytes32 id) external view returns (Rental memory);

    /// @notice The rental's id: the EIP-712 digest of the terms on this contract and the chain it was deployed on.
    function hashTerms(Terms calldata t) external view returns (bytes32);

    /// @notice What `account` may withdraw of `token`, in base units.
    function balanceOf(address account, address token) external view returns (uint256);

    /// @notice The nonce of `account`'s next `withdrawBySig`.
    function nonces(address account) external view returns (uint256);

    /// @notice Who acts for `account`, and the last Unix second of that right.
    function agentOf(address account) external view returns (address agent, uint40 expiresAt);

    /// @notice The EIP-712 domain separator, of the chain id as it is now.
    function domainSeparator() external view returns (bytes32);

    function isOperator(address account) external view returns (bool);
    function tokenState(address token) external view returns (bool listed, bool paused);
    function treasury() external view returns (address);
    function arbiter() external view returns (address);
    function guardian() external view returns (address);

    /// @notice First Unix second at which a scheduled change can be made; 0 if it is not scheduled.
    function readyAt(Change change, address subject) external view returns (uint40);
}
