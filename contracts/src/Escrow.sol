// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ending} from "./Ending.sol";
import {Funding} from "./Funding.sol";
import {Config, Governed} from "./Governed.sol";
import {IEscrow, Outcome, Rental, StartItem, Status, Terms} from "./IEscrow.sol";
import {Slot} from "./Slot.sol";
import {Split} from "./Split.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title Weir's rental escrow; the rules are told in `IEscrow`
/// @dev Money comes in through `Funding` and `Vault`, rentals end in `Ending`; here is what lies between.
contract Escrow is Funding, Ending {
    constructor(Config memory config) Governed(config) EIP712("Weir Escrow", "1") {}

    /// @inheritdoc IEscrow
    function start(Terms calldata t, uint40 startedAt) external override onlyOperator nonReentrant {
        _revertUnlessDone(_start(_idOf(t), t, startedAt));
    }

    /// @inheritdoc IEscrow
    function startBatch(StartItem[] calldata items) external override onlyOperator nonReentrant {
        _requireBatch(items.length, MAX_BATCH);
        for (uint256 i = 0; i < items.length; ++i) {
            StartItem calldata item = items[i];
            bytes32 id = _idOf(item.terms);
            _skipUnlessDone(id, _start(id, item.terms, item.startedAt));
        }
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
        _requireBatch(items.length, MAX_BATCH);
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

    function _start(bytes32 id, Terms calldata t, uint40 startedAt) private returns (bytes4) {
        Slot slot = _rentals[id];
        if (!slot.isIn(Status.Locked)) return NotLocked.selector;
        if (startedAt < slot.since() || startedAt > t.startBy || !_isRecent(startedAt, START_WINDOW)) {
            return StartOutOfWindow.selector;
        }
        _rentals[id] = slot.started(startedAt);
        emit Started(id, startedAt);
        return DONE;
    }

    function _release(bytes32 id, Terms calldata t, Fees memory fees) private returns (bytes4) {
        Slot slot = _rentals[id];
        if (!slot.isIn(Status.Active)) return NotActive.selector;
        uint96 deposit = slot.deposit();
        uint96 price = t.pricePerHour;
        uint32 settled = slot.settledSecs();
        uint32 secs = Split.releasableSecs(deposit, price, t.holdback, _elapsed(slot, block.timestamp));
        if (secs <= settled) return NothingToRelease.selector;
        _rentals[id] = slot.withSettled(secs);
        Split.Shares memory s = Split.shares(deposit, price, t.feeBps, settled, secs);
        address token = t.token;
        _credit(t.provider, token, s.net);
        _addFee(fees, token, s.fee);
        emit Released(id, secs, s.net, s.fee);
        return DONE;
    }

    /// @dev Ends a rental that has not started.
    function _giveBack(Terms calldata t, Outcome outcome) private {
        bytes32 id = _idOf(t);
        Slot slot = _rentals[id];
        if (!slot.isIn(Status.Locked)) revert NotLocked();
        uint96 deposit = slot.deposit();
        _clear(id, t);
        bool pushed = _push(t.token, t.renter, deposit);
        emit Closed(id, outcome, 0, 0, 0, deposit, pushed);
    }
}
