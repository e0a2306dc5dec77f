// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../../src/Escrow.sol";
import {Rental, Status, Terms} from "../../src/IEscrow.sol";
import {TestUSDC} from "../mocks/TestUSDC.sol";
import {Book} from "./Book.sol";
import {Refusals} from "./Refusals.sol";
import {Tally} from "./Tally.sol";

/// @notice A small marketplace that mostly does what the escrow should allow, and brings itself about what it lacks for
/// that: the steered handler of the invariants. Its own functions here try what must hold from wherever the market
/// stands, and undo it.
contract Market is Refusals {
    constructor(Escrow escrow, TestUSDC usdc, Tally tally) Book(escrow, usdc, tally) {}

    /// @dev I8: with tokens paused, operators and arbiter gone, time alone lets anybody close every rental, and then
    /// everybody can withdraw everything.
    function probeEverythingEnds(uint128 seed) external counted("probeEverythingEnds") {
        bytes32 ends = _undone(abi.encodeCall(this.tryEnding, (seed % 2 == 0)));
        _hold(8, ends == bytes32(uint256(1)), "a rental or a balance is stuck");
        _useful();
    }

    /// @dev I14: of each locked rental, at any second, either `start` or `reclaim` is possible, never both, never none.
    function probeWindows(uint128 seed) external counted("probeWindows") {
        (bool found, Open memory o, Rental memory r) = _find(_isLocked, seed);
        if (!found) (o, r) = _newLocked(seed);
        uint40 moment = _now();
        uint40 edge = o.t.startBy + 10 minutes;
        vm.warp((moment < edge && seed % 2 == 0 ? edge - 1 : moment) + seed % 3);
        uint40 latest = _now() < o.t.startBy ? _now() : o.t.startBy;
        bool canReclaim = _canDo(STRANGER, abi.encodeCall(ESCROW.reclaim, (o.t)));
        bool canStart = _canDo(_operator(seed), abi.encodeCall(ESCROW.start, (o.t, latest)));
        canStart = _canDo(_operator(seed), abi.encodeCall(ESCROW.start, (o.t, r.since))) || canStart;
        vm.warp(moment);
        _hold(14, canStart != canReclaim, "start and reclaim at once, or neither");
        _useful();
    }

    /// @notice Tells whether this call would succeed.
    function tryCall(address by, bytes calldata data) external {
        vm.prank(by);
        (bool success,) = address(ESCROW).call(data);
        _tell(bytes32(uint256(success ? 1 : 0)));
    }

    /// @notice Tells whether everything can be ended.
    function tryEnding(bool byParties) external {
        _tell(bytes32(uint256(_endEverything(byParties) ? 1 : 0)));
    }

    function _canDo(address by, bytes memory data) private returns (bool) {
        return _undone(abi.encodeCall(this.tryCall, (by, data))) != 0;
    }

    /// @dev Either all by strangers, or first what the parties can do at once.
    function _endEverything(bool byParties) private returns (bool) {
        _setPaused(NATIVE, true);
        _setPaused(address(USDC), true);
        vm.startPrank(OWNER);
        ESCROW.removeOperator(_operators[0]);
        ESCROW.removeOperator(_operators[1]);
        ESCROW.removeArbiter();
        vm.stopPrank();
        for (uint256 i = 0; i < _live.length; ++i) {
            Terms memory t = _live[i].t;
            Rental memory r = ESCROW.rental(_live[i].id);
            if (r.status == Status.Locked) {
                if (!byParties || i % 2 == 0) _warpTo(t.startBy + 10 minutes + 1);
                vm.prank(_now() > t.startBy + 10 minutes ? STRANGER : t.provider);
                if (_now() > t.startBy + 10 minutes) ESCROW.reclaim(t);
                else ESCROW.cancel(t);
            } else if (r.status == Status.Active) {
                if (!byParties) _warpTo(_fundedUntil(t, r) + 10 minutes + 1);
                vm.prank(byParties ? (i % 2 == 0 ? t.renter : t.provider) : STRANGER);
                ESCROW.stop(t);
            }
            r = ESCROW.rental(_live[i].id);
            if (r.status == Status.Contested) {
                if (!byParties) _warpTo(r.deadline + 1);
                vm.prank(byParties ? (i % 2 == 0 ? t.renter : t.provider) : STRANGER);
                if (byParties) ESCROW.concede(t);
                else ESCROW.finalize(t);
            }
            r = ESCROW.rental(_live[i].id);
            if (r.status != Status.None && r.status != Status.Closed) return false;
        }
        address[] memory accounts = this.everybody();
        for (uint256 i = 0; i < accounts.length; ++i) {
            _withdrawAll(accounts[i], NATIVE);
            _withdrawAll(accounts[i], address(USDC));
        }
        return address(ESCROW).balance == 0 && USDC.balanceOf(address(ESCROW)) == 0;
    }

    function _withdrawAll(address account, address token) private {
        while (ESCROW.balanceOf(account, token) != 0) {
            vm.prank(account);
            ESCROW.withdraw(token, PURSE, 0);
        }
    }
}
