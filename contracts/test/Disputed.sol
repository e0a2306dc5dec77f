// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IEscrow, Outcome, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";

/// @notice A rental that has ended and of which something is held: 2,000 seconds by the clock, 100 of them credited, the
/// 600 before those the holdback. 1,300 seconds are settled. At 1,000 units a second and a fee of 10 %.
abstract contract Disputed is Signing {
    uint40 internal constant WINDOW_END = T0 + 2000 + 24 hours;
    uint40 internal constant DECIDED_BY = WINDOW_END + 14 days;

    Terms internal terms;
    bytes32 internal id;

    function setUp() public virtual override {
        super.setUp();
        _hold(600, 100);
    }

    /// @dev The held rental of a holdback and a credit.
    function _hold(uint32 holdback, uint32 credit) internal {
        vm.warp(T0);
        terms = _terms(address(usdc), keccak256(abi.encode(holdback, credit)));
        terms.holdback = holdback;
        id = _activate(terms, DEPOSIT);
        vm.warp(T0 + 2000);
        _close(terms, T0 + 2000, credit);
    }

    function _dispute(address by) internal {
        vm.prank(by);
        escrow.dispute(terms);
    }

    function _resolve(uint32 toRenter) internal {
        vm.prank(arbiter);
        escrow.resolve(terms, toRenter);
    }

    function _refusedResolve(uint32 toRenter, bytes4 error_) internal {
        _refused(arbiter, abi.encodeCall(escrow.resolve, (terms, toRenter)), error_);
    }

    /// @dev Of the 700 seconds held, `toRenter` in this call; the money of all of the rental, to the unit.
    function _expectEnd(Outcome outcome, uint32 toRenter) internal {
        uint96 toProvider = 700 - toRenter;
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(
            id, outcome, 2000 - toRenter, toProvider * 900, toProvider * 100, uint96(toRenter) * 1000, true
        );
    }

    /// @dev Provider, treasury and renter have what so many billed seconds come to, and the escrow the first two's.
    function _assertBilled(uint256 secs) internal view {
        _assertBalances(secs * 900, secs * 100, secs * 1000);
        assertEq(usdc.balanceOf(renter), 1e12 - secs * 1000, "renter");
        _assertEnded(id);
    }
}
