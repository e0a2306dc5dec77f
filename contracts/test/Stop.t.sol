// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Outcome, Status, Terms} from "../src/IEscrow.sol";
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

    function test_Stop_ByAnyone_OnceUsedUp_PlusMinusOne() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(9999);
        vm.prank(stranger);
        vm.expectRevert(IEscrow.NotRenterOrProvider.selector);
        escrow.stop(t);
        skip(1);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Exhausted, 10_000, 9_000_000, 1_000_000, 0, true);
        _stop(t, stranger);
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
        bytes32 second = _activate(running, DEPOSIT);
        skip(1 days);
        vm.startPrank(stranger);
        escrow.reclaim(waiting);
        escrow.stop(running);
        vm.stopPrank();
        _assertStatus(first, Status.None);
        _assertStatus(second, Status.None);
        assertEq(usdc.balanceOf(renter), 1e12 - DEPOSIT, "the unstarted deposit is back");
        _assertBalances(9_000_000, 1_000_000, DEPOSIT);
    }
}
