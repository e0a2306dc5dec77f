// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, Rental, StartItem, Status, Terms} from "../../src/IEscrow.sol";
import {Entry} from "./Entry.sol";

/// @notice From the lock to the end, without disputes: start, release, stop, close, or all of it given back.
abstract contract Running is Entry {
    function start(uint128 seed) external counted("start") {
        (Open memory o, Rental memory r) = _someStartable(seed);
        _exit(_operator(seed), abi.encodeCall(ESCROW.start, (o.t, _startOf(o.t, r, seed))));
        assertEq(uint256(ESCROW.rental(o.id).status), uint256(Status.Active), "started");
        _useful();
    }

    /// @dev Among them one twice, one as it is whatever it is, one dated ahead.
    function startBatch(uint128 seed) external counted("startBatch") {
        _someStartable(seed);
        uint256 n = seed % 4 + 2;
        StartItem[] memory items = new StartItem[](n);
        bytes[] memory singles = new bytes[](n);
        bytes32[] memory ids = new bytes32[](n);
        for (uint256 i = 0; i < n; ++i) {
            (, Open memory o, Rental memory r) = _find(_isStartable, _mix(seed + i, "item"));
            if (i == 1) (o, r) = _any(seed);
            uint40 moment = r.status == Status.Locked && _isStartable(o, r) ? _startOf(o.t, r, seed) : _now();
            items[i] = StartItem(o.t, i == 2 ? _now() + 1 : moment);
            ids[i] = o.id;
            singles[i] = abi.encodeCall(ESCROW.start, (items[i].terms, items[i].startedAt));
        }
        _batch(_operator(seed), abi.encodeCall(ESCROW.startBatch, (items)), singles, ids);
        _useful();
    }

    function cancel(uint128 seed) external counted("cancel") {
        (bool found, Open memory o,) = _find(_isLocked, seed);
        if (!found) (o,) = _newLocked(seed);
        _exit(seed % 2 == 0 ? _operator(seed) : o.t.provider, abi.encodeCall(ESCROW.cancel, (o.t)));
        _tidy();
        _useful();
    }

    /// @dev Where none can be reclaimed yet, that is asked for first.
    function reclaim(uint128 seed) external counted("reclaim") {
        (bool found, Open memory o,) = _find(_isReclaimable, seed);
        if (!found) {
            (found, o,) = _find(_isLocked, seed);
            if (!found) (o,) = _newLocked(seed);
            _warpTo(o.t.startBy + 10 minutes);
            _exitMustNot(RELAYER, abi.encodeCall(ESCROW.reclaim, (o.t)), IEscrow.ReclaimTooEarly.selector);
            _wait(1);
        }
        _exit(RELAYER, abi.encodeCall(ESCROW.reclaim, (o.t)));
        _tidy();
        _useful();
    }

    function release(uint128 seed) external counted("release") {
        (Open memory o, Rental memory r) = _someReleasable(seed);
        _exit(RELAYER, abi.encodeCall(ESCROW.release, (o.t)));
        assertGt(ESCROW.rental(o.id).settledSecs, r.settledSecs, "released");
        _useful();
    }

    function releaseBatch(uint128 seed) external counted("releaseBatch") {
        _someReleasable(seed);
        uint256 n = seed % 5 + 1;
        Terms[] memory items = new Terms[](n);
        bytes[] memory singles = new bytes[](n);
        bytes32[] memory ids = new bytes32[](n);
        for (uint256 i = 0; i < n; ++i) {
            (, Open memory o,) = _find(_isReleasable, _mix(seed + i, "item"));
            if (i == 1) (o,) = _any(seed);
            (items[i], ids[i]) = (o.t, o.id);
            singles[i] = abi.encodeCall(ESCROW.release, (o.t));
        }
        _batch(RELAYER, abi.encodeCall(ESCROW.releaseBatch, (items)), singles, ids);
        _useful();
    }

    /// @dev By each party, or its agent where it has one; by anybody, where the deposit has been used up for long.
    function stop(uint128 seed) external counted("stop") {
        (Open memory o, Rental memory r) = _someActive(seed);
        uint256 who = seed % 3;
        address by = who == 0 ? _speaker(o.t.renter, seed) : who == 1 ? _speaker(o.t.provider, seed) : RELAYER;
        if (who == 2 && _now() <= _fundedUntil(o.t, r) + 10 minutes) {
            _exitMustNot(RELAYER, abi.encodeCall(ESCROW.stop, (o.t)), IEscrow.NotRenterOrProvider.selector);
            by = _speaker(o.t.provider, seed);
        }
        _exit(by, abi.encodeCall(ESCROW.stop, (o.t)));
        _tidy();
        _useful();
    }

    function close(uint128 seed) external counted("close") {
        (Open memory o, Rental memory r) = _someActive(seed);
        CloseItem memory item = _closeItem(o.t, r, seed);
        EndSignatures memory signatures = _endSignatures(o, item, seed);
        bytes memory data = abi.encodeCall(ESCROW.close, (o.t, item.stoppedAt, item.creditSecs, signatures));
        _exit(_operator(seed), data);
        _tidy();
        _useful();
    }

    /// @dev Among them one twice, one as it is whatever it is, one dated ahead, one with a signature of something else.
    function closeBatch(uint128 seed) external counted("closeBatch") {
        _someActive(seed);
        uint256 n = seed % 4 + 2;
        bool isSigned = seed % 2 == 0;
        CloseItem[] memory items = new CloseItem[](n);
        EndSignatures[] memory signatures = new EndSignatures[](isSigned ? n : 0);
        bytes[] memory singles = new bytes[](n);
        bytes32[] memory ids = new bytes32[](n);
        for (uint256 i = 0; i < n; ++i) {
            EndSignatures memory s;
            (items[i], s, ids[i]) = _closing(_mix(seed, "item") + i, i, isSigned);
            if (isSigned) signatures[i] = s;
            singles[i] = abi.encodeCall(ESCROW.close, (items[i].terms, items[i].stoppedAt, items[i].creditSecs, s));
        }
        _batch(_operator(seed), abi.encodeCall(ESCROW.closeBatch, (items, signatures)), singles, ids);
        _useful();
    }

    /// @dev Sent by anybody, or by a party that then need not sign.
    function closeAgreed(uint128 seed) external counted("closeAgreed") {
        (bool found, Open memory o, Rental memory r) = _find(seed % 2 == 0 ? _isActive : _isContested, seed);
        if (!found) (o, r) = _someActive(seed);
        uint256 least = r.settledSecs;
        uint256 most = least + r.contestedSecs;
        if (r.status == Status.Active) {
            most = _clockSecs(o.t, r);
            if (least == 0) least = 1;
        }
        uint32 billed = uint32(_within(_mix(seed, "billed"), least, most));
        // forge-lint: disable-next-line(unsafe-typecast) -- 0 or 1
        uint40 until = _now() + uint40(seed % 2);
        EndSignatures memory signatures = _signBoth(o.t, o.id, billed, until);
        address by = RELAYER;
        if (seed % 3 == 0) (by, signatures.renter) = (o.t.renter, bytes(""));
        else if (seed % 3 == 1) (by, signatures.provider) = (o.t.provider, bytes(""));
        _exit(by, abi.encodeCall(ESCROW.closeAgreed, (o.t, billed, until, signatures)));
        _tidy();
        _useful();
    }

    function _isLocked(Open memory, Rental memory r) internal pure returns (bool) {
        return r.status == Status.Locked;
    }

    function _isStartable(Open memory o, Rental memory r) internal view returns (bool) {
        return r.status == Status.Locked && _now() <= o.t.startBy + 10 minutes;
    }

    function _isReclaimable(Open memory o, Rental memory r) internal view returns (bool) {
        return r.status == Status.Locked && _now() > o.t.startBy + 10 minutes;
    }

    function _isActive(Open memory, Rental memory r) internal pure returns (bool) {
        return r.status == Status.Active;
    }

    function _isContested(Open memory, Rental memory r) internal pure returns (bool) {
        return r.status == Status.Contested;
    }

    function _isReleasable(Open memory o, Rental memory r) internal view returns (bool) {
        return _isUnsettled(o, r) && _now() > r.since + o.t.holdback + r.settledSecs;
    }

    /// @dev What can become releasable as time goes by.
    function _isUnsettled(Open memory o, Rental memory r) internal pure returns (bool) {
        uint256 funded = _fundedUntil(o.t, r) - r.since;
        return r.status == Status.Active && uint256(r.settledSecs) + o.t.holdback < funded;
    }

    function _any(uint256 seed) internal view returns (Open memory o, Rental memory r) {
        o = _live[_mix(seed, "any") % _live.length];
        r = ESCROW.rental(o.id);
    }

    function _someStartable(uint256 seed) internal returns (Open memory o, Rental memory r) {
        bool found;
        (found, o, r) = _find(_isStartable, seed);
        if (!found) (o, r) = _newLocked(seed);
    }

    function _someActive(uint256 seed) internal returns (Open memory o, Rental memory r) {
        bool found;
        (found, o, r) = _find(_isActive, seed);
        if (!found) (o, r) = _newActive(seed);
    }

    /// @dev Started, and some minutes later.
    function _newActive(uint256 seed) internal returns (Open memory o, Rental memory r) {
        (o, r) = _someStartable(seed);
        _exit(_operator(seed), abi.encodeCall(ESCROW.start, (o.t, _startOf(o.t, r, seed))));
        _wait(_within(_mix(seed, "age"), 2, 10 minutes));
        r = ESCROW.rental(o.id);
    }

    function _someReleasable(uint256 seed) private returns (Open memory o, Rental memory r) {
        bool found;
        (found, o, r) = _find(_isReleasable, seed);
        while (!found) {
            (found, o, r) = _find(_isUnsettled, seed);
            if (found) _warpTo(r.since + o.t.holdback + r.settledSecs + 1 + seed % 600);
            else _newActive(++seed);
        }
    }

    /// @dev An operator that is still one; there always is.
    function _operator(uint256 seed) internal view returns (address) {
        address one = _operators[seed % 2];
        return ESCROW.isOperator(one) ? one : _operators[(seed + 1) % 2];
    }

    /// @dev The account, or half of the times its agent.
    function _speaker(address account, uint256 seed) internal view returns (address) {
        (address agent, uint40 expiresAt) = ESCROW.agentOf(account);
        return agent != address(0) && _now() <= expiresAt && _mix(seed, "agent") % 2 == 0 ? agent : account;
    }

    function _clockSecs(Terms memory t, Rental memory r) internal view returns (uint256 secs) {
        secs = _now() - r.since;
        uint256 funded = _fundedUntil(t, r) - r.since;
        if (secs > funded) secs = funded;
        if (secs < r.settledSecs) secs = r.settledSecs;
        if (secs == 0) secs = 1;
    }

    function _startOf(Terms memory t, Rental memory r, uint256 seed) private view returns (uint40) {
        uint40 latest = _now() < t.startBy ? _now() : t.startBy;
        uint40 earliest = _now() > r.since + 10 minutes ? _now() - 10 minutes : r.since;
        return uint40(_within(_mix(seed, "start"), earliest, latest));
    }

    function _closeItem(Terms memory t, Rental memory r, uint256 seed) private view returns (CloseItem memory) {
        uint40 earliest = r.since + 10 minutes > _now() ? r.since : _now() - 10 minutes;
        uint40 stoppedAt = uint40(_within(_mix(seed, "stop"), earliest, _now()));
        uint256 most = seed % 16 == 0 ? type(uint32).max : 1200;
        return CloseItem(t, stoppedAt, seed % 2 == 0 ? 0 : uint32(_within(_mix(seed, "credit"), 1, most)));
    }

    /// @dev The `i`th of a batch.
    function _closing(
        uint256 seed,
        uint256 i,
        bool isSigned
    )
        private
        view
        returns (CloseItem memory item, EndSignatures memory s, bytes32 id)
    {
        (, Open memory o, Rental memory r) = _find(_isActive, seed);
        if (i == 1) (o, r) = _any(seed);
        id = o.id;
        item = _closeItem(o.t, r, _mix(seed, "close"));
        if (i == 2) item.stoppedAt = _now() + 1;
        if (isSigned) s = _endSignatures(o, item, _mix(seed, "sign"));
        if (i == 3) item.creditSecs ^= 1;
    }

    /// @dev Of nobody, one side or both; by agents too.
    function _endSignatures(
        Open memory o,
        CloseItem memory item,
        uint256 seed
    )
        private
        view
        returns (EndSignatures memory s)
    {
        uint256 who = _mix(seed, "who") % 4;
        if (who & 1 != 0) s.renter = _signEnd(_speaker(o.t.renter, seed), o.id, item.stoppedAt, item.creditSecs);
        if (who & 2 != 0) s.provider = _signEnd(_speaker(o.t.provider, seed), o.id, item.stoppedAt, item.creditSecs);
    }
}
