// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, IEscrow, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {OddToken} from "./mocks/OddToken.sol";

/// @notice Power is given two days after it was announced, and taken at once.
contract TimelockTest is Fixture {
    uint40 private constant READY = T0 + 48 hours;

    address private _token = address(new OddToken());

    function test_EachChange_TakesTheDelay() public {
        Change[5] memory changes =
            [Change.ListToken, Change.AddOperator, Change.SetTreasury, Change.SetArbiter, Change.SetGuardian];
        for (uint256 i = 0; i < changes.length; ++i) {
            address subject = changes[i] == Change.ListToken ? _token : stranger;
            vm.warp(T0);
            assertFalse(_isMade(changes[i], subject), "not yet");
            vm.expectEmit(address(escrow));
            emit IEscrow.ChangeScheduled(changes[i], subject, READY);
            _schedule(changes[i], subject);
            assertEq(escrow.readyAt(changes[i], subject), READY, "to be seen");
            assertFalse(_isMade(changes[i], subject), "announced only");
            vm.warp(READY - 1);
            _refusedExecute(changes[i], subject, IEscrow.ChangeTooEarly.selector);
            vm.warp(READY);
            vm.expectEmit(address(escrow));
            if (changes[i] == Change.ListToken) emit IEscrow.TokenListed(subject);
            else if (changes[i] == Change.AddOperator) emit IEscrow.OperatorSet(subject, true);
            else if (changes[i] == Change.SetTreasury) emit IEscrow.TreasurySet(subject);
            else if (changes[i] == Change.SetArbiter) emit IEscrow.ArbiterSet(subject);
            else emit IEscrow.GuardianSet(subject);
            _execute(changes[i], subject);
            assertTrue(_isMade(changes[i], subject), "made");
            assertEq(escrow.readyAt(changes[i], subject), 0, "used up");
            _refusedExecute(changes[i], subject, IEscrow.ChangeNotScheduled.selector);
        }
    }

    function test_Execute_Grace_PlusMinusOne() public {
        _schedule(Change.SetTreasury, stranger);
        vm.warp(READY + 14 days + 1);
        _refusedExecute(Change.SetTreasury, stranger, IEscrow.ChangeTooLate.selector);
        vm.warp(READY + 14 days);
        _execute(Change.SetTreasury, stranger);
        assertEq(escrow.treasury(), stranger, "made");
    }

    /// @dev One that was let lapse can be scheduled anew, and takes its time again.
    function test_Schedule_Anew() public {
        _schedule(Change.SetTreasury, stranger);
        vm.warp(READY + 30 days);
        _schedule(Change.SetTreasury, stranger);
        _refusedExecute(Change.SetTreasury, stranger, IEscrow.ChangeTooEarly.selector);
        skip(48 hours);
        _execute(Change.SetTreasury, stranger);
    }

    function test_Cancel() public {
        _schedule(Change.AddOperator, stranger);
        vm.expectEmit(address(escrow));
        emit IEscrow.ChangeCancelled(Change.AddOperator, stranger);
        vm.prank(owner);
        escrow.cancelChange(Change.AddOperator, stranger);
        vm.warp(READY);
        _refusedExecute(Change.AddOperator, stranger, IEscrow.ChangeNotScheduled.selector);
        bytes memory input = abi.encodeCall(escrow.cancelChange, (Change.AddOperator, stranger));
        _refused(owner, input, IEscrow.ChangeNotScheduled.selector);
        assertFalse(escrow.isOperator(stranger), "never made");
    }

    /// @dev Announcing one change of one account says nothing of another.
    function test_Execute_AnotherChangeOrSubject() public {
        _schedule(Change.SetArbiter, stranger);
        vm.warp(READY);
        _refusedExecute(Change.SetArbiter, provider, IEscrow.ChangeNotScheduled.selector);
        _refusedExecute(Change.SetTreasury, stranger, IEscrow.ChangeNotScheduled.selector);
    }

    /// @dev An operator that is dropped does not come back without the whole delay, though it was announced before.
    function test_RemoveArbiter_CancelsItsReturn() public {
        _schedule(Change.SetArbiter, arbiter);
        vm.warp(READY);
        vm.expectEmit(address(escrow));
        emit IEscrow.ChangeCancelled(Change.SetArbiter, arbiter);
        vm.expectEmit(address(escrow));
        emit IEscrow.ArbiterSet(address(0));
        vm.prank(guardian);
        escrow.removeArbiter();
        assertEq(escrow.arbiter(), address(0), "nobody");
        _refusedExecute(Change.SetArbiter, arbiter, IEscrow.ChangeNotScheduled.selector);
    }

    function test_RemoveOperator_CancelsItsReturn() public {
        _schedule(Change.AddOperator, operator);
        vm.warp(READY);
        vm.expectEmit(address(escrow));
        emit IEscrow.OperatorSet(operator, false);
        vm.expectEmit(address(escrow));
        emit IEscrow.ChangeCancelled(Change.AddOperator, operator);
        vm.prank(guardian);
        escrow.removeOperator(operator);
        _refusedExecute(Change.AddOperator, operator, IEscrow.ChangeNotScheduled.selector);
        _schedule(Change.AddOperator, operator);
        _refusedExecute(Change.AddOperator, operator, IEscrow.ChangeTooEarly.selector);
        skip(48 hours);
        _execute(Change.AddOperator, operator);
        assertTrue(escrow.isOperator(operator), "back");
    }

    function test_Schedule_Refusals() public {
        _refusedSchedule(Change.ListToken, stranger, IEscrow.NotAContract.selector);
        _refusedSchedule(Change.AddOperator, address(0), IEscrow.ZeroAddress.selector);
        _refusedSchedule(Change.SetTreasury, address(0), IEscrow.ZeroAddress.selector);
        _refusedSchedule(Change.SetTreasury, address(escrow), IEscrow.PayeeIsEscrow.selector);
        // Nobody may be arbiter or guardian.
        _enact(Change.SetArbiter, address(0));
        _enact(Change.SetGuardian, address(0));
        assertEq(escrow.arbiter(), address(0));
        assertEq(escrow.guardian(), address(0));
    }

    /// @dev A token whose code is gone in the meantime is not listed.
    function test_Execute_ChecksAgain() public {
        _schedule(Change.ListToken, _token);
        vm.warp(READY);
        vm.etch(_token, "");
        _refusedExecute(Change.ListToken, _token, IEscrow.NotAContract.selector);
    }

    function test_ListToken_OpensLock() public {
        OddToken(_token).mint(renter, DEPOSIT);
        vm.prank(renter);
        OddToken(_token).approve(address(escrow), DEPOSIT);
        _refused(renter, abi.encodeCall(escrow.lock, (_terms(_token, "odd"), DEPOSIT)), IEscrow.TokenNotListed.selector);
        _list(_token);
        _assertStatus(_lock(_terms(_token, "odd"), DEPOSIT), Status.Locked);
    }

    /// @dev Listing anew does not end a pause; and a token paused before it is listed stays so.
    function test_ListToken_KeepsThePause() public {
        vm.prank(guardian);
        escrow.pauseToken(_token);
        _list(_token);
        (bool listed, bool paused) = escrow.tokenState(_token);
        assertTrue(listed && paused, "paused");
        Terms memory t = _terms(_token, "odd");
        _refused(renter, abi.encodeCall(escrow.lock, (t, DEPOSIT)), IEscrow.TokenIsPaused.selector);
    }

    function _isMade(Change change, address subject) private view returns (bool made) {
        if (change == Change.ListToken) (made,) = escrow.tokenState(subject);
        else if (change == Change.AddOperator) made = escrow.isOperator(subject);
        else if (change == Change.SetTreasury) made = escrow.treasury() == subject;
        else if (change == Change.SetArbiter) made = escrow.arbiter() == subject;
        else made = escrow.guardian() == subject;
    }

    function _schedule(Change change, address subject) private {
        vm.prank(owner);
        escrow.scheduleChange(change, subject);
    }

    function _execute(Change change, address subject) private {
        vm.prank(owner);
        escrow.executeChange(change, subject);
    }

    function _refusedSchedule(Change change, address subject, bytes4 error_) private {
        _refused(owner, abi.encodeCall(escrow.scheduleChange, (change, subject)), error_);
    }

    function _refusedExecute(Change change, address subject, bytes4 error_) private {
        _refused(owner, abi.encodeCall(escrow.executeChange, (change, subject)), error_);
    }
}
