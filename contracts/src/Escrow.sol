// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Governed} from "./Governed.sol";
import {CloseItem, IEscrow, Outcome, Preview, Rental, StartItem, Status, Terms} from "./IEscrow.sol";
import {Slot, SlotFields} from "./Slot.sol";
import {Split} from "./Split.sol";
import {Vault} from "./Vault.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title Weir's rental escrow; the rules are told in `IEscrow`
/// @dev Every transition is a private function that answers 0, or the selector of the error that forbids it: the single
/// call reverts with that selector, the batch skips the item with it. So a batch is the sequence of its single calls.
contract Escrow is Vault, EIP712 {
    /// @notice Highest fee, in 1/10,000 of the gross.
    uint16 public constant MAX_FEE_BPS = 1500;
    /// @notice How far back a start may be dated.
    uint40 public constant START_WINDOW = 10 minutes;
    /// @notice How far back a stop may be dated.
    uint40 public constant CLOSE_WINDOW = 10 minutes;
    /// @notice How far ahead of the lock `startBy` may lie.
    uint40 public constant MAX_START_BY = 24 hours;
    /// @notice Most items of a batch; so many closings stay below Polygon's 16,777,216 gas of a transaction, even if
    /// every renter burns all the gas that a refund comes with.
    uint256 public constant MAX_BATCH = 150;

    bytes4 private constant DONE = 0;
    bytes32 private constant TERMS_TYPEHASH = keccak256(
        "Terms(address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash)"
    );

    mapping(bytes32 id => Slot) private _rentals;

    constructor(
        address owner_,
        address operator_,
        address treasury_,
        address guardian_
    )
        Governed(owner_, operator_, treasury_, guardian_)
        EIP712("Weir Escrow", "1")
    {}

    /// @inheritdoc IEscrow
    function lock(Terms calldata t, uint96 deposit) external payable override nonReentrant returns (bytes32 id) {
        return _lock(t, deposit);
    }

    /// @inheritdoc IEscrow
    function lockWithPermit(
        Terms calldata t,
        uint96 deposit,
        uint256 permitDeadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    )
        external
        override
        nonReentrant
        returns (bytes32 id)
    {
        // Before the permit is tried, so that no unlisted address is ever called.
        _requireOpen(t.token);
        if (t.token != address(0)) {
            try IERC20Permit(t.token).permit(msg.sender, address(this), deposit, permitDeadline, v, r, s) {} catch {}
        }
        return _lock(t, deposit);
    }

    /// @inheritdoc IEscrow
    function topUp(Terms calldata t, uint96 amount) external payable override nonReentrant {
        bytes32 id = _idOf(t);
        Slot slot = _rentals[id];
        if (amount == 0) revert ZeroAmount();
        _requireOpen(t.token);
        uint96 deposit = slot.deposit();
        if (slot.status() == Status.Locked) {
            if (block.timestamp > _startWindowEnd(t)) revert StartWindowOver();
        } else {
            if (slot.status() != Status.Active) revert NotActive();
            if (block.timestamp >= _fundedUntil(slot, t)) revert FundedTimeOver();
        }
        if (amount > type(uint96).max - deposit) revert DepositOverflow();
        deposit += amount;
        _rentals[id] = slot.withDeposit(deposit);
        emit ToppedUp(id, msg.sender, amount, deposit);
        _pull(t.token, amount);
    }

    /// @inheritdoc IEscrow
    function start(Terms calldata t, uint40 startedAt) external override onlyOperator nonReentrant {
        _revertUnlessDone(_start(_idOf(t), t, startedAt));
    }

    /// @inheritdoc IEscrow
    function startBatch(StartItem[] calldata items) external override onlyOperator nonReentrant {
        if (items.length > MAX_BATCH) revert BatchTooLarge();
        for (uint256 i = 0; i < items.length; ++i) {
            StartItem calldata item = items[i];
            bytes32 id = _idOf(item.terms);
            _skipUnlessDone(id, _start(id, item.terms, item.startedAt));
        }
    }

    /// @inheritdoc IEscrow
    function stop(Terms calldata t) external override nonReentrant {
        bytes32 id = _idOf(t);
        Slot slot = _rentals[id];
        if (slot.status() != Status.Active) revert NotActive();
        Outcome outcome;
        if (block.timestamp >= _fundedUntil(slot, t)) outcome = Outcome.Exhausted;
        else if (msg.sender == t.renter) outcome = Outcome.StoppedByRenter;
        else if (msg.sender == t.provider) outcome = Outcome.StoppedByProvider;
        else revert NotRenterOrProvider();

        Fees memory fees;
        _settle(id, t, slot, block.timestamp - slot.since(), outcome, fees);
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function close(Terms calldata t, uint40 stoppedAt, uint32 creditSecs) external override onlyOperator nonReentrant {
        Fees memory fees;
        _revertUnlessDone(_close(_idOf(t), t, stoppedAt, creditSecs, fees));
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function closeBatch(CloseItem[] calldata items) external override onlyOperator nonReentrant {
        if (items.length > MAX_BATCH) revert BatchTooLarge();
        Fees memory fees;
        for (uint256 i = 0; i < items.length; ++i) {
            CloseItem calldata item = items[i];
            bytes32 id = _idOf(item.terms);
            _skipUnlessDone(id, _close(id, item.terms, item.stoppedAt, item.creditSecs, fees));
        }
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function cancel(Terms calldata t) external override nonReentrant {
        if (msg.sender != t.provider && !isOperator[msg.sender]) revert NotOperatorOrProvider();
        _giveBack(t, Outcome.Cancelled);
    }

    /// @inheritdoc IEscrow
    function reclaim(Terms calldata t) external override nonReentrant {
        if (block.timestamp <= _startWindowEnd(t)) revert ReclaimTooEarly();
        _giveBack(t, Outcome.Reclaimed);
    }

    /// @inheritdoc IEscrow
    function release(Terms calldata t) external override nonReentrant {
        Fees memory fees;
        _revertUnlessDone(_release(_idOf(t), t, fees));
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function releaseBatch(Terms[] calldata items) external override nonReentrant {
        if (items.length > MAX_BATCH) revert BatchTooLarge();
        Fees memory fees;
        for (uint256 i = 0; i < items.length; ++i) {
            bytes32 id = _idOf(items[i]);
            _skipUnlessDone(id, _release(id, items[i], fees));
        }
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function rental(bytes32 id) external view override nonReentrantView returns (Rental memory) {
        return _rentals[id].unpack();
    }

    /// @inheritdoc IEscrow
    function preview(Terms calldata t) external view override nonReentrantView returns (Preview memory p) {
        Slot slot = _rentals[_idOf(t)];
        p.refund = slot.deposit();
        if (slot.status() != Status.Active) return p;
        p.elapsedSecs = Split.billedSecs(p.refund, t.pricePerHour, slot.settledSecs(), block.timestamp - slot.since());
        p.fundedUntil = _fundedUntil(slot, t);
        Split.Shares memory s = Split.shares(p.refund, t.pricePerHour, t.feeBps, 0, p.elapsedSecs);
        p.gross = s.net + s.fee;
        p.net = s.net;
        p.fee = s.fee;
        p.refund = s.refund;
    }

    /// @inheritdoc IEscrow
    function hashTerms(Terms calldata t) external view override returns (bytes32) {
        return _idOf(t);
    }

    /// @inheritdoc IEscrow
    function domainSeparator() external view override returns (bytes32) {
        return _domainSeparatorV4();
    }

    function _lock(Terms calldata t, uint96 deposit) private returns (bytes32 id) {
        if (msg.sender != t.renter) revert NotRenter();
        if (t.provider == address(0)) revert ZeroAddress();
        if (t.provider == t.renter) revert SelfRental();
        if (t.provider == address(this)) revert PayeeIsEscrow();
        if (t.pricePerHour == 0) revert ZeroPrice();
        if (t.feeBps > MAX_FEE_BPS) revert FeeTooHigh();
        if (t.startBy < block.timestamp || t.startBy > block.timestamp + MAX_START_BY) revert StartByOutOfRange();
        if (deposit == 0) revert ZeroAmount();
        _requireOpen(t.token);
        id = _idOf(t);
        if (!_rentals[id].isNone()) revert IdUsed();
        _rentals[id] = SlotFields.locked(deposit, _now());
        emit Locked(id, t.renter, t.provider, t, deposit);
        _pull(t.token, deposit);
    }

    function _start(bytes32 id, Terms calldata t, uint40 startedAt) private returns (bytes4) {
        Slot slot = _rentals[id];
        if (slot.status() != Status.Locked) return NotLocked.selector;
        if (startedAt < slot.since() || startedAt > t.startBy || !_isRecent(startedAt, START_WINDOW)) {
            return StartOutOfWindow.selector;
        }
        _rentals[id] = slot.started(startedAt);
        emit Started(id, startedAt);
        return DONE;
    }

    function _close(
        bytes32 id,
        Terms calldata t,
        uint40 stoppedAt,
        uint32 creditSecs,
        Fees memory fees
    )
        private
        returns (bytes4)
    {
        Slot slot = _rentals[id];
        if (slot.status() != Status.Active) return NotActive.selector;
        uint256 startedAt = slot.since();
        if (stoppedAt < startedAt || !_isRecent(stoppedAt, CLOSE_WINDOW)) return StopOutOfWindow.selector;
        uint256 secs = stoppedAt - startedAt;
        secs = secs > creditSecs ? secs - creditSecs : 0;
        _settle(id, t, slot, secs, Outcome.ClosedByOperator, fees);
        return DONE;
    }

    function _release(bytes32 id, Terms calldata t, Fees memory fees) private returns (bytes4) {
        Slot slot = _rentals[id];
        if (slot.status() != Status.Active) return NotActive.selector;
        uint96 deposit = slot.deposit();
        uint32 settled = slot.settledSecs();
        uint32 secs = Split.releasableSecs(deposit, t.pricePerHour, t.holdback, block.timestamp - slot.since());
        if (secs <= settled) return NothingToRelease.selector;
        _rentals[id] = slot.withSettled(secs);
        Split.Shares memory s = Split.shares(deposit, t.pricePerHour, t.feeBps, settled, secs);
        _credit(t.provider, t.token, s.net);
        _addFee(fees, t.token, s.fee);
        emit Released(id, secs, s.net, s.fee);
        return DONE;
    }

    /// @dev Ends an active rental after `secs` billable seconds.
    function _settle(bytes32 id, Terms calldata t, Slot slot, uint256 secs, Outcome outcome, Fees memory fees) private {
        uint96 deposit = slot.deposit();
        uint32 settled = slot.settledSecs();
        uint32 billed = Split.billedSecs(deposit, t.pricePerHour, settled, secs);
        Split.Shares memory s = Split.shares(deposit, t.pricePerHour, t.feeBps, settled, billed);
        _clear(id, t);
        _credit(t.provider, t.token, s.net);
        _addFee(fees, t.token, s.fee);
        bool pushed = _push(t.token, t.renter, s.refund);
        emit Closed(id, outcome, billed, s.net, s.fee, s.refund, pushed);
    }

    /// @dev Ends a rental that has not started.
    function _giveBack(Terms calldata t, Outcome outcome) private {
        bytes32 id = _idOf(t);
        Slot slot = _rentals[id];
        if (slot.status() != Status.Locked) revert NotLocked();
        uint96 deposit = slot.deposit();
        _clear(id, t);
        bool pushed = _push(t.token, t.renter, deposit);
        emit Closed(id, outcome, 0, 0, 0, deposit, pushed);
    }

    /// @dev After `startBy` nobody can lock these terms again, so the slot is freed; before, a tombstone forbids it.
    function _clear(bytes32 id, Terms calldata t) private {
        _rentals[id] = block.timestamp > t.startBy ? Slot.wrap(0) : SlotFields.TOMBSTONE;
    }

    /// @dev Hashes the terms where they lie. No field need be checked here: `lock` reads all of them, so terms with
    /// dirty upper bits have no rental.
    function _idOf(Terms calldata t) private view returns (bytes32) {
        bytes32 typehash = TERMS_TYPEHASH;
        bytes32 structHash;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typehash)
            calldatacopy(add(free, 0x20), t, 0x100)
            structHash := keccak256(free, 0x120)
        }
        return _hashTypedDataV4(structHash);
    }

    /// @dev Last second in which the operator can start the rental; it can be reclaimed from the next on.
    function _startWindowEnd(Terms calldata t) private pure returns (uint256) {
        return uint256(t.startBy) + START_WINDOW;
    }

    function _fundedUntil(Slot slot, Terms calldata t) private pure returns (uint40) {
        return slot.since() + Split.fundedSecs(slot.deposit(), t.pricePerHour);
    }

    function _isRecent(uint256 moment, uint256 window) private view returns (bool) {
        return moment <= block.timestamp && block.timestamp - moment <= window;
    }

    function _now() private view returns (uint40) {
        // forge-lint: disable-next-line(unsafe-typecast) -- 40 bits last for 34,000 years
        return uint40(block.timestamp);
    }

    function _skipUnlessDone(bytes32 id, bytes4 refusal) private {
        if (refusal != DONE) emit Skipped(id, refusal);
    }

    function _revertUnlessDone(bytes4 refusal) private pure {
        if (refusal == DONE) return;
        assembly ("memory-safe") {
            mstore(0, refusal)
            revert(0, 4)
        }
    }
}
