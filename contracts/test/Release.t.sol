// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract ReleaseTest is Fixture {
    function test_Release() public {
        Terms memory t = _terms();
        bytes32 id = _activate(t, DEPOSIT);
        skip(1000);
        vm.expectEmit(address(escrow));
        emit IEscrow.Released(id, 1000, 900_000, 100_000);
        vm.prank(stranger);
        escrow.release(t);
        _assertBalances(900_000, 100_000, DEPOSIT);
        assertEq(escrow.rental(id).settledSecs, 1000, "settled");
        skip(500);
        vm.expectEmit(address(escrow));
        emit IEscrow.Released(id, 1500, 450_000, 50_000);
        escrow.release(t);
    }

    function test_Release_Holdback_PlusMinusOne() public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        skip(600);
        _expectRevert(t, IEscrow.NothingToRelease.selector);
        skip(1);
        escrow.release(t);
        assertEq(escrow.rental(id).settledSecs, 1, "one second is older than the holdback");
        _expectRevert(t, IEscrow.NothingToRelease.selector);
        skip(1);
        escrow.release(t);
        _assertBalances(1800, 200, DEPOSIT);
    }

    /// @dev When the funded time is over the last seconds wait no longer than the holdback.
    function test_Release_UpToTheDeposit() public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        skip(10_599);
        escrow.release(t);
        assertEq(escrow.rental(id).settledSecs, 9999, "almost all");
        skip(1000);
        escrow.release(t);
        assertEq(escrow.rental(id).settledSecs, 10_000, "all");
        skip(1000);
        _expectRevert(t, IEscrow.NothingToRelease.selector);
        _stop(t, stranger);
        _assertBalances(9_000_000, 1_000_000, DEPOSIT);
    }

    function test_Release_NotActive() public {
        Terms memory t = _terms();
        _expectRevert(t, IEscrow.NotActive.selector);
        _lock(t, DEPOSIT);
        skip(100);
        _expectRevert(t, IEscrow.NotActive.selector);
        _start(t, T0);
        _stop(t, renter);
        _expectRevert(t, IEscrow.NotActive.selector);
    }

    function test_Release_LargestHoldback() public {
        Terms memory t = _terms();
        t.holdback = type(uint32).max;
        _activate(t, DEPOSIT);
        skip(30 days);
        _expectRevert(t, IEscrow.NothingToRelease.selector);
        _stop(t, stranger);
        _assertBalances(9_000_000, 1_000_000, DEPOSIT);
    }

    /// @dev A price at which every single second's fee rounds to 0: the sum over the rental does not.
    function test_Release_TinyCaptures_DoNotLoseTheFee() public {
        Terms memory t = _terms();
        t.pricePerHour = 3600;
        bytes32 id = _activate(t, 1000);
        for (uint256 i = 0; i < 100; ++i) {
            skip(1);
            escrow.release(t);
        }
        _stop(t, renter);
        _assertStatus(id, Status.Closed);
        _assertBalances(90, 10, 100);
    }

    function test_Preview_IsWhatStopPays() public {
        Terms memory t = _terms();
        assertEq(escrow.preview(t).refund, 0, "not locked");
        _lock(t, DEPOSIT);
        assertEq(escrow.preview(t).refund, DEPOSIT, "locked");
        assertEq(escrow.preview(t).fundedUntil, 0, "no clock yet");
        _start(t, T0);
        assertEq(escrow.preview(t).elapsedSecs, 1, "at least a second");
        skip(1000);
        escrow.release(t);
        skip(1000);
        _assertPreview(t, 2000, 1_800_000, 200_000, 8_000_000);
        skip(20_000);
        _assertPreview(t, 10_000, 9_000_000, 1_000_000, 0);
        _stop(t, stranger);
        _assertPreview(t, 0, 0, 0, 0);
        _assertBalances(9_000_000, 1_000_000, DEPOSIT);
    }

    function _assertPreview(Terms memory t, uint32 secs, uint96 net, uint96 fee, uint96 refund) private view {
        uint40 fundedUntil = secs == 0 ? 0 : T0 + 10_000;
        assertEq(abi.encode(escrow.preview(t)), abi.encode(secs, net + fee, net, fee, refund, fundedUntil), "preview");
    }

    function _expectRevert(Terms memory t, bytes4 error_) private {
        vm.expectRevert(error_);
        escrow.release(t);
    }
}
