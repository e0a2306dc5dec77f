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
/// @param holdback Seconds at the running end of the rental that `release` leaves unpaid.
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

/// @notice Where a rental stands. `Contested` is reserved for disputes and not reached yet.
enum Status {
    None,
    Locked,
    Active,
    Contested,
    Closed
}

/// @notice Why a rental is closed.
enum Outcome {
    Cancelled,
    Reclaimed,
    StoppedByRenter,
    StoppedByProvider,
    Exhausted,
    ClosedByOperator
}

/// @notice A rental as stored.
/// @param status `None` for an id never locked, and for one closed after its `startBy`.
/// @param deposit Base units locked so far, releases not subtracted; 0 once closed.
/// @param since Unix second of the lock while `Locked`, of the start while `Active`.
/// @param settledSecs Seconds already paid by `release`.
/// @param contestedSecs Reserved for disputes: 0.
/// @param deadline Reserved for disputes: 0.
struct Rental {
    Status status;
    uint96 deposit;
    uint40 since;
    uint32 settledSecs;
    uint32 contestedSecs;
    uint40 deadline;
}

/// @notice What a rental comes to if it is stopped in this very block; cumulative since the start, so that what
/// `release` has paid is included. `net + fee + refund` is the deposit.
/// @param elapsedSecs Seconds that would be billed; 0 until started.
/// @param gross `net + fee`.
/// @param net The provider's.
/// @param fee The treasury's.
/// @param refund The renter's.
/// @param fundedUntil Unix second at which the deposit is used up; 0 until started.
struct Preview {
    uint32 elapsedSecs;
    uint96 gross;
    uint96 net;
    uint96 fee;
    uint96 refund;
    uint40 fundedUntil;
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
/// Nobody's money can be moved by owner, guardian or operator other than along the rental's own terms, but for the
/// operator's outage credit, which only ever gives to the renter. Pausing a token stops `lock` and `topUp` only.
interface IEscrow {
    /// @notice A deposit is in and the clock of the terms is set.
    event Locked(bytes32 indexed id, address indexed renter, address indexed provider, Terms terms, uint96 deposit);
    /// @notice `deposit` is the new total.
    event ToppedUp(bytes32 indexed id, address from, uint96 amount, uint96 deposit);
    event Started(bytes32 indexed id, uint40 startedAt);
    /// @notice `net` and `fee` are what this call paid; `settledSecs` is the new total.
    event Released(bytes32 indexed id, uint32 settledSecs, uint96 net, uint96 fee);
    /// @notice `billedSecs` is the total; `net`, `fee` and `refund` are what this call paid, earlier releases not
    /// included. `refundPushed` is false only where the refund was credited because the renter did not take it.
    event Closed(
        bytes32 indexed id, Outcome outcome, uint32 billedSecs, uint96 net, uint96 fee, uint96 refund, bool refundPushed
    );
    /// @notice A refund that the renter did not take waits for `withdraw`.
    event Credited(address indexed account, address indexed token, uint96 amount);
    event Withdrawn(address indexed account, address indexed token, address to, uint96 amount);
    /// @notice A batch item was left as it is; `reason` is the selector of the error that the single call reverts with.
    event Skipped(bytes32 indexed id, bytes4 reason);

    event OperatorSet(address indexed operator, bool allowed);
    event TreasurySet(address indexed treasury);
    event GuardianSet(address indexed guardian);
    event TokenListed(address indexed token, bool listed);
    event TokenPaused(address indexed token, bool paused);

    /// @notice Only the renter of the terms may lock them.
    error NotRenter();
    /// @notice Only an operator may do this.
    error NotOperator();
    /// @notice Only an operator or the rental's provider may do this.
    error NotOperatorOrProvider();
    /// @notice Until the deposit is used up only the renter or the provider may stop.
    error NotRenterOrProvider();
    /// @notice Only the guardian or the owner may do this.
    error NotGuardianOrOwner();
    /// @notice The escrow cannot be left without an owner.
    error OwnerRequired();

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
    /// @notice More than `MAX_BATCH` items.
    error BatchTooLarge();

    /// @notice The balance is smaller than the amount asked, or empty.
    error InsufficientBalance();
    /// @notice The recipient did not take the native coin, or the recipient is the escrow.
    error WithdrawFailed();

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

    /// @notice Adds to a deposit; anyone may, and pays from the own account. While locked: until the start window is
    /// over; while active: until the funded time is over.
    function topUp(Terms calldata t, uint96 amount) external payable;

    /// @notice Operator: starts the clock at `startedAt`, within [lockedAt, startBy] and the last `START_WINDOW`.
    function start(Terms calldata t, uint40 startedAt) external;

    /// @notice `start` of each; an item that cannot be started is skipped.
    function startBatch(StartItem[] calldata items) external;

    /// @notice Renter or provider: closes now. Anyone: closes once the deposit is used up. All elapsed seconds are
    /// billed: an outage is credited by `close` alone, so whoever stops first forgoes it (disputes will change that).
    function stop(Terms calldata t) external;

    /// @notice Operator: closes at `stoppedAt`, within the last `CLOSE_WINDOW`, less `creditSecs` of outage. Billed are
    /// `stoppedAt - startedAt - creditSecs` seconds, at least 1, never fewer than were released. Until there are
    /// disputes the provider trusts the operator for `creditSecs`: it can give any unreleased second to the renter.
    function close(Terms calldata t, uint40 stoppedAt, uint32 creditSecs) external;

    /// @notice `close` of each; an item that cannot be closed is skipped.
    function closeBatch(CloseItem[] calldata items) external;

    /// @notice Operator or provider: gives a rental that has not started back to the renter.
    function cancel(Terms calldata t) external;

    /// @notice Anyone, once the operator can no longer start it: gives the rental back to the renter.
    function reclaim(Terms calldata t) external;

    /// @notice Anyone: pays the provider and the treasury what is older than the holdback.
    function release(Terms calldata t) external;

    /// @notice `release` of each; an item with nothing to release is skipped.
    function releaseBatch(Terms[] calldata items) external;

    /// @notice Sends of the caller's balance to any address.
    /// @param amount Base units; 0 sends everything.
    function withdraw(address token, address to, uint96 amount) external;

    /// @notice Owner: `allowed` true or false. Guardian: false.
    function setOperator(address operator, bool allowed) external;

    /// @notice Owner: where fees earned from now on are credited; what was credited stays with the former treasury.
    function setTreasury(address newTreasury) external;

    /// @notice Owner: who may pause tokens and drop operators; 0 for nobody.
    function setGuardian(address newGuardian) external;

    /// @notice Owner: whether new deposits in `token` are taken. List only tokens that move if and only if they answer
    /// `true` or nothing: one that moves and answers otherwise would be paid twice.
    function listToken(address token, bool listed) external;

    /// @notice Guardian or owner: stops `lock` and `topUp` in `token`; nothing else.
    function pauseToken(address token) external;

    /// @notice Owner: ends a pause.
    function unpauseToken(address token) external;

    /// @notice The rental as stored.
    function rental(bytes32 id) external view returns (Rental memory);

    /// @notice What the rental comes to if stopped now; all 0 where it is not open.
    function preview(Terms calldata t) external view returns (Preview memory);

    /// @notice The rental's id: the EIP-712 digest of the terms on this chain and this contract.
    function hashTerms(Terms calldata t) external view returns (bytes32);

    /// @notice What `account` may withdraw of `token`, in base units.
    function balanceOf(address account, address token) external view returns (uint256);

    /// @notice The EIP-712 domain separator, of the chain id as it is now.
    function domainSeparator() external view returns (bytes32);

    function isOperator(address account) external view returns (bool);
    function tokenState(address token) external view returns (bool listed, bool paused);
    function treasury() external view returns (address);
    function guardian() external view returns (address);
}
