// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Outcome, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract StopTest is Fixture {
    function test_Stop_ByRenter() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(2000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.StoppedByRenter, 2000, 1_800_000, 200_000, 8_000_000, true);
        _stop(t, renter);
        _assertBalances(1_800_000, 200_000, 2_000_000);
        assertEq(usdc.balanceOf(renter), 1e12 - 2_000_000, "refund");
        _assertStatus(id, Status.None);
    }

    function test_Stop_ByProvider() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(2000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.StoppedByProvider, 2000, 1_800_000, 200_000, 8_000_000, true);
        _stop(t, provider);
    }

    /// @dev Not before the operator can no longer credit an outage of the last funded second.
    function test_Stop_ByAnyone_AfterTheCloseWindow_PlusMinusOne() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(10_000 + 10 minutes);
        _refused(stranger, abi.encodeCall(escrow.stop, (t)), IEscrow.NotRenterOrProvider.selector);
        skip(1);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Exhausted, 10_000, 9_000_000, 1_000_000, 0, true);
        _stop(t, stranger);
    }

    /// @dev The second in which the deposit is used up makes the outcome, whoever stops.
    function test_Stop_Outcome_PlusMinusOne() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(9999);
        address[2] memory who = [renter, provider];
        Outcome[2] memory before = [Outcome.StoppedByRenter, Outcome.StoppedByProvider];
        for (uint256 i = 0; i < who.length; ++i) {
            uint256 state = vm.snapshotState();
            vm.expectEmit(address(escrow));
            emit IEscrow.Closed(id, before[i], 9999, 8_999_100, 999_900, 1000, true);
            _stop(t, who[i]);
            vm.revertToState(state);
            skip(1);
            vm.expectEmit(address(escrow));
            emit IEscrow.Closed(id, Outcome.Exhausted, 10_000, 9_000_000, 1_000_000, 0, true);
            _stop(t, who[i]);
            vm.revertToState(state);
        }
    }

    /// @dev The last `holdback` seconds wait for the renter when somebody else stops, none when the renter does.
    function test_Stop_ByProvider_HoldsTheHoldback() public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        skip(2000);
        uint256 before = vm.snapshotState();
        _stop(t, renter);
        _assertBalances(1_800_000, 200_000, 2_000_000);
        _assertStatus(id, Status.None);
        vm.revertToState(before);
        vm.expectEmit(address(escrow));
        emit IEscrow.Contested(
            id,
            Outcome.StoppedByProvider,
            1400,
            600,
            600,
            T0 + 2000 + 24 hours,
            false,
            1_260_000,
            140_000,
            8_000_000,
            true
        );
        _stop(t, provider);
        _assertBalances(1_260_000, 140_000, 2_000_000);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Contested, DEPOSIT, 0, 1400, 600, 600, T0 + 2000 + 24 hours, false, false)),
            "stored"
        );
        assertEq(usdc.balanceOf(renter), 1e12 - 2_000_000, "what was never used is back at once");
    }

    /// @dev Held is at most what is unsettled, and never the first second.
    function test_Stop_ByProvider_HoldsNoSettledNorFirstSecond() public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        skip(300);
        uint256 before = vm.snapshotState();
        _stop(t, provider);
        assertEq(escrow.rental(id).settledSecs, 1, "the first second is settled");
        assertEq(escrow.rental(id).claimSecs, 299, "all others are held");
        _assertBalances(900, 100, 300_000);
        vm.revertToState(before);
        skip(700);
        escrow.release(t);
        skip(100);
        _stop(t, provider);
        assertEq(escrow.rental(id).settledSecs, 500, "holdback before the end");
        assertEq(escrow.rental(id).claimSecs, 600, "held");
    }

    /// @dev A rental of a single second has nothing to hold.
    function test_Stop_ByProvider_FirstSecond() public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        skip(1);
        uint256 before = vm.snapshotState();
        _stop(t, provider);
        _assertStatus(id, Status.Closed);
        vm.revertToState(before);
        skip(1);
        _stop(t, provider);
        _assertStatus(id, Status.Contested);
        assertEq(escrow.rental(id).claimSecs, 1, "held");
    }

    function test_Stop_Exhausted_BillsFundedSeconds() public {
        Terms memory t = _terms();
        // Half a second's price is over, and goes back.
        bytes32 id = _activate(t, DEPOSIT + 500);
        skip(30 days);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Exhausted, 10_000, 9_000_000, 1_000_000, 500, true);
        _stop(t, renter);
    }

    function test_Stop_MinimumOneSecond() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.StoppedByRenter, 1, 900, 100, DEPOSIT - 1000, true);
        _stop(t, renter);
    }

    function test_Stop_NotActive() public {
        Terms memory t = _terms();
        vm.startPrank(renter);
        vm.expectRevert(IEscrow.NotActive.selector);
        escrow.stop(t);
        escrow.lock(t, DEPOSIT);
        vm.expectRevert(IEscrow.NotActive.selector);
        escrow.stop(t);
        vm.stopPrank();
        _start(t, T0);
        _stop(t, renter);
        vm.prank(renter);
        vm.expectRevert(IEscrow.NotActive.selector);
        escrow.stop(t);
        _assertBalances(900, 100, 1000);
    }

    /// @dev Closing up to startBy leaves a tombstone, later it frees the slot.
    function test_Stop_Tombstone_PlusMinusOne() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        vm.warp(t.startBy);
        uint256 before = vm.snapshotState();
        _stop(t, renter);
        _assertStatus(id, Status.Closed);
        assertEq(escrow.rental(id).deposit, 0, "nothing left");
        vm.revertToState(before);
        vm.warp(t.startBy + 1);
        _stop(t, renter);
        _assertStatus(id, Status.None);
    }

    function test_Stop_Native() public {
        Terms memory t = _terms(NATIVE, "native");
        _activate(t, DEPOSIT);
        skip(2000);
        _stop(t, renter);
        assertEq(renter.balance, 1e24 - 2_000_000, "refund");
        assertEq(escrow.balanceOf(provider, NATIVE), 1_800_000, "provider");
        assertEq(escrow.balanceOf(treasury, NATIVE), 200_000, "treasury");
    }

    function test_OperatorVanishes_RenterExit() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        vm.warp(t.startBy + 10 minutes + 1);
        vm.prank(renter);
        escrow.reclaim(t);
        t = _terms(address(usdc), "second");
        _activate(t, DEPOSIT);
        skip(100);
        _stop(t, renter);
        assertEq(usdc.balanceOf(renter), 1e12 - 100 * PER_SEC, "the rest is back");
        // Also what the operator held before: nobody disputes, the time passes.
        t = _terms(address(usdc), "credited");
        _activate(t, DEPOSIT);
        skip(100);
        _close(t, _now(), 50);
        skip(24 hours + 1);
        vm.prank(renter);
        escrow.finalize(t);
        assertEq(usdc.balanceOf(renter), 1e12 - 150 * PER_SEC, "the credit is back");
    }

    function test_OperatorVanishes_ProviderExit() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        skip(100);
        vm.prank(provider);
        escrow.release(t);
        vm.startPrank(provider);
        escrow.withdraw(address(usdc), provider, 0);
        assertEq(usdc.balanceOf(provider), 90 * PER_SEC, "paid while it runs");
        skip(100);
        escrow.stop(t);
        escrow.withdraw(address(usdc), provider, 0);
        vm.stopPrank();
        assertEq(usdc.balanceOf(provider), 180 * PER_SEC, "paid at the end");
    }

    function test_AllKeysGone_AnyoneCloses() public {
        Terms memory waiting = _terms();
        bytes32 first = _lock(waiting, DEPOSIT);
        Terms memory running = _terms(address(usdc), "running");
        running.holdback = 1 hours;
        bytes32 second = _activate(running, DEPOSIT);
        Terms memory disputed = _terms(address(usdc), "disputed");
        disputed.holdback = 1 hours;
        bytes32 third = _activate(disputed, DEPOSIT);
        skip(5000);
        vm.prank(renter);
        escrow.contest(disputed, 1 hours);
        skip(1 days);
        vm.startPrank(stranger);
        escrow.reclaim(waiting);
        escrow.stop(running);
        skip(1 days + 1);
        escrow.finalize(running);
        skip(14 days);
        escrow.finalize(disputed);
        vm.stopPrank();
        _assertStatus(first, Status.None);
        _assertStatus(second, Status.None);
        _assertStatus(third, Status.None);
        assertEq(usdc.balanceOf(renter), 1e12 - DEPOSIT - 5_000_000, "the rest is back");
        _assertBalances(13_500_000, 1_500_000, DEPOSIT + 5_000_000);
    }
}
