// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Outcome, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Wallet} from "./mocks/Receivers.sol";

contract GiveBackTest is Fixture {
    function test_Cancel_ByOperatorAndByProvider() public {
        address[2] memory who = [operator, provider];
        for (uint256 i = 0; i < who.length; ++i) {
            Terms memory t = _terms(address(usdc), bytes32(i));
            bytes32 id = _lock(t, DEPOSIT);
            vm.expectEmit(address(escrow));
            emit IEscrow.Closed(id, Outcome.Cancelled, 0, 0, 0, DEPOSIT, true);
            vm.prank(who[i]);
            escrow.cancel(t);
            _assertStatus(id, Status.Closed);
            assertEq(usdc.balanceOf(renter), 1e12, "refund");
        }
    }

    function test_Cancel_NotOperatorOrProvider() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        address[4] memory others = [owner, guardian, renter, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.prank(others[i]);
            vm.expectRevert(IEscrow.NotOperatorOrProvider.selector);
            escrow.cancel(t);
        }
    }

    function test_Cancel_NotLocked() public {
        Terms memory t = _terms();
        vm.startPrank(operator);
        vm.expectRevert(IEscrow.NotLocked.selector);
        escrow.cancel(t);
        vm.stopPrank();
        _activate(t, DEPOSIT);
        vm.prank(provider);
        vm.expectRevert(IEscrow.NotLocked.selector);
        escrow.cancel(t);
        _stop(t, renter);
        vm.prank(operator);
        vm.expectRevert(IEscrow.NotLocked.selector);
        escrow.cancel(t);
    }

    function test_Reclaim_PlusMinusOne() public {
        Terms memory t = _terms();
        bytes32 id = _lock(t, DEPOSIT);
        vm.warp(t.startBy + 10 minutes);
        vm.expectRevert(IEscrow.ReclaimTooEarly.selector);
        escrow.reclaim(t);
        skip(1);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Reclaimed, 0, 0, 0, DEPOSIT, true);
        vm.prank(stranger);
        escrow.reclaim(t);
        _assertStatus(id, Status.None);
        assertEq(usdc.balanceOf(renter), 1e12, "refund");
    }

    function test_Reclaim_NotLocked() public {
        Terms memory t = _terms();
        vm.warp(t.startBy + 1 days);
        vm.expectRevert(IEscrow.NotLocked.selector);
        escrow.reclaim(t);
        t = _terms();
        _activate(t, DEPOSIT);
        vm.warp(t.startBy + 1 days);
        vm.expectRevert(IEscrow.NotLocked.selector);
        escrow.reclaim(t);
    }

    /// @dev `refundPushed` tells a refund that the renter took from one that waits for it.
    function test_GiveBack_RefusedRefund_IsCredited() public {
        Wallet wallet = new Wallet();
        vm.deal(address(wallet), 2 * DEPOSIT);
        Terms memory t = _terms(NATIVE, "cancelled");
        t.renter = address(wallet);
        wallet.lock(escrow, t, DEPOSIT);
        bytes32 id = escrow.hashTerms(t);
        wallet.setManner(Wallet.Manner.Refuses);
        vm.expectEmit(address(escrow));
        emit IEscrow.Credited(address(wallet), NATIVE, DEPOSIT);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Cancelled, 0, 0, 0, DEPOSIT, false);
        vm.prank(provider);
        escrow.cancel(t);
        t.orderHash = "reclaimed";
        wallet.lock(escrow, t, DEPOSIT);
        id = escrow.hashTerms(t);
        skip(1 days);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Reclaimed, 0, 0, 0, DEPOSIT, false);
        escrow.reclaim(t);
        assertEq(escrow.balanceOf(address(wallet), NATIVE), 2 * DEPOSIT, "credited");
        assertEq(address(escrow).balance, 2 * DEPOSIT, "held");
    }

    function test_GiveBack_Native() public {
        Terms memory t = _terms(NATIVE, "native");
        _lock(t, DEPOSIT);
        vm.prank(provider);
        escrow.cancel(t);
        assertEq(renter.balance, 1e24, "refund");
    }
}
