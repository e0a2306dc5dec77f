// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Rental, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract TopUpTest is Fixture {
    function test_TopUp_Locked_FromAnyone() public {
        Terms memory t = _terms();
        bytes32 id = _lock(t, DEPOSIT);
        _fund(stranger, usdc, 500);
        vm.expectEmit(address(escrow));
        emit IEscrow.ToppedUp(id, stranger, 500, DEPOSIT + 500);
        vm.prank(stranger);
        escrow.topUp(t, 500);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Locked, DEPOSIT + 500, T0, 0, 0, 0, 0, false, false))
        );
        assertEq(usdc.balanceOf(stranger), 0, "pulled from the caller");
        // The refund is the renter's.
        vm.prank(provider);
        escrow.cancel(t);
        assertEq(usdc.balanceOf(renter), 1e12 + 500, "refund");
    }

    function test_TopUp_Active_Extends() public {
        Terms memory t = _terms();
        t.holdback = 100;
        bytes32 id = _activate(t, DEPOSIT);
        skip(5000);
        escrow.release(t);
        _topUp(t, DEPOSIT);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Active, 2 * DEPOSIT, T0, 4900, 0, 0, 0, false, false)),
            "stored"
        );
        assertEq(lens.preview(t).fundedUntil, T0 + 20_000, "funded until");
    }

    function test_TopUp_Native() public {
        Terms memory t = _terms(NATIVE, "native");
        bytes32 id = _lock(t, DEPOSIT);
        vm.startPrank(renter);
        vm.expectRevert(IEscrow.WrongValue.selector);
        escrow.topUp{value: 4}(t, 5);
        escrow.topUp{value: 5}(t, 5);
        vm.stopPrank();
        assertEq(escrow.rental(id).deposit, DEPOSIT + 5, "deposit");
    }

    function test_TopUpAfterExhaustion() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        skip(9999);
        uint256 before = vm.snapshotState();
        _topUp(t, 1);
        vm.revertToState(before);
        skip(1);
        _expectRevert(t, 1, IEscrow.FundedTimeOver.selector);
    }

    function test_TopUp_Locked_WhileStartable_PlusMinusOne() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        vm.warp(t.startBy + 10 minutes);
        _topUp(t, 1);
        skip(1);
        _expectRevert(t, 1, IEscrow.StartWindowOver.selector);
    }

    function test_TopUp_Refusals() public {
        Terms memory t = _terms();
        _expectRevert(t, 1, IEscrow.NotActive.selector);
        _activate(t, DEPOSIT);
        _expectRevert(t, 0, IEscrow.ZeroAmount.selector);
        usdc.mint(renter, type(uint96).max);
        _expectRevert(t, type(uint96).max - DEPOSIT + 1, IEscrow.DepositOverflow.selector);
        _topUp(t, type(uint96).max - DEPOSIT);
        _stop(t, renter);
        _expectRevert(t, 1, IEscrow.NotActive.selector);
    }

    function test_TopUp_Paused() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        vm.prank(guardian);
        escrow.pauseToken(address(usdc));
        _expectRevert(t, 1, IEscrow.TokenIsPaused.selector);
        vm.prank(owner);
        escrow.unpauseToken(address(usdc));
        _topUp(t, 1);
    }

    function _topUp(Terms memory t, uint96 amount) private {
        vm.prank(renter);
        escrow.topUp(t, amount);
    }

    function _expectRevert(Terms memory t, uint96 amount, bytes4 error_) private {
        vm.prank(renter);
        vm.expectRevert(error_);
        escrow.topUp(t, amount);
    }
}
