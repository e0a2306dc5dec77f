// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Outcome, Rental, Status, Terms} from "../../src/IEscrow.sol";
import {Replay} from "./Replay.sol";
import {Verdicts} from "./Verdicts.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice The money of each rental over its whole life, and of everybody's own account, summed up from events and held
/// against sums of its own.
contract Tally is Replay, Verdicts {
    struct Life {
        uint256 locks;
        uint256 deposit;
        uint256 net;
        uint256 fee;
        uint256 refund;
        uint40 startedAt;
        uint40 stoppedAt;
        uint32 clockSecs;
        bool ended;
    }

    mapping(bytes32 id => Life) private _lives;
    /// @notice How many rentals came to which outcome, at their end or when the clock stopped.
    mapping(Outcome outcome => uint256) public endings;
    /// @notice Refunds that were credited because the renter did not take them.
    uint256 public refused;
    /// @notice What an account should hold itself of a token, beyond what it had at first.
    mapping(address account => mapping(address token => int256)) public moved;
    mapping(address account => mapping(address token => uint256)) private _refused;

    function life(bytes32 id) external view returns (Life memory) {
        return _lives[id];
    }

    function terms(bytes32 id) external view returns (Terms memory) {
        return _terms[id];
    }

    /// @notice What the escrow still holds of a rental, by this contract's own sums.
    function heldOf(bytes32 id) public view returns (uint256) {
        Life storage l = _lives[id];
        Rental storage r = _rentals[id];
        if (r.status == Status.Locked) return l.deposit;
        if (r.status == Status.Active) return l.deposit - grossOf(id, r.settledSecs);
        if (r.status == Status.Contested) return grossOf(id, l.clockSecs) - grossOf(id, r.settledSecs);
        return 0;
    }

    /// @notice `min(deposit, floor(s * price / 3600))`, checked and as the rules are written.
    function grossOf(bytes32 id, uint256 secs) public view returns (uint256) {
        uint256 deposit = _lives[id].deposit;
        uint256 price = _terms[id].pricePerHour;
        uint256 funded = deposit * 3600 / price;
        if (secs > funded) secs = funded;
        uint256 gross = secs * price / 3600;
        return gross < deposit ? gross : deposit;
    }

    /// @notice I2, I3 and I4 of one rental as it stands.
    function check(bytes32 id, uint40 time) public {
        Life storage l = _lives[id];
        uint256 gross = l.net + l.fee;
        if (l.startedAt != 0) {
            // A second is billed at least, even if none is funded in whole.
            uint256 secs = (l.stoppedAt == 0 ? time : l.stoppedAt) - l.startedAt;
            uint256 due = grossOf(id, secs);
            uint256 first = uint256(_terms[id].pricePerHour) / 3600;
            if (first > l.deposit) first = l.deposit;
            if (due < first) due = first;
            _hold(2, gross <= due && due <= l.deposit, "paid more than the clock says");
        } else {
            _hold(2, gross == 0, "paid before the start");
        }
        _hold(3, l.fee * 10_000 <= gross * 1500, "fee above 15 %");
        _hold(3, l.fee == gross * _terms[id].feeBps / 10_000, "fee is not the floor of the cumulative gross");
        _hold(4, gross + l.refund + heldOf(id) == l.deposit, "net + fee + refund + held is not the deposit");
    }

    function _moved(address account, address token, uint256 amount, bool isIn) internal override {
        // forge-lint: disable-next-line(unsafe-typecast) -- of 96 bits
        moved[account][token] += isIn ? -int256(amount) : int256(amount);
    }

    function _paid(bytes32 id, uint96 net, uint96 fee, uint96 refund, bool isPushed) internal override {
        super._paid(id, net, fee, refund, isPushed);
        Life storage l = _lives[id];
        l.net += net;
        l.fee += fee;
        l.refund += refund;
        Terms storage t = _terms[id];
        _hold(6, _refused[t.renter][t.token] == (isPushed ? 0 : refund), "credited is not what was not pushed");
        delete _refused[t.renter][t.token];
    }

    function _onLocked(Vm.Log calldata log, uint40 time) internal override {
        super._onLocked(log, time);
        Life storage l = _lives[log.topics[1]];
        ++l.locks;
        l.deposit += _rentals[log.topics[1]].deposit;
        _hold(7, l.locks == 1, "locked twice");
    }

    function _onToppedUp(Vm.Log calldata log) internal override {
        bytes32 id = log.topics[1];
        (, uint96 amount,) = abi.decode(log.data, (address, uint96, uint96));
        uint96 before = _rentals[id].deposit;
        super._onToppedUp(log);
        _hold(5, _rentals[id].deposit == before + amount && amount != 0, "deposit did not rise by the amount");
        _lives[id].deposit += amount;
    }

    function _onStarted(Vm.Log calldata log) internal override {
        uint40 lockedAt = _rentals[log.topics[1]].since;
        super._onStarted(log);
        Life storage l = _lives[log.topics[1]];
        _hold(14, l.startedAt == 0, "started twice");
        l.startedAt = _rentals[log.topics[1]].since;
        _hold(14, l.startedAt >= lockedAt && l.startedAt <= _terms[log.topics[1]].startBy, "start out of its window");
    }

    function _onReleased(Vm.Log calldata log, uint40 time) internal override {
        uint32 before = _rentals[log.topics[1]].settledSecs;
        super._onReleased(log, time);
        _hold(5, _rentals[log.topics[1]].settledSecs > before, "release settled nothing");
        check(log.topics[1], time);
    }

    function _onContested(Vm.Log calldata log, uint40 time) internal override {
        bytes32 id = log.topics[1];
        uint32 before = _rentals[id].settledSecs;
        super._onContested(log, time);
        ++endings[abi.decode(log.data, (Outcome))];
        Rental storage r = _rentals[id];
        _lives[id].stoppedAt = time;
        _lives[id].clockSecs = r.settledSecs + r.contestedSecs;
        _hold(5, r.settledSecs >= before, "settled fell");
        _hold(4, r.contestedSecs != 0 && r.claimSecs <= r.contestedSecs, "nothing held, or a claim beyond it");
        _hold(4, r.claimSecs <= _terms[id].holdback, "claim above the holdback");
        check(id, time);
    }

    function _onClosed(Vm.Log calldata log, uint40 time) internal override {
        bytes32 id = log.topics[1];
        Life storage l = _lives[id];
        Rental memory r = _rentals[id];
        (Outcome outcome, uint32 billed) = abi.decode(log.data, (Outcome, uint32));
        _hold(5, billed >= r.settledSecs, "billed less than settled");
        if (r.status == Status.Contested) _hold(4, billed <= l.clockSecs, "billed more than was held");
        if (l.stoppedAt == 0) l.stoppedAt = time;
        super._onClosed(log, time);
        l.ended = true;
        ++endings[outcome];
        bool isGivenBack = outcome == Outcome.Cancelled || outcome == Outcome.Reclaimed;
        _hold(4, isGivenBack == (l.startedAt == 0), "given back after a start, or billed before it");
        if (!isGivenBack) {
            // What `billed` seconds cost, be it that one second is more than the deposit pays for.
            uint256 cost = uint256(billed) * _terms[id].pricePerHour / 3600;
            if (cost > l.deposit) cost = l.deposit;
            _hold(4, billed != 0 && l.net + l.fee == cost, "paid other than billed");
        } else {
            _hold(4, billed == 0 && l.refund == l.deposit, "not given back whole");
        }
        check(id, time);
    }

    function _onCredited(Vm.Log calldata log) internal override {
        super._onCredited(log);
        ++refused;
        _refused[_account(log, 1)][_account(log, 2)] += abi.decode(log.data, (uint96));
    }
}
