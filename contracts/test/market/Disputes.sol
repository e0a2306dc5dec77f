// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, EndSignatures, IEscrow, Rental, Status, Terms} from "../../src/IEscrow.sol";
import {Running} from "./Running.sol";

/// @notice What happens to held seconds: contested, disputed, conceded, decided by the arbiter or by time.
abstract contract Disputes is Running {
    function contest(uint128 seed) external counted("contest") {
        (Open memory o,) = _someHoldable(seed);
        uint32 secs = uint32(_within(_mix(seed, "secs"), 1, o.t.holdback));
        _exit(_speaker(o.t.renter, seed), abi.encodeCall(ESCROW.contest, (o.t, secs)));
        _tidy();
        _useful();
    }

    function dispute(uint128 seed) external counted("dispute") {
        (Open memory o, Rental memory r) = _someDisputable(seed);
        bool isRenters = r.claimSecs != 0 && !r.renterDisputes;
        bool isProviders = r.contestedSecs != r.claimSecs && !r.providerDisputes;
        if (isRenters && isProviders) isRenters = seed % 2 == 0;
        address by = isRenters ? _speaker(o.t.renter, seed) : _providersSpeaker(o.t, seed);
        _exit(by, abi.encodeCall(ESCROW.dispute, (o.t)));
        _useful();
    }

    function concede(uint128 seed) external counted("concede") {
        (Open memory o,) = _someContested(seed);
        address by = _speaker(seed % 2 == 0 ? o.t.renter : o.t.provider, seed);
        _exit(by, abi.encodeCall(ESCROW.concede, (o.t)));
        _tidy();
        _useful();
    }

    /// @dev Over the whole range that the arbiter has; one second beyond it is refused.
    function resolve(uint128 seed) external counted("resolve") {
        _needArbiter(seed);
        (bool found, Open memory o, Rental memory r) = _find(_isResolvable, seed);
        if (!found) (o, r) = _newResolvable(seed);
        uint32 credit = r.contestedSecs - r.claimSecs;
        uint256 least = r.providerDisputes ? 0 : credit;
        uint256 most = r.renterDisputes ? r.contestedSecs : credit;
        address arbiter = ESCROW.arbiter();
        if (seed % 4 == 0) {
            uint32 beyond = uint32(least != 0 && seed % 8 == 0 ? least - 1 : most + 1);
            _exitMustNot(arbiter, abi.encodeCall(ESCROW.resolve, (o.t, beyond)), IEscrow.ResolutionOutOfRange.selector);
        }
        uint32 secs = uint32(_within(_mix(seed, "secs"), least, most));
        _exit(arbiter, abi.encodeCall(ESCROW.resolve, (o.t, secs)));
        _tidy();
        _useful();
    }

    function finalize(uint128 seed) external counted("finalize") {
        Open memory o = _someFinalizable(seed);
        _exit(RELAYER, abi.encodeCall(ESCROW.finalize, (o.t)));
        _tidy();
        _useful();
    }

    function finalizeBatch(uint128 seed) external counted("finalizeBatch") {
        _someFinalizable(seed);
        uint256 n = seed % 5 + 1;
        Terms[] memory items = new Terms[](n);
        bytes[] memory singles = new bytes[](n);
        bytes32[] memory ids = new bytes32[](n);
        for (uint256 i = 0; i < n; ++i) {
            (, Open memory o,) = _find(_isFinalizable, _mix(seed + i, "item"));
            if (i == 1) (o,) = _any(seed);
            (items[i], ids[i]) = (o.t, o.id);
            singles[i] = abi.encodeCall(ESCROW.finalize, (o.t));
        }
        _batch(RELAYER, abi.encodeCall(ESCROW.finalizeBatch, (items)), singles, ids);
        _useful();
    }

    function _isOpen(Rental memory r) internal view returns (bool) {
        bool isDisputed = r.renterDisputes || r.providerDisputes;
        return _now() <= (isDisputed ? r.deadline - 14 days : r.deadline);
    }

    function _isFree(Rental memory r) internal pure returns (bool) {
        return (r.claimSecs != 0 && !r.renterDisputes) || (r.contestedSecs != r.claimSecs && !r.providerDisputes);
    }

    function _isDisputable(Open memory, Rental memory r) internal view returns (bool) {
        return r.status == Status.Contested && _isFree(r) && _isOpen(r);
    }

    function _isResolvable(Open memory, Rental memory r) internal view returns (bool) {
        if (r.status != Status.Contested || !(r.renterDisputes || r.providerDisputes)) return false;
        return _now() <= r.deadline && !(_isOpen(r) && _isFree(r));
    }

    function _isFinalizable(Open memory, Rental memory r) internal view returns (bool) {
        return r.status == Status.Contested && _now() > r.deadline;
    }

    /// @dev Its end can be held: at least a second beyond the first is unsettled.
    function _isHoldable(Open memory o, Rental memory r) internal view returns (bool) {
        if (r.status != Status.Active || o.t.holdback == 0) return false;
        return _clockSecs(o.t, r) > (r.settledSecs == 0 ? 1 : r.settledSecs);
    }

    function _someContested(uint256 seed) internal returns (Open memory o, Rental memory r) {
        bool found;
        (found, o, r) = _find(_isContested, seed);
        if (!found) (o, r) = _newContested(seed);
    }

    function _someHoldable(uint256 seed) private returns (Open memory o, Rental memory r) {
        bool found;
        (found, o, r) = _find(_isHoldable, seed);
        while (!found) {
            _newActive(++seed);
            (found, o, r) = _find(_isHoldable, seed);
        }
    }

    function _someDisputable(uint256 seed) private returns (Open memory o, Rental memory r) {
        bool found;
        (found, o, r) = _find(_isDisputable, seed);
        if (!found) (o, r) = _newContested(seed);
    }

    /// @dev Closed a while back by the operator with or without a credit, or stopped by the provider.
    function _newContested(uint256 seed) private returns (Open memory o, Rental memory r) {
        (o, r) = _someHoldable(seed);
        if (seed % 3 == 0) {
            _exit(o.t.provider, abi.encodeCall(ESCROW.stop, (o.t)));
        } else {
            uint32 credit = seed % 3 == 1 ? 0 : uint32(_within(_mix(seed, "credit"), 1, 600));
            EndSignatures memory none;
            uint40 moment = uint256(r.since) + r.settledSecs + 2 > _now() - 10 minutes ? _now() : _now() - 1;
            _exit(_operator(seed), abi.encodeCall(ESCROW.close, (o.t, moment, credit, none)));
        }
        r = ESCROW.rental(o.id);
        _tidy();
        if (r.status != Status.Contested) return _newContested(++seed);
    }

    function _newResolvable(uint256 seed) private returns (Open memory o, Rental memory r) {
        (o, r) = _someDisputable(seed);
        if (r.claimSecs != 0 && !r.renterDisputes) _exit(o.t.renter, abi.encodeCall(ESCROW.dispute, (o.t)));
        if (r.contestedSecs != r.claimSecs && !r.providerDisputes && (seed % 2 == 0 || r.claimSecs == 0)) {
            _exit(o.t.provider, abi.encodeCall(ESCROW.dispute, (o.t)));
        }
        r = ESCROW.rental(o.id);
        if (_isFree(r)) {
            bytes memory data = abi.encodeCall(ESCROW.resolve, (o.t, 0));
            _exitMustNot(ESCROW.arbiter(), data, IEscrow.DisputeWindowOpen.selector);
            _warpTo(r.deadline - 14 days + 1 + seed % 10 minutes);
        }
    }

    /// @dev After `removeArbiter` there is none for as long as the delay takes.
    function _needArbiter(uint256 seed) internal {
        if (ESCROW.arbiter() != address(0)) return;
        address next = _arbiters[seed % 2];
        _must(OWNER, 0, abi.encodeCall(ESCROW.scheduleChange, (Change.SetArbiter, next)));
        _wait(48 hours);
        _must(OWNER, 0, abi.encodeCall(ESCROW.executeChange, (Change.SetArbiter, next)));
    }

    /// @dev Whoever is the agent of both sides speaks for the renter.
    function _providersSpeaker(Terms memory t, uint256 seed) private view returns (address by) {
        by = _speaker(t.provider, seed);
        (address agent, uint40 expiresAt) = ESCROW.agentOf(t.renter);
        if (by == agent && _now() <= expiresAt) by = t.provider;
    }

    /// @dev Goes to the deadline of one, asks there in vain, and again a second later.
    function _someFinalizable(uint256 seed) private returns (Open memory o) {
        bool found;
        Rental memory r;
        (found, o,) = _find(_isFinalizable, seed);
        if (found) return o;
        (o, r) = _someContested(seed);
        _warpTo(r.deadline);
        _exitMustNot(RELAYER, abi.encodeCall(ESCROW.finalize, (o.t)), IEscrow.FinalizeTooEarly.selector);
        _wait(1);
    }
}
