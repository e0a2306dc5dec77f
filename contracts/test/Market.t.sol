// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Outcome, Terms} from "../src/IEscrow.sol";
import {Steered} from "./market/Steered.sol";

/// @notice The handler itself: it gets everywhere, and it is seldom idle.
contract MarketTest is Steered {
    /// @dev Each function often enough to tell how often it is of use, each invariant looked at; the summary is printed.
    function test_Steered() public {
        for (uint256 i = 0; i < 1600; ++i) {
            _step(uint256(keccak256(abi.encode(i))));
        }
        _summarize(0);
        assertGe(market.kinds().length, 43, "kinds of calls");
        for (uint256 i = 1; i <= 15; ++i) {
            _assertHolds(i);
        }
        uint256[5] memory byHandler = [uint256(8), 9, 10, 12, 14];
        for (uint256 i = 0; i < 5; ++i) {
            assertGt(market.checks(byHandler[i]), 10, "checked by the handler");
        }
        for (uint256 i = 2; i <= 7; ++i) {
            assertGt(tally.checks(i), 100, "checked by the tally");
        }
    }

    /// @dev Rentals end in every way there is.
    function test_Steered_EveryOutcome() public {
        for (uint256 i = 0; i < 1500; ++i) {
            _step(uint256(keccak256(abi.encode("outcomes", i))));
        }
        for (uint256 i = 0; i <= uint256(type(Outcome).max); ++i) {
            assertGt(tally.endings(Outcome(i)), 0, "an outcome that never came");
        }
        assertGt(tally.refused(), 0, "a refund was refused");
    }

    /// @dev I8: from wherever a market stands, time alone and the parties alone end everything.
    /// forge-config: default.fuzz.runs = 32
    /// forge-config: ci.fuzz.runs = 300
    /// forge-config: deep.fuzz.runs = 3000
    function testFuzz_EverythingEnds(uint256 seed) public {
        for (uint256 i = 0; i < 40; ++i) {
            _step(uint256(keccak256(abi.encode(seed, i))));
        }
        uint256 before = market.checks(8);
        market.probeEverythingEnds(0);
        market.probeEverythingEnds(1);
        assertEq(market.checks(8), before + 2, "tried");
        _assertHolds(8);
    }

    /// @dev I14: at any second after the lock the rental can be started or reclaimed, never both.
    function testFuzz_StartAndReclaimAreDisjoint(uint40 ahead, uint40 later) public {
        Terms memory t = _terms();
        t.startBy = _now() + ahead % (24 hours + 1);
        _lock(t, DEPOSIT);
        vm.warp(_now() + (later % 2 == 0 ? later % 3 days : t.startBy - T0 + 10 minutes - 2 + later % 5));
        uint40 latest = _now() < t.startBy ? _now() : t.startBy;
        uint256 snapshot = vm.snapshotState();
        vm.prank(operator);
        (bool canStart,) = address(escrow).call(abi.encodeCall(escrow.start, (t, latest)));
        vm.revertToState(snapshot);
        (bool canReclaim,) = address(escrow).call(abi.encodeCall(escrow.reclaim, (t)));
        assertTrue(canStart != canReclaim, "both or neither");
        assertEq(canReclaim, _now() > t.startBy + 10 minutes, "the edge");
    }
}
