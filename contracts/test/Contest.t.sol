// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Outcome, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

/// @notice The renter stops the clock and disputes the last seconds.
contract ContestTest is Fixture {
    function test_Contest() public {
        (Terms memory t, bytes32 id) = _running(2000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Contested(
            id, Outcome.StoppedByRenter, 1700, 300, 300, T0 + 2000 + 14 days, true, 1_530_000, 170_000, 8_000_000, true
        );
        _contest(t, 300);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Contested, DEPOSIT, 0, 1700, 300, 300, T0 + 2000 + 14 days, true, false)),
            "stored"
        );
        _assertBalances(1_530_000, 170_000, 2_000_000);
        assertEq(usdc.balanceOf(renter), 1e12 - 2_000_000, "what was never used is back");
    }

    function test_Contest_Secs_PlusMinusOne() public {
        (Terms memory t, bytes32 id) = _running(2000);
        _refused(renter, abi.encodeCall(escrow.contest, (t, 0)), IEscrow.ContestOutOfRange.selector);
        _refused(renter, abi.encodeCall(escrow.contest, (t, 601)), IEscrow.ContestOutOfRange.selector);
        uint256 before = vm.snapshotState();
        _contest(t, 1);
        assertEq(escrow.rental(id).contestedSecs, 1, "one");
        vm.revertToState(before);
        _contest(t, 600);
        assertEq(escrow.rental(id).contestedSecs, 600, "all of the holdback");
    }

    function test_Contest_NotRenter() public {
        (Terms memory t,) = _running(2000);
        address[6] memory others = [owner, guardian, arbiter, operator, provider, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            _refused(others[i], abi.encodeCall(escrow.contest, (t, 1)), IEscrow.NotRenter.selector);
        }
    }

    function test_Contest_NotActive() public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes memory input = abi.encodeCall(escrow.contest, (t, 1));
        _refused(renter, input, IEscrow.NotActive.selector);
        _lock(t, DEPOSIT);
        _refused(renter, input, IEscrow.NotActive.selector);
        _start(t, T0);
        skip(10);
        _contest(t, 1);
        _refused(renter, input, IEscrow.NotActive.selector);
        vm.prank(provider);
        escrow.concede(t);
        _refused(renter, input, IEscrow.NotActive.selector);
    }

    /// @dev Terms without a holdback leave nothing to contest.
    function test_Contest_NoHoldback() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        skip(10);
        _refused(renter, abi.encodeCall(escrow.contest, (t, 1)), IEscrow.ContestOutOfRange.selector);
    }

    /// @dev Neither a settled second nor the first: the rest is at most what is contested, and none at all closes.
    function test_Contest_AtMostTheUnsettled() public {
        (Terms memory t, bytes32 id) = _running(2000);
        escrow.release(t);
        skip(10);
        _contest(t, 600);
        assertEq(escrow.rental(id).settledSecs, 1410, "not below what was released");
        assertEq(escrow.rental(id).contestedSecs, 600, "contested");
        t.orderHash = "short";
        t.startBy = _now() + START_IN;
        id = _activate(t, DEPOSIT);
        skip(200);
        uint256 before = vm.snapshotState();
        _contest(t, 600);
        assertEq(escrow.rental(id).settledSecs, 1, "the first second");
        assertEq(escrow.rental(id).contestedSecs, 199, "all others");
        vm.revertToState(before);
        skip(1000);
        // Released meanwhile by anybody, up to the holdback.
        escrow.release(t);
        _contest(t, 600);
        assertEq(escrow.rental(id).settledSecs, 600, "released");
    }

    /// @dev The first second is the provider's: `stop` ends it.
    function test_Contest_FirstSecond_PlusMinusOne() public {
        (Terms memory t, bytes32 id) = _running(1);
        _refused(renter, abi.encodeCall(escrow.contest, (t, 600)), IEscrow.ContestOutOfRange.selector);
        skip(1);
        _contest(t, 600);
        _assertStatus(id, Status.Contested);
        assertEq(escrow.rental(id).contestedSecs, 1, "the second");
    }

    /// @dev Seconds beyond the deposit are neither billed nor contested.
    function test_Contest_AfterExhaustion() public {
        (Terms memory t, bytes32 id) = _running(20_000);
        _contest(t, 600);
        assertEq(escrow.rental(id).settledSecs, 9400, "of 10,000 funded");
        assertEq(escrow.rental(id).contestedSecs, 600, "contested");
        _assertBalances(8_460_000, 940_000, DEPOSIT);
    }

    /// @dev However much was released, and however late: the holdback is there to contest.
    function test_Contest_AllReleased() public {
        (Terms memory t, bytes32 id) = _running(30 days);
        escrow.release(t);
        _contest(t, 600);
        assertEq(escrow.rental(id).contestedSecs, 600, "contested");
        _assertBalances(8_460_000, 940_000, DEPOSIT);
    }

    /// @dev The renter's dispute is in: nobody can add to it, and the arbiter may decide at once.
    function test_Contest_IsDisputedAtOnce() public {
        (Terms memory t,) = _running(2000);
        _contest(t, 300);
        _refused(renter, abi.encodeCall(escrow.dispute, (t)), IEscrow.NothingToDispute.selector);
        _refused(provider, abi.encodeCall(escrow.dispute, (t)), IEscrow.NothingToDispute.selector);
        skip(1);
        _refused(renter, abi.encodeCall(escrow.dispute, (t)), IEscrow.DisputeWindowOver.selector);
        vm.prank(arbiter);
        escrow.resolve(t, 300);
        _assertBalances(1_530_000, 170_000, 1_700_000);
    }

    function test_Contest_RefusedRefund_IsCredited() public {
        Terms memory t = _terms(NATIVE, "native");
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        skip(2000);
        vm.etch(renter, hex"5f5ffd");
        vm.expectEmit(address(escrow));
        emit IEscrow.Credited(renter, NATIVE, 8_000_000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Contested(
            id, Outcome.StoppedByRenter, 1700, 300, 300, T0 + 2000 + 14 days, true, 1_530_000, 170_000, 8_000_000, false
        );
        _contest(t, 300);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Conceded, 1700, 0, 0, 300_000, false);
        vm.prank(provider);
        escrow.concede(t);
        assertEq(escrow.balanceOf(renter, NATIVE), 8_300_000, "credited");
    }

    function _running(uint256 secs) private returns (Terms memory t, bytes32 id) {
        t = _terms();
        t.holdback = 600;
        id = _activate(t, DEPOSIT);
        skip(secs);
    }

    function _contest(Terms memory t, uint32 secs) private {
        vm.prank(renter);
        escrow.contest(t, secs);
    }
}
