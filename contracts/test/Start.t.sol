// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Rental, StartItem, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract StartTest is Fixture {
    function test_Start() public {
        Terms memory t = _terms();
        bytes32 id = _lock(t, DEPOSIT);
        skip(100);
        vm.expectEmit(address(escrow));
        emit IEscrow.Started(id, T0 + 60);
        _start(t, T0 + 60);
        assertEq(
            abi.encode(escrow.rental(id)),
            abi.encode(Rental(Status.Active, DEPOSIT, T0 + 60, 0, 0, 0, 0, false, false)),
            "stored"
        );
    }

    function test_Start_NotOperator() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        address[5] memory others = [owner, guardian, renter, provider, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.startPrank(others[i]);
            vm.expectRevert(IEscrow.NotOperator.selector);
            escrow.start(t, T0);
            vm.expectRevert(IEscrow.NotOperator.selector);
            escrow.startBatch(new StartItem[](0));
            vm.stopPrank();
        }
    }

    function test_Start_BeforeLock_PlusMinusOne() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        skip(60);
        _expectRevert(t, T0 - 1, IEscrow.StartOutOfWindow.selector);
        _start(t, T0);
    }

    function test_Start_Future_PlusMinusOne() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        skip(60);
        _expectRevert(t, T0 + 61, IEscrow.StartOutOfWindow.selector);
        _start(t, T0 + 60);
    }

    function test_StartBackdate() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        vm.warp(T0 + 11 minutes);
        _expectRevert(t, T0 + 1 minutes - 1, IEscrow.StartOutOfWindow.selector);
        _start(t, T0 + 1 minutes);
    }

    function test_Start_StartBy_PlusMinusOne() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        vm.warp(t.startBy + 1);
        _expectRevert(t, t.startBy + 1, IEscrow.StartOutOfWindow.selector);
        _start(t, t.startBy);
    }

    /// @dev At each second at most one of the two succeeds, and from lock on there is none in which neither will.
    function test_StartVsReclaim() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        uint40 last = t.startBy + 10 minutes;
        vm.warp(last);
        vm.expectRevert(IEscrow.ReclaimTooEarly.selector);
        escrow.reclaim(t);
        uint256 before = vm.snapshotState();
        _start(t, t.startBy);
        vm.revertToState(before);
        vm.warp(last + 1);
        _expectRevert(t, t.startBy, IEscrow.StartOutOfWindow.selector);
        escrow.reclaim(t);
    }

    function testFuzz_StartVsReclaim_Disjoint(uint40 startedAt, uint256 moment) public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        vm.warp(bound(moment, T0, T0 + 1 hours));
        startedAt = uint40(bound(startedAt, T0 - 10, _now() + 10));
        uint256 before = vm.snapshotState();
        vm.prank(operator);
        (bool started,) = address(escrow).call(abi.encodeCall(escrow.start, (t, startedAt)));
        vm.revertToState(before);
        (bool reclaimed,) = address(escrow).call(abi.encodeCall(escrow.reclaim, (t)));
        assertFalse(started && reclaimed, "both");
    }

    function test_Start_NotLocked() public {
        Terms memory t = _terms();
        _expectRevert(t, T0, IEscrow.NotLocked.selector);
        _activate(t, DEPOSIT);
        _expectRevert(t, T0, IEscrow.NotLocked.selector);
        _stop(t, renter);
        _expectRevert(t, T0, IEscrow.NotLocked.selector);
    }

    function _expectRevert(Terms memory t, uint40 startedAt, bytes4 error_) private {
        vm.prank(operator);
        vm.expectRevert(error_);
        escrow.start(t, startedAt);
    }
}
