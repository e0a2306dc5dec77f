// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, EndSignatures, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";

/// @notice Each limit in time, from the escrow's constants: the second before it, its own, and the second after.
contract TimestampTest is Signing {
    /// @dev What a call does in the three seconds: is done, or is refused.
    enum Around {
        DoneUpTo,
        DoneFrom,
        DoneAfter
    }

    Terms private _t;
    EndSignatures private _none;

    function setUp() public override {
        super.setUp();
        _t = _terms();
        _t.holdback = 600;
    }

    function test_Timestamp_PlusMinusOne() public {
        uint256 empty = vm.snapshotState();
        _prepay(renter, address(usdc), DEPOSIT);
        _at(_t.startBy, renter, abi.encodeCall(escrow.lock, (_t, DEPOSIT)), Around.DoneUpTo);
        _at(_t.startBy, renter, abi.encodeCall(escrow.lockPrepaid, (_t, DEPOSIT, "")), Around.DoneUpTo);
        uint40 opens = _t.startBy - escrow.MAX_START_BY();
        _at(opens, renter, abi.encodeCall(escrow.lock, (_t, DEPOSIT)), Around.DoneFrom);
        vm.revertToState(empty);
        _locked();
        vm.revertToState(empty);
        _running();
        vm.revertToState(empty);
        _held();
        vm.revertToState(empty);
        _governed();
    }

    function _locked() private {
        _lock(_t, DEPOSIT);
        uint40 windowEnd = _t.startBy + escrow.START_WINDOW();
        _at(windowEnd, operator, abi.encodeCall(escrow.start, (_t, _t.startBy)), Around.DoneUpTo);
        _at(windowEnd, renter, abi.encodeCall(escrow.topUp, (_t, 1)), Around.DoneUpTo);
        _at(windowEnd, stranger, abi.encodeCall(escrow.reclaim, (_t)), Around.DoneAfter);
        // Dated at the second of the lock, and before it: as soon as it is there, and never.
        _at(T0 + escrow.START_WINDOW(), operator, abi.encodeCall(escrow.start, (_t, T0)), Around.DoneUpTo);
        _at(T0 + 60, operator, abi.encodeCall(escrow.start, (_t, T0 + 60)), Around.DoneFrom);
    }

    function _running() private {
        _activate(_t, DEPOSIT);
        uint40 funded = T0 + 10_000;
        uint40 closeWindow = escrow.CLOSE_WINDOW();
        _at(T0 + 60, operator, abi.encodeCall(escrow.close, (_t, T0 + 60, 0, _none)), Around.DoneFrom);
        _at(T0 + 60 + closeWindow, operator, abi.encodeCall(escrow.close, (_t, T0 + 60, 0, _none)), Around.DoneUpTo);
        _at(T0 + 600, stranger, abi.encodeCall(escrow.release, (_t)), Around.DoneAfter);
        _at(funded - 1, renter, abi.encodeCall(escrow.topUp, (_t, 1)), Around.DoneUpTo);
        _at(funded + closeWindow, stranger, abi.encodeCall(escrow.stop, (_t)), Around.DoneAfter);
        vm.prank(provider);
        escrow.setAgent(stranger, T0 + 50);
        _at(T0 + 50, stranger, abi.encodeCall(escrow.stop, (_t)), Around.DoneUpTo);
        bytes32 digest = _agreedDigest(_t, 1, T0 + 70);
        EndSignatures memory both =
            EndSignatures(_signature(_key("renter"), digest), _signature(_key("provider"), digest));
        _at(T0 + 70, stranger, abi.encodeCall(escrow.closeAgreed, (_t, 1, T0 + 70, both)), Around.DoneUpTo);
        _at(T0 + 70, renter, abi.encodeCall(escrow.setAgent, (stranger, T0 + 70)), Around.DoneUpTo);
    }

    function _held() private {
        _activate(_t, DEPOSIT);
        skip(1000);
        _close(_t, _now(), 0);
        uint40 windowEnd = _now() + escrow.DISPUTE_WINDOW();
        _at(windowEnd, stranger, abi.encodeCall(escrow.finalize, (_t)), Around.DoneAfter);
        _at(windowEnd, renter, abi.encodeCall(escrow.dispute, (_t)), Around.DoneUpTo);
        vm.prank(renter);
        escrow.dispute(_t);
        uint40 decidedBy = windowEnd + escrow.ARBITRATION();
        _at(decidedBy, arbiter, abi.encodeCall(escrow.resolve, (_t, 1)), Around.DoneUpTo);
        _at(decidedBy, stranger, abi.encodeCall(escrow.finalize, (_t)), Around.DoneAfter);
    }

    function _governed() private {
        vm.prank(owner);
        escrow.scheduleChange(Change.SetArbiter, stranger);
        uint40 ready = T0 + escrow.CHANGE_DELAY();
        bytes memory execute = abi.encodeCall(escrow.executeChange, (Change.SetArbiter, stranger));
        _at(ready, owner, execute, Around.DoneFrom);
        _at(ready + escrow.CHANGE_GRACE(), owner, execute, Around.DoneUpTo);
    }

    function _at(uint40 moment, address from, bytes memory input, Around around) private {
        uint40 before = _now();
        for (uint40 i = 0; i < 3; ++i) {
            uint256 state = vm.snapshotState();
            vm.warp(moment + i - 1);
            vm.prank(from);
            (bool success, bytes memory reason) = address(escrow).call(input);
            bool expected = around == Around.DoneUpTo ? i < 2 : around == Around.DoneFrom ? i > 0 : i == 2;
            // forge-lint: disable-next-line(unsafe-typecast) -- a selector, if anything
            string memory call = vm.toString(abi.encodePacked(bytes4(input), bytes4(reason)));
            assertEq(success, expected, string.concat(call, " in second ", vm.toString(i)));
            vm.revertToStateAndDelete(state);
        }
        vm.warp(before);
    }
}
