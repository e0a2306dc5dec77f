// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, Outcome, Status, Terms} from "./IEscrow.sol";
import {Rentals} from "./Rentals.sol";
import {Slot, SlotFields} from "./Slot.sol";
import {Split} from "./Split.sol";

/// @title How rentals end, with and without disputes
abstract contract Ending is Rentals {
    /// @notice What an end comes to before anybody disputes.
    /// @param clockSecs Seconds that the chain's clock bills.
    /// @param billedSecs Those less the operator's credit.
    /// @param claimSecs The last of the billed seconds, which the renter may dispute.
    /// @param isContested The renter disputes them right away.
    struct End {
        Outcome outcome;
        uint32 clockSecs;
        uint32 billedSecs;
        uint32 claimSecs;
        bool isContested;
    }

    /// @notice Seconds in which the losing side may dispute.
    uint40 public constant DISPUTE_WINDOW = 24 hours;
    /// @notice Seconds that the arbiter has after that.
    uint40 public constant ARBITRATION = 14 days;

    uint256 private constant RENTER_SIGNED = 1;
    uint256 private constant PROVIDER_SIGNED = 2;
    uint256 private constant BADLY_SIGNED = 4;
    bytes32 private constant END_TYPEHASH = keccak256("End(bytes32 id,uint40 stoppedAt,uint32 creditSecs)");
    bytes32 private constant AGREED_END_TYPEHASH =
        keccak256("AgreedEnd(bytes32 id,uint32 billedSecs,uint40 validUntil)");

    /// @inheritdoc IEscrow
    function stop(Terms calldata t) external override nonReentrant {
        (bytes32 id, Slot slot) = _active(t);
        uint256 fundedUntil = _fundedUntil(slot, t);
        address side = _side(t);
        // Until then the operator can still credit an outage.
        if (side == address(0) && block.timestamp <= fundedUntil + CLOSE_WINDOW) revert NotRenterOrProvider();
        bool isRenter = side == t.renter;
        Outcome outcome = isRenter ? Outcome.StoppedByRenter : Outcome.StoppedByProvider;
        if (block.timestamp >= fundedUntil) outcome = Outcome.Exhausted;
        _stop(id, t, slot, outcome, isRenter ? 0 : t.holdback, false);
    }

    /// @inheritdoc IEscrow
    function contest(Terms calldata t, uint32 secs) external override nonReentrant {
        (bytes32 id, Slot slot) = _active(t);
        if (_side(t) != t.renter) revert NotRenter();
        if (secs == 0 || secs > t.holdback) revert ContestOutOfRange();
        _stop(id, t, slot, Outcome.StoppedByRenter, secs, true);
    }

    /// @inheritdoc IEscrow
    function close(
        Terms calldata t,
        uint40 stoppedAt,
        uint32 creditSecs,
        EndSignatures calldata signatures
    )
        external
        override
        onlyOperator
        nonReentrant
    {
        bytes32 id = _idOf(t);
        Fees memory fees;
        uint256 signed = _signersOf(id, t, stoppedAt, creditSecs, signatures);
        _revertUnlessDone(_close(id, t, stoppedAt, creditSecs, signed, fees));
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function closeBatch(
        CloseItem[] calldata items,
        EndSignatures[] calldata signatures
    )
        external
        override
        onlyOperator
        nonReentrant
    {
        _requireBatch(items.length, signatures.length == 0 ? MAX_BATCH : MAX_SIGNED_BATCH);
        if (signatures.length != 0 && signatures.length != items.length) revert SignatureCountMismatch();
        Fees memory fees;
        for (uint256 i = 0; i < items.length; ++i) {
            CloseItem calldata item = items[i];
            bytes32 id = _idOf(item.terms);
            uint256 signed = 0;
            if (signatures.length != 0) {
                signed = _signersOf(id, item.terms, item.stoppedAt, item.creditSecs, signatures[i]);
            }
            _skipUnlessDone(id, _close(id, item.terms, item.stoppedAt, item.creditSecs, signed, fees));
        }
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function closeAgreed(
        Terms calldata t,
        uint32 billedSecs,
        uint40 validUntil,
        EndSignatures calldata signatures
    )
        external
        override
        nonReentrant
    {
        if (block.timestamp > validUntil) revert SignatureExpired();
        bytes32 id = _idOf(t);
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(AGREED_END_TYPEHASH, id, billedSecs, validUntil)));
        // No agent: it could sign everything away.
        if (!_consents(t.renter, digest, signatures.renter) || !_consents(t.provider, digest, signatures.provider)) {
            revert BadSignature();
        }
        Slot slot = _rentals[id];
        Fees memory fees;
        if (slot.isIn(Status.Contested)) {
            uint32 settled = slot.settledSecs();
            uint32 held = slot.contestedSecs();
            if (billedSecs < settled || billedSecs - settled > held) revert AgreedSecsOutOfRange();
            _finish(id, t, slot, held - (billedSecs - settled), Outcome.Agreed, fees);
        } else {
            if (!slot.isIn(Status.Active)) revert NotActive();
            if (billedSecs == 0 || billedSecs < slot.settledSecs() || billedSecs > _clockSecs(t, slot, block.timestamp))
            {
                revert AgreedSecsOutOfRange();
            }
            _settle(id, t, slot, billedSecs, Outcome.Agreed, fees);
        }
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function dispute(Terms calldata t) external override nonReentrant {
        (bytes32 id, Slot slot) = _contested(t);
        if (!_isDisputable(slot)) revert DisputeWindowOver();
        address by = _side(t);
        uint256 flag;
        uint32 secs;
        if (by == address(0)) revert NotRenterOrProvider();
        if (by == t.renter) (flag, secs) = (SlotFields.RENTER_DISPUTES, slot.claimSecs());
        else (flag, secs) = (SlotFields.PROVIDER_DISPUTES, slot.creditSecs());
        if (secs == 0 || slot.isDisputedBy(flag)) revert NothingToDispute();
        uint40 deadline = slot.deadline();
        if (!slot.isDisputed()) deadline += ARBITRATION;
        _rentals[id] = slot.disputed(flag, deadline);
        emit Disputed(id, by, deadline);
    }

    /// @inheritdoc IEscrow
    function concede(Terms calldata t) external override nonReentrant {
        (bytes32 id, Slot slot) = _contested(t);
        address by = _side(t);
        if (by == address(0)) revert NotRenterOrProvider();
        Fees memory fees;
        _finish(id, t, slot, by == t.provider ? slot.contestedSecs() : 0, Outcome.Conceded, fees);
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function resolve(Terms calldata t, uint32 secsToRenter) external override nonReentrant {
        if (msg.sender != arbiter) revert NotArbiter();
        (bytes32 id, Slot slot) = _contested(t);
        _revertUnlessDone(_refusalToResolve(slot));
        uint32 credit = slot.creditSecs();
        uint32 least = slot.isDisputedBy(SlotFields.PROVIDER_DISPUTES) ? 0 : credit;
        uint32 most = slot.isDisputedBy(SlotFields.RENTER_DISPUTES) ? slot.contestedSecs() : credit;
        if (secsToRenter < least || secsToRenter > most) revert ResolutionOutOfRange();
        Fees memory fees;
        _finish(id, t, slot, secsToRenter, Outcome.Resolved, fees);
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function finalize(Terms calldata t) external override nonReentrant {
        Fees memory fees;
        _revertUnlessDone(_finalize(_idOf(t), t, fees));
        _bankFees(fees);
    }

    /// @inheritdoc IEscrow
    function finalizeBatch(Terms[] calldata items) external override nonReentrant {
        _requireBatch(items.length, MAX_BATCH);
        Fees memory fees;
        for (uint256 i = 0; i < items.length; ++i) {
            bytes32 id = _idOf(items[i]);
            _skipUnlessDone(id, _finalize(id, items[i], fees));
        }
        _bankFees(fees);
    }

    /// @dev What goes to the renter of the held seconds if nobody says anything more.
    function _defaultToRenter(Slot slot) internal pure returns (uint32) {
        return slot.isDisputedBy(SlotFields.PROVIDER_DISPUTES) ? 0 : slot.creditSecs();
    }

    /// @dev Whether the window is open. Once somebody disputes, the deadline is the arbiter's.
    function _isDisputable(Slot slot) internal view returns (bool) {
        return block.timestamp <= (slot.isDisputed() ? slot.deadline() - ARBITRATION : slot.deadline());
    }

    /// @dev Why the arbiter cannot decide now; 0 if it can. It must not cut the other side's window short.
    function _refusalToResolve(Slot slot) internal view returns (bytes4) {
        if (!slot.isDisputed()) return NotDisputed.selector;
        if (block.timestamp > slot.deadline()) return ArbitrationOver.selector;
        bool isClaimOpen = slot.claimSecs() != 0 && !slot.isDisputedBy(SlotFields.RENTER_DISPUTES);
        bool isCreditOpen = slot.creditSecs() != 0 && !slot.isDisputedBy(SlotFields.PROVIDER_DISPUTES);
        return (isClaimOpen || isCreditOpen) && _isDisputable(slot) ? DisputeWindowOpen.selector : DONE;
    }

    function _clockSecs(Terms calldata t, Slot slot, uint256 until) internal pure returns (uint32) {
        return Split.billedSecs(slot.deposit(), t.pricePerHour, slot.settledSecs(), _elapsed(slot, until));
    }

    /// @dev Ends an active rental now, the last `holdback` seconds to be held.
    function _stop(
        bytes32 id,
        Terms calldata t,
        Slot slot,
        Outcome outcome,
        uint32 holdback,
        bool isContested
    )
        private
    {
        uint32 clockSecs = _clockSecs(t, slot, block.timestamp);
        uint32 claimSecs = Split.claimSecs(slot.settledSecs(), clockSecs, holdback);
        Fees memory fees;
        if (isContested && claimSecs == 0) revert ContestOutOfRange();
        if (claimSecs == 0) _settle(id, t, slot, clockSecs, outcome, fees);
        else _hold(id, t, slot, End(outcome, clockSecs, clockSecs, claimSecs, isContested), fees);
        _bankFees(fees);
    }

    function _close(
        bytes32 id,
        Terms calldata t,
        uint40 stoppedAt,
        uint32 creditSecs,
        uint256 signed,
        Fees memory fees
    )
        private
        returns (bytes4)
    {
        Slot slot = _rentals[id];
        if (!slot.isIn(Status.Active)) return NotActive.selector;
        if (signed == BADLY_SIGNED) return BadSignature.selector;
        if (stoppedAt < slot.since() || !_isRecent(stoppedAt, CLOSE_WINDOW)) return StopOutOfWindow.selector;
        uint32 clockSecs = _clockSecs(t, slot, stoppedAt);
        uint32 billed = clockSecs;
        if (creditSecs != 0) {
            billed = Split.creditedSecs(slot.settledSecs(), clockSecs, creditSecs);
            if (signed & PROVIDER_SIGNED != 0) clockSecs = billed;
        }
        uint32 claim;
        if (signed & RENTER_SIGNED == 0) {
            uint32 holdback = t.holdback;
            if (holdback != 0) claim = Split.claimSecs(slot.settledSecs(), billed, holdback);
        }
        if (claim == 0 && billed == clockSecs) _settle(id, t, slot, billed, Outcome.ClosedByOperator, fees);
        else _hold(id, t, slot, End(Outcome.ClosedByOperator, clockSecs, billed, claim, false), fees);
        return DONE;
    }

    function _finalize(bytes32 id, Terms calldata t, Fees memory fees) private returns (bytes4) {
        Slot slot = _rentals[id];
        if (!slot.isIn(Status.Contested)) return NotContested.selector;
        if (block.timestamp <= slot.deadline()) return FinalizeTooEarly.selector;
        Outcome outcome = slot.isDisputed() ? Outcome.Defaulted : Outcome.Undisputed;
        _finish(id, t, slot, _defaultToRenter(slot), outcome, fees);
        return DONE;
    }

    /// @dev Ends an active rental with `billed` seconds, nothing to be held.
    function _settle(
        bytes32 id,
        Terms calldata t,
        Slot slot,
        uint32 billed,
        Outcome outcome,
        Fees memory fees
    )
        private
    {
        Split.Shares memory s = Split.shares(slot.deposit(), t.pricePerHour, t.feeBps, slot.settledSecs(), billed);
        _clear(id, t);
        _payLast(id, t, outcome, billed, s, fees);
    }

    /// @dev Ends an active rental: pays all but the held seconds.
    function _hold(bytes32 id, Terms calldata t, Slot slot, End memory end, Fees memory fees) private {
        uint40 deadline = _now() + (end.isContested ? ARBITRATION : DISPUTE_WINDOW);
        uint32 settled = end.billedSecs - end.claimSecs;
        Slot held = slot.contested(settled, end.claimSecs, end.clockSecs - end.billedSecs, deadline);
        if (end.isContested) held = held.disputed(SlotFields.RENTER_DISPUTES, deadline);
        _rentals[id] = held;
        Split.Shares memory s =
            Split.sharesBefore(slot.deposit(), t.pricePerHour, t.feeBps, slot.settledSecs(), settled, end.clockSecs);
        bool pushed = _pay(t, s, fees);
        emit Contested(
            id,
            end.outcome,
            settled,
            end.clockSecs - settled,
            end.claimSecs,
            deadline,
            end.isContested,
            s.net,
            s.fee,
            s.refund,
            pushed
        );
    }

    /// @dev Closes a contested rental: the last `toRenter` of the held seconds are the renter's.
    function _finish(
        bytes32 id,
        Terms calldata t,
        Slot slot,
        uint32 toRenter,
        Outcome outcome,
        Fees memory fees
    )
        private
    {
        uint32 settled = slot.settledSecs();
        uint32 clockSecs = settled + slot.contestedSecs();
        uint32 billed = clockSecs - toRenter;
        Split.Shares memory s = Split.sharesOfHeld(slot.deposit(), t.pricePerHour, t.feeBps, settled, billed, clockSecs);
        _clear(id, t);
        _payLast(id, t, outcome, billed, s, fees);
    }

    function _payLast(
        bytes32 id,
        Terms calldata t,
        Outcome outcome,
        uint32 billed,
        Split.Shares memory s,
        Fees memory fees
    )
        private
    {
        bool pushed = _pay(t, s, fees);
        emit Closed(id, outcome, billed, s.net, s.fee, s.refund, pushed);
    }

    function _pay(Terms calldata t, Split.Shares memory s, Fees memory fees) private returns (bool pushed) {
        address token = t.token;
        _credit(t.provider, token, s.net);
        _addFee(fees, token, s.fee);
        return _push(token, t.renter, s.refund);
    }

    function _active(Terms calldata t) private view returns (bytes32 id, Slot slot) {
        id = _idOf(t);
        slot = _rentals[id];
        if (!slot.isIn(Status.Active)) revert NotActive();
    }

    function _contested(Terms calldata t) private view returns (bytes32 id, Slot slot) {
        id = _idOf(t);
        slot = _rentals[id];
        if (!slot.isIn(Status.Contested)) revert NotContested();
    }

    /// @dev Who signed this end; a signature that is there must be good.
    function _signersOf(
        bytes32 id,
        Terms calldata t,
        uint40 stoppedAt,
        uint32 creditSecs,
        EndSignatures calldata signatures
    )
        private
        view
        returns (uint256 signed)
    {
        if (signatures.renter.length == 0 && signatures.provider.length == 0) return 0;
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(END_TYPEHASH, id, stoppedAt, creditSecs)));
        if (signatures.renter.length != 0) {
            if (!_isSignedFor(t.renter, digest, signatures.renter)) return BADLY_SIGNED;
            signed = RENTER_SIGNED;
        }
        if (signatures.provider.length != 0) {
            if (!_isSignedFor(t.provider, digest, signatures.provider)) return BADLY_SIGNED;
            signed |= PROVIDER_SIGNED;
        }
    }
}
