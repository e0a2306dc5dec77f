// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, CloseItem, EndSignatures, IEscrow, Rental, StartItem, Terms} from "../../src/IEscrow.sol";
import {Office} from "./Office.sol";

/// @notice What must be refused, asked for on purpose, wherever the market stands.
abstract contract Refusals is Office {
    address internal constant STRANGER = address(0x57a46e6);

    /// @dev I7: these terms were locked, whatever became of them since.
    function lockAgain(uint128 seed) external counted("lockAgain") {
        bytes32 id = this.ids().length == 0 ? _newId(seed) : this.ids()[_mix(seed, "id") % this.ids().length];
        Terms memory t = TALLY.terms(id);
        uint96 value = t.token == NATIVE ? 1 : 0;
        bytes4 refusal = IEscrow.IdUsed.selector;
        if (_isPaused(t.token)) refusal = IEscrow.TokenIsPaused.selector;
        if (_now() > t.startBy) refusal = IEscrow.StartByOutOfRange.selector;
        _mustNot(t.renter, value, abi.encodeCall(ESCROW.lock, (t, 1)), refusal);
        _hold(7, ESCROW.hashTerms(t) == id, "terms have two ids");
        _useful();
    }

    function refuseEntry(uint128 seed) external counted("refuseEntry") {
        (Terms memory t, uint96 deposit) = _offer(seed, false);
        uint256 value = t.token == NATIVE ? deposit : 0;
        uint256 kind = _mix(seed, "kind of refusal") % 8;
        if (kind == 0) {
            _mustNot(RELAYER, value, abi.encodeCall(ESCROW.lock, (t, deposit)), IEscrow.NotRenter.selector);
        } else if (kind == 1) {
            _mustNot(t.renter, value + 1, abi.encodeCall(ESCROW.lock, (t, deposit)), IEscrow.WrongValue.selector);
        } else if (kind == 2) {
            t.provider = t.renter;
            _mustNot(t.renter, value, abi.encodeCall(ESCROW.lock, (t, deposit)), IEscrow.SelfRental.selector);
        } else if (kind == 3) {
            t.feeBps = uint16(_within(_mix(seed, "much"), 1501, type(uint16).max));
            _mustNot(t.renter, value, abi.encodeCall(ESCROW.lock, (t, deposit)), IEscrow.FeeTooHigh.selector);
        } else if (kind == 4) {
            t.startBy = seed % 2 == 0 ? _now() - 1 : _now() + 24 hours + 1;
            _mustNot(t.renter, value, abi.encodeCall(ESCROW.lock, (t, deposit)), IEscrow.StartByOutOfRange.selector);
        } else if (kind == 5) {
            bytes memory signature = _signPrepaid(t, deposit);
            bytes memory data = abi.encodeCall(ESCROW.lockPrepaid, (t, deposit + 1, signature));
            _mustNot(RELAYER, 0, data, IEscrow.BadSignature.selector);
        } else if (kind == 6) {
            t.token = STRANGER;
            _mustNot(t.renter, 0, abi.encodeCall(ESCROW.lock, (t, deposit)), IEscrow.TokenNotListed.selector);
        } else {
            _must(ESCROW.guardian(), 0, abi.encodeCall(ESCROW.pauseToken, (t.token)));
            _mustNot(t.renter, value, abi.encodeCall(ESCROW.lock, (t, deposit)), IEscrow.TokenIsPaused.selector);
            _must(OWNER, 0, abi.encodeCall(ESCROW.unpauseToken, (t.token)));
        }
        _useful();
    }

    function refuseLocked(uint128 seed) external counted("refuseLocked") {
        (Open memory o, Rental memory r) = _someStartable(seed);
        address operator = _operator(seed);
        uint256 kind = _mix(seed, "kind of refusal") % 7;
        if (kind == 0) {
            _exitMustNot(STRANGER, abi.encodeCall(ESCROW.start, (o.t, _now())), IEscrow.NotOperator.selector);
        } else if (kind == 1) {
            uint40 moment = seed % 3 == 0 ? _now() + 1 : seed % 3 == 1 ? r.since - 1 : o.t.startBy + 1;
            _exitMustNot(operator, abi.encodeCall(ESCROW.start, (o.t, moment)), IEscrow.StartOutOfWindow.selector);
        } else if (kind == 2) {
            _exitMustNot(o.t.renter, abi.encodeCall(ESCROW.cancel, (o.t)), IEscrow.NotOperatorOrProvider.selector);
        } else if (kind == 3) {
            _exitMustNot(STRANGER, abi.encodeCall(ESCROW.reclaim, (o.t)), IEscrow.ReclaimTooEarly.selector);
        } else if (kind == 4) {
            _exitMustNot(o.t.renter, abi.encodeCall(ESCROW.stop, (o.t)), IEscrow.NotActive.selector);
        } else if (kind == 5) {
            bytes memory data = abi.encodeCall(ESCROW.close, (o.t, _now(), 0, EndSignatures("", "")));
            _exitMustNot(operator, data, IEscrow.NotActive.selector);
        } else {
            _exitMustNot(STRANGER, abi.encodeCall(ESCROW.release, (o.t)), IEscrow.NotActive.selector);
        }
        _useful();
    }

    function refuseActive(uint128 seed) external counted("refuseActive") {
        (Open memory o, Rental memory r) = _someActive(seed);
        address operator = _operator(seed);
        uint256 kind = _mix(seed, "kind of refusal") % 9;
        if (kind == 0) {
            _exitMustNot(operator, abi.encodeCall(ESCROW.start, (o.t, _now())), IEscrow.NotLocked.selector);
        } else if (kind == 1) {
            _exitMustNot(o.t.provider, abi.encodeCall(ESCROW.cancel, (o.t)), IEscrow.NotLocked.selector);
        } else if (kind == 2) {
            _exitMustNot(o.t.provider, abi.encodeCall(ESCROW.contest, (o.t, 1)), IEscrow.NotRenter.selector);
        } else if (kind == 3) {
            uint32 secs = seed % 2 == 0 ? 0 : o.t.holdback + 1;
            bytes memory data = abi.encodeCall(ESCROW.contest, (o.t, secs));
            _exitMustNot(o.t.renter, data, IEscrow.ContestOutOfRange.selector);
        } else if (kind == 4) {
            uint40 moment = seed % 3 == 0 ? _now() + 1 : seed % 3 == 1 ? r.since - 1 : _now() - 10 minutes - 1;
            bytes memory data = abi.encodeCall(ESCROW.close, (o.t, moment, 0, EndSignatures("", "")));
            _exitMustNot(operator, data, IEscrow.StopOutOfWindow.selector);
        } else if (kind == 5) {
            EndSignatures memory s = EndSignatures(_signEnd(o.t.renter, o.id, _now(), 1), "");
            bytes memory data = abi.encodeCall(ESCROW.close, (o.t, _now(), 2, s));
            _exitMustNot(operator, data, IEscrow.BadSignature.selector);
        } else if (kind == 6) {
            uint32 beyond = uint32(_clockSecs(o.t, r) + 1);
            bytes memory data =
                abi.encodeCall(ESCROW.closeAgreed, (o.t, beyond, _now(), _signBoth(o.t, o.id, beyond, _now())));
            _exitMustNot(STRANGER, data, IEscrow.AgreedSecsOutOfRange.selector);
        } else if (kind == 7) {
            EndSignatures memory s = EndSignatures("", _signAgreed(o.t.provider, o.id, 1, _now()));
            _exitMustNot(
                STRANGER, abi.encodeCall(ESCROW.closeAgreed, (o.t, 1, _now(), s)), IEscrow.BadSignature.selector
            );
        } else if (_now() >= _fundedUntil(o.t, r) && !_isPaused(o.t.token)) {
            bytes memory data = abi.encodeCall(ESCROW.topUp, (o.t, 1));
            _mustNot(RELAYER, o.t.token == NATIVE ? 1 : 0, data, IEscrow.FundedTimeOver.selector);
        } else {
            _exitMustNot(STRANGER, abi.encodeCall(ESCROW.concede, (o.t)), IEscrow.NotContested.selector);
        }
        _useful();
    }

    function refuseContested(uint128 seed) external counted("refuseContested") {
        _needArbiter(seed);
        (Open memory o, Rental memory r) = _someContested(seed);
        uint256 kind = _mix(seed, "kind of refusal") % 7;
        if (kind == 6) {
            EndSignatures memory s = _signBoth(o.t, o.id, r.settledSecs, _now() - 1);
            bytes memory data = abi.encodeCall(ESCROW.closeAgreed, (o.t, r.settledSecs, _now() - 1, s));
            _exitMustNot(STRANGER, data, IEscrow.SignatureExpired.selector);
        } else if (kind == 0) {
            bool isOpen = _isOpen(r);
            bytes4 refusal = isOpen ? IEscrow.NotRenterOrProvider.selector : IEscrow.DisputeWindowOver.selector;
            _exitMustNot(STRANGER, abi.encodeCall(ESCROW.dispute, (o.t)), refusal);
        } else if (kind == 1) {
            _exitMustNot(STRANGER, abi.encodeCall(ESCROW.concede, (o.t)), IEscrow.NotRenterOrProvider.selector);
        } else if (kind == 2) {
            _exitMustNot(OWNER, abi.encodeCall(ESCROW.resolve, (o.t, 0)), IEscrow.NotArbiter.selector);
        } else if (kind == 3) {
            bytes4 refusal = IEscrow.NotDisputed.selector;
            if (r.renterDisputes || r.providerDisputes) refusal = IEscrow.DisputeWindowOpen.selector;
            if (_now() > r.deadline && refusal != IEscrow.NotDisputed.selector) {
                refusal = IEscrow.ArbitrationOver.selector;
            }
            if (refusal == IEscrow.DisputeWindowOpen.selector && _isResolvable(o, r)) {
                refusal = IEscrow.ResolutionOutOfRange.selector;
            }
            bytes memory data = abi.encodeCall(ESCROW.resolve, (o.t, r.contestedSecs + 1));
            _exitMustNot(ESCROW.arbiter(), data, refusal);
        } else if (kind == 4) {
            _exitMustNot(o.t.provider, abi.encodeCall(ESCROW.stop, (o.t)), IEscrow.NotActive.selector);
        } else {
            uint32 beyond = r.settledSecs + r.contestedSecs + 1;
            bytes memory data =
                abi.encodeCall(ESCROW.closeAgreed, (o.t, beyond, _now(), _signBoth(o.t, o.id, beyond, _now())));
            _exitMustNot(STRANGER, data, IEscrow.AgreedSecsOutOfRange.selector);
        }
        _useful();
    }

    function refuseOffice(uint128 seed) external counted("refuseOffice") {
        address account = _renters[seed % 3];
        uint256 kind = _mix(seed, "kind of refusal") % 7;
        if (kind == 0) {
            uint96 beyond = uint96(ESCROW.balanceOf(account, NATIVE) + 1);
            bytes memory data = abi.encodeCall(ESCROW.withdraw, (NATIVE, PURSE, beyond));
            _exitMustNot(account, data, IEscrow.InsufficientBalance.selector);
        } else if (kind == 1) {
            bytes memory signature = _signWithdrawal(account, NATIVE, PURSE, 1, _now() - 1);
            bytes memory data = abi.encodeCall(ESCROW.withdrawBySig, (account, NATIVE, PURSE, 1, _now() - 1, signature));
            _exitMustNot(RELAYER, data, IEscrow.SignatureExpired.selector);
        } else if (kind == 2) {
            bytes memory data = abi.encodeCall(ESCROW.pauseToken, (NATIVE));
            _mustNot(account, 0, data, IEscrow.NotGuardianOrOwner.selector);
        } else if (kind == 3) {
            bytes memory data = abi.encodeCall(ESCROW.executeChange, (Change.SetTreasury, STRANGER));
            _mustNot(OWNER, 0, data, IEscrow.ChangeNotScheduled.selector);
        } else if (kind == 4) {
            bytes memory data = abi.encodeCall(ESCROW.setAgent, (STRANGER, _now() - 1));
            _exitMustNot(account, data, IEscrow.AgentExpiryInPast.selector);
        } else if (kind == 5) {
            bytes memory data = abi.encodeCall(ESCROW.startBatch, (new StartItem[](151)));
            _exitMustNot(_operator(seed), data, IEscrow.BatchTooLarge.selector);
        } else {
            EndSignatures[] memory one = new EndSignatures[](1);
            bytes memory data = abi.encodeCall(ESCROW.closeBatch, (new CloseItem[](2), one));
            _exitMustNot(_operator(seed), data, IEscrow.SignatureCountMismatch.selector);
        }
        _useful();
    }

    function _newId(uint256 seed) private returns (bytes32) {
        (Open memory o,) = _newLocked(seed);
        return o.id;
    }
}
