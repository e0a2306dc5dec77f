// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

/// @notice The worked example of docs/ESCROW.md, to the unit.
contract ExampleTest is Fixture {
    function test_WorkedExample() public {
        Terms memory t = _terms();
        t.pricePerHour = 650_000;
        t.feeBps = 1200;
        t.holdback = 600;
        uint256 before = usdc.balanceOf(renter);
        bytes32 id = _activate(t, 1_300_000);

        skip(3600);
        escrow.release(t);
        _assertBalances(476_667, 64_999, 1_300_000);
        assertEq(escrow.rental(id).settledSecs, 3000, "released");

        skip(1400);
        vm.prank(renter);
        escrow.contest(t, 300);
        _assertBalances(476_667 + 270_111, 64_999 + 36_834, 1_300_000 - 397_223);
        assertEq(usdc.balanceOf(renter), before - 1_300_000 + 397_223, "pushed back");
        assertEq(escrow.rental(id).contestedSecs, 300, "held");

        vm.prank(arbiter);
        escrow.resolve(t, 200);
        _assertBalances(762_667, 103_999, 762_667 + 103_999);
        assertEq(usdc.balanceOf(renter), before - 1_300_000 + 433_334, "all told");
        uint256 refund = usdc.balanceOf(renter) + 1_300_000 - before;
        uint256 earned = escrow.balanceOf(provider, address(usdc)) + escrow.balanceOf(treasury, address(usdc));
        assertEq(earned + refund, 1_300_000, "the deposit");
    }
}
