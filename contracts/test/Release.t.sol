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

    function test_Release_Holdback() public {
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

    /// @dev However long ago the funded time was over, its last seconds wait for the renter to dispute them.
    function test_Release_UpToTheHoldback() public {
        Terms memory t = _terms();
        t.holdback = 600;
        bytes32 id = _activate(t, DEPOSIT);
        skip(9999);
        escrow.release(t);
        assertEq(escrow.rental(id).settledSecs, 9399, "all but the holdback");
        skip(1);
        escrow.release(t);
        assertEq(escrow.rental(id).settledSecs, 9400, "the last that is funded");
        skip(30 days);
        _expectRevert(t, IEscrow.NothingToRelease.selector);
        _stop(t, stranger);
        assertEq(escrow.rental(id).claimSecs, 600, "held");
        _assertBalances(8_460_000, 940_000, DEPOSIT);
        skip(24 hours + 1);
        escrow.finalize(t);
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
        // All but the first second is held for the renter to dispute.
        _assertBalances(900, 100, DEPOSIT);
        skip(24 hours + 1);
        escrow.finalize(t);
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

    function _expectRevert(Terms memory t, bytes4 error_) private {
        vm.expectRevert(error_);
        escrow.release(t);
    }
}
